"""Parses types, dimensions, tensors and attribute values."""

from __future__ import annotations

import math
from typing import Any

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef, SingleFloat
from graphopt.ir.dimensions import Dim, KnownDim, SymbolicDim, symbol
from graphopt.ir.errors import printable
from graphopt.ir.tensors import ArrayTensor, RepeatedTensor, Tensor, pack
from graphopt.ir.text.elements import fits, read
from graphopt.ir.text.lexer import Lexer
from graphopt.ir.text.literals import OPERATIONS
from graphopt.ir.types import DTYPES, DType, Quantization, Shape, TensorType

NESTING = 100  # levels of function attributes or of operations on dimensions
_INT_RANGE = (-(1 << 63), (1 << 64) - 1)
_SHORTENED = "the text was shortened for display; print it with elide=None to parse it back"


def parse_type(lexer: Lexer) -> TensorType:
    """`float32[?, 3]`, perhaps `quantized(...)`."""
    dtype = parse_dtype(lexer)
    shape = parse_shape(lexer)
    return TensorType(dtype, shape, _parse_quantization(lexer) if lexer.at("quantized") else None)


def parse_dtype(lexer: Lexer) -> DType:
    """The name of an element type."""
    dtype = DTYPES.get(lexer.text) if lexer.kind == "word" else None
    if dtype is None:
        lexer.fail("an element type, such as float32")
    lexer.next()
    return dtype


def _parse_quantization(lexer: Lexer) -> Quantization:
    lexer.take("quantized")
    lexer.take("(")
    lexer.take("scale")
    lexer.take("=")
    scale = [_parse_float(lexer) for _ in _items(lexer, "[", "]")]
    for mark in (",", "zero_point", "="):
        lexer.take(mark)
    zero_point = [lexer.take_int("a zero point", *_INT_RANGE) for _ in _items(lexer, "[", "]")]
    axis = None
    if lexer.accept(","):
        lexer.take("axis")
        lexer.take("=")
        axis = lexer.take_int("an axis", -255, 255)
    lexer.take(")")
    return Quantization(tuple(scale), tuple(zero_point), axis)


def _parse_float(lexer: Lexer) -> float:
    if lexer.kind != "number" or "x" in lexer.text:
        lexer.fail("a number")
    value = float(lexer.text)
    lexer.next()
    return value


def _items(lexer: Lexer, opening: str, closing: str) -> Any:
    """Take the brackets and commas around items that the caller takes, one for each that is yielded."""
    lexer.take(opening)
    place = 0
    while not lexer.accept(closing):
        if place:
            lexer.take(",")
        yield place
        place += 1
        if not (lexer.at(",") or lexer.at(closing)):
            lexer.fail(f"',' or '{closing}'")


# Dimensions ---------------------------------------------------------------------------------------------------


def parse_shape(lexer: Lexer) -> Shape:
    """`[*]` or `[?, 3, 2*batch+1]`."""
    lexer.take("[")
    if lexer.accept("*"):
        lexer.take("]")
        return Shape(None)
    dims: list[Dim] = []
    while not lexer.accept("]"):
        if dims:
            lexer.take(",")
        dims.append(None if lexer.accept("?") else _parse_sum(lexer, 0))
        if not (lexer.at(",") or lexer.at("]")):
            lexer.fail("',' or ']'")
    return Shape(dims)


def _parse_sum(lexer: Lexer, depth: int) -> KnownDim:
    total = _parse_product(lexer, depth)
    while not (lexer.at(",") or lexer.at("]") or lexer.at(")")):
        if lexer.accept("+") or lexer.at("-") or (lexer.kind == "number" and lexer.text[0] == "-"):
            total = total + _parse_product(lexer, depth)
        else:
            lexer.fail("a dimension's next term or its end")
    return total


def _parse_product(lexer: Lexer, depth: int) -> KnownDim:
    result: KnownDim = -1 if lexer.accept("-") else 1
    while True:
        result = result * _parse_factor(lexer, depth)
        if not lexer.accept("*"):
            return result


def _parse_factor(lexer: Lexer, depth: int) -> KnownDim:
    if lexer.kind == "number":
        return lexer.take_int("a dimension", -_INT_RANGE[1])
    start = lexer.start
    quoted = lexer.kind == "string"
    name = lexer.take_word("a dimension: a number, a name or '?'")
    if quoted or name not in OPERATIONS or not lexer.at("("):
        return symbol(name)
    if depth >= NESTING:
        lexer.error(f"the dimension nests more than {NESTING} operations", start)
    lexer.take("(")
    left = _parse_sum(lexer, depth + 1)
    lexer.take(",")
    right = _parse_sum(lexer, depth + 1)
    lexer.take(")")
    return SymbolicDim((((((name, left, right),), 1)),))


# Attributes ---------------------------------------------------------------------------------------------------


def parse_attributes(lexer: Lexer, depth: int = 0) -> dict[str, Any]:
    """`{T = float32, strides = [1, 1]}`."""
    attrs: dict[str, Any] = {}
    if depth > NESTING:
        lexer.error(f"attributes nest more than {NESTING} levels", lexer.start)
    for _ in _items(lexer, "{", "}"):
        start, name = lexer.start, lexer.take_word("an attribute's name")
        if name in attrs:
            lexer.error(f"attribute '{printable(name)}' is given twice", start)
        lexer.take("=")
        attrs[name] = parse_attribute(lexer, depth)
    return attrs


def parse_attribute(lexer: Lexer, depth: int = 0) -> Any:
    """One attribute value."""
    if not lexer.at("["):
        return _parse_scalar(lexer, depth)
    values = []
    for _ in _items(lexer, "[", "]"):
        if lexer.at("elided"):
            lexer.error(_SHORTENED, lexer.start)
        if lexer.at("["):
            lexer.fail("an attribute value; a list holds no lists")
        values.append(_parse_scalar(lexer, depth))
    return tuple(values)


def _parse_scalar(lexer: Lexer, depth: int) -> Any:
    if lexer.kind == "number":
        return _parse_number(lexer)
    if lexer.kind in ("bytes", "string"):
        data = lexer.take_bytes()
        if lexer.at("elided"):
            lexer.error(_SHORTENED, lexer.start)
        return data
    if lexer.at_ref("@"):
        name = lexer.take_ref("@", "a function")
        return FunctionRef(name, parse_attributes(lexer, depth + 1) if lexer.at("{") else {})
    if lexer.at_ref("$"):
        return AttributePlaceholder(lexer.take_ref("$", "an attribute"))
    for word, value in (("true", True), ("false", False), ("none", None)):
        if lexer.accept(word):
            return value
    if lexer.accept("shape"):
        return parse_shape(lexer)
    if lexer.kind != "word" or lexer.text not in DTYPES:
        lexer.fail("an attribute value")
    dtype = parse_dtype(lexer)
    return parse_tensor(lexer, dtype) if lexer.at("[") else dtype


def _parse_number(lexer: Lexer) -> int | float:
    text = lexer.text
    if "x" not in text and any(mark in text for mark in ".eEn"):
        value = _parse_float(lexer)
        return _parse_pattern(lexer) if text == "nan" and lexer.at("(") else value
    return lexer.take_int("a number", *_INT_RANGE)


def _parse_pattern(lexer: Lexer) -> SingleFloat:
    lexer.take("(")
    text = lexer.text
    value = int(text, 16) if lexer.kind == "number" and text.startswith("0x") and len(text) <= 10 else 0
    if value & 0x7F800000 != 0x7F800000 or not value & 0x7FFFFF:
        lexer.fail("the 32 bits of a NaN, such as 0x7fc00001")
    lexer.next()
    lexer.take(")")
    return SingleFloat(math.nan, value.to_bytes(4, "little"))


# Tensors ------------------------------------------------------------------------------------------------------


def parse_tensor(lexer: Lexer, dtype: DType) -> Tensor:
    """What follows the element type: the shape, the form and the contents."""
    start = lexer.start
    dims = parse_shape(lexer).static
    if dims is None:
        lexer.error("a tensor's dimensions are numbers", start)
    if min(dims, default=0) < 0 or math.prod(dims) >= 1 << 63:
        lexer.error("the tensor's shape is out of bounds", start)
    if lexer.at("elided") or lexer.at("opaque"):
        lexer.error(_SHORTENED if lexer.at("elided") else "the tensor's contents have no text form", lexer.start)
    start = lexer.start
    try:
        return _parse_contents(lexer, dtype, dims)
    except (ValueError, TypeError, OverflowError) as error:
        lexer.error(f"the contents do not fit {dtype}{list(dims)}: {error}", start)


def _parse_contents(lexer: Lexer, dtype: DType, dims: tuple[int, ...]) -> Tensor:
    if lexer.accept("splat"):
        if math.prod(dims) < 1:
            lexer.fail("a shape with at least one element")
        return RepeatedTensor(read([_parse_element(lexer)], dtype), dtype, dims)
    if lexer.at("repeat"):
        lexer.next()
        start = lexer.start
        leading = [_parse_element(lexer) for _ in _items(lexer, "[", "]")]
        if not 1 <= len(leading) <= math.prod(dims):
            lexer.error(f"from 1 to {math.prod(dims)} elements are repeated, not {len(leading)}", start)
        return RepeatedTensor(read(leading, dtype), dtype, dims)
    is_packed = lexer.accept("packed")
    if is_packed and not 0 < dtype.bits < 8:
        lexer.fail("an element type below 8 bits before 'packed'")
    array = read(_parse_nested(lexer, dims), dtype).reshape(dims)
    return pack(array, dtype) if is_packed else ArrayTensor(array, dtype)


def _parse_nested(lexer: Lexer, dims: tuple[int, ...]) -> list[Any]:
    """The elements, flat, once their brackets were found to fit `dims`."""
    start = lexer.start
    if not dims:
        return [_parse_element(lexer)]
    lexer.take("[")
    elements: list[Any] = []
    items = [0]  # found so far in every open pair
    closed: list[tuple[int, int]] = []
    depth = 0
    while items:
        if lexer.accept("]"):
            closed.append((len(items) - 1, items.pop()))
            continue
        if items[-1]:
            lexer.take(",")
        items[-1] += 1
        if lexer.accept("["):
            items.append(0)
            if len(items) > len(dims):
                lexer.error(f"the brackets are deeper than {len(dims)} dimensions", start)
        else:
            if elements and len(items) != depth:
                lexer.error("elements stand at different depths of the brackets", start)
            depth = len(items)
            elements.append(_parse_element(lexer))
    if not fits(closed, dims, len(elements)):
        lexer.error(f"the brackets, or their {len(elements)} elements, do not match shape {list(dims)}", start)
    return elements


def _parse_element(lexer: Lexer) -> Any:
    if lexer.kind == "number" or lexer.at("true") or lexer.at("false"):
        text = lexer.text
        lexer.next()
        return text
    if lexer.kind in ("bytes", "string"):
        return lexer.take_bytes()
    if not lexer.at("("):
        lexer.fail("an element of the tensor")
    parts = []
    for mark in ("(", ","):
        lexer.take(mark)
        if lexer.kind != "number":
            lexer.fail("a number")
        parts.append(lexer.text)
        lexer.next()
    lexer.take(")")
    return tuple(parts)
