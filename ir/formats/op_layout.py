"""Which outputs a node has, as far as its operator and attributes say.

More forgiving than `Interface.output_types`: graphs of old versions leave attributes out, and in generic function
bodies an attribute may be a placeholder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from graphopt.ir.attributes import AttributePlaceholder
from graphopt.ir.errors import MalformedError, ResourceError
from graphopt.ir.ops.interfaces import OUTPUT_LIMIT, Argument, Interface, interface
from graphopt.ir.types import DTYPES, UNKNOWN_TYPE, DType, TensorType, unshaped


class Layout(NamedTuple):
    """Types of the outputs in order, and for each declared one its name, where it begins, and how many there are.

    `is_open`: what follows the listed outputs is not known.
    """

    types: tuple[TensorType, ...] = ()
    ports: tuple[tuple[str, int, int], ...] = ()
    is_open: bool = True


OPEN = Layout()


def layout_of(op: str, attrs: Mapping[str, Any], limit: int, library: Mapping[str, Interface]) -> Layout:
    """Outputs of a node of operator `op`, which may be a function of `library`.

    Raises `ResourceError` for more than `limit` outputs.
    """
    declared = interface(op) or library.get(op)
    if declared is None:
        return OPEN
    complete = {**declared.defaults, **attrs}
    types: list[TensorType] = []
    ports: list[tuple[str, int, int]] = []
    for argument in declared.outputs:
        found = argument_types(argument, complete, limit - len(types))
        if found is None:
            return Layout(tuple(types), tuple(ports), True)
        ports.append((argument.name, len(types), len(found)))
        types += found
    return Layout(tuple(types), tuple(ports), False)


def argument_types(argument: Argument, attrs: Mapping[str, Any], limit: int) -> list[TensorType] | None:
    """Types of the tensors one argument stands for; None if their number is not known."""
    if argument.list_attr:
        listed = attrs.get(argument.list_attr)
        if type(listed) is not tuple:
            return None
        _check_count(len(listed), limit, argument.list_attr)
        return [_type(item, argument.is_ref) for item in listed]
    dtype = argument.dtype if argument.dtype is not None else attrs.get(argument.type_attr)
    if not argument.number_attr:
        return [_type(dtype, argument.is_ref)]
    count = attrs.get(argument.number_attr)
    if count is None or isinstance(count, AttributePlaceholder):
        return None
    if type(count) is not int or count < 0:
        raise MalformedError(f"the number of tensors cannot be {count!r:.40}", field=f"attr['{argument.number_attr}']")
    _check_count(count, limit, argument.number_attr)
    return [_type(dtype, argument.is_ref)] * count


def _check_count(count: int, limit: int, attr: str) -> None:
    if count > min(limit, OUTPUT_LIMIT):
        raise ResourceError(f"{count} outputs are more than a file of this size can use", field=f"attr['{attr}']")


def _type(dtype: Any, is_ref: bool) -> TensorType:
    if not isinstance(dtype, DType):
        return UNKNOWN_TYPE
    if is_ref and 0 < dtype.code < 100:
        dtype = DTYPES[f"{dtype.name}_ref"]
    return unshaped(dtype)
