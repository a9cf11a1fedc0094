"""Detection heads: overlapping boxes are suppressed by LiteRT's kernels, class by class where there are several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.tflite.custom import custom_options, described_attributes
from graphopt.backends.tflite.rules.common import as_int32, reshape
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array, known_scalar
from graphopt.ir.types import FLOAT32, INT32, Shape, TensorType
from graphopt.ir.value import Value

POSTPROCESS = "TFLite_Detection_PostProcess"
LOWEST = float(np.finfo(np.float32).min)
CLASSES = 512  # over all pictures, beyond which a kernel for each of them is too much


@RULES.legalize("tf.NonMaxSuppression", "tf.NonMaxSuppressionV2", "tf.NonMaxSuppressionV3")
def suppression(op: Lowering) -> Value:
    """Indices of the boxes that are kept. LiteRT's kernel fills them up with zeros, which are cut off."""
    overlap = op.input(3) if len(op.inputs) > 3 else op.constant(np.asarray(op.attr("iou_threshold"), np.float32))
    least = op.input(4) if len(op.inputs) > 4 else op.constant(np.asarray(LOWEST, np.float32))
    indices, count = _suppressed(op, op.input(0), op.input(1), op.input(2), overlap, least)
    return _first(op, indices, count, op.type, op.node.name)


@RULES.legalize("tf.NonMaxSuppressionV4")
def padded_suppression(op: Lowering) -> Sequence[Value]:
    """Indices of the boxes that are kept, and their number; cut off after those unless they are to be padded."""
    boxes, scores, size, overlap, least = op.inputs
    indices, count = _suppressed(op, boxes, scores, size, overlap, least)
    if op.attr("pad_to_max_output_size"):
        return indices, count
    return _first(op, indices, count, op.node.outputs[0].type, op.node.name), count


@RULES.legalize("tf.NonMaxSuppressionV5")
def soft_suppression(op: Lowering) -> Sequence[Value]:
    """Indices of the boxes that are kept, their scores, lowered where they overlap, and their number."""
    boxes, scores, size, overlap, least, sigma = op.inputs
    size, overlap = as_int32(op, size), _above(op, overlap)
    places = _places(size, op)
    types = [shaped(INT32, places), shaped(FLOAT32, places), shaped(INT32, [])]
    made = op.emit_node("NON_MAX_SUPPRESSION_V5", [boxes, scores, size, overlap, least, sigma], types, op.node.name)
    indices, kept, count = made.outputs
    if op.attr("pad_to_max_output_size"):
        return indices, kept, count
    first = _first(op, indices, count, op.node.outputs[0].type, f"{op.node.name}/indices")
    return first, _first(op, kept, count, op.node.outputs[1].type, f"{op.node.name}/scores"), count


def _places(size: Value, op: Lowering) -> list[int | None]:
    known = known_scalar(size)
    return [None if known is None else int(known)]


def _above(op: Lowering, overlap: Value) -> Value:
    """The next larger threshold: LiteRT suppresses what overlaps as much as it says, TensorFlow what overlaps more."""
    known = known_array(overlap)
    if known is None or not 0 <= float(known) < 1:
        return overlap
    return op.constant(np.nextafter(known, known.dtype.type(2)), name=f"{op.node.name}/overlap")


def _suppressed(
    op: Lowering, boxes: Value, scores: Value, size: Value, overlap: Value, least: Value, name: str | None = None
) -> tuple[Value, Value]:
    """Indices, as many as are asked for, and how many of them count."""
    size, overlap = as_int32(op, size), _above(op, overlap)
    types = [shaped(INT32, _places(size, op)), shaped(INT32, [])]
    made = op.emit_node(
        "NON_MAX_SUPPRESSION_V4", [boxes, scores, size, overlap, least], types, name or f"{op.node.name}/padded"
    )
    return made.outputs[0], made.outputs[1]


def _first(op: Lowering, vector: Value, count: Value, type: TensorType, name: str) -> Value:
    """The first `count` elements."""
    length = reshape(op, count, [1], f"{name.rpartition('/')[2]}/count")
    return op.emit("SLICE", vector, op.integers([0], f"{name}/begin"), length, type=type, name=name)


@RULES.legalize("tf.CombinedNonMaxSuppression")
def combined_suppression(op: Lowering) -> Sequence[Value]:
    """Boxes of every class are suppressed by themselves, picture by picture; then the best of all classes are taken."""
    boxes, scores, _, _, overlap, least = op.inputs
    pictures, many, shared, _ = op.static(boxes)
    classes = op.static(scores)[2]
    each_known, total_known = (int(op.constant_input(place, "the number of boxes").reshape(())) for place in (2, 3))
    if pictures * classes > CLASSES:
        op.refuse(f"it has {pictures} times {classes} classes, and TFLite needs an operator for each")
    if pictures == 0 or classes == 0 or each_known <= 0 or total_known <= 0:
        op.refuse("it yields no boxes")
    pad = op.attr("pad_per_class") and each_known * classes < total_known
    size = each_known * classes if pad else total_known
    combining = _Combining(op, op.integers(min(each_known, many)), overlap, least, min(each_known, many), size)
    listed = [op.edit.node("tf.Unpack", [value], {"num": pictures, "axis": 0}).outputs for value in (boxes, scores)]
    found = [combining.picture(boxed, scored, classes, shared) for boxed, scored in zip(*listed, strict=True)]
    if pictures == 1:
        zero = op.integers(0, f"{op.node.name}/axis")
        results = [op.source("tf.ExpandDims", value, zero) for value in found[0]]
    else:
        results = [
            op.edit.node("tf.Pack", parts, {"N": pictures, "axis": 0}).output for parts in zip(*found, strict=True)
        ]
    return results


class _Combining:
    """Makes what one picture needs: `each` boxes at most of a class, `size` in the end."""

    def __init__(self, op: Lowering, each: Value, overlap: Value, least: Value, limit: int, size: int):
        self.op, self.each, self.overlap, self.least, self.limit, self.size = op, each, overlap, least, limit, size

    def picture(self, boxes: Value, scores: Value, classes: int, shared: int) -> list[Value]:
        """Boxes, scores, classes and number of one picture, from boxes [many, shared, 4] and scores [many, classes]."""
        op, limit = self.op, self.limit
        boxed = op.edit.node("tf.Unpack", [boxes], {"num": shared, "axis": 1}).outputs
        scored = op.edit.node("tf.Unpack", [scores], {"num": classes, "axis": 1}).outputs
        kept: list[tuple[Value, Value, Value]] = []
        zero = op.integers(0, f"{op.node.name}/axis")
        for place, of_class in enumerate(scored):
            own = boxed[place if shared > 1 else 0]
            indices, count = _suppressed(op, own, of_class, self.each, self.overlap, self.least)
            gathered = [op.source("tf.GatherV2", value, indices, zero) for value in (own, of_class)]
            kept.append((gathered[0], gathered[1], count))
        all_boxes, all_scores, counts = (
            op.edit.node("tf.Pack", parts, {"N": classes, "axis": 0}).output for parts in zip(*kept, strict=True)
        )
        return self._best(all_boxes, all_scores, counts, classes * limit, classes)

    def _best(self, boxes: Value, scores: Value, counts: Value, many: int, classes: int) -> list[Value]:
        op = self.op
        lowest = op.constant(np.asarray(LOWEST, np.float32), f"{op.node.name}/lowest")
        column = op.source("tf.Reshape", counts, op.integers([classes, 1]))
        is_kept = op.source("tf.Less", op.integers([list(range(self.limit))]), column)
        ranked = op.source("tf.Reshape", op.source("tf.SelectV2", is_kept, scores, lowest), op.integers([many]))
        taken = min(self.size, many)
        best = op.edit.node("tf.TopKV2", [ranked, op.integers(taken)], {"sorted": True}).outputs
        is_there = op.source("tf.Greater", best[0], lowest)
        zero, axis = op.constant(np.asarray(0, np.float32)), op.integers(0)
        numbers = op.source("tf.FloorDiv", best[1], op.integers(self.limit))
        flat = op.source("tf.Reshape", boxes, op.integers([many, 4]))
        chosen = op.source("tf.GatherV2", flat, best[1], axis)
        if op.attr("clip_boxes"):
            one = op.constant(np.asarray(1, np.float32))
            chosen = op.source("tf.Minimum", op.source("tf.Maximum", chosen, zero), one)
        there = op.source("tf.Reshape", is_there, op.integers([taken, 1]))
        parts = [
            op.source("tf.SelectV2", there, chosen, zero),
            op.source("tf.SelectV2", is_there, best[0], zero),
            op.source("tf.SelectV2", is_there, op.source("tf.Cast", numbers, DstT=FLOAT32), zero),
        ]
        if taken < self.size:
            after = self.size - taken
            paddings = [[[0, after], [0, 0]], [[0, after]], [[0, after]]]
            parts = [op.source("tf.Pad", part, op.integers(pad)) for part, pad in zip(parts, paddings, strict=True)]
        counted = op.source("tf.Sum", op.source("tf.Cast", is_there, DstT=INT32), op.integers([0]))
        return [*parts, counted]


@RULES.legalize(f"tf.{POSTPROCESS}")
def detection_postprocess(op: Lowering) -> Sequence[Value]:
    """The operator of the detection models of TensorFlow's research repository, which LiteRT has a kernel for."""
    numbers = op.attr("max_detections"), op.attr("max_classes_per_detection")
    count = numbers[0] * numbers[1] if all(isinstance(number, int) for number in numbers) else None
    attrs = {"custom_code": POSTPROCESS.encode(), "custom_options": custom_options(described_attributes(op.node))}
    return op.emit_node("CUSTOM", op.inputs, postprocess_types(count), op.node.name, attrs).outputs


def postprocess_types(count: int | None) -> list[TensorType]:
    """Boxes, classes, scores and number of `count` detections."""
    detections = [1, count]
    shapes = [Shape([*detections, 4]), Shape(detections), Shape(detections), Shape([1])]
    return [TensorType(FLOAT32, shape) for shape in shapes]
