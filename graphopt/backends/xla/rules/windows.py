"""What operators that move a window over an image have in common."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import SPECIALISE
from graphopt.ir.dimensions import KnownDim


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


def paddings(
    op: Emission, sizes: Sequence[KnownDim], kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Elements before and after each dimension of space; `kernel` counts the gaps of a dilation."""
    kind = op.text("padding")
    if kind == "VALID":
        return [(0, 0)] * len(kernel)
    if kind == "EXPLICIT":
        given = [int(number) for number in op.attr("explicit_paddings")]
        pairs = [(given[place], given[place + 1]) for place in range(0, len(given), 2)]
        return pairs[2:] if is_channels_first(op) else pairs[1:-1]
    pads = []
    for size, window, stride in zip(sizes, kernel, strides, strict=True):
        if not isinstance(size, int):
            if stride != 1:
                op.refuse(f"its padding follows from the size {size}, which is not known", SPECIALISE)
            total = window - 1
        else:
            total = max((-(-size // stride) - 1) * stride + window - size, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def windows_over(size: KnownDim, window: int, stride: int, pads: tuple[int, int]) -> KnownDim:
    """How many windows fit."""
    return (size + (pads[0] + pads[1] - window)) // stride + 1
