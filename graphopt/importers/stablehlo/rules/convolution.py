"""Convolutions of one to three spatial axes, whatever the order of axes: grouped, dilated, transposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.rules.shaping import padded, spread
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.dimensions import Dim
from graphopt.ir.types import Shape
from graphopt.ir.value import Value

FORMATS = {2: b"NHWC", 3: b"NDHWC"}


@dataclass
class Setting:
    """A convolution with axes as TensorFlow has them; a further axis of one element where there is but one."""

    x: Value
    kernel: Value
    strides: list[int]
    padding: list[tuple[int, int]]
    input_dilation: list[int]
    kernel_dilation: list[int]
    groups: int

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.strides)

    @property
    def sizes(self) -> list[int]:
        """Of the kernel, along its spatial axes."""
        return [dim if isinstance(dim, int) else 0 for dim in (self.kernel.shape.dims or ())[: self.rank]]


@RULES.translate("stablehlo.convolution", "stablehlo.dynamic_conv")
def convolution(op: Operation) -> Operand:
    """`Conv2D` and its relatives, between transposes where axes are in another order."""
    numbers = op.structure("dimension_numbers", "ConvDimensionNumbers")
    spatial = list(numbers.input_spatial_dimensions)
    if op.integer("batch_group_count", 1) != 1:
        op.refuse("it groups by batch, as the gradient of a convolution does")
    if not 1 <= len(spatial) <= 3:
        op.refuse(f"it has {len(spatial)} spatial axes")
    if not op.dtype().is_float:
        op.refuse(f"it computes with {op.dtype().name}")
    build = op.build
    x_order = [numbers.input_batch_dimension, *spatial, numbers.input_feature_dimension]
    kernel_order = [
        *numbers.kernel_spatial_dimensions,
        numbers.kernel_input_feature_dimension,
        numbers.kernel_output_feature_dimension,
    ]
    x, kernel = (build.cast(op.full(place), op.dtype()) for place in (0, 1))
    kernel = build.transposed(kernel, kernel_order)
    reversal = op.ints("window_reversal")
    if any(reversal):
        kernel = build.value("ReverseV2", kernel, build.integers([axis for axis, flag in enumerate(reversal) if flag]))
    setting = _setting(op, build.transposed(x, x_order), kernel)
    made = _computed(op, setting)
    if len(spatial) == 1:
        dims = made.shape.dims or ()
        made = build.reshaped(made, [dims[0], *dims[2:]])
    order = [numbers.output_batch_dimension, *numbers.output_spatial_dimensions, numbers.output_feature_dimension]
    return op.made(build.transposed(made, [order.index(axis) for axis in range(len(order))]))


def _setting(op: Operation, x: Value, kernel: Value) -> Setting:
    rank = (x.shape.rank or 0) - 2
    ones = [1] * rank
    if op.name.endswith("dynamic_conv"):
        flat = [int(number) for number in op.constant_input(2, "the padding").reshape(-1)]
    else:
        flat = op.ints("padding", [0] * (2 * rank))
    setting = Setting(
        x, kernel, op.ints("window_strides", ones), list(zip(flat[::2], flat[1::2], strict=True)),
        op.ints("lhs_dilation", ones), op.ints("rhs_dilation", ones), op.integer("feature_group_count", 1),
    )  # fmt: skip
    if 0 in setting.sizes or None in (kernel.shape.dims or ()):
        op.refuse("the size of its kernel is not known")
    if rank == 1:
        x_dims, kernel_dims = x.shape.dims or (), kernel.shape.dims or ()
        setting.x = op.build.reshaped(x, [x_dims[0], 1, *x_dims[1:]])
        setting.kernel = op.build.reshaped(kernel, [1, *kernel_dims])
        setting.strides, setting.padding = setting.strides * 2, [(0, 0), *setting.padding]
        setting.input_dilation, setting.kernel_dilation = [1, *setting.input_dilation], [1, *setting.kernel_dilation]
    return setting


def _computed(op: Operation, setting: Setting) -> Value:
    if any(step != 1 for step in setting.input_dilation):
        plain = all(step == 1 for step in (*setting.strides, *setting.kernel_dilation))
        static = Shape((setting.x.shape.dims or ())[1:-1]).static
        if plain and setting.groups == 1 and static is not None and setting.rank == 2:
            return _transposed(op, setting, static)
        gaps = [0, *(step - 1 for step in setting.input_dilation), 0]
        setting.x = spread(op, setting.x, gaps, op.build.scalar(0, setting.x.dtype))
    return _forward(op, setting)


def _forward(op: Operation, setting: Setting) -> Value:
    build, features = op.build, (setting.x.shape.dims or ())[-1]
    spans = [(size - 1) * step + 1 for size, step in zip(setting.sizes, setting.kernel_dilation, strict=True)]
    x, padding = implied_padding(op, setting.x, spans, setting.strides, setting.padding)
    attrs = {
        "strides": (1, *setting.strides, 1), "dilations": (1, *setting.kernel_dilation, 1), "padding": padding,
        "data_format": FORMATS[setting.rank],
    }  # fmt: skip
    if setting.rank == 3:
        if setting.groups != 1:
            op.refuse("it is grouped, of three spatial axes")
        return build.value("Conv3D", x, setting.kernel, **attrs)
    inner, outer = (setting.kernel.shape.dims or ())[-2:]
    assert isinstance(outer, int)
    same_steps = len(set(setting.strides)) == 1 and (setting.strides[0] == 1 or set(setting.kernel_dilation) == {1})
    if setting.groups > 1 and inner == 1 and features == setting.groups and same_steps:
        kernel = build.reshaped(setting.kernel, [*setting.sizes, setting.groups, outer // setting.groups])
        return build.value("DepthwiseConv2dNative", x, kernel, **attrs)
    return build.value("Conv2D", x, setting.kernel, **attrs)


def implied_padding(
    op: Operation, x: Value, spans: Sequence[int], strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> tuple[Value, bytes]:
    """`SAME` or `VALID` where they mean this padding, otherwise `x` padded by zeros, and `VALID`."""
    sizes = list((x.shape.dims or ())[1:-1])
    if not any(amount for pair in padding for amount in pair):
        return x, b"VALID"
    if all(_is_same(*each) for each in zip(sizes, spans, strides, padding, strict=True)):
        return x, b"SAME"
    return padded(op, x, [(0, 0), *padding, (0, 0)]), b"VALID"


def _is_same(size: Dim, span: int, stride: int, padding: tuple[int, int]) -> bool:
    """TensorFlow's `SAME` pads so along an axis of that size."""
    if isinstance(size, int):
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
    elif stride == 1:
        total = span - 1
    else:
        return False
    return padding == (total // 2, total - total // 2)


def _transposed(op: Operation, setting: Setting, static: tuple[int, ...]) -> Value:
    """`Conv2DBackpropInput`: a kernel from its end, with input and output features exchanged."""
    build, sizes, steps = op.build, setting.sizes, setting.input_dilation
    kernel = build.value("ReverseV2", setting.kernel, build.integers([0, 1])) if max(sizes) > 1 else setting.kernel
    kernel = build.transposed(kernel, [0, 1, 3, 2])
    wanted = [
        (size - 1) * step + 1 + low + high - span + 1
        for size, step, span, (low, high) in zip(static, steps, sizes, setting.padding, strict=True)
    ]
    is_same = all(
        size == -(-out // step) and span - 1 - low == max((size - 1) * step + span - out, 0) // 2
        for size, out, step, span, (low, _) in zip(static, wanted, steps, sizes, setting.padding, strict=True)
    )
    whole = [(size - 1) * step + max(span, 1) for size, step, span in zip(static, steps, sizes, strict=True)]
    extents = wanted if is_same else whole
    made = _backprop(op, setting, kernel, extents, b"SAME" if is_same else b"VALID")
    if is_same:
        return made
    moved = [(low - (span - 1), high - (span - 1)) for span, (low, high) in zip(sizes, setting.padding, strict=True)]
    return padded(op, made, [(0, 0), *moved, (0, 0)])


def _backprop(op: Operation, setting: Setting, kernel: Value, extents: Sequence[int], padding: bytes) -> Value:
    build = op.build
    outputs = (kernel.shape.dims or ())[-2]
    assert isinstance(outputs, int)
    batch = (setting.x.shape.dims or ())[0]
    numbers = [*extents, outputs]
    if isinstance(batch, int):
        shape = build.constant(np.asarray([batch, *numbers], np.int32))
    else:
        whole = build.value("Shape", setting.x)
        shape = build.stacked([build.element(whole, 0), *(build.integers(number) for number in numbers)])
    return build.value(
        "Conv2DBackpropInput", shape, kernel, setting.x, strides=(1, *setting.input_dilation, 1), padding=padding,
        dilations=(1, 1, 1, 1), data_format=b"NHWC",
    )  # fmt: skip
