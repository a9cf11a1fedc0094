"""SavedObjectGraphs changed: functions that are gone left out, signatures and variables put in.

Objects keep their places, which everything refers to; one that is gone becomes an empty object that nothing names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from graphopt.ir.formats import wire
from graphopt.ir.formats.graphdef_reader import field_bytes
from graphopt.ir.formats.metagraph_proto import encode_entry
from graphopt.ir.formats.object_graph import VALUE, CheckpointObject, ObjectGraph
from graphopt.ir.formats.shape_proto import encode_shape
from graphopt.ir.model import Variable
from graphopt.ir.types import DType, Shape

_VERSION = wire.tagged(2, wire.tagged_number(1, 1) + wire.tagged_number(2, 1))
SIGNATURES, SIGNATURE_MAP, CREATOR = "signatures", "signature_map", "_create_resource"
_CHILDREN, _DEPENDENCIES, _SLOTS, _SAVERS = 0x0A, 0x7A, 0x1A, 0x5A
_FUNCTION, _VARIABLE, _BARE, _CONSTANT, _ASSET, _CAPTURED = 0x32, 0x3A, 0x42, 0x4A, 0x2A, 0x62


class Spec(NamedTuple):
    """One tensor that a function takes or gives."""

    name: str
    dtype: DType
    shape: Shape


class ObjectGraphEditor:
    """One SavedObjectGraph, taken apart: the bytes of each object and of each concrete function."""

    def __init__(self, raw: bytes, decoded: ObjectGraph):
        self.decoded = decoded
        self.nodes: list[bytes] = []
        self.functions: dict[str, bytes] = {}
        self._rest: list[bytes] = []
        for tag, value, stop in wire.fields(raw, 0, len(raw)):
            if tag == _CHILDREN:
                self.nodes.append(raw[value:stop])
            elif tag == 0x12:
                pair = {inner: raw[first:last] for inner, first, last in wire.fields(raw, value, stop)}
                self.functions[pair.get(0x0A, b"").decode()] = pair.get(0x12, b"")
            else:
                self._rest.append(field_bytes(raw, tag, value, stop))
        self._before = list(self.nodes), dict(self.functions)
        self.gone: dict[int, None] = {}

    # What is gone ---------------------------------------------------------------------------------------------

    def keep(self, functions: Iterable[str], is_gone: Callable[[int], bool]) -> None:
        """Leave out all concrete functions but `functions`, objects for which `is_gone` holds, and what needs either.

        A function needs what it captures, a table the function that creates it.
        """
        kept = dict.fromkeys(name for name in functions if name in self.functions)
        self.gone = {place: None for place in range(len(self.nodes)) if is_gone(place)}
        while True:
            lost = [name for name in kept if any(place in self.gone for place in self.decoded.captures.get(name, ()))]
            for name in lost:
                del kept[name]
            found = [p for p in range(len(self.nodes)) if p not in self.gone and self._is_gone(p, kept)]
            self.gone.update(dict.fromkeys(found))
            if not lost and not found:
                break
        self.functions = {name: raw for name, raw in self.functions.items() if name in kept}
        self.nodes = [self._without(place, raw) for place, raw in enumerate(self.nodes)]

    def _is_gone(self, place: int, kept: Mapping[str, None]) -> bool:
        kind, raw = self.decoded.objects[place].kind, self.nodes[place]
        if kind == "function":
            names = self.decoded.objects[place].functions
            return bool(names) and not any(name in kept for name in names)
        if kind == "bare_concrete_function":
            return any(name not in kept for name in _texts(raw, _BARE, 0x0A))
        if kind == "captured_tensor":
            return any(name not in kept for name in _texts(raw, _CAPTURED, 0x12))
        if kind == "resource":
            return any(name == CREATOR and child in self.gone for name, child in self.decoded.objects[place].children)
        return False

    def _without(self, place: int, raw: bytes) -> bytes:
        """An object without what is gone."""
        if place in self.gone:
            return generic_object()
        pieces = []
        for tag, value, stop in wire.fields(raw, 0, len(raw)):
            if tag in (_CHILDREN, _DEPENDENCIES) and _number(raw[value:stop], 0x08) in self.gone:
                continue
            if tag == _SAVERS and self._saver_is_gone(raw[value:stop]):
                continue
            if tag == _FUNCTION:
                inner = raw[value:stop]
                held = b"".join(
                    field_bytes(inner, t, v, s)
                    for t, v, s in wire.fields(inner, 0, len(inner))
                    if t != 0x0A or inner[v:s].decode() in self.functions
                )
                pieces.append(wire.tagged(6, held))
                continue
            pieces.append(field_bytes(raw, tag, value, stop))
        return b"".join(pieces)

    def _saver_is_gone(self, entry: bytes) -> bool:
        for tag, value, stop in wire.fields(entry, 0, len(entry)):
            if tag == 0x12:
                inner = entry[value:stop]
                return any(_number(inner, field) in self.gone for field in (0x10, 0x18))
        return False

    def renumber_assets(self, places: Mapping[int, int]) -> None:
        """Let objects that stand for assets name them by their places of now."""
        for place, item in enumerate(self.decoded.objects):
            if item.kind == "asset" and place not in self.gone:
                raw = self.nodes[place]
                pieces = []
                for tag, value, stop in wire.fields(raw, 0, len(raw)):
                    if tag == _ASSET:
                        number = places[item.asset]
                        pieces.append(wire.tagged(5, wire.tagged_number(1, number)))
                    else:
                        pieces.append(field_bytes(raw, tag, value, stop))
                self.nodes[place] = b"".join(pieces)

    # What is new ----------------------------------------------------------------------------------------------

    def add(self, raw: bytes) -> int:
        """One more object; returns its place."""
        self.nodes.append(raw)
        return len(self.nodes) - 1

    def add_variable(self, variable: Variable) -> int:
        """An object for `variable`."""
        content = b"".join(
            (
                wire.tagged_number(1, variable.dtype.code),
                wire.tagged(2, encode_shape(variable.shape)),
                wire.tagged_number(3, int(variable.trainable)),
                wire.tagged_text(6, variable.name),
            )
        )
        return self.add(wire.tagged(7, content))

    def add_constant(self, operation: str) -> int:
        """An object for what the constant `operation` of the main graph holds."""
        return self.add(wire.tagged(9, wire.tagged_text(1, operation)))

    def add_function(
        self, name: str, captures: Iterable[int], inputs: Iterable[Spec], outputs: Iterable[Spec], old: str = ""
    ) -> None:
        """A concrete function that takes `inputs` by name. What `old` says of inputs and outputs holds, if given."""
        bound = b"".join(map(wire.varint, captures))
        stored = self._structures(old)
        if not stored:
            arguments = wire.tagged(52, wire.tagged(1, wire.tagged(52, b"")) + wire.tagged(1, _dictionary(inputs)))
            stored = wire.tagged(3, arguments) + wire.tagged(4, _dictionary(outputs))
        self.functions[name] = (wire.tagged(2, bound) if bound else b"") + stored

    def _structures(self, name: str) -> bytes:
        """How the arguments and results of a concrete function of the graph as it came in are nested."""
        raw = self._before[1].get(name, b"")
        fields = wire.fields(raw, 0, len(raw))
        return b"".join(field_bytes(raw, tag, value, stop) for tag, value, stop in fields if tag in (0x1A, 0x22))

    def set_signatures(self, signatures: Mapping[str, tuple[str, tuple[str, ...] | None]]) -> None:
        """Make exactly these the signatures: name -> (concrete function, names of its arguments; None: as before)."""
        children = []
        old = self._signature_children()
        for name, (function, arguments) in sorted(signatures.items()):
            place = old.get(name)
            if place is None or place in self.gone or _texts(self.nodes[place], _BARE, 0x0A) != [function]:
                place = self.add(wire.tagged(8, self._bare_function(place, function, arguments)))
            children.append(reference(name, place))
        content = b"".join(wire.tagged(1, child) for child in children) + user_object(SIGNATURE_MAP)
        root = dict(self.decoded.objects[0].children)
        if SIGNATURES in root:
            self.nodes[root[SIGNATURES]] = content
        else:
            self.add_child(0, SIGNATURES, self.add(content))

    def _bare_function(self, place: int | None, function: str, arguments: tuple[str, ...] | None) -> bytes:
        """A SavedBareConcreteFunction: that of the signature at `place`, or one with other arguments."""
        named = wire.tagged_text(1, function)
        raw = self._before[0][place] if place is not None and arguments is None else b""
        for tag, value, stop in wire.fields(raw, 0, len(raw)):
            if tag == _BARE:
                inner = wire.fields(raw, value, stop)
                return named + b"".join(field_bytes(raw, t, v, s) for t, v, s in inner if t != 0x0A)
        keywords = b"".join(wire.tagged(2, argument.encode()) for argument in arguments or ())
        return named + keywords + (wire.tagged_number(3, 1) if len(arguments or ()) == 1 else b"")

    def _signature_children(self) -> dict[str, int]:
        place = dict(self.decoded.objects[0].children).get(SIGNATURES)
        return dict(self.decoded.objects[place].children) if place is not None else {}

    def add_child(self, parent: int, name: str, place: int) -> None:
        """Let the object at `parent` name the one at `place`."""
        self.nodes[parent] += wire.tagged(1, reference(name, place))

    def encode(self) -> bytes:
        """The SavedObjectGraph."""
        nodes = [wire.tagged(1, raw) for raw in self.nodes]
        functions = [encode_entry(2, name, raw) for name, raw in sorted(self.functions.items())]
        return b"".join((*nodes, *functions, *self._rest))


def reference(name: str, place: int) -> bytes:
    """An ObjectReference."""
    return wire.tagged_number(1, place) + wire.tagged_text(2, name)


def user_object(identifier: str) -> bytes:
    """The field of an object that says of which revived kind it is."""
    return wire.tagged(4, wire.tagged_text(1, identifier) + _VERSION)


def generic_object(children: Mapping[str, int] | None = None) -> bytes:
    """An object that only names others."""
    named = (wire.tagged(1, reference(name, place)) for name, place in (children or {}).items())
    return b"".join(named) + user_object("_generic_user_object")


def with_variables(raw: bytes, stored: tuple[CheckpointObject, ...], name: str, variables: list[Variable]) -> bytes:
    """A TrackableObjectGraph whose root also names, as `name`, an object that names the `variables` by number."""
    first = len(stored) + 1
    pieces = []
    is_root = True
    for tag, value, stop in wire.fields(raw, 0, len(raw)):
        if tag == _CHILDREN and is_root:
            is_root = False
            pieces.append(wire.tagged(1, raw[value:stop] + wire.tagged(1, reference(name, len(stored)))))
        else:
            pieces.append(field_bytes(raw, tag, value, stop))
    named = (wire.tagged(1, reference(str(place), first + place)) for place in range(len(variables)))
    pieces.append(wire.tagged(1, b"".join(named)))
    for variable in variables:
        attribute = (
            wire.tagged_text(1, VALUE)
            + wire.tagged_text(2, variable.name)
            + wire.tagged_text(3, variable.checkpoint_key)
        )
        pieces.append(wire.tagged(1, wire.tagged(2, attribute) + wire.tagged(5, wire.tagged_number(1, 1))))
    return b"".join(pieces)


def _dictionary(specs: Iterable[Spec]) -> bytes:
    """A StructuredValue: a dictionary of TensorSpecs."""
    fields = []
    for spec in specs:
        content = wire.tagged_text(1, spec.name) + wire.tagged(2, encode_shape(spec.shape))
        fields.append(encode_entry(1, spec.name, wire.tagged(33, content + wire.tagged_number(3, spec.dtype.code))))
    return wire.tagged(53, b"".join(fields))


def _texts(raw: bytes, kind: int, field: int) -> list[str]:
    """The strings in `field` of the part `kind` of an object."""
    found = []
    for tag, value, stop in wire.fields(raw, 0, len(raw)):
        if tag == kind:
            found += [
                wire.text(raw, first, last) for inner, first, last in wire.fields(raw, value, stop) if inner == field
            ]
    return found


def _number(raw: bytes, field: int) -> int:
    for tag, value, _ in wire.fields(raw, 0, len(raw)):
        if tag == field:
            return wire.signed32(value)
    return 0
