"""Attribute values of a node, one Python type for each kind that formats have.

| kind | Python | | kind | Python |
|---|---|---|---|---|
| int | `int` | | shape | `Shape` |
| float | `float` | | tensor | `Tensor` |
| bool | `bool` | | function | `FunctionRef` |
| string | `bytes` | | placeholder | `AttributePlaceholder` |
| type | `DType` | | list | `tuple` of one of the above |
| none | `None` | | | |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Union

from graphopt.ir.tensors import Tensor
from graphopt.ir.types import DType, Shape


class FunctionRef(NamedTuple):
    """A reference to a function of the library, with the attributes it is instantiated with."""

    name: str
    attrs: Mapping[str, Attribute] = {}

    def __hash__(self) -> int:
        return hash((self.name, frozenset(self.attrs)))


class AttributePlaceholder(NamedTuple):
    """Inside a generic function body: the value comes from the instantiation's attribute `name`."""

    name: str


class SingleFloat(float):
    """A float attribute that keeps the exact 32-bit pattern it was read with (a NaN's payload)."""

    __slots__ = ("bits",)
    bits: bytes

    def __new__(cls, value: float, bits: bytes) -> SingleFloat:
        self = super().__new__(cls, value)
        self.bits = bits
        return self


Scalar = Union[int, float, bool, bytes, DType, Shape, Tensor, FunctionRef, AttributePlaceholder, None]  # noqa: UP007
Attribute = Union[Scalar, "tuple[Scalar, ...]"]
Attributes = Mapping[str, Any]


def kind(value: Attribute) -> str:
    """The field's own name of the kind of `value`; for a tuple, that of its first element, or `empty`."""
    if isinstance(value, tuple) and not isinstance(value, (FunctionRef, AttributePlaceholder)):
        return kind(value[0]) if value else "empty"
    for name, types in _KINDS:
        if isinstance(value, types):
            return name
    raise TypeError(f"{type(value).__name__} is no attribute value")


_KINDS: tuple[tuple[str, Any], ...] = (
    ("none", type(None)),
    ("bool", bool),
    ("int", int),
    ("float", float),
    ("string", bytes),
    ("type", DType),
    ("shape", Shape),
    ("tensor", Tensor),
    ("function", FunctionRef),
    ("placeholder", AttributePlaceholder),
)
