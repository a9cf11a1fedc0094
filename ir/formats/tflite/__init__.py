"""TFLite files, `.tflite`: read and write, without losing anything.

Nodes are `tfl.CONV_2D` and so on, with their options as attributes under the schema's names; custom operators are
`tfl.CUSTOM` with `custom_code` and `custom_options`. A version other than 1 is the attribute `_version`; the last
`_intermediates` outputs of a node are its intermediate tensors. Tensors that no operator yields are nodes too:
`tfl.CONSTANT` with its `value` (or its bytes as `data` where they are sparse or not of the declared size), `tfl.INPUT`,
`tfl.VARIABLE` for state kept from run to run, and `tfl.TENSOR` for the rest. A constant quantized by blocks reads the
constants that hold its scales and zero points. The first subgraph is the main graph, the others are functions.
"""

from __future__ import annotations

import os
from typing import Union

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats.atomic import write_atomically
from graphopt.ir.formats.tflite.reader import IDENTIFIER, read_mapping
from graphopt.ir.formats.tflite.writer import Written, write_model
from graphopt.ir.model import Model
from graphopt.ir.tensors import Mapping

__all__ = ["Written", "is_tflite", "read_tflite", "tflite_bytes", "write_model", "write_tflite"]

Source = Union[bytes, bytearray, memoryview, Mapping, str, "os.PathLike[str]"]


def is_tflite(head: bytes | memoryview) -> bool:
    """The first bytes of a file are those of a `.tflite` file."""
    return bytes(head[4:8]) == IDENTIFIER


def read_tflite(data: Source, *, source: str = "") -> Model:
    """The model in a `.tflite` file: bytes, a mapped file, or a path.

    Buffers stay where they are: the model keeps the mapping, or the bytes. Raises `MalformedError`.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        data = Mapping(source, data if isinstance(data, bytes) else bytes(data))
    elif not isinstance(data, Mapping):
        data = _mapped(os.fspath(data))
    return read_mapping(data, source or data.path)


def _mapped(path: str) -> Mapping:
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise MalformedError("cannot be read: it is no regular file", source=path)
        return Mapping(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise MalformedError(f"cannot be read: {printable(reason)}", source=path) from None


def write_tflite(
    model: Model, path: str | os.PathLike[str], *, overwrite: bool = True, apart: bool | None = None
) -> None:
    """Write `model` to `path`, atomically.

    Buffers lie `apart`, behind the FlatBuffer, where they did in the file read and for a model of 2 GB and more.
    Raises `UnsupportedError`, before anything is written, for what TFLite cannot express; `UsageError` if `path`
    exists and `overwrite` is off.
    """
    write_atomically(path, write_model(model, apart=apart).pieces, overwrite=overwrite)


def tflite_bytes(model: Model, *, apart: bool | None = None) -> bytes:
    """`model` as a `.tflite` file; the same bytes for the same model, in any process."""
    return b"".join(write_model(model, apart=apart).pieces)
