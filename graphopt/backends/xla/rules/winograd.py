"""Convolutions of 3x3 pixels by Winograd's algorithm F(2x2, 3x3): 16 products for four pixels in place of 36.

The image is cut into tiles of 4x4 pixels, two pixels apart. Tiles and kernel are transformed by sums and differences,
the kernel beforehand, multiplied element by element, and each product transformed back to 2x2 pixels of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.backends.xla.builder import Builder
from graphopt.backends.xla.emission import Array, Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.windows import geometry, is_channels_first, spatial
from graphopt.ir.types import FLOAT32

TILE, STEP = 4, 2  # pixels of a tile, and from one to the next
CHANNELS = 32  # of image and result, from which on fewer products are worth the transforms
PAIRS = 1 << 22  # of channels, up to which a transformed kernel is not too large
TILES = 128  # up to which the products of all places are one operation
BLOCK = 16  # channels of a kernel that are transformed at once, while they are in the processor's cache


def suits_winograd(op: Emission, x: Operand) -> bool:
    """A convolution that is faster so: for CPUs alone, in float32, of 3x3 pixels, with a kernel that is known."""
    kernel = op.value(1)
    sizes = kernel.shape.static
    return (
        op.options.for_cpus_alone
        and op.build.narrow is None
        and op.emitter.layers.get(op.node) is None
        and x.rank == 4 and x.is_static and x.dtype is FLOAT32
        and not is_channels_first(op)
        and op.emitter.is_constant(kernel)
        and sizes is not None and sizes[:2] == (3, 3) and min(sizes[2:]) >= CHANNELS
        and sizes[2] == x.dims[3] and sizes[2] * sizes[3] <= PAIRS
        and spatial(op, "strides", 2) == spatial(op, "dilations", 2) == [1, 1]
    )  # fmt: skip


def winograd(op: Emission, x: Operand) -> Operand:
    """A convolution that `suits_winograd`."""
    b = op.build
    batch, *image, _ = x.static
    pads, counts = geometry(op, image, (3, 3), (1, 1))
    height, width = (count for count in counts if isinstance(count, int))
    low = [pair[0] for pair in pads if isinstance(pair[0], int)]
    rows, columns = -(-height // STEP), -(-width // STEP)
    high = [STEP * count + 2 - size - edge for count, size, edge in zip((rows, columns), image, low, strict=True)]
    padded = b.pad(x, [0, *low, 0], [0, *high, 0])
    kernel = op.emitter.derived(op.value(1), "winograd", transformed_kernel)
    tiles = _tiles(b, padded, rows, columns)
    products = _products(b, tiles, kernel, batch * rows * columns <= TILES)
    lines = zip(*(_inverse(b, column) for column in zip(*products, strict=True)), strict=True)
    pixels = [_inverse(b, line) for line in lines]
    outer = kernel.static[-1]
    parts = [b.reshape(pixel, (batch, rows, 1, columns, 1, outer)) for line in pixels for pixel in line]
    joined = [b.concatenate(parts[place : place + STEP], 4) for place in (0, STEP)]
    whole = b.reshape(b.concatenate(joined, 2), (batch, STEP * rows, STEP * columns, outer))
    return b.slice(whole, [0, 0, 0, 0], [batch, height, width, outer])


def transformed_kernel(kernel: Array) -> Array:
    """A matrix of the channels for each of the 16 places of a transformed tile."""
    inner, outer = kernel.shape[2:]
    made = np.empty((TILE, TILE, inner, outer), np.float32)
    rows = np.empty((TILE, 3, BLOCK, outer), np.float32)
    for start in range(0, inner, BLOCK):
        part = kernel[:, :, start : start + BLOCK]
        lines = rows[:, :, : part.shape[2]]
        _transform(part, lines)
        _transform(lines.swapaxes(0, 1), made[:, :, start : start + BLOCK].swapaxes(0, 1))
    return made.reshape(TILE * TILE, inner, outer)


def _transform(three: Array, four: Array) -> None:
    """Fill `four` from `three`, along their first axis."""
    first, second, third = three
    ends, middle = (first + third) * 0.5, second * 0.5
    four[0], four[3] = first, third
    np.add(ends, middle, out=four[1])
    np.subtract(ends, middle, out=four[2])


def _tiles(b: Builder, padded: Operand, rows: int, columns: int) -> list[list[Operand]]:
    """Transformed tiles: for each of their places, a pixel of every tile."""
    batch, _, _, channels = padded.dims
    places = [
        [
            b.slice(
                padded, [0, row, column, 0],
                [batch, row + STEP * (rows - 1) + 1, column + STEP * (columns - 1) + 1, channels], [1, STEP, STEP, 1],
            )
            for column in range(TILE)
        ]
        for row in range(TILE)
    ]  # fmt: skip
    lines = zip(*(_forward(b, column) for column in zip(*places, strict=True)), strict=True)
    return [_forward(b, line) for line in lines]


def _forward(b: Builder, line: Sequence[Operand]) -> list[Operand]:
    first, second, third, last = line
    return [b.sub(first, third), b.add(second, third), b.sub(third, second), b.sub(second, last)]


def _inverse(b: Builder, line: Sequence[Operand]) -> list[Operand]:
    first, second, third, last = line
    return [b.add(b.add(first, second), third), b.sub(b.sub(second, third), last)]


def _products(b: Builder, tiles: list[list[Operand]], kernel: Operand, at_once: bool) -> list[list[Operand]]:
    """Each place of the tiles times its matrix."""
    _, inner, outer = kernel.static
    batch, rows, columns, _ = tiles[0][0].static
    count = batch * rows * columns
    flat = [b.reshape(place, (1, count, inner)) for line in tiles for place in line]
    if at_once:
        made = b.dot_general(b.concatenate(flat, 0), kernel, ((0,), (0,)), ((2,), (1,)))
        parts = [b.slice(made, [place, 0, 0], [place + 1, count, outer]) for place in range(TILE * TILE)]
    else:
        matrices = [b.slice(kernel, [place, 0, 0], [place + 1, inner, outer]) for place in range(TILE * TILE)]
        parts = [
            b.dot_general(b.reshape(pixel, (count, inner)), b.reshape(matrix, (inner, outer)), ((), ()), ((1,), (0,)))
            for pixel, matrix in zip(flat, matrices, strict=True)
        ]
    shaped = [b.reshape(part, (batch, rows, columns, outer)) for part in parts]
    return [shaped[place : place + TILE] for place in range(0, TILE * TILE, TILE)]
