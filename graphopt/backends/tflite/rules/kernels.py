"""Choosing kernels: an operator of TFLite in the element type at hand or, where LiteRT has no such kernel, in a wider
one that holds every value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import cast
from graphopt.ir.known import known_array
from graphopt.ir.ops.tflite_kernels import supports
from graphopt.ir.types import (
    BFLOAT16,
    BOOL,
    COMPLEX128,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    DType,
    TensorType,
)
from graphopt.ir.value import Value

Wider = Mapping[DType, tuple[DType, ...]]

# Types to compute in instead: they hold every value, and what overflows wraps alike once it is narrowed again.
ARITHMETIC: Wider = {
    FLOAT16: (FLOAT32,), BFLOAT16: (FLOAT32,), INT8: (INT32,), UINT8: (INT32,), INT16: (INT32,),
    UINT16: (INT32,), UINT32: (INT64,),
}  # fmt: skip
# Types to move elements in instead.
MOVEMENT: Wider = {**ARITHMETIC, BOOL: (INT8,)}
_REMEDIES: Mapping[DType, str] = {FLOAT64: "build it in float32", COMPLEX128: "build it in complex64"}
_LOOKED_BACK = 64  # producers looked at to find out how large an integer can be
_SIZES = frozenset({"tf.Shape", "tf.Size", "tf.Rank", "tfl.SHAPE", "tfl.RANK"})
_KEEPING = frozenset({
    "tf.Identity", "tf.StridedSlice", "tf.Pack", "tf.ConcatV2", "tf.Reshape", "tf.Squeeze", "tf.GatherV2",
    "tfl.STRIDED_SLICE", "tfl.SLICE", "tfl.PACK", "tfl.CONCATENATION", "tfl.RESHAPE", "tfl.SQUEEZE", "tfl.EXPAND_DIMS",
    "tfl.GATHER", "tfl.MAXIMUM", "tfl.MINIMUM", "tfl.REDUCE_MAX", "tfl.REDUCE_MIN", "tfl.CAST", "tfl.FLOOR_DIV",
})  # fmt: skip


def compute(
    op: Lowering, kernel: str, *inputs: Value | None, type: TensorType | None = None, name: str | None = None,
    wider: Wider = ARITHMETIC, **attrs: Any,
) -> Value:  # fmt: skip
    """The one output of `kernel`. Refuses where LiteRT has it neither for the types at hand nor for wider ones."""
    types = [type if type is not None else op.node.output.type]
    return compute_all(op, kernel, inputs, types, name=name, wider=wider, attrs=attrs)[0]


def move(
    op: Lowering, kernel: str, *inputs: Value | None, type: TensorType | None = None, name: str | None = None,
    **attrs: Any,
) -> Value:  # fmt: skip
    """`compute` for kernels that only move elements, so that booleans may travel as integers."""
    types = [type if type is not None else op.node.output.type]
    return compute_all(op, kernel, inputs, types, name=name, wider=MOVEMENT, attrs=attrs)[0]


def compute_all(
    op: Lowering, kernel: str, inputs: Sequence[Value | None], types: Sequence[TensorType], *, name: str | None = None,
    wider: Wider = ARITHMETIC, attrs: Mapping[str, Any] = {},
) -> list[Value]:  # fmt: skip
    """All outputs of `kernel`, whose types are `types`; see `compute`. Those without elements are constants."""
    if all(type.shape.static is not None and type.shape.size == 0 and type.dtype.numpy is not None for type in types):
        return [op.constant(np.empty(type.shape.static or (), type.dtype.numpy), name=name) for type in types]
    dtypes = dict.fromkeys(value.dtype for value in inputs if value is not None)
    dtypes.update(dict.fromkeys(type.dtype for type in types))
    doubtful = [dtype for dtype in dtypes if dtype in wider or dtype in _REMEDIES]
    reason = _refusal(kernel, inputs, types, attrs) if doubtful else None
    if reason is None:
        return op.emit_node(kernel, inputs, types, name, dict(attrs)).outputs
    for narrow in doubtful:
        for wide in wider.get(narrow, ()):
            wide_types = [_retyped(type, narrow, wide) for type in types]
            typed = [None if value is None else _retyped(value.type, narrow, wide) for value in inputs]
            if supports(kernel, typed, wide_types, attrs, constants=_constants(inputs)) is None:
                return _widened(op, kernel, inputs, types, name, attrs, narrow, wide)
    op.refuse(f"as {kernel}, its {reason}", next((_REMEDIES[dtype] for dtype in doubtful if dtype in _REMEDIES), ""))


def supported(kernel: str, inputs: Sequence[Value | None], types: Sequence[TensorType]) -> bool:
    """LiteRT has `kernel` for these operands as they are."""
    return _refusal(kernel, inputs, types, {}) is None


def fits_int32(value: Value) -> bool:
    """The integers of `value` are sizes, places or known numbers, all of which int32 holds."""
    pending, seen = [value], 0
    while pending:
        value = pending.pop()
        seen += 1
        if (value.dtype.bits and value.dtype.bits <= 32) or value.node.op in _SIZES:
            continue
        held = known_array(value, limit=1 << 16)
        if held is not None:
            if held.size and (held.min() < -(1 << 31) or held.max() >= 1 << 31):
                return False
        elif value.node.op in _KEEPING and seen < _LOOKED_BACK:
            pending += [operand for operand in value.node.inputs if operand is not None and operand.dtype.is_integer]
        elif not _is_size(value):
            return False
    return True


def narrowed(op: Lowering, value: Value) -> Value:
    """An int64 value that fits as int32. Refuses where it may not fit."""
    if value.dtype is not INT64:
        return value
    if not fits_int32(value):
        op.refuse("LiteRT has no kernel for int64 here, and the numbers may not fit into int32", "let it be int32")
    held = known_array(value)
    if held is not None:
        return op.constant(held.astype(np.int32), name=f"{value.node.name}/int32")
    return cast(op, value, INT32)


def _refusal(
    kernel: str, inputs: Sequence[Value | None], types: Sequence[TensorType], attrs: Mapping[str, Any]
) -> str | None:
    operands = [None if value is None else value.type for value in inputs]
    return supports(kernel, operands, types, attrs, constants=_constants(inputs))


def _constants(inputs: Sequence[Value | None]) -> list[bool]:
    return [value is not None and value.node.op in ("tf.Const", "tfl.CONSTANT") for value in inputs]


def _retyped(type: TensorType, narrow: DType, wide: DType) -> TensorType:
    return TensorType(wide, type.shape) if type.dtype is narrow else type


def _widened(
    op: Lowering, kernel: str, inputs: Sequence[Value | None], types: Sequence[TensorType], name: str | None,
    attrs: Mapping[str, Any], narrow: DType, wide: DType,
) -> list[Value]:  # fmt: skip
    taken = [None if value is None or value.dtype is not narrow else _wide(op, value, wide) for value in inputs]
    operands = [old if new is None else new for old, new in zip(inputs, taken, strict=True)]
    made = [_retyped(type, narrow, wide) for type in types]
    changed = {key: wide if item is narrow and key != "in_data_type" else item for key, item in attrs.items()}
    node = op.emit_node(kernel, operands, made, f"{name or op.node.name}/{wide.name}", changed)
    return [
        cast(op, value, narrow) if type.dtype is narrow else value
        for value, type in zip(node.outputs, types, strict=True)
    ]


def _wide(op: Lowering, value: Value, wide: DType) -> Value:
    held = known_array(value, limit=1 << 16)
    if held is not None:
        return op.constant(held.astype(wide.numpy), name=f"{value.node.name}/{wide.name}")
    return cast(op, value, wide)


def _is_size(value: Value) -> bool:
    """A product over all of a shape."""
    return value.node.op == "tfl.REDUCE_PROD" and value.node.input(0).node.op in _SIZES
