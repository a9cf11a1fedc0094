"""Images in another size."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.xla.emission import Emission, reference
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


@RULES.lower("tf.ResizeBicubic", "tf.ResizeArea")
def resize_by_weights(op: Emission) -> Operand:
    """Rows, and then columns, times the weights that they have in the result."""
    b, made = op.build, op.build.convert(op.input(0), FLOAT32)
    evaluate = reference(op)
    for axis, size in ((1, op.static()[1]), (2, op.static()[2])):
        before = made.static[axis]
        units = np.eye(before, dtype=np.float32).reshape(1, before, 1, before)
        weights = np.asarray(evaluate(units, np.array([size, 1], np.int32))).reshape(size, before)
        made = b.dot_general(made, b.constant(weights, FLOAT32), ((), ()), ((axis,), (1,)), full=True)
        made = b.transpose(made, [*range(axis), made.rank - 1, *range(axis, made.rank - 1)])
    return made


@RULES.lower("tf.ScaleAndTranslate")
def scale_and_translate(op: Emission) -> Operand:
    """Rows, and then columns, times a kernel moved to where each one of the result lies."""
    b, made = op.build, op.build.convert(op.input(0), FLOAT32)
    scales, shifts = (op.constant_input(place, what) for place, what in ((2, "the scale"), (3, "the translation")))
    kernel = KERNELS.get(op.text("kernel_type", "lanczos3"))
    if kernel is None:
        op.refuse(f"its kernel is {op.text('kernel_type')}", "use lanczos, gaussian, triangle, cubic or box")
    for place, axis in enumerate((1, 2)):
        size = (made.static[axis], op.static()[axis])
        numbers = float(scales.reshape(-1)[place]), float(shifts.reshape(-1)[place])
        weights = b.constant(_spans(*size, *numbers, kernel, bool(op.attr("antialias", True))), FLOAT32)
        made = b.dot_general(made, weights, ((), ()), ((axis,), (1,)), full=True)
        made = b.transpose(made, [*range(axis), made.rank - 1, *range(axis, made.rank - 1)])
    return made


def _lanczos(radius: int) -> Any:
    return lambda x: np.sinc(x) * np.sinc(x / radius)


def _cubic(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    inner, outer = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, outer)


KERNELS: dict[str, tuple[float, Any]] = {  # radius, and weight at a distance within it
    "lanczos1": (1.0, _lanczos(1)), "lanczos3": (3.0, _lanczos(3)), "lanczos5": (5.0, _lanczos(5)),
    "gaussian": (1.5, lambda x: np.exp(-2.0 * x * x)), "triangle": (1.0, lambda x: 1 - x),
    "box": (0.5, lambda x: np.ones_like(x)), "keyscubic": (2.0, _cubic),
}  # fmt: skip


def _spans(
    before: int, after: int, scale: float, shift: float, kernel: tuple[float, Any], antialias: bool
) -> np.ndarray[Any, Any]:
    """Weights `[after, before]` of each element; rows that lie outside of the image are zero."""
    radius, weigh = kernel
    inverse = 1 / scale
    stretch = max(inverse, 1.0) if antialias else 1.0
    centres = (np.arange(after) + 0.5) * inverse - inverse * shift
    distances = np.abs(np.arange(before) + 0.5 - centres[:, None]) / stretch
    weights = np.where(distances <= radius, weigh(distances), 0.0)
    total = weights.sum(1, keepdims=True)
    is_inside = ((centres >= 0) & (centres <= before))[:, None] & (np.abs(total) > 1e-6)
    return np.where(is_inside, weights / np.where(total == 0, 1, total), 0).astype(np.float32)
