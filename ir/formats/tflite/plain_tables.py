"""Tables of a FlatBuffer as plain data, in the form that FlatBuffers' own JSON has, and back.

A table is a dict of the fields that are there under their names in the schema, a string is text, an enumeration its
value's name, a union the member's table beside `NAME_type`, which names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.formats.tflite.encoder import Data, encode
from graphopt.ir.formats.tflite.flatbuffer import Decoder
from graphopt.ir.formats.tflite.schema import Field, Table, has_table, names, numbers, table

Plain = Mapping[str, Any]
_DEPTH = 32  # of tables within tables; the schemas have no more than seven


def packed_table(root: str, plain: Plain, identifier: bytes) -> bytes:
    """A FlatBuffer whose root is the table `plain`.

    Raises `UsageError`, naming the field, for what the schema does not have.
    """
    return b"".join(encode(root, _fields(table(root), plain, root, 0), identifier))


def plain_table(root: str, data: memoryview) -> dict[str, Any]:
    """The inverse of `packed_table`. Raises `MalformedError`."""
    return _plain(table(root), Decoder(data).root(root), 0)


# To fields ------------------------------------------------------------------------------------------------------


def _fields(schema: Table, plain: Any, where: str, depth: int) -> dict[str, Any]:
    if not isinstance(plain, Mapping):
        raise UsageError(f"{where} is {_spelled(plain)}; a table of fields belongs there")
    if depth > _DEPTH:
        raise UsageError(f"{where} is nested too deeply")
    found: dict[str, Any] = {}
    for name, item in plain.items():
        field = schema.by_name.get(name)
        if field is None:
            known = ", ".join(key for key in schema.by_name if not key.endswith("_type"))
            raise UsageError(f"{where} has no field '{printable(str(name), 60)}'; its fields are {known}")
        if item is None:
            continue
        place = f"{where}.{name}"
        if field.is_union:
            _add_union(found, field, plain, place, depth)
        elif field.is_vector:
            found[name] = _vector(field, item, place, depth)
        elif f"{name[:-5]}" in schema.by_name and name.endswith("_type") and schema.by_name[name[:-5]].is_union:
            continue  # with its union
        else:
            found[name] = _one(field, item, place, depth)
    return found


def _add_union(found: dict[str, Any], field: Field, plain: Plain, where: str, depth: int) -> None:
    member = plain.get(f"{field.name}_type")
    if member not in numbers(field.kind) or not has_table(str(member)):
        known = ", ".join(name for name in numbers(field.kind) if name != "NONE")
        raise UsageError(f"{where}_type is {_spelled(member)}; it is one of {known}")
    found[f"{field.name}_type"] = numbers(field.kind)[member]
    found[field.name] = _fields(table(member), plain[field.name], where, depth + 1)


def _vector(field: Field, items: Any, where: str, depth: int) -> Any:
    if field.code == "B" and isinstance(items, (bytes, bytearray, memoryview)):
        return Data(items)
    if not isinstance(items, (list, tuple)):
        raise UsageError(f"{where} is {_spelled(items)}; a list belongs there")
    found = [_one(field, item, f"{where}[{place}]", depth) for place, item in enumerate(items)]
    return Data(bytes(found)) if field.code == "B" else found


def _one(field: Field, item: Any, where: str, depth: int) -> Any:
    if field.kind == "string":
        if not isinstance(item, str):
            raise UsageError(f"{where} is {_spelled(item)}; text belongs there")
        return item.encode()
    if not field.code:
        return _fields(table(field.kind), item, where, depth + 1)
    if field.enumeration and isinstance(item, str):
        if item not in numbers(field.enumeration):
            known = ", ".join(numbers(field.enumeration))
            raise UsageError(f"{where} is {_spelled(item)}; it is one of {known}")
        return numbers(field.enumeration)[item]
    return _number(field, item, where)


def _number(field: Field, item: Any, where: str) -> Any:
    if field.kind == "bool" and isinstance(item, bool):
        return item
    if field.kind.startswith("float") and isinstance(item, (int, float)) and math.isfinite(item):
        return float(item)
    bits = int(field.kind.lstrip("uint")) if "int" in field.kind else 0
    least = 0 if field.kind.startswith("u") else -(1 << bits >> 1)
    if bits and isinstance(item, int) and least <= item < least + (1 << bits):
        return int(item)
    raise UsageError(f"{where} is {_spelled(item)}; a {field.kind} belongs there")


def _spelled(item: Any) -> str:
    return "missing" if item is None else printable(repr(item), 60)


# From fields ----------------------------------------------------------------------------------------------------


def _plain(schema: Table, fields: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth > _DEPTH:
        raise MalformedError("tables are nested too deeply", field=schema.name)
    found: dict[str, Any] = {}
    for name, field in schema.by_name.items():
        item = fields.get(name)
        if item is None or item == field.default or (name.endswith("_type") and name[:-5] in schema.by_name):
            continue
        if field.is_union:
            member = names(field.kind)[fields[f"{name}_type"]]
            found[f"{name}_type"] = member
            found[name] = _plain(table(member), item, depth + 1)
        elif field.is_vector:
            found[name] = _plain_vector(field, item, depth)
        else:
            found[name] = _plain_one(field)(item, depth)
    return found


def _plain_vector(field: Field, items: Any, depth: int) -> Any:
    if field.code == "B":
        return bytes(items)
    convert = _plain_one(field)
    return [convert(item, depth) for item in getattr(items, "tolist", items.__iter__)()]


def _plain_one(field: Field) -> Callable[[Any, int], Any]:
    if field.kind == "string":
        return lambda item, depth: item.decode(errors="backslashreplace")
    if field.enumeration:
        return lambda item, depth: names(field.enumeration).get(item, item)
    if field.code:
        return lambda item, depth: item
    return lambda item, depth: _plain(table(field.kind), item, depth + 1)
