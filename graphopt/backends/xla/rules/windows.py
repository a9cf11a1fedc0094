"""What operators that move a window over an image have in common."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import SPECIALISE, Operand
from graphopt.ir.dimensions import Dim, KnownDim, maximum

Pair = tuple[KnownDim, KnownDim]


def is_channels_first(op: Emission) -> bool:
    """The data format has channels before the dimensions of space."""
    return op.text("data_format", "NHWC").startswith("NC")


def space(op: Emission, rank: int) -> list[int]:
    """The axes of space."""
    return list(range(2, rank)) if is_channels_first(op) else list(range(1, rank - 1))


def spatial(op: Emission, name: str, count: int) -> list[int]:
    """The numbers for the dimensions of space of an attribute with one for each dimension; ones where it is absent."""
    numbers = list(op.attr(name) or ())
    if len(numbers) == 1:
        return numbers * count
    found = numbers[2:] if is_channels_first(op) else numbers[1:-1]
    return found if len(found) == count else [1] * count


def geometry(
    op: Emission, sizes: Sequence[KnownDim], kernel: Sequence[int], strides: Sequence[int]
) -> tuple[list[Pair], list[KnownDim]]:
    """Elements before and after each dimension of space, and how many windows fit; `kernel` counts the gaps of a
    dilation. Where a size is a symbol, so are they."""
    pads = _paddings(op, sizes, kernel, strides)
    if op.text("padding") == "SAME":
        return pads, [_rounded_up(size, stride) for size, stride in zip(sizes, strides, strict=True)]
    counts = [
        (size + (low + high - window)) // stride + 1
        for size, window, stride, (low, high) in zip(sizes, kernel, strides, pads, strict=True)
    ]
    return pads, counts


def _paddings(op: Emission, sizes: Sequence[KnownDim], kernel: Sequence[int], strides: Sequence[int]) -> list[Pair]:
    kind = op.text("padding")
    if kind == "VALID":
        return [(0, 0)] * len(kernel)
    if kind == "EXPLICIT":
        given = [int(number) for number in op.attr("explicit_paddings")]
        pairs: list[Pair] = [(given[place], given[place + 1]) for place in range(0, len(given), 2)]
        return pairs[2:] if is_channels_first(op) else pairs[1:-1]
    pads: list[Pair] = []
    for size, window, stride in zip(sizes, kernel, strides, strict=True):
        total: Dim = window - 1  # for any size, where every place has a window
        if isinstance(size, int) or stride != 1:
            total = maximum((_rounded_up(size, stride) - 1) * stride + window - size, 0)
        if total is None:
            op.refuse(f"its padding follows from the size {size}, which is not known", SPECIALISE)
        low = total // 2
        pads.append((low, total - low))
    return pads


def _rounded_up(size: KnownDim, stride: int) -> KnownDim:
    return (size + (stride - 1)) // stride


def fixed_pads(
    op: Emission, x: Operand, axes: Sequence[int], pads: Sequence[Pair], number: Operand | float
) -> tuple[Operand, list[tuple[int, int]]]:
    """`x` and paddings that are numbers: where they are symbols, `x` has them already, filled with `number`."""
    known = [(low, high) for low, high in pads if isinstance(low, int) and isinstance(high, int)]
    if len(known) == len(pads):
        return x, known
    return padded(op, x, axes, pads, number), [(0, 0)] * len(pads)


def padded(op: Emission, x: Operand, axes: Sequence[int], pads: Sequence[Pair], number: Operand | float) -> Operand:
    """`x` with so many elements more before and after each of `axes`."""
    edges: tuple[list[KnownDim], list[KnownDim]] = [0] * x.rank, [0] * x.rank
    for axis, pair in zip(axes, pads, strict=True):
        edges[0][axis], edges[1][axis] = pair
    return op.build.pad(x, *edges, number)


def windows_over(size: KnownDim, window: int, stride: int, pads: tuple[int, int]) -> KnownDim:
    """How many windows fit."""
    return (size + (pads[0] + pads[1] - window)) // stride + 1
