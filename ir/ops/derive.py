"""Attributes that follow from the inputs: element types, counts and lists of types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.ir.ops.interfaces import Interface
from graphopt.ir.types import DType, dereferenced


def derived_attributes(interface: Interface, dtypes: Sequence[DType], attrs: Mapping[str, Any]) -> dict[str, Any]:
    """`attrs` plus what `dtypes`, those of the data inputs, imply: `T`, `N`, `Tin` and the like.

    Where two variadic inputs leave it open how many tensors each takes, the counts must be in `attrs`.
    """
    complete = dict(attrs)
    place = 0
    for position, argument in enumerate(interface.inputs):
        count = _count(argument.number_attr, argument.list_attr, complete)
        if count is None:
            after = len(interface.inputs) - position - 1
            count = max(0, len(dtypes) - place - after) if argument.number_attr or argument.list_attr else 1
        taken = [dereferenced(dtype) for dtype in dtypes[place : place + count]]
        place += count
        if argument.number_attr:
            complete.setdefault(argument.number_attr, count)
        if argument.list_attr:
            complete.setdefault(argument.list_attr, tuple(taken))
        elif argument.type_attr and taken and taken[0].code:
            complete.setdefault(argument.type_attr, taken[0])
    return complete


def derived_names(interface: Interface) -> frozenset[str]:
    """Attributes that `derived_attributes` can fill in from inputs."""
    names = [name for a in interface.inputs for name in (a.type_attr, a.number_attr, a.list_attr) if name]
    return frozenset(names)


def _count(number_attr: str, list_attr: str, attrs: Mapping[str, Any]) -> int | None:
    if number_attr and type(attrs.get(number_attr)) is int:
        return max(0, int(attrs[number_attr]))
    if list_attr and isinstance(attrs.get(list_attr), tuple):
        return len(attrs[list_attr])
    return None
