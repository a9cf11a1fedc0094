"""Names, strings, dimensions, types and attribute values as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef, SingleFloat
from graphopt.ir.dimensions import Dim, SymbolicDim
from graphopt.ir.tensors import PackedTensor, RepeatedTensor, Tensor
from graphopt.ir.text.elements import nested, written
from graphopt.ir.types import DType, Quantization, Shape, TensorType

BARE_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./-]*\Z")  # after %, @ and $
BARE_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")  # operators and attribute names
OPERATIONS = ("floordiv", "max", "min")
_NUMBERS = ("inf", "nan")  # what looks like a word and is a number
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def quoted(text: str) -> str:
    """`text` in double quotes; what is not printable, bidirectional controls included, is escaped."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escape(ord(c))) for c in text) + '"'


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted_bytes(data: bytes) -> str:
    """`data` as `b"..."`, everything but printable ASCII escaped."""
    text = data.decode("latin-1")
    if text.isascii():
        return "b" + quoted(text)
    return 'b"' + "".join(_ESCAPES.get(c) or (c if " " <= c <= "~" else f"\\x{ord(c):02x}") for c in text) + '"'


def name_text(sigil: str, name: str) -> str:
    """A name after its sigil, quoted where it has to be: `%conv/kernel`, `%"a b"`."""
    return sigil + (name if BARE_NAME.match(name) else quoted(name))


def word_text(word: str) -> str:
    """An operator's or an attribute's name, quoted where it has to be."""
    return word if BARE_WORD.match(word) and word not in _NUMBERS else quoted(word)


def dim_text(dim: Dim) -> str:
    """A dimension: `3`, `?`, `2*batch+1`, `floordiv(batch, 2)`."""
    if dim is None:
        return "?"
    if not isinstance(dim, SymbolicDim):
        return str(dim)
    parts = []
    for place, (monomial, factor) in enumerate(dim.terms):
        atoms = [_atom_text(atom) for atom in monomial]
        if abs(factor) != 1 or not atoms:
            atoms.insert(0, str(abs(factor)))
        parts.append(("-" if factor < 0 else "+" if place else "") + "*".join(atoms))
    return "".join(parts)


def _atom_text(atom: tuple[Any, ...]) -> str:
    if atom[0] == "name":
        return word_text(str(atom[1]))
    return f"{atom[0]}({dim_text(atom[1])}, {dim_text(atom[2])})"


def shape_text(shape: Shape) -> str:
    """A shape: `[*]`, `[]`, `[?, 3]`."""
    return "[*]" if shape.dims is None else "[" + ", ".join(map(dim_text, shape.dims)) + "]"


def type_text(type: TensorType) -> str:
    """A type: `float32[?, 3]`, with its quantization if it has one."""
    text = type.dtype.name + shape_text(type.shape)
    return text if type.quantization is None else f"{text} {_quantization_text(type.quantization)}"


def _quantization_text(quantization: Quantization) -> str:
    scale = ", ".join(float_text(scale) for scale in quantization.scale)
    zero_point = ", ".join(str(zero) for zero in quantization.zero_point)
    axis = "" if quantization.axis is None else f", axis = {quantization.axis}"
    return f"quantized(scale = [{scale}], zero_point = [{zero_point}]{axis})"


def float_text(value: float) -> str:
    """A float as the shortest text that reads back as the same number; a NaN with a payload shows its 32 bits."""
    if isinstance(value, SingleFloat) and math.isnan(value):
        return f"nan(0x{int.from_bytes(value.bits, 'little'):08x})"
    return repr(float(value))


def attributes_text(attrs: Mapping[str, Any], elide: int | None) -> str:
    """`{T = float32, strides = [1, 1]}`."""
    return "{" + ", ".join(f"{word_text(name)} = {attribute_text(value, elide)}" for name, value in attrs.items()) + "}"


def attribute_text(value: Any, elide: int | None = None) -> str:
    """An attribute value; nested function references are no problem however deep."""
    kind = type(value)
    if kind is int or kind is bool or kind is DType or kind is bytes:
        return _scalar_text(value, elide)
    pieces: list[str] = []
    pending: list[Iterator[Any]] = [iter((value,))]
    while pending:
        for item in pending[-1]:
            if isinstance(item, _Text):
                pieces.append(item)
            elif isinstance(item, FunctionRef):
                pieces.append(name_text("@", item.name))
                if item.attrs:
                    pending.append(_reference_items(item.attrs))
                    break
            elif isinstance(item, tuple) and not isinstance(item, AttributePlaceholder):
                pending.append(_list_items(item, elide))
                break
            else:
                pieces.append(_scalar_text(item, elide))
        else:
            pending.pop()
    return "".join(pieces)


class _Text(str):
    """Text that stands as it is, among values yet to be printed."""

    __slots__ = ()


def _reference_items(attrs: Mapping[str, Any]) -> Iterator[Any]:
    lead = "{"
    for name, value in attrs.items():
        yield _Text(f"{lead}{word_text(name)} = ")
        yield value
        lead = ", "
    yield _Text("}")


def _list_items(items: tuple[Any, ...], elide: int | None) -> Iterator[Any]:
    shown: Iterable[Any] = items if elide is None or len(items) <= 4 * elide else items[:elide]
    yield _Text("[")
    for place, item in enumerate(shown):
        if place:
            yield _Text(", ")
        yield item
    if shown is not items:
        yield _Text(f", elided {len(items) - (elide or 0)} items")
    yield _Text("]")


def _scalar_text(value: Any, elide: int | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, bytes):
        if elide is not None and len(value) > 16 * elide:
            return f"{quoted_bytes(value[: 4 * elide])} elided {len(value)} bytes"
        return quoted_bytes(value)
    if isinstance(value, DType):
        return value.name
    if isinstance(value, Shape):
        return "shape" + shape_text(value)
    if isinstance(value, Tensor):
        return tensor_text(value, elide)
    if isinstance(value, AttributePlaceholder):
        return name_text("$", value.name)
    raise TypeError(f"{type(value).__name__} is no attribute value")


def tensor_text(held: Tensor, elide: int | None = None) -> str:
    """A tensor: its type and then its contents, which are left out where there are more than `elide` elements."""
    lead = f"{held.dtype.name}{list(held.shape)} "
    if held.dtype.numpy is None:
        return f"{lead}opaque"
    count = len(held.leading) if isinstance(held, RepeatedTensor) else held.size
    if elide is not None and count > elide:
        return f"{lead}elided {held.nbytes} bytes"
    if isinstance(held, RepeatedTensor):
        elements = written(held.leading, held.dtype)
        return lead + (f"splat {elements[0]}" if count == 1 else f"repeat [{', '.join(elements)}]")
    elements = written(held.numpy(), held.dtype)
    return lead + ("packed " if isinstance(held, PackedTensor) else "") + nested(elements, held.shape)
