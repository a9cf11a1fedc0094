"""Elements of tensors as text and back, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir.types import DType

Array = np.ndarray[Any, Any]

_ESCAPED = {ord("\\"): "\\\\", ord('"'): '\\"'}
_FLOAT_PARTS: dict[str, np.dtype[Any]] = {"complex64": np.dtype(np.float32), "complex128": np.dtype(np.float64)}


def written(array: Array, dtype: DType) -> list[str]:
    """The elements of `array`, flat, each as text."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if dtype.kind == "string":
        return [_bytes_text(item) for item in flat.tolist()]
    if dtype.kind == "bool":
        return ["true" if item else "false" for item in flat.tolist()]
    if dtype.kind == "float":
        return _written_floats(flat)
    if dtype.kind == "complex":
        parts = _written_floats(flat.view(_FLOAT_PARTS[dtype.name.removesuffix("_ref")]))
        return [f"({real}, {imaginary})" for real, imaginary in zip(parts[::2], parts[1::2], strict=True)]
    return [str(int(item)) for item in flat.tolist()]


def _written_floats(flat: Array) -> list[str]:
    if flat.dtype in (np.float16, np.float32):
        texts = [_with_point(str(item)) for item in flat]  # NumPy's shortest, fewer digits than float64's
    else:
        texts = [repr(float(item)) for item in flat]
    back = _read_floats(texts, flat.dtype)
    for place in np.flatnonzero(bits_of(back) != bits_of(flat)):
        texts[place] = f"0x{int(bits_of(flat)[place]):0{2 * flat.dtype.itemsize}x}"
    return texts


def _with_point(text: str) -> str:
    return text if "." in text or "e" in text or "n" in text else f"{text}.0"


def bits_of(array: Array) -> Array:
    """The elements' bit patterns as unsigned integers."""
    return array.view(np.dtype(f"u{array.dtype.itemsize}"))


def _bytes_text(item: Any) -> str:
    data = item if isinstance(item, bytes) else str(item).encode()
    return 'b"' + "".join(_ESCAPED.get(c) or (chr(c) if 32 <= c < 127 else f"\\x{c:02x}") for c in data) + '"'


def nested(elements: Sequence[str], shape: Sequence[int]) -> str:
    """`elements` in brackets, nested as `shape` is; `[]` where there are none."""
    if not elements:
        return "[]"
    if not shape:
        return elements[0]
    rows = list(elements)
    for length in reversed(shape):
        rows = [f"[{', '.join(rows[start : start + length])}]" for start in range(0, len(rows), length)]
    return rows[0]


def read(texts: Sequence[Any], dtype: DType) -> Array:
    """The flat array that `texts` stand for: str for numbers, pairs for complex numbers, bytes for strings.

    Raises `ValueError`, `OverflowError` or `TypeError` where one does not fit `dtype`.
    """
    if dtype.numpy is None:
        raise TypeError(f"a tensor of {dtype} has no elements to write")
    if dtype.kind == "string":
        array = np.empty(len(texts), dtype=object)
        array[:] = [_expect(bytes, item, "bytes") for item in texts]
        return array
    if dtype.kind == "complex":
        parts = [part for item in texts for part in _expect(tuple, item, "a pair of numbers")]
        return _read_floats(parts, _FLOAT_PARTS[dtype.name.removesuffix("_ref")]).view(dtype.numpy)
    words = [_expect(str, item, "a number") for item in texts]
    if dtype.kind == "bool":
        return np.array([_boolean(word) for word in words], dtype=np.bool_)
    if dtype.kind == "float":
        return _read_floats(words, dtype.numpy)
    numbers = [int(word) for word in words]
    low, high = _range(dtype)
    for number in numbers:
        if not low <= number <= high:
            raise OverflowError(f"{number} is out of the range of {dtype}")
    wide = np.array(numbers, dtype=np.int64 if low < 0 else np.uint64)
    return wide.astype(dtype.numpy)


def _read_floats(texts: Sequence[str], dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):  # an overflow reads as infinity, as a float literal does
        array = np.array([0.0 if text[:2] == "0x" else float(text) for text in texts], np.float64).astype(dtype)
    bits = bits_of(array)
    for place, text in enumerate(texts):
        if text[:2] == "0x":
            bits[place] = _pattern(text, dtype.itemsize)
    return array


def _pattern(text: str, itemsize: int) -> int:
    pattern = int(text, 16)
    if pattern >> (8 * itemsize):
        raise OverflowError(f"{text} has more than {8 * itemsize} bits")
    return pattern


def _range(dtype: DType) -> tuple[int, int]:
    signed = dtype.kind == "int" or dtype.name.startswith("qint")
    return (-(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1) if signed else (0, (1 << dtype.bits) - 1)


def _boolean(word: str) -> bool:
    if word not in ("true", "false"):
        raise ValueError(f"'{word}' is neither true nor false")
    return word == "true"


def _expect(kind: type, item: Any, what: str) -> Any:
    if not isinstance(item, kind):
        raise TypeError(f"{what} is wanted, not {item!r}")
    return item


def fits(counts: Sequence[tuple[int, int]], shape: Sequence[int], size: int) -> bool:
    """Whether brackets, given as (depth, number of items) for each pair, nest as `shape` does, or are one flat pair."""
    if len(counts) == 1 and counts[0] == (0, size) and size == math.prod(shape):
        return True
    return size == math.prod(shape) and all(depth < len(shape) and items == shape[depth] for depth, items in counts)
