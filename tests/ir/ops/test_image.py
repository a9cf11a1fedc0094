"""Resizing, cropping, colours, warping and the suppression of boxes against TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import arrays, check_operator, dtypes

from graphopt.ir.dimensions import symbol
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.types import DTYPES, Shape

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=25)
SIZES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).uniform(low, high, shape).astype(np.float32)


# Resizing -----------------------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(st.data(), dtypes(np.float32, np.uint8, np.float16, np.int32), SIZES, SIZES, st.sampled_from(
    [{}, {"align_corners": True}, {"half_pixel_centers": True}]))  # fmt: skip
@pytest.mark.parametrize("op", ["ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic"])
def test_resize(op: str, data: Any, dtype: Any, old: Any, new: Any, attrs: dict[str, Any]) -> None:
    images = data.draw(arrays(dtype, (2, *old, 3), 0, 100))
    size = np.array(new, np.int32)
    check_operator(op, [images, size], attrs, rtol=1e-4, atol=2e-3 if op == "ResizeBicubic" else 1e-4)


@tensorflow
@FEW
@given(st.data(), dtypes(np.float32, np.uint8), SIZES, SIZES, st.booleans())
def test_resize_by_area(data: Any, dtype: Any, old: Any, new: Any, align: bool) -> None:
    images = data.draw(arrays(dtype, (2, *old, 3), 0, 100))
    check_operator("ResizeArea", [images, np.array(new, np.int32)], {"align_corners": align}, rtol=1e-4, atol=1e-3)


@tensorflow
@pytest.mark.parametrize(
    ("shape", "size", "attrs"),
    [
        ((1, 4, 4, 2), [0, 3], {}),
        ((1, 4, 4, 2), [3, -1], {}),
        ((1, 0, 4, 2), [3, 3], {}),
        ((1, 4, 4, 0), [3, 3], {}),
        ((4, 4, 2), [3, 3], {}),
        ((1, 4, 4, 2), [3], {}),
        ((1, 4, 4, 2), [3, 3], {"align_corners": True, "half_pixel_centers": True}),
    ],
)
@pytest.mark.parametrize("op", ["ResizeBilinear", "ResizeNearestNeighbor"])
def test_sizes_that_make_no_sense_are_refused(op: str, shape: Any, size: Any, attrs: dict[str, Any]) -> None:
    assert check_operator(op, [uniform(0, *shape), np.array(size, np.int32)], attrs) is None


@tensorflow
def test_no_images_at_all_can_be_resized() -> None:
    check_operator("ResizeBilinear", [uniform(0, 0, 4, 4, 2), np.array([3, 5], np.int32)])


def test_sizes_stay_symbolic() -> None:
    images = np.zeros((1, 4, 4, 3), np.float32)
    attrs = {"T": DTYPES["float32"]}
    result = oracle.infer("ResizeBilinear", [images, np.array([6, 7], np.int32)], attrs,
                          [Shape((symbol("n"), None, 4, 3)), None])  # fmt: skip
    assert result == [Shape((symbol("n"), 6, 7, 3))]
    with pytest.raises(InferenceError):
        oracle.infer("ResizeBilinear", [images, np.array([6, 7, 8], np.int32)], attrs, [None, None])


@tensorflow
@pytest.mark.parametrize("op", ["ResizeBilinearGrad", "ResizeBicubicGrad"])
def test_gradient_shapes(op: str) -> None:
    check_operator(op, [uniform(0, 2, 3, 4, 3), uniform(1, 2, 5, 6, 3)], evaluates=False)
    size = np.array([5, 6], np.int32)
    check_operator("ResizeNearestNeighborGrad", [uniform(0, 2, 3, 4, 3), size], evaluates=False)


# Cropping and warping -----------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(st.integers(0, 99), st.tuples(st.integers(1, 5), st.integers(1, 5)), st.sampled_from([b"bilinear", b"nearest"]))
def test_crop_and_resize(seed: int, size: Any, method: bytes) -> None:
    boxes, indices = uniform(seed, 4, 4, low=-0.3, high=1.3), np.array([0, 1, 1, 0], np.int32)
    inputs = [uniform(seed + 1, 2, 7, 8, 3), boxes, indices, np.array(size, np.int32)]
    check_operator("CropAndResize", inputs, {"method": method, "extrapolation_value": 2.5}, rtol=1e-4, atol=1e-4)


@tensorflow
def test_crops_of_bytes_and_crops_that_make_no_sense() -> None:
    images, size = (uniform(0, 2, 7, 8, 3) * 255).astype(np.uint8), np.array([3, 4], np.int32)
    boxes, indices = uniform(1, 2, 4), np.array([0, 1], np.int32)
    check_operator("CropAndResize", [images, boxes, indices, size], {}, rtol=1e-4, atol=1e-2)
    for wrong in ([images, boxes, indices + 1, size], [images, boxes, indices[:1], size],
                  [images, boxes[:, :3], indices, size], [images, boxes, indices, size - 3]):  # fmt: skip
        assert check_operator("CropAndResize", wrong) is None


@tensorflow
@FEW
@given(
    st.integers(0, 99),
    st.sampled_from([b"CONSTANT", b"REFLECT", b"WRAP", b"NEAREST"]),
    st.sampled_from([b"NEAREST", b"BILINEAR"]),
)
def test_projective_transform(seed: int, fill_mode: bytes, interpolation: bytes) -> None:
    random = np.random.RandomState(seed)
    affine = np.concatenate(
        [random.uniform(-1.5, 1.5, (2, 6)) * [1, 1, 9, 1, 1, 9], random.uniform(0, 0.02, (2, 2))], 1
    )
    inputs = [uniform(seed, 2, 7, 8, 3), affine.astype(np.float32), np.array([6, 9], np.int32)]
    attrs = {"interpolation": interpolation, "fill_mode": fill_mode}
    check_operator("ImageProjectiveTransformV3", [*inputs, np.float32(2)], attrs, rtol=1e-3, atol=1e-3)
    check_operator("ImageProjectiveTransformV2", inputs, attrs, rtol=1e-3, atol=1e-3)


@tensorflow
def test_other_image_operators_know_their_shapes() -> None:
    images = uniform(0, 2, 7, 8, 3)
    size, offsets = np.array([3, 4], np.int32), uniform(1, 2, 2)
    check_operator("ExtractGlimpse", [images, size, offsets], evaluates=False, values=False)
    check_operator("DrawBoundingBoxes", [images, uniform(2, 2, 5, 4)], evaluates=False)
    scale = [np.array([1.5, 0.5], np.float32), np.array([0, 1], np.float32)]
    check_operator("ScaleAndTranslate", [images, size, *scale], evaluates=False)


# Colours ------------------------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(st.integers(0, 99), st.sampled_from([(2, 3, 4, 3), (5, 3), (3,), (0, 3)]))
def test_colour_spaces(seed: int, shape: tuple[int, ...]) -> None:
    colours = uniform(seed, *shape)
    colours = np.where(uniform(seed + 1, *shape) < 0.3, colours.round(), colours)  # ties between channels
    check_operator("RGBToHSV", [colours], rtol=1e-4, atol=1e-5)
    check_operator("HSVToRGB", [colours], rtol=1e-4, atol=1e-5)


@tensorflow
@FEW
@given(st.integers(0, 99), st.floats(-1, 1), st.floats(0, 2))
def test_adjustments(seed: int, delta: float, factor: float) -> None:
    images = uniform(seed, 2, 3, 4, 3)
    check_operator("AdjustHue", [images, np.float32(delta)], rtol=1e-3, atol=1e-4)
    check_operator("AdjustSaturation", [images, np.float32(factor)], rtol=1e-3, atol=1e-4)
    check_operator("AdjustContrastv2", [images, np.float32(factor)], rtol=1e-4, atol=1e-5)


@tensorflow
def test_colours_need_three_channels() -> None:
    for op, inputs in (("RGBToHSV", []), ("HSVToRGB", []), ("AdjustHue", [np.float32(0.1)])):
        assert check_operator(op, [uniform(0, 2, 3, 4), *inputs]) is None


# Boxes --------------------------------------------------------------------------------------------------------


def boxes_and_scores(seed: int, count: int = 24) -> list[Any]:
    corners = uniform(seed, count, 4)
    corners[: count // 3] = corners[count // 3 : 2 * (count // 3)] + uniform(seed + 1, count // 3, 4) * 0.1
    return [corners, uniform(seed + 2, count).round(1)]  # rounded: equal scores occur


@tensorflow
@FEW
@given(st.integers(0, 99), st.integers(0, 30), st.floats(0, 1), st.floats(0, 1))
def test_suppression(seed: int, limit: int, threshold: float, least: float) -> None:
    inputs = [*boxes_and_scores(seed), np.array(limit, np.int32)]
    limits = [np.float32(threshold), np.float32(least)]
    check_operator("NonMaxSuppression", inputs, {"iou_threshold": threshold}, inferable=False)
    check_operator("NonMaxSuppressionV2", [*inputs, limits[0]], inferable=False)
    check_operator("NonMaxSuppressionV3", [*inputs, *limits], inferable=False)
    check_operator("NonMaxSuppressionV4", [*inputs, *limits], {"pad_to_max_output_size": True})
    check_operator("NonMaxSuppressionV4", [*inputs, *limits], inferable=False)


@tensorflow
@FEW
@given(st.integers(0, 99), st.integers(0, 30), st.floats(0.1, 1), st.floats(0, 1), st.sampled_from([0.0, 0.3, 0.9]))
def test_soft_suppression(seed: int, limit: int, threshold: float, least: float, sigma: float) -> None:
    inputs = [*boxes_and_scores(seed), np.array(limit, np.int32),
              *(np.float32(item) for item in (threshold, least, sigma))]  # fmt: skip
    check_operator("NonMaxSuppressionV5", inputs, inferable=False, rtol=1e-4)
    check_operator("NonMaxSuppressionV5", inputs, {"pad_to_max_output_size": True}, rtol=1e-4)


@tensorflow
@FEW
@given(st.integers(0, 99), st.booleans(), st.booleans(), st.sampled_from([1, 3]))
def test_combined_suppression(seed: int, padded: bool, clipped: bool, kinds: int) -> None:
    boxes = uniform(seed, 2, 20, kinds, 4, high=1.2)
    inputs = [boxes, uniform(seed + 1, 2, 20, 3), *np.array([5, 12], np.int32), *np.array([0.4, 0.3], np.float32)]
    check_operator("CombinedNonMaxSuppression", inputs, {"pad_per_class": padded, "clip_boxes": clipped})


@tensorflow
def test_suppression_by_overlaps_and_empty_suppression() -> None:
    overlaps = uniform(0, 12, 12)
    limits = [np.array(6, np.int32), np.float32(0.5), np.float32(0.2)]
    check_operator("NonMaxSuppressionWithOverlaps", [overlaps, uniform(1, 12), *limits], inferable=False)
    nothing = [np.zeros((0, 4), np.float32), np.zeros(0, np.float32), *limits]
    check_operator("NonMaxSuppressionV3", nothing, inferable=False)


@tensorflow
@pytest.mark.parametrize(("place", "value"), [(0, np.ones((24, 3), np.float32)), (1, np.ones(9, np.float32)),
                                              (2, np.array(-1, np.int32)), (3, np.float32(1.5))])  # fmt: skip
def test_suppression_that_makes_no_sense_is_refused(place: int, value: Any) -> None:
    inputs = [*boxes_and_scores(0), np.array(5, np.int32), np.float32(0.5), np.float32(0.1)]
    inputs[place] = value
    assert check_operator("NonMaxSuppressionV3", inputs) is None
