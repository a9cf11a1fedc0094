"""GraphDef bytes into a `Model`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.function_def import METADATA, FunctionReader, refuse_call_cycles
from graphopt.ir.formats.graph_wiring import Wiring
from graphopt.ir.formats.node_def import NodeReader
from graphopt.ir.formats.opaque import check_debug_info
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.tensors import Mapping

_FIELDS = {1: "node", 2: "library", 3: "version", 4: "versions", 5: "debug_info"}
_META = (
    "this is not a GraphDef; it looks like a MetaGraphDef, as .meta files hold: give the SavedModel's directory, "
    "or freeze the model into a GraphDef"
)
_LIBRARY_FIELDS = {1: "function", 2: "gradient", 3: "registered_gradients"}
_VERSION_FIELDS = {1: "producer", 2: "min_consumer", 3: "bad_consumers"}


Unwanted = Callable[[Graph], Collection[str]]


class GraphExtras(NamedTuple):
    """What a GraphDef holds beyond nodes, functions and versions.

    `version` is the deprecated field of that name. `raw`, `library` and `versions` are whole fields of the GraphDef,
    its library and its versions that nobody else reads (debug information, registered gradients, unknown fields).
    """

    version: int = 0
    has_versions: bool = False
    has_library: bool = False
    raw: bytes = b""
    library: bytes = b""
    versions: bytes = b""


class GraphReader:
    """Reads one GraphDef, which is a whole file or a part of one."""

    def __init__(self, mapping: Mapping):
        self.mapping, self.buffer = mapping, mapping.buffer
        self.nodes = NodeReader(mapping)
        self.functions = FunctionReader(self.nodes)
        self.model = Model(Graph())
        self.extras = GraphExtras()
        self.kept: dict[str, list[bytes]] = {"raw": [], "library": [], "versions": []}
        self.gradients: dict[str, str] = {}
        self.unwanted: Unwanted | None = None

    def read(self, start: int, end: int) -> Model:
        """The model between `start` and `end`."""
        model = self.model
        others = self._other_fields(start, end)
        for tag, value, _ in others:
            if tag == 0x1A:  # a message where GraphDef has a number: the saver of a MetaGraphDef
                raise MalformedError(_META, offset=value)
        for tag, value, stop in others:
            self._top_level(tag, value, stop)
        wiring = Wiring(self.nodes, model.graph)
        wiring.add_main_nodes(start, end)
        wiring.finish()
        for function in self.functions.read_bodies(self.unwanted(model.graph) if self.unwanted is not None else ()):
            function.gradient = self.gradients.pop(function.name, None)
            model.add_function(function)
        if self.gradients:
            name = printable(next(iter(self.gradients)))
            raise MalformedError(f"a gradient is given for '{name}', which is no function", field="library.gradient")
        refuse_call_cycles(model.functions)
        raw, library, versions = (b"".join(self.kept[name]) for name in ("raw", "library", "versions"))
        extras = self.extras._replace(raw=raw, library=library, versions=versions)
        if extras != GraphExtras():
            model.metadata[METADATA] = extras
        return model

    def _other_fields(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """Check that the file is whole, and find every field but the nodes."""
        buffer, position = self.buffer, start
        found = []
        while position < end:
            if buffer[position] == 0x0A and position + 1 < end and buffer[position + 1] < 0x80:
                position += 2 + buffer[position + 1]
                continue
            tag, value, position = next(wire.fields(buffer, position, end))
            if tag != 0x0A:
                self.nodes.budget.take(1)
                found.append((tag, value, position))
        if position > end:
            raise MalformedError("the last node is cut: the file is truncated or damaged", field="node", offset=end)
        return found

    def _top_level(self, tag: int, value: int, stop: int) -> None:
        extras = self.extras
        if tag == 0x12 and not extras.has_library:
            self.extras = extras._replace(has_library=True)
            self._library(value, stop)
        elif tag == 0x22 and not extras.has_versions:
            self.extras = extras._replace(has_versions=True)
            self._versions(value, stop)
        elif tag == 0x18 and not extras.version:
            self.extras = extras._replace(version=wire.signed32(value))
        elif tag in (0x12, 0x18, 0x22):
            raise MalformedError("is given twice", field=_FIELDS[tag >> 3], offset=value)
        else:
            if tag == 0x2A:
                check_debug_info(bytes(self.buffer[value:stop]), value)
            else:
                wire.unexpected(tag, _FIELDS, value)
            self._keep("raw", tag, value, stop)

    def _keep(self, place: str, tag: int, value: int, stop: int) -> None:
        self.nodes.budget.take(1)
        self.kept[place].append(field_bytes(self.buffer, tag, value, stop))

    def _versions(self, start: int, stop: int) -> None:
        numbers = {1: 0, 2: 0}
        seen: set[int] = set()
        bad: list[int] = []
        for tag, value, end in wire.fields(self.buffer, start, stop):
            if tag in (0x08, 0x10) and tag not in seen:
                seen.add(tag)
                numbers[tag >> 3] = wire.signed32(value)
            elif tag == 0x18:
                bad.append(wire.signed32(value))
            elif tag == 0x1A:
                while value < end:
                    number, value = wire.read_varint(self.buffer, value, end)
                    bad.append(wire.signed32(number))
            elif tag in seen:
                raise MalformedError("is given twice", field=f"versions.{_VERSION_FIELDS[tag >> 3]}", offset=start)
            else:
                wire.unexpected(tag, _VERSION_FIELDS, start)
                self._keep("versions", tag, value, end)
        self.model.versions = (numbers[1], numbers[2], tuple(bad))

    def _library(self, start: int, stop: int) -> None:
        for tag, value, end in wire.fields(self.buffer, start, stop):
            if tag == 0x0A:
                self.functions.read_signature(value, end)
            elif tag == 0x12:
                pair = self.functions.text_entry(value, end, "library.gradient")
                if pair[0] in self.gradients:
                    raise MalformedError(
                        f"'{printable(pair[0])}' has two gradients", field="library.gradient", offset=value
                    )
                self.gradients[pair[0]] = pair[1]
            else:
                if tag != 0x1A:
                    wire.unexpected(tag, _LIBRARY_FIELDS, value)
                else:
                    self.functions.text_entry(value, end, "library.registered_gradients")
                self._keep("library", tag, value, end)


def field_bytes(buffer: wire.Buffer, tag: int, value: int, stop: int) -> bytes:
    """A field that `wire.fields` found, as bytes that mean the same."""
    if tag & 7 == wire.VARINT:
        return wire.varint(tag) + wire.varint(value)
    content = bytes(buffer[value:stop])
    return wire.varint(tag) + (wire.varint(len(content)) if tag & 7 == wire.BYTES else b"") + content


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection while millions of objects are made, none of which is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_mapping(
    mapping: Mapping, source: str, start: int = 0, end: int | None = None, unwanted: Unwanted | None = None
) -> Model:
    """The GraphDef between `start` and `end` of a mapped file. Raises `MalformedError`, with `source` named.

    `unwanted` is given the main graph, may remove nodes from it, and returns names of functions that need not be read.
    """
    try:
        with collector_paused():
            reader = GraphReader(mapping)
            reader.unwanted = unwanted
            model = reader.read(start, len(mapping) if end is None else end)
    except MalformedError as error:
        raise error.located(source) from None
    model.source, model.format = source, "graphdef"
    return model
