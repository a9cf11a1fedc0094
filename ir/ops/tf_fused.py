"""Operators of TensorFlow: fused forms that its own optimisers write, and those of oneDNN.

A fused operator is evaluated as what it stands for: the product, then each of `fused_ops` in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim, add
from graphopt.ir.ops import tf_convolution, tf_normalization, tf_pooling
from graphopt.ir.ops.inference import InferenceContext, InferenceError, same_as
from graphopt.ir.ops.interfaces import interface
from graphopt.ir.ops.registry import ShapeFunction, find, register
from graphopt.ir.ops.tf_convolution import Geometry, evaluate_convolution, evaluate_depthwise, geometry
from graphopt.ir.ops.tf_image import resize_bilinear
from graphopt.ir.ops.tf_nn import add_bias
from graphopt.ir.ops.tf_normalization import batch_norm
from graphopt.ir.ops.tf_windows import check_size, merge_dims, ranked, settled, widened
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]
PAD_MODES = {b"REFLECT": "reflect", b"SYMMETRIC": "symmetric"}


# Evaluation ---------------------------------------------------------------------------------------------------


def apply_fused(attrs: Attrs, values: Array, arguments: Sequence[Array]) -> Array:
    """`values` after each of `fused_ops`; `arguments` are what those take besides, in order.

    Raises `ValueError` for one that is not an elementwise operator of the table, and for a wrong number of arguments.
    """
    rest = list(arguments)
    for encoded in attrs["fused_ops"]:
        name = encoded.decode()
        if name == "BiasAdd":
            values = add_bias(attrs, values, _taken(rest, 1, name)[0])
        elif name == "FusedBatchNorm":
            values = batch_norm({**attrs, "is_training": False}, values, *_taken(rest, 4, name))[0]
        elif name == "Add":
            values = values + _taken(rest, 1, name)[0]
        else:
            values = activation(name, attrs, values)
    if rest:
        raise ValueError(f"{len(rest)} arguments are left over after {attrs['fused_ops']}")
    return values


def _taken(rest: list[Array], count: int, name: str) -> list[Array]:
    if len(rest) < count:
        raise ValueError(f"fused {name} lacks its arguments")
    taken = rest[:count]
    del rest[:count]
    return taken


def activation(name: str, attrs: Attrs, values: Array) -> Array:
    """The elementwise operator `name` of one input. Raises `ValueError` where the table has no such."""
    if name == "GeluApproximate":
        wide = widened(values)
        inner = np.sqrt(2 / np.pi).astype(wide.dtype) * (wide + wide.dtype.type(0.044715) * wide**3)
        return np.asarray(wide.dtype.type(0.5) * wide * (1 + np.tanh(inner))).astype(values.dtype, copy=False)
    found = find(f"tf.{name}")
    if found is None or found.evaluate is None or not found.has(Trait.ELEMENTWISE):
        raise ValueError(f"fused operator {name} is not known")
    alpha = {"alpha": attrs["leakyrelu_alpha"]} if name == "LeakyRelu" else {}
    return np.asarray(found.evaluate({"T": attrs.get("T"), **alpha}, values))


def _fused_convolution(attrs: Attrs, images: Array, filters: Array, *arguments: Array) -> Array:
    if attrs.get("filter_format", b"HWIO") != b"HWIO":
        raise ValueError(f"filter format {attrs['filter_format']!r} is not supported")
    return apply_fused(attrs, evaluate_convolution(attrs, images, filters), arguments)


def _fused_depthwise(attrs: Attrs, images: Array, filters: Array, *arguments: Array) -> Array:
    return apply_fused(attrs, evaluate_depthwise(attrs, images, filters), arguments)


def _fused_product(attrs: Attrs, left: Array, right: Array, *arguments: Array) -> Array:
    left = widened(left.T if attrs["transpose_a"] else left)
    right_wide = widened(right.T if attrs["transpose_b"] else right)
    if left.ndim != 2 or right_wide.ndim != 2:
        raise ValueError("a product takes two matrices")
    with np.errstate(all="ignore"):
        product = np.matmul(left, right_wide).astype(right.dtype, copy=False)
    return apply_fused({**attrs, "data_format": b"NHWC"}, product, arguments)


def _fused_batch_norm(attrs: Attrs, images: Array, *vectors: Array) -> list[Array]:
    outputs = batch_norm(attrs, images, *vectors[:4])
    for side in vectors[4:]:
        outputs[0] = outputs[0] + side
    mode = attrs["activation_mode"].decode()
    if mode != "Identity":
        outputs[0] = activation(mode, attrs, outputs[0])
    return [*outputs, np.zeros(0, outputs[1].dtype)]


def mirror_padded(images: Array, paddings: Array, mode: bytes) -> Array:
    """`images` continued by their mirror image. Raises `ValueError` where the mirror image is too small."""
    if mode not in PAD_MODES or paddings.shape != (images.ndim, 2):
        raise ValueError(f"paddings of shape {list(paddings.shape)} and mode {mode!r} do not fit")
    most = [size - (mode == b"REFLECT") for size in images.shape]
    if paddings.size and (
        paddings.min() < 0 or any(max(pair) > limit for pair, limit in zip(paddings, most, strict=True))
    ):
        raise ValueError(f"paddings {paddings.tolist()} exceed what a mirror image of {list(images.shape)} gives")
    check_size([size + int(sum(pair)) for size, pair in zip(images.shape, paddings, strict=True)])
    return np.pad(images, paddings, mode=PAD_MODES[mode])  # type: ignore[call-overload, no-any-return]


def _padded_convolution(attrs: Attrs, images: Array, paddings: Array, filters: Array) -> Array:
    return evaluate_convolution(attrs, mirror_padded(images, paddings, attrs["mode"]), filters)


def _resized_convolution(attrs: Attrs, images: Array, size: Array, paddings: Array, filters: Array) -> Array:
    options = {"align_corners": attrs["resize_align_corners"], "half_pixel_centers": False}
    resized = resize_bilinear(options, images, size).astype(images.dtype, copy=False)
    return _padded_convolution(attrs, resized, paddings, filters)


# Shapes -------------------------------------------------------------------------------------------------------


def _product_shape(context: InferenceContext) -> Sequence[Shape]:
    left, right = ranked(context.shape(0), 2, "the left side"), ranked(context.shape(1), 2, "the right side")
    across, down = bool(context.attrs.get("transpose_a")), bool(context.attrs.get("transpose_b"))
    merge_dims(left[0 if across else 1], right[1 if down else 0], "the inner dimension")
    return [Shape((left[1 if across else 0], right[0 if down else 1]))]


def _padded_sizes(context: InferenceContext, sizes: Sequence[Dim], paddings: int) -> list[Dim]:
    known = context.constant_ints(paddings)
    if known is None:
        return [None] * len(sizes)
    if len(known) != 2 * len(sizes):
        raise InferenceError(f"{len(known)} paddings do not fit rank {len(sizes)}")
    return [add(size, known[2 * axis] + known[2 * axis + 1]) for axis, size in enumerate(sizes)]


def _padded_shape(resized: bool) -> ShapeFunction:
    @settled("strides", "padding")
    def infer(context: InferenceContext) -> Sequence[Shape]:
        slide: Geometry = geometry(context.attrs, 2)
        images = ranked(context.shape(0), 4, "the input")
        filters = ranked(context.shape(3 if resized else 2), 4, "the filter")
        sizes = list(images.dims or ())
        if resized:
            sizes[1:3] = ranked(Shape(context.as_shape(1).dims or (None, None)), 2, "the size").dims or ()
        sizes = _padded_sizes(context, sizes, 2 if resized else 1)
        counts = slide.counts(sizes[1:3], (filters[0], filters[1]))
        return [Shape((sizes[0], *counts, filters[3]))]

    return infer


def _first(shape: ShapeFunction, count: int = 1) -> ShapeFunction:
    """The first `count` outputs as `shape` says; the rest are workspaces and the like."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        known = list(shape(context))[:count]
        return known + [UNKNOWN_SHAPE] * (context.output_count - len(known))

    return infer


register("tf._FusedConv2D", shape=tf_convolution.convolution_shape(2), evaluate=_fused_convolution)
register("tf._FusedConv3D", shape=tf_convolution.convolution_shape(3), evaluate=_fused_convolution)
register("tf._FusedDepthwiseConv2dNative", shape=tf_convolution.depthwise_shape, evaluate=_fused_depthwise)
register("tf._FusedMatMul", shape=_product_shape, evaluate=_fused_product)
register("tf._FusedBatchNormEx", shape=tf_normalization.fused_batch_norm_shape, evaluate=_fused_batch_norm)
register("tf._FusedBatchNormGradEx", traits=Trait.TRAINING, shape=tf_normalization.fused_gradient_shape)
register("tf.FusedPadConv2D", shape=_padded_shape(False), evaluate=_padded_convolution)
register("tf.FusedResizeAndPadConv2D", shape=_padded_shape(True), evaluate=_resized_convolution)

# oneDNN's forms take and give more tensors (layouts, workspaces) than the operators they stand for.
_ONEDNN: Mapping[str, tuple[ShapeFunction, Trait]] = {
    "Conv2D": (tf_convolution.convolution_shape(2), Trait.NONE),
    "Conv2DWithBias": (tf_convolution.convolution_shape(2), Trait.NONE),
    "FusedConv2D": (tf_convolution.convolution_shape(2), Trait.NONE),
    "Conv3D": (tf_convolution.convolution_shape(3), Trait.NONE),
    "FusedConv3D": (tf_convolution.convolution_shape(3), Trait.NONE),
    "DepthwiseConv2dNative": (tf_convolution.depthwise_shape, Trait.NONE),
    "FusedDepthwiseConv2dNative": (tf_convolution.depthwise_shape, Trait.NONE),
    "Conv2DBackpropInput": (tf_convolution.transposed_shape(2), Trait.NONE),
    "Conv3DBackpropInputV2": (tf_convolution.transposed_shape(3), Trait.NONE),
    "DepthwiseConv2dNativeBackpropInput": (tf_convolution.transposed_shape(2), Trait.NONE),
    "Conv2DBackpropFilter": (tf_convolution.filter_gradient_shape(2), Trait.TRAINING),
    "Conv2DBackpropFilterWithBias": (tf_convolution.filter_gradient_shape(2), Trait.TRAINING),
    "Conv3DBackpropFilterV2": (tf_convolution.filter_gradient_shape(3), Trait.TRAINING),
    "DepthwiseConv2dNativeBackpropFilter": (tf_convolution.filter_gradient_shape(2), Trait.TRAINING),
    "MaxPool": (tf_pooling.pool_shape(4), Trait.NONE),
    "MaxPool3D": (tf_pooling.pool_shape(5), Trait.NONE),
    "AvgPool": (tf_pooling.pool_shape(4), Trait.NONE),
    "AvgPool3D": (tf_pooling.pool_shape(5), Trait.NONE),
    "MaxPoolGrad": (same_as(0), Trait.TRAINING),
    "MaxPool3DGrad": (same_as(0), Trait.TRAINING),
    "AvgPoolGrad": (tf_pooling.shaped_by_list(4), Trait.TRAINING),
    "AvgPool3DGrad": (tf_pooling.shaped_by_list(5), Trait.TRAINING),
    "FusedBatchNormGrad": (tf_normalization.fused_gradient_shape, Trait.TRAINING),
    "FusedBatchNormGradV2": (tf_normalization.fused_gradient_shape, Trait.TRAINING),
    "FusedBatchNormGradV3": (tf_normalization.fused_gradient_shape, Trait.TRAINING),
    "FusedMatMul": (_product_shape, Trait.NONE),
    "Softmax": (same_as(0), Trait.NONE),
    "LayerNorm": (same_as(0), Trait.NONE),
    "FusedInstanceNorm": (same_as(0), Trait.NONE),
    "FusedMish": (same_as(0), Trait.ELEMENTWISE),
    "Swish": (same_as(0), Trait.ELEMENTWISE),
    "Relu": (same_as(0), Trait.ELEMENTWISE),
    "Relu6": (same_as(0), Trait.ELEMENTWISE),
    "Elu": (same_as(0), Trait.ELEMENTWISE),
    "LeakyRelu": (same_as(0), Trait.ELEMENTWISE),
    "Tanh": (same_as(0), Trait.ELEMENTWISE),
    "ReluGrad": (same_as(0), Trait.TRAINING),
    "Relu6Grad": (same_as(0), Trait.TRAINING),
    "EluGrad": (same_as(0), Trait.TRAINING),
    "LeakyReluGrad": (same_as(0), Trait.TRAINING),
    "TanhGrad": (same_as(0), Trait.TRAINING),
}
_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "FusedBatchNormEx")

for _prefix in ("tf._Mkl", "tf._MklNative"):
    for _base, (_shape, _traits) in _ONEDNN.items():
        if interface(f"{_prefix[3:]}{_base}") is not None:
            register(f"{_prefix}{_base}", traits=_traits, shape=_first(_shape))
    for _base in _NORMS:
        register(f"{_prefix}{_base}", shape=_first(tf_normalization.fused_batch_norm_shape, 5))
