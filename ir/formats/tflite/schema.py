"""The schemas of `.tflite` files and of the metadata in them: tables, fields and enumerations, from text files.

`schema.txt` is written by tools/generate_tflite_schema.py, which states its grammar; a line is parsed when its table is
first asked for. `metadata_schema.txt` says the same of TFLite Metadata 1.5.0 and of conversion metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import resources

SCALARS: Mapping[str, str] = {  # kind -> code of the struct module
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "float32": "f",
    "int64": "q", "uint64": "Q", "float64": "d",
}  # fmt: skip
SIZES: Mapping[str, int] = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}


class Field:
    """One field of a table.

    `code` is the struct code of a scalar, or of a vector's elements; empty for strings, tables and unions, of which
    `kind` is the table's or the union's name or `string`. `enumeration` names the enumeration of an integer.
    """

    __slots__ = ("code", "default", "enumeration", "is_union", "is_vector", "kind", "name", "size")

    def __init__(self, text: str):
        self.name, _, kind = text.partition(":")
        kind, _, default = kind.partition("=")
        self.is_vector, self.is_union = kind.startswith("["), kind.startswith("|")
        kind, _, enumeration = kind.strip("[]|").partition("(")
        self.kind, self.enumeration = kind, enumeration.rstrip(")")
        self.code = SCALARS.get(kind, "")
        self.default: int | float | bool | None = None
        if self.code and not self.is_vector:
            self.default = (
                float(default) if self.code in "fd" else bool(int(default)) if kind == "bool" else int(default)
            )
        self.size = SIZES[self.code] if self.code else 4  # of an element of a vector, or inline

    @property
    def inline_size(self) -> int:
        """Bytes the field takes in its table."""
        return 4 if self.is_vector else self.size


class Table:
    """One table: its fields by slot (None for a slot that is no longer used) and by name."""

    __slots__ = ("by_name", "fields", "name")

    def __init__(self, name: str, fields: tuple[Field | None, ...]):
        self.name, self.fields = name, fields
        self.by_name: dict[str, Field] = {field.name: field for field in fields if field is not None}


@lru_cache(maxsize=1)
def _lines() -> dict[str, str]:
    return _lines_of("schema.txt") | _lines_of("metadata_schema.txt")


def _lines_of(name: str) -> dict[str, str]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return dict(line.split("\t", 1) for line in text.splitlines())


@cache
def table(name: str) -> Table:
    """The table called `name`. Raises `KeyError` if the schema has none."""
    return Table(name, tuple(None if part == "-" else Field(part) for part in _lines()[name].split()))


@cache
def numbers(enumeration: str) -> dict[str, int]:
    """Names of an enumeration's values -> numbers."""
    parts = (part.partition("=") for part in _lines()[f"@{enumeration}"].split())
    return {name: int(number) for name, _, number in parts}


@cache
def names(enumeration: str) -> dict[int, str]:
    """Numbers of an enumeration's values -> names."""
    return {number: name for name, number in numbers(enumeration).items()}


def has_table(name: str) -> bool:
    """The schema has a table of this name."""
    return name in _lines()


def union_member(union: str, number: int) -> str | None:
    """The table that a union's type number means; None for 0 and for numbers the schema does not have."""
    return names(union).get(number) if number else None
