"""Conditionals and loops: their functions are subgraphs."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.table import RULES
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.model import Function
from graphopt.ir.types import BOOL, SCALAR, TensorType
from graphopt.ir.value import Value
from graphopt.passes.rule import Replacement

KNOWN_LIST = "give the inputs shapes (set-shapes), so that its lists of tensors have known sizes"


@RULES.legalize("tf.If", "tf.StatelessIf")
def conditional(op: Lowering) -> Replacement:
    """A conditional runs one of two subgraphs; a condition that is a number holds where it is not zero."""
    branches = [_subgraph(op, name) for name in ("then_branch", "else_branch")]
    for branch in branches:
        _check_interface(op, branch, op.node.inputs[1:], op.node.outputs)
    return _run_one(op, _truth(op, op.input(0)), branches)


@RULES.legalize("tf.While", "tf.StatelessWhile")
def loop(op: Lowering) -> Replacement:
    """A loop runs its body's subgraph as long as its condition's yields true."""
    condition, body = _subgraph(op, "cond"), _subgraph(op, "body")
    _check_interface(op, body, op.node.inputs, op.node.outputs)
    if len(condition.outputs) != 1 or condition.outputs[0].dtype is not BOOL or condition.outputs[0].shape.rank:
        op.refuse(f"its condition yields {condition.outputs[0].type}, not one truth value")
    made = op.emit_node(
        "WHILE", op.node.inputs,
        attrs={"cond_subgraph_index": _reference(condition), "body_subgraph_index": _reference(body)},
    )  # fmt: skip
    return made.outputs


def _run_one(op: Lowering, condition: Value, branches: list[Function]) -> Replacement:
    then, otherwise = branches
    made = op.emit_node(
        "IF", (condition, *op.node.inputs[1:]),
        attrs={"then_subgraph_index": _reference(then), "else_subgraph_index": _reference(otherwise)},
    )  # fmt: skip
    return made.outputs


def _truth(op: Lowering, condition: Value) -> Value:
    """`condition` as one truth value."""
    if condition.shape.rank:  # where it is not known, LiteRT checks when the model runs
        op.refuse(f"its condition '{condition.name}' is {condition.type}, no scalar")
    if condition.dtype is BOOL:
        return condition
    if not condition.dtype.is_numeric or condition.dtype.numpy is None:
        op.refuse(f"its condition '{condition.name}' is {condition.dtype.name}")
    zero = op.constant(condition.dtype.numpy.type(0).reshape(()), name=f"{op.node.name}/zero")
    return op.emit("NOT_EQUAL", condition, zero, type=TensorType(BOOL, SCALAR), name=f"{op.node.name}/condition")


def _reference(function: Function) -> FunctionRef:
    return FunctionRef(function.name, {})


def _subgraph(op: Lowering, name: str) -> Function:
    reference = op.attr(name)
    model = op.node.graph.model if op.node.graph is not None else None
    function = model.functions.get(reference.name) if model is not None and isinstance(reference, FunctionRef) else None
    if function is None:
        op.refuse(f"there is no function for its {name}")
    return function


def _check_interface(op: Lowering, function: Function, given: tuple[Value | None, ...], results: list[Value]) -> None:
    """Refuse what cannot be passed between subgraphs: lists of tensors, and arguments of other types."""
    if len(function.inputs) != len(given) or len(function.outputs) != len(results):
        op.refuse(f"function '{function.name}' has another number of arguments or results")
    for value in (*given, *results, *function.inputs, *function.outputs):
        if value is not None and value.dtype.name == "variant":
            op.refuse(f"it passes on the list of tensors '{value.name}', whose shape is not known", KNOWN_LIST)
    for left, right in (*zip(given, function.inputs, strict=True), *zip(results, function.outputs, strict=True)):
        if left is not None and left.dtype is not right.dtype:
            op.refuse(f"'{left.name}' is {left.dtype.name} where '{function.name}' has {right.dtype.name}")


@RULES.legalize("tf.IdentityN")
def identities(op: Lowering) -> Replacement:
    """Identities are what they pass on."""
    return op.inputs
