"""Order: the largest elements, their places, ranks and distinct elements."""

from __future__ import annotations

from typing import Any

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import as_int32, cast
from graphopt.backends.tflite.rules.kernels import compute, compute_all, narrowed
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import FLOAT32, INT32, INT64, TensorType
from graphopt.ir.value import Value


@RULES.legalize("tf.ArgMax", "tf.ArgMin")
def place_of_extremum(op: Lowering) -> Value:
    """The place of the largest or smallest element along an axis; the first of equal ones."""
    kernel = "ARG_MAX" if op.node.op == "tf.ArgMax" else "ARG_MIN"
    value = narrowed(op, op.input(0))
    dtype = op.type.dtype
    if dtype in (INT32, INT64):
        return compute(op, kernel, value, as_int32(op, op.input(1)), output_type=dtype)
    found = op.step(op.node.op_type, value, op.input(1), output_type=INT32)
    return op.step("Cast", found, SrcT=INT32, DstT=dtype, Truncate=False)


@RULES.legalize("tf.TopKV2", "tf.TopK")
def largest(op: Lowering) -> list[Value]:
    """The largest elements along the last axis and their places, in falling order."""
    many = as_int32(op, op.input(1)) if op.node.op == "tf.TopKV2" else op.integers(int(op.attr("k") or 0))
    values, places = (output.type for output in op.node.outputs)
    made = [values, TensorType(INT32, places.shape)]
    found = compute_all(op, "TOPK_V2", [op.input(0), many], made)
    return [found[0], cast(op, found[1], places.dtype)]


@RULES.legalize("tf.Unique")
def distinct(op: Lowering) -> list[Value]:
    """Distinct elements in the order in which they come, and for each element which of them it is."""
    types = [output.type for output in op.node.outputs]
    return compute_all(op, "UNIQUE", [op.input(0)], types, attrs={"idx_out_type": types[1].dtype})


@RULES.legalize("tf.UniqueWithCounts")
def distinct_with_counts(op: Lowering) -> list[Value]:
    """Distinct elements, which of them each element is, and how often each occurs."""
    dtype = op.node.outputs[1].dtype
    node = op.edit.node("tf.Unique", [op.input(0)], {"out_idx": dtype}, name=f"{op.node.name}/Unique")
    elements, places = node.outputs
    one = op.integers(1, name=f"{op.node.name}/one")
    many = op.step("Size", elements, out_type=INT32)
    numbers = places if dtype is INT32 else op.step("Cast", places, SrcT=dtype, DstT=INT32, Truncate=False)
    ones = op.step("Fill", op.step("Shape", places, out_type=INT32), one)
    counts = op.step("UnsortedSegmentSum", ones, numbers, many)
    return [elements, places, counts if dtype is INT32 else op.step("Cast", counts, SrcT=INT32, DstT=dtype)]


@RULES.legalize("tf.UniqueV2", "tf.UniqueWithCountsV2")
def distinct_along_axis(op: Lowering) -> list[Value]:
    """Distinct elements of a vector, whose one axis may be named."""
    if op.rank(op.input(0)) != 1:
        op.refuse("it looks for distinct rows of a matrix", "compute them outside of the model")
    node = op.edit.node(op.node.op.removesuffix("V2"), [op.input(0)], {"out_idx": op.node.outputs[1].dtype})
    return node.outputs


@RULES.legalize("tf.InTopK", "tf.InTopKV2")
def is_among_largest(op: Lowering) -> Value:
    """Fewer than so many classes have a higher score than the target, whose score is finite."""
    scores, targets = op.input(0), op.input(1)
    if op.node.op == "tf.InTopK":
        many = op.integers(int(op.attr("k") or 0), name=f"{op.node.name}/k")
    else:
        many = as_int32(op, op.input(2))
    axis, last = op.integers(1, name=f"{op.node.name}/axis"), op.integers([1], name=f"{op.node.name}/axes")
    column = op.step("ExpandDims", targets, axis)
    score = op.step("GatherV2", scores, column, axis, batch_dims=1)
    is_higher = op.step("Greater", scores, score)
    higher = op.step("Cast", is_higher, SrcT=is_higher.dtype, DstT=INT32, Truncate=False)
    is_among = op.step("Less", op.step("Sum", higher, last, keep_dims=False), many)
    is_finite = op.step("Squeeze", op.step("IsFinite", score), squeeze_dims=(1,))
    return op.step("LogicalAnd", is_among, is_finite)


@RULES.legalize("tf.Bucketize")
def bucket(op: Lowering) -> Value:
    """Between which boundaries each number is."""
    boundaries = tuple(float(number) for number in op.attr("boundaries") or ())
    return compute(op, "BUCKETIZE", op.input(0), boundaries=boundaries)


@RULES.legalize("tf.RandomUniform", "tf.RandomStandardNormal")
def random_numbers(op: Lowering) -> Value:
    """Random numbers, from LiteRT's own generator: seeds are kept, sequences are not TensorFlow's."""
    if op.type.dtype is not FLOAT32:
        op.refuse(f"LiteRT draws no {op.type.dtype.name}", "build it in float32")
    kernel = "RANDOM_UNIFORM" if op.node.op == "tf.RandomUniform" else "RANDOM_STANDARD_NORMAL"
    shape = as_int32(op, op.input(0))
    return op.emit(kernel, shape, seed=int(op.attr("seed") or 0), seed2=int(op.attr("seed2") or 0))


@RULES.legalize("tf.Multinomial")
def multinomial(op: Lowering) -> Value:
    """Classes drawn by their log-probabilities, from LiteRT's own generator."""
    seeds: dict[str, Any] = {"seed": int(op.attr("seed") or 0), "seed2": int(op.attr("seed2") or 0)}
    return compute(op, "MULTINOMIAL", op.input(0), as_int32(op, op.input(1)), **seeds)
