"""A model into a MetaGraphDef: its graph, and around it signatures, collections, saver, assets and object graph.

What the model came with is written back as far as the graph still has the nodes that it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphopt.ir.errors import UnsupportedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.attr_encoding import Piece, encode_tensor, message
from graphopt.ir.formats.graphdef_writer import GraphWriter
from graphopt.ir.formats.metagraph import (
    ASSETS,
    CONTEXTS,
    INITIALISER,
    METADATA,
    RESERVED,
    Carried,
    node_name,
    wire_text,
)
from graphopt.ir.formats.metagraph_proto import (
    Asset,
    Collection,
    MetaGraph,
    Saver,
    SignatureInfo,
    encode_collection,
    encode_entry,
    encode_saver,
    renamed,
    tensor_names,
)
from graphopt.ir.formats.shape_proto import encode_shape
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model, Signature
from graphopt.ir.types import dereferenced
from graphopt.ir.value import Value

PREDICT = "tensorflow/serving/predict"
SERVE_INFO = wire.tagged(4, b"serve")
_VARIABLE_NAMES, _SAVER_NAMES, _QUEUE_NAMES = (1, 2, 3, 6), (1, 2, 3), (1, 2, 3, 4)
_NAMED = {
    "variables": _VARIABLE_NAMES,
    "trainable_variables": _VARIABLE_NAMES,
    "local_variables": _VARIABLE_NAMES,
    "model_variables": _VARIABLE_NAMES,
    "metric_variables": _VARIABLE_NAMES,
    "moving_average_variables": _VARIABLE_NAMES,
    "concatenated_variables": _VARIABLE_NAMES,
    "global_step": _VARIABLE_NAMES,
    "savers": _SAVER_NAMES,
    "queue_runners": _QUEUE_NAMES,
}


class MetaGraphWriter:
    """Encodes `model` as a MetaGraphDef.

    `saver` replaces the one that the model came with; `definitions` are VariableDefs of the variables it restores;
    `objects` is the SavedObjectGraph, empty if there is none.
    """

    def __init__(
        self,
        model: Model,
        saver: Saver | None = None,
        definitions: dict[str, bytes] | None = None,
        objects: bytes = b"",
    ):
        self.model, self.graph, self.objects = model, model.graph, objects
        self.carried = carried_by(model)
        self.meta = self.carried.meta if self.carried is not None else MetaGraph()
        self.saver = saver if saver is not None else self.meta.saver
        self.definitions = definitions or {}

    def pieces(self, with_graph: Iterable[Piece] | None = None) -> list[Piece]:
        """The content of the MetaGraphDef; large tensors of the graph are views."""
        graph = list(GraphWriter(self.model).pieces()) if with_graph is None else list(with_graph)
        pieces: list[Piece] = [wire.tagged(1, self.meta.info or SERVE_INFO), *message(2, graph)]
        if self.saver is not None and (self.saver is not self.meta.saver or saver_is_whole(self.graph, self.saver)):
            pieces.append(wire.tagged(3, encode_saver(self.saver)))
        pieces += [encode_entry(4, key, encode_collection(item)) for key, item in self._collections().items()]
        pieces += self._signatures()
        if self.meta.assets:
            pieces += [wire.tagged(6, _encode_asset(asset)) for asset in self.assets()]
        if self.objects:
            pieces.append(wire.tagged(7, self.objects))
        return [*pieces, self.meta.raw]

    def assets(self) -> list[Asset]:
        """The assets whose tensors are still there."""
        found = self.carried.assets if self.carried is not None else ()
        return [asset for asset in found if self.graph.find(node_name(asset.tensor)) is not None]

    def initialisers(self) -> list[str]:
        """Nodes that the signature of the initialiser names, as far as they are there.

        A model without an object graph is loaded by TensorFlow as one of the first version, for which that is a
        signature like any other: there a collection names the node instead.
        """
        info = self.meta.signatures.get(INITIALISER)
        names = [node_name(name) for name in _names_of(info)] if info is not None else []
        return [name for name in names if self.graph.find(name) is not None]

    # Signatures -----------------------------------------------------------------------------------------------

    def _signatures(self) -> Iterator[bytes]:
        for name, info in self.meta.signatures.items():
            if self.objects and name in RESERVED and all(map(self._exists, _names_of(info))):
                yield encode_entry(5, name, _encode_signature(info, info.inputs, info.outputs))
        for name, signature in self.model.signatures.items():
            if signature.graph is not self.graph:
                raise UnsupportedError(f"signature '{printable(name)}' is of another graph than the main one")
            info = (
                self.carried.infos.get(name, SignatureInfo({}, {}))
                if self.carried is not None
                else SignatureInfo({}, {})
            )
            info = info._replace(method_name=signature.method_name or PREDICT)
            inputs = _infos(info.inputs, signature.input_values())
            outputs = _infos(info.outputs, signature.output_values())
            yield encode_entry(5, name, _encode_signature(info, inputs, outputs, signature))

    def _exists(self, name: str) -> bool:
        return self.graph.find(node_name(name)) is not None

    # Collections ----------------------------------------------------------------------------------------------

    def _collections(self) -> dict[str, Collection]:
        found = {}
        for key, item in self.meta.collections.items():
            kept = self._kept(key, item)
            if kept is not None:
                found[key] = kept
        main = [name.encode() for name in self.initialisers() if "saved_model_main_op" not in found]
        if main and not self.objects and "legacy_init_op" not in found:
            found["saved_model_main_op"] = Collection(1, tuple(main[:1]))
        if self.definitions:
            self._add_definitions(found, "variables", self.definitions.values())
            trainable = [raw for raw in self.definitions.values() if wire_number(raw, 7)]
            self._add_definitions(found, "trainable_variables", trainable)
        return found

    def _add_definitions(self, found: dict[str, Collection], key: str, definitions: Iterable[bytes]) -> None:
        """Replace what a collection says of variables that are restored by a new saver."""
        known = found.get(key, Collection(2))
        others = [raw for raw in known.values if node_name(wire_text(raw, 1)) not in self.definitions]
        values = (*others, *definitions)
        if values:
            found[key] = Collection(2, values)

    def _kept(self, key: str, item: Collection) -> Collection | None:
        """A collection without what the graph no longer has; None where nothing is left of it."""
        if key in CONTEXTS and self.carried is not None:
            return item if self.carried.has_all_names(self.graph) else None
        if key == ASSETS:
            return _assets_collection(self.assets()) if self.assets() and not self.meta.assets else None
        if item.kind == 1:
            names = (self._current(value.decode("utf-8", "replace")) for value in item.values)
            values = tuple(name.encode() for name in names if name)
        elif item.kind == 2 and key in _NAMED:
            values = tuple(raw for raw in item.values if self._has_names(raw, _NAMED[key]))
        else:
            return item
        return item._replace(values=values) if values else None

    def _current(self, name: str) -> str:
        """The name of a tensor or operation as it is now: a call that became a NoOp has no tensors. Empty if gone."""
        node = self.graph.find(node_name(name))
        if node is None:
            return ""
        port = name.rpartition(":")[2] if ":" in name else ""
        return name if not port.isdecimal() or int(port) < len(node.outputs) else node.name

    def _has_names(self, raw: bytes, fields: tuple[int, ...]) -> bool:
        for tag, value, stop in wire.fields(raw, 0, len(raw)):
            if tag & 7 == wire.BYTES and tag >> 3 in fields and not self._exists(wire.text(raw, value, stop)):
                return False
        return True


def carried_by(model: Model) -> Carried | None:
    """What the model carries of the MetaGraph it came from."""
    found = model.metadata.get(METADATA)
    return found if isinstance(found, Carried) else None


def saver_is_whole(graph: Graph, saver: Saver) -> bool:
    """The graph has all nodes that `saver` names."""
    names = (saver.filename, saver.save, saver.restore)
    return all(graph.find(node_name(name)) is not None for name in names if name) and bool(saver.restore)


def wire_number(raw: bytes, number: int) -> int:
    """The varint in field `number` of a message, zero if there is none."""
    for tag, value, _ in wire.fields(raw, 0, len(raw)):
        if tag == number << 3:
            return value
    return 0


def _names_of(info: SignatureInfo) -> Iterator[str]:
    for entries in (info.inputs, info.outputs):
        for entry in entries.values():
            yield from (name for _, name in tensor_names(entry))


def _infos(stored: dict[str, bytes], values: dict[str, Value]) -> dict[str, bytes]:
    """TensorInfos for `values`: those that were read, with the names of now, and new ones for the rest."""
    remaining = dict(values)
    found: dict[str, bytes] = {}
    for key, entry in stored.items():
        labels = [key + suffix for suffix, _ in tensor_names(entry)]
        if labels and all(label in remaining for label in labels):
            found[key] = renamed(entry, (_tensor_name(remaining.pop(label)) for label in labels))
    for key, value in remaining.items():
        shape = wire.tagged(3, encode_shape(value.shape))
        dtype = wire.tagged_number(2, dereferenced(value.dtype).code)
        found[key] = wire.tagged(1, _tensor_name(value).encode()) + dtype + shape
    return found


def _tensor_name(value: Value) -> str:
    return f"{value.node.name}:{value.index}"


def _encode_signature(
    info: SignatureInfo, inputs: dict[str, bytes], outputs: dict[str, bytes], signature: Signature | None = None
) -> bytes:
    pieces = [encode_entry(1, key, entry) for key, entry in inputs.items()]
    pieces += [encode_entry(2, key, entry) for key, entry in outputs.items()]
    pieces.append(wire.tagged_text(3, info.method_name))
    for key, value in signature.defaults.items() if signature is not None else ():
        pieces.append(encode_entry(4, key, b"".join(encode_tensor(value))))
    return b"".join((*pieces, info.raw))


def _encode_asset(asset: Asset) -> bytes:
    return wire.tagged(1, asset.info) + wire.tagged(2, asset.filename.encode())


def _assets_collection(assets: list[Asset]) -> Collection:
    """Assets as SavedModels of the first version list them: each an `Any` with an AssetFileDef."""
    kind = wire.tagged(1, b"type.googleapis.com/tensorflow.AssetFileDef")
    items = b"".join(wire.tagged(1, kind + wire.tagged(2, _encode_asset(asset))) for asset in assets)
    return Collection(5, (), wire.tagged(5, items))
