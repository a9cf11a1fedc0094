"""What the reference runtime passes along besides arrays: variables, tables, lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.types import DType, Shape
from graphopt.ir.types import dereferenced as plain_dtype
from graphopt.runtimes.base import Array, RunError


class Variable:
    """A variable: its name, element type and, once it was assigned, its value, an array that nobody writes to."""

    __slots__ = ("array", "dtype", "is_reference", "name", "shape")

    def __init__(self, name: str, dtype: DType, shape: Shape, is_reference: bool):
        self.name, self.dtype, self.shape, self.is_reference = name, plain_dtype(dtype), shape, is_reference
        self.array: Array | None = None

    def read(self) -> Array:
        """The value. Raises `RunError` where nothing was assigned yet."""
        if self.array is None:
            raise RunError(
                f"variable '{printable(self.name)}' has no value: run what initialises it first, or freeze the model"
            )
        return self.array

    def assign(self, array: Array) -> None:
        """Replace the value. Raises `RunError` where the element type does not fit."""
        if array.dtype != self.dtype.numpy:
            raise RunError(f"variable '{printable(self.name)}' holds {self.dtype}, not {array.dtype}")
        self.array = array


class Table:
    """A lookup table; keys are Python values. `initialized` guards the tables that are filled only once."""

    __slots__ = ("initialized", "items", "key_dtype", "name", "value_dtype", "value_shape")

    def __init__(self, name: str, key_dtype: DType, value_dtype: DType, value_shape: Sequence[int] = ()):
        self.name, self.key_dtype, self.value_dtype = name, key_dtype, value_dtype
        self.value_shape = tuple(value_shape)
        self.items: dict[Any, Any] = {}
        self.initialized = False

    def insert(self, keys: Array, values: Array) -> None:
        """Put `values[i]` under `keys[i]`."""
        rows = values.reshape(-1, *self.value_shape)
        for key, row in zip(keys.reshape(-1).tolist(), rows, strict=True):
            self.items[key] = row

    def find(self, keys: Array, default: Array) -> Array:
        """The values under `keys`, `default` where there is none."""
        flat = [self.items.get(key, default) for key in keys.reshape(-1).tolist()]
        found = np.empty((len(flat), *self.value_shape), dtype=default.dtype)
        for place, row in enumerate(flat):
            found[place] = row
        return found.reshape(*keys.shape, *self.value_shape)


class TensorArray:
    """A write-once array of tensors, as v1 loops use."""

    __slots__ = ("dtype", "dynamic", "element_shape", "items", "name")

    def __init__(self, name: str, dtype: DType, size: int, element_shape: Shape, dynamic: bool):
        self.name, self.dtype, self.element_shape, self.dynamic = name, dtype, element_shape, dynamic
        self.items: list[Array | None] = [None] * size

    def write(self, index: int, item: Array) -> None:
        """Put `item` at `index`; grows if that is allowed. Raises `RunError` out of range."""
        if index >= len(self.items) and self.dynamic:
            self.items += [None] * (index + 1 - len(self.items))
        if not 0 <= index < len(self.items):
            raise RunError(f"tensor array '{printable(self.name)}' of {len(self.items)} has no place {index}")
        self.items[index] = item

    def read(self, index: int) -> Array:
        """The item at `index`; zeros where none was written. Raises `RunError` out of range."""
        if not 0 <= index < len(self.items):
            raise RunError(f"tensor array '{printable(self.name)}' of {len(self.items)} has no place {index}")
        item = self.items[index]
        return zeros(self.dtype, self.element_shape, self.items) if item is None else item


class TensorList:
    """An immutable list of tensors; None where an element was reserved but not set."""

    __slots__ = ("dtype", "element_shape", "items")

    def __init__(self, dtype: DType, element_shape: Shape, items: Sequence[Array | None]):
        self.dtype, self.element_shape, self.items = dtype, element_shape, items

    def replaced(self, items: Sequence[Array | None]) -> TensorList:
        """The list with other items."""
        return TensorList(self.dtype, self.element_shape, items)

    def get(self, index: int, element_shape: Shape) -> Array:
        """The item at `index`; zeros where it was not set. Raises `RunError` out of range."""
        if not 0 <= index < len(self.items):
            raise RunError(f"a list of {len(self.items)} has no element {index}")
        item = self.items[index]
        return self.zeros(element_shape) if item is None else item

    def zeros(self, element_shape: Shape) -> Array:
        """What an element that was not set counts as."""
        return zeros(self.dtype, self.shape_with(element_shape), self.items)

    def shape_with(self, element_shape: Shape) -> Shape:
        """The element's shape as the list and the reader know it. Raises `RunError` where they disagree."""
        merged = self.element_shape.merged(element_shape)
        if merged is None:
            raise RunError(f"a list of elements {self.element_shape} is read as one of {element_shape}")
        return merged


def zeros(dtype: DType, shape: Shape, others: Sequence[Array | None]) -> Array:
    """Zeros of `shape`, or shaped as the first of `others` that is set. Raises `RunError` where neither is known."""
    dims = shape.static
    if dims is None:
        dims = next((item.shape for item in others if item is not None), None)
    if dims is None:
        raise RunError(f"an element that was never set has no known shape: {shape}")
    return np.zeros(dims, dtype=dtype.numpy)


def dereferenced(token: Any) -> Any:
    """The value of a v1 variable that is passed by reference; any other token as it is."""
    return token.read() if type(token) is Variable and token.is_reference else token
