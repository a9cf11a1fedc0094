"""Operators whose operands are stretched to one shape, of more dimensions than LiteRT stretches, too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import Any

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.kernels import ARITHMETIC, Wider, compute
from graphopt.backends.tflite.rules.reshaping import reshaped
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value

MOST = 8  # dimensions that LiteRT's kernels stretch; they crash beyond


def stretched(op: Lowering, kernel: str, *values: Value, wider: Wider = ARITHMETIC, **attrs: Any) -> Value:
    """The one output of `kernel`, whose operands broadcast. Of more than eight dimensions, those that are stretched
    alike are made one between reshapes. Refuses where more than eight are left, or shapes are not known."""
    rank = op.type.shape.rank
    if rank is None or rank <= MOST or all(_fits(value, op.type.shape) for value in values):
        return compute(op, kernel, *values, wider=wider, **attrs)
    sizes = op.static(op.node.output)
    shapes = [(1,) * (rank - op.rank(value)) + op.static(value) for value in values]
    groups = _alike(sizes, shapes)
    if len(groups) > MOST:
        op.refuse(f"it stretches {len(groups)} dimensions in different ways, and LiteRT {MOST}")
    flat = [
        _flat(op, value, [prod(shape[axis] for axis in group) for group in groups])
        for value, shape in zip(values, shapes, strict=True)
    ]
    type = TensorType(op.type.dtype, Shape(prod(sizes[axis] for axis in group) for group in groups))
    made = compute(op, kernel, *flat, type=type, name=f"{op.node.name}/flat", wider=wider, **attrs)
    return _flat(op, made, sizes)


def _fits(value: Value, shape: Shape) -> bool:
    return value.shape.dims == () or (value.shape == shape and shape.is_static)


def _alike(sizes: Sequence[int], shapes: Sequence[Sequence[int]]) -> list[list[int]]:
    """Neighbouring axes along which the same operands are stretched; axes of size one are left out."""
    axes = [axis for axis, size in enumerate(sizes) if size != 1]
    grouped = groupby(axes, key=lambda axis: tuple(shape[axis] == sizes[axis] for shape in shapes))
    return [list(group) for _, group in grouped]


def _flat(op: Lowering, value: Value, dims: Sequence[int]) -> Value:
    found = reshaped(op, value, dims, name=f"{value.node.name}/flat")
    assert found is not None  # every dimension is known
    return found
