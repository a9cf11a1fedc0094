"""MetaGraphs into models: the graph with its signatures, variables, initialisers and what else belongs to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.checkpoint import Checkpoint, open_checkpoint, v1_shards
from graphopt.ir.formats.graphdef import map_file
from graphopt.ir.formats.graphdef_reader import read_mapping
from graphopt.ir.formats.metagraph_proto import (
    Asset,
    MetaGraph,
    SignatureInfo,
    asset_of,
    read_metagraph,
    tensor_names,
)
from graphopt.ir.formats.object_graph import ObjectGraph, read_object_graph
from graphopt.ir.formats.savedmodel_variables import (
    CALLS,
    add_variables,
    bind,
    captured_variables,
    initialised,
    keys_by_object,
)
from graphopt.ir.formats.signature_functions import Order
from graphopt.ir.formats.sniff import is_text
from graphopt.ir.formats.tensor_proto import TensorReader
from graphopt.ir.graph import Graph
from graphopt.ir.model import VARIABLES, Model, Signature, callees, variable_name
from graphopt.ir.tensors import Mapping, Tensor
from graphopt.ir.traversal import reachable
from graphopt.ir.value import Node, Value

METADATA = "metagraph"  # key of `Model.metadata` for what a MetaGraph carries
INITIALISER, TRAINER = "__saved_model_init_op", "__saved_model_train_op"  # signatures that name an operation
RESERVED = (INITIALISER, TRAINER)
INITIALISERS = ("saved_model_main_op", "legacy_init_op")  # collections that do
CONTEXTS = ("cond_context", "while_context")  # collections that name nodes of v1 control flow, nested
TRAINABLE, ASSETS, TABLES = "trainable_variables", "saved_model_assets", "table_initializer"


class Carried:
    """What a model needs to be written back as a MetaGraph, beside what the model itself says.

    `infos` has the TensorInfos of each signature, which say of what kind each input and output is; `objects` is the
    decoded object graph. Nodes are held by name: those of initialisers are targets of the graph and keep theirs.
    """

    def __init__(self, meta: MetaGraph):
        self.meta = meta
        self.infos: dict[str, SignatureInfo] = {}
        self.objects: ObjectGraph | None = None
        self.initialisers: tuple[str, ...] = ()
        self.assets: tuple[Asset, ...] = ()
        self.checkpoint: Checkpoint | None = None
        self.before: list[memoryview] = []  # other MetaGraphs of the SavedModel, as they stand before this one in it
        self.after: list[memoryview] = []  # and after it
        self.root = ""  # folder of the SavedModel it was read from
        self.calls: dict[str, str] = {}  # signature -> concrete function that it calls
        self.arguments: dict[str, int] = {}  # concrete function -> number of its arguments
        self.orders: dict[str, Order] = {}  # signature -> how the function it calls takes inputs and gives outputs
        self.places: dict[str, int] = {}  # node of the main graph that functions capture -> its object
        self.variable_places: dict[str, int] = {}  # variable that functions capture -> its object
        self.state: dict[str, tuple[str, ...]] = {}  # node of a table or other resource -> functions that make it
        self.keys: dict[str, str] = {}  # variable -> another key of the checkpoint that also stands for it
        self.bound: dict[str, Tensor | None] = {}  # variable -> the value it came with
        self.names: tuple[str, ...] = ()  # of all nodes, where collections name nodes in ways not looked into

    def has_all_names(self, graph: Graph) -> bool:
        """The graph still has every node that it came with."""
        return all(graph.find(name) is not None for name in self.names)


def load_metagraph(path: str | os.PathLike[str], *, verify: bool = True) -> Model:
    """The model in a `.meta` file, with the values of its variables if a checkpoint of the same name lies beside it.

    Raises `MalformedError`.
    """
    mapping = map_file(path)
    try:
        if is_text(bytes(mapping.view[:4096])):
            from graphopt.ir.formats.savedmodel_text import text_to_binary

            mapping = Mapping(mapping.path, text_to_binary(bytes(mapping.view), "MetaGraphDef", mapping.path))
        meta = read_metagraph(mapping.buffer, 0, len(mapping))
    except MalformedError as error:
        raise error.located(mapping.path) from None
    prefix = mapping.path.removesuffix(".meta")
    has_values = os.path.lexists(f"{prefix}.index") or (prefix != mapping.path and bool(v1_shards(prefix)))
    return model_of(mapping, meta, open_checkpoint(prefix) if has_values else None, verify=verify)


def model_of(
    mapping: Mapping, meta: MetaGraph, checkpoint: Checkpoint | None, *, verify: bool = True, saves: bool = True
) -> Model:
    """The model that `meta`, read from `mapping`, describes.

    Without `saves`, it need not save its variables, and those that no signature needs may have no value. Raises
    `MalformedError`.
    """
    carried = Carried(meta)
    savers = None if saves else _Savers(carried, checkpoint)
    try:
        carried.objects = read_object_graph(meta.object_graph) if meta.object_graph else None
        model = read_mapping(mapping, mapping.path, *meta.graph, unwanted=savers)
        if savers is not None and not savers.restores and _variables_within(model):
            return model_of(mapping, meta, checkpoint, verify=verify)  # which only what restores them knows
        model.format = "metagraph"
        model.metadata[METADATA] = carried
        _add_signatures(model, mapping, carried)
        _add_initialisers(model, carried)
        _record_functions(model, carried)
        add_variables(model)
        if checkpoint is not None:
            carried.checkpoint = checkpoint
            restore = _restore_node(model, carried) if savers is None or savers.restores else None
            carried.keys = bind(model, checkpoint, restore=restore, objects=carried.objects, verify=verify)
        initialised(model, [model.graph.node(name) for name in carried.initialisers])
        _mark_trainable(model, carried)
        carried.bound = {name: variable.value for name, variable in model.variables.items()}
        if any(key in meta.collections for key in CONTEXTS):
            carried.names = tuple(node.name for node in model.graph)
    except MalformedError as error:
        raise error.located(mapping.path) from None
    return model


class _Savers:
    """Removes the calls of the functions that save and restore variables, the largest of many models.

    What restores them stays, and `restores` says so, unless the object graph knows the value of every variable that a
    signature or an initialiser needs.
    """

    def __init__(self, carried: Carried, checkpoint: Checkpoint | None) -> None:
        self.carried, self.checkpoint = carried, checkpoint
        self.restores = True

    def __call__(self, graph: Graph) -> tuple[str, ...]:
        """Remove the calls from the main graph; returns the functions that nothing calls any more."""
        saver = self.carried.meta.saver
        if saver is None:
            return ()
        unwanted = _without_call(graph, saver.save)
        if self._knows_variables(graph):
            unwanted += _without_call(graph, saver.restore)
            self.restores = graph.find(node_name(saver.restore)) is not None
        return unwanted

    def _knows_variables(self, graph: Graph) -> bool:
        objects, meta = self.carried.objects, self.carried.meta
        if objects is None or self.checkpoint is None or graph.model is None:
            return False
        keys = keys_by_object(graph.model, objects, self.checkpoint)
        outputs = (name for info in meta.signatures.values() for entry in info.outputs.values()
                   for _, name in tensor_names(entry))  # fmt: skip
        named = (graph.find(node_name(name)) for name in (*outputs, *_operation_names(meta)))
        needed = (variable_name(node) for node in reachable(node for node in named if node is not None))
        return all(name is None or name in keys for name in needed)


def _variables_within(model: Model) -> bool:
    """Some function makes a variable of its own."""
    return any(node.op in VARIABLES for function in model.functions.values() for node in function)


def _without_call(graph: Graph, operation: str) -> tuple[str, ...]:
    """Remove the call that `operation` is, where nothing needs it; returns the function if nothing else calls that."""
    node = graph.find(node_name(operation))
    reference = node.attrs.get("f") if node is not None and node.op in CALLS else None
    if node is None or not isinstance(reference, FunctionRef) or node.has_uses:
        return ()
    graph.remove(node)
    return () if any(name == reference.name for other in graph for name in callees(other)) else (reference.name,)


# Signatures ---------------------------------------------------------------------------------------------------


def _add_signatures(model: Model, mapping: Mapping, carried: Carried) -> None:
    graph, meta = model.graph, carried.meta
    inputs: dict[Value, int] = {}
    outputs: dict[Value, int] = {}
    defaults = TensorReader(mapping)
    for name, info in meta.signatures.items():
        if name in RESERVED:
            continue
        where = f"signature_def['{printable(name)}']"
        signature = Signature(graph, method_name=info.method_name)
        for target, places, entries in (
            (signature.inputs, inputs, info.inputs),
            (signature.outputs, outputs, info.outputs),
        ):
            for key, value in _named_values(graph, entries, where):
                target[key] = places.setdefault(value, len(places))
        signature.defaults = {key: defaults.read(start, stop) for key, start, stop in info.defaults}
        model.signatures[name] = signature
        carried.infos[name] = info
    carried.assets = (*meta.assets, *_collected_assets(meta))
    for asset in carried.assets:
        inputs.setdefault(find_tensor(graph, asset.tensor, "asset_file_def"), len(inputs))
    graph.inputs, graph.outputs = inputs, outputs


def _named_values(graph: Graph, entries: dict[str, bytes], where: str) -> Iterator[tuple[str, Value]]:
    """Each tensor of a map of TensorInfos; `x` for a dense one, `x.values` and so on for the parts of others."""
    for key in sorted(entries):
        for suffix, tensor in tensor_names(entries[key]):
            yield key + suffix, find_tensor(graph, tensor, where)


def find_tensor(graph: Graph, name: str, where: str) -> Value:
    """The value called `name`. Raises `MalformedError`, with the field `where` named, if there is none."""
    base, colon, port = name.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or len(port) > 9:
        base, port = name, "0"
    node = graph.find(base)
    if node is None or int(port) >= len(node.outputs):
        raise MalformedError(f"names the tensor '{printable(name)}', which the graph does not have", field=where)
    return node.outputs[int(port)]


def _collected_assets(meta: MetaGraph) -> Iterator[Asset]:
    """Assets as SavedModels of the first version list them; the others list each in a field of its own."""
    found = meta.collections.get(ASSETS)
    if found is None or meta.assets:
        return
    for tag, value, stop in wire.fields(found.raw, 0, len(found.raw)):
        if tag == 0x2A:
            for inner, start, end in wire.fields(found.raw, value, stop):
                if inner == 0x0A:
                    for field, first, last in wire.fields(found.raw, start, end):
                        if field == 0x12:
                            yield asset_of(found.raw, first, last)


# Operations ---------------------------------------------------------------------------------------------------


def _add_initialisers(model: Model, carried: Carried) -> None:
    """Make the operations that initialise tables and other state targets of the graph."""
    graph, meta = model.graph, carried.meta
    names = [node_name(name) for name in _operation_names(meta)]
    for name in names:
        if graph.find(name) is None:
            raise MalformedError(f"the initialiser '{printable(name)}' is not in the graph", field="collection_def")
    carried.initialisers = tuple(dict.fromkeys(names))
    graph.targets = [graph.node(name) for name in carried.initialisers]


def keep_state(model: Model) -> None:
    """Make what initialises tables and other state, and the assets it needs, part of the graph's contract again.

    For a model whose inputs and outputs were chosen anew.
    """
    carried, graph = model.metadata[METADATA], model.graph
    assets = (graph.find(node_name(asset.tensor)) for asset in carried.assets)
    graph.inputs = dict.fromkeys((*graph.inputs, *(node.output for node in assets if node is not None)))
    initialisers = (graph.find(name) for name in carried.initialisers)
    graph.targets = [*graph.targets, *(node for node in initialisers if node is not None)]


def _operation_names(meta: MetaGraph) -> Iterator[str]:
    info = meta.signatures.get(INITIALISER)
    if info is not None:
        for entry in info.outputs.values():
            yield from (name for _, name in tensor_names(entry))
    for key in (*INITIALISERS, TABLES):
        found = meta.collections.get(key)
        if found is not None and found.kind == 1:
            yield from (value.decode("utf-8", "replace") for value in found.values)


def node_name(name: str) -> str:
    """The node of a tensor or operation name: `init`, `init:0` and `^init` are all `init`."""
    base, colon, port = name.removeprefix("^").rpartition(":")
    return base if colon and port.isdecimal() else name.removeprefix("^")


def _restore_node(model: Model, carried: Carried) -> Node | None:
    saver = carried.meta.saver
    if saver is None or not saver.restore:
        return None
    node = model.graph.find(node_name(saver.restore))
    if node is None:
        raise MalformedError(
            f"names the operation '{printable(saver.restore)}', which the graph does not have", field="saver_def"
        )
    return node


def _record_functions(model: Model, carried: Carried) -> None:
    """Keep what functions looked like, so that the writer can tell whether the object graph still describes them."""
    if carried.objects is None:
        return
    for name in carried.objects.captures:
        function = model.functions.get(name)
        if function is None:
            raise MalformedError(f"the function '{printable(name)}' is not in the library", field="object_graph_def")
        carried.arguments[name] = len(function.inputs)
    for name in model.signatures:
        called = called_by(model, name)
        if called in carried.arguments:
            carried.calls[name] = called
            order = called_in_order(model, name, len(carried.objects.captures[called]))
            if order is not None:
                carried.orders[name] = order
    _record_captures(model, carried, carried.objects)


def called_in_order(model: Model, signature: str, captures: int) -> Order | None:
    """How the one call that a signature is takes its inputs and gives its outputs, if it takes all and nothing else.

    The last `captures` operands are no inputs.
    """
    found = model.signatures[signature]
    outputs = {value: key for key, value in found.output_values().items()}
    inputs = {value: key for key, value in found.input_values().items()}
    call = next(iter(outputs)).node
    given = call._inputs[: len(call._inputs) - captures]
    taken = tuple(inputs[value] for value in given if value is not None and value in inputs)
    results = tuple(outputs[value] for value in call.outputs if value in outputs)
    whole = len(taken) == len(given) == len(found.inputs) and len(results) == len(call.outputs) == len(found.outputs)
    return (taken, results) if whole else None


def _record_captures(model: Model, carried: Carried, objects: ObjectGraph) -> None:
    """Keep which node of the main graph is which object, and which functions a table needs beside its node."""
    for node in model.graph:
        reference = node.attrs.get("f") if node.op in CALLS else None
        captures = objects.captures.get(reference.name, ()) if isinstance(reference, FunctionRef) else ()
        operands = node.inputs[len(node.inputs) - len(captures) :] if captures else ()
        for value, place in zip(operands, captures, strict=False):
            if value is not None and not value.index and variable_name(value.node) is None:
                carried.places.setdefault(value.node.name, place)
    for name, place in carried.places.items():
        if objects.objects[place].kind == "resource":
            makers = [child for _, child in objects.objects[place].children]
            carried.state[name] = tuple(n for child in makers for n in objects.objects[child].functions)


def called_by(model: Model, signature: str) -> str:
    """The function that all outputs of a signature come from, if they come from one call; else empty."""
    nodes = dict.fromkeys(value.node for value in model.signatures[signature].output_values().values())
    reference = next(iter(nodes)).attrs.get("f") if len(nodes) == 1 else None
    return reference.name if isinstance(reference, FunctionRef) else ""


def _mark_trainable(model: Model, carried: Carried) -> None:
    found = carried.meta.collections.get(TRAINABLE)
    for raw in found.values if found is not None and found.kind == 2 else ():
        name = node_name(wire_text(raw, 1))
        node = model.graph.find(name)
        variable = variable_of(model, node) if node is not None else None
        if variable is not None:
            model.variables[variable].trainable = True
    if carried.objects is not None:
        carried.variable_places = captured_variables(model, carried.objects)
        for name, place in carried.variable_places.items():
            saved = carried.objects.objects[place].variable
            if saved is not None and name in model.variables:
                model.variables[name].trainable = saved.trainable


def variable_of(model: Model, node: Node) -> str | None:
    """Name of the variable `node` stands for, if the model has it."""
    name = variable_name(node)
    return name if name in model.variables else None


def wire_text(raw: bytes, number: int) -> str:
    """The string in field `number` of a message, empty if there is none."""
    for tag, value, stop in wire.fields(raw, 0, len(raw)):
        if tag == number << 3 | wire.BYTES:
            return wire.text(raw, value, stop)
    return ""
