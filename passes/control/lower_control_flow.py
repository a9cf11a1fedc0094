"""lower-control-flow: functional conditionals and loops in the form of v1 graphs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold
from graphopt.ir.model import Function, Model
from graphopt.ir.operator_rules import agree
from graphopt.ir.types import BOOL, INT32, SCALAR, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.take_constant_branches import pass_inputs_on
from graphopt.passes.functions.call_graph import callees_first
from graphopt.passes.functions.inline_functions import GROWTH_FACTOR, GROWTH_NODES, inline_call
from graphopt.passes.removal import is_removable

BRANCHING = {
    "tf.If": ("then_branch", "else_branch"),
    "tf.StatelessIf": ("then_branch", "else_branch"),
    "tf.Case": ("branches",),
    "tf.StatelessCase": ("branches",),
}
LOOPS = frozenset({"tf.While", "tf.StatelessWhile"})
_PREDICATE = TensorType(BOOL, SCALAR)
_INDEX = TensorType(INT32, SCALAR)


class Branch(NamedTuple):
    """One branch: what it runs, and the predicate and side of the `Switch` that lead there."""

    function: Function
    reference: FunctionRef
    predicate: Value
    side: int
    label: str


@dataclass(frozen=True)
class LowerControlFlow(Pass):
    """Replace `If`, `Case` and `While` by `Switch` and `Merge`, and in loops `Enter`, `Exit` and `NextIteration`.

    *Given*

        function @f(%a: float32) -> (%b) { %b = tf.Neg(%a) }
        function @g(%a: float32) -> (%b) { %b = tf.Abs(%a) }
        %y = tf.StatelessIf(%c, %x) {then_branch = @f, else_branch = @g}

    *Result*

        %data = tf.Switch(%x, %c)
        %on = tf.Identity(%data:1)
        %off = tf.Identity(%data)
        %then = tf.Neg(%on)
        %else = tf.Abs(%off)
        %merge = tf.Merge(%then, %else)
        %y = tf.Identity(%merge)

    Bodies take the place of the calls, those within bodies too, and nodes are named after the call and their own
    name. That is done in the main graph and in every function it still calls afterwards. Effects of a branch or an
    iteration come before whatever depends on it.

    Refuses conditions that are not known to be scalars of type bool, calls that do not fit their functions, a loop
    without variables, and growth beyond four times the model and 16384 nodes. `assume_scalars` takes a condition of
    unknown shape for a scalar; `infer-shapes` often finds out. `raise-control-flow` is the way back.
    """

    assume_scalars: bool = False

    def run(self, model: Model, context: PassContext) -> None:
        """Lower in the main graph, then in the functions that it still calls."""
        budget = GROWTH_FACTOR * model.node_count + GROWTH_NODES
        budget = self._lower(model, model.graph, context, budget)
        for function in reversed(callees_first(model)):
            budget = self._lower(model, function, context, budget)

    def _lower(self, model: Model, graph: Graph, context: PassContext, budget: int) -> int:
        queue = deque(node for node in graph if node.op in BRANCHING or node.op in LOOPS)
        while queue:
            node = queue.popleft()
            functions = called(node, model)
            reason = refusal(node, functions, budget, self.assume_scalars)
            if reason is not None:
                context.refused(self.name, node, reason)
                continue
            if not context.allows(self.name):
                break
            bodies = [function for function, _ in functions or ()]
            budget -= sum(map(len, bodies))
            made = (_lower_loop if node.op in LOOPS else _lower_branches)(graph, node, functions or [])
            context.rewrote(self.name, removed=(node,), added=tuple(made))
            queue.extend(inner for inner in made if inner.op in BRANCHING or inner.op in LOOPS)
        return budget


Called = list[tuple[Function, FunctionRef]]


def called(node: Node, model: Model) -> Called | None:
    """The bodies that `node` runs, in the order of its attributes; None where one is not in the library."""
    found: list[Any] = []
    for name in BRANCHING.get(node.op, ("cond", "body")):
        held = node.attrs.get(name)
        found += [held] if isinstance(held, FunctionRef) or not isinstance(held, tuple) else held
    references = [item for item in found if isinstance(item, FunctionRef) and item.name in model.functions]
    if len(references) != len(found) or not found:
        return None
    return [(model.functions[reference.name], reference) for reference in references]


def refusal(node: Node, functions: Called | None, budget: int, assume_scalars: bool) -> str | None:
    """Why `node` cannot be lowered, or None."""
    if functions is None:
        return "the library does not have its functions"
    if any(value.is_input for value in node.outputs) or any(value is None for value in node.inputs):
        return "it is an input of the graph, or has one left out"
    is_loop = node.op in LOOPS
    passed, expected = node.inputs[0 if is_loop else 1 :], len(node.outputs)
    if is_loop and (not passed or len(passed) != expected):
        return "it has no variables, or other results than variables"
    for place, (function, _) in enumerate(functions):
        results = 1 if is_loop and place == 0 else expected
        if len(function.inputs) != len(passed) or len(function.outputs) != results:
            return f"function '{printable(function.name)}' takes or yields another number of values"
        given = [value.dtype for value in (*passed, *node.outputs[: len(function.outputs)]) if value is not None]
        declared = [value.dtype for value in (*function.inputs, *function.outputs)]
        if is_loop and place == 0:
            given[len(passed) :] = [BOOL]
        if not all(agree(a, b) for a, b in zip(given, declared, strict=True)):
            return f"function '{printable(function.name)}' takes or yields other element types"
    condition = functions[0][0].outputs[0] if is_loop else node.input(0)
    wanted = INT32 if "Case" in node.op else BOOL
    if condition.dtype is not wanted or condition.shape.rank not in ((0, None) if assume_scalars else (0,)):
        return f"its condition is {condition.type}, not a scalar of type {wanted.name}"
    if sum(len(function) for function, _ in functions) > budget:
        return "its bodies would let the model grow too much"
    return None


class _Maker:
    """Makes nodes before one node, with its device and origins."""

    def __init__(self, graph: Graph, node: Node):
        self.graph, self.before, self.scope = graph, node, node.name
        self.made: list[Node] = []

    def node(
        self, op: str, inputs: Sequence[Value], attrs: dict[str, Any], types: Sequence[TensorType], name: str
    ) -> Node:
        node = self.graph.create_node(
            f"tf.{op}", inputs, attrs, name=f"{self.scope}/{name}", types=types, before=self.before,
            device=self.before.device, origins=self.before.source_names,
        )  # fmt: skip
        self.made.append(node)
        return node

    def switch(self, data: Value, predicate: Value, name: str) -> Node:
        return self.node("Switch", [data, predicate], {"T": data.dtype}, [data.type] * 2, name)

    def identity(self, value: Value, name: str) -> Value:
        return self.node("Identity", [value], {"T": value.dtype}, [value.type], name).output

    def merge(self, values: Sequence[Value], type: TensorType, name: str) -> Node:
        return self.node("Merge", values, {"T": type.dtype, "N": len(values)}, [type, _INDEX], name)

    def call(self, reference: FunctionRef, inputs: Sequence[Value], types: Sequence[TensorType], name: str) -> Node:
        attrs = {"f": reference, "Tin": tuple(v.dtype for v in inputs), "Tout": tuple(t.dtype for t in types)}
        return self.node("StatefulPartitionedCall", inputs, attrs, types, name)

    def constant(self, number: int, name: str, after: Node) -> Value:
        name = f"{self.scope}/{name}"
        value = hold(self.graph, np.array(number, np.int32), name=name, before=self.before)
        value.node.device, value.node.origins = self.before.device, self.before.source_names
        value.node.add_control_input(after)
        self.made.append(value.node)
        return value

    def inline(self, call: Node, function: Function, reference: FunctionRef) -> None:
        self.made.remove(call)
        self.made += inline_call(self.graph, call, function, reference.attrs)


# Branches ------------------------------------------------------------------------------------------------------


def _lower_branches(graph: Graph, node: Node, functions: Called) -> list[Node]:
    make = _Maker(graph, node)
    condition = make.identity(node.input(0), "condition")
    condition.node.set_control_inputs(node.control_inputs)
    node.set_control_inputs(())
    branches = _branches(make, node, condition, functions)
    switches: dict[tuple[Value, Value], Node] = {}
    calls: list[Node] = []
    done: list[Value] = []
    is_awaited = bool(not is_removable(node) or node.control_users or node in graph.targets or not node.outputs)
    for branch in branches:
        passed = [condition, *node.inputs[1:]]
        operands = [_switched(make, value, branch, switches) for value in passed if value is not None]
        types = [value.type for value in node.outputs]
        call = make.call(branch.reference, operands[1:], types, branch.label)
        if len(operands) == 1:  # otherwise all that the branch does comes after its operands
            call.add_control_input(operands[0].node)
        if is_awaited:
            done.append(make.identity(operands[0], f"{branch.label}_done"))
            done[-1].node.add_control_input(call)
        calls.append(call)
    merges = [
        make.merge([call.outputs[place] for call in calls], value.type, f"merge_{place}")
        for place, value in enumerate(node.outputs)
    ]
    node.set_inputs([merge.outputs[0] for merge in merges])
    if done:
        node.add_control_input(make.merge(done, condition.type, "done"))
    pass_inputs_on(node)
    for call, branch in zip(calls, branches, strict=True):
        make.inline(call, branch.function, branch.reference)
    return make.made


def _switched(make: _Maker, value: Value, branch: Branch, switches: dict[tuple[Value, Value], Node]) -> Value:
    """`value` inside of `branch`."""
    key = (value, branch.predicate)
    if key not in switches:
        switches[key] = make.switch(value, branch.predicate, f"switch_{len(switches)}")
    return make.identity(switches[key].outputs[branch.side], f"{branch.label}_input")


def _branches(make: _Maker, node: Node, condition: Value, functions: Called) -> list[Branch]:
    if "Case" not in node.op:
        labels = ("then", "else")
        return [
            Branch(*called, condition, 1 - place, label)
            for place, (called, label) in enumerate(zip(functions, labels, strict=True))
        ]
    branches = []
    for place, called in enumerate(functions[:-1]):
        number = make.constant(place, f"number_{place}", condition.node)
        equal = make.node("Equal", [condition, number], {"T": INT32}, [_PREDICATE], f"is_{place}")
        branches.append(Branch(*called, equal.output, 1, f"branch_{place}"))
    last = len(functions) - 1
    low, high = make.constant(0, "first", condition.node), make.constant(last, "last", condition.node)
    below = make.node("Less", [condition, low], {"T": INT32}, [_PREDICATE], "is_below").output
    above = make.node("GreaterEqual", [condition, high], {"T": INT32}, [_PREDICATE], "is_above").output
    other = make.node("LogicalOr", [below, above], {}, [_PREDICATE], "is_other").output
    return [*branches, Branch(*functions[-1], other, 1, f"branch_{last}")]


# Loops ---------------------------------------------------------------------------------------------------------


def _lower_loop(graph: Graph, node: Node, functions: Called) -> list[Node]:
    make = _Maker(graph, node)
    (condition, condition_reference), (body, body_reference) = functions
    initial = [value for value in node.inputs if value is not None]
    types = [value.type for value in node.outputs]
    frame = {"frame_name": node.name.encode(), "is_constant": False}
    parallel = node.attrs.get("parallel_iterations")
    frame["parallel_iterations"] = parallel if isinstance(parallel, int) else 10
    merges = []
    for place, (value, type) in enumerate(zip(initial, types, strict=True)):
        enter = make.node("Enter", [value], {"T": type.dtype, **frame}, [type], f"enter_{place}")
        enter.set_control_inputs(node.control_inputs)
        merges.append(make.merge([enter.output, enter.output], type, f"merge_{place}"))
    node.set_control_inputs(())
    variables = [merge.outputs[0] for merge in merges]
    test = make.call(condition_reference, variables, [_PREDICATE], "cond")
    go = make.node("LoopCond", [test.output], {}, [_PREDICATE], "go").output
    switches = [make.switch(value, go, f"switch_{place}") for place, value in enumerate(variables)]
    turning = [make.identity(switch.outputs[1], f"variable_{n}") for n, switch in enumerate(switches)]
    step = make.call(body_reference, turning, types, "body")
    for place, merge in enumerate(merges):
        result = step.outputs[place]
        following = make.node("NextIteration", [result], {"T": result.dtype}, [result.type], f"next_{place}")
        merge.replace_input(1, following.output)
    exits = [make.node("Exit", [s.outputs[0]], {"T": s.outputs[0].dtype}, [s.outputs[0].type], f"exit_{n}")
             for n, s in enumerate(switches)]  # fmt: skip
    node.set_inputs([leave.output for leave in exits])
    pass_inputs_on(node)
    make.inline(test, condition, condition_reference)
    make.inline(step, body, body_reference)
    return make.made
