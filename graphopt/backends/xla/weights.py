"""Weights in an `.npz`, stored as they are: bfloat16 as the integers that have its bits."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.tensors import ArrayTensor, Tensor
from graphopt.ir.types import DType, TensorType


def write_weights(path: str, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors`, one after the other, uncompressed and with a fixed date, so that equal ones give equal files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for key, tensor in tensors.items():
            info = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(info, "w", force_zip64=True) as file:
                array = np.asarray(tensor.numpy(), order="C")
                np.lib.format.write_array(file, array.view(_stored(tensor.dtype)), allow_pickle=False)


def _stored(dtype: DType) -> np.dtype[Any]:
    """The NumPy type that a file holds: its own types alone can be read without further packages."""
    assert dtype.numpy is not None
    return dtype.numpy if dtype.numpy.kind in "biufc" else np.dtype(f"u{dtype.numpy.itemsize}")


def read_weights(path: str, wanted: Mapping[str, TensorType]) -> dict[str, Tensor]:
    """The weights that `wanted` names, of those types. Raises `MalformedError`."""
    if not wanted:
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            return {key: _read(archive, key, kind, path) for key, kind in wanted.items()}
    except (OSError, zipfile.BadZipFile, ValueError, EOFError) as error:
        raise MalformedError(f"the weights cannot be read: {printable(str(error))}", source=path) from error


def _read(archive: zipfile.ZipFile, key: str, kind: TensorType, path: str) -> Tensor:
    try:
        info = archive.getinfo(f"{key}.npy")
    except KeyError as error:
        raise MalformedError(f"there is no weight '{printable(key)}'", source=path) from error
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > os.path.getsize(path):
        raise MalformedError(f"weight '{printable(key)}' is compressed, which is not read", source=path)
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        data = file.read()
    stored = _stored(kind.dtype) if kind.dtype.numpy is not None else None
    if kind.shape.static != shape or dtype != stored or is_fortran:
        held = f"{dtype}{list(shape)}"
        raise MalformedError(f"weight '{printable(key)}' is {held}, not {kind} as the manifest says", source=path)
    if len(data) != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise MalformedError(f"weight '{printable(key)}' is cut off", source=path)
    return ArrayTensor(np.frombuffer(data, dtype).view(kind.dtype.numpy or dtype).reshape(shape), kind.dtype)
