"""SavedObjectGraph, as SavedModels of the second version have it, and TrackableObjectGraph, as checkpoints do.

Decoded as far as it takes to know which objects are variables, which functions capture them and under which key
of the checkpoint they stand. Everything is written back as the bytes it came in.
"""

from __future__ import annotations

from typing import NamedTuple

from graphopt.ir.errors import MalformedError
from graphopt.ir.formats import wire
from graphopt.ir.formats.bundle_proto import known_dtype
from graphopt.ir.formats.shape_proto import read_shape
from graphopt.ir.types import UNKNOWN_DTYPE, UNKNOWN_SHAPE, DType, Shape

_KINDS = {
    4: "user_object",
    5: "asset",
    6: "function",
    7: "variable",
    8: "bare_concrete_function",
    9: "constant",
    10: "resource",
    12: "captured_tensor",
}
VALUE = "VARIABLE_VALUE"  # attribute of an object in a checkpoint that holds a variable


class SavedVariable(NamedTuple):
    """What the object graph says about a variable."""

    name: str = ""
    dtype: DType = UNKNOWN_DTYPE
    shape: Shape = UNKNOWN_SHAPE
    trainable: bool = False


class SavedObject(NamedTuple):
    """One object: what kind it is, its named children, and what its kind needs.

    `operation` is the node of the main graph that a constant stands for, `functions` are the concrete functions that
    a function has, `asset` is which of the MetaGraph's assets it is.
    """

    kind: str
    children: tuple[tuple[str, int], ...] = ()
    variable: SavedVariable | None = None
    operation: str = ""
    functions: tuple[str, ...] = ()
    asset: int = 0


class ObjectGraph(NamedTuple):
    """Objects, the first of which is the root, and what each concrete function captures, as places of objects."""

    objects: tuple[SavedObject, ...]
    captures: dict[str, tuple[int, ...]]


class CheckpointObject(NamedTuple):
    """An object of a checkpoint: named children, and attribute -> key of the tensor."""

    children: tuple[tuple[str, int], ...]
    attributes: dict[str, str]


def read_object_graph(raw: bytes) -> ObjectGraph:
    """A SavedObjectGraph. Raises `MalformedError`."""
    objects: list[SavedObject] = []
    captures: dict[str, tuple[int, ...]] = {}
    for tag, value, stop in wire.fields(raw, 0, len(raw)):
        if tag == 0x0A:
            objects.append(_saved_object(raw, value, stop))
        elif tag == 0x12:
            name, bound = _concrete_function(raw, value, stop)
            captures[name] = bound
    count = len(objects)
    for item in objects:
        _check_places([place for _, place in item.children], count)
    for bound in captures.values():
        _check_places(bound, count)
    return ObjectGraph(tuple(objects), captures)


def _check_places(places: tuple[int, ...] | list[int], count: int) -> None:
    for place in places:
        if not 0 <= place < count:
            raise MalformedError(f"refers to object {place} of {count}", field="object_graph_def")


def _saved_object(raw: bytes, start: int, end: int) -> SavedObject:
    kind, children, variable, operation = "", [], None, ""
    functions, asset = list[str](), 0
    for tag, value, stop in wire.fields(raw, start, end):
        if tag == 0x0A:
            children.append(_reference(raw, value, stop))
        elif tag >> 3 in _KINDS:
            wire.unexpected(tag, {} if tag & 7 == wire.BYTES else _KINDS, value)
            kind = _KINDS[tag >> 3]
            if kind == "variable":
                variable = _saved_variable(raw, value, stop)
            elif kind == "constant":
                operation = _text_field(raw, value, stop, 0x0A)
            elif kind == "function":
                functions = [
                    wire.text(raw, first, last, "concrete_functions")
                    for inner, first, last in wire.fields(raw, value, stop)
                    if inner == 0x0A
                ]
            elif kind == "asset":
                asset = next((number for inner, number, _ in wire.fields(raw, value, stop) if inner == 0x08), 0)
    return SavedObject(kind, tuple(children), variable, operation, tuple(functions), asset)


def _reference(raw: bytes, start: int, end: int) -> tuple[str, int]:
    name, place = "", 0
    for tag, value, stop in wire.fields(raw, start, end):
        if tag == 0x08:
            place = wire.signed32(value)
        elif tag == 0x12:
            name = wire.text(raw, value, stop, "local_name")
    return name, place


def _saved_variable(raw: bytes, start: int, end: int) -> SavedVariable:
    found = SavedVariable()
    for tag, value, stop in wire.fields(raw, start, end):
        if tag == 0x08:
            found = found._replace(dtype=known_dtype(value))
        elif tag == 0x12:
            found = found._replace(shape=read_shape(raw, value, stop))
        elif tag == 0x18:
            found = found._replace(trainable=bool(value))
        elif tag == 0x32:
            found = found._replace(name=wire.text(raw, value, stop, "name"))
    return found


def _text_field(raw: bytes, start: int, end: int, wanted: int) -> str:
    for tag, value, stop in wire.fields(raw, start, end):
        if tag == wanted:
            return wire.text(raw, value, stop)
    return ""


def _concrete_function(raw: bytes, start: int, end: int) -> tuple[str, tuple[int, ...]]:
    name, bound = "", list[int]()
    for tag, value, stop in wire.fields(raw, start, end):
        if tag == 0x0A:
            name = wire.text(raw, value, stop, "concrete_functions")
        elif tag == 0x12:
            for inner, first, last in wire.fields(raw, value, stop):
                if inner == 0x10:
                    bound.append(wire.signed32(first))
                elif inner == 0x12:
                    while first < last:
                        number, first = wire.read_varint(raw, first, last)
                        bound.append(wire.signed32(number))
    return name, tuple(bound)


def read_checkpoint_objects(raw: bytes) -> tuple[CheckpointObject, ...]:
    """A TrackableObjectGraph. Raises `MalformedError`."""
    objects = []
    for tag, start, end in wire.fields(raw, 0, len(raw)):
        if tag != 0x0A:
            continue
        children, attributes = [], {}
        for inner, value, stop in wire.fields(raw, start, end):
            if inner == 0x0A:
                children.append(_reference(raw, value, stop))
            elif inner == 0x12:
                attributes[_text_field(raw, value, stop, 0x0A)] = _text_field(raw, value, stop, 0x1A)
        objects.append(CheckpointObject(tuple(children), attributes))
    for item in objects:
        _check_places([place for _, place in item.children], len(objects))
    return tuple(objects)


def variable_keys(saved: ObjectGraph, stored: tuple[CheckpointObject, ...]) -> dict[int, str]:
    """Place of each variable of `saved` -> key in the checkpoint, found along paths that both graphs have."""
    keys: dict[int, str] = {}
    if not saved.objects or not stored:
        return keys
    reached = {0: 0}
    pending = [0]
    while pending:
        place = pending.pop()
        item, other = saved.objects[place], stored[reached[place]]
        if item.variable is not None and VALUE in other.attributes:
            keys[place] = other.attributes[VALUE]
        named = dict(other.children)
        for name, child in item.children:
            if child not in reached and name in named:
                reached[child] = named[name]
                pending.append(child)
    return keys
