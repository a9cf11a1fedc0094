"""What a value of the module is in the graph: a value, perhaps still to be broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.known import known_array
from graphopt.ir.types import DType, Shape
from graphopt.ir.value import Value


class Reduction(NamedTuple):
    """How a value came about: `kind` over `axes` of `source`, which are gone, or 1 where `keeps` them."""

    kind: str
    source: Value
    axes: tuple[int, ...]
    keeps: bool


class Window(NamedTuple):
    """A sum over windows: the operand before it, and all that pooling needs."""

    source: Operand
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]


class Operand:
    """A value that broadcasts, by NumPy's rules, to the shape `dims`.

    Operators that work element by element take `value` as it is, so that a bias stays a vector. `size_source` is a
    vector with the sizes where `dims` has symbols and `value` has yet to be broadcast; `iota_axis` says that each
    element is its own place along that axis.
    """

    __slots__ = ("dims", "iota_axis", "size_source", "value", "window")

    def __init__(self, value: Value, dims: Sequence[Dim], size_source: Value | None = None):
        self.value, self.dims, self.size_source = value, tuple(dims), size_source
        self.iota_axis: int | None = None
        self.window: Window | None = None

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.value.dtype

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.dims)

    @property
    def is_full(self) -> bool:
        """Nothing is left to broadcast."""
        return fits(self.value.shape, self.dims)

    @property
    def is_scalar(self) -> bool:
        """One element stands for all of them."""
        return self.value.shape.size == 1

    @property
    def number(self) -> np.generic | None:
        """The one constant that all elements are, or None."""
        if not self.is_scalar:
            return None
        array = known_array(self.value)
        return None if array is None else array.reshape(-1)[0]

    @property
    def array(self) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
        """The elements where they are constant and there is nothing to broadcast."""
        return known_array(self.value, LARGEST) if self.is_full else None

    @property
    def padded_dims(self) -> tuple[Dim, ...]:
        """The shape of `value` with ones in front, as long as `dims`."""
        held = self.value.shape.dims or ()
        return (1,) * (len(self.dims) - len(held)) + tuple(held)


LARGEST = 1 << 16  # bytes of a constant that a rule may read


def fits(shape: Shape, dims: Sequence[Dim]) -> bool:
    """A value of this shape has nothing left to be broadcast to `dims`: what is left is always exactly 1."""
    if shape.dims is None or len(shape.dims) != len(dims):
        return False
    return all(held != 1 or wanted == 1 for held, wanted in zip(shape.dims, dims, strict=True))
