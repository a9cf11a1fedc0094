"""Reductions over axes, by functions that TensorFlow has operators for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.importers.stablehlo.bodies import monoid, tried
from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.types import BOOL, INT32, DType
from graphopt.ir.value import Value

KINDS = {"add": "Sum", "multiply": "Prod", "maximum": "Max", "minimum": "Min", "and": "All", "or": "Any"}
OF_TRUTH = {"add": "Any", "maximum": "Any", "multiply": "All", "minimum": "All", "and": "All", "or": "Any"}
COMBINED = {"Sum": "AddV2", "Prod": "Mul", "Max": "Maximum", "Min": "Minimum", "All": "LogicalAnd", "Any": "LogicalOr"}


@RULES.translate("stablehlo.reduce")
def reduce(op: Operation) -> Operand | list[Operand]:
    """`Sum`, `Max` and the like, or the place of the greatest or smallest element."""
    axes, count = op.ints("dimensions"), len(op.operands) // 2
    region = op.mlir.regions[0]
    if count == 2:
        return _extreme_place(op, axes)
    kind = monoid(region) if count == 1 else ""
    table = OF_TRUTH if op.input(0).dtype is BOOL else KINDS
    if kind not in table or (kind in ("and", "or") and op.input(0).dtype is not BOOL):
        op.refuse(f"it combines elements by {kind or 'a function of its own'}")
    return _reduced(op, table[kind], op.input(0), op.input(1), axes)


def identity(kind: str, dtype: DType) -> Any:
    """What changes nothing when it is combined with an element."""
    if kind in ("Sum", "Any"):
        return np.zeros((), dtype.numpy)[()]
    if kind in ("Prod", "All"):
        return np.ones((), dtype.numpy)[()]
    assert dtype.numpy is not None
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return dtype.numpy.type(info.min if kind == "Max" else info.max)
    return np.asarray(-np.inf if kind == "Max" else np.inf).astype(dtype.numpy)[()]


def _reduced(op: Operation, kind: str, x: Operand, start: Operand, axes: Sequence[int]) -> Operand:
    build = op.build
    if not axes:
        made = x
    else:
        made = op.made(build.reduced(kind, build.full(x), axes), [dim for a, dim in enumerate(x.dims) if a not in axes])
    if start.number is not None and start.number == identity(kind, x.dtype):
        return made
    begin = Operand(start.value, made.dims)
    return op.like(build.value(COMBINED[kind], made.value, begin.value), made)


def _extreme_place(op: Operation, axes: Sequence[int]) -> list[Operand]:
    """The greatest or smallest element along one axis with its place: `Max` and `ArgMax`, or their opposites."""
    x, places = op.input(0), op.input(1)
    if len(axes) != 1 or places.iota_axis != axes[0] or not places.dtype.is_integer:
        op.refuse("it reduces several tensors by a function of its own")
    kind = _extreme(op)
    build, source = op.build, op.full(0)
    if x.dtype is BOOL:
        source = build.cast(source, INT32)
    dims = [dim for axis, dim in enumerate(x.dims) if axis != axes[0]]
    found = build.value(f"Arg{kind}", source, build.integers(axes[0]), output_type=_index_type(places.dtype))
    best: Value = build.reduced(kind, source, axes)
    return [
        op.made(build.cast(best, x.dtype), dims),
        op.made(build.cast(found, places.dtype), dims),
    ]


def _extreme(op: Operation) -> str:
    """`Max` or `Min`, found by trying the function. Refuses one that does anything else."""
    samples = [
        np.array(column)
        for column in zip(*itertools.product((-2, 0, 1, 3), (0, 1, 2), (-2, 0, 1, 3), (4, 5, 6)), strict=True)
    ]
    left, left_place, right, right_place = samples
    value, place = tried(op, op.mlir.regions[0], samples)
    for kind, is_left in (("Max", left >= right), ("Min", left <= right)):
        same_value = (value == np.where(is_left, left, right)).all()
        if same_value and (place == np.where(is_left, left_place, right_place)).all():
            return kind
    op.refuse("it reduces several tensors by a function of its own")


def _index_type(dtype: DType) -> DType:
    return dtype if dtype.name in ("int32", "int64") else INT32
