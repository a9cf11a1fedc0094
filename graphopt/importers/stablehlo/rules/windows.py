"""Reductions over moving windows: pooling, and sums, products and extremes of all elements so far."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.importers.stablehlo.bodies import monoid
from graphopt.importers.stablehlo.operand import Operand, Window
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.rules.convolution import implied_padding
from graphopt.importers.stablehlo.rules.reduction import COMBINED, KINDS, identity
from graphopt.importers.stablehlo.rules.shaping import padded, spread
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.types import BOOL, Shape
from graphopt.ir.value import Value

MOST_SHIFTS = 64  # windows of more elements, of no form that TensorFlow has, are refused
POOLED_RANKS = (4, 5)


@dataclass
class Setting:
    """Windows: sizes, steps, what lies around and between elements, steps within a window."""

    kind: str
    sizes: list[int]
    strides: list[int]
    padding: list[tuple[int, int]]
    base_dilation: list[int]
    dilation: list[int]

    @property
    def is_plain(self) -> bool:
        """Nothing lies between elements or within windows."""
        return set(self.base_dilation) | set(self.dilation) == {1}


@RULES.translate("stablehlo.reduce_window")
def reduce_window(op: Operation) -> Operand:
    """Pooling, running sums and the like."""
    if len(op.operands) != 2:
        op.refuse("it reduces several tensors at once")
    x, start = op.operands
    if x.dtype is BOOL:
        op.refuse("it computes with truth values")
    kind = KINDS.get(monoid(op.mlir.regions[0]), "")
    if kind not in ("Sum", "Prod", "Max", "Min"):
        op.refuse("it combines elements by a function of its own")
    if start.number is None or start.number != identity(kind, x.dtype):
        op.refuse("it starts from a number that is not neutral")
    ones = [1] * x.rank
    flat = op.ints("padding", [0] * (2 * x.rank))
    setting = Setting(
        kind, op.ints("window_dimensions"), op.ints("window_strides", ones),
        list(zip(flat[::2], flat[1::2], strict=True)),
        op.ints("base_dilations", ones), op.ints("window_dilations", ones),
    )  # fmt: skip
    for form in (_counted, _running, _pooled):
        made = form(op, x, setting) if setting.is_plain else None
        if made is not None:
            return made
    return op.made(_shifted(op, x, setting))


def _counted(op: Operation, x: Operand, setting: Setting) -> Operand | None:
    """Sums over windows of one constant: how many of its elements are there."""
    if x.number is None or Shape(x.dims).static is None or setting.kind != "Sum":
        return None
    counts = _counts(x, setting) * np.asarray(x.number)
    return op.made(op.build.constant(counts.astype(x.dtype.numpy)))


def _running(op: Operation, x: Operand, setting: Setting) -> Operand | None:
    """Windows that reach from each element to the beginning, or the end, of one axis."""
    axes = [axis for axis, size in enumerate(setting.sizes) if size != 1]
    if len(axes) != 1 or set(setting.strides) != {1}:
        return None
    (axis,), build = axes, op.build
    size, pads = setting.sizes[axis], setting.padding[axis]
    if x.dims[axis] != size or pads not in ((size - 1, 0), (0, size - 1)):
        return None
    if any(pair != (0, 0) for place, pair in enumerate(setting.padding) if place != axis):
        return None
    is_reversed = pads[0] == 0
    if setting.kind in ("Sum", "Prod"):
        name = "Cumsum" if setting.kind == "Sum" else "Cumprod"
        return op.made(build.value(name, op.full(0), build.integers(axis), reverse=is_reversed), x.dims)
    value, step = op.full(0), 1
    filler = build.constant(np.asarray(identity(setting.kind, x.dtype)))
    while step < size:  # each element is joined with the one that many places away, and twice as many the next time
        amounts = [(0, 0)] * x.rank
        amounts[axis] = (-step, step) if is_reversed else (step, -step)
        value = build.value(COMBINED[setting.kind], value, padded(op, value, amounts, filler))
        step *= 2
    return op.made(value, x.dims)


def _pooled(op: Operation, x: Operand, setting: Setting) -> Operand | None:
    """Windows over spatial axes, batch and features being those that windows and padding leave alone."""
    alone = [
        axis for axis, size in enumerate(setting.sizes)
        if size == 1 and setting.strides[axis] == 1 and setting.padding[axis] == (0, 0)
    ]  # fmt: skip
    if setting.kind not in ("Max", "Sum") or not x.dtype.is_float or len(alone) < 2 or x.rank > max(POOLED_RANKS):
        return None
    batch, features = alone[0], alone[-1]
    spatial = [axis for axis in range(x.rank) if axis not in (batch, features)]
    order, build = [batch, *spatial, features], op.build
    value = build.transposed(op.full(0), order)
    sizes, strides = ([held[axis] for axis in spatial] for held in (setting.sizes, setting.strides))
    padding = [setting.padding[axis] for axis in spatial]
    if not spatial:
        return None
    added = max(0, 4 - x.rank)
    dims = list(value.shape.dims or ())
    value = build.reshaped(value, [dims[0], *[1] * added, *dims[1:]])
    sizes, strides, padding = [*[1] * added, *sizes], [*[1] * added, *strides], [*[(0, 0)] * added, *padding]
    pooled = _pool(op, value, setting.kind, sizes, strides, padding)
    held = list(pooled.shape.dims or ())
    pooled = build.reshaped(pooled, [held[0], *held[1 + added :]])
    made = op.made(build.transposed(pooled, [order.index(axis) for axis in range(x.rank)]))
    if setting.kind == "Sum":
        made.window = Window(x, tuple(setting.sizes), tuple(setting.strides), tuple(setting.padding))
    return made


def _pool(
    op: Operation,
    value: Value,
    kind: str,
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Value:
    build = op.build
    suffix = "3D" if len(sizes) == 3 else ""
    attrs = {"ksize": (1, *sizes, 1), "strides": (1, *strides, 1), "data_format": b"NDHWC" if suffix else b"NHWC"}
    if kind == "Max":
        _, name = implied_padding(op, value, sizes, strides, padding)
        if name == b"VALID":
            filler = build.constant(np.asarray(identity("Max", value.dtype)))
            value = padded(op, value, [(0, 0), *padding, (0, 0)], filler)
        return build.value(f"MaxPool{suffix}", value, padding=name, **attrs)
    value = padded(op, value, [(0, 0), *padding, (0, 0)])
    mean = build.value(f"AvgPool{suffix}", value, padding=b"VALID", **attrs)
    return build.value("Mul", mean, build.scalar(np.prod(sizes), value.dtype))


def average(op: Operation, total: Operand, count: Operand) -> Operand | None:
    """Sums over windows divided by how many elements there are in a window: average pooling, `SAME` where those
    outside do not count. None where the divisor is another."""
    window = total.window
    assert window is not None
    x, build = window.source, op.build
    area = int(np.prod(window.sizes))
    if count.number is not None and float(count.number) == area and total.value.node.op == "tf.Mul":
        return op.like(total.value.node.input(0), total, count)  # which is the mean before it was multiplied
    held, static = count.array, Shape(x.dims).static
    if held is None or static is None or x.rank != 4 or window.sizes[0] != 1 or window.sizes[3] != 1:
        return None
    spans, strides, padding = window.sizes[1:3], window.strides[1:3], window.padding[1:3]
    value = build.full(x)
    _, name = implied_padding(op, value, spans, strides, padding)
    setting = Setting("Sum", list(window.sizes), list(window.strides), list(window.padding), [1] * 4, [1] * 4)
    whole = Operand(build.scalar(1, x.dtype), (1, *static[1:3], 1))
    counts = _counts(whole, setting)
    if name != b"SAME" or not np.array_equal(np.broadcast_to(counts, held.shape), held):
        return None
    made = build.value(
        "AvgPool", value, ksize=window.sizes, strides=window.strides, padding=b"SAME", data_format=b"NHWC"
    )
    return op.like(made, total, count)


def _counts(x: Operand, setting: Setting) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    counts = np.ones(())
    for axis, size in enumerate(Shape(x.dims).static or ()):
        line = np.pad(np.ones(size), setting.padding[axis])
        span, step = setting.sizes[axis], setting.strides[axis]
        along = np.array([line[begin : begin + span].sum() for begin in range(0, len(line) - span + 1, step)])
        counts = counts * along.reshape([-1 if place == axis else 1 for place in range(x.rank)])
    return counts


def _shifted(op: Operation, x: Operand, setting: Setting) -> Value:
    """The general form: strided slices, one for each place in a window, combined."""
    count = int(np.prod(setting.sizes))
    if count > MOST_SHIFTS:
        op.refuse(f"its windows have {count} elements, in a form that TensorFlow has no operator for")
    build = op.build
    filler = build.constant(np.asarray(identity(setting.kind, x.dtype)))
    value = spread(op, op.full(0), [step - 1 for step in setting.base_dilation], filler)
    value = padded(op, value, setting.padding, filler)
    dims = op.static(Operand(value, value.shape.dims or ()))
    spans = [(size - 1) * step + 1 for size, step in zip(setting.sizes, setting.dilation, strict=True)]
    lengths = [(dim - span) // step + 1 for dim, span, step in zip(dims, spans, setting.strides, strict=True)]
    result: Value | None = None
    for offset in itertools.product(*(range(size) for size in setting.sizes)):
        begin = [place * step for place, step in zip(offset, setting.dilation, strict=True)]
        end = [low + (n - 1) * step + 1 for low, n, step in zip(begin, lengths, setting.strides, strict=True)]
        shifted = build.value(
            "StridedSlice", value, build.integers(begin), build.integers(end), build.integers(setting.strides)
        )
        result = shifted if result is None else build.value(COMBINED[setting.kind], result, shifted)
    assert result is not None
    return result
