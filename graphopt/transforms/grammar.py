"""`a(x=1, y="1,2,3") b`: the grammar of the Graph Transform Tool's --transforms, and typed access to the arguments."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from graphopt.ir.errors import UsageError, printable

_SPACE = re.compile(r"(?:\s|\\\r?\n)*")
_NAME = re.compile(r"[A-Za-z0-9_]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# The tool's own set and what names of nodes and devices need besides; what ends a value is a space, ',' or ')'.
_VALUE = re.compile(r"[A-Za-z0-9_./:^*+>@-]+")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Transform(NamedTuple):
    """One transform asked for: its name, and for each argument the values it was given, in order."""

    name: str
    arguments: dict[str, list[str]]

    def strings(self, name: str) -> list[str]:
        """All values of an argument that may be repeated."""
        return list(self.arguments.get(name, ()))

    def string(self, name: str, default: str | None = None) -> str:
        """The one value of an argument. Raises `UsageError` where it is given twice, or not at all without default."""
        values = self.arguments.get(name, ())
        if len(values) > 1:
            self.fail(f"takes one '{name}', not {len(values)}")
        if values:
            return values[0]
        if default is None:
            self.fail(f"needs an argument '{name}'")
        return default

    def integer(self, name: str, default: int) -> int:
        """The one whole number of an argument. Raises `UsageError`."""
        text = self.string(name, str(default))
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            self.fail(f"argument '{name}' must be a whole number, not '{printable(text)}'")
        return int(text)

    def boolean(self, name: str, default: bool) -> bool:
        """The one truth value of an argument. Raises `UsageError`."""
        text = self.string(name, str(default).lower())
        value = _BOOLEANS.get(text.lower())
        if value is None:
            self.fail(f"argument '{name}' must be true or false, not '{printable(text)}'")
        return value

    @property
    def ignores_errors(self) -> bool:
        """`ignore_errors=true` was given. Raises `UsageError` for anything but true and false."""
        text = self.string("ignore_errors", "false").lower()
        if text not in ("true", "false"):
            raise UsageError(f"transform '{self.name}': ignore_errors should be true or false, found '{text[:80]}'")
        return text == "true"

    def fail(self, reason: str) -> NoReturn:
        """Raise `UsageError` in the name of this transform."""
        raise UsageError(f"transform '{self.name}' {reason}")


def parse_transforms(text: str) -> list[Transform]:
    """The transforms that `text` lists. Raises `UsageError` saying what was expected and what was found instead."""
    transforms: list[Transform] = []
    place = _skip_space(text, 0)
    while place < len(text):
        name, place = _expect(_NAME, "a transform's name", text, place)
        arguments: dict[str, list[str]] = {}
        if text.startswith("(", place):
            place = _parse_arguments(text, place + 1, name, arguments)
        transforms.append(Transform(name, arguments))
        place = _skip_space(text, place)
    return transforms


def _parse_arguments(text: str, place: int, transform: str, arguments: dict[str, list[str]]) -> int:
    """Read `name=value` pairs up to the closing parenthesis; returns the place after it."""
    while True:
        place = _skip_space(text, place)
        if text.startswith(",", place):
            place = _skip_space(text, place + 1)
        if text.startswith(")", place):
            return place + 1
        if place >= len(text):
            raise UsageError(f"--transforms: the arguments of '{transform}' are not closed by ')'")
        key, place = _expect(_NAME, "an argument's name", text, place)
        if not text.startswith("=", place):
            _expect(re.compile("="), "'='", text, place)
        value, place = _parse_value(text, place + 1)
        arguments.setdefault(key, []).append(value)


def _parse_value(text: str, place: int) -> tuple[str, int]:
    quoted = _QUOTED.match(text, place)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted.end()
    if text.startswith('"', place):
        raise UsageError(f"--transforms: the quotes before '{_excerpt(text, place + 1)}' are not closed")
    return _expect(_VALUE, "a value", text, place)


def _expect(wanted: re.Pattern[str], what: str, text: str, place: int) -> tuple[str, int]:
    found = wanted.match(text, place)
    if found is None:
        raise UsageError(f"--transforms: looking for {what}, but found '{_excerpt(text, place)}'")
    return found[0], found.end()


def _skip_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def _excerpt(text: str, place: int) -> str:
    return printable(text[place : place + 40]) or "the end"
