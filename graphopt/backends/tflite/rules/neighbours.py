"""Windows that LiteRT has no kernel for: the input moved to every place in the window, and what they are together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphopt.backends.decompositions.interpolation import image_dims
from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.windows import channels_last
from graphopt.backends.tflite.table import RULES
from graphopt.ir.ops.tf_windows import Extent, extent
from graphopt.ir.types import INT32
from graphopt.ir.value import Value

MOST_PLACES = 64  # in a window, beyond which an operator for each of them is too much
BATCH_AND_CHANNELS = 0b1001  # which are taken whole


class Sliding(NamedTuple):
    """A window along an axis: its size, its stride, its rate, and where it goes."""

    size: int
    stride: int
    rate: int
    reach: Extent


@RULES.legalize("tf.Dilation2D")
def dilation(op: Lowering) -> Value:
    """The largest sum of a neighbour and its weight: one sum for each place in the window."""
    height, width, channels = op.static(op.input(1))
    found = _sliding(op, (height, width), op.attr("strides")[1:3], op.attr("rates")[1:3])
    if not op.type.dtype.is_float:
        op.refuse(f"it is only lowered for floats, not for {op.type.dtype.name}", "build it in float32")
    rows = op.step("Reshape", op.input(1), op.integers([height * width, channels]))
    weights = op.edit.node("tf.Unpack", [rows], {"num": height * width, "axis": 0}).outputs
    largest: Value | None = None
    for moved, weight in zip(_moved(op, found, float("-inf")), weights, strict=True):
        total = op.step("AddV2", moved, weight)
        largest = total if largest is None else op.step("Maximum", largest, total)
    assert largest is not None
    return largest


@RULES.legalize("tf.MaxPoolWithArgmax")
def pool_with_places(op: Lowering) -> list[Value]:
    """A maximum over windows, and its places: the first of the largest neighbours, counted through the whole image."""
    channels_last(op)
    _, _, width, channels = image_dims(op)
    sizes, strides = op.attr("ksize"), op.attr("strides")
    if (sizes[0], sizes[3], strides[0], strides[3]) != (1, 1, 1, 1):
        op.refuse("it pools over the batch or the channels")
    attrs = {key: op.attr(key) for key in ("ksize", "strides", "padding")}
    largest = op.step("MaxPool", op.input(0), **attrs)
    places = op.node.outputs[1]
    if not places.use_count and not places.is_output:
        return [largest, places]
    found = _sliding(op, sizes[1:3], strides[1:3], (1, 1))
    moved = _moved(op, found, float(np.finfo(np.float32).min))
    stacked = op.edit.node("tf.Pack", moved, {"axis": 0, "N": len(moved)}).output
    neighbour = op.step("ArgMax", stacked, op.integers(0), output_type=INT32)
    away = [[(row * width + column) * channels for column in range(sizes[2])] for row in range(sizes[1])]
    distance = op.step("GatherV2", op.integers(np.reshape(away, -1)), neighbour, op.integers(0))
    return [largest, _counted(op, found, distance)]


def _counted(op: Lowering, found: Sequence[Sliding], distance: Value) -> Value:
    """The number of the element at `distance` from the first of each window."""
    _, height, width, channels = image_dims(op)
    rows, columns = (np.arange(item.reach.places) * item.stride - item.reach.before for item in found)
    first = (rows[:, None, None] * width + columns[:, None]) * channels + np.arange(channels)
    number = op.step("AddV2", distance, op.integers(first[None]))
    if op.attr("include_batch_in_index"):
        shape, zero, one = op.step("Shape", op.input(0), out_type=INT32), op.integers([0]), op.integers([1])
        batch = op.step("StridedSlice", shape, zero, one, one, shrink_axis_mask=1)
        images = op.step("Range", op.integers(0), batch, op.integers(1))
        images = op.step("Reshape", images, op.integers([-1, 1, 1, 1]))
        number = op.step("AddV2", number, op.step("Mul", images, op.integers(height * width * channels)))
    return op.step("Cast", number, SrcT=INT32, DstT=op.node.outputs[1].dtype)


def _sliding(op: Lowering, sizes: Sequence[int], strides: Sequence[int], rates: Sequence[int]) -> list[Sliding]:
    """The window along height and along width."""
    if sizes[0] * sizes[1] > MOST_PLACES:
        op.refuse(f"its window has {sizes[0] * sizes[1]} places, and TFLite needs an operator for each")
    found = []
    for source, size, stride, rate in zip(image_dims(op)[1:3], sizes, strides, rates, strict=True):
        reach = extent(source, size, stride, rate, op.attr("padding"))
        if not reach.places:
            op.refuse("its window fits nowhere")
        found.append(Sliding(size, stride, rate, reach))
    return found


def _moved(op: Lowering, found: Sequence[Sliding], fill: float) -> list[Value]:
    """What the windows have at each of their places, row by row; `fill` beyond the border."""
    value, pairs = op.input(0), [[sliding.reach.before, sliding.reach.after] for sliding in found]
    if any(pairs[0]) or any(pairs[1]):
        value = op.step("PadV2", value, op.integers([[0, 0], *pairs, [0, 0]]), op.scalar(fill, value))
    by = op.integers([1, *(sliding.stride for sliding in found), 1])
    masks = {"begin_mask": BATCH_AND_CHANNELS, "end_mask": BATCH_AND_CHANNELS}
    moved = []
    for place in np.ndindex(*(sliding.size for sliding in found)):
        starts = [at * sliding.rate for at, sliding in zip(place, found, strict=True)]
        ends = [
            start + (sliding.reach.places - 1) * sliding.stride + 1
            for start, sliding in zip(starts, found, strict=True)
        ]
        corner, end = op.integers([0, *starts, 0]), op.integers([0, *ends, 0])
        moved.append(op.step("StridedSlice", value, corner, end, by, **masks))
    return moved
