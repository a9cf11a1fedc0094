"""Boxes cut out of images and resized: the four pixels around each point are gathered, and weighted."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import FLOAT32, INT32
from graphopt.ir.value import Value


@RULES.legalize("tf.CropAndResize")
def crop_and_resize(op: Lowering) -> Value:
    """Bilinear or nearest crops; points outside the image have the value for those."""
    image, boxes, numbers = op.inputs[:3]
    height, width = (int(n) for n in op.constant_input(3, "the size of the crops"))
    dims = image.shape.dims or (None,) * 4
    if not all(isinstance(dim, int) for dim in dims[1:3]):
        op.refuse("the size of the images is not known", "give the inputs shapes (set-shapes)")
    if image.dtype is not FLOAT32:
        image = op.step("Cast", image, SrcT=image.dtype, DstT=FLOAT32)
    columns = op.edit.node("tf.Unpack", [boxes], {"num": 4, "axis": 1}, name=f"{op.node.name}/corners").outputs
    rows = _points(op, columns[0], columns[2], height, dims[1], [-1, height, 1])
    lines = _points(op, columns[1], columns[3], width, dims[2], [-1, 1, width])
    crop = op.step("Reshape", numbers, op.integers([-1, 1, 1], name=f"{op.node.name}/numbers"))
    is_near = op.text("method", "bilinear") == "nearest"
    found = _nearest(op, image, crop, rows, lines) if is_near else _bilinear(op, image, crop, rows, lines)
    inside = op.step("LogicalAnd", _is_inside(op, rows, dims[1]), _is_inside(op, lines, dims[2]))
    outside = op.scalar(float(op.attr("extrapolation_value", 0.0)), found)
    return op.step("SelectV2", op.step("ExpandDims", inside, op.integers(-1)), found, outside)


def _points(op: Lowering, start: Value, end: Value, count: int, size: object, shape: list[int]) -> Value:
    """Where each row or column of the crops is in the image, in pixels."""
    assert isinstance(size, int)
    last = float(size - 1)
    column = op.integers([-1, 1], name=f"{op.node.name}/column")
    first, far = (op.step("Reshape", value, column) for value in (start, end))
    if count == 1:
        places = op.step("Mul", op.step("AddV2", first, far), op.scalar(0.5 * last, first))
    else:
        steps = op.constant(np.arange(count, dtype=np.float32)[None, :] * (last / (count - 1)))
        begin = op.step("Mul", first, op.scalar(last, first))
        places = op.step("AddV2", begin, op.step("Mul", op.step("Sub", far, first), steps))
    return op.step("Reshape", places, op.integers(shape, name=f"{op.node.name}/points"))


def _is_inside(op: Lowering, points: Value, size: object) -> Value:
    assert isinstance(size, int)
    low = op.step("GreaterEqual", points, op.scalar(0, points))
    return op.step("LogicalAnd", low, op.step("LessEqual", points, op.scalar(size - 1, points)))


def _nearest(op: Lowering, image: Value, crop: Value, rows: Value, lines: Value) -> Value:
    return _gathered(op, image, crop, _rounded(op, rows), _rounded(op, lines))


def _rounded(op: Lowering, points: Value) -> Value:
    """The nearest whole number; of two, the larger."""
    return op.step("Floor", op.step("AddV2", points, op.scalar(0.5, points)))


def _bilinear(op: Lowering, image: Value, crop: Value, rows: Value, lines: Value) -> Value:
    top, left = op.step("Floor", rows), op.step("Floor", lines)
    bottom, right = op.step("Ceil", rows), op.step("Ceil", lines)
    last = op.integers(-1, name=f"{op.node.name}/last")
    down = op.step("ExpandDims", op.step("Sub", rows, top), last)
    along = op.step("ExpandDims", op.step("Sub", lines, left), last)

    def blended(row: Value) -> Value:
        first, second = (_gathered(op, image, crop, row, line) for line in (left, right))
        return op.step("AddV2", first, op.step("Mul", op.step("Sub", second, first), along))

    above, below = blended(top), blended(bottom)
    return op.step("AddV2", above, op.step("Mul", op.step("Sub", below, above), down))


def _gathered(op: Lowering, image: Value, crop: Value, rows: Value, lines: Value) -> Value:
    """Pixels `[boxes, height, width, channels]`; places outside are moved inside."""
    dims = image.shape.dims or ()
    places = []
    for points, size in ((rows, dims[1]), (lines, dims[2])):
        assert isinstance(size, int)
        near = op.step("Minimum", op.step("Maximum", points, op.scalar(0, points)), op.scalar(size - 1, points))
        places.append(op.step("Cast", near, SrcT=FLOAT32, DstT=INT32))
    zero = op.step("ZerosLike", op.step("AddV2", *places))
    wide = [op.step("AddV2", item, zero) for item in (crop, *places)]
    return op.step("GatherNd", image, op.step("Pack", *wide, axis=3, N=3))
