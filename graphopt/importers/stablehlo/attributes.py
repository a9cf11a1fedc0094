"""Types, locations and constants of MLIR as Python has them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.backends.xla.bindings import bindings
from graphopt.ir.dimensions import Dim
from graphopt.ir.tensors import Tensor, tensor
from graphopt.ir.types import DTYPES, DType

_DTYPES = {
    "f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16", "i1": "bool",
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"ui{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "complex<f32>": "complex64", "complex<f64>": "complex128",
}  # fmt: skip
_NAME = re.compile(r'loc\("((?:[^"\\]|\\.)*)"(?!:\d)')
_NUMBER = re.compile(r"0x[0-9A-Fa-f]+|[-+0-9.eE]+")
_ELEMENTS = re.compile(r'dense<("0x([0-9A-Fa-f]*)"|[^>"]*)>')
NAME_LIMIT = 512


@cache
def _dtype(text: str) -> DType | None:
    name = _DTYPES.get(text)
    return None if name is None else DTYPES[name]


def dtype_of(kind: Any) -> DType:
    """The element type of a tensor type. Refuses what TensorFlow does not compute with, and what is no tensor."""
    element = getattr(kind, "element_type", None)
    if element is None:
        raise CannotLowerError(f"it is of type {kind}, which is no tensor")
    found = _dtype(str(element))
    if found is None:
        raise CannotLowerError(f"its elements are of type {element}")
    return found


def dims_of(kind: Any) -> tuple[Dim, ...]:
    """The shape of a tensor type, None for sizes it does not say. Refuses where not even the rank is known."""
    if not getattr(kind, "has_rank", False):
        raise CannotLowerError(f"it is of type {kind}, whose rank is not known")
    return tuple(None if kind.is_dynamic_dim(axis) else size for axis, size in enumerate(_shape(kind)))


def _shape(kind: Any) -> list[int]:
    return [0 if kind.is_dynamic_dim(axis) else kind.get_dim_size(axis) for axis in range(kind.rank)]


def location_name(location: Any) -> str:
    """The name that a location carries, as JAX's do: `jit(f)/dense/dot_general`; empty for a place in a file."""
    found = _NAME.match(str(location)[: 4 * NAME_LIMIT])
    return "" if found is None else found.group(1)[:NAME_LIMIT]


def plain_name(location: str) -> str:
    """A location's name as that of a node: without the function that was compiled, in letters that names may have."""
    parts = [part for part in location.split("/") if not re.match(r"(jit|pjit)\(.*\)\Z", part)] or location.split("/")[
        -1:
    ]
    name = re.sub(r"[^A-Za-z0-9_./-]+", "_", "/".join(parts)).strip("_/")
    return name if name[:1].isalnum() or name[:1] == "." else ""


# Constants ------------------------------------------------------------------------------------------------------


def constant_of(operation: Any) -> Tensor:
    """The tensor that an operation `stablehlo.constant` yields; where one element is repeated, that scalar.

    Refuses elements that lie elsewhere, as in a resource.
    """
    kind = operation.results[0].type
    dtype, dims = dtype_of(kind), tuple(_shape(kind))
    if dtype.kind == "complex" or dtype.name == "bfloat16":  # of which the bindings give no array, or end the process
        array = _from_text(str(operation), dtype)
        is_splat = array.size == 1
    else:
        attribute = operation.attributes["value"]
        if not hasattr(attribute, "is_splat"):
            raise CannotLowerError("its elements are not within the module", "give the module as a portable artifact")
        is_splat = bool(attribute.is_splat) and 0 not in dims
        array = np.asarray(attribute.get_splat_value().value) if is_splat else np.array(attribute)
    array = array.astype(dtype.numpy, copy=False)
    return tensor(array.reshape(() if is_splat else dims), dtype)


def _from_text(text: str, dtype: DType) -> np.ndarray[Any, Any]:
    """Elements as MLIR prints them: in decimals where there are few, as hexadecimal digits of all bytes otherwise."""
    assert dtype.numpy is not None
    found = _ELEMENTS.search(text)
    if found is None:
        raise CannotLowerError("its elements are not within the module", "give the module as a portable artifact")
    if found.group(2) is not None:
        return np.frombuffer(bytes.fromhex(found.group(2)), dtype.numpy)
    part = np.dtype({"complex64": np.float32, "complex128": np.float64}.get(dtype.name, dtype.numpy))
    numbers = np.asarray([_real(number, part) for number in _NUMBER.findall(found.group(1))], part)
    return numbers.view(dtype.numpy)


def _real(text: str, part: np.dtype[Any]) -> Any:
    if not text.startswith("0x"):
        return float(text)
    return np.asarray(int(text, 16), f"u{part.itemsize}").view(part)[()]  # what decimals do not express: the bits


# Attributes of dialects -----------------------------------------------------------------------------------------


def integers_of(attribute: Any) -> list[int]:
    """A list or a dense array of integers, flat."""
    if hasattr(attribute, "is_splat"):
        return [int(number) for number in np.array(attribute).reshape(-1)]
    return [int(getattr(number, "value", number)) for number in attribute]


def enumeration(attribute: Any, kind: str) -> str:
    """The keyword of an attribute such as `ComparisonDirectionAttr`."""
    return str(getattr(bindings().stablehlo, kind)(attribute).value)


def structure(attribute: Any, kind: str) -> Any:
    """An attribute such as `GatherDimensionNumbers`, with its fields."""
    return getattr(bindings().stablehlo, kind)(attribute)
