"""Boxes cut out of images and resized."""

from __future__ import annotations

import numpy as np

from graphopt.backends.decompositions.formulas import Terms
from graphopt.backends.decompositions.interpolation import image_dims
from graphopt.backends.legalization import Lowering
from graphopt.ir.types import FLOAT32, INT32
from graphopt.ir.value import Value


def crop_and_resize(op: Lowering) -> Value:
    """The elements around each point of each box, gathered, and what they count for; points outside get a constant."""
    _, height, width, channels = image_dims(op)
    size = op.constant_input(3, "the size of the crops").tolist()
    f = Terms(op)
    sides = op.edit.node("tf.Split", [op.integers(1), op.input(1)], {"num_split": 4}).outputs
    rows = _points(f, sides[0], sides[2], size[0], height)
    columns = _points(f, sides[1], sides[3], size[1], width)
    image = op.input(0)
    image = image if image.dtype is FLOAT32 else op.step("Cast", image, SrcT=image.dtype, DstT=FLOAT32)
    pixels = op.step("Reshape", image, op.integers([-1, channels]))
    first = op.step("Mul", op.step("Reshape", op.input(2), op.integers([-1, 1, 1])), op.integers(height * width))
    crops = _Crops(op, f, pixels, first, width)
    there = _at_columns(op, "LogicalAnd", _inside(f, rows, height), _inside(f, columns, width))
    if op.text("method", "bilinear") == "nearest":
        made = crops.gathered(_nearest(f, rows, height), _nearest(f, columns, width))
    else:
        made = crops.interpolated(_kept(f, rows, height), _kept(f, columns, width), height)
    mask = op.step("Reshape", there, op.integers([-1, *size, 1]))
    return f("SelectV2", mask, made, op.scalar(float(op.attr("extrapolation_value")), made))


def _points(f: Terms, start: Value, end: Value, count: int, source: int) -> Value:
    """Places `[boxes, count]` among `source` lines, the first and the last of them at the sides of the box."""
    if count == 1:
        return f("Mul", f("Mul", f("AddV2", start, end), 0.5), source - 1)
    distance = f("RealDiv", f("Mul", f("Sub", end, start), source - 1), count - 1)
    steps = f.op.constant(np.arange(count, dtype=np.float32)[None], name=f"{f.op.node.name}/steps")
    return f("AddV2", f("Mul", start, source - 1), f("Mul", steps, distance))


def _inside(f: Terms, points: Value, source: int) -> Value:
    return f.op.step("LogicalAnd", f("GreaterEqual", points, 0), f("LessEqual", points, source - 1))


def _kept(f: Terms, points: Value, source: int) -> Value:
    return f("Minimum", f("Maximum", points, 0), source - 1)


def _nearest(f: Terms, points: Value, source: int) -> Value:
    return _whole(f, f("Floor", f("AddV2", _kept(f, points, source), 0.5)))


def _whole(f: Terms, points: Value) -> Value:
    return f.op.step("Cast", points, SrcT=FLOAT32, DstT=INT32)


def _at_columns(op: Lowering, kind: str, rows: Value, columns: Value) -> Value:
    """`kind` of every row with every column of a box, `[boxes, rows, columns]`."""
    return op.step(kind, op.step("ExpandDims", rows, op.integers(2)), op.step("ExpandDims", columns, op.integers(1)))


class _Crops:
    """Gathers pixels of boxes, from `pixels` with one row each; those of a box's image begin at `first`."""

    def __init__(self, op: Lowering, f: Terms, pixels: Value, first: Value, width: int):
        self.op, self.f, self.pixels, self.first, self.width = op, f, pixels, first, width

    def gathered(self, rows: Value, columns: Value) -> Value:
        """The pixels at integer places, `[boxes, rows, columns, channels]`."""
        op = self.op
        lines = op.step("Mul", rows, op.integers(self.width))
        places = op.step("AddV2", _at_columns(op, "AddV2", lines, columns), self.first)
        return op.step("GatherV2", self.pixels, places, op.integers(0))

    def interpolated(self, rows: Value, columns: Value, height: int) -> Value:
        """What lies between the four pixels around each point."""
        f, op = self.f, self.op
        top, left = f("Floor", rows), f("Floor", columns)
        bottom, right = f("Minimum", f("AddV2", top, 1), height - 1), f("Minimum", f("AddV2", left, 1), self.width - 1)
        down = op.step("Reshape", f("Sub", rows, top), op.integers([-1, rows.shape[-1], 1, 1]))
        across = op.step("Reshape", f("Sub", columns, left), op.integers([-1, 1, columns.shape[-1], 1]))
        sides = []
        for line in (top, bottom):
            near, far = (self.gathered(_whole(f, line), _whole(f, side)) for side in (left, right))
            sides.append(f("AddV2", near, f("Mul", f("Sub", far, near), across)))
        return f("AddV2", sides[0], f("Mul", f("Sub", sides[1], sides[0]), down))
