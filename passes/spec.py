"""Pipelines as text: `fold-constants{max-bytes=65536,exclude=[Add,Mul]},fold-batch-norms`, both ways.

An option is `name=value`, or `name` alone for a true one. A value is a number, `true`, `false`, `none`, a word, a
quoted string with JSON escapes, or a list `[a, b]`. The type is the option's: the text round-trips.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import json
import re
import types
from collections.abc import Iterable, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from graphopt.ir.errors import UsageError, printable
from graphopt.passes.base import Pass
from graphopt.passes.catalog import find_pass

_TOKEN = re.compile(r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<punct>[{}\[\],=])|(?P<word>[^\s{}\[\],="]+))')
_PLAIN = re.compile(r"[A-Za-z_./:*^$|+\-][A-Za-z0-9_./:*^$|+\-]*\Z")
_RESERVED = frozenset({"true", "false", "none"})
_OPTION_TYPES: dict[type[Pass], dict[str, Any]] = {}


def parse_pipeline(text: str) -> tuple[Pass, ...]:
    """The passes that `text` names, in order. Raises `UsageError` naming what is wrong and where."""
    tokens = _tokenise(text)
    passes: list[Pass] = []
    place = 0
    while place < len(tokens):
        name, place = _expect_word(tokens, place, text)
        options: dict[str, Any] = {}
        if place < len(tokens) and tokens[place] == ("punct", "{"):
            options, place = _parse_options(tokens, place + 1, text)
        passes.append(make_pass(name, options))
        if place < len(tokens):
            if tokens[place] != ("punct", ","):
                raise UsageError(f"pipeline '{printable(text)}': expected ',' before '{tokens[place][1]}'")
            place += 1
            if place == len(tokens):
                raise UsageError(f"pipeline '{printable(text)}': a pass must follow the last ','")
    return tuple(passes)


def format_pipeline(passes: Iterable[Pass]) -> str:
    """The text that `parse_pipeline` reads back as `passes`."""
    return ",".join(format_pass(item) for item in passes)


def format_pass(item: Pass) -> str:
    """One pass as text, with the options that differ from their defaults."""
    options = []
    for option in item.options():
        value = getattr(item, option.name)
        if value != default_of(option):
            options.append(f"{option.name.replace('_', '-')}={_format_value(value)}")
    return f"{item.name}{{{','.join(options)}}}" if options else item.name


def default_of(option: dataclasses.Field[Any]) -> Any:
    """The default value of an option."""
    if option.default_factory is not dataclasses.MISSING:
        return option.default_factory()
    return option.default


def make_pass(name: str, options: dict[str, Any]) -> Pass:
    """The pass `name` with options as parsed text or Python values. Raises `UsageError` for a wrong one."""
    cls = find_pass(name)
    hints = _types_of_options(cls) if options else {}
    known = {option.name.replace("_", "-"): option.name for option in cls.options()}
    values: dict[str, Any] = {}
    for key, value in options.items():
        field = known.get(key.replace("_", "-"))
        if field is None:
            raise UsageError(f"pass '{name}' has no option '{printable(key)}'{suggestion(key, known)}")
        try:
            values[field] = _convert(value, hints[field])
        except ValueError as error:
            raise UsageError(f"pass '{name}', option '{key}': {error}") from None
    return cls(**values)


def _types_of_options(cls: type[Pass]) -> dict[str, Any]:
    known = _OPTION_TYPES.get(cls)
    if known is None:
        known = _OPTION_TYPES[cls] = get_type_hints(cls)
    return known


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, 1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there are: {', '.join(names)}" if names else "; it takes none"


def _tokenise(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    place = 0
    while place < len(text.rstrip()):
        match = _TOKEN.match(text, place)
        if match is None:
            raise UsageError(f"pipeline '{printable(text)}': cannot read from '{printable(text[place:])}' on")
        kind = match.lastgroup or ""
        tokens.append((kind, match.group(kind)))
        place = match.end()
    return tokens


def _expect_word(tokens: Sequence[tuple[str, str]], place: int, text: str) -> tuple[str, int]:
    if place >= len(tokens) or tokens[place][0] != "word":
        found = f"'{tokens[place][1]}'" if place < len(tokens) else "the end"
        raise UsageError(f"pipeline '{printable(text)}': expected a name, found {found}")
    return tokens[place][1], place + 1


def _parse_options(tokens: Sequence[tuple[str, str]], place: int, text: str) -> tuple[dict[str, Any], int]:
    options: dict[str, Any] = {}
    while True:
        if place < len(tokens) and tokens[place] == ("punct", "}"):
            return options, place + 1
        key, place = _expect_word(tokens, place, text)
        if key in options:
            raise UsageError(f"pipeline '{printable(text)}': option '{key}' is given twice")
        options[key] = True
        if place < len(tokens) and tokens[place] == ("punct", "="):
            options[key], place = _parse_value(tokens, place + 1, text)
        if place < len(tokens) and tokens[place] == ("punct", ","):
            place += 1
        elif place >= len(tokens) or tokens[place] != ("punct", "}"):
            raise UsageError(f"pipeline '{printable(text)}': expected ',' or '}}' after option '{key}'")


def _parse_value(tokens: Sequence[tuple[str, str]], place: int, text: str) -> tuple[Any, int]:
    if place >= len(tokens):
        raise UsageError(f"pipeline '{printable(text)}': a value must follow '='")
    kind, word = tokens[place]
    if kind == "word":
        return _Word(word), place + 1
    if kind == "string":
        return json.loads(word), place + 1
    if word != "[":
        raise UsageError(f"pipeline '{printable(text)}': expected a value, found '{word}'")
    items: list[Any] = []
    place += 1
    while place < len(tokens) and tokens[place] != ("punct", "]"):
        item, place = _parse_value(tokens, place, text) if tokens[place] != ("punct", "[") else ("", len(tokens))
        items.append(item)
        if place < len(tokens) and tokens[place] == ("punct", ","):
            place += 1
        elif place >= len(tokens) or tokens[place] != ("punct", "]"):
            break
    if place >= len(tokens) or tokens[place] != ("punct", "]"):
        raise UsageError(f"pipeline '{printable(text)}': a list must end with ']'")
    return tuple(items), place + 1


class _Word(str):
    """A value written without quotes: the option's type says what it means."""

    __slots__ = ()


def _convert(value: Any, hint: Any) -> Any:
    """`value` as the type `hint`. Raises `ValueError` saying what was expected."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, get_args(hint))
    if origin is tuple:
        item = get_args(hint)[0]
        items = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(_convert(entry, item) for entry in items)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _convert_enum(value, hint)
    if hint is bool:
        if isinstance(value, bool) or value in ("true", "false"):
            return value if isinstance(value, bool) else value == "true"
        raise ValueError(f"expected true or false, not {value!r}")
    if hint in (int, float) and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            return hint(value) if not (hint is int and isinstance(value, float)) else _whole(value)
        except (ValueError, OverflowError):
            raise ValueError(f"expected {'a whole number' if hint is int else 'a number'}, not '{value}'") from None
    if hint is str and isinstance(value, str):
        return str(value)
    raise ValueError(f"expected {getattr(hint, '__name__', hint)}, not {value!r}")


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError
    return int(value)


def _convert_enum(value: Any, hint: type[enum.Enum]) -> enum.Enum:
    if isinstance(value, hint):
        return value
    for member in hint:
        if value in (member.name.lower().replace("_", "-"), member.value):
            return member
    names = ", ".join(member.name.lower().replace("_", "-") for member in hint)
    raise ValueError(f"expected one of {names}, not {value!r}")


def _convert_union(value: Any, choices: Sequence[Any]) -> Any:
    is_none = value is None or (isinstance(value, _Word) and value == "none")
    if is_none and type(None) in choices:
        return None
    reasons = []
    for choice in choices:
        if choice is not type(None):
            try:
                return _convert(value, choice)
            except ValueError as error:
                reasons.append(str(error))
    raise ValueError("; ".join(reasons))


def _format_value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, enum.Enum):
        return value.name.lower().replace("_", "-")
    if isinstance(value, str):
        return value if _PLAIN.match(value) and value not in _RESERVED else json.dumps(value)
    if isinstance(value, tuple):
        return "[" + ",".join(_format_value(item) for item in value) + "]"
    return repr(value)
