"""Loops and branches of TensorFlow as ONNX has them: a Loop's body computes the condition too, branches capture."""

from __future__ import annotations

from typing import Any

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.formats.onnx.elements import INPUT
from graphopt.ir.formats.onnx.writer import CAPTURES
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_array
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.ir.tensors import tensor
from graphopt.ir.types import BOOL, INT64, SCALAR, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.control.call_sites import is_passed_through
from graphopt.passes.functions.inline_functions import inline_call

LOOPS = frozenset({"tf.While", "tf.StatelessWhile"})
BRANCHES = frozenset({"tf.If", "tf.StatelessIf"})
_HANDLES = ("resource", "variant")


def restructure(model: Model) -> None:
    """Replace loops and branches whose values ONNX has types for; the others stay, and are reported."""
    for graph in model.graphs:
        for node in list(graph):
            if any(value.dtype.name in _HANDLES for value in (*node.outputs, *_given(node))):
                continue
            if node.op in LOOPS:
                _loop(model, graph, node)
            elif node.op in BRANCHES:
                _branch(model, graph, node)


def _given(node: Node) -> list[Value]:
    return [value for value in node.inputs if value is not None]


def _function(model: Model, node: Node, name: str) -> Function | None:
    reference = node.attrs.get(name)
    return model.functions.get(reference.name) if isinstance(reference, FunctionRef) else None


def _loop(model: Model, graph: Graph, node: Node) -> None:
    condition, body = _function(model, node, "cond"), _function(model, node, "body")
    if condition is None or body is None:
        return
    first = _called(graph, condition, node.inputs, f"{node.name}/enter", node)[0]
    kept = [place for place in range(node.input_count) if is_passed_through(body, place)]
    states = [place for place in range(node.input_count) if place not in kept]
    made = _loop_body(model, condition, body, node, states, kept)
    attrs: dict[str, Any] = {"body": FunctionRef(made.name)} | ({CAPTURES: len(kept)} if kept else {})
    inputs = [node.inputs[place] for place in (*states, *kept)]
    loop = graph.create_node(
        "onnx.Loop", (None, _as_bool(graph, first, node), *inputs), attrs, name=f"{node.name}/loop",
        types=[node.outputs[place].type for place in states], before=node, origins=node.source_names,
    )  # fmt: skip
    for place in kept:
        graph.replace_value(node.outputs[place], node.input(place))
    for place, value in zip(states, loop.outputs, strict=True):
        graph.replace_value(node.outputs[place], value)
    _take_name(graph, node, loop)


def _loop_body(
    model: Model, condition: Function, body: Function, node: Node, states: list[int], kept: list[int]
) -> Function:
    """A function of the number of the iteration, the condition, the state, and what is the same in every iteration,
    which is captured; of the next condition and state."""
    made = Function(model.unique_function_name(f"{node.name}/body"))
    model.add_function(made)
    order = (*states, *kept)
    kinds = [TensorType(INT64, SCALAR), TensorType(BOOL, SCALAR), *(node.outputs[place].type for place in order)]
    names = ["iteration", "condition", *(f"state_{place}" for place in order)]
    arguments = [
        made.create_node(ARGUMENT, (), {"T": kind.dtype, "index": place}, name=name, types=(kind,)).output
        for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]
    made.inputs = arguments
    taken = dict(zip(order, arguments[2:], strict=True))
    results = _called(made, body, [taken[place] for place in range(len(order))], "next")
    following = _called(made, condition, results, "continue")[0]
    made.outputs = [_as_bool(made, following), *(results[place] for place in states)]
    made.input_names = names
    made.output_names = ["again", *(f"next_{place}" for place in states)]
    return made


def _called(
    graph: Graph,
    function: Function,
    arguments: list[Value] | tuple[Value | None, ...],
    name: str,
    before: Node | None = None,
) -> list[Value]:
    """What the function's body computes of the arguments, copied into the graph."""
    call = graph.create_node(
        "tf.PartitionedCall", arguments, {"f": FunctionRef(function.name)}, name=name, before=before,
        types=[value.type for value in function.outputs],
    )  # fmt: skip
    guards = [
        graph.create_node(
            "tf.Identity", (value,), {"T": value.dtype}, name=f"{name}/result", types=(value.type,), before=before
        )
        for value in call.outputs
    ]
    inline_call(graph, call, function, {})
    found = []
    for guard in guards:
        found.append(guard.input(0))
        graph.remove(guard)
    return found


def _own(graph: Graph, value: Value) -> Value:
    """A result of a body must be computed in it: an identity of what is passed through."""
    node = graph.create_node("onnx.Identity", (value,), {}, name=f"{value.node.name}/kept", types=(value.type,))
    return node.output


def _as_bool(graph: Graph, value: Value, before: Node | None = None) -> Value:
    """A condition of TensorFlow: a number is true where it is not zero."""
    if value.dtype is BOOL:
        return value
    zero = hold(graph, tensor(0, value.dtype), name=f"{value.node.name}/zero", before=before)
    return graph.create_node(
        "tf.NotEqual", (value, zero), {"T": value.dtype}, name=f"{value.node.name}/is_true", before=before,
        types=(TensorType(BOOL, value.shape),),
    ).output  # fmt: skip


def _branch(model: Model, graph: Graph, node: Node) -> None:
    bodies = {name: _function(model, node, name) for name in ("then_branch", "else_branch")}
    if any(body is None for body in bodies.values()) or known_array(node.input(0)) is not None:
        return
    captured = node.inputs[1:]
    made = graph.create_node(
        "onnx.If", (_as_bool(graph, node.input(0), node), *captured),
        {CAPTURES: len(captured)} | {name: FunctionRef(body.name) for name, body in bodies.items() if body is not None},
        name=f"{node.name}/if", types=[value.type for value in node.outputs], before=node, origins=node.source_names,
    )  # fmt: skip
    _take_place(graph, node, made)


def _take_place(graph: Graph, node: Node, made: Node) -> None:
    for old, new in zip(node.outputs, made.outputs, strict=True):
        graph.replace_value(old, new)
    _take_name(graph, node, made)


def _take_name(graph: Graph, node: Node, made: Node) -> None:
    name = node.name
    graph.remove(node)
    graph.rename(made, name)


def own_outputs(model: Model) -> None:
    """Let every result of a body be computed in it, and only once: what is passed through goes through an identity."""
    for function in model.functions.values():
        seen: dict[Value, None] = {}
        outputs = []
        for value in function.outputs:
            if value.node.op == INPUT or value in seen or not value.node.input_count:
                value = _own(function, value)
            seen[value] = None
            outputs.append(value)
        function.outputs = outputs


def refusal(node: Node) -> str:
    """Why a loop or branch was left."""
    for value in (*node.outputs, *_given(node)):
        if value.dtype.name in _HANDLES:
            return f"'{printable(value.name)}' is a {value.dtype.name}, which ONNX has no tensors of"
    return "its functions are not in the library"
