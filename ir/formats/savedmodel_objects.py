"""The object graph of a SavedModel that was rewritten: the same objects, with the functions that there are now.

`tf.saved_model.load` builds what it gives from it: variables, which of them are trained, tables, functions and
signatures.
"""

from __future__ import annotations

from typing import NamedTuple

from graphopt.ir.errors import UnsupportedError, printable
from graphopt.ir.formats.bundle import BundleCheckpoint
from graphopt.ir.formats.checkpoint import OBJECT_GRAPH
from graphopt.ir.formats.metagraph import Carried, called_by, called_in_order
from graphopt.ir.formats.metagraph_writer import MetaGraphWriter, carried_by
from graphopt.ir.formats.object_graph import ObjectGraph, read_checkpoint_objects
from graphopt.ir.formats.object_graph_editor import ObjectGraphEditor, Spec, generic_object, with_variables
from graphopt.ir.formats.signature_functions import Order, Outlined, order_of, outline, reached_functions
from graphopt.ir.model import VARIABLES, Model, Variable, variable_name
from graphopt.ir.traversal import reachable
from graphopt.ir.value import Node, Value

ADDED = "graphopt"  # child of the root that names variables which were not there before
SHARED = 1 << 10  # bytes from which a constant that several signatures need is stored once


class Objects(NamedTuple):
    """An object graph, and that of the checkpoint where it is another than before."""

    graph: bytes
    stored: bytes | None = None


def objects_hold(model: Model) -> bool:
    """The object graph that came with the model still describes it: functions, what they take, who calls them."""
    carried = carried_by(model)
    if carried is None or carried.objects is None:
        return False
    if any(not _is_whole(model, carried, name) for name in carried.arguments) or _stale(model, carried):
        return False
    if any(_is_gone(model, carried, place) for place in range(len(carried.objects.objects))):
        return False
    if len(MetaGraphWriter(model).assets()) != len(carried.assets):
        return False
    if model.signatures.keys() != carried.infos.keys() or model.variables.keys() != carried.bound.keys():
        return False
    return all(carried.calls.get(name) == called_by(model, name) for name in model.signatures if name in carried.calls)


def rewritten_objects(model: Model) -> Objects | str:
    """Make functions of signatures that are none any more, in place, and an object graph of what there is then.

    Returns why there can be none instead, with `model` unchanged. Raises `UnsupportedError` where functions name
    variables themselves, which TensorFlow 2 would not find.
    """
    carried = carried_by(model)
    if carried is None or carried.objects is None:
        return "it came with none"
    for name in reached_functions(model):
        for node in model.functions[name]:
            if variable_name(node) is not None:
                raise UnsupportedError(
                    f"node '{printable(node.name)}' of function '{printable(name)}' names a variable, which TensorFlow "
                    "would not find when it loads the model: run inline-functions first, or "
                    "specialise-functions{variables=false}"
                )
    if any(signature.graph is not model.graph for signature in model.signatures.values()):
        return "a signature is of another graph than the main one"
    return _Rewriting(model, carried, carried.objects).run()


def is_frozen(model: Model) -> bool:
    """Variables that the model came with are constants now, and no signature needs any that is still there."""
    carried = carried_by(model)
    bound = carried.bound if carried is not None else {}
    if all(name in model.variables for name in bound):
        return False
    outputs = (value.node for signature in model.signatures.values() for value in signature.output_values().values())
    return not any(node.op in VARIABLES for node in reachable(outputs))


def _is_whole(model: Model, carried: Carried, name: str) -> bool:
    """The concrete function `name` is there and takes as much as it did."""
    function = model.functions.get(name)
    return function is not None and len(function.inputs) == carried.arguments[name]


def _is_gone(model: Model, carried: Carried, place: int) -> bool:
    """The object stands for a constant or an asset that the main graph does not have any more."""
    assert carried.objects is not None
    item = carried.objects.objects[place]
    if item.kind == "asset":
        return item.asset >= len(carried.meta.assets) or carried.meta.assets[item.asset] not in _assets(model)
    if item.kind != "constant":
        return False
    node = model.graph.find(item.operation)
    return node is None or node.op != "tf.Const"


def _assets(model: Model) -> list[object]:
    return list(MetaGraphWriter(model).assets())


def _stale(model: Model, carried: Carried) -> dict[str, None]:
    """Functions that nothing called when passes put other values into variables that they capture."""
    places = {
        carried.variable_places[name]
        for name, variable in model.variables.items()
        if variable.derived and name in carried.variable_places
    }
    if not places or carried.objects is None:
        return {}
    captures = carried.objects.captures
    reached = reached_functions(model)
    return {name: None for name in captures if name not in reached and not places.isdisjoint(captures[name])}


class _Rewriting:
    """One model on its way to a SavedModel with an object graph."""

    def __init__(self, model: Model, carried: Carried, objects: ObjectGraph):
        self.model, self.carried, self.objects = model, carried, objects
        self.editor = ObjectGraphEditor(carried.meta.object_graph, objects)
        self.new: list[Variable] = []
        self._places: dict[str, int] = {}

    def run(self) -> Objects | str:
        model, carried, editor = self.model, self.carried, self.editor
        stale = _stale(model, carried)
        whole = [name for name in self.objects.captures if name not in stale and _is_whole(model, carried, name)]
        frozen = is_frozen(model)
        editor.keep(
            whole,
            lambda place: (
                _is_gone(model, carried, place) or (frozen and self.objects.objects[place].kind == "variable")
            ),
        )
        signatures = {name: (self._kept_call(name), carried.orders.get(name)) for name in model.signatures}
        wanted = {
            name: order_of(model.signatures[name], order) for name, (called, order) in signatures.items() if not called
        }
        reason = self._refusal()
        if reason is not None:
            return reason
        made = outline(model, wanted, self._is_captured, SHARED)
        if isinstance(made, str):
            return made
        for name, outlined in made.items():
            if outlined.function.name not in editor.functions:
                self._add_function(name, outlined)
        assets = {asset: place for place, asset in enumerate(MetaGraphWriter(model).assets())}
        editor.renumber_assets({place: assets.get(asset, 0) for place, asset in enumerate(carried.meta.assets)})
        editor.set_signatures(
            {
                name: (called, None) if called else _called(made[name], order)
                for name, (called, order) in signatures.items()
            }
        )
        return Objects(self._encode(), self._checkpoint_objects())

    def _kept_call(self, name: str) -> str:
        """The function that the signature calls as it did, with the same objects, if it is kept; else empty."""
        called = called_by(self.model, name)
        order = self.carried.orders.get(name)
        if called not in self.editor.functions or called != self.carried.calls.get(name) or order is None:
            return ""
        captures = self.objects.captures[called]
        if called_in_order(self.model, name, len(captures)) != order:
            return ""
        call = next(iter(self.model.signatures[name].output_values().values())).node
        operands = call._inputs[len(call._inputs) - len(captures) :] if captures else ()
        places = zip(operands, captures, strict=True)
        return called if all(self._place(value) == place for value, place in places) else ""

    # What is captured -----------------------------------------------------------------------------------------

    def _place(self, value: Value | None) -> int | None:
        """The object that `value` is, None if it is none that came with the model and is still there."""
        if value is None or value.index:
            return None
        name = variable_name(value.node)
        places = self.carried.places if name is None else self.carried.variable_places
        place = places.get(value.node.name if name is None else name)
        if place is None or place in self.editor.gone:
            return None
        if self.objects.objects[place].kind == "constant" and self.objects.objects[place].operation != value.node.name:
            return None
        return place

    def _is_captured(self, node: Node) -> bool:
        return node.op in VARIABLES or (bool(node.outputs) and self._place(node.output) is not None)

    def _refusal(self) -> str | None:
        """Why variables that are no objects yet cannot become some."""
        outputs = (v.node for item in self.model.signatures.values() for v in item.output_values().values())
        for node in reachable(outputs):
            if node.op in VARIABLES and self._place(node.output) is None:
                name = variable_name(node) or ""
                if node.op != "tf.VarHandleOp" or name not in self.model.variables:
                    return f"'{printable(node.name)}' is no resource variable"
                if not self.model.variables[name].checkpoint_key:
                    return f"variable '{printable(name)}' has no value in a checkpoint"
                if self._stored() is None:
                    return "the checkpoint says nothing of objects, among which new variables would have to be"
        return None

    def _captured_place(self, node: Node) -> int:
        """The object that a captured node is; a new one if there was none."""
        place = self._place(node.output)
        if place is not None:
            return place
        name = variable_name(node)
        key = f"variable {name}" if name is not None else f"constant {node.name}"
        if key not in self._places:
            if name is None:
                self._places[key] = self.editor.add_constant(node.name)
            else:
                variable = self.model.variables[name]
                self._places[key] = self.editor.add_variable(variable)
                self.new.append(variable)
        return self._places[key]

    def _add_function(self, name: str, made: Outlined) -> None:
        signature, order = self.model.signatures[name], made.order
        given, wanted = signature.input_values(), signature.output_values()
        self.editor.add_function(
            made.function.name,
            [self._captured_place(node) for node in made.captured],
            [Spec(key, given[key].dtype, given[key].shape) for key in order[0]],
            [Spec(key, wanted[key].dtype, wanted[key].shape) for key in order[1]],
            self.carried.calls.get(name, "") if order == self.carried.orders.get(name) else "",
        )

    # What is new ----------------------------------------------------------------------------------------------

    def _encode(self) -> bytes:
        if self.new:
            places = {str(number): self._places[f"variable {item.name}"] for number, item in enumerate(self.new)}
            self.editor.add_child(0, self._child_name(), self.editor.add(generic_object(places)))
        return self.editor.encode()

    def _child_name(self) -> str:
        taken = dict(self.objects.objects[0].children)
        name, count = ADDED, 0
        while name in taken:
            count += 1
            name = f"{ADDED}_{count}"
        return name

    def _stored(self) -> bytes | None:
        """The object graph of the checkpoint."""
        source = self.carried.checkpoint
        if not isinstance(source, BundleCheckpoint) or OBJECT_GRAPH not in source:
            return None
        raw = source.tensor(OBJECT_GRAPH).numpy().item()
        assert isinstance(raw, bytes)
        return raw

    def _checkpoint_objects(self) -> bytes | None:
        raw = self._stored() if self.new else None
        if raw is None:
            return None
        return with_variables(raw, read_checkpoint_objects(raw), self._child_name(), self.new)


def _called(made: Outlined, before: Order | None) -> tuple[str, tuple[str, ...] | None]:
    return made.function.name, None if made.order == before else made.order[0]
