"""Products of matrices, of any number of axes."""

from __future__ import annotations

import string
from collections.abc import Sequence

from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.dimensions import Dim
from graphopt.ir.value import Value


@RULES.translate("stablehlo.dot_general")
def dot_general(op: Operation) -> Operand:
    """Sums of products over contracted axes, for each place of the batch's axes."""
    numbers = op.structure("dot_dimension_numbers", "DotDimensionNumbers")
    batch = list(numbers.lhs_batching_dimensions), list(numbers.rhs_batching_dimensions)
    contracted = list(numbers.lhs_contracting_dimensions), list(numbers.rhs_contracting_dimensions)
    return product(op, batch, contracted)


@RULES.translate("stablehlo.dot")
def dot(op: Operation) -> Operand:
    """The product of vectors or matrices."""
    return product(op, ([], []), ([op.input(0).rank - 1], [0]))


@RULES.translate("stablehlo.einsum")
def einsum(op: Operation) -> Operand:
    """By the same equation."""
    left, right = (op.build.cast(op.full(place), op.dtype()) for place in (0, 1))
    return op.made(op.build.value("Einsum", left, right, equation=op.text("einsum_config").encode()))


def product(op: Operation, batch: tuple[list[int], list[int]], contracted: tuple[list[int], list[int]]) -> Operand:
    """`MatMul`, `BatchMatMulV2`, or `Einsum` for other arrangements of axes."""
    dtype = op.dtype()
    left, right = (op.build.cast(op.full(place), dtype) for place in (0, 1))
    made = _matmul(op, left, right, batch, contracted)
    return op.made(
        _einsum(op, left, right, batch, contracted) if made is None else made, _result_dims(op, batch, contracted)
    )


def _result_dims(
    op: Operation, batch: tuple[list[int], list[int]], contracted: tuple[list[int], list[int]]
) -> list[Dim]:
    left, right = op.operands[0].dims, op.operands[1].dims
    free = (
        [axis for axis in range(len(dims)) if axis not in batch[side] and axis not in contracted[side]]
        for side, dims in enumerate((left, right))
    )
    lefts, rights = free
    declared = op.dims()
    dims = [left[axis] for axis in (*batch[0], *lefts)] + [right[axis] for axis in rights]
    return [mine if isinstance(mine, int) else dim for mine, dim in zip(declared, dims, strict=True)]


def _matmul(
    op: Operation,
    left: Value,
    right: Value,
    batch: tuple[list[int], list[int]],
    contracted: tuple[list[int], list[int]],
) -> Value | None:
    ranks = left.shape.rank or 0, right.shape.rank or 0
    if len(contracted[0]) != 1 or left.dtype.kind == "bool":
        return None
    (inner,), (outer,) = contracted
    build = op.build
    count = len(batch[0])
    if not count and ranks[1] == 2 and ranks[0] == 2:
        return build.value("MatMul", left, right, transpose_a=inner == 0, transpose_b=outer == 1)
    if not count and ranks[1] == 2 and ranks[0] > 2 and inner == ranks[0] - 1:
        return build.value("BatchMatMulV2", left, right, adj_y=outer == 1)
    leading = list(range(count))
    if not count or batch != (leading, leading) or ranks != (count + 2, count + 2):
        return None
    return build.value("BatchMatMulV2", left, right, adj_x=inner == count, adj_y=outer == count + 1)


def _einsum(
    op: Operation,
    left: Value,
    right: Value,
    batch: tuple[list[int], list[int]],
    contracted: tuple[list[int], list[int]],
) -> Value:
    ranks = left.shape.rank or 0, right.shape.rank or 0
    if sum(ranks) > len(string.ascii_letters):
        op.refuse("it has too many axes")
    letters = iter(string.ascii_lowercase + string.ascii_uppercase)
    names: tuple[list[str], list[str]] = ([""] * ranks[0], [""] * ranks[1])
    shared = _paired(names, batch, letters)
    _paired(names, contracted, letters)
    free = []
    for side in names:
        for place, name in enumerate(side):
            if not name:
                side[place] = next(letters)
                free.append(side[place])
    equation = f"{''.join(names[0])},{''.join(names[1])}->{''.join([*shared, *free])}"
    return op.build.value("Einsum", left, right, equation=equation.encode())


def _paired(
    names: tuple[list[str], list[str]], axes: tuple[Sequence[int], Sequence[int]], letters: object
) -> list[str]:
    """Give axes that belong together one letter each; returns the letters."""
    found = []
    for one, other in zip(*axes, strict=True):
        letter = next(letters)  # type: ignore[call-overload]
        names[0][one] = names[1][other] = letter
        found.append(letter)
    return found
