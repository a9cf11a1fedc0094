"""Operators of TensorFlow on strings, which are byte strings: joining, splitting, numbers, regular expressions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.ir.attributes import Attributes
from graphopt.ir.ops.inference import (
    InferenceContext,
    broadcast,
    broadcast_shapes,
    normalized_axis,
    same_as,
)
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import merged, unknown_of_rank
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
VECTOR = Shape((None,))
WHITESPACE = b" \t\n\v\f\r"


def strings(items: Sequence[bytes], shape: tuple[int, ...]) -> Array:
    """An array of byte strings of `shape`, from its elements in a row."""
    result = np.empty(len(items), object)
    result[:] = items
    return result.reshape(shape)


def each(function: Callable[[bytes], bytes], value: Array) -> Array:
    """`function` of every string."""
    return strings([function(item) for item in value.reshape(-1).tolist()], value.shape)


def _text(item: bytes) -> str:
    try:
        return item.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{item!r} is not UTF-8: {error}") from error


# StringJoin, ReduceJoin ---------------------------------------------------------------------------------------


def _string_join_shape(context: InferenceContext) -> Sequence[Shape]:
    """Scalars among the inputs go with every element of the others."""
    shapes = context.shapes()
    if any(shape.dims is None for shape in shapes):
        return [UNKNOWN_SHAPE]
    return [merged([shape for shape in shapes if shape.rank] or [SCALAR])]


def _string_join(attrs: Attributes, *values: Array) -> Array:
    shapes = {value.shape for value in values if value.ndim}
    if len(shapes) > 1:
        raise ValueError("the inputs must be scalars or have the same shape")
    shape = shapes.pop() if shapes else ()
    columns = [np.broadcast_to(value, shape).reshape(-1).tolist() for value in values]
    return strings([attrs["separator"].join(row) for row in zip(*columns, strict=True)], shape)


def _reduce_join_shape(context: InferenceContext) -> Sequence[Shape]:
    dims, axes = context.shape(0).dims, context.constant_ints(1)
    if dims is None or axes is None:
        known = dims is not None and context.attrs["keep_dims"]
        return [unknown_of_rank(context.shape(0).rank if known else None)]
    places = {normalized_axis(axis, len(dims)) for axis in axes}
    if context.attrs["keep_dims"]:
        return [Shape(1 if place in places else dim for place, dim in enumerate(dims))]
    return [Shape(dim for place, dim in enumerate(dims) if place not in places)]


def _reduce_join(attrs: Attributes, value: Array, axes: Array) -> Array:
    places = [normalized_axis(axis, value.ndim) for axis in axes.reshape(-1).tolist()]
    if len(dict.fromkeys(places)) != len(places):
        raise ValueError(f"an axis is named twice in {axes.tolist()}")
    kept = [place for place in range(value.ndim) if place not in places]
    shape = tuple(value.shape[place] for place in kept)
    joined = int(np.prod([value.shape[place] for place in places], dtype=np.int64))
    # The axis named first is joined first, so it is the one that varies fastest.
    rows = value.transpose([*kept, *reversed(places)]).reshape((int(np.prod(shape, dtype=np.int64)), joined))
    if attrs["keep_dims"]:
        shape = tuple(1 if place in places else size for place, size in enumerate(value.shape))
    return strings([attrs["separator"].join(row) for row in rows.tolist()], shape)


register("tf.StringJoin", shape=_string_join_shape, evaluate=_string_join)
register("tf.ReduceJoin", shape=_reduce_join_shape, evaluate=_reduce_join)


# StringSplit, StringSplitV2 -----------------------------------------------------------------------------------


def _split_shape(context: InferenceContext) -> Sequence[Shape]:
    """Indices, values and shape of a sparse matrix."""
    merged((context.shape(0), VECTOR))
    return [Shape((None, 2)), VECTOR, Shape((2,))]


def _sparse_rows(rows: Sequence[Sequence[bytes]]) -> list[Array]:
    indices = [(row, column) for row, items in enumerate(rows) for column in range(len(items))]
    values = [item for items in rows for item in items]
    longest = max((len(items) for items in rows), default=0)
    return [
        np.array(indices, np.int64).reshape(-1, 2),
        strings(values, (len(values),)),
        np.array([len(rows), longest], np.int64),
    ]


def _string_split(attrs: Attributes, value: Array, delimiter: Array) -> list[Array]:
    """Every byte of the delimiter separates; without one every byte stands alone."""
    if value.ndim != 1 or delimiter.size != 1:
        raise ValueError("the input must be a vector and the delimiter a scalar")
    separators = delimiter.reshape(-1)[0]
    rows = []
    for item in value.tolist():
        if separators:
            parts = re.split(b"[" + re.escape(separators) + b"]", item)
        else:
            parts = [item[place : place + 1] for place in range(len(item))]
        rows.append([part for part in parts if part or not attrs["skip_empty"]] if item else [])
    return _sparse_rows(rows)


def _string_split_v2(attrs: Attributes, value: Array, separator: Array) -> list[Array]:
    if value.ndim != 1 or separator.ndim:
        raise ValueError("the input must be a vector and the separator a scalar")
    maximum = -1 if attrs["maxsplit"] < 0 else attrs["maxsplit"]
    between = separator.item() or None
    if maximum == 0:
        return _sparse_rows([[item] for item in value.tolist()])
    rows = [item.split(between, maximum) for item in value.tolist()]
    if between is None:  # TensorFlow adds what is left after so many splits, be it empty.
        rows = [[*row, b""] if len(row) == maximum else row for row in rows]
    return _sparse_rows(rows)


register("tf.StringSplit", shape=_split_shape, evaluate=_string_split)
register("tf.StringSplitV2", shape=_split_shape, evaluate=_string_split_v2)


# Case, whitespace, length -------------------------------------------------------------------------------------


def _encoding(attrs: Attributes) -> bytes:
    encoding: bytes = attrs["encoding"]
    if encoding not in (b"", b"utf-8"):
        raise ValueError(f"there is no encoding {encoding!r}")
    return encoding


def _cased(attrs: Attributes, value: Array, change: Callable[[Any], Any]) -> Array:
    if not _encoding(attrs):
        return each(change, value)
    if not all(item.isascii() and b"\0" not in item for item in value.reshape(-1).tolist()):
        raise ValueError("case beyond ASCII depends on the version of Unicode, so it is not evaluated")
    return each(change, value)


def _string_length(attrs: Attributes, value: Array) -> Array:
    lengths = [_length(item, attrs["unit"]) for item in value.reshape(-1).tolist()]
    return np.array(lengths, np.int32).reshape(value.shape)


def _length(item: bytes, unit: bytes) -> int:
    """Characters of UTF-8 are counted by the bytes that do not continue one."""
    if unit == b"BYTE":
        return len(item)
    if unit != b"UTF8_CHAR":
        raise ValueError(f"there is no unit {unit!r}")
    return sum(1 for byte in item if byte & 0xC0 != 0x80)


register(
    "tf.StringLower", traits=Trait.ELEMENTWISE | Trait.IDEMPOTENT, shape=same_as(),
    evaluate=lambda attrs, value: _cased(attrs, value, lambda item: item.lower()),
)  # fmt: skip
register(
    "tf.StringUpper", traits=Trait.ELEMENTWISE | Trait.IDEMPOTENT, shape=same_as(),
    evaluate=lambda attrs, value: _cased(attrs, value, lambda item: item.upper()),
)  # fmt: skip
register(
    "tf.StringStrip", traits=Trait.ELEMENTWISE | Trait.IDEMPOTENT, shape=same_as(),
    evaluate=lambda attrs, value: each(lambda item: item.strip(WHITESPACE), value),
)  # fmt: skip
register("tf.StringLength", traits=Trait.ELEMENTWISE, shape=same_as(), evaluate=_string_length)


# Substr -------------------------------------------------------------------------------------------------------


def _substr_shape(context: InferenceContext) -> Sequence[Shape]:
    merged((context.shape(1), context.shape(2)))
    return broadcast(context)


def _substr(attrs: Attributes, value: Array, position: Array, length: Array) -> Array:
    if position.shape != length.shape:
        raise ValueError("positions and lengths must have the same shape")
    shape = broadcast_shapes([Shape(value.shape), Shape(position.shape)]).static or ()
    columns = [np.broadcast_to(part, shape).reshape(-1).tolist() for part in (value, position, length)]
    by_byte = attrs["unit"] == b"BYTE"
    if not by_byte and attrs["unit"] != b"UTF8_CHAR":
        raise ValueError(f"there is no unit {attrs['unit']!r}")
    cut = [_cut(item if by_byte else _text(item), *place) for item, *place in zip(*columns, strict=True)]
    return strings(cut, shape)


def _cut(item: Any, position: int, length: int) -> bytes:
    """A negative length is refused because TensorFlow reads it differently by unit and place."""
    if not -len(item) <= position <= len(item) or length < 0:
        raise ValueError(f"{length} from {position} on is not within a string of {len(item)}")
    start = position if position >= 0 else position + len(item)
    part = item[start : start + length]
    return part if isinstance(part, bytes) else str(part).encode()


register("tf.Substr", shape=_substr_shape, evaluate=_substr)


# Numbers ------------------------------------------------------------------------------------------------------

_DECIMAL = re.compile(rb"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\Z")
_INTEGER = re.compile(rb"-?\d+\Z")
_WIDEST = 1000  # characters that a number is written with
_NAMED = re.compile(rb"[-+]?(inf|infinity|nan)\Z", re.IGNORECASE)


def _string_to_number(attrs: Attributes, value: Array) -> Array:
    dtype = attrs["out_type"].numpy
    items = [item.strip(WHITESPACE) for item in value.reshape(-1).tolist()]
    if dtype.kind in "iu":
        return _integers(items, dtype).reshape(value.shape)
    if not all(_DECIMAL.match(item) or _NAMED.match(item) for item in items):
        raise ValueError("a string is no decimal number")
    with np.errstate(over="ignore"):
        if dtype == np.float32:
            # Straight to 32 bits: by way of 64 some numbers would be rounded twice.
            return np.array([np.float32(item.decode()) for item in items], np.float32).reshape(value.shape)
        return np.array([float(item) for item in items], dtype).reshape(value.shape)


def _integers(items: Sequence[bytes], dtype: np.dtype[Any]) -> Array:
    info = np.iinfo(dtype)
    numbers = [int(item) if _INTEGER.match(item) and len(item) <= 20 else None for item in items]
    if any(number is None or not info.min <= number <= info.max for number in numbers):
        raise ValueError(f"a string is no {dtype.name}")
    return np.array(numbers, dtype)


def _as_string(attrs: Attributes, value: Array) -> Array:
    kind = value.dtype.kind
    if kind in "iu":
        convert = _integer_format(attrs, signed=kind == "i")
    elif kind == "b":
        convert = _bool_text
    elif value.dtype in (np.float32, np.float64) and not np.any(np.isnan(value) & np.signbit(value)):
        convert = _float_format(attrs)
    else:
        raise ValueError(f"{value.dtype} is not written as a string here")
    return strings([convert(item).encode() for item in value.reshape(-1).tolist()], value.shape)


def _bool_text(item: Any) -> str:
    return "true" if item else "false"


def _flags(attrs: Attributes) -> str:
    fill: str = attrs["fill"].decode()
    if max(attrs["width"], attrs["precision"]) > _WIDEST:
        raise ValueError(f"a number of {_WIDEST} characters and more is not written")
    if fill not in ("", " ", "0", "-", "+") or (fill and attrs["width"] < 0):
        raise ValueError(f"a width of {attrs['width']} cannot be filled with {fill!r}")
    return "%" + fill + (str(attrs["width"]) if attrs["width"] >= 0 else "")


def _integer_format(attrs: Attributes, signed: bool) -> Callable[[Any], str]:
    """Unsigned ones take no plus sign."""
    if attrs["precision"] >= 0 or attrs["scientific"] or attrs["shortest"]:
        raise ValueError("integers have no precision")
    template = (_flags(attrs) if signed else _flags(attrs).replace("+", "")) + "d"
    return lambda item: template % item


def _float_format(attrs: Attributes) -> Callable[[Any], str]:
    if attrs["scientific"] and attrs["shortest"]:
        raise ValueError("a number cannot be both scientific and shortest")
    template = _flags(attrs) + (f".{attrs['precision']}" if attrs["precision"] >= 0 else "")
    template += "e" if attrs["scientific"] else ("g" if attrs["shortest"] else "f")
    unpadded = template.replace("%0", "%", 1)  # C fills infinities and NaN with spaces
    return lambda item: (template if math.isfinite(item) else unpadded) % item


register("tf.StringToNumber", traits=Trait.ELEMENTWISE, shape=same_as(), evaluate=_string_to_number)
register("tf.AsString", traits=Trait.ELEMENTWISE, shape=same_as(), evaluate=_as_string)


# Regular expressions ------------------------------------------------------------------------------------------

# What RE2 and Python read alike on ASCII text: characters, escaped punctuation, classes, counts after them, groups.
_SAFE = re.compile(
    rb"(?:(?:[A-Za-z0-9 _,:;=<>/'\"!@#%&~`-]|\\[.+*?()|\[\]{}^$\\/dw-]|\."
    rb"|\[\^?(?:[A-Za-z0-9](?:-[A-Za-z0-9])?|[ _,.:;=<>/])+\])[+*?]?|\((?![?)])|\)(?![+*?])|\|)*\Z"
)
_SAFE_REWRITE = re.compile(rb"(?:[^\\]|\\[0-9])*\Z")
_STEPS = 1 << 24  # of a backtracking match, at worst, that are worth taking; RE2 itself is linear


def compiled(pattern: bytes) -> re.Pattern[bytes]:
    """The pattern, if RE2 and Python are sure to agree on it. Raises `ValueError` otherwise."""
    if not _SAFE.match(pattern):
        raise ValueError(f"the regular expression {pattern!r} is beyond what is evaluated")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error


def _subjects(value: Array, pattern: bytes) -> list[bytes]:
    """The strings to match. Raises `ValueError` for text or work beyond what is evaluated."""
    items: list[bytes] = value.reshape(-1).tolist()
    if not all(item.isascii() and b"\n" not in item for item in items):
        raise ValueError("regular expressions are evaluated on single lines of ASCII alone")
    repeats, choices = sum(map(pattern.count, (b"*", b"+", b"?"))), pattern.count(b"|")
    if repeats > 8 or choices > 16 or sum((len(item) + 1) ** (repeats + 1) << choices for item in items) > _STEPS:
        raise ValueError(f"matching the regular expression {pattern!r} may take too long")
    return items


def _full_match(attrs: Attributes, value: Array, pattern: bytes) -> Array:
    expression = compiled(pattern)
    found = [expression.fullmatch(item) is not None for item in _subjects(value, pattern)]
    return np.array(found, np.bool_).reshape(value.shape)


def _replace(attrs: Attributes, value: Array, pattern: bytes, rewrite: bytes) -> Array:
    expression = compiled(pattern)
    if not _SAFE_REWRITE.match(rewrite) or expression.match(b""):
        raise ValueError("a pattern that matches nothing, or such a replacement, is beyond what is evaluated")
    parts = re.split(rb"\\([0-9])", rewrite)
    if any(int(group) > expression.groups for group in parts[1::2]):
        raise ValueError(f"the replacement {rewrite!r} names a group that the pattern lacks")

    def replacement(match: re.Match[bytes]) -> bytes:
        return b"".join((match.group(int(part)) or b"") if place % 2 else part for place, part in enumerate(parts))

    count = 0 if attrs["replace_global"] else 1
    return strings([expression.sub(replacement, item, count=count) for item in _subjects(value, pattern)], value.shape)


def _single(value: Array, what: str) -> bytes:
    if value.ndim:
        raise ValueError(f"the {what} must be a scalar")
    found: bytes = value.item()
    return found


register(
    "tf.StaticRegexFullMatch", traits=Trait.ELEMENTWISE, shape=same_as(),
    evaluate=lambda attrs, value: _full_match(attrs, value, attrs["pattern"]),
)  # fmt: skip
register(
    "tf.RegexFullMatch", shape=same_as(),
    evaluate=lambda attrs, value, pattern: _full_match(attrs, value, _single(pattern, "pattern")),
)  # fmt: skip
register(
    "tf.StaticRegexReplace", traits=Trait.ELEMENTWISE, shape=same_as(),
    evaluate=lambda attrs, value: _replace(attrs, value, attrs["pattern"], attrs["rewrite"]),
)  # fmt: skip
register(
    "tf.RegexReplace", shape=same_as(),
    evaluate=lambda attrs, value, pattern, rewrite: _replace(
        attrs, value, _single(pattern, "pattern"), _single(rewrite, "rewrite")
    ),
)  # fmt: skip
