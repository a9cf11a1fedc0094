"""hoist-loop-invariants: compute once, before a loop, what is the same in all its iterations."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.graph import Graph
from graphopt.ir.known import CONSTANT
from graphopt.ir.model import ARGUMENT, Function, Model, callees
from graphopt.ir.ops import Trait, find
from graphopt.ir.traversal import reachable
from graphopt.ir.types import TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.call_sites import (
    Site,
    clone_function,
    is_passed_through,
    reference_counts,
    site_of,
    strip_body,
)
from graphopt.passes.control.lower_control_flow import LOOPS
from graphopt.passes.control.take_constant_branches import entry_condition
from graphopt.passes.frames import RAISE_FIRST, frame_anchors, has_v1_control_flow, v1_loops
from graphopt.passes.functions.call_graph import callees_first

_NEVER = Trait.STATEFUL | Trait.RANDOM | Trait.CONTROL_FLOW | Trait.CALL | Trait.SOURCE | Trait.ASSERTION
_CHEAP = frozenset(
    """
    Identity Shape Rank Size ZerosLike OnesLike Reshape ExpandDims Squeeze Transpose StopGradient
    """.split()  # noqa: SIM905
)
_MAY_FAIL = frozenset(
    "Div FloorDiv FloorMod Mod TruncateDiv TruncateMod Pow LeftShift RightShift CheckNumerics".split()  # noqa: SIM905
)


Names = dict[str, None]


@dataclass(frozen=True)
class HoistLoopInvariants(Pass):
    """Move out of the body of every `While` what does not change from iteration to iteration.

    *Given*

        function @body(%i: int32, %s: float32[2,2], %w: float32[2,2]) -> (%j, %t, %w) {
          %v = tf.Tanh(%w)
          %t = tf.MatMul(%s, %v)
          …
        }
        %loop = tf.StatelessWhile(%zero, %x, %w) {cond = @cond, body = @body}

    *Result*

        function @body(%i: int32, %s: float32[2,2], %w: float32[2,2], %v: float32[2,2]) -> (%j, %t, %w, %v) {
          %t = tf.MatMul(%s, %v)
          …
        }
        %before = tf.Tanh(%w)
        %loop = tf.StatelessWhile(%zero, %x, %w, %before) {cond = @cond, body = @body}

    The results enter the loop as variables that it passes on. Inner loops come first, so that what is the same in all
    iterations of several loops leaves them all. What is computed from constants alone is left to `fold-constants`.

    Refuses what has effects, draws random numbers or waits for others, and calls, conditionals and loops whose
    functions do. Where the loop might not turn at all, also what could fail or costs more than its operands' elements:
    only elementwise operators and changes of shape, with all shapes known, are hoisted then. A v1 loop has to be raised
    first (`raise-control-flow`).
    """

    def run(self, model: Model, context: PassContext) -> None:
        """Hoist out of loops in functions, those called first, then in the main graph."""
        counts = reference_counts(model)
        functions = callees_first(model)
        pure = _pure_functions(functions)
        for graph in (*functions, model.graph):
            for node in v1_loops(graph):
                context.refused(self.name, node, RAISE_FIRST)
            for node in graph:
                if node.op in LOOPS:
                    site = site_of(node, model)
                    if site is None:
                        context.refused(self.name, node, "its functions are generic, or do not fit it")
                    else:
                        self._hoist(graph, site, model, counts, pure, context)

    def _hoist(
        self, graph: Graph, site: Site, model: Model, counts: dict[str, int], pure: Names, context: PassContext
    ) -> None:
        loop, (condition, body) = site.node, site.functions
        turns = entry_condition(loop, condition) is True
        found = _Invariants(body, turns, pure)
        for node, reason in found.refused.items():
            context.refused(self.name, node, reason)
        if not found.leaving or not context.allows(self.name):
            return
        anchors: list[Node] = []
        if has_v1_control_flow(graph):
            tied = frame_anchors(site.operands)
            if tied is None:
                context.refused(self.name, loop, "constants would leave its v1 branch")
                return
            anchors = tied
        for place, function in enumerate(site.functions):
            if counts.get(function.name, 0) > 1 or function.gradient is not None:
                counts[function.name] -= 1
                site.set_function(place, clone_function(function, model))
                counts[site.functions[place].name] = 1
        body = site.functions[1]
        added = _move(graph, site, found if found.body is body else _Invariants(body, turns, pure), anchors)
        context.rewrote(self.name, removed=(loop,), added=tuple(added))


class _Invariants:
    """Nodes of a body that compute the same in every iteration, and those of their results that the rest reads."""

    def __init__(self, body: Function, turns: bool, pure: Names):
        self.body, self.pure = body, pure
        self.refused: dict[Node, str] = {}
        self.nodes: dict[Node, bool] = {}  # invariant node -> it depends on an argument, not on constants alone
        self.places = {
            value.node: place for place, value in enumerate(body.inputs) if is_passed_through(body, place)
        }  # fmt: skip
        effects = [node for node in body.targets if node.op != ARGUMENT]
        live = reachable([*(value.node for value in body.outputs), *effects])
        for node in body.topological_order():
            if node in self.places:
                self.nodes[node] = True
            elif node.op == CONSTANT:
                self.nodes[node] = False
            elif node.op != ARGUMENT and node in live and node._inputs and not node.control_inputs:
                self._judge(node, turns)
        self.leaving = [
            value
            for node, depends in self.nodes.items()
            if depends and node.op not in (ARGUMENT, "tf.Identity")
            for value in node.outputs
            if value.is_output or any(user not in self.nodes or user.op == "tf.Identity" for user in value.users)
        ]

    def _judge(self, node: Node, turns: bool) -> None:
        producers = [value.node if value is not None else None for value in node._inputs]
        if any(producer not in self.nodes for producer in producers):
            return
        operator = find(node.op)
        if operator is None or operator.interface is None or operator.traits & (_NEVER & ~Trait.CALL):
            return
        if operator.traits & Trait.CALL and not _is_pure(node, self.pure):
            return
        if any(not value.dtype.code or value.dtype.is_handle for value in node.outputs):
            return
        if not turns and not _is_safe(node, operator.traits):
            if any(self.nodes[producer] for producer in producers if producer is not None):
                self.refused[node] = "the loop might not turn, and it could fail or is not cheap"
            return
        self.nodes[node] = any(self.nodes[producer] for producer in producers if producer is not None)


def _is_pure(node: Node, pure: Names) -> bool:
    """`node` calls functions that do no more than compute their results, always the same of the same arguments."""
    names = list(callees(node))
    return bool(names) and all(name in pure for name in names)


def _pure_functions(functions: list[Function]) -> Names:
    """Names of those of `functions`, each after those it calls, that have no effects and draw no random numbers."""
    pure: Names = {}
    for function in functions:
        if not any(_is_effect(node, pure) for node in function):
            pure[function.name] = None
    return pure


def _is_effect(node: Node, pure: Names) -> bool:
    operator = find(node.op)
    if node.op == ARGUMENT or operator is None:
        return operator is None
    if operator.traits & (_NEVER & ~Trait.CALL):
        return True
    return bool(operator.traits & Trait.CALL) and not _is_pure(node, pure)


def _is_safe(node: Node, traits: Trait) -> bool:
    """Computing `node` cannot fail and costs no more than its elements."""
    values = [*node.inputs, *node.outputs]
    if (
        traits & Trait.CALL
        or node.op_type in _MAY_FAIL
        or any(value is None or value.shape.static is None for value in values)
    ):
        return False
    return bool(traits & Trait.ELEMENTWISE) or node.op_type in _CHEAP


def _move(graph: Graph, site: Site, found: _Invariants, anchors: list[Node]) -> list[Node]:
    """Compute the leaving values before the loop and pass them in."""
    loop, (condition, body) = site.node, site.functions
    needed = reachable((value.node for value in found.leaving), lambda node: node in found.places)
    operands = loop.inputs
    copies: dict[Node, Node] = {}
    for node in found.nodes:
        if node not in needed or node in found.places:
            continue
        copy = graph.create_node(
            node.op,
            [
                operands[found.places[v.node]] if v.node in found.places else copies[v.node].outputs[v.index]
                for v in node.inputs
                if v is not None
            ],
            dict(node.attrs), name=f"{loop.name}/{node.name}", types=[value.type for value in node.outputs],
            before=loop, device=node.device or loop.device, origins=node.source_names,
            control_inputs=anchors if not node._inputs else (),
        )  # fmt: skip
        copies[node] = copy
    for value in found.leaving:
        _pass_in(loop, condition, body, value, copies[value.node].outputs[value.index])
    strip_body(body)
    return list(copies.values())


def _pass_in(loop: Node, condition: Function, body: Function, inner: Value, outer: Value) -> None:
    """Make `outer` one more variable of the loop, which stands for `inner` in the body."""
    argument = _add_argument(body, inner.type, inner.node.name)
    _add_argument(condition, inner.type, inner.node.name)
    inner.replace_all_uses_with(argument)
    body.outputs = (*(argument if value is inner else value for value in body.outputs), argument)
    name = argument.node.name
    while name in body.output_names:
        name += "_passed"
    body.output_names.append(name)
    loop.set_inputs([*loop.inputs, outer])
    loop.add_output(outer.type)
    loop.attrs["T"] = tuple(value.dtype for value in loop.inputs if value is not None)
    shapes = loop.attrs.get("output_shapes")
    if isinstance(shapes, tuple) and shapes:
        loop.attrs["output_shapes"] = (*shapes, outer.shape)
    for stale in ("_num_original_outputs", "_output_shapes"):
        loop.attrs.pop(stale, None)


def _add_argument(function: Function, type: TensorType, name: str) -> Value:
    base = "".join(c if c.isalnum() else "_" for c in name).strip("_").lower() or "invariant"
    node = function.create_node(
        ARGUMENT, attrs={"T": type.dtype, "index": len(function.inputs)}, name=f"{base}_invariant", types=(type,),
        before=next(iter(function), None),
    )  # fmt: skip
    function.inputs = (*function.inputs, node.output)
    function.input_names.append(node.name)
    function.attrs.pop("_input_shapes", None)
    return node.output
