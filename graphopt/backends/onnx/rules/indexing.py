"""Gathering, scattering, choosing, ordering."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import as_int64, cast, longs
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import BOOL, INT64, Shape, TensorType
from graphopt.ir.value import Value


@RULES.legalize("tf.GatherV2", "tf.Gather", "tf.ResourceGather")
def gather(op: Lowering) -> Value:
    """Slices along an axis, chosen by indices."""
    if op.attr("batch_dims"):
        op.refuse("its indices differ from batch to batch")
    axis = int(op.constant_input(2, "the axis")) if op.node.op == "tf.GatherV2" else 0
    return op.emit("Gather", op.input(0), op.input(1), axis=axis)


@RULES.legalize("tf.GatherNd")
def gather_nd(op: Lowering) -> Value:
    """Elements or slices, each chosen by a vector of indices."""
    return op.emit("GatherND", op.input(0), as_int64(op, op.input(1)))


@RULES.legalize("tf.TensorScatterUpdate", "tf.TensorScatterAdd", "tf.TensorScatterMax", "tf.TensorScatterMin")
def scatter(op: Lowering) -> Value:
    """A tensor with some slices replaced, added to, or compared with."""
    kinds = {"Update": b"none", "Add": b"add", "Max": b"max", "Min": b"min"}
    kind = kinds[op.node.op_type.removeprefix("TensorScatter")]
    return op.emit("ScatterND", op.input(0), as_int64(op, op.input(1)), op.input(2), reduction=kind)


@RULES.legalize("tf.ScatterNd")
def scatter_into_zeros(op: Lowering) -> Value:
    """Slices added to a tensor of zeros."""
    zero = np.zeros(1, op.type.dtype.numpy)
    from graphopt.ir.tensors import tensor

    zeros = op.emit("ConstantOfShape", as_int64(op, op.input(2)), value=tensor(zero), name=f"{op.node.name}/zeros")
    return op.emit("ScatterND", zeros, as_int64(op, op.input(0)), op.input(1), reduction=b"add")


@RULES.legalize("tf.OneHot")
def one_hot(op: Lowering) -> Value:
    """A row of one value, with another at the index; an index out of bounds has none, a negative one neither."""
    depth = op.constant_input(1, "the depth")
    indices = as_int64(op, op.input(0))
    size = longs(op, [int(depth)], "depth")
    limit = op.constant(np.array(int(depth), np.int64))
    none = op.emit(
        "Where",
        op.emit(
            "Less",
            indices,
            op.constant(np.array(0, np.int64)),
            type=TensorType(BOOL, indices.shape),
            name=f"{op.node.name}/below",
        ),
        limit,
        indices,
        type=indices.type,
        name=f"{op.node.name}/indices",
    )
    off, on = op.input(3), op.input(2)
    axes = longs(op, [0], "axes")
    pair = [
        op.emit("Unsqueeze", value, axes, type=TensorType(value.dtype, Shape((1,))), name=f"{op.node.name}/value")
        for value in (off, on)
    ]
    values = op.emit(
        "Concat", *pair, type=TensorType(op.type.dtype, Shape((2,))), name=f"{op.node.name}/values", axis=0
    )
    return op.emit("OneHot", none, size, values, axis=int(op.attr("axis")))


@RULES.legalize("tf.TopKV2")
def top_k(op: Lowering) -> list[Value | None]:
    """The largest elements of each row, and their places."""
    count = int(op.constant_input(1, "how many"))
    kinds = [op.node.outputs[0].type, TensorType(INT64, op.node.outputs[1].shape)]
    node = op.emit_node(
        "TopK",
        (op.input(0), longs(op, [count], "k")),
        kinds,
        f"{op.node.name}/top",
        {"axis": -1, "largest": 1, "sorted": 1},
    )
    places = cast(op, node.outputs[1], op.node.outputs[1].dtype)
    return [op.emit("Identity", node.outputs[0]), places]


@RULES.legalize("tf.Where")
def where(op: Lowering) -> Value:
    """Places of elements that are not zero, one row each."""
    found = op.emit("NonZero", op.input(0), type=TensorType(INT64, Shape(None)), name=f"{op.node.name}/columns")
    return op.emit("Transpose", found, perm=(1, 0))


@RULES.legalize("tf.ReverseSequence")
def reverse_sequence(op: Lowering) -> Value:
    """The beginning of each sequence backwards."""
    return op.emit(
        "ReverseSequence", op.input(0), as_int64(op, op.input(1)), batch_axis=int(op.attr("batch_dim")),
        time_axis=int(op.attr("seq_dim")),
    )  # fmt: skip


@RULES.legalize("tf.MatrixBandPart")
def band_part(op: Lowering) -> Value:
    """A triangle of each matrix; other bands are two triangles."""
    lower, upper = int(op.constant_input(1, "the lower bound")), int(op.constant_input(2, "the upper bound"))
    value = op.input(0)
    if lower >= 0:
        value = op.emit("Trilu", value, op.constant(np.array(-lower, np.int64)), name=f"{op.node.name}/upper", upper=1)
    if upper >= 0:
        value = op.emit("Trilu", value, op.constant(np.array(upper, np.int64)), name=f"{op.node.name}/lower", upper=0)
    return value
