"""Detection heads: boxes are suppressed by ONNX's operator, the best of all classes are chosen behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.onnx.rules.common import as_int64, cast, longs, reshape, transpose
from graphopt.backends.onnx.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.types import BOOL, FLOAT32, INT32, INT64, TensorType
from graphopt.ir.value import Value

PLUGIN = "TRT.EfficientNMS_TRT"
LOWEST = float(np.finfo(np.float32).min)


def _vector(op: Lowering, value: Value, name: str) -> Value:
    """A scalar as a vector of one."""
    array = known_array(value)
    if array is not None:
        return op.constant(array.reshape(1), name=f"{op.node.name}/{name}")
    return reshape(op, value, [1], name)


def _suppressed(op: Lowering, boxes: Value, scores: Value, size: Value, overlap: Value, least: Value) -> Value:
    """Rows of picture, class and box, int64, of boxes [pictures, many, 4] and scores [pictures, classes, many]."""
    operands = (
        boxes, scores, _vector(op, as_int64(op, size), "size"), _vector(op, overlap, "overlap"),
        _vector(op, least, "least"),
    )  # fmt: skip
    return op.emit(
        "NonMaxSuppression", *operands, type=shaped(INT64, [None, 3]), name=f"{op.node.name}/rows", center_point_box=0
    )


def _indices(op: Lowering) -> Value:
    """Places of the boxes of one picture and class that are kept, best first."""
    overlap = op.input(3) if len(op.inputs) > 3 else op.constant(np.asarray(op.attr("iou_threshold"), np.float32))
    least = op.input(4) if len(op.inputs) > 4 else op.constant(np.asarray(LOWEST, np.float32))
    dims = op.input(0).shape.dims
    many = dims[0] if dims and isinstance(dims[0], int) else None
    boxes = reshape(op, op.input(0), [1, many, 4], "boxes")
    rows = _suppressed(op, boxes, reshape(op, op.input(1), [1, 1, many], "scores"), op.input(2), overlap, least)
    column = op.emit(
        "Gather", rows, op.constant(np.array(2, np.int64)), type=shaped(INT64, [None]), name=f"{op.node.name}/column",
        axis=1,
    )  # fmt: skip
    return cast(op, column, INT32)


@RULES.legalize("tf.NonMaxSuppression", "tf.NonMaxSuppressionV2", "tf.NonMaxSuppressionV3")
def suppression(op: Lowering) -> Value:
    """Places of the boxes that are kept."""
    return op.emit("Identity", _indices(op))


@RULES.legalize("tf.NonMaxSuppressionV4", "tf.NonMaxSuppressionV5")
def padded_suppression(op: Lowering) -> Sequence[Value]:
    """Places of the boxes that are kept, their scores and their number; padded with zeros where that is wanted."""
    is_soft = op.node.op == "tf.NonMaxSuppressionV5"
    if is_soft and float(op.constant_input(5, "sigma").reshape(())) != 0:
        op.refuse("it lowers the scores of boxes that overlap, and ONNX leaves them out", "set sigma to zero")
    indices = _indices(op)
    axis = op.integers(0, f"{op.node.name}/axis")
    count = op.source("tf.Size", indices, out_type=INT32)
    results = [indices]
    if is_soft:
        results.append(op.source("tf.GatherV2", op.input(1), indices, axis))
    if op.attr("pad_to_max_output_size"):
        size = int(op.constant_input(2, "the number of boxes").reshape(()))
        results = [_filled(op, value, size) for value in results]
    return [*results, count]


def _filled(op: Lowering, value: Value, size: int) -> Value:
    """The vector with zeros behind it, `size` elements in all."""
    zeros = op.constant(np.zeros(size, value.dtype.numpy), name=f"{op.node.name}/zeros")
    longer = op.emit(
        "Concat", value, zeros, type=shaped(value.dtype, [None]), name=f"{op.node.name}/longer", axis=0
    )  # fmt: skip
    starts, ends, axes = (longs(op, [n], name) for n, name in ((0, "starts"), (size, "ends"), (0, "axes")))
    return op.emit("Slice", longer, starts, ends, axes, type=shaped(value.dtype, [size]), name=f"{op.node.name}/filled")


@RULES.legalize("tf.CombinedNonMaxSuppression")
def combined_suppression(op: Lowering) -> Sequence[Value]:
    """All classes of all pictures are suppressed at once; what is left is a mask, under which the best are taken."""
    if op.options.efficient_nms:
        return _by_plugin(op)
    boxes, scores, _, _, overlap, least = op.inputs
    pictures, many, shared, _ = op.static(boxes)
    classes = op.static(scores)[2]
    each, total = (int(op.constant_input(place, "the number of boxes").reshape(())) for place in (2, 3))
    if not (pictures and classes and many) or each <= 0 or total <= 0:
        op.refuse("it yields no boxes")
    size = each * classes if op.attr("pad_per_class") and each * classes < total else total
    own = transpose(op, boxes, (0, 2, 1, 3), "by_class")
    listed = transpose(op, scores, (0, 2, 1), "scores_by_class")
    if shared > 1:
        own, listed = reshape(op, own, [-1, many, 4], "own"), reshape(op, listed, [-1, 1, many], "listed")
    else:
        own = reshape(op, own, [pictures, many, 4], "own")
    rows = _suppressed(op, own, listed, op.integers(min(each, many)), overlap, least)
    left = reshape(op, _masked(op, rows, listed), [pictures, classes * many], "left")
    return _best(op, left, (pictures, classes, many, shared), size)


def _masked(op: Lowering, rows: Value, scores: Value) -> Value:
    """The scores of the boxes in `rows`, the lowest number for all others."""
    dims = op.static(scores)
    name = op.node.name
    shape = op.emit("Shape", rows, type=shaped(INT64, [1]), name=f"{name}/count", start=0, end=1)
    one = op.constant(np.array([True]), name=f"{name}/true")
    kept = op.emit("Expand", one, shape, type=shaped(BOOL, [None]), name=f"{name}/kept")
    nothing = op.constant(np.zeros(dims, np.bool_), name=f"{name}/nothing")
    mask = op.emit("ScatterND", nothing, rows, kept, type=shaped(BOOL, dims), name=f"{name}/mask")
    lowest = op.constant(np.asarray(LOWEST, np.float32), name=f"{name}/lowest")
    return op.emit("Where", mask, scores, lowest, type=TensorType(FLOAT32, scores.shape), name=f"{name}/masked")


def _best(op: Lowering, scores: Value, sizes: tuple[int, int, int, int], size: int) -> list[Value]:
    """Boxes, scores, classes and number of the best of each picture, from scores [pictures, classes * many]."""
    pictures, classes, many, shared = sizes
    taken = min(size, classes * many)
    best, places = op.edit.node("tf.TopKV2", [scores, op.integers(taken)], {"sorted": True}).outputs
    lowest = op.constant(np.asarray(LOWEST, np.float32))
    zero = op.constant(np.asarray(0, np.float32))
    is_there = op.source("tf.Greater", best, lowest)
    numbers = op.source("tf.FloorDiv", places, op.integers(many))
    box = op.source("tf.FloorMod", places, op.integers(many))
    row = op.source("tf.AddV2", op.source("tf.Mul", box, op.integers(shared)), numbers) if shared > 1 else box
    first = op.integers(np.arange(pictures)[:, None] * many * shared)
    flat = op.source("tf.Reshape", op.input(0), op.integers([pictures * many * shared, 4]))
    chosen = op.source("tf.GatherV2", flat, op.source("tf.AddV2", row, first), op.integers(0))
    if op.attr("clip_boxes"):
        one = op.constant(np.asarray(1, np.float32))
        chosen = op.source("tf.Minimum", op.source("tf.Maximum", chosen, zero), one)
    there = op.source("tf.Reshape", is_there, op.integers([pictures, taken, 1]))
    parts = [
        op.source("tf.SelectV2", there, chosen, zero),
        op.source("tf.SelectV2", is_there, best, zero),
        op.source("tf.SelectV2", is_there, op.source("tf.Cast", numbers, DstT=FLOAT32), zero),
    ]
    if taken < size:
        pad = [0, size - taken]
        paddings = [[[0, 0], pad, [0, 0]], [[0, 0], pad], [[0, 0], pad]]
        parts = [op.source("tf.Pad", part, op.integers(rows)) for part, rows in zip(parts, paddings, strict=True)]
    counted = op.source("tf.Sum", op.source("tf.Cast", is_there, DstT=INT32), op.integers([1]))
    return [*parts, counted]


def _by_plugin(op: Lowering) -> Sequence[Value]:
    """TensorRT's plugin, which knows no most boxes of one class: it is asked for the most boxes in all."""
    boxes, scores = op.input(0), op.input(1)
    each, total = (int(op.constant_input(place, "the number of boxes").reshape(())) for place in (2, 3))
    overlap = float(op.constant_input(4, "the overlap").reshape(()))
    least = float(op.constant_input(5, "the least score").reshape(()))
    if each < total:
        op.refuse(
            f"it takes {each} boxes of a class and {total} in all, and the plugin knows no most of a class",
            "leave --efficient-nms out, or let each class have as many boxes as there are in all",
        )
    dims = op.type.shape.dims
    pictures = dims[0] if dims else None
    kinds = [
        shaped(INT32, [pictures, 1]), shaped(FLOAT32, [pictures, total, 4]), shaped(FLOAT32, [pictures, total]),
        shaped(INT32, [pictures, total]),
    ]  # fmt: skip
    attrs = {
        "plugin_version": b"1", "background_class": -1, "max_output_boxes": total, "score_threshold": least,
        "iou_threshold": overlap, "score_activation": 0, "class_agnostic": 0, "box_coding": 0,
    }  # fmt: skip
    made = op.edit.node(PLUGIN, (boxes, scores), attrs, types=kinds, name=f"{op.node.name}/plugin")
    count, chosen, best, numbers = made.outputs
    if op.attr("clip_boxes"):
        zero, one = (op.constant(np.asarray(number, np.float32)) for number in (0, 1))
        chosen = op.source("tf.Minimum", op.source("tf.Maximum", chosen, zero), one)
    return [
        op.source("tf.Identity", chosen), op.source("tf.Identity", best), op.source("tf.Cast", numbers, DstT=FLOAT32),
        op.source("tf.Reshape", count, op.integers([-1])),
    ]  # fmt: skip
