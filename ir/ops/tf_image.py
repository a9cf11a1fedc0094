"""Operators of TensorFlow: image: resizing, cropping, warping. Images are `[n, rows, columns, channels]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.registry import ShapeFunction, register
from graphopt.ir.ops.tf_windows import check_size, merge_dims, ranked
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
CUBIC_STEPS = 1 << 10  # TensorFlow reads its cubic weights from a table of this many steps


# Shapes -------------------------------------------------------------------------------------------------------


def _size_input(context: InferenceContext, index: int) -> tuple[Dim, Dim]:
    """Rows and columns from an input that holds the two."""
    if ranked(context.shape(index), 1, "the size")[0] not in (2, None) and context.shape(index).is_static:
        raise InferenceError(f"the size must be two numbers, not of shape {context.shape(index)}")
    dims = context.as_shape(index).dims
    return (None, None) if dims is None or len(dims) != 2 else (dims[0], dims[1])


def resized_shape(context: InferenceContext) -> Sequence[Shape]:
    """Images of the size in input 1."""
    images = ranked(context.shape(0), 4, "the images")
    return [Shape((images[0], *_size_input(context, 1), images[3]))]


def _quantized_resized_shape(context: InferenceContext) -> Sequence[Shape]:
    return [*resized_shape(context), Shape(()), Shape(())]


def shaped_like(index: int, rank: int = 4) -> ShapeFunction:
    """Shaped as input `index` is, whose rank is known."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        return [ranked(context.shape(index), rank, "the images")] * context.output_count

    return infer


def _nearest_gradient_shape(context: InferenceContext) -> Sequence[Shape]:
    gradients = ranked(context.shape(0), 4, "the gradient")
    return [Shape((gradients[0], *_size_input(context, 1), gradients[3]))]


def _cropped_shape(context: InferenceContext) -> Sequence[Shape]:
    images, boxes = ranked(context.shape(0), 4, "the images"), ranked(context.shape(1), 2, "the boxes")
    merge_dims(boxes[1], 4, "the number of coordinates")
    count = merge_dims(boxes[0], ranked(context.shape(2), 1, "the box indices")[0], "the number of boxes")
    return [Shape((count, *_size_input(context, 3), images[3]))]


def _cropped_gradient_shape(context: InferenceContext) -> Sequence[Shape]:
    return [ranked(context.as_shape(3), 4, "the images")]


# Resizing -----------------------------------------------------------------------------------------------------


def _scale(count: int, size: int, align_corners: bool) -> np.float32:
    """Input elements for each output element."""
    if align_corners and count > 1:
        return np.float32((size - 1) / np.float32(count - 1))
    return np.float32(np.float32(size) / np.float32(count))


def _sources(attrs: Attrs, size: int, count: int) -> Array:
    """Where each output element lies in the input, as TensorFlow rounds it."""
    places = np.arange(count, dtype=np.float32)
    scale = _scale(count, size, attrs["align_corners"])
    if attrs.get("half_pixel_centers"):
        return np.asarray((places + np.float32(0.5)) * scale - np.float32(0.5), np.float32)
    return np.asarray(places * scale, np.float32)


def _requested(attrs: Attrs, images: Array, size: Array) -> tuple[int, int]:
    """Rows and columns asked for. Raises `ValueError` where TensorFlow refuses them."""
    if attrs.get("half_pixel_centers") and attrs["align_corners"]:
        raise ValueError("half_pixel_centers and align_corners exclude each other")
    if images.ndim != 4 or size.shape != (2,):
        raise ValueError(f"images of shape {list(images.shape)} cannot be resized to {size.tolist()}")
    rows, columns = int(size[0]), int(size[1])
    if rows <= 0 or columns <= 0:
        raise ValueError(f"images cannot be resized to {rows} x {columns}")
    if 0 in images.shape[1:]:
        raise ValueError(f"images of shape {list(images.shape)} without elements cannot be resized")
    check_size((images.shape[0], rows, columns, images.shape[3]))
    return rows, columns


def _real(images: Array) -> Array:
    return images.astype(np.float32, copy=False)


def _interpolated(images: Array, axis: int, sources: Array) -> Array:
    """Linear interpolation along `axis` at fractional places."""
    size = images.shape[axis]
    floor = np.floor(sources)
    upper = np.minimum(np.ceil(sources).astype(np.int64), size - 1)
    lower = np.minimum(np.maximum(floor.astype(np.int64), 0), upper)
    share = (sources - floor).reshape([-1 if place == axis else 1 for place in range(images.ndim)])
    low, high = images.take(lower, axis), images.take(upper, axis)
    high -= low
    high *= share
    low += high
    return np.asarray(low)


def resize_bilinear(attrs: Attrs, images: Array, size: Array) -> Array:
    """`ResizeBilinear`: float32 whatever the images are."""
    rows, columns = _requested(attrs, images, size)
    if (rows, columns) == images.shape[1:3]:
        return np.array(images, np.float32)
    with np.errstate(all="ignore"):
        across = _interpolated(_real(images), 2, _sources(attrs, images.shape[2], columns))
        return _interpolated(across, 1, _sources(attrs, images.shape[1], rows))


def _nearest_places(attrs: Attrs, size: int, count: int) -> Array:
    places = np.arange(count, dtype=np.float32)
    if attrs.get("half_pixel_centers"):
        places = places + np.float32(0.5)
    exact = places * _scale(count, size, attrs["align_corners"])
    rounded = np.floor(exact + np.float32(0.5)) if attrs["align_corners"] else np.floor(exact)
    return np.asarray(np.clip(rounded.astype(np.int64), 0, size - 1))


def _resize_nearest(attrs: Attrs, images: Array, size: Array) -> Array:
    rows, columns = _requested(attrs, images, size)
    down = _nearest_places(attrs, images.shape[1], rows)
    return images.take(down, 1).take(_nearest_places(attrs, images.shape[2], columns), 2)


def _cubic_weights(attrs: Attrs, size: int, count: int) -> tuple[Array, Array]:
    """Four neighbours of each output element and their weights, both `[count, 4]`."""
    keys = bool(attrs.get("half_pixel_centers"))
    sharpness = -0.5 if keys else -0.75
    sources = _sources(attrs, size, count)
    base = np.floor(sources) if keys else np.trunc(sources)
    steps = np.rint((sources - base) * CUBIC_STEPS)
    near, far = steps / CUBIC_STEPS, 1 - steps / CUBIC_STEPS
    weights = np.stack([_outer(near + 1, sharpness), _inner(near, sharpness), _inner(far, sharpness),
                        _outer(far + 1, sharpness)], -1).astype(np.float32)  # fmt: skip
    wanted = base.astype(np.int64)[:, None] + np.arange(-1, 3)
    places = np.clip(wanted, 0, size - 1)
    if keys:  # neighbours outside the image do not count
        weights = np.where(places == wanted, weights, np.float32(0))
        total = weights.sum(-1, keepdims=True)
        weights = np.where(np.abs(total) >= 1000 * np.finfo(np.float32).tiny, weights / total, weights)
    return places, weights


def _inner(distance: Array, sharpness: float) -> Array:
    return np.asarray(((sharpness + 2) * distance - (sharpness + 3)) * distance * distance + 1)


def _outer(distance: Array, sharpness: float) -> Array:
    return np.asarray(((sharpness * distance - 5 * sharpness) * distance + 8 * sharpness) * distance - 4 * sharpness)


def _resize_bicubic(attrs: Attrs, images: Array, size: Array) -> Array:
    result = _real(images)
    counts = _requested(attrs, images, size)
    with np.errstate(all="ignore"):
        for axis, count in zip((1, 2), counts, strict=True):
            places, weights = _cubic_weights(attrs, images.shape[axis], count)
            shape = [-1 if place == axis else 1 for place in range(4)]
            taps = [result.take(places[:, tap], axis) * weights[:, tap].reshape(shape) for tap in range(4)]
            result = np.asarray(taps[0] + taps[1] + taps[2] + taps[3])
    return np.asarray(result, np.float32)


def _area_matrix(attrs: Attrs, size: int, count: int) -> Array:
    """How much of each input element each output element covers, `[count, size]`."""
    if size == 1:
        return np.ones((count, 1), np.float32)
    scale = _scale(count, size, attrs["align_corners"])
    starts = np.arange(count, dtype=np.float32) * scale
    ends = np.arange(1, count + 1, dtype=np.float32) * scale
    check_size((count, size))
    matrix = np.zeros((count, size), np.float32)
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        for place in range(int(np.floor(start)), int(np.ceil(end))):
            covered = min(place + 1.0, end) - max(float(place), start)
            matrix[row, min(max(place, 0), size - 1)] += covered / float(scale)
    return matrix


def _resize_area(attrs: Attrs, images: Array, size: Array) -> Array:
    rows, columns = _requested(attrs, images, size)
    with np.errstate(all="ignore"):
        down = np.einsum("or,nrcd->nocd", _area_matrix(attrs, images.shape[1], rows), _real(images))
        return np.asarray(np.einsum("oc,nrcd->nrod", _area_matrix(attrs, images.shape[2], columns), down))


# Cropping -----------------------------------------------------------------------------------------------------


def _box_places(low: Array, high: Array, size: int, count: int) -> Array:
    """Where each row (or column) of each box lies in the image, `[boxes, count]`."""
    last = np.float32(size - 1)
    if count == 1:
        return np.asarray(np.float32(0.5) * (low + high) * last, np.float32)[:, None]
    step = (high - low) * last / np.float32(count - 1)
    return np.asarray((low * last)[:, None] + np.arange(count, dtype=np.float32) * step[:, None], np.float32)


def _crop_and_resize(attrs: Attrs, images: Array, boxes: Array, indices: Array, size: Array) -> Array:
    if images.ndim != 4 or boxes.ndim != 2 or boxes.shape[1] != 4 or indices.shape != boxes.shape[:1]:
        raise ValueError(f"boxes of shape {list(boxes.shape)} do not fit images of shape {list(images.shape)}")
    if size.shape != (2,) or size.min() <= 0 or images.shape[1] == 0 or images.shape[2] == 0:
        raise ValueError(f"images of shape {list(images.shape)} cannot be cropped to {size.tolist()}")
    if attrs["method"] not in (b"bilinear", b"nearest"):
        raise ValueError(f"method {attrs['method']!r} is neither bilinear nor nearest")
    if indices.size and not 0 <= indices.min() <= indices.max() < len(images):
        raise ValueError(f"box indices must lie in [0, {len(images)})")
    rows, columns = int(size[0]), int(size[1])
    shape = (len(boxes), rows, columns, images.shape[3])
    check_size(shape)
    result = np.full(shape, attrs["extrapolation_value"], np.float32)
    with np.errstate(all="ignore"):
        down = _box_places(boxes[:, 0], boxes[:, 2], images.shape[1], rows)
        across = _box_places(boxes[:, 1], boxes[:, 3], images.shape[2], columns)
        for box, index in enumerate(indices.tolist()):
            _crop(attrs["method"], _real(images[index]), down[box], across[box], result[box])
    return result


def _crop(method: bytes, image: Array, down: Array, across: Array, result: Array) -> None:
    """Fill in what of one box lies inside the image."""
    rows = np.flatnonzero((down >= 0) & (down <= image.shape[0] - 1))
    columns = np.flatnonzero((across >= 0) & (across <= image.shape[1] - 1))
    if not len(rows) or not len(columns):
        return
    if method == b"nearest":
        nearest = [np.floor(item + np.float32(0.5)).astype(np.int64) for item in (down[rows], across[columns])]
        found = image[np.ix_(nearest[0], nearest[1])]
    else:
        found = _interpolated(_interpolated(image, 1, across[columns]), 0, down[rows])
    result[np.ix_(rows, columns)] = found


register("tf.ResizeBilinear", shape=resized_shape, evaluate=resize_bilinear)
register("tf.ResizeNearestNeighbor", shape=resized_shape, evaluate=_resize_nearest)
register("tf.ResizeBicubic", shape=resized_shape, evaluate=_resize_bicubic)
register("tf.ResizeArea", shape=resized_shape, evaluate=_resize_area)
register("tf.QuantizedResizeBilinear", shape=_quantized_resized_shape)
register("tf.ScaleAndTranslate", shape=resized_shape)
register("tf.CropAndResize", shape=_cropped_shape, evaluate=_crop_and_resize)
register(("tf.ExtractGlimpse", "tf.ExtractGlimpseV2"), shape=resized_shape)
register(("tf.DrawBoundingBoxes", "tf.DrawBoundingBoxesV2"), shape=shaped_like(0))

register(
    ("tf.ResizeBilinearGrad", "tf.ResizeBicubicGrad", "tf.ScaleAndTranslateGrad"),
    traits=Trait.TRAINING,
    shape=shaped_like(1),
)
register("tf.ResizeNearestNeighborGrad", traits=Trait.TRAINING, shape=_nearest_gradient_shape)
register("tf.CropAndResizeGradImage", traits=Trait.TRAINING, shape=_cropped_gradient_shape)
register("tf.CropAndResizeGradBoxes", traits=Trait.TRAINING, shape=shaped_like(2, 2))
