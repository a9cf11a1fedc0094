"""Options of operators as attributes of nodes, and back.

Attributes have the schema's names. An enumeration is its value's name (`padding = b"SAME"`), a number where the schema
has no name for it; an element type is a type, a reference to a subgraph a function's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import UnsupportedError, printable
from graphopt.ir.formats.tflite.element_types import dtype_numbered, number_of
from graphopt.ir.formats.tflite.schema import Field, has_table, names, numbers, table
from graphopt.ir.types import DType

_UNIONS = ("BuiltinOptions", "BuiltinOptions2")
# Operators whose options are not called as they are.
_SHARED: Mapping[str, str] = {
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), "Pool2DOptions"),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN"), "ReducerOptions"),
    **dict.fromkeys(("REDUCE_ANY", "REDUCE_ALL"), "ReducerOptions"),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), "MaximumMinimumOptions"),
    **dict.fromkeys(("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL"), "RandomOptions"),
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "STABLEHLO_COMPOSITE": "StableHLOCompositeOptions",
}  # fmt: skip
_NO_OPTIONS = 0, 0


@cache
def options_of(operator: str) -> tuple[int, int]:
    """Which union (0 or 1, BuiltinOptions or BuiltinOptions2) and type number the options of a builtin operator have.

    The number is 0 for an operator that has none.
    """
    wanted = _SHARED.get(operator) or operator.replace("_", "") + "Options"
    for place, union in enumerate(_UNIONS):
        for number, name in names(union).items():
            if name.lower() == wanted.lower():
                return place, number
    return _NO_OPTIONS


def option_fields(union: int, number: int) -> tuple[Field, ...]:
    """The fields of the options of this type; none for a type the schema does not have."""
    name = names(_UNIONS[union]).get(number)
    return tuple(table(name).by_name.values()) if name is not None and has_table(name) else ()


def is_subgraph(field: Field) -> bool:
    """The field refers to subgraphs by their numbers."""
    return field.name == "subgraph" or field.name.endswith(("subgraph_index", "subgraph_indices"))


def to_attributes(
    fields: tuple[Field, ...], decoded: Mapping[str, Any], function: Callable[[int], Any]
) -> dict[str, Any]:
    """The options as attributes; `function` gives the reference that a subgraph's number means."""
    attrs: dict[str, Any] = {}
    for field in fields:
        value = decoded.get(field.name)
        if value is None:
            continue
        if is_subgraph(field):
            value = tuple(function(number) for number in value) if field.is_vector else function(value)
        elif field.enumeration == "TensorType":
            dtype = dtype_numbered(value)
            value = dtype if dtype.code else value
        elif field.enumeration:
            name = names(field.enumeration).get(value)
            value = value if name is None else name.encode()
        elif field.is_vector:
            value = bytes(value) if field.code == "B" else tuple(getattr(value, "tolist", value.__iter__)())
        attrs[field.name] = value
    return attrs


def to_options(
    fields: tuple[Field, ...], attrs: Mapping[str, Any], number_of_function: Callable[[str], int]
) -> dict[str, Any]:
    """The inverse of `to_attributes`. Raises `UnsupportedError` for a value that its field cannot hold."""
    return {
        field.name: _stored(field, attrs[field.name], number_of_function)
        for field in fields
        if attrs.get(field.name) is not None
    }


def _stored(field: Field, value: Any, number_of_function: Callable[[str], int]) -> Any:
    if isinstance(value, FunctionRef):
        return number_of_function(value.name)
    if isinstance(value, DType):
        if field.enumeration == "TensorType":
            return number_of(value)
    elif isinstance(value, bytes):
        if field.enumeration:
            number = numbers(field.enumeration).get(value.decode(errors="replace"))
            if number is not None:
                return number
        elif field.kind == "string" or field.is_vector:
            return value
    elif field.is_vector and isinstance(value, tuple):
        return tuple(number_of_function(item.name) if isinstance(item, FunctionRef) else item for item in value)
    elif field.code and not field.is_vector and isinstance(value, (int, float)):
        return value
    raise UnsupportedError(f"attribute '{field.name}' cannot hold {printable(repr(value), 80)}")
