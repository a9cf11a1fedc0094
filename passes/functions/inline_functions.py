"""inline-functions: put the bodies of called functions in place of the calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known_variables import forget
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.ir.ops import find
from graphopt.ir.types import UNKNOWN_TYPE, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.frames import frame_anchors, has_v1_control_flow
from graphopt.passes.functions.call_graph import callees_first
from graphopt.passes.removal import is_removable
from graphopt.passes.replacement import replace_target

CALLS = frozenset({"tf.PartitionedCall", "tf.StatefulPartitionedCall"})
GRADIENT = "tf.SymbolicGradient"
GROWTH_FACTOR, GROWTH_NODES = 4, 1 << 14  # inlining may multiply the model's nodes by this, and add that many
KEPT_APART = ("_noinline", "_XlaMustCompile")  # function attributes that ask not to be inlined


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Replace calls of library functions by the functions' bodies, those within bodies included.

    *Given*

        function @f(%a: float32) -> (%b) { %b = tf.Neg(%a) }
        %y = tf.PartitionedCall(%x) {f = @f}

    *Result*

        %y/b = tf.Neg(%x)
        %y = tf.Identity(%y/b)

    Nodes of a body are named after the call and their own name, and keep both as origins. What called functions do
    for effect still happens, before anything that depends on the call. `levels` bounds how deep calls within bodies
    are followed; `always` inlines also functions that are marked to be kept apart. The gradient of a function for which
    the library names one is a call of that.

    Refuses functions marked `_noinline` or for XLA alone, calls whose arguments do not fit the function, calls whose
    output is an input of the graph, calls in a v1 branch to which constants could not be tied, and growth beyond four
    times the model and 16384 nodes.
    """

    levels: int | None = None
    always: bool = False

    def run(self, model: Model, context: PassContext) -> None:
        """Inline in the bodies of functions, those called first, then in the main graph."""
        budget = GROWTH_FACTOR * model.node_count + GROWTH_NODES
        reached = callees_first(model)
        for function in reached if self.levels is None else ():
            budget = self._inline(model, function, context, budget)
        self._inline(model, model.graph, context, budget)
        forget(model)  # functions that were inlined do not read variables any more

    def _inline(self, model: Model, graph: Graph, context: PassContext, budget: int) -> int:
        queue = deque((node, 0) for node in graph if is_call(node, model))
        while queue:
            call, level = queue.popleft()
            if self.levels is not None and level >= self.levels:
                continue
            function, attrs = callee(call, model)
            reason = self._refusal(graph, call, function, budget)
            if reason is not None:
                context.refused(self.name, call, reason)
                continue
            if not context.allows(self.name):
                break
            assert function is not None
            budget -= len(function)
            inlined = inline_call(graph, call, function, attrs)
            context.rewrote(self.name, removed=(call,), added=tuple(inlined))
            queue.extend((node, level + 1) for node in inlined if is_call(node, model))
        return budget

    def _refusal(self, graph: Graph, call: Node, function: Function | None, budget: int) -> str | None:
        if function is None:
            return "the library has no such function"
        for mark in KEPT_APART:
            if not self.always and (function.attrs.get(mark) is True or call.attrs.get(mark) is True):
                return f"function '{printable(function.name)}' is marked {mark}"
        if len(call.inputs) != len(function.inputs) or len(call.outputs) != len(function.outputs):
            return (
                f"it passes {len(call.inputs)} arguments and expects {len(call.outputs)} results; function "
                f"'{printable(function.name)}' has {len(function.inputs)} and {len(function.outputs)}"
            )
        fed = next((value for value in call.outputs if value.is_input), None)
        if fed is not None and not isinstance(graph, Function):
            return f"its output '{printable(fed.name)}' is an input of the graph: strip-unused cuts the graph there"
        if len(function) > budget:
            return f"its {len(function)} nodes would let the model grow too much"
        for value, argument in zip(call.inputs, function.inputs, strict=True):
            if value is not None and value.dtype.code and argument.dtype.code and value.dtype is not argument.dtype:
                return f"argument '{printable(argument.name)}' is {argument.dtype.name}, it passes {value.dtype.name}"
        if has_v1_control_flow(graph) and frame_anchors(v for v in call.inputs if v is not None) is None:
            return "the constants of the body would leave its v1 branch"
        return None


def is_call(node: Node, model: Model) -> bool:
    """`node` does nothing but call a function of the library."""
    return node.op in CALLS or node.op_type in model.functions or _gradient(node, model) is not None


def callee(call: Node, model: Model) -> tuple[Function | None, Mapping[str, Any]]:
    """The function that `call` runs and the attributes it is instantiated with."""
    if call.op in CALLS:
        reference = call.attrs.get("f")
        if not isinstance(reference, FunctionRef):
            return None, {}
        return model.functions.get(reference.name), reference.attrs
    gradient = _gradient(call, model)
    return (gradient, {}) if gradient is not None else (model.functions.get(call.op_type), call.attrs)


def _gradient(node: Node, model: Model) -> Function | None:
    """The function that computes the gradient that `node` asks for, if the library names one."""
    reference = node.attrs.get("f") if node.op == GRADIENT else None
    function = model.functions.get(reference.name) if isinstance(reference, FunctionRef) else None
    return model.functions.get(function.gradient) if function is not None and function.gradient is not None else None


def inline_call(graph: Graph, call: Node, function: Function, attrs: Mapping[str, Any]) -> list[Node]:
    """Replace `call` by a copy of the body of `function`; returns the nodes made.

    The call must fit the function: as many arguments and results, of its types.
    """
    arguments = dict(zip((value.node for value in function.inputs), call.inputs, strict=True))
    copies: dict[Node, Node] = {}
    for node in function:
        if node.op != ARGUMENT:
            copies[node] = _copy(graph, call, node, attrs)

    def actual(value: Value | None) -> Value | None:
        if value is None or value.node.op != ARGUMENT:
            return None if value is None else copies[value.node].outputs[value.index]
        return arguments[value.node]

    for node, copy in copies.items():
        copy.set_inputs(actual(value) for value in node._inputs)
        for control in node.control_inputs:
            if control in copies:
                copy.add_control_input(copies[control])
            else:
                source = arguments[control]
                if source is not None:
                    copy.add_control_input(source.node)
    made = list(copies.values())
    entrance = _tie_entrance(graph, call, made)
    made += entrance
    effects = [copies[node] for node in function if node.op != ARGUMENT and not is_removable(node)]
    effects += [copies[node] for node in function.targets if node in copies]
    results = [actual(value) for value in function.outputs]
    if call.control_inputs:
        effects += entrance  # what comes after the call comes after what the call waited for
    made += _tie_exit(graph, call, results, list(dict.fromkeys(effects)))
    return made


def _copy(graph: Graph, call: Node, node: Node, attrs: Mapping[str, Any]) -> Node:
    copy = Node(node.op, graph.unique_name(f"{call.name}/{node.name}"), _instantiated(node.attrs, attrs))
    copy.device = node.device or call.device
    copy.origins = tuple(f"{name}/{inner}" for name in call.source_names for inner in node.source_names)
    copy.extras = node.extras
    for place, value in enumerate(node.outputs):
        copy.add_output(value.type if value.dtype.code else _declared_type(copy, place))
    graph.insert(copy, call)
    return copy


def _declared_type(node: Node, place: int) -> TensorType:
    """The type of an output as the attributes give it, now that a generic function's have their values."""
    operator = find(node.op)
    if operator is None or operator.interface is None:
        return UNKNOWN_TYPE
    try:
        return operator.interface.output_types(node.attrs)[place]
    except (KeyError, ValueError, IndexError):
        return UNKNOWN_TYPE


def _instantiated(body: Mapping[str, Any], attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a body node with placeholders replaced by what the call says."""
    result: dict[str, Any] = {}
    for name, value in body.items():
        if isinstance(value, AttributePlaceholder):
            if value.name in attrs:
                result[name] = attrs[value.name]
        elif isinstance(value, FunctionRef):
            result[name] = FunctionRef(value.name, _instantiated(value.attrs, attrs))
        else:
            result[name] = value
    return result


def _tie_entrance(graph: Graph, call: Node, made: list[Node]) -> list[Node]:
    """Let what the body does for effect, and in v1 control flow its constants, wait for what the call waited for."""
    waits = list(call.control_inputs)
    anchored = has_v1_control_flow(graph)
    if anchored:
        waits += frame_anchors(value for value in call.inputs if value is not None) or []
    if not waits:
        return []
    gate = graph.create_node("tf.NoOp", name=f"{call.name}/input_control", types=(), before=call, device=call.device)
    gate.origins = call.source_names
    for control in dict.fromkeys(waits):
        gate.add_control_input(control)
    for node in made:
        if (anchored and not node._inputs) or not is_removable(node):
            node.add_control_input(gate)
    return [gate]


def _tie_exit(graph: Graph, call: Node, results: list[Value | None], effects: list[Node]) -> list[Node]:
    """Give the results to the readers of the call, after the effects; then remove the call.

    The name of a call that is an output or a target passes to what takes its place.
    """
    made: list[Node] = []
    name, is_target = call.name, call in graph.targets
    named = not isinstance(graph, Function) and any(value.is_output for value in call.outputs)
    gate: Node | None = None
    if effects or call.control_users or (is_target and not named):
        gate = graph.create_node("tf.NoOp", name=f"{name}/output_control", types=(), before=call)
        gate.origins = call.source_names
        for node in effects or [value.node for value in results if value is not None]:
            gate.add_control_input(node)
        made.append(gate)
    for user in call.control_users:
        user.remove_control_input(call)
        if gate is not None and user is not gate:
            user.add_control_input(gate)
    for value, result in zip(call.outputs, results, strict=True):
        if result is not None and (result.shape.rank is None or not result.dtype.code):
            result.type = TensorType(result.dtype if result.dtype.code else value.dtype, value.shape)
    waits = [gate] if gate is not None and effects else []
    if results and (named or waits):
        results = _as_identity(graph, call, results, waits, named)
        made.append(results[0].node if results[0] is not None else call)
    for value, result in zip(call.outputs, results, strict=True):
        if result is not None:
            graph.replace_value(value, result)
    if is_target:
        replace_target(graph, call, made[-1] if named else gate)
    graph.remove(call)
    if is_target and gate is not None and not named:
        graph.rename(gate, name)
    return made


def _as_identity(
    graph: Graph, call: Node, results: list[Value | None], waits: list[Node], named: bool
) -> list[Value | None]:
    """The results through one identity that carries the name of the call, if `named`, and waits for its effects."""
    values = [value for value in results if value is not None]
    name, origins = call.name, call.source_names
    if named:
        graph.rename(call, graph.unique_name(f"{name}/call"))
    node = graph.create_node(
        "tf.Identity" if len(values) == 1 else "tf.IdentityN",
        values,
        {"T": values[0].dtype if len(values) == 1 else tuple(value.dtype for value in values)},
        name=name if named else f"{name}/results",
        types=[value.type for value in values],
        before=call,
        control_inputs=waits,
        device=call.device,
        origins=origins,
    )
    return list(node.outputs)
