"""MetaGraphDef and what stands in it beside the graph: signatures, collections, saver, assets; read and encoded.

Fields that only matter when the model is written back are kept as the bytes they came in.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import NamedTuple

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.graphdef_reader import field_bytes

_FIELDS = {
    1: "meta_info_def",
    2: "graph_def",
    3: "saver_def",
    4: "collection_def",
    5: "signature_def",
    6: "asset_file_def",
    7: "object_graph_def",
}
_SAVER_FIELDS = {1: "filename_tensor_name", 2: "save_tensor_name", 3: "restore_op_name"}
_SIGNATURE_FIELDS = {1: "inputs", 2: "outputs", 3: "method_name", 4: "defaults"}
_INFO_FIELDS = {1: "name", 4: "coo_sparse", 5: "composite_tensor"}
_COMPOSITE_DEPTH = 8  # composite tensors within composite tensors
_SPARSE = (".values", ".indices", ".dense_shape")  # ends of the names of a sparse tensor's parts


class Saver(NamedTuple):
    """Names in the graph of what saves and restores, and the other fields of SaverDef."""

    filename: str
    save: str
    restore: str
    raw: bytes = b""


class Collection(NamedTuple):
    """A collection: `kind` is the field of CollectionDef (1: names of nodes, 2: bytes, …), `values` its elements."""

    kind: int
    values: tuple[bytes, ...] = ()
    raw: bytes = b""


class Asset(NamedTuple):
    """A file the model needs: the tensor that is fed with its path, the name of the file, and the rest of the field."""

    tensor: str
    filename: str
    info: bytes


class SignatureInfo(NamedTuple):
    """A SignatureDef; inputs and outputs are TensorInfos as they stand in the file."""

    inputs: dict[str, bytes]
    outputs: dict[str, bytes]
    method_name: str = ""
    defaults: tuple[tuple[str, int, int], ...] = ()
    raw: bytes = b""


class MetaGraph:
    """One MetaGraphDef between two places of a buffer. `graph` is where its GraphDef stands.

    `raw` are fields that nobody knows; `info` is meta_info_def, `object_graph` object_graph_def, as bytes.
    """

    def __init__(self) -> None:
        self.tags: tuple[str, ...] = ()
        self.info = b""
        self.graph = (0, 0)
        self.saver: Saver | None = None
        self.collections: dict[str, Collection] = {}
        self.signatures: dict[str, SignatureInfo] = {}
        self.assets: list[Asset] = []
        self.object_graph = b""
        self.raw = b""


def read_metagraph(buffer: wire.Buffer, start: int, end: int) -> MetaGraph:
    """The MetaGraphDef between `start` and `end`. Raises `MalformedError`."""
    meta, seen, rest = MetaGraph(), set[int](), []
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag in (0x0A, 0x12, 0x1A, 0x3A):
            if tag in seen:
                raise MalformedError("is given twice", field=_FIELDS[tag >> 3], offset=value)
            seen.add(tag)
        if tag == 0x0A:
            meta.info, meta.tags = bytes(buffer[value:stop]), tuple(_tags(buffer, value, stop))
        elif tag == 0x12:
            meta.graph = (value, stop)
        elif tag == 0x1A:
            meta.saver = _saver(buffer, value, stop)
        elif tag == 0x22:
            key, first, last = _new_entry(buffer, value, stop, "collection_def", meta.collections)
            meta.collections[key] = _collection(buffer, first, last)
        elif tag == 0x2A:
            key, first, last = _new_entry(buffer, value, stop, "signature_def", meta.signatures)
            meta.signatures[key] = _signature(buffer, first, last)
        elif tag == 0x32:
            meta.assets.append(asset_of(buffer, value, stop))
        elif tag == 0x3A:
            meta.object_graph = bytes(buffer[value:stop])
        else:
            wire.unexpected(tag, _FIELDS, value)
            rest.append(field_bytes(buffer, tag, value, stop))
    if 0x12 not in seen:
        raise MalformedError("a MetaGraph has no graph", field="graph_def", offset=start)
    meta.raw = b"".join(rest)
    return meta


def read_tags(buffer: wire.Buffer, start: int, end: int) -> tuple[str, ...]:
    """The tags of the MetaGraphDef between `start` and `end`, without reading the rest."""
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag == 0x0A:
            return tuple(_tags(buffer, value, stop))
    return ()


def _tags(buffer: wire.Buffer, start: int, end: int) -> Iterator[str]:
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag == 0x22:
            yield wire.text(buffer, value, stop, "tags")


def _saver(buffer: wire.Buffer, start: int, end: int) -> Saver:
    names, rest = {1: "", 2: "", 3: ""}, []
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag in (0x0A, 0x12, 0x1A):
            names[tag >> 3] = wire.text(buffer, value, stop, _SAVER_FIELDS[tag >> 3])
        else:
            wire.unexpected(tag, _SAVER_FIELDS, value)
            rest.append(field_bytes(buffer, tag, value, stop))
    return Saver(names[1], names[2], names[3], b"".join(rest))


def _entry(buffer: wire.Buffer, start: int, end: int, field: str) -> tuple[str, int, int]:
    """Key of a map entry, and where its value stands."""
    key, span = "", (end, end)
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag == 0x0A:
            key = wire.text(buffer, value, stop, field)
        elif tag == 0x12:
            span = (value, stop)
        else:
            raise MalformedError("an entry of a map has a key and a value only", field=field, offset=value)
    return key, *span


def _new_entry(buffer: wire.Buffer, start: int, end: int, field: str, known: Container[str]) -> tuple[str, int, int]:
    """`_entry`, of a key that is not among those `known`."""
    entry = _entry(buffer, start, end, field)
    if entry[0] in known:
        raise MalformedError(f"'{printable(entry[0])}' is given twice", field=field, offset=start)
    return entry


def _collection(buffer: wire.Buffer, start: int, end: int) -> Collection:
    kind, values = 0, list[bytes]()
    for tag, value, stop in wire.fields(buffer, start, end):
        kind = tag >> 3
        if tag in (0x0A, 0x12):
            values += [
                bytes(buffer[first:last]) for inner, first, last in wire.fields(buffer, value, stop) if inner == 0x0A
            ]
    return Collection(kind, tuple(values), bytes(buffer[start:end]))


def _signature(buffer: wire.Buffer, start: int, end: int) -> SignatureInfo:
    inputs: dict[str, bytes] = {}
    outputs: dict[str, bytes] = {}
    method, defaults, rest = "", list[tuple[str, int, int]](), []
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag in (0x0A, 0x12):
            target = inputs if tag == 0x0A else outputs
            key, first, last = _new_entry(buffer, value, stop, _SIGNATURE_FIELDS[tag >> 3], target)
            target[key] = bytes(buffer[first:last])
        elif tag == 0x1A:
            method = wire.text(buffer, value, stop, "method_name")
        elif tag == 0x22:
            defaults.append(_entry(buffer, value, stop, "defaults"))
        else:
            wire.unexpected(tag, _SIGNATURE_FIELDS, value)
            rest.append(field_bytes(buffer, tag, value, stop))
    return SignatureInfo(inputs, outputs, method, tuple(defaults), b"".join(rest))


def asset_of(buffer: wire.Buffer, start: int, end: int) -> Asset:
    """An AssetFileDef."""
    info, filename = b"", ""
    for tag, value, stop in wire.fields(buffer, start, end):
        if tag == 0x0A:
            info = bytes(buffer[value:stop])
        elif tag == 0x12:
            filename = wire.text(buffer, value, stop, "filename")
    names = list(tensor_names(info))
    if len(names) != 1 or not filename:
        raise MalformedError("an asset names no tensor or no file", field="asset_file_def", offset=start)
    return Asset(names[0][1], filename, info)


def tensor_names(info: bytes) -> Iterator[tuple[str, str]]:
    """Each tensor of a TensorInfo as (end of its key, name): one, three of a sparse tensor, or those of a composite."""
    yield from _names(info, "", 0)


def _names(info: bytes, suffix: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _COMPOSITE_DEPTH:
        raise MalformedError(f"composite tensors nest more than {_COMPOSITE_DEPTH} deep", field="composite_tensor")
    count = 0
    for tag, value, stop in wire.fields(info, 0, len(info)):
        if tag == 0x0A:
            yield suffix, wire.text(info, value, stop, "name")
        elif tag == 0x22:
            for inner, first, last in wire.fields(info, value, stop):
                if inner in (0x0A, 0x12, 0x1A):
                    yield suffix + _SPARSE[(inner >> 3) - 1], wire.text(info, first, last, "coo_sparse")
        elif tag == 0x2A:
            for inner, first, last in wire.fields(info, value, stop):
                if inner == 0x12:
                    yield from _names(info[first:last], f"{suffix}.{count}", depth + 1)
                    count += 1
        else:
            wire.unexpected(tag, _INFO_FIELDS, value)


def renamed(info: bytes, names: Iterator[str]) -> bytes:
    """A TensorInfo with the names of its tensors, in order, replaced by `names`."""
    pieces = []
    for tag, value, stop in wire.fields(info, 0, len(info)):
        if tag == 0x0A:
            pieces.append(wire.tagged(1, next(names).encode()))
        elif tag == 0x22:
            inner = [
                wire.tagged(place >> 3, next(names).encode())
                if place in (0x0A, 0x12, 0x1A)
                else field_bytes(info, place, first, last)
                for place, first, last in wire.fields(info, value, stop)
            ]
            pieces.append(wire.tagged(4, b"".join(inner)))
        elif tag == 0x2A:
            inner = [
                wire.tagged(2, renamed(info[first:last], names))
                if place == 0x12
                else field_bytes(info, place, first, last)
                for place, first, last in wire.fields(info, value, stop)
            ]
            pieces.append(wire.tagged(5, b"".join(inner)))
        else:
            pieces.append(field_bytes(info, tag, value, stop))
    return b"".join(pieces)


def encode_saver(saver: Saver) -> bytes:
    """A SaverDef."""
    return b"".join(
        (
            wire.tagged_text(1, saver.filename),
            wire.tagged_text(2, saver.save),
            wire.tagged_text(3, saver.restore),
            saver.raw,
        )
    )


def encode_collection(collection: Collection) -> bytes:
    """A CollectionDef: as it was read if it is neither names nor bytes."""
    if collection.kind not in (1, 2):
        return collection.raw
    return wire.tagged(collection.kind, b"".join(wire.tagged(1, value) for value in collection.values))


def encode_entry(number: int, key: str, value: bytes) -> bytes:
    """A map entry as field `number`."""
    return wire.tagged(number, wire.tagged(1, key.encode()) + wire.tagged(2, value))
