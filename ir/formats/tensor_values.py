"""Where the values of a TensorProto stand, how many there are, and what they are.

A typed list may be packed (one field), unpacked (a field for each element) or both in turn. Runs of unpacked
elements are found by a regular expression and decoded by NumPy, because a Python step for each would take minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import MalformedError
from graphopt.ir.formats import wire
from graphopt.ir.types import DType

Array = np.ndarray[Any, Any]


class ValueList(NamedTuple):
    """One typed list of TensorProto: wire type of an element, its NumPy type, and elements to a value."""

    name: str
    wire_type: int
    element: Any
    per_value: int = 1


CONTENT, FLOAT8 = 4, 18
BLOCK = 1 << 20  # bytes of varints that are decoded at a time
LISTS: dict[int, ValueList] = {
    5: ValueList("float_val", wire.FIXED32, np.dtype("<f4")),
    6: ValueList("double_val", wire.FIXED64, np.dtype("<f8")),
    7: ValueList("int_val", wire.VARINT, np.int32),
    8: ValueList("string_val", wire.BYTES, None),
    9: ValueList("scomplex_val", wire.FIXED32, np.dtype("<f4"), 2),
    10: ValueList("int64_val", wire.VARINT, np.int64),
    11: ValueList("bool_val", wire.VARINT, np.bool_),
    12: ValueList("dcomplex_val", wire.FIXED64, np.dtype("<f8"), 2),
    13: ValueList("half_val", wire.VARINT, np.uint16),
    14: ValueList("resource_handle_val", wire.BYTES, None),
    15: ValueList("variant_val", wire.BYTES, None),
    16: ValueList("uint32_val", wire.VARINT, np.uint32),
    17: ValueList("uint64_val", wire.VARINT, np.uint64),
    18: ValueList("float8_val", wire.BYTES, np.uint8),
}
_LIST_OF = {
    "float32": 5,
    "float64": 6,
    "string": 8,
    "complex64": 9,
    "int64": 10,
    "bool": 11,
    "complex128": 12,
    "float16": 13,
    "bfloat16": 13,
    "resource": 14,
    "variant": 15,
    "uint32": 16,
    "uint64": 17,
    "unknown": 0,
}


def list_number(dtype: DType) -> int:
    """Field number of the typed list for values of `dtype`; 0 where there is none."""
    found = _LIST_OF.get(dtype.name)
    if found is not None:
        return found
    return FLOAT8 if dtype.name.startswith(("float8", "float4")) else 7


def _run(number: int, wire_type: int) -> re.Pattern[bytes]:
    tag = re.escape(wire.varint(number << 3 | wire_type))
    element = {
        wire.VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]",
        wire.FIXED32: rb"[\x00-\xff]{4}",
        wire.FIXED64: rb"[\x00-\xff]{8}",
    }[wire_type]
    return re.compile(rb"(?:" + tag + element + rb"){1,4096}")  # bounded: each turn costs memory


_RUNS = {n: _run(n, row.wire_type) for n, row in LISTS.items() if row.wire_type != wire.BYTES}
_CONTINUED = bytes(range(0x80, 0x100))
_OVERLONG = re.compile(rb"[\x80-\xff]{10}")


def pieces(buffer: wire.Buffer, start: int, end: int, number: int) -> Iterator[tuple[bool, int, int]]:
    """Spans of the values in field `number` among the fields between `start` and `end`.

    Yields `(is_packed, start, stop)`: the content of a length-delimited field, or a run of unpacked elements with
    their tags. Other fields are passed over.
    """
    run = _RUNS.get(number)
    row = LISTS[number]
    position = start
    quick = number << 3 | wire.BYTES if run is None and number < 16 else -1
    while position < end:
        if buffer[position] == quick and position + 1 < end and buffer[position + 1] < 0x80:
            value, position = position + 2, position + 2 + buffer[position + 1]
            if position <= end:
                yield True, value, position
                continue
            position = value - 2
        found = run.match(buffer, position, end) if run is not None else None
        if found is not None:
            yield False, position, found.end()
            position = found.end()
            continue
        tag, value, stop = next(wire.fields(buffer, position, end))
        if tag >> 3 == number:
            if tag & 7 != wire.BYTES:
                raise MalformedError(f"wrong wire type {tag & 7}", field=row.name, offset=position)
            yield True, value, stop
        position = stop


def run_end(buffer: wire.Buffer, start: int, end: int, tag: int, stop: int) -> int:
    """Where the run of elements, a field each, that begins at `start` ends; `stop` for any other field.

    Raises `MalformedError` where the wire type is wrong for a field of values.
    """
    row = LISTS.get(tag >> 3)
    if tag & 7 == wire.BYTES:
        if row is not None and row.element is None:  # strings and handles: pass over all the short ones that follow
            while stop + 1 < end and buffer[stop] == tag and buffer[stop + 1] < 0x80:
                following = stop + 2 + buffer[stop + 1]
                if following > end:
                    break
                stop = following
        return stop
    if row is None or tag & 7 != row.wire_type:
        name = "tensor_content" if row is None else row.name
        raise MalformedError(f"wrong wire type {tag & 7}", field=name, offset=start)
    found = _RUNS[tag >> 3].match(buffer, start, end)
    return stop if found is None else found.end()


def count_piece(buffer: wire.Buffer, number: int, is_packed: bool, start: int, stop: int) -> int:
    """Elements in one span that `pieces` found. Raises `MalformedError` where they do not fit it."""
    row = LISTS[number]
    size = stop - start
    if row.wire_type == wire.BYTES:
        return size if number == FLOAT8 else 1
    if row.wire_type == wire.VARINT:
        if size == 1:
            ends = int(buffer[start] < 0x80)
        else:
            span = buffer[start:stop]
            ends = len(span.translate(None, _CONTINUED))
            if ends != size and _OVERLONG.search(span):
                raise MalformedError("a number takes more than ten bytes", field=row.name, offset=start)
        if size and buffer[stop - 1] >= 0x80:
            raise MalformedError("the data ends within a number", field=row.name, offset=start)
        return ends if is_packed else ends // 2
    width = 4 if row.wire_type == wire.FIXED32 else 8
    if not is_packed:
        return size // (width + 1)
    if size % width:
        raise MalformedError(f"{size} bytes do not divide into numbers of {width}", field=row.name, offset=start)
    return size // width


def decode_piece(buffer: wire.Buffer, number: int, is_packed: bool, start: int, stop: int) -> Array:
    """The elements of one span, as a flat array of the list's own element type."""
    row = LISTS[number]
    octets = np.frombuffer(buffer, np.uint8, stop - start, start)
    if row.wire_type == wire.VARINT:
        numbers = decode_varints(octets)
        return as_element(numbers if is_packed else numbers[1::2], row.element)
    if row.wire_type == wire.BYTES or is_packed:
        packed: Array = octets.view(row.element)
        return packed
    width = row.element.itemsize
    untagged = np.ascontiguousarray(octets.reshape(-1, width + 1)[:, 1:])
    elements: Array = untagged.view(row.element).reshape(-1)
    return elements


def as_element(numbers: Array, element: Any) -> Array:
    """64-bit varints as the type that the list declares: the low bits, or whether it is not zero."""
    found: Array = numbers.astype(element)  # to bool: whether it is not zero
    return found


def decode_varints(octets: Array) -> Array:
    """Every varint in `octets`, which ends with a whole one, as unsigned 64-bit numbers."""
    numbers = []
    position = 0
    while len(octets) - position > BLOCK:
        stop = position + BLOCK
        while octets[stop - 1] >= 0x80:
            stop -= 1
        numbers.append(_decode_block(octets[position:stop]))
        position = stop
    numbers.append(_decode_block(octets[position:]))
    return numbers[0] if len(numbers) == 1 else np.concatenate(numbers)


def _decode_block(octets: Array) -> Array:
    ends = np.flatnonzero(octets < 0x80)
    if len(ends) == len(octets):
        return octets.astype(np.uint64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    numbers = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max())):
        longer = np.flatnonzero(lengths > place)
        digits = octets[starts[longer] + place].astype(np.uint64) & np.uint64(0x7F)
        numbers[longer] |= digits << np.uint64(7 * place)
    return numbers


def as_dtype(elements: Array, number: int, dtype: DType) -> Array:
    """Elements of list `number` (or the bytes of `tensor_content`) as values of `dtype`."""
    assert dtype.numpy is not None
    if number == CONTENT:
        return elements != 0 if dtype.name == "bool" else elements.view(dtype.numpy)
    if number in (13, FLOAT8):
        return elements.view(dtype.numpy)
    if LISTS[number].per_value == 2:
        return elements[: len(elements) // 2 * 2].view(dtype.numpy)
    return elements if elements.dtype == dtype.numpy else elements.astype(dtype.numpy)


def content_strings(buffer: wire.Buffer, start: int, stop: int, count: int) -> list[bytes]:
    """Strings as `tensor_content` holds them: all lengths, then all bytes. Raises `MalformedError`."""
    lengths: list[int] = []
    position = start
    for _ in range(count):
        length, position = wire.read_varint(buffer, position, stop)
        lengths.append(length)
    if sum(lengths) != stop - position:
        raise MalformedError(
            f"strings of {sum(lengths)} bytes are announced, {stop - position} are there",
            field="tensor_content",
            offset=start,
        )
    strings = []
    for length in lengths:
        strings.append(bytes(buffer[position : position + length]))
        position += length
    return strings
