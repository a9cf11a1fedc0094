"""Convolutions, forward and transposed, against TensorFlow; what its CPU kernels lack, against a plain sum."""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import arrays, check_operator

from graphopt.ir import ops
from graphopt.ir.attributes import AttributePlaceholder
from graphopt.ir.dimensions import ceil_divide, symbol
from graphopt.ir.graph import Graph
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.types import UNKNOWN_SHAPE, Shape, tensor_type

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=25)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@st.composite
def slides(draw: Any, spatial: int = 2, explicit: bool = True, dilated: bool = True) -> dict[str, Any]:
    """Sizes, window, strides, dilations and padding of a convolution that leaves something over."""
    window = tuple(draw(st.integers(1, 3)) for _ in range(spatial))
    strides = tuple(draw(st.integers(1, 3)) for _ in range(spatial))
    dilations = tuple(draw(st.integers(1, 2)) if dilated else 1 for _ in range(spatial))
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(window, dilations, strict=True)]
    sizes = tuple(draw(st.integers(span, span + 4)) for span in spans)
    padding = draw(st.sampled_from([b"SAME", b"VALID", b"EXPLICIT"] if explicit else [b"SAME", b"VALID"]))
    attrs: dict[str, Any] = {"strides": (1, *strides, 1), "dilations": (1, *dilations, 1), "padding": padding}
    if padding == b"EXPLICIT":
        attrs["explicit_paddings"] = (0, 0, *(draw(st.integers(0, 2)) for _ in range(2 * spatial)), 0, 0)
    return {"sizes": sizes, "window": window, "attrs": attrs}


def channels_first(attrs: dict[str, Any]) -> dict[str, Any]:
    """The same attributes for `NCHW`."""
    moved = {**attrs, "data_format": b"NCHW"}
    for name in ("strides", "dilations"):
        moved[name] = (1, 1, *attrs[name][1:-1])
    if "explicit_paddings" in attrs:
        moved["explicit_paddings"] = (0, 0, 0, 0, *attrs["explicit_paddings"][2:-2])
    return moved


def result_sizes(slide: dict[str, Any]) -> tuple[int, ...]:
    """Spatial sizes of the convolution's result, counted by trying every place."""
    attrs, found = slide["attrs"], []
    for axis, (size, width) in enumerate(zip(slide["sizes"], slide["window"], strict=True)):
        stride, span = attrs["strides"][axis + 1], (width - 1) * attrs["dilations"][axis + 1] + 1
        if attrs["padding"] == b"SAME":
            found.append(len(range(0, size, stride)))
        else:
            pads = attrs.get("explicit_paddings", (0,) * 8)[2 * axis + 2 : 2 * axis + 4]
            found.append(len(range(0, size + sum(pads) - span + 1, stride)))
    return tuple(found)


def values(seed: int, *shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).uniform(-2, 2, shape).astype(dtype)


def infer(op: str, attrs: dict[str, Any], *inputs: Shape) -> Shape:
    graph = Graph()
    sources = [graph.create_node("tf.Placeholder", types=(tensor_type("float32", item),)).output for item in inputs]
    operator = ops.find(op)
    assert operator is not None
    assert operator.shape is not None
    return next(iter(operator.shape(InferenceContext(graph.create_node(op, sources, attrs)))))


# Forward ------------------------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(slides(), st.integers(0, 99), st.sampled_from([(4, 4, 3), (4, 2, 6), (3, 3, 1), (1, 1, 4)]))
def test_conv2d(slide: dict[str, Any], seed: int, depths: tuple[int, int, int]) -> None:
    images = values(seed, 2, *slide["sizes"], depths[0])
    filters = values(seed + 1, *slide["window"], *depths[1:])
    check_operator("Conv2D", [images, filters], slide["attrs"], **TOLERANCE)


@tensorflow
@settings(max_examples=10)
@given(slides(), st.integers(0, 99))
def test_channels_first_is_the_same_convolution_transposed(slide: dict[str, Any], seed: int) -> None:
    images, filters = values(seed, 2, *slide["sizes"], 4), values(seed + 1, *slide["window"], 2, 6)
    expected = check_operator("Conv2D", [images, filters], slide["attrs"], **TOLERANCE)
    assert expected is not None
    turned = oracle.evaluate("Conv2D", [np.moveaxis(images, -1, 1), filters], channels_first(slide["attrs"]))[0]
    assert turned.flags.c_contiguous
    oracle.assert_same(np.moveaxis(turned, 1, -1), expected[0], **TOLERANCE)
    shape = infer("tf.Conv2D", channels_first(slide["attrs"]), Shape((2, 4, *slide["sizes"])), Shape(filters.shape))
    assert shape.static == turned.shape


@tensorflow
@settings(max_examples=10)
@given(slides(3, explicit=False, dilated=False), st.integers(0, 99))
def test_conv3d(slide: dict[str, Any], seed: int) -> None:
    images, filters = values(seed, 2, *slide["sizes"], 3), values(seed + 1, *slide["window"], 3, 2)
    check_operator("Conv3D", [images, filters], slide["attrs"], **TOLERANCE)


@tensorflow
@settings(max_examples=12)
@given(slides(), st.integers(0, 99), st.integers(1, 3))
def test_depthwise(slide: dict[str, Any], seed: int, multiplier: int) -> None:
    attrs = slide["attrs"]
    attrs["strides"] = (1, attrs["strides"][1], attrs["strides"][1], 1)  # TensorFlow takes equal strides only
    images, filters = values(seed, 2, *slide["sizes"], 3), values(seed + 1, *slide["window"], 3, multiplier)
    check_operator("DepthwiseConv2dNative", [images, filters], attrs, **TOLERANCE)


@tensorflow
@settings(max_examples=8)
@given(slides(explicit=False), st.integers(0, 99), st.integers(1, 2))
def test_conv_with_several_batch_dimensions(slide: dict[str, Any], seed: int, batch_dims: int) -> None:
    images, filters = values(seed, *(2, 3)[:batch_dims], *slide["sizes"], 3), values(seed, *slide["window"], 3, 2)
    check_operator("Conv", [images, filters], {**slide["attrs"], "batch_dims": batch_dims}, **TOLERANCE)


@tensorflow
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16, np.int32])
def test_element_types(dtype: Any) -> None:
    images, filters = values(3, 2, 5, 6, 4, dtype=dtype), values(4, 3, 3, 4, 5, dtype=dtype)
    tolerance = {} if dtype in (np.float64, np.int32) else {"rtol": 2e-2, "atol": 4e-2}
    check_operator("Conv2D", [images, filters], {"strides": (1, 1, 1, 1), "padding": b"SAME"}, **tolerance)


@pytest.mark.parametrize(
    ("images", "filters", "changes"),
    [
        ((1, 4, 4, 3), (2, 2, 4, 2), {}),  # channels that no group divides
        ((1, 4, 4, 4), (2, 2, 2, 3), {}),  # outputs that the groups do not divide
        ((1, 4, 4, 3), (2, 2, 3, 0), {}),  # a filter without elements
        ((1, 2, 4, 3), (5, 2, 3, 2), {}),  # a window that does not fit
        ((4, 4, 3), (2, 2, 3, 2), {}),
        ((1, 4, 4, 3), (2, 2, 3), {}),
        ((1, 4, 4, 3), (2, 2, 3, 2), {"strides": (1, 0, 1, 1)}),
        ((1, 4, 4, 3), (2, 2, 3, 2), {"strides": (1, 1, 1)}),
        ((1, 4, 4, 3), (2, 2, 3, 2), {"dilations": (1, -1, 1, 1)}),
        ((1, 4, 4, 3), (2, 2, 3, 2), {"padding": b"EXPLICIT"}),
        ((1, 4, 4, 3), (2, 2, 3, 2), {"padding": b"EXPLICIT", "explicit_paddings": (0, 0, -1, 0, 0, 0, 0, 0)}),
        ((1, 4, 4, 3), (2, 2, 3, 2), {"padding": b"EXPLICIT", "explicit_paddings": (0, 0, 0, 0, 0, 0, 1, 0)}),
    ],
)
def test_refused(images: tuple[int, ...], filters: tuple[int, ...], changes: dict[str, Any]) -> None:
    attrs = {"strides": (1, 1, 1, 1), "padding": b"VALID", **changes}  # some of these abort TensorFlow's process
    with pytest.raises(ValueError, match=r"\w"):
        oracle.evaluate("Conv2D", [values(0, *images), values(1, *filters)], attrs)
    if 0 not in filters:
        with pytest.raises(InferenceError):
            infer("tf.Conv2D", attrs, Shape(images), Shape(filters))


def naive(images: Any, filters: Any, strides: Any, dilations: Any) -> Any:
    """A grouped `VALID` convolution, one product at a time."""
    spatial, groups = filters.ndim - 2, images.shape[-1] // filters.shape[-2]
    counts = [
        (size - (width - 1) * dilation - 1) // stride + 1
        for size, width, stride, dilation in zip(images.shape[1:], filters.shape, strides, dilations, strict=False)
    ][:spatial]
    result = np.zeros((len(images), *counts, filters.shape[-1]), np.float64)
    depth, outputs = filters.shape[-2], filters.shape[-1] // groups
    for place in product(*(range(count) for count in counts)):
        for offset in product(*(range(width) for width in filters.shape[:spatial])):
            where = tuple(p * s + o * d for p, s, o, d in zip(place, strides, offset, dilations, strict=True))
            for output in range(filters.shape[-1]):
                first = output // outputs * depth
                seen = images[(slice(None), *where, slice(first, first + depth))]
                result[(slice(None), *place, output)] += (seen * filters[(*offset, slice(None), output)]).sum(-1)
    return result


def test_grouped_volumes() -> None:  # TensorFlow has no CPU kernel for these
    images, filters = values(0, 2, 5, 4, 6, 4), values(1, 2, 3, 2, 2, 6)
    attrs = {"strides": (1, 2, 1, 2, 1), "padding": b"VALID", "dilations": (1, 1, 1, 3, 1)}
    result = oracle.evaluate("Conv3D", [images, filters], attrs)[0]
    oracle.assert_same(result, naive(images, filters, (2, 1, 2), (1, 1, 3)).astype(np.float32), **TOLERANCE)


@pytest.mark.parametrize("op", ["Conv2D", "DepthwiseConv2dNative"])
@pytest.mark.parametrize("sizes", [(0, 5, 6), (2, 0, 6), (2, 2, 2)])
def test_empty_results(op: str, sizes: tuple[int, int, int]) -> None:  # oneDNN gives these the input's shape
    padding = b"VALID" if sizes == (2, 2, 2) else b"SAME"
    attrs = {"strides": (1, 2, 2, 1), "padding": padding}
    images, filters = values(0, *sizes, 4), values(1, 4 if padding == b"VALID" else 3, 2, 4, 5)
    result = oracle.evaluate(op, [images, filters], attrs)[0]
    rows = 0 if padding == b"VALID" else -(-sizes[1] // 2)
    assert result.shape == (sizes[0], rows, -(-sizes[2] // 2) if rows or (sizes[1] == 0 and sizes[2] == 6) else 1,
                            5 if op == "Conv2D" else 20)  # fmt: skip
    assert infer(f"tf.{op}", attrs, Shape(images.shape), Shape(filters.shape)).static == result.shape


def test_large_images_are_worked_on_in_blocks() -> None:
    images, filters = values(0, 2, 150, 140, 16), values(1, 5, 5, 16, 8)
    attrs = {"strides": (1, 1, 1, 1), "padding": b"VALID"}
    result = oracle.evaluate("Conv2D", [images, filters], attrs)[0]
    for image, row, column in [(0, 0, 0), (0, 70, 135), (1, 145, 3), (1, 44, 90)]:
        window = images[image, row : row + 5, column : column + 5, :, None].astype(np.float64)
        oracle.assert_same(result[image, row, column], (window * filters).sum((0, 1, 2)).astype(np.float32),
                           rtol=1e-4, atol=1e-4)  # fmt: skip
    weights = values(2, 3, 3, 16, 1)
    depthwise = oracle.evaluate("DepthwiseConv2dNative", [images, weights], attrs)[0]
    window = images[1, 97:100, 11:14].astype(np.float64)
    oracle.assert_same(depthwise[1, 97, 11], (window * weights[..., 0]).sum((0, 1)).astype(np.float32), rtol=1e-4)


def test_a_result_beyond_all_memory_is_refused() -> None:
    images = np.broadcast_to(np.float32(1), (1, 4, 4, 1))
    attrs = {"strides": (1, 1, 1, 1), "padding": b"EXPLICIT", "explicit_paddings": (0, 0, 2**30, 0, 0, 2**30, 0, 0)}
    with pytest.raises(ValueError, match="too large"):
        oracle.evaluate("Conv2D", [images, values(0, 1, 1, 1, 1)], attrs)


# Shapes -------------------------------------------------------------------------------------------------------


def test_symbolic_dimensions_stay() -> None:
    n, h = symbol("n"), symbol("h")
    attrs = {"strides": (1, 2, 1, 1), "padding": b"SAME"}
    assert infer("tf.Conv2D", attrs, Shape((n, h, h, 3)), Shape((3, 3, 3, 8))) == Shape((n, ceil_divide(h, 2), h, 8))
    valid = {"strides": (1, 1, 1, 1), "padding": b"VALID"}
    assert infer("tf.Conv2D", valid, Shape((n, h, None, 3)), Shape((3, 3, 3, 8))) == Shape((n, h - 2, None, 8))
    assert infer("tf.DepthwiseConv2dNative", valid, Shape((n, h, 9, None)), Shape((3, 1, 4, 2))) == Shape(
        (n, h - 2, 9, 8)
    )
    assert infer("tf.Conv2D", valid, UNKNOWN_SHAPE, Shape((3, 3, 3, 8))) == Shape((None, None, None, 8))


def test_an_attribute_of_the_instantiation_leaves_the_shape_open() -> None:
    attrs = {"strides": AttributePlaceholder("strides"), "padding": b"SAME"}
    assert infer("tf.Conv2D", attrs, Shape((1, 4, 4, 3)), Shape((3, 3, 3, 8))) == UNKNOWN_SHAPE


@pytest.mark.parametrize("attrs", [{}, {"strides": 3, "padding": b"SAME"}, {"strides": (1, 1, 1, 1), "padding": 1}])
def test_nonsense_attributes_are_inference_errors(attrs: dict[str, Any]) -> None:
    with pytest.raises(InferenceError):
        infer("tf.Conv2D", attrs, Shape((1, 4, 4, 3)), Shape((3, 3, 3, 8)))
    with pytest.raises(InferenceError):
        infer("tf.Conv2D", {**attrs, "data_format": b"NCHW_VECT_C"}, Shape((1, 4, 4, 3)), Shape((3, 3, 3, 8)))


# Transposed and gradients -------------------------------------------------------------------------------------


@tensorflow
@settings(max_examples=12)
@given(slides(explicit=False, dilated=False), st.integers(0, 99))
def test_conv2d_transposed(slide: dict[str, Any], seed: int) -> None:
    filters, gradients = values(seed, *slide["window"], 4, 3), values(seed + 1, 2, *result_sizes(slide), 3)
    sizes = np.array([2, *slide["sizes"], 4], np.int32)
    check_operator("Conv2DBackpropInput", [sizes, filters, gradients], slide["attrs"], **TOLERANCE)
    check_operator("Conv2DBackpropInput", [sizes[1:3], filters, gradients], slide["attrs"], **TOLERANCE)


@tensorflow
@settings(max_examples=8)
@given(slides(3, explicit=False, dilated=False), st.integers(0, 99), st.sampled_from([np.int32, np.int64]))
def test_conv3d_transposed(slide: dict[str, Any], seed: int, kind: Any) -> None:
    filters, gradients = values(seed, *slide["window"], 4, 3), values(seed + 1, 2, *result_sizes(slide), 3)
    sizes = np.array([2, *slide["sizes"], 4], kind)
    check_operator("Conv3DBackpropInputV2", [sizes, filters, gradients], slide["attrs"], **TOLERANCE)


@tensorflow
@settings(max_examples=10)
@given(slides(explicit=False, dilated=False), st.integers(0, 99), st.integers(1, 2))
def test_depthwise_gradients(slide: dict[str, Any], seed: int, multiplier: int) -> None:
    attrs = slide["attrs"]
    attrs["strides"] = (1, attrs["strides"][1], attrs["strides"][1], 1)
    images, filters = values(seed, 2, *slide["sizes"], 3), values(seed + 1, *slide["window"], 3, multiplier)
    gradients = values(seed + 2, 2, *result_sizes(slide), 3 * multiplier)
    sizes, window = np.array(images.shape, np.int32), np.array(filters.shape, np.int32)
    check_operator("DepthwiseConv2dNativeBackpropInput", [sizes, filters, gradients], attrs, **TOLERANCE)
    check_operator("DepthwiseConv2dNativeBackpropFilter", [images, window, gradients], attrs, **TOLERANCE)


@tensorflow
@settings(max_examples=8)
@given(slides(explicit=False, dilated=False), slides(3, explicit=False, dilated=False), st.integers(0, 99))
def test_filter_gradients(flat: dict[str, Any], deep: dict[str, Any], seed: int) -> None:
    for op, slide in (("Conv2DBackpropFilter", flat), ("Conv3DBackpropFilterV2", deep)):
        images, gradients = values(seed, 2, *slide["sizes"], 4), values(seed + 1, 2, *result_sizes(slide), 3)
        window = np.array([*slide["window"], 4, 3], np.int32)
        check_operator(op, [images, window, gradients], slide["attrs"], rtol=1e-4, atol=1e-3)


@settings(max_examples=20)
@given(slides(), st.integers(0, 99), st.sampled_from([(4, 4, 3), (4, 2, 6)]))
def test_gradients_are_adjoint(slide: dict[str, Any], seed: int, depths: tuple[int, int, int]) -> None:
    """<conv(x, w), g> = <x, transposed(w, g)> = <w, filter gradient(x, g)>, with groups, dilations and paddings."""
    attrs = slide["attrs"]
    images = values(seed, 2, *slide["sizes"], depths[0], dtype=np.float64)
    filters = values(seed + 1, *slide["window"], *depths[1:], dtype=np.float64)
    result = oracle.evaluate("Conv2D", [images, filters], attrs)[0]
    gradients = values(seed + 2, *result.shape, dtype=np.float64)
    expected = np.vdot(result, gradients)
    sizes, window = np.array(images.shape, np.int32), np.array(filters.shape, np.int32)
    back = oracle.evaluate("Conv2DBackpropInput", [sizes, filters, gradients], attrs)[0]
    assert np.isclose(np.vdot(images, back), expected)
    assert np.array_equal(oracle.evaluate("Conv2DBackpropInputV2", [images, filters, gradients], attrs)[0], back)
    learned = oracle.evaluate("Conv2DBackpropFilter", [images, window, gradients], attrs)[0]
    assert np.isclose(np.vdot(filters, learned), expected)
    assert np.array_equal(oracle.evaluate("Conv2DBackpropFilterV2", [images, filters, gradients], attrs)[0], learned)
    first = channels_first(attrs)
    turned = [np.moveaxis(images, -1, 1), np.moveaxis(gradients, -1, 1)]
    sizes = np.array(turned[0].shape, np.int32)
    moved = oracle.evaluate("Conv2DBackpropInput", [sizes, filters, turned[1]], first)[0]
    assert np.allclose(np.moveaxis(moved, 1, -1), back)
    assert np.allclose(oracle.evaluate("Conv2DBackpropFilter", [turned[0], window, turned[1]], first)[0], learned)


def test_a_gradient_that_does_not_fit_is_refused() -> None:
    attrs = {"strides": (1, 2, 2, 1), "padding": b"SAME"}
    filters, gradients = values(0, 3, 3, 4, 5), values(1, 2, 5, 4, 5)
    for sizes in ([2, 9, 9, 4], [3, 9, 8, 4], [2, 9, 8, 3], [2, 9, 8], [2, -9, 8, 4]):
        with pytest.raises(ValueError, match=r"\w"):
            oracle.evaluate("Conv2DBackpropInput", [np.array(sizes, np.int32), filters, gradients], attrs)


def test_the_transposed_shape_is_known_as_far_as_its_sizes_are() -> None:
    graph = Graph()
    sizes = graph.create_node("tf.Placeholder", types=(tensor_type("int32", [4]),)).output
    filters = graph.create_node("tf.Placeholder", types=(tensor_type("float32", [3, 3, 4, 5]),)).output
    gradients = graph.create_node("tf.Placeholder", types=(tensor_type("float32", [symbol("n"), 5, 5, 5]),)).output
    node = graph.create_node("tf.Conv2DBackpropInput", [sizes, filters, gradients], {"strides": (1, 2, 2, 1)})
    operator = ops.find(node.op)
    assert operator is not None
    assert operator.shape is not None
    assert list(operator.shape(InferenceContext(node))) == [Shape((symbol("n"), None, None, None))]


@tensorflow
@FEW
@given(arrays(np.float32, (2, 4, 4, 3), edges=True), st.integers(0, 9))
def test_infinities_and_nan_spread(images: Any, seed: int) -> None:
    attrs = {"strides": (1, 1, 1, 1), "padding": b"VALID"}
    filters = values(seed, 2, 2, 3, 2)
    ours = oracle.evaluate("Conv2D", [images, filters], attrs)[0]
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), (1, 2))  # [n, r, c, channels, 2, 2]
    clean = np.isfinite(windows).all((3, 4, 5))
    with np.errstate(all="ignore"):
        small = clean & (np.abs(windows) < 1e30).all((3, 4, 5))
    assert np.isfinite(ours[small]).all()
    assert not np.isfinite(ours[~clean]).any()
