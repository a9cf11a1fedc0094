"""Writes `.tflite` files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from graphopt.ir.errors import UnsupportedError, printable
from graphopt.ir.formats.tflite import control
from graphopt.ir.formats.tflite.archive import moved
from graphopt.ir.formats.tflite.contents import Contents, pieces_of, stored_bytes
from graphopt.ir.formats.tflite.encoder import ALIGNMENT, Data, Piece, encode
from graphopt.ir.formats.tflite.reader import IDENTIFIER
from graphopt.ir.formats.tflite.records import (
    KEY,
    NEW_MODEL,
    RUNTIME,
    BufferRecord,
    CodeRecord,
    MetadataRecord,
    ModelRecord,
)
from graphopt.ir.formats.tflite.subgraph_reader import operator_name
from graphopt.ir.formats.tflite.subgraph_writer import SubgraphWriter, kept
from graphopt.ir.model import Model, Signature
from graphopt.ir.ops.tflite_runtimes import runtime_of
from graphopt.ir.tensors import Tensor
from graphopt.ir.value import Value

INLINE_LIMIT = 2_000_000_000  # bytes of buffers beyond which they are put behind the FlatBuffer
_DEPRECATED_LIMIT = 127  # the old field of an operator code holds no more
Fields = dict[str, Any]


class Written(NamedTuple):
    """A model as a file, in pieces, and the number of each value's tensor in its subgraph."""

    pieces: list[Piece]
    indices: dict[Value, int]


def write_model(model: Model, *, apart: bool | None = None) -> Written:
    """`model` as a `.tflite` file. Its buffers lie `apart` behind the FlatBuffer where they did, or where they must.

    Raises `UnsupportedError`, naming the node, for what TFLite cannot express.
    """
    return _Writer(model, apart).write()


class _Writer:
    def __init__(self, model: Model, apart: bool | None):
        self.model = model
        record = model.metadata.get(KEY)
        self.record = record if isinstance(record, ModelRecord) else NEW_MODEL
        if self.record.unknown:
            listed = ", ".join(self.record.unknown[:5])
            raise UnsupportedError(f"the file has what this version cannot write back: {printable(listed)}")
        self.apart = apart
        self.graphs = list(model.graphs)
        self.places: dict[str, int] = {name: place for place, name in enumerate(model.functions, 1)}
        self.contents: list[Contents | None] = []  # of each buffer
        self.numbers: dict[int, int] = {}  # buffer record -> number
        self.keys: dict[tuple[int, bytes], int] = {}  # length and digest of the contents -> number
        self.unhashed: dict[int, list[int]] = {}  # length -> buffers that were read and not looked into yet
        self.codes: list[Fields] = []
        self.code_numbers: dict[int, int] = {}
        self.code_keys: dict[tuple[int, bytes | None, int], int] = {}
        self.new_codes: dict[int, int] = {}  # builtin operator -> number of the code of those that no file had
        self.used: dict[int, None] = {}
        self.used_codes: dict[int, None] = {}

    # Numbers --------------------------------------------------------------------------------------------------

    def buffer(self, record: BufferRecord) -> int:
        """The number of a buffer that was read, of this file or of another."""
        number = self.numbers.get(id(record))
        if number is None:
            number = self._new_buffer(record.data or b"") if record.data else 0
            self.numbers[id(record)] = number
        self.used[number] = None
        return number

    def buffer_of(self, held: Tensor) -> int:
        """The number of a buffer that holds the tensor: one that holds the same bytes, if there is any."""
        number = self._new_buffer(stored_bytes(held))
        self.used[number] = None
        return number

    def _new_buffer(self, data: Contents) -> int:
        if not len(data):
            return 0
        for number in self.unhashed.pop(len(data), ()):
            self.keys.setdefault((len(data), _digest(self.contents[number] or b"")), number)
        key = len(data), _digest(data)
        number = self.keys.setdefault(key, len(self.contents))
        if number == len(self.contents):
            self.contents.append(data)
        return number

    def code(self, record: CodeRecord | None, builtin: int, custom: bytes | None, version: int) -> int:
        """The number of an operator code: the one that was read, one that says the same, or a new one."""
        number = None
        if record is not None and (record.builtin, record.custom, record.version) == (builtin, custom, version):
            number = self.code_numbers.get(id(record))
        if number is None:
            number = self.code_keys.setdefault((builtin, custom, version), len(self.codes))
        if number == len(self.codes):
            self._add_code(builtin, custom, version)
        self.used_codes[number] = None
        return number

    def new_code(self, builtin: int, version: int) -> int:
        """The number of the operator code that operators of a kind share, with the highest version any of them needs.

        One that was read serves too, where it is of that very version.
        """
        number = self.code_keys.get((builtin, None, version))
        if number is None:
            number = self.new_codes.setdefault(builtin, len(self.codes))
            if number == len(self.codes):
                self._add_code(builtin, None, version)
            self.codes[number]["version"] = max(version, self.codes[number]["version"])
        self.used_codes[number] = None
        return number

    def _add_code(self, builtin: int, custom: bytes | None, version: int) -> None:
        self.codes.append(
            {
                "deprecated_builtin_code": min(builtin, _DEPRECATED_LIMIT), "builtin_code": builtin,
                "custom_code": custom, "version": version,
            }
        )  # fmt: skip

    def function(self, name: str) -> int:
        """The number of a function's subgraph. Raises `UnsupportedError` for one that is not there."""
        if name not in self.places:
            raise UnsupportedError(f"there is no function '{printable(name)}'")
        return self.places[name]

    # Tables ---------------------------------------------------------------------------------------------------

    def write(self) -> Written:
        """The whole file."""
        self._take_over()
        writers = [SubgraphWriter(graph, self) for graph in self.graphs]
        tables = [writer.table() for writer in writers]
        fields: Fields = dict(self.record.raw)
        fields["subgraphs"] = tables
        metadata = self._metadata(writers)
        fields["metadata"] = kept(fields, "metadata", metadata)
        listed = [self.buffer(record) for record in self.record.metadata_buffers]
        fields["metadata_buffer"] = kept(fields, "metadata_buffer", listed)
        signatures = [
            self._signature(name, signature, writers)
            for name, signature in self.model.signatures.items()
            if not signature.inferred
        ]
        fields["signature_defs"] = kept(fields, "signature_defs", signatures)
        self._compact(tables, fields)
        fields["operator_codes"] = kept(fields, "operator_codes", self.codes)
        indices = {value: index for writer in writers for value, index in writer.indices.items()}
        pieces = self._pieces(fields)
        if self.record.archive is not None:
            pieces.append(moved(self.record.archive, sum(map(len, pieces))))
        return Written(pieces, indices)

    def _take_over(self) -> None:
        """Number what was read as it was numbered then."""
        for number, buffer in enumerate(self.record.buffers):
            self.numbers[id(buffer)] = number
            self.contents.append(buffer.data)
            if buffer.data:
                self.unhashed.setdefault(len(buffer.data), []).append(number)
            if not buffer.is_referenced:
                self.used[number] = None
        if not self.contents:
            self.contents.append(None)  # the first buffer is empty, by convention
            self.used[0] = None
        for code in self.record.codes:
            self.code_numbers[id(code)] = len(self.codes)
            self.code_keys.setdefault((code.builtin, code.custom, code.version), len(self.codes))
            if not code.is_referenced:
                self.used_codes[len(self.codes)] = None
            self.codes.append(code.raw)

    def _compact(self, tables: Sequence[Fields], fields: Fields) -> None:
        """Leave out buffers and operator codes that were read and that nothing refers to any more."""
        codes = {number: place for place, number in enumerate(sorted(self.used_codes))}
        self.codes = [self.codes[number] for number in codes]
        for table in tables:
            for operator in table["operators"] or ():
                operator["opcode_index"] = codes[operator["opcode_index"]]
        numbers = {number: place for place, number in enumerate(sorted(self.used))}
        self.contents = [self.contents[number] for number in numbers]
        referring = [(tensor, "buffer") for table in tables for tensor in table["tensors"] or ()]
        referring += [(item, "buffer") for item in fields["metadata"] or ()]
        for item, key in referring:
            item[key] = numbers[item[key]]
        if fields.get("metadata_buffer"):
            fields["metadata_buffer"] = [numbers[number] for number in fields["metadata_buffer"]]

    def _metadata(self, writers: Sequence[SubgraphWriter]) -> list[Fields]:
        edges = tuple(tuple(writer.control_edges()) for writer in writers)
        before = self.record.control_edges
        listed = list(self.record.metadata)
        if any(edges) and (before is None or [*map(sorted, before)] != [*map(sorted, edges)]):
            listed = [item for item in listed if item.name != control.NAME]
            listed.append(MetadataRecord(control.NAME, control.serialize(edges)))
        elif before is not None and any(before) and not any(edges):
            listed = [item for item in listed if item.name != control.NAME]
        tables: list[Fields] = []
        for item in listed:
            if item.name == RUNTIME and not item.data and item.buffer is None:
                item = item._replace(data=self._runtime())
            is_new = item.buffer is None or item.data is not (item.buffer.data or item.data)
            number = self._new_buffer(item.data) if item.buffer is None or is_new else self.buffer(item.buffer)
            self.used[number] = None
            tables.append({"name": item.name, "buffer": number})
        return tables

    def _runtime(self) -> bytes:
        """The runtime that has all operators in use, in the 16 bytes that other writers give it."""
        used = (self.codes[number] for number in self.used_codes)
        builtin = ((operator_name(max(code["builtin_code"], code["deprecated_builtin_code"])), code) for code in used)
        needed = runtime_of((name.partition(".")[2], code["version"]) for name, code in builtin)
        return needed.encode().ljust(16, b"\0")

    def _signature(self, name: str, signature: Signature, writers: Sequence[SubgraphWriter]) -> Fields:
        place = next((place for place, graph in enumerate(self.graphs) if graph is signature.graph), None)
        if place is None:
            raise UnsupportedError(f"signature '{printable(name)}' is of no graph of the model")
        raw = self.record.signatures.get(name, {})
        indices = writers[place].indices
        inputs = _maps(signature.input_values(), indices)
        outputs = _maps(signature.output_values(), indices)
        key = raw.get("signature_key") if raw else name.encode()
        return {
            "inputs": kept(raw, "inputs", inputs), "outputs": kept(raw, "outputs", outputs), "signature_key": key,
            "subgraph_index": place,
        }  # fmt: skip

    # Pieces ---------------------------------------------------------------------------------------------------

    def _pieces(self, fields: Fields) -> list[Piece]:
        size = sum(len(data) for data in self.contents if data is not None)
        apart = self.record.is_apart if self.apart is None else self.apart
        behind = _Behind()
        for table in fields["subgraphs"]:
            for operator in table["operators"] or ():
                if "large" in operator:
                    behind.add(
                        operator, operator.pop("large"), "large_custom_options_offset", "large_custom_options_size"
                    )
        buffers: list[Fields] = [{} for _ in self.contents]
        for table, data in zip(buffers, self.contents, strict=True):
            if data is None:
                continue
            if (apart or size > INLINE_LIMIT) and len(data):
                behind.add(table, data, "offset", "size")
            else:
                table["data"] = Data(*pieces_of(data))
        fields["buffers"] = buffers
        if not behind.parts:
            return encode("Model", fields, IDENTIFIER)
        return behind.laid_out(fields)


class _Behind:
    """Data behind the FlatBuffer: the tables hold their offsets and sizes."""

    def __init__(self) -> None:
        self.parts: list[tuple[Fields, Contents, str]] = []

    def add(self, table: Fields, data: Contents, offset: str, size: str) -> None:
        """Put `data` behind, and where it is into `table`."""
        table[size] = len(data)
        table[offset] = 1 << 62  # of the width that the true one has
        self.parts.append((table, data, offset))

    def laid_out(self, fields: Fields) -> list[Piece]:
        """The FlatBuffer, whose length does not depend on the offsets, and the data."""
        pieces = encode("Model", fields, IDENTIFIER)
        position = sum(len(piece) for piece in pieces)
        tail: list[Piece] = []
        for table, data, offset in self.parts:
            padding = -position % ALIGNMENT
            tail += [bytes(padding), *pieces_of(data)]
            table[offset] = position + padding
            position += padding + len(data)
        return encode("Model", fields, IDENTIFIER) + tail


def _maps(values: dict[str, Value], indices: dict[Value, int]) -> list[Fields]:
    return [{"name": name.encode(errors="replace"), "tensor_index": indices[value]} for name, value in values.items()]


def _digest(data: Contents) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces_of(data):
        digest.update(piece)
    return digest.digest()
