"""GraphDef files, `.pb` and `.pbtxt`: read and write."""

from __future__ import annotations

import os
from typing import Union

from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.atomic import write_atomically
from graphopt.ir.formats.attr_encoding import Piece
from graphopt.ir.formats.graphdef_reader import read_mapping
from graphopt.ir.formats.graphdef_writer import GraphWriter, gathered
from graphopt.ir.formats.sniff import is_text, refuse_others
from graphopt.ir.model import Model
from graphopt.ir.tensors import Mapping

Source = Union[bytes, bytearray, memoryview, Mapping, str, "os.PathLike[str]"]
HEAD = 4096


def load(path: str | os.PathLike[str]) -> Model:
    """The model in a `.pb` or `.pbtxt` file; its content, not its suffix, says which.

    Raises `MalformedError`, with the file named, for what is no GraphDef or cannot be read.
    """
    mapping = map_file(path)
    head = bytes(mapping.view[:HEAD])
    source = mapping.path
    refuse_others(head, bytes(mapping.view[-HEAD:]), source)
    return read_graphdef_text(mapping, source=source) if is_text(head) else read_graphdef(mapping, source=source)


def read_graphdef(data: Source, *, source: str = "") -> Model:
    """The model in a binary GraphDef: bytes, a mapped file, or a path. Raises `MalformedError`.

    Tensors stay where they are: the model keeps the mapping, or the bytes.
    """
    mapping = _mapping(data, source)
    return read_mapping(mapping, source or mapping.path)


def read_graphdef_text(data: Source, *, source: str = "") -> Model:
    """The model in a GraphDef written as text: UTF-8 bytes, a mapped file, or a path. Raises `MalformedError`."""
    from graphopt.ir.formats.pbtxt import text_to_binary

    mapping = _mapping(data, source)
    name = source or mapping.path
    return read_mapping(Mapping(name, text_to_binary(bytes(mapping.view), name)), name)


def write_graphdef(model: Model, path: str | os.PathLike[str], *, text: bool = False, overwrite: bool = True) -> None:
    """Write `model` to `path`, atomically; with `text` as `.pbtxt`.

    Raises `UnsupportedError`, before anything is written, for a model that a GraphDef cannot hold; `UsageError` if
    `path` exists and `overwrite` is off.
    """
    chunks = graphdef_chunks(model)
    if text:
        from graphopt.ir.formats.pbtxt import binary_to_text

        chunks = [binary_to_text(b"".join(chunks)).encode()]
    write_atomically(path, chunks, overwrite=overwrite)


def graphdef_bytes(model: Model) -> bytes:
    """`model` as a binary GraphDef; the same bytes for the same model, in any process."""
    return b"".join(graphdef_chunks(model))


def graphdef_chunks(model: Model) -> list[Piece]:
    """`model` as a binary GraphDef in chunks, of which large tensors are views. Raises `UnsupportedError`."""
    chunks, size = gathered(GraphWriter(model).pieces())
    if size > wire.MESSAGE_LIMIT:
        raise UnsupportedError(
            f"the model takes {size} bytes as a GraphDef, and protobuf allows 2 GiB less one byte; write a SavedModel, "
            "whose weights stand in a checkpoint, or a .tflite, whose buffers may lie beyond 2 GiB"
        )
    return chunks


def map_file(path: str | os.PathLike[str]) -> Mapping:
    """`path`, mapped. Raises `MalformedError` for what cannot be opened or is no regular file."""
    name = os.fspath(path)
    try:
        if os.path.isdir(name):
            raise MalformedError("cannot be read as a GraphDef: it is a directory", source=name)
        if os.path.exists(name) and not os.path.isfile(name):
            raise MalformedError("cannot be read: it is no regular file", source=name)
        return Mapping(name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise MalformedError(f"cannot be read: {printable(reason)}", source=name) from None


def _mapping(data: Source, source: str) -> Mapping:
    if isinstance(data, Mapping):
        return data
    if isinstance(data, (bytes, bytearray, memoryview)):
        return Mapping(source, data if isinstance(data, bytes) else bytes(data))
    return map_file(data)
