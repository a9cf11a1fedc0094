"""How much each pixel of an image counts for those of another size: weights of TensorFlow's resampling kernels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphopt.backends.legalization import Array, Lowering
from graphopt.ir.ops import find
from graphopt.ir.types import FLOAT32

Kernel = Callable[[Array], Array]


def _lanczos(radius: float) -> Kernel:
    def weigh(x: Array) -> Array:
        inside = np.sinc(x) * np.sinc(x / radius)
        return np.where(x > radius, 0.0, inside)

    return weigh


def _gaussian(x: Array) -> Array:
    return np.where(x >= 1.5, 0.0, np.exp(-x * x / (2.0 * 0.5 * 0.5)))


def _box(x: Array) -> Array:
    return np.where(x < 0.5, 1.0, np.where(x == 0.5, 0.5, 0.0))


def _triangle(x: Array) -> Array:
    return np.maximum(1.0 - x, 0.0)


def _keys(x: Array) -> Array:
    near, far = ((1.5 * x - 2.5) * x) * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x >= 2.0, 0.0, np.where(x >= 1.0, far, near))


def _mitchell(x: Array) -> Array:
    near = (((7.0 / 6.0) * x - 2.0) * x) * x + 8.0 / 9.0
    far = (((-7.0 / 18.0) * x + 2.0) * x - 10.0 / 3.0) * x + 16.0 / 9.0
    return np.where(x >= 2.0, 0.0, np.where(x >= 1.0, far, near))


# name -> radius and kernel, a function of the distance
KERNELS: dict[str, tuple[float, Kernel]] = {
    "lanczos1": (1.0, _lanczos(1.0)), "lanczos3": (3.0, _lanczos(3.0)), "lanczos5": (5.0, _lanczos(5.0)),
    "gaussian": (1.5, _gaussian), "box": (1.0, _box), "triangle": (1.0, _triangle), "keyscubic": (2.0, _keys),
    "mitchellcubic": (2.0, _mitchell),
}  # fmt: skip


def kernel_weights(name: str, source: int, wanted: int, scale: float, shift: float, smooth: bool) -> Array | None:
    """Weights `[wanted, source]` of a line of pixels for each pixel of the result; None for no kernel of this name.

    A result beyond the source has no weights at all; the others' sum to one.
    """
    if name not in KERNELS:
        return None
    radius, kernel = KERNELS[name]
    inverse = np.float32(1.0) / np.float32(scale)  # which results lie beyond the source is a matter of rounding
    offset = -inverse * np.float32(shift)
    width = max(float(inverse), 1.0) if smooth else 1.0
    weights = np.zeros((wanted, source), np.float32)
    for place in range(wanted):
        centre = float(np.float32(place + 0.5) * inverse + offset)
        if not 0.0 <= centre <= source:
            continue
        first = max(0, math.ceil(centre - radius * width - 0.5))
        last = min(source - 1, math.floor(centre + radius * width - 0.5))
        found = kernel(np.abs(np.arange(first, last + 1) + 0.5 - centre) / width)
        total = found.sum()
        if abs(total) > 1000.0 * np.finfo(np.float32).tiny:
            weights[place, first : last + 1] = found / total
    return weights


def interpolation_weights(op: Lowering) -> tuple[Array, Array]:
    """How much each row and column of images of known size counts for each of the result: what the operator itself
    makes of rows of which one alone is not zero."""
    _, height, width, _ = image_dims(op)
    sizes = op.constant_input(1, "the size")
    operator = find(op.node.op)
    if operator is None or operator.evaluate is None:
        op.refuse("how it interpolates is not known")
    attrs, weights = {**op.attrs, "T": FLOAT32}, []
    for source, wanted in ((height, int(sizes[0])), (width, int(sizes[1]))):
        lines = np.eye(source, dtype=np.float32).reshape(1, source, 1, source)
        made = operator.evaluate(attrs, lines, np.array([wanted, 1], np.int32))
        weights.append(np.asarray(made, np.float32).reshape(wanted, source))
    return weights[0], weights[1]


def scaling_weights(op: Lowering) -> tuple[Array, Array]:
    """How much each row and column counts for each of the scaled and moved image."""
    _, height, width, _ = image_dims(op)
    size, scale, shift = (op.constant_input(place, what) for place, what in ((1, "the size"), (2, "the scale"),
                                                                            (3, "the translation")))  # fmt: skip
    weights = []
    for axis, source in enumerate((height, width)):
        made = kernel_weights(
            op.text("kernel_type"), source, int(size[axis]), scale[axis], shift[axis], op.attr("antialias")
        )
        if made is None:
            op.refuse(f"its kernel '{op.text('kernel_type')}' is not known")
        weights.append(made)
    return weights[0], weights[1]


def image_dims(op: Lowering) -> tuple[object, int, int, int]:
    """Batch, height, width and channels. Refuses where the last three are not known."""
    dims = op.input(0).shape.dims
    if dims is None or len(dims) != 4:
        op.refuse("the rank of the images is not known", "give the inputs shapes (set-shapes)")
    batch, height, width, channels = dims
    if not isinstance(height, int) or not isinstance(width, int) or not isinstance(channels, int):
        op.refuse(f"the size of the images, {op.input(0).shape}, is not known", "give the inputs shapes (set-shapes)")
    return batch, height, width, channels
