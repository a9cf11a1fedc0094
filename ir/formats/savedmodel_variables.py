"""Which node of a graph is which variable of a checkpoint.

What counts is what TensorFlow does when it loads the model: the graph's own restore operation reads tensors by name and
assigns them. Where there is none, the object graph says it, and at last the variable's own name. Afterwards the
initialiser runs, and what it assigns holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats.checkpoint import OBJECT_GRAPH, Checkpoint
from graphopt.ir.formats.object_graph import ObjectGraph, read_checkpoint_objects, variable_keys
from graphopt.ir.graph import Graph
from graphopt.ir.known import known_tensor
from graphopt.ir.model import ARGUMENT, Function, Model, Variable, variable_name
from graphopt.ir.traversal import reachable
from graphopt.ir.types import STRING, UNKNOWN_DTYPE, UNKNOWN_SHAPE, DType, Shape
from graphopt.ir.value import Node, Value

CALLS = frozenset({"tf.PartitionedCall", "tf.StatefulPartitionedCall"})
ASSIGNS = frozenset({"tf.Assign", "tf.AssignVariableOp"})
_THROUGH = frozenset({"tf.Identity", "tf.Reshape", "tf.Cast", "tf.Bitcast", "tf.EnsureShape"})
_RESTORES = {"tf.RestoreV2": (1, 2), "tf.RestoreSlice": (1, 2), "tf.Restore": (1, None)}


class Source(NamedTuple):
    """Tensor of a checkpoint, and which part of it in RestoreV2's notation."""

    key: str
    part: str = ""


def add_variables(model: Model) -> None:
    """Put every variable that nodes of `model` stand for into `model.variables`."""
    for graph in model.graphs:
        for node in graph:
            name = variable_name(node)
            if name is None:
                continue
            found = model.variables.get(name)
            if found is None:
                found = model.variables[name] = Variable(name)
            dtype, shape = node.attrs.get("dtype"), node.attrs.get("shape")
            if isinstance(dtype, DType):
                if found.dtype not in (dtype, UNKNOWN_DTYPE):
                    raise MalformedError(
                        f"is of {dtype}; another node of this variable of {found.dtype}", node=node.name
                    )
                found.dtype = dtype
            if isinstance(shape, Shape) and found.shape.dims is None:
                found.shape = shape


def bind(
    model: Model,
    checkpoint: Checkpoint,
    *,
    restore: Node | None = None,
    objects: ObjectGraph | None = None,
    verify: bool = True,
) -> dict[str, str]:
    """Give the variables of `model` their values in `checkpoint`; returns other keys that also stand for variables.

    `restore` is the operation that restores them. What TensorFlow 2 loads a variable from, by way of objects, may be
    another tensor than the one that operation reads: Keras writes each weight twice. Raises `MalformedError` where
    the checkpoint lacks a tensor that is restored, or has it in another type or shape.
    """
    sources = restored(model, restore)
    keys = keys_by_object(model, objects, checkpoint) if objects is not None else {}
    others = {name: key for name, key in keys.items() if sources.setdefault(name, Source(key)).key != key}
    if not sources:
        sources = {name: Source(name) for name in model.variables if name in checkpoint}
    for name, source in sources.items():
        if name in model.variables:
            _give(model.variables[name], source, checkpoint, verify)
    return others


def _give(variable: Variable, source: Source, checkpoint: Checkpoint, verify: bool) -> None:
    tensor = checkpoint.tensor(source.key, source.part, verify=verify)
    variable.checkpoint_key, variable.checkpoint_slice = source
    if tensor.dtype is not variable.dtype and variable.dtype is not UNKNOWN_DTYPE:
        reason = f"{tensor.dtype} in the checkpoint, {variable.dtype} in the graph"
    elif variable.shape.merged(Shape(tensor.shape)) is None:
        reason = f"of shape {list(tensor.shape)} in the checkpoint, {variable.shape} in the graph"
    else:
        variable.value, variable.dtype = tensor, tensor.dtype
        if not variable.shape.is_static and variable.shape is UNKNOWN_SHAPE:
            variable.shape = Shape(tensor.shape)
        return
    raise MalformedError(
        f"variable '{printable(variable.name)}' (tensor '{printable(source.key)}') is {reason}: "
        "graph and checkpoint are not of one model",
        source=checkpoint.path,
    )


def restored(model: Model, restore: Node | None) -> dict[str, Source]:
    """Variable -> tensor of a checkpoint, as the restore operations say it; only those `restore` runs, if given."""
    tracer = Tracer(model)
    graphs: Iterable[Graph] = model.graphs
    if restore is not None:
        graphs = _Nodes(reachable([restore])).with_bodies(model)
    sources: dict[str, Source] = {}
    for graph in graphs:
        for node in graph:
            places = _RESTORES.get(node.op)
            if places is None:
                continue
            keys = _strings(node, places[0])
            parts = _strings(node, places[1]) if places[1] is not None else [""] * len(keys)
            for output, key, part in zip(node.outputs, keys, parts, strict=False):
                for name in tracer.assigned(output):
                    sources.setdefault(name, Source(key, part))
    return sources


class _Nodes:
    """Nodes of a graph, and the bodies of all functions that they call."""

    def __init__(self, nodes: Iterable[Node]):
        self.nodes = nodes

    def with_bodies(self, model: Model) -> Iterator[Any]:
        yield self.nodes
        pending = [name for node in self.nodes for name in _called(node)]
        seen: dict[str, None] = {}
        while pending:
            name = pending.pop()
            function = model.functions.get(name)
            if function is not None and name not in seen:
                seen[name] = None
                yield function
                pending += [inner for node in function for inner in _called(node)]


def _called(node: Node) -> Iterator[str]:
    reference = node.attrs.get("f")
    if node.op in CALLS and isinstance(reference, FunctionRef):
        yield reference.name


def _strings(node: Node, place: int) -> list[str]:
    held = known_tensor(node.inputs[place]) if place < len(node.inputs) else None
    if held is None or held.dtype is not STRING:
        return []
    return [item.decode("utf-8", "replace") for item in held.numpy().reshape(-1)]


class Tracer:
    """Follows values forward to the variables they are assigned to, and handles back to the variables they are."""

    def __init__(self, model: Model):
        self.model = model
        self._callers: dict[str, list[Node]] | None = None

    def assigned(self, value: Value) -> Iterator[str]:
        """Names of the variables that `value` is assigned to, within its graph."""
        pending, seen = [value], {value: None}
        while pending:
            for user, index in pending.pop().uses:
                if user.op in ASSIGNS and index == 1:
                    handle = user.inputs[0]
                    if handle is not None:
                        yield from self.variables(handle)
                elif user.op in _THROUGH and index == 0 and user.output not in seen:
                    seen[user.output] = None
                    pending.append(user.output)

    def variables(self, handle: Value) -> Iterator[str]:
        """Names of the variables that `handle` may be: itself, or whatever callers give for an argument."""
        pending, seen = [handle], {handle: None}
        while pending:
            node = pending.pop().node
            name = variable_name(node)
            found: list[Value | None] = []
            if name is not None:
                yield name
            elif node.op == "tf.Identity":
                found = [node.inputs[0]]
            elif node.op == ARGUMENT and isinstance(node.graph, Function):
                place = node.graph.inputs.index(node.output)
                callers = self.callers.get(node.graph.name, ())
                found = [call.inputs[place] for call in callers if place < len(call.inputs)]
            for value in found:
                if value is not None and value not in seen:
                    seen[value] = None
                    pending.append(value)

    @property
    def callers(self) -> dict[str, list[Node]]:
        """Function -> nodes that call it."""
        if self._callers is None:
            self._callers = {}
            for graph in self.model.graphs:
                for node in graph:
                    for name in _called(node):
                        self._callers.setdefault(name, []).append(node)
        return self._callers


def keys_by_object(model: Model, objects: ObjectGraph, checkpoint: Checkpoint) -> dict[str, str]:
    """Variable -> key in the checkpoint, by way of the functions that capture it. Raises `MalformedError`."""
    places = captured_variables(model, objects)
    if not places or OBJECT_GRAPH not in checkpoint:
        return {}
    stored = checkpoint.tensor(OBJECT_GRAPH)
    if stored.dtype is not STRING or stored.size != 1:
        raise MalformedError(f"tensor '{OBJECT_GRAPH}' is no single string", source=checkpoint.path)
    keys = variable_keys(objects, read_checkpoint_objects(stored.numpy().item()))
    return {name: keys[place] for name, place in places.items() if place in keys}


def captured_variables(model: Model, objects: ObjectGraph) -> dict[str, int]:
    """Variable of the main graph -> its object, known from the calls of functions that capture it."""
    tracer = Tracer(model)
    found: dict[str, int] = {}
    for node in model.graph:
        for name in _called(node):
            captures = objects.captures.get(name, ())
            operands = node.inputs[len(node.inputs) - len(captures) :] if captures else ()
            for value, place in zip(operands, captures, strict=False):
                if value is not None and objects.objects[place].variable is not None:
                    for variable in tracer.variables(value):
                        found[variable] = place
    return found


def initialised(model: Model, initialisers: Iterable[Node]) -> None:
    """Let what `initialisers` assign to a variable be its value: they run after the checkpoint is restored."""
    tracer = Tracer(model)
    for graph in _Nodes(reachable(initialisers)).with_bodies(model):
        for node in graph:
            if node.op not in ASSIGNS or len(node.inputs) < 2 or node.inputs[0] is None:
                continue
            for name in tracer.variables(node.inputs[0]):
                variable = model.variables.get(name)
                if variable is not None:
                    variable.value = known_tensor(node.inputs[1])
                    variable.checkpoint_key = variable.checkpoint_slice = ""
