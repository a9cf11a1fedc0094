"""NodeDefs into nodes: the loop that loading a graph spends its time in.

What follows a node's inputs (device and attributes) is the same, byte for byte, for most nodes of a graph. It is
decoded once into a `Template`; from then on a node costs a few dictionary look-ups. Whatever the quick path does
not expect goes through `NodeReader.parse`, which accepts fields in any order and says what is wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import MalformedError
from graphopt.ir.formats import wire
from graphopt.ir.formats.attr_value import AttributeReader, is_shareable
from graphopt.ir.formats.op_layout import Layout, layout_of
from graphopt.ir.formats.opaque import check_node_fields
from graphopt.ir.model import function_references
from graphopt.ir.ops.interfaces import Interface, interface
from graphopt.ir.tensors import Mapping, Tensor
from graphopt.ir.types import UNKNOWN_TYPE, TensorType
from graphopt.ir.value import Node, Value

Callee = tuple[str, bool]  # name of a function, and whether it is its gradient that runs
_FIELDS = {
    1: "name",
    2: "op",
    3: "input",
    4: "device",
    5: "attr",
    6: "experimental_debug_info",
    7: "experimental_type",
}
TEMPLATE_BYTES = 1024  # bytes after the inputs up to which they are remembered
TEMPLATE_COUNT = 1 << 13  # templates that are remembered at a time
QUICK_BYTES = 4096  # nodes up to this size take the quick path
OUTPUT_LIMIT = 1 << 16  # outputs of one node beyond which an index is taken for nonsense
OUTPUT_ITEMS = 8  # what an output beyond the first counts for in the budget of a file: half a kilobyte of memory


class NodeExtras(NamedTuple):
    """What writing a node back needs: fields nobody else reads, and the names of outputs that no table knows.

    `raw` are whole fields of the NodeDef. `ports` has `name:place` for each output that a function body refers to.
    """

    raw: bytes = b""
    ports: tuple[str, ...] = ()


class Template:
    """What nodes have in common: operator, device, attributes, types of the outputs."""

    __slots__ = ("attrs", "callees", "device", "extras", "layout", "op", "type", "types")

    def __init__(self, op: str, device: str, attrs: dict[str, Any], layout: Layout, extras: NodeExtras | None):
        self.op, self.device, self.attrs, self.extras = op, device, attrs, extras
        self.layout, self.types = layout, layout.types
        self.type: TensorType | None = layout.types[0] if len(layout.types) == 1 else None
        self.callees = _callees(op.removeprefix("tf."), attrs)


class NodeReader:
    """Reads the NodeDefs of one mapped file, in the main graph and in function bodies."""

    def __init__(self, mapping: Mapping):
        self.mapping, self.buffer = mapping, mapping.buffer
        self.attributes = AttributeReader(mapping)
        self.budget = self.attributes.budget
        self.library: dict[str, Interface] = {}  # functions that nodes may call as if they were operators
        self.templates: dict[bytes, dict[bytes, Template]] = {}
        self.callees: dict[Callee, None] = {}  # what the nodes made since the last reset refer to
        self._count = 0
        self._debug: dict[bytes, None] = {}

    def read(self, start: int, stop: int) -> tuple[str, list[str], Template]:
        """Name, inputs and template of the NodeDef between `start` and `stop`."""
        size = stop - start
        if not 4 < size <= QUICK_BYTES:
            return self.parse(start, stop)
        raw = self.buffer[start:stop]
        try:
            # The canonical order is name (0A), operator (12), inputs (1A), then the rest; lengths take a byte or two.
            length, place = raw[1], 2
            if length > 0x7F:
                length, place = length & 0x7F | raw[2] << 7, 3
            end = place + length
            name = raw[place:end].decode()
            begin = end + 2
            end = begin + raw[end + 1]
            if raw[0] != 0x0A or raw[begin - 2] != 0x12 or raw[begin - 1] > 0x7F or name[0] == "^" or ":" in name:
                return self.parse(start, stop)
            op = raw[begin:end]
            inputs = []
            while end < size and raw[end] == 0x1A:
                length, place = raw[end + 1], end + 2
                if length > 0x7F:
                    length, place = length & 0x7F | raw[end + 2] << 7, end + 3
                end = place + length
                inputs.append(raw[place:end].decode())
            tail = raw[end:]
            found = self.templates.get(op)
            template = None if found is None else found.get(tail)
            if end > size or not op:
                return self.parse(start, stop)
            if template is None:
                template = self.remembered(op, start + end, stop, tail)
        except (IndexError, UnicodeDecodeError, MalformedError):
            return self.parse(start, stop)  # which says what is wrong
        return name, inputs, template

    def parse(self, start: int, stop: int) -> tuple[str, list[str], Template]:
        """`read` for fields in any order. Raises `MalformedError` where the node contradicts itself."""
        name = op = None
        inputs: list[str] = []
        try:
            for tag, value, end in wire.fields(self.buffer, start, stop):
                if tag == 0x1A:
                    inputs.append(wire.text(self.buffer, value, end, "input"))
                elif tag == 0x0A and name is None:
                    name = wire.text(self.buffer, value, end, "name")
                elif tag == 0x12 and op is None:
                    op = wire.text(self.buffer, value, end, "op")
                elif tag in (0x0A, 0x12):
                    raise MalformedError("is given twice", field=_FIELDS[tag >> 3], offset=start)
            name = check_name(name, start)
            if not op:
                raise MalformedError("a node has no operator", field="op", offset=start)
            return name, inputs, self.template(op, start, stop)
        except MalformedError as error:
            raise located(error, name or "") from None

    def template(self, op: str, start: int, stop: int, is_tail: bool = False) -> Template:
        """A new template from the fields between `start` and `stop`, passing over name, operator and inputs.

        With `is_tail` there must be none of these. Raises `MalformedError`.
        """
        buffer, entry = self.buffer, self.attributes.entry
        attrs: dict[str, Any] = {}
        device: str | None = None
        raw: list[bytes] = []
        previous = start
        for tag, value, end in wire.fields(buffer, start, stop):
            if tag == 0x2A:
                key, item = entry(value, end)
                if key in attrs:
                    raise MalformedError("is given twice", field=f"attr['{key}']", offset=value)
                attrs[key] = item
            elif tag == 0x22 and device is None:
                device = wire.text(buffer, value, end, "device")
            elif tag == 0x32 or tag == 0x3A or tag >> 3 not in _FIELDS:
                self.budget.take(1)
                raw.append(bytes(buffer[previous:end]))
            elif is_tail or tag not in (0x0A, 0x12, 0x1A):
                wire.unexpected(tag, _FIELDS if tag != 0x22 else {}, value)
                raise MalformedError("is given twice", field="device", offset=value)
            previous = end
        layout = layout_of(op, attrs, self.budget.left // OUTPUT_ITEMS, self.library)
        extras = NodeExtras(self._checked(raw)) if raw else None
        return Template("tf." + op, device or "", attrs, layout, extras)

    def remembered(self, op: bytes, start: int, stop: int, tail: bytes) -> Template:
        """`template`, kept for later nodes with the same operator and the same bytes after the inputs."""
        template = self.template(op.decode(), start, stop, is_tail=True)
        is_plain = template.extras is None and all(is_shareable(value) for value in template.attrs.values())
        if is_plain and len(tail) <= TEMPLATE_BYTES:
            if self._count >= TEMPLATE_COUNT:
                self.templates.clear()
                self._count = 0
            self.templates.setdefault(op, {})[tail] = template
            self._count += 1
        return template

    def node(self, name: str, template: Template) -> Node:
        """A new node with its outputs, in no graph yet."""
        node = Node(template.op, name, template.attrs.copy(), template.device)
        if template.type is not None:
            node.outputs = [Value(node, 0, template.type)]
        elif template.types:
            self.budget.take(OUTPUT_ITEMS * (len(template.types) - 1))
            node.outputs = [Value(node, index, type) for index, type in enumerate(template.types)]
        if template.op == "tf.Const":
            held = template.attrs.get("value")
            if isinstance(held, Tensor):
                node.outputs[0].type = self.attributes.tensors.type_of(held)
        node.extras = template.extras
        if template.callees:
            self.callees.update(dict.fromkeys(template.callees))
        return node

    def grow(self, node: Node, index: int) -> Value:
        """Output `index` of a node whose outputs are not known, made if it is not there yet."""
        missing = index + 1 - len(node.outputs)
        if index >= OUTPUT_LIMIT:
            raise MalformedError(f"reads output {index} of '{node.name}': no operator has so many", field="input")
        self.budget.take(OUTPUT_ITEMS * missing)
        for _ in range(missing):
            node.add_output(UNKNOWN_TYPE)
        return node.outputs[index]

    def _checked(self, raw: list[bytes]) -> bytes:
        fields = b"".join(raw)
        if fields not in self._debug:
            try:
                check_node_fields(fields)
            except MalformedError as error:  # its offset is within the fields
                raise MalformedError(error.reason, field=error.field) from None
            if len(self._debug) >= TEMPLATE_COUNT:
                self._debug.clear()
            self._debug[fields] = None
        return fields


def check_name(name: str | None, offset: int) -> str:
    """`name`. Raises `MalformedError` for a name that would make references ambiguous."""
    if not name:
        raise MalformedError("a node has no name", field="name", offset=offset)
    if name[0] == "^" or ":" in name:
        raise MalformedError(
            "a node's name cannot begin with '^' or contain ':'", node=name, field="name", offset=offset
        )
    return name


def located(error: MalformedError, node: str) -> MalformedError:
    """The same error with the node named, if it was not yet."""
    if error.node:
        return error
    return type(error)(error.reason, source=error.source, node=node, field=error.field, offset=error.offset)


def _callees(op: str, attrs: dict[str, Any]) -> tuple[Callee, ...]:
    """Functions that a node may run: those its attributes refer to, and `op` itself if no table knows it."""
    names: dict[Callee, None] = {} if interface(op) is not None else {(op, False): None}
    for value in attrs.values():
        if type(value) is FunctionRef or (type(value) is tuple and value and type(value[0]) is FunctionRef):
            for reference in function_references(value):
                names[reference.name, False] = None
                if op == "SymbolicGradient":
                    names[reference.name, True] = None
    return tuple(names)
