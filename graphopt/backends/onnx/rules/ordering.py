"""Order: the largest elements, their places, distinct elements, buckets."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import as_int64, cast, longs
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import FLOAT32, INT32, INT64, Shape, TensorType
from graphopt.ir.value import Value


@RULES.legalize("tf.TopKV2", "tf.TopK")
def top_k(op: Lowering) -> list[Value | None]:
    """The largest elements of each row, and their places."""
    if op.node.op == "tf.TopK":
        many = longs(op, [int(op.attr("k"))], "k")
    elif (held := op.known(1)) is not None:
        many = longs(op, [int(held.reshape(()))], "k")
    else:
        many = as_int64(op, op.step("Reshape", op.input(1), op.integers([1], name=f"{op.node.name}/one")))
    values, places = op.node.outputs
    kinds = [values.type, TensorType(INT64, places.shape)]
    attrs = {"axis": -1, "largest": 1, "sorted": 1}
    node = op.emit_node("TopK", (op.input(0), many), kinds, f"{op.node.name}/top", attrs)
    return [node.outputs[0], cast(op, node.outputs[1], places.dtype)]


@RULES.legalize("tf.Unique", "tf.UniqueWithCounts", "tf.UniqueV2", "tf.UniqueWithCountsV2")
def distinct(op: Lowering) -> list[Value]:
    """Distinct elements in the order in which they come, which of them each element is, and how often each occurs."""
    if op.node.op.endswith("V2") and op.rank(op.input(0)) != 1:
        op.refuse("it compares slices along an axis")
    elements, places = op.node.outputs[:2]
    counted = [TensorType(INT64, kind) for kind in (elements.shape, places.shape, elements.shape)]
    made = op.emit_node("Unique", (op.input(0),), [elements.type, *counted], f"{op.node.name}/distinct", {"sorted": 0})
    found = [made.outputs[0], cast(op, made.outputs[2], places.dtype)]
    return found if len(op.node.outputs) == 2 else [*found, cast(op, made.outputs[3], places.dtype)]


@RULES.legalize("tf.InTopK", "tf.InTopKV2")
def is_among_largest(op: Lowering) -> Value:
    """Fewer than so many classes have a higher score than the target, whose score is finite."""
    scores, targets = op.input(0), op.input(1)
    many = op.constant(np.asarray(op.attr("k"), np.int64)) if op.node.op == "tf.InTopK" else as_int64(op, op.input(2))
    axis, last = op.integers(1, name=f"{op.node.name}/axis"), op.integers([1], name=f"{op.node.name}/axes")
    score = op.step("GatherV2", scores, op.step("ExpandDims", targets, axis), axis, batch_dims=1)
    is_higher = op.step("Greater", scores, score)
    higher = op.step("Sum", op.step("Cast", is_higher, SrcT=is_higher.dtype, DstT=INT64), last, keep_dims=False)
    is_finite = op.step("Squeeze", op.step("IsFinite", score), squeeze_dims=(1,))
    return op.step("LogicalAnd", op.step("Less", higher, many), is_finite)


@RULES.legalize("tf.Bucketize")
def bucket(op: Lowering) -> Value:
    """Between which boundaries each number is: how many of them it is not below."""
    value = op.input(0)
    boundaries = np.array(op.attr("boundaries") or (), np.float32)
    if value.dtype.is_integer:
        boundaries = np.ceil(boundaries)
    held = op.constant(boundaries.astype(value.dtype.numpy), name=f"{op.node.name}/boundaries")
    last = op.integers(-1, name=f"{op.node.name}/last")
    is_above = op.step("GreaterEqual", op.step("ExpandDims", value, last), held)
    counted = op.step("Cast", is_above, SrcT=is_above.dtype, DstT=INT32)
    return op.step("Sum", counted, op.integers([-1], name=f"{op.node.name}/axes"), keep_dims=False)


@RULES.legalize("tf.Bincount", "tf.DenseBincount")
def bin_count(op: Lowering) -> Value:
    """How often each number below a size occurs, whether it does, or the sum of its weights, in each row."""
    numbers, size, weights = op.inputs
    rank = op.rank(numbers)
    on, off = (op.constant(np.asarray(number, op.type.dtype.numpy)) for number in (1, 0))
    hot = op.step("OneHot", numbers, size, on, off, axis=-1)
    if weights.shape.size != 0 and not op.attr("binary_output"):
        hot = op.step("Mul", hot, op.step("ExpandDims", weights, op.integers(-1, name=f"{op.node.name}/last")))
    counted = range(rank) if op.node.op == "tf.Bincount" else range(max(rank - 1, 0), rank)
    axes = op.integers(list(counted), name=f"{op.node.name}/axes")
    return op.step("Max" if op.attr("binary_output") else "Sum", hot, axes, keep_dims=False)


@RULES.legalize("tf.RandomShuffle")
def shuffled(op: Lowering) -> Value:
    """Rows in an order drawn at random: that of random numbers."""
    value = op.input(0)
    shape = op.step("Slice", op.step("Shape", value, out_type=INT32), op.integers([0]), op.integers([1]))
    drawn = op.step("RandomUniform", shape, dtype=FLOAT32)
    kinds = [TensorType(FLOAT32, Shape([None])), TensorType(INT64, Shape([None]))]
    attrs = {"axis": 0, "largest": 1, "sorted": 1}
    node = op.emit_node("TopK", (drawn, as_int64(op, shape)), kinds, f"{op.node.name}/order", attrs)
    return op.emit("Gather", value, node.outputs[1], axis=0)
