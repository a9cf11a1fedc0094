"""Images of another size, patches and crops of images, colours."""

from __future__ import annotations

import numpy as np

from graphopt.backends.decompositions.interpolation import image_dims, interpolation_weights, scaling_weights
from graphopt.backends.legalization import Array, Lowering, shaped
from graphopt.backends.onnx.rules.common import longs, transpose
from graphopt.backends.onnx.table import RULES
from graphopt.ir.types import FLOAT32, Shape, TensorType
from graphopt.ir.value import Value

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
LARGEST = 1 << 20  # elements of a kernel that only moves elements
CLOSE = 1e-6
CUBIC = {True: -0.5, False: -0.75}  # the coefficient with and without the centres of pixels at halves


@RULES.legalize("tf.ResizeBilinear", "tf.ResizeNearestNeighbor")
def resized(op: Lowering) -> Value:
    """Images of another size, in each of TensorFlow's ways to place pixels; integers become floats in between."""
    value = op.input(0)
    if value.dtype is not op.type.dtype:
        value = op.step("Cast", value, SrcT=value.dtype, DstT=op.type.dtype)
    attrs: dict[str, object] = {"coordinate_transformation_mode": _coordinates(op), "mode": b"linear"}
    if op.node.op == "tf.ResizeNearestNeighbor":
        is_rounded = op.attr("align_corners") or op.attr("half_pixel_centers")
        attrs |= {"mode": b"nearest", "nearest_mode": b"round_prefer_ceil" if is_rounded else b"floor"}
    return _resize(op, value, attrs)


def _coordinates(op: Lowering) -> bytes:
    if op.attr("half_pixel_centers"):
        return b"half_pixel"
    return b"align_corners" if op.attr("align_corners") else b"asymmetric"


def _resize(op: Lowering, value: Value, attrs: dict[str, object]) -> Value:
    """ONNX's operator on channels that come first; the axes are named where other sizes are not known."""
    first = transpose(op, value, FIRST, "channels_first")
    size = op.known(1)
    dims = value.shape.dims or (None,) * 4
    if size is None:
        wanted = op.step("Cast", op.input(1), DstT=longs(op, [0], "int64").dtype)
        kind = TensorType(value.dtype, Shape([dims[0], dims[3], None, None]))
        made = op.emit_node("Resize", (first, None, None, wanted), [kind], attrs={**attrs, "axes": (2, 3)}).output
        return transpose(op, made, LAST, "channels_last")
    sizes = [int(number) for number in size]
    batch, channels = dims[0], dims[3]
    if isinstance(batch, int) and isinstance(channels, int):
        sizes = [batch, channels, *sizes]
    else:
        attrs = {**attrs, "axes": (2, 3)}
    kind = TensorType(value.dtype, Shape([batch, channels, *sizes[-2:]]))
    made = op.emit_node("Resize", (first, None, None, longs(op, sizes, "size")), [kind], attrs=attrs).output
    return transpose(op, made, LAST, "channels_last")


@RULES.legalize("tf.ResizeBicubic")
def resized_cubic(op: Lowering) -> Value:
    """Bicubic interpolation. TensorFlow looks its weights up in a table of 1024 steps: where ONNX's, which are
    computed, are others, images are multiplied with those of the table."""
    value = op.input(0)
    if value.dtype is not FLOAT32:
        value = op.step("Cast", value, SrcT=value.dtype, DstT=FLOAT32)
    is_half = bool(op.attr("half_pixel_centers"))
    mode = {"coordinate_transformation_mode": _coordinates(op), "mode": b"cubic", "exclude_outside": int(is_half)}
    attrs: dict[str, object] = {**mode, "cubic_coeff_a": CUBIC[is_half]}
    dims = value.shape.dims
    if op.known(1) is None or dims is None or not all(isinstance(dim, int) for dim in dims[1:3]):
        return _resize(op, value, attrs)
    rows, columns = interpolation_weights(op)
    if all(_is_computed(op, weights) for weights in (rows, columns)):
        return _resize(op, value, attrs)
    return _resampled(op, value, rows, columns)


def _is_computed(op: Lowering, weights: Array) -> bool:
    """The weights are those that ONNX's operator computes."""
    wanted, source = weights.shape
    is_half = bool(op.attr("half_pixel_centers"))
    places = np.arange(wanted, dtype=np.float64)
    if is_half:
        at = (places + 0.5) * source / wanted - 0.5
    elif op.attr("align_corners"):
        at = places * (source - 1) / max(wanted - 1, 1)
    else:
        at = places * source / wanted
    distance = np.abs(at[:, None] - (np.floor(at)[:, None] + np.arange(-1, 3)))
    a = CUBIC[is_half]
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    taps = np.where(distance <= 1, near, far)
    columns = (np.floor(at)[:, None] + np.arange(-1, 3)).astype(int)
    if is_half:
        taps = np.where((columns < 0) | (columns >= source), 0, taps)
        taps /= taps.sum(1, keepdims=True)
    made = np.zeros_like(weights)
    np.add.at(made, (np.arange(wanted)[:, None], np.clip(columns, 0, source - 1)), taps)
    return bool(np.abs(made - weights).max(initial=0) < CLOSE)


@RULES.legalize("tf.ResizeArea")
def resized_by_area(op: Lowering) -> Value:
    """Means of whole pixels are a pool, copies of them the nearest ones; else images of known size are multiplied
    with how much each row and column counts."""
    _, height, width, _ = image_dims(op)
    tall, wide = (int(number) for number in op.constant_input(1, "the size"))
    if not op.attr("align_corners") and op.input(0).dtype is FLOAT32 and tall and wide:
        if not height % tall and not width % wide:
            window = (1, height // tall, width // wide, 1)
            return op.step("AvgPool", op.input(0), ksize=window, strides=window, padding=b"VALID")
        if not tall % height and not wide % width:
            return op.step("ResizeNearestNeighbor", op.input(0), op.input(1))
    return _resampled(op, op.input(0), *interpolation_weights(op))


@RULES.legalize("tf.ScaleAndTranslate")
def scale_and_translate(op: Lowering) -> Value:
    """Any of the resampling kernels, smoothing or not, for images of known size."""
    return _resampled(op, op.input(0), *scaling_weights(op))


def _resampled(op: Lowering, value: Value, rows: Array, columns: Array) -> Value:
    """Images times weights of rows `[rows, height]` and of columns `[columns, width]`."""
    if value.dtype is not FLOAT32:
        value = op.step("Cast", value, SrcT=value.dtype, DstT=FLOAT32)
    batch, _, width, channels = image_dims(op)
    first = transpose(op, value, FIRST, "channels_first")
    name, tall = op.node.name, shaped(FLOAT32, (batch, channels, len(rows), width))
    lines = op.emit("MatMul", op.constant(rows, name=f"{name}/rows"), first, type=tall, name=f"{name}/vertical")
    held = op.constant(np.ascontiguousarray(columns.T), name=f"{name}/columns")
    whole = shaped(FLOAT32, (batch, channels, len(rows), len(columns)))
    made = op.emit("MatMul", lines, held, type=whole, name=f"{name}/horizontal")
    return transpose(op, made, LAST, "channels_last")


@RULES.legalize("tf.ExtractImagePatches")
def patches(op: Lowering) -> Value:
    """Patches, each as channels: a convolution that only moves elements, or blocks of pixels side by side."""
    _, height, width, channels = image_dims(op)
    sizes, strides, rates = op.attr("ksizes")[1:3], op.attr("strides")[1:3], op.attr("rates")[1:3]
    value, block = op.input(0), sizes[0]
    if sizes == strides == (block, block) and rates == (1, 1) and not height % block and not width % block:
        return op.step("SpaceToDepth", value, block_size=block) if block > 1 else value
    count = sizes[0] * sizes[1] * channels
    if count * count > LARGEST:
        op.refuse(f"its patches of {count} elements are too large to be moved by a convolution")
    if value.dtype is not FLOAT32:
        value = op.step("Cast", value, SrcT=value.dtype, DstT=FLOAT32)
    taps = op.constant(np.eye(count, dtype=np.float32).reshape(*sizes, channels, count), name=f"{op.node.name}/taps")
    attrs = {"strides": (1, *strides, 1), "dilations": (1, *rates, 1), "padding": op.attr("padding")}
    made = op.step("Conv2D", value, taps, **attrs)
    return made if op.type.dtype is FLOAT32 else op.step("Cast", made, SrcT=FLOAT32, DstT=op.type.dtype)
