"""Images in another size."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.indexing import take
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import FLOAT32


@RULES.lower("tf.ResizeNearestNeighbor")
def resize_nearest(op: Emission) -> Operand:
    """The nearest pixel; each repeated where the size grows by a whole number."""
    made = op.input(0)
    for axis, size in ((1, op.static()[1]), (2, op.static()[2])):
        before = made.static[axis]
        is_plain = not op.attr("align_corners") and size % before == 0
        if is_plain:
            made = _repeated(op, made, axis, size // before)
        else:
            made = take(op, made, op.build.integers(_nearest(op, before, size).tolist()), axis)
    return made


def _repeated(op: Emission, x: Operand, axis: int, times: int) -> Operand:
    if times == 1:
        return x
    dims = (*x.dims[: axis + 1], times, *x.dims[axis + 1 :])
    axes = [place for place in range(x.rank + 1) if place != axis + 1]
    wide = op.build.broadcast(x, dims, axes)
    return op.build.reshape(wide, (*x.dims[:axis], x.dims[axis] * times, *x.dims[axis + 1 :]))


def _scale(op: Emission, before: int, after: int) -> np.float32:
    if op.attr("align_corners") and after > 1:
        return np.float32(before - 1) / np.float32(after - 1)
    return np.float32(before) / np.float32(after)


def _nearest(op: Emission, before: int, after: int) -> np.ndarray[Any, Any]:
    places = np.arange(after, dtype=np.float32)
    scaled = (places + np.float32(0.5 if op.attr("half_pixel_centers") else 0)) * _scale(op, before, after)
    whole = np.floor(scaled + np.float32(0.5)) if op.attr("align_corners") else np.floor(scaled)
    return np.clip(whole, 0, before - 1).astype(np.int32)


@RULES.lower("tf.ResizeBilinear")
def resize_bilinear(op: Emission) -> Operand:
    """Between the two nearest rows, and between the two nearest columns."""
    b, made = op.build, op.build.convert(op.input(0), FLOAT32)
    for axis, size in ((1, op.static()[1]), (2, op.static()[2])):
        before = made.static[axis]
        if before == size:
            continue
        places = np.arange(size, dtype=np.float32)
        scale = _scale(op, before, size)
        if op.attr("half_pixel_centers"):
            at = (places + np.float32(0.5)) * scale - np.float32(0.5)
        else:
            at = places * scale
        floor = np.floor(at)
        lower = np.maximum(floor, 0).astype(np.int32)
        upper = np.minimum(np.ceil(at), before - 1).astype(np.int32)
        weight = b.constant((at - floor).astype(np.float32), FLOAT32)
        first = take(op, made, b.integers(lower.tolist()), axis)
        second = take(op, made, b.integers(np.maximum(upper, 0).tolist()), axis)
        share = b.broadcast(weight, first.dims, (axis,))
        made = b.add(first, b.mul(b.sub(second, first), share))
    return made
