"""The forms of batch norm, whole and decomposed: each node that computes an affine map with known numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import Error, GraphError
from graphopt.ir.infer_nodes import NONSENSE
from graphopt.ir.known import PASS_THROUGH, known_tensor
from graphopt.ir.ops import Trait, attributes, find
from graphopt.ir.value import Node, Value
from graphopt.passes.fold.batch_norm_affine import FLOATS, ONE, ZERO, Affine, Array
from graphopt.passes.fold.batch_norm_weights import CHANNEL_AXES, rank_of
from graphopt.passes.soundness import refused

VECTOR_BYTES = 1 << 20  # beyond which a tensor is not one number for each channel
EXPRESSION_NODES = 32  # beyond which an expression of known vectors is left to constant folding
# What parameters of a batch norm are computed with, where nobody folded it.
ARITHMETIC = PASS_THROUGH | {
    f"tf.{name}"
    for name in (
        "Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Rsqrt", "Sqrt", "Square", "Neg", "Reciprocal", "Inv",
        "Maximum", "Minimum", "Cast", "Reshape", "Squeeze", "ExpandDims",
    )
}  # fmt: skip


class Step(NamedTuple):
    """A node seen as the affine map `change` of the value `data`; `is_norm`: it is a whole batch norm."""

    data: Value
    change: Affine
    is_norm: bool = False


def read_step(node: Node) -> Step | str | None:
    """`node` as an affine map with known numbers; for a batch norm that is none, the reason; else None."""
    form = FORMS.get(node.op)
    try:
        return None if form is None else form(node)
    except (GraphError, *NONSENSE) as error:
        return refused(error, node)


def composed(node: Node, step: Step) -> Step | None:
    """The one node that reads `node`, of which `step` was read, as a step that continues it; None if there is none."""
    output = node.outputs[0]
    if output.use_count != 1 or output.is_output or output.is_input:
        return None
    following = read_step(output.uses[0][0])
    if not isinstance(following, Step) or following.data is not output:
        return None
    return following if following.change.after(step.change) is not None else None


# Arithmetic ----------------------------------------------------------------------------------------------------


def _multiplied(node: Node) -> Step | None:
    found = _operand(node)
    return None if found is None else _step(found.data, found.vector, ZERO, found.axis)


def _added(node: Node) -> Step | None:
    found = _operand(node)
    return None if found is None else _step(found.data, ONE, found.vector, found.axis)


def _subtracted(node: Node) -> Step | None:
    found = _operand(node)
    if found is None:
        return None
    if found.place == 1:
        return _step(found.data, ONE, -found.vector, found.axis)
    return _step(found.data, -ONE, found.vector, found.axis)


def _divided(node: Node) -> Step | None:
    found = _operand(node)
    if found is None or found.place != 1:
        return None
    with np.errstate(all="ignore"):
        return _step(found.data, ONE / found.vector, ZERO, found.axis)


def _bias_added(node: Node) -> Step | None:
    bias = _channel_vector(node, 1)
    rank = rank_of(node.input(0))
    if bias is None:
        return None
    if attributes(node).get("data_format") != b"NCHW":
        return _step(node.input(0), ONE, bias, -1)
    return None if rank is None else _step(node.input(0), ONE, bias, 1 - rank)


def _step(data: Value, scale: Array, offset: Array, axis: int | None, is_norm: bool = False) -> Step | None:
    if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
        return None
    return Step(data, Affine(np.asarray(scale), np.asarray(offset), axis), is_norm)


class Operand(NamedTuple):
    """The known side of a binary operator: a number (`axis` None) or one for each channel; `place`: which input."""

    data: Value
    vector: Array
    axis: int | None
    place: int


def _operand(node: Node) -> Operand | None:
    if node.input_count != 2:
        return None
    for place in (1, 0):
        values = parameter(node.input(place))
        if values is not None:
            break
    else:
        return None
    data = node.input(1 - place)
    rank = rank_of(data)
    if (rank is None and values.ndim > (values.size > 1)) or (rank is not None and rank < values.ndim):
        return None  # the result would have more dimensions than the data
    wide = [axis for axis, length in enumerate(values.shape) if length != 1]
    if len(wide) > 1 or parameter(data) is not None:
        return None
    if not wide:
        return Operand(data, values.reshape(()), None, place)
    return Operand(data, values.reshape(-1), wide[0] - values.ndim, place)


# Whole batch norms ---------------------------------------------------------------------------------------------


def _fused_norm(node: Node) -> Step | str | None:
    attrs = attributes(node)
    if attrs.get("is_training"):
        return "it normalises with the statistics of the batch (is_training is true)"
    axis = CHANNEL_AXES.get(attrs.get("data_format", b""))
    if axis is None:
        return "its data format is unknown"
    places = {"scale": 1, "offset": 2, "mean": 3, "variance": 4}
    return _norm(node, places, float(attrs["epsilon"]), axis)


def _global_norm(node: Node) -> Step | str | None:
    attrs = attributes(node)
    places = {"mean": 1, "variance": 2, "offset": 3}
    if attrs.get("scale_after_normalization"):
        places["scale"] = 4
    return _norm(node, places, float(attrs["variance_epsilon"]), -1)


def _norm(node: Node, places: Mapping[str, int], epsilon: float, axis: int) -> Step | str | None:
    vectors: dict[str, Array] = {}
    for name, place in places.items():
        vector = _channel_vector(node, place)
        if vector is None:
            return f"its {name} is not known"
        vectors[name] = vector
    if len({vector.size for vector in vectors.values()}) != 1:
        return "its parameters differ in length"
    if any(value.use_count or value.is_output for value in node.outputs[1:]):
        return "its statistics are read as well"
    with np.errstate(all="ignore"):
        scale = vectors.get("scale", ONE) / np.sqrt(vectors["variance"] + epsilon)
        step = _step(node.input(0), scale, vectors["offset"] - vectors["mean"] * scale, axis, is_norm=True)
    return "its scale or offset would not be finite" if step is None else step


FORMS: Mapping[str, Callable[[Node], Step | str | None]] = {
    "tf.Mul": _multiplied,
    "tf.Add": _added,
    "tf.AddV2": _added,
    "tf.BiasAdd": _bias_added,
    "tf.BiasAddV1": _bias_added,
    "tf.Sub": _subtracted,
    "tf.RealDiv": _divided,
    "tf.Div": _divided,
    "tf.FusedBatchNorm": _fused_norm,
    "tf.FusedBatchNormV2": _fused_norm,
    "tf.FusedBatchNormV3": _fused_norm,
    "tf.BatchNormWithGlobalNormalization": _global_norm,
}


# Known vectors -------------------------------------------------------------------------------------------------


def _channel_vector(node: Node, place: int) -> Array | None:
    found = parameter(node.input(place))
    return found if found is not None and found.ndim == 1 and found.size else None


def parameter(value: Value) -> Array | None:
    """The small floating-point tensor that `value` always is, as float64; None if it is not one.

    A short expression of such tensors is evaluated, so that nothing depends on constants having been folded.
    """
    held = known_tensor(value)
    if held is not None:
        return held.numpy().astype(np.float64) if held.dtype in FLOATS and 0 < held.nbytes <= VECTOR_BYTES else None
    if value.node.op not in ARITHMETIC or (value.dtype.code and value.dtype not in FLOATS):
        return None
    return _evaluated(value)


def _evaluated(value: Value) -> Array | None:
    """The value of an expression, each operator evaluated as the operator table says."""
    order = _expression(value)
    results: dict[Node, Any] = {}
    for node in order or ():
        operator = find(node.op)
        if operator is None or operator.evaluate is None:
            return None
        operands = [
            results[item.node] if (held := known_tensor(item)) is None else held.numpy() for item in _read(node)
        ]
        try:
            if Trait.ELEMENTWISE in operator.traits and _broadcast_bytes(operands) > VECTOR_BYTES:
                return None
            with np.errstate(all="ignore"):
                result = np.asarray(operator.evaluate(attributes(node), *operands))
        except (Error, *NONSENSE):  # TensorFlow would refuse it as well
            return None
        if result.nbytes > VECTOR_BYTES:
            return None
        results[node] = result
    return np.asarray(results[value.node], np.float64) if order else None


def _broadcast_bytes(operands: Sequence[Array]) -> int:
    """Bytes of what operands make elementwise. Raises `ValueError` where they do not fit."""
    shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    return math.prod(shape) * max(operand.itemsize for operand in operands)


def _expression(value: Value) -> list[Node] | None:
    """The nodes that `value` is computed with, operands first; None if there is more to it than known tensors."""
    order: dict[Node, None] = {}
    opened: dict[Node, None] = {}
    pending = [value]
    while pending:
        item = pending[-1]
        node = item.node
        if node in opened:
            order[node] = None
            pending.pop()
            continue
        if node.op not in ARITHMETIC or item.is_input or len(opened) == EXPRESSION_NODES:
            return None
        opened[node] = None
        for operand in _read(node):
            held = known_tensor(operand)
            if held is None:
                pending.append(operand)
            elif not 0 < held.nbytes <= VECTOR_BYTES or not held.dtype.is_numeric:
                return None
    return list(order)


def _read(node: Node) -> list[Value]:
    return [value for value in node.inputs if value is not None]
