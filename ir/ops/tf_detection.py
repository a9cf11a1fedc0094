"""Operators of TensorFlow: detection: suppression of overlapping boxes, and the warping of images."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim, multiply
from graphopt.ir.dimensions import minimum as smaller
from graphopt.ir.ops.inference import InferenceContext
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_windows import check_size, merge_dims, ranked
from graphopt.ir.types import SCALAR, Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
Overlaps = Callable[[int, list[int]], Array]  # of one box with the ones already selected


# Shapes -------------------------------------------------------------------------------------------------------


def _boxes(context: InferenceContext) -> None:
    boxes, scores = ranked(context.shape(0), 2, "the boxes"), ranked(context.shape(1), 1, "the scores")
    merge_dims(boxes[0], scores[0], "the number of boxes")
    merge_dims(boxes[1], 4, "the number of coordinates")


def _selected_shape(context: InferenceContext) -> Sequence[Shape]:
    _boxes(context)
    return [Shape((None,))]


def _padded_count(context: InferenceContext) -> Dim:
    return context.constant_int(2) if context.attrs.get("pad_to_max_output_size") is True else None


def _selected_v4_shape(context: InferenceContext) -> Sequence[Shape]:
    _boxes(context)
    return [Shape((_padded_count(context),)), SCALAR]


def _selected_v5_shape(context: InferenceContext) -> Sequence[Shape]:
    _boxes(context)
    count = Shape((_padded_count(context),))
    return [count, count, SCALAR]


def _overlaps_shape(context: InferenceContext) -> Sequence[Shape]:
    overlaps, scores = ranked(context.shape(0), 2, "the overlaps"), ranked(context.shape(1), 1, "the scores")
    merge_dims(merge_dims(overlaps[0], overlaps[1], "the number of boxes"), scores[0], "the number of boxes")
    return [Shape((None,))]


def _combined_shape(context: InferenceContext) -> Sequence[Shape]:
    boxes, scores = ranked(context.shape(0), 4, "the boxes"), ranked(context.shape(1), 3, "the scores")
    merge_dims(boxes[3], 4, "the number of coordinates")
    merge_dims(boxes[1], scores[1], "the number of boxes")
    batch = merge_dims(boxes[0], scores[0], "the batch")
    each, count = context.constant_int(2), context.constant_int(3)
    total: Dim = count
    if context.attrs.get("pad_per_class") is not False:
        total = smaller(count, multiply(each, scores[2]))
    return [Shape((batch, total, 4)), Shape((batch, total)), Shape((batch, total)), Shape((batch,))]


def _warped_shape(context: InferenceContext) -> Sequence[Shape]:
    images, size = ranked(context.shape(0), 4, "the images"), context.as_shape(2)
    rows, columns = ranked(size, 2, "the size").dims or (None, None)
    return [Shape((images[0], rows, columns, images[3]))]


def _proposals_shape(context: InferenceContext) -> Sequence[Shape]:
    scores = ranked(context.shape(0), 4, "the scores")
    count = context.attrs.get("post_nms_topn")
    kept = count if type(count) is int else None
    return [Shape((scores[0], kept, 4)), Shape((scores[0], kept))]


# Suppression --------------------------------------------------------------------------------------------------


def intersection_over_union(boxes: Array) -> Overlaps:
    """Overlaps of `boxes` `[n, 4]`, corners in any order; boxes without area overlap nothing."""
    wide = boxes.astype(np.float32) if boxes.dtype.itemsize == 2 else boxes
    low, high = np.minimum(wide[:, :2], wide[:, 2:]), np.maximum(wide[:, :2], wide[:, 2:])
    with np.errstate(all="ignore"):
        area = (high - low).prod(1)

    def overlaps(box: int, others: list[int]) -> Array:
        with np.errstate(all="ignore"):
            sides = np.minimum(high[box], high[others]) - np.maximum(low[box], low[others])
            shared = np.maximum(sides, 0).prod(1)
            ratio = shared / (area[box] + area[others] - shared)
        return np.where((area[box] > 0) & (area[others] > 0), ratio, wide.dtype.type(0))

    return overlaps


def suppress(
    overlaps: Overlaps, scores: Array, limit: int, threshold: float, least: float, sigma: float = 0.0
) -> tuple[list[int], list[float]]:
    """Boxes by falling score, without those that overlap one selected before by more than `threshold`.

    With `sigma`, overlapping boxes lose score instead, whatever the threshold (soft suppression). Boxes that score
    `least` or less are out.
    """
    number = scores.dtype.type
    order = [(-float(score), index, 0) for index, score in enumerate(scores) if score > least]
    heapq.heapify(order)
    selected: list[int] = []
    kept: list[float] = []
    while order and len(selected) < limit:
        negated, box, seen = heapq.heappop(order)
        original = score = number(-negated)
        if seen < len(selected):
            ratios = overlaps(box, selected[seen:])[::-1]
            if sigma <= 0:
                if (ratios > threshold).any():
                    continue
            else:
                score = _decayed(score, ratios, least, sigma)
        if score == original:
            selected.append(box)
            kept.append(float(score))
        elif score > least:
            heapq.heappush(order, (-float(score), box, len(selected)))
    return selected, kept


def _decayed(score: Any, ratios: Array, least: float, sigma: float) -> Any:
    number = type(score)
    for ratio in ratios:
        score = number(score * np.exp(number(-0.5 / sigma) * ratio * ratio))
        if score <= least:
            break
    return score


def _checked(boxes: Array, scores: Array, limit: Any, threshold: float) -> int:
    if boxes.ndim != 2 or scores.shape != boxes.shape[:1] or (boxes.shape[1] != 4 and boxes.size):
        raise ValueError(f"scores of shape {list(scores.shape)} do not fit boxes of shape {list(boxes.shape)}")
    if not 0 <= threshold <= 1 or np.size(limit) != 1 or int(limit) < 0:
        raise ValueError(f"overlaps up to {threshold} of {limit} boxes make no sense")
    return int(limit)


def _suppress_v1(attrs: Attrs, boxes: Array, scores: Array, limit: Array) -> Array:
    return _suppress_v3(attrs, boxes, scores, limit, np.float32(attrs["iou_threshold"]), np.float32(-np.inf))


def _suppress_v2(attrs: Attrs, boxes: Array, scores: Array, limit: Array, threshold: Any) -> Array:
    return _suppress_v3(attrs, boxes, scores, limit, threshold, np.float32(-np.inf))


def _suppress_v3(attrs: Attrs, boxes: Array, scores: Array, limit: Array, threshold: Any, least: Any) -> Array:
    count = _checked(boxes, scores, limit, float(threshold))
    selected, _ = suppress(intersection_over_union(boxes), scores, count, float(threshold), float(least))
    return np.array(selected, np.int32)


def _suppress_v4(
    attrs: Attrs, boxes: Array, scores: Array, limit: Array, threshold: Array, least: Array
) -> list[Array]:
    selected = _suppress_v3(attrs, boxes, scores, limit, threshold, least)
    valid = np.array(len(selected), np.int32)
    if attrs["pad_to_max_output_size"]:
        check_size((int(limit),))
        selected = np.concatenate([selected, np.zeros(int(limit) - len(selected), np.int32)])
    return [selected, valid]


def _suppress_v5(
    attrs: Attrs, boxes: Array, scores: Array, limit: Array, threshold: Array, least: Array, sigma: Array
) -> list[Array]:
    count = _checked(boxes, scores, limit, float(threshold))
    if float(sigma) < 0:
        raise ValueError(f"a spread of {float(sigma)} makes no sense")
    found = suppress(intersection_over_union(boxes), scores, count, float(threshold), float(least), float(sigma))
    selected, kept = np.array(found[0], np.int32), np.array(found[1], scores.dtype)
    valid = np.array(len(selected), np.int32)
    if attrs["pad_to_max_output_size"]:
        check_size((count,))
        missing = count - len(selected)
        selected = np.concatenate([selected, np.zeros(missing, np.int32)])
        kept = np.concatenate([kept, np.zeros(missing, scores.dtype)])
    return [selected, kept, valid]


def _suppress_by_overlaps(
    attrs: Attrs, overlaps: Array, scores: Array, limit: Array, threshold: Array, least: Array
) -> Array:
    if overlaps.ndim != 2 or overlaps.shape[0] != overlaps.shape[1] or scores.shape != overlaps.shape[:1]:
        raise ValueError(f"scores of shape {list(scores.shape)} do not fit overlaps of {list(overlaps.shape)}")
    if np.size(limit) != 1 or int(limit) < 0:
        raise ValueError(f"{limit} boxes make no sense")
    selected, _ = suppress(
        lambda box, others: overlaps[box, others], scores, int(limit), float(threshold), float(least)
    )
    return np.array(selected, np.int32)


def _suppress_combined(
    attrs: Attrs, boxes: Array, scores: Array, each: Array, total: Array, threshold: Array, least: Array
) -> list[Array]:
    """Suppression class by class, then the best of all classes, for each image of a batch."""
    if boxes.ndim != 4 or scores.ndim != 3 or boxes.shape[3] != 4 or boxes.shape[:2] != scores.shape[:2]:
        raise ValueError(f"scores of shape {list(scores.shape)} do not fit boxes of shape {list(boxes.shape)}")
    classes = scores.shape[2]
    if boxes.shape[2] not in (1, classes) or int(each) <= 0 or int(total) <= 0 or not 0 <= float(threshold) <= 1:
        raise ValueError("boxes for other classes than there are scores, or nothing to select")
    count = min(int(total), int(each) * classes) if attrs["pad_per_class"] else int(total)
    check_size((len(boxes), count, 4))
    found = np.zeros((len(boxes), count, 4), np.float32)
    kept, kinds = np.zeros((2, len(boxes), count), np.float32)
    valid = np.zeros(len(boxes), np.int32)
    for image in range(len(boxes)):
        best: list[tuple[float, int, int]] = []
        for kind in range(classes):
            own = boxes[image, :, kind if boxes.shape[2] > 1 else 0]
            overlaps = intersection_over_union(own)
            selected, values = suppress(overlaps, scores[image, :, kind], int(each), float(threshold), float(least))
            best += [(-value, kind, box) for value, box in zip(values, selected, strict=True)]
        best.sort(key=lambda item: item[0])
        valid[image] = min(len(best), count)
        for place, (negated, kind, box) in enumerate(best[:count]):
            found[image, place] = boxes[image, box, kind if boxes.shape[2] > 1 else 0]
            kept[image, place], kinds[image, place] = -negated, kind
    if attrs["clip_boxes"]:
        np.clip(found, 0, 1, out=found)
    return [found, kept, kinds, valid]


# Warping ------------------------------------------------------------------------------------------------------


def _folded(places: Array, size: int, mode: bytes) -> Array:
    """Fractional places outside `[0, size - 1]` brought inside as the fill mode says."""
    if mode == b"CONSTANT":
        return places
    last = np.float32(size - 1)
    if mode == b"NEAREST" or size <= 1:
        return np.clip(places, 0, last)
    if mode == b"REFLECT":
        around = np.float32(2 * size)
        low = np.where(places < -around, around * np.trunc(-places / around) + places, places)
        low = np.where(low < -size, low + around, -low - 1)
        high = places - around * np.trunc(places / around)
        high = np.where(high >= size, around - high - 1, high)
    elif mode == b"WRAP":
        low = places + size * (np.trunc(-places / last) + 1)
        high = places - size * np.trunc(places / last)
    else:
        raise ValueError(f"fill mode {mode!r} is not supported")
    return np.clip(np.where(places < 0, low, np.where(places > last, high, places)), 0, last)


def _read(images: Array, rows: Array, columns: Array, fill: Any) -> Array:
    """Elements at integer places `[n, r, c]`, or `fill` outside."""
    inside = (rows >= 0) & (rows < images.shape[1]) & (columns >= 0) & (columns < images.shape[2])
    batch = np.arange(len(images))[:, None, None]
    found = images[batch, np.where(inside, rows, 0).astype(np.int64), np.where(inside, columns, 0).astype(np.int64)]
    return np.where(inside[..., None], found, fill)


def _warp(attrs: Attrs, images: Array, transforms: Array, size: Array, fill: Any = 0.0) -> Array:
    """Each image seen through a projective map from the result's places to its own."""
    if images.ndim != 4 or transforms.ndim != 2 or transforms.shape[1] != 8 or size.shape != (2,):
        raise ValueError(f"transforms of shape {list(transforms.shape)} do not fit images {list(images.shape)}")
    if len(transforms) not in (1, len(images)) or size.min() <= 0 or attrs["interpolation"] not in (
        b"NEAREST", b"BILINEAR",
    ):  # fmt: skip
        raise ValueError("the number of transforms, the size or the interpolation makes no sense")
    check_size((len(images), int(size[0]), int(size[1]), images.shape[3]))
    down, across = (np.arange(int(count), dtype=np.float32) for count in size)
    maps = np.broadcast_to(transforms, (len(images), 8))[:, :, None, None]
    with np.errstate(all="ignore"):
        scale = maps[:, 6] * across + maps[:, 7] * down[:, None] + 1
        columns = (maps[:, 0] * across + maps[:, 1] * down[:, None] + maps[:, 2]) / scale
        rows = (maps[:, 3] * across + maps[:, 4] * down[:, None] + maps[:, 5]) / scale
        rows = _folded(rows, images.shape[1], attrs["fill_mode"])
        columns = _folded(columns, images.shape[2], attrs["fill_mode"])
        value = images.dtype.type(float(fill))
        if attrs["interpolation"] == b"NEAREST":
            warped = _read(images, _rounded(rows), _rounded(columns), value)
        else:
            warped = _bilinear(images, rows, columns, value)
        return np.where(scale[..., None] == 0, value, warped).astype(images.dtype)


def _rounded(places: Array) -> Array:
    """The nearest integer, halves away from zero."""
    return np.asarray(np.trunc(places + np.copysign(np.float32(0.5), places)))


def _bilinear(images: Array, rows: Array, columns: Array, fill: Any) -> Array:
    top, left = np.floor(rows), np.floor(columns)
    bottom, right = top + 1, left + 1
    above = (right - columns)[..., None] * _read(images, top, left, fill)
    above = above + (columns - left)[..., None] * _read(images, top, right, fill)
    below = (right - columns)[..., None] * _read(images, bottom, left, fill)
    below = below + (columns - left)[..., None] * _read(images, bottom, right, fill)
    return np.asarray((bottom - rows)[..., None] * above + (rows - top)[..., None] * below)


register("tf.NonMaxSuppression", shape=_selected_shape, evaluate=_suppress_v1)
register("tf.NonMaxSuppressionV2", shape=_selected_shape, evaluate=_suppress_v2)
register("tf.NonMaxSuppressionV3", shape=_selected_shape, evaluate=_suppress_v3)
register("tf.NonMaxSuppressionV4", shape=_selected_v4_shape, evaluate=_suppress_v4)
register("tf.NonMaxSuppressionV5", shape=_selected_v5_shape, evaluate=_suppress_v5)
register("tf.NonMaxSuppressionWithOverlaps", shape=_overlaps_shape, evaluate=_suppress_by_overlaps)
register("tf.CombinedNonMaxSuppression", shape=_combined_shape, evaluate=_suppress_combined)
register(("tf.ImageProjectiveTransformV2", "tf.ImageProjectiveTransformV3"), shape=_warped_shape, evaluate=_warp)
register("tf.GenerateBoundingBoxProposals", shape=_proposals_shape)
