"""Weights in a file of the safetensors format: a length, a header of JSON, and the bytes of the tensors."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.ir.tensors import ArrayTensor, Tensor
from graphopt.ir.types import TensorType

NAMES = {
    "bool": "BOOL", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "uint8": "U8", "uint16": "U16",
    "uint32": "U32", "uint64": "U64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "C64",
}  # fmt: skip
HEADER_LIMIT = 100_000_000  # bytes, as the format has it
ALIGNMENT = 8


def write_safetensors(path: str, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` one after the other. Raises `UnsupportedError` for an element type that the format has not."""
    header: dict[str, Any] = {}
    end = 0
    for key, tensor in tensors.items():
        if tensor.dtype.name not in NAMES or tensor.dtype.numpy is None:
            raise UnsupportedError(f"safetensors has no {tensor.dtype.name}: choose npz")
        start, end = end, end + tensor.size * tensor.dtype.numpy.itemsize
        header[key] = {"dtype": NAMES[tensor.dtype.name], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.asarray(tensor.numpy(), order="C").tobytes())


def read_safetensors(path: str, wanted: Mapping[str, TensorType]) -> dict[str, Tensor]:
    """The weights that `wanted` names, of those types. Raises `MalformedError`."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, HEADER_LIMIT):
                raise MalformedError("its header is longer than the file", source=path)
            header = json.loads(file.read(length))
            data = file.read()
    except (OSError, struct.error, ValueError, RecursionError) as error:
        raise MalformedError(f"the weights cannot be read: {printable(str(error))}", source=path) from error
    if not isinstance(header, dict):
        raise MalformedError("its header is no JSON object", source=path)
    return {key: _tensor(header.get(key), key, kind, data, path) for key, kind in wanted.items()}


def _tensor(entry: Any, key: str, kind: TensorType, data: bytes, path: str) -> Tensor:
    shown = printable(key)
    if not isinstance(entry, dict):
        raise MalformedError(f"there is no weight '{shown}'", source=path)
    shape, dtype = kind.shape.static, kind.dtype
    if shape is None or entry.get("shape") != list(shape) or entry.get("dtype") != NAMES.get(dtype.name):
        held = printable(f"{entry.get('dtype')} {entry.get('shape')}", 200)
        raise MalformedError(f"weight '{shown}' is {held}, not {kind} as the manifest says", source=path)
    offsets = entry.get("data_offsets")
    numbers = dtype.numpy
    assert numbers is not None
    size = int(np.prod(shape, dtype=object)) * numbers.itemsize
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(place) is int for place in offsets):
        raise MalformedError(f"weight '{shown}' has no place", source=path)
    if not 0 <= offsets[0] <= offsets[1] <= len(data) or offsets[1] - offsets[0] != size:
        raise MalformedError(f"weight '{shown}' is cut off", source=path)
    count = size // numbers.itemsize
    return ArrayTensor(np.frombuffer(data, numbers, count, offsets[0]).reshape(shape), dtype)
