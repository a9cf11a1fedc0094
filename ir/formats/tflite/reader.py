"""Reads `.tflite` files."""

from __future__ import annotations

from functools import partial
from typing import Any

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats.tflite import control
from graphopt.ir.formats.tflite.archive import find_archive
from graphopt.ir.formats.tflite.flatbuffer import Decoder
from graphopt.ir.formats.tflite.records import KEY, BufferRecord, CodeRecord, MetadataRecord, ModelRecord
from graphopt.ir.formats.tflite.subgraph_reader import SubgraphReader, unique_names
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model, Signature
from graphopt.ir.tensors import Mapping

IDENTIFIER = b"TFL3"
VERSION = 3
SIGNATURE = "serving_default"
Decoded = dict[str, Any]


def read_mapping(mapping: Mapping, source: str) -> Model:
    """The model in a mapped `.tflite` file. Raises `MalformedError`, with `source` for the file's name."""
    try:
        return _Reader(mapping, source).read()
    except MalformedError as error:
        raise error.located(source) from None


class _Reader:
    def __init__(self, mapping: Mapping, source: str):
        self.mapping = mapping
        self.model = Model()
        self.model.source, self.model.format = source, KEY
        self.decoder = Decoder(mapping.view)
        self.calls: list[dict[int, None]] = []  # of each subgraph, those it refers to

    def read(self) -> Model:
        if bytes(self.mapping.view[4:8]) != IDENTIFIER:
            raise MalformedError("this is not a .tflite file: it does not have TFL3 at byte 4")
        raw = self.decoder.root("Model")
        if raw["version"] != VERSION:
            raise MalformedError(f"schema version {raw['version']} is not {VERSION}", field="Model.version")
        subgraphs = raw.pop("subgraphs", [])
        if not subgraphs:
            raise MalformedError("there is no subgraph", field="Model.subgraphs")
        buffers = [self._buffer(item) for item in _taken(raw, "buffers")]
        codes = [CodeRecord(item) for item in _taken(raw, "operator_codes")]
        readers = self._read_subgraphs(subgraphs, buffers, codes)
        self._check_calls()
        metadata = tuple(self._metadata(item, buffers) for item in _taken(raw, "metadata"))
        listed = _taken(raw, "metadata_buffer")
        edges = self._add_control_edges(metadata, readers)
        signatures = self._add_signatures(_taken(raw, "signature_defs"), readers)
        self.model.metadata[KEY] = ModelRecord(
            raw, tuple(buffers), tuple(codes), metadata,
            tuple(_at(buffers, number, "Model.metadata_buffer") for number in listed),
            signatures, tuple(self.decoder.unknown), any(buffer.is_apart for buffer in buffers), edges,
            find_archive(self.mapping.view),
        )  # fmt: skip
        return self.model

    def _buffer(self, raw: Decoded) -> BufferRecord:
        offset, size = raw["offset"], raw["size"]
        view = self.mapping.view
        if offset > 1:  # 0 and 1 are what stands there before the true offset is known
            if raw.get("data") or offset + size > len(view):
                raise MalformedError("a buffer is out of bounds", field="Buffer.offset", offset=min(offset, len(view)))
            return BufferRecord(view[offset : offset + size], offset, True)
        data = raw.get("data")
        return BufferRecord(data, self.decoder.offset_of(data) if data else 0, False)

    def _metadata(self, raw: Decoded, buffers: list[BufferRecord]) -> MetadataRecord:
        buffer = _at(buffers, raw["buffer"], "Metadata.buffer")
        return MetadataRecord(raw.get("name"), buffer.data or b"", buffer)

    # Subgraphs ------------------------------------------------------------------------------------------------

    def _read_subgraphs(
        self, subgraphs: list[Decoded], buffers: list[BufferRecord], codes: list[CodeRecord]
    ) -> list[SubgraphReader]:
        has_ranks = any(tensor["has_rank"] for raw in subgraphs for tensor in raw.get("tensors", ()))
        given = [raw.get("name", b"").decode(errors="backslashreplace") for raw in subgraphs]
        called = unique_names(name or (f"subgraph_{place}" if place else "main") for place, name in enumerate(given))
        self.calls = [{} for _ in subgraphs]
        readers: list[SubgraphReader] = []
        for place, raw in enumerate(subgraphs):
            graph = self.model.graph if not place else self._new_function(called[place])
            graph.name = called[place]
            function = partial(self._called, place, called)
            reader = SubgraphReader(self.mapping, graph, raw, buffers, codes, function, has_ranks)
            reader.read()
            readers.append(reader)
        return readers

    def _new_function(self, name: str) -> Graph:
        function = Function(name)
        self.model.add_function(function)
        return function

    def _called(self, caller: int, called: list[str], number: int) -> FunctionRef | int:
        """The reference that a subgraph's number means; numbers of no function stay numbers."""
        if not -1 <= number < len(called):
            raise MalformedError(f"there is no subgraph {number} among {len(called)}", field="Operator.builtin_options")
        if number >= 0:
            self.calls[caller][number] = None
        return FunctionRef(called[number]) if number > 0 else number

    def _check_calls(self) -> None:
        """Raise `MalformedError` where subgraphs call one another in a circle."""
        callers: list[list[int]] = [[] for _ in self.calls]
        for caller, called in enumerate(self.calls):
            for callee in called:
                callers[callee].append(caller)
        remaining = [len(called) for called in self.calls]
        ready = [place for place, count in enumerate(remaining) if not count]
        done = 0
        while ready:
            done += 1
            for caller in callers[ready.pop()]:
                remaining[caller] -= 1
                if not remaining[caller]:
                    ready.append(caller)
        if done < len(self.calls):
            place = next(place for place, count in enumerate(remaining) if count)
            raise MalformedError(f"subgraph {place} calls itself, directly or through others", field="Model.subgraphs")

    def _add_control_edges(
        self, metadata: tuple[MetadataRecord, ...], readers: list[SubgraphReader]
    ) -> tuple[control.Edges, ...] | None:
        """Make control inputs of the edges that metadata hold; None where there are none or they make no sense."""
        held = next((item for item in metadata if item.name == control.NAME), None)
        edges = control.parse(bytes(held.data)) if held is not None else None
        if edges is None or len(edges) != len(readers):
            return None
        fits = all(
            0 <= before < after < len(reader.nodes)
            for pairs, reader in zip(edges, readers, strict=True)
            for before, after in pairs
        )
        if not fits:
            return None
        for pairs, reader in zip(edges, readers, strict=True):
            for before, after in pairs:
                reader.nodes[after].add_control_input(reader.nodes[before])
        return edges

    # Signatures -----------------------------------------------------------------------------------------------

    def _add_signatures(self, raw_signatures: list[Decoded], readers: list[SubgraphReader]) -> dict[str, Decoded]:
        records: dict[str, Decoded] = {}
        for item in raw_signatures:
            key = item.get("signature_key", b"").decode(errors="backslashreplace")
            if key in records:
                raise MalformedError(f"signature '{printable(key)}' is there twice", field="Model.signature_defs")
            reader = _at(readers, item["subgraph_index"], "SignatureDef.subgraph_index")
            signature = Signature(reader.graph)
            signature.inputs = self._places(item.get("inputs", ()), reader, reader.graph.inputs, "SignatureDef.inputs")
            signature.outputs = self._places(
                item.get("outputs", ()), reader, reader.graph.outputs, "SignatureDef.outputs"
            )
            self.model.signatures[key], records[key] = signature, item
        if not records:
            self._infer_signature()
        return records

    def _places(self, maps: Any, reader: SubgraphReader, values: Any, field: str) -> dict[str, int]:
        known: dict[int, int] = {}
        for place, value in enumerate(values):
            known.setdefault(id(value), place)
        places: dict[str, int] = {}
        for item in maps:
            name = item.get("name", b"").decode(errors="backslashreplace")
            place = known.get(id(_at(reader.values, item["tensor_index"], field)), -1)
            if place < 0 or name in places:
                reason = "is there twice" if name in places else "is none of those of its subgraph"
                raise MalformedError(f"'{printable(name)}' {reason}", field=field)
            places[name] = place
        return places

    def _infer_signature(self) -> None:
        """A signature of the main graph's inputs and outputs under their tensors' names."""
        graph = self.model.graph
        signature = Signature(graph, inferred=True)
        signature.inputs = {name: place for place, name in enumerate(unique_names(v.name for v in graph.inputs))}
        signature.outputs = {name: place for place, name in enumerate(unique_names(v.name for v in graph.outputs))}
        signature.reasons = dict.fromkeys((*signature.inputs, *signature.outputs), "listed by the file")
        self.model.signatures = {SIGNATURE: signature}


def _at(items: Any, place: int, field: str) -> Any:
    if not 0 <= place < len(items):
        raise MalformedError(f"there is no item {place} among {len(items)}", field=field)
    return items[place]


def _taken(raw: Decoded, key: str) -> Any:
    """The vector, of which the table only remembers that it was there."""
    if key not in raw:
        return ()
    found, raw[key] = raw[key], ()
    return found
