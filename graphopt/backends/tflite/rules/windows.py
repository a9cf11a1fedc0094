"""What convolutions and pools have in common: strides, dilations, padding, element types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphopt.backends.legalization import Lowering, shaped
from graphopt.backends.tflite.rules.common import cast
from graphopt.ir import dimensions
from graphopt.ir.known import known_array
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.ops.tf_windows import explicit_padding, layout, spatial_only
from graphopt.ir.types import BFLOAT16, FLOAT16, FLOAT32
from graphopt.ir.value import Value

WIDENED = frozenset({FLOAT16, BFLOAT16})  # computed as float32, of which they are a part
Pairs = Sequence[tuple[int, int]]


class Window(NamedTuple):
    """How a window slides: one number for each spatial dimension; paddings are given where they are explicit."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: bytes
    paddings: tuple[tuple[int, int], ...]


def window(op: Lowering, spatial: int) -> Window:
    """The window of a node with `spatial` spatial dimensions before its channels."""
    channels_last(op)
    attrs = op.attrs
    try:
        where = layout(attrs, spatial + 2)
        dilations = spatial_only(attrs, "dilations", where) if attrs.get("dilations") else (1,) * spatial
        return Window(
            spatial_only(attrs, "strides", where), dilations, attrs["padding"], explicit_padding(attrs, where)
        )
    except InferenceError as error:
        op.refuse(str(error))


def channels_last(op: Lowering) -> None:
    """Refuse a node whose channels come first."""
    if op.text("data_format", "NHWC").startswith("NC"):
        op.refuse("its channels come first", "let the layout be converted (channels-last)")


def check_float(op: Lowering, value: Value) -> None:
    """Refuse a type whose numbers float32 does not hold."""
    if value.dtype is not FLOAT32 and value.dtype not in WIDENED:
        op.refuse(f"TFLite computes it for float32, not for {value.dtype.name}", "cast the model to float32")


def as_float32(op: Lowering, value: Value) -> Value:
    """`value` as float32, where that holds all its numbers; a constant stays one. Refuses where it does not."""
    check_float(op, value)
    held = known_array(value)
    if held is not None and value.dtype is not FLOAT32:
        return op.constant(held.astype(np.float32), name=value.node.name)
    return cast(op, value, FLOAT32)


def as_before(op: Lowering, value: Value) -> Value:
    """A result computed as float32 as what the node gives."""
    return cast(op, value, op.type.dtype)


def pad(op: Lowering, value: Value, pairs: Pairs, fill: float | None = None, name: str = "padded") -> Value:
    """`value` with `pairs` of elements around its spatial dimensions: zeros, or `fill`."""
    if not any(before or after for before, after in pairs):
        return value
    every = [(0, 0), *pairs, (0, 0)]
    dims = value.shape.dims or (None,) * len(every)
    type = shaped(value.dtype, [dimensions.add(dim, sum(pair)) for dim, pair in zip(dims, every, strict=True)])
    inputs = [value, op.integers(every, name=f"{op.node.name}/{name}/paddings")]
    if fill is not None:
        inputs.append(op.constant(np.array(fill, value.dtype.numpy), name=f"{op.node.name}/{name}/fill"))
    return op.emit("PAD" if fill is None else "PADV2", *inputs, type=type, name=f"{op.node.name}/{name}")


def unexplicit(op: Lowering, value: Value, sliding: Window, fill: float | None = None) -> tuple[Value, bytes]:
    """`value` padded where the padding is explicit, and the padding that is left: SAME or VALID."""
    if sliding.padding != b"EXPLICIT":
        return value, sliding.padding
    return pad(op, value, sliding.paddings, fill), b"VALID"
