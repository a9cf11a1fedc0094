"""What scales and shifts channels: every form of batch norm as a vector of scales and a vector of offsets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.known import PASS_THROUGH, known_tensor
from graphopt.ir.ops import attributes, find
from graphopt.ir.types import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, DType
from graphopt.ir.value import Node, Value

Array = np.ndarray[Any, Any]

FLOATS = frozenset({FLOAT16, BFLOAT16, FLOAT32, FLOAT64})
VECTOR_BYTES = 1 << 20  # bytes beyond which a tensor is not one number for each channel
EXPRESSION_NODES = 32  # nodes of an expression of known vectors that is evaluated here
# Channel axis, counted from the end, by data format.
CHANNEL_AXES: Mapping[bytes, int] = {b"NHWC": -1, b"NDHWC": -1, b"NCHW": -3, b"NCDHW": -4}
# What parameters of a batch norm are computed with, where nobody folded it.
ARITHMETIC = PASS_THROUGH | {
    f"tf.{name}"
    for name in (
        "Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Rsqrt", "Sqrt", "Square", "Neg", "Reciprocal", "Inv", "Maximum",
        "Minimum", "Cast", "Reshape", "Squeeze", "ExpandDims",
    )
}  # fmt: skip


class Affine(NamedTuple):
    """`scale * x + offset`: one scale and offset for each channel along `axis`, counted from the end.

    `scale` and `offset` are float64 arrays of shape () or (channels,); both () if and only if `axis` is None.
    """

    scale: Array
    offset: Array
    axis: int | None

    def after(self, inner: Affine) -> Affine | None:
        """This map of `inner`'s result as one map; None where they run along different channels."""
        if self.axis is None or inner.axis is None:
            axis = inner.axis if self.axis is None else self.axis
        elif self.axis != inner.axis or self.channels != inner.channels:
            return None
        else:
            axis = self.axis
        with np.errstate(all="ignore"):
            return Affine(self.scale * inner.scale, self.scale * inner.offset + self.offset, axis)

    @property
    def channels(self) -> int:
        """Number of channels; 1 where all have the same scale and offset."""
        return max(self.scale.size, self.offset.size)

    @property
    def scales(self) -> bool:
        """Some scale is not one."""
        return bool((self.scale != 1.0).any())

    @property
    def shifts(self) -> bool:
        """Some offset is not zero."""
        return bool((self.offset != 0.0).any())

    def part(self, start: int, stop: int) -> Affine:
        """The map of a run of channels."""
        if self.axis is None:
            return self
        scale, offset = (np.broadcast_to(item, self.channels)[start:stop] for item in (self.scale, self.offset))
        return Affine(scale, offset, self.axis)

    def is_finite_in(self, dtype: DType) -> bool:
        """Every scale and offset is a finite number of `dtype`."""
        return all(np.isfinite(as_dtype(item, dtype).astype(np.float32)).all() for item in (self.scale, self.offset))


class Step(NamedTuple):
    """A node that computes an affine map of the value `data` with known numbers; `norm`: it is a batch norm."""

    data: Value
    map: Affine
    norm: bool = False


IDENTITY = Affine(np.float64(1.0), np.float64(0.0), None)  # type: ignore[arg-type]


def as_dtype(vector: Array, dtype: DType) -> Array:
    """`vector` rounded to `dtype`; what is out of range becomes infinite."""
    assert dtype.numpy is not None
    with np.errstate(over="ignore"):
        return np.asarray(vector).astype(dtype.numpy)


def read_step(node: Node) -> Step | str | None:
    """`node` as an affine map; for a batch norm that is none, the reason; None for every other node."""
    form = FORMS.get(node.op)
    if form is None or any(value is None for value in node._inputs):
        return None
    return form(node)


# Arithmetic ----------------------------------------------------------------------------------------------------


def _multiplied(node: Node) -> Step | None:
    found = _operand(node)
    return None if found is None else _step(found[0], found[1], np.float64(0.0), found[2])


def _added(node: Node) -> Step | None:
    found = _operand(node)
    return None if found is None else _step(found[0], np.float64(1.0), found[1], found[2])


def _subtracted(node: Node) -> Step | None:
    found = _operand(node)
    if found is None:
        return None
    data, vector, axis, place = found
    return _step(data, np.float64(1.0), -vector, axis) if place == 1 else _step(data, np.float64(-1.0), vector, axis)


def _divided(node: Node) -> Step | None:
    found = _operand(node)
    if found is None or found[3] != 1:
        return None
    with np.errstate(all="ignore"):
        return _step(found[0], 1.0 / found[1], np.float64(0.0), found[2])


def _bias_added(node: Node) -> Step | None:
    if node.input_count != 2:
        return None
    bias = _vector_parameter(node.input(1))
    if bias is None:
        return None
    axis: int | None = -1
    if attributes(node).get("data_format") == b"NCHW":
        rank = rank_of(node.input(0))
        axis = None if rank is None else 1 - rank
    return None if axis is None else _step(node.input(0), np.float64(1.0), bias, axis)


def _step(data: Value, scale: Any, offset: Any, axis: int | None, norm: bool = False) -> Step | None:
    if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
        return None
    if axis is not None and max(scale.size, offset.size) == 1 and scale.ndim == offset.ndim == 0:
        axis = None
    return Step(data, Affine(scale, offset, axis), norm)


def _operand(node: Node) -> tuple[Value, Array, int | None, int] | None:
    """The data of a binary node, the known vector on its other side, along which axis, and which side that is."""
    if node.input_count != 2:
        return None
    for place in (1, 0):
        values = parameter(node.input(place))
        if values is None:
            continue
        data = node.input(1 - place)
        rank = rank_of(data)
        if (rank is None and values.ndim > (values.size > 1)) or (rank is not None and rank < values.ndim):
            return None  # the result would have more dimensions than the data
        wide = [axis for axis, length in enumerate(values.shape) if length != 1]
        if len(wide) > 1 or known_tensor(data) is not None:
            return None
        if not wide:
            return data, values.reshape(()), None, place
        return data, values.reshape(-1), wide[0] - values.ndim, place
    return None


# Batch norms ---------------------------------------------------------------------------------------------------


def _fused(node: Node) -> Step | str | None:
    attrs = attributes(node)
    if attrs.get("is_training"):
        return "it normalises with the statistics of the batch (is_training is true)"
    axis = CHANNEL_AXES.get(attrs.get("data_format", b""))
    if axis is None or node.input_count != 5:
        return f"its data format {attrs.get('data_format')!r} is unknown"
    names = ("scale", "offset", "mean", "variance")
    return _norm(node, names, (1, 2, 3, 4), attrs["epsilon"], axis)


def _global(node: Node) -> Step | str | None:
    attrs = attributes(node)
    if node.input_count != 5:
        return None
    places = (4 if attrs.get("scale_after_normalization") else None, 3, 1, 2)
    return _norm(node, ("gamma", "beta", "mean", "variance"), places, attrs["variance_epsilon"], -1)


def _norm(
    node: Node, names: tuple[str, ...], places: tuple[int | None, ...], epsilon: float, axis: int
) -> Step | str | None:
    """Scale and offset of a batch norm with gamma (None: 1), beta, mean and variance among its inputs."""
    vectors: list[Any] = []
    for name, place in zip(names, places, strict=True):
        vector = np.float64(1.0) if place is None else _vector_parameter(node.input(place))
        if vector is None:
            return f"its {name} is not known"
        vectors.append(vector)
    gamma, beta, mean, variance = vectors
    if len({vector.size for vector in vectors if vector.ndim}) != 1:
        return "its parameters are not of one length"
    if any(value.use_count or value.is_output for value in node.outputs[1:]):
        return "its statistics are read too"
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + float(epsilon))
        step = _step(node.input(0), scale, beta - mean * scale, axis, norm=True)
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
    "tf.FusedBatchNorm": _fused,
    "tf.FusedBatchNormV2": _fused,
    "tf.FusedBatchNormV3": _fused,
    "tf.BatchNormWithGlobalNormalization": _global,
}
RANKS: Mapping[str, int] = {
    "tf.Conv2D": 4,
    "tf.DepthwiseConv2dNative": 4,
    "tf.Conv2DBackpropInput": 4,
    "tf.Conv3D": 5,
    "tf.Conv3DBackpropInputV2": 5,
    "tf.MatMul": 2,
    "tf.BatchNormWithGlobalNormalization": 4,
}


def rank_of(value: Value) -> int | None:
    """Number of dimensions: the value's own, or what its operator always yields."""
    rank = value.shape.rank
    return RANKS.get(value.node.op) if rank is None else rank


# Known vectors -------------------------------------------------------------------------------------------------


def parameter(value: Value) -> Array | None:
    """The small floating-point tensor that `value` always is, as float64; None if it is not one.

    An expression of such tensors is evaluated, so that nothing depends on constants having been folded before.
    """
    held = known_tensor(value)
    if held is not None:
        if held.dtype not in FLOATS or held.nbytes > VECTOR_BYTES:
            return None
        return held.numpy().astype(np.float64)
    if value.node.op not in ARITHMETIC or (value.dtype.code and value.dtype not in FLOATS):
        return None
    computed = _evaluate(value)
    return None if computed is None or computed.nbytes > VECTOR_BYTES else computed.astype(np.float64)


def _vector_parameter(value: Value) -> Array | None:
    found = parameter(value)
    return found if found is not None and found.ndim == 1 and found.size else None


def _evaluate(value: Value) -> Array | None:
    """The value of a short expression over small known tensors, with the operator table's own evaluation."""
    order = _expression(value)
    results: dict[Node, Array] = {}
    for node in order or ():
        operator = find(node.op)
        if operator is None or operator.evaluate is None:
            return None
        operands = [_operand_array(item, results) for item in node.inputs]
        with np.errstate(all="ignore"):
            result = np.asarray(operator.evaluate(attributes(node), *operands))
        if result.nbytes > VECTOR_BYTES:
            return None
        results[node] = result
    return results.get(value.node)


def _operand_array(value: Value | None, results: Mapping[Node, Array]) -> Array:
    assert value is not None
    held = known_tensor(value)
    return results[value.node] if held is None else held.numpy()


def _expression(value: Value) -> list[Node] | None:
    """The nodes that `value` is computed with, operands first; None if one is no arithmetic on known tensors."""
    order: dict[Node, None] = {}
    opened: dict[Node, None] = {}
    pending = [value]
    while pending:
        node = pending[-1].node
        if node in order:
            pending.pop()
        elif node in opened:
            order[node] = None
            pending.pop()
        elif node.op not in ARITHMETIC or pending[-1].is_input or len(opened) == EXPRESSION_NODES:
            return None
        else:
            opened[node] = None
            for item in node.inputs:
                held = known_tensor(item)
                if held is None and item is not None:
                    pending.append(item)
                elif held is None or held.nbytes > VECTOR_BYTES:
                    return None
    return list(order)
