"""Operators of TensorFlow: colours. Images are any arrays whose last dimension is the three channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_windows import merge_dims, widened
from graphopt.ir.types import Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]


def _at_least(rank: int, channels: int | None) -> Any:
    def infer(context: InferenceContext) -> Sequence[Shape]:
        shape = context.shape(0)
        if shape.dims is None:
            return [shape]
        if len(shape.dims) < rank:
            raise InferenceError(f"images must have rank {rank} at least, not shape {shape}")
        if channels is None:
            return [shape]
        return [Shape((*shape.dims[:-1], merge_dims(shape[-1], channels, "the number of channels")))]

    return infer


def _check(images: Array, rank: int) -> None:
    if images.ndim < rank or images.shape[-1] != 3:
        raise ValueError(f"images must have rank {rank} and three channels, not shape {list(images.shape)}")


def to_hsv(images: Array) -> Array:
    """Hue, saturation and value of red, green and blue."""
    red, green, blue = (images[..., channel] for channel in range(3))
    value = images.max(-1)
    spread = value - images.min(-1)
    one = images.dtype.type(1)
    with np.errstate(all="ignore"):
        saturation = np.where(value > 0, spread / value, 0)
        unit = one / (6 * spread)
        hue = np.where(
            red == value,
            unit * (green - blue),
            np.where(green == value, unit * (blue - red) + one * 2 / 6, unit * (red - green) + one * 4 / 6),
        )
        hue = np.where(spread > 0, hue, 0)
        hue = np.where(hue < 0, hue + 1, hue)
    return np.stack([hue, saturation, value], -1).astype(images.dtype)


def to_rgb(images: Array) -> Array:
    """Red, green and blue of hue, saturation and value."""
    hue, saturation, value = (images[..., channel] for channel in range(3))
    with np.errstate(all="ignore"):
        sixths = hue * 6
        shades = [
            np.clip(np.abs(sixths - 3) - 1, 0, 1),
            np.clip(2 - np.abs(sixths - 2), 0, 1),
            np.clip(2 - np.abs(sixths - 4), 0, 1),
        ]
        mixed = [((1 - saturation) + saturation * shade) * value for shade in shades]
    return np.stack(mixed, -1).astype(images.dtype)


def _rgb_to_hsv(attrs: Attrs, images: Array) -> Array:
    _check(images, 1)
    return to_hsv(widened(images)).astype(images.dtype, copy=False)


def _hsv_to_rgb(attrs: Attrs, images: Array) -> Array:
    _check(images, 1)
    return to_rgb(widened(images)).astype(images.dtype, copy=False)


def _adjust_contrast(attrs: Attrs, images: Array, factor: Array) -> Array:
    """Each channel of each image stretched about its mean."""
    if images.ndim < 3 or factor.ndim:
        raise ValueError(f"the contrast of shape {list(images.shape)} cannot be adjusted")
    if images.size == 0:
        return images.copy()
    wide = widened(images)
    with np.errstate(all="ignore"):
        mean = wide.mean((-3, -2), keepdims=True, dtype=np.float64).astype(np.float32)
        return np.asarray((wide - mean) * factor + mean).astype(images.dtype, copy=False)


def _adjust_hue(attrs: Attrs, images: Array, delta: Array) -> Array:
    _check(images, 3)
    hue, spread, low = _hue_and_range(widened(images))
    with np.errstate(all="ignore"):
        turned = hue + delta * np.float32(6)
        turned = np.where(turned < 0, turned + 6, turned)
        turned = np.where(turned > 6, turned - 6, turned)
    return _from_hue(turned, spread, low).astype(images.dtype, copy=False)


def _hue_and_range(images: Array) -> tuple[Array, Array, Array]:
    """Hue between 0 and 6, the largest channel less the smallest, and the smallest."""
    red, green, blue = (images[..., channel] for channel in range(3))
    high, low = images.max(-1), images.min(-1)
    spread = high - low
    with np.errstate(all="ignore"):
        hue = np.where(
            red == high,
            (green - blue) / spread,
            np.where(green == high, (blue - red) / spread + 2, (red - green) / spread + 4),
        )
        hue = np.where(spread > 0, np.where(hue < 0, hue + 6, hue), 0)
    return hue, spread, low


def _from_hue(hue: Array, spread: Array, low: Array) -> Array:
    shades = [np.abs(hue - 3) - 1, 2 - np.abs(hue - 2), 2 - np.abs(hue - 4)]
    return np.stack([low + spread * np.clip(shade, 0, 1) for shade in shades], -1)


def _adjust_saturation(attrs: Attrs, images: Array, scale: Array) -> Array:
    _check(images, 3)
    with np.errstate(all="ignore"):
        hsv = to_hsv(widened(images))
        hsv[..., 1] = np.clip(hsv[..., 1] * scale, 0, 1)
    return to_rgb(hsv).astype(images.dtype, copy=False)


register("tf.RGBToHSV", shape=_at_least(1, 3), evaluate=_rgb_to_hsv)
register("tf.HSVToRGB", shape=_at_least(1, 3), evaluate=_hsv_to_rgb)
register("tf.AdjustContrastv2", shape=_at_least(3, None), evaluate=_adjust_contrast)
register("tf.AdjustContrast", shape=_at_least(3, None))
register("tf.AdjustHue", shape=_at_least(3, None), evaluate=_adjust_hue)
register("tf.AdjustSaturation", shape=_at_least(3, None), evaluate=_adjust_saturation)
