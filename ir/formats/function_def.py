"""The function library: FunctionDefs into `Function` graphs.

Arguments become `tf._Arg` nodes named like them, which is also what TensorFlow makes of them when it instantiates
a function; attributes of an argument become attributes of its node. A list argument of a generic function, whose
length only an instantiation says, is one node with as many outputs as the body reads.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from graphopt.ir.attributes import AttributePlaceholder
from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.attr_value import read_dtype
from graphopt.ir.formats.graph_wiring import BodyWiring
from graphopt.ir.formats.node_def import NodeReader, check_name
from graphopt.ir.model import ARGUMENT, Function
from graphopt.ir.ops.interfaces import Argument, Interface, interface
from graphopt.ir.types import UNKNOWN_DTYPE, UNKNOWN_TYPE, DType, unshaped
from graphopt.ir.value import Node, Value

METADATA = "graphdef"  # key of `Function.metadata` and `Model.metadata`
_VALUE_DEPTH = 6  # GraphDef, library, FunctionDef, NodeDef, map entry, AttrValue
_FIELDS = {
    1: "signature",
    3: "node_def",
    4: "ret",
    5: "attr",
    6: "control_ret",
    7: "arg_attr",
    8: "resource_arg_unique_id",
}
_SIGNATURE_FIELDS = {1: "name", 2: "input_arg", 3: "output_arg", 4: "attr", 20: "control_output"}
_ARGUMENT_FIELDS = {1: "name", 3: "type", 4: "type_attr", 5: "number_attr", 6: "type_list_attr", 16: "is_ref"}
FUNCTION_ITEMS = 16  # what a function counts for in the budget of a file
RESOURCE_ID = "_resource_arg_unique_id"


class ArgumentExtras(NamedTuple):
    """What an ArgDef says beyond name and type; `raw` are whole fields. Of an `_Arg` node or an output."""

    dtype: DType = UNKNOWN_DTYPE
    type_attr: str = ""
    number_attr: str = ""
    list_attr: str = ""
    is_ref: bool = False
    raw: bytes = b""
    has_attrs: bool = False

    @property
    def is_list(self) -> bool:
        """Stands for several tensors."""
        return bool(self.number_attr or self.list_attr)


class FunctionExtras(NamedTuple):
    """What a FunctionDef holds beyond a graph: whole fields of its signature and of itself, and its outputs' ArgDefs.

    `unlisted` names control outputs that the signature does not list.
    """

    signature: bytes = b""
    raw: bytes = b""
    outputs: tuple[tuple[str, ArgumentExtras], ...] = ()
    unlisted: frozenset[str] = frozenset()


class SignatureDef(NamedTuple):
    """An OpDef, as far as a function needs it."""

    name: str
    inputs: dict[str, ArgumentExtras]
    outputs: dict[str, ArgumentExtras]
    control_outputs: dict[str, None]
    raw: bytes
    interface: Interface


class FunctionReader:
    """Reads the functions of one mapped GraphDef: every signature first, then the bodies."""

    def __init__(self, reader: NodeReader):
        self.reader, self.buffer = reader, reader.buffer
        self.signatures: list[tuple[SignatureDef, int, int]] = []

    def read_signature(self, start: int, stop: int) -> None:
        """Find the signature of the FunctionDef between `start` and `stop`, and make it known to callers."""
        span: tuple[int, int] | None = None
        for tag, value, end in wire.fields(self.buffer, start, stop):
            if tag == 0x0A:
                if span is not None:
                    raise MalformedError("is given twice", field="signature", offset=value)
                span = (value, end)
        if span is None:
            raise MalformedError("a function has no signature", field="signature", offset=start)
        signature = self._signature(*span)
        self.reader.budget.take(FUNCTION_ITEMS)
        if interface(signature.name) is not None:
            raise MalformedError(
                f"function '{printable(signature.name)}' has the name of an operator", field="library", offset=start
            )
        if signature.name in self.reader.library:
            raise MalformedError(f"the library has two functions '{printable(signature.name)}'", offset=start)
        self.reader.library[signature.name] = signature.interface
        self.signatures.append((signature, start, stop))

    def _signature(self, start: int, stop: int) -> SignatureDef:
        name = ""
        arguments: dict[int, dict[str, ArgumentExtras]] = {2: {}, 3: {}}
        controls: dict[str, None] = {}
        raw: list[bytes] = []
        kinds: dict[str, str] = {}
        defaults: dict[str, Any] = {}
        previous = start
        for tag, value, end in wire.fields(self.buffer, start, stop):
            if tag == 0x0A and not name:
                name = wire.text(self.buffer, value, end, "signature.name")
            elif tag in (0x12, 0x1A):
                argument, extras = self._argument(value, end)
                if argument in arguments[tag >> 3]:
                    raise MalformedError(f"function '{printable(name)}' has two arguments '{printable(argument)}'")
                arguments[tag >> 3][argument] = extras
            elif tag == 0xA2:
                controls[wire.text(self.buffer, value, end, "control_output")] = None
            elif tag == 0x22:
                attr, kind, default = self._attribute(value, end)
                kinds[attr] = kind
                if default is not None:
                    defaults[attr] = default
                raw.append(self._kept(previous, end))
            elif tag == 0x0A:
                raise MalformedError("is given twice", field="signature.name", offset=value)
            else:
                wire.unexpected(tag, _SIGNATURE_FIELDS, previous)
                raw.append(self._kept(previous, end))
            previous = end
        if not name:
            raise MalformedError("a function has no name", field="signature.name", offset=start)
        inputs, outputs = (
            tuple(_declared(argument, extras) for argument, extras in arguments[number].items()) for number in (2, 3)
        )
        declared = Interface(name, inputs, outputs, kinds, defaults, True, False)
        return SignatureDef(name, arguments[2], arguments[3], controls, b"".join(raw), declared)

    def _argument(self, start: int, stop: int) -> tuple[str, ArgumentExtras]:
        texts: dict[int, str] = {}
        dtype, is_ref = UNKNOWN_DTYPE, False
        raw: list[bytes] = []
        previous = start
        seen: set[int] = set()
        for tag, value, end in wire.fields(self.buffer, start, stop):
            number = tag >> 3
            if number in seen and number in _ARGUMENT_FIELDS:
                raise MalformedError("is given twice", field=_ARGUMENT_FIELDS[number], offset=previous)
            seen.add(number)
            if tag in (0x0A, 0x22, 0x2A, 0x32):
                texts[number] = wire.text(self.buffer, value, end, _ARGUMENT_FIELDS[number])
            elif tag == 0x18:
                dtype = read_dtype(value, previous)
            elif tag == 0x80:
                is_ref = value != 0
            else:
                wire.unexpected(tag, _ARGUMENT_FIELDS, previous)
                raw.append(self._kept(previous, end))
            previous = end
        name = check_name(texts.get(1), start)
        attrs = (texts.get(4, ""), texts.get(5, ""), texts.get(6, ""))
        return name, ArgumentExtras(dtype, *attrs, is_ref, b"".join(raw))

    def _kept(self, start: int, stop: int) -> bytes:
        self.reader.budget.take(1)
        return bytes(self.buffer[start:stop])

    def _attribute(self, start: int, stop: int) -> tuple[str, str, Any]:
        name = kind = ""
        default = None
        for tag, value, end in wire.fields(self.buffer, start, stop):
            if tag == 0x0A:
                name = wire.text(self.buffer, value, end, "attr.name")
            elif tag == 0x12:
                kind = wire.text(self.buffer, value, end, "attr.type")
            elif tag == 0x1A:
                default = self.reader.attributes.value(value, end, _VALUE_DEPTH)
        return name, kind, default

    # Bodies ---------------------------------------------------------------------------------------------------

    def read_bodies(self, unwanted: Collection[str] = ()) -> list[Function]:
        """All functions, in the order of the library, but those `unwanted` that no other calls."""
        found = {item[0].name: self._located(*item) for item in self.signatures if item[0].name not in unwanted}
        if not unwanted:
            return list(found.values())
        called = {name for function in found.values() for name, _ in function.metadata["callees"]}
        if called.isdisjoint(unwanted):
            return list(found.values())
        return [found.get(item[0].name) or self._located(*item) for item in self.signatures]

    def _located(self, signature: SignatureDef, start: int, stop: int) -> Function:
        try:
            return self._function(signature, start, stop)
        except MalformedError as error:
            reason = f"in function '{printable(signature.name, 80)}': {error.reason}"
            raise type(error)(
                reason, source=error.source, node=error.node, field=error.field, offset=error.offset
            ) from None

    def _function(self, signature: SignatureDef, start: int, stop: int) -> Function:
        reader, buffer = self.reader, self.buffer
        reader.callees = {}
        function = Function(signature.name)
        self._add_arguments(function, signature)
        wiring = BodyWiring(reader, function)
        rets: dict[str, str] = {}
        controls: dict[str, str] = {}
        raw: list[bytes] = []
        previous = start
        arguments = [value.node for value in function.inputs]
        for tag, value, end in wire.fields(buffer, start, stop):
            if tag == 0x1A:
                wiring.add_node(value, end)
            elif tag == 0x22:
                _put(rets, *self.text_entry(value, end, "ret"), "ret", value)
            elif tag == 0x32:
                _put(controls, *self.text_entry(value, end, "control_ret"), "control_ret", value)
            elif tag == 0x2A:
                _put(function.attrs, *reader.attributes.entry(value, end, _VALUE_DEPTH - 1), "attr", value)
            elif tag == 0x3A:
                self._argument_attributes(arguments, value, end)
            elif tag == 0x42:
                self._resource_id(arguments, value, end)
            elif tag != 0x0A:
                wire.unexpected(tag, _FIELDS, previous)
                raw.append(self._kept(previous, end))
            previous = end
        wiring.finish()
        self._set_outputs(function, signature, wiring, rets)
        wiring.name_ports()
        self._set_controls(function, signature, controls)
        unlisted = frozenset(name for name in controls if name not in signature.control_outputs)
        function.metadata[METADATA] = FunctionExtras(
            signature.raw, b"".join(raw), tuple(signature.outputs.items()), unlisted
        )
        function.metadata["callees"] = tuple(reader.callees)
        return function

    def _add_arguments(self, function: Function, signature: SignatureDef) -> None:
        inputs = []
        for index, (name, extras) in enumerate(signature.inputs.items()):
            attrs: dict[str, Any] = {"index": index}
            type = UNKNOWN_TYPE
            if extras.type_attr:
                attrs["T"] = AttributePlaceholder(extras.type_attr)
            elif not extras.list_attr:
                attrs["T"] = extras.dtype
                type = unshaped(extras.dtype)
            node = Node(ARGUMENT, name, attrs)
            node.extras = extras
            inputs.append(node.add_output(type))
            function.append_new(node)
        function.inputs = inputs
        function.input_names = list(signature.inputs)

    def _set_outputs(
        self, function: Function, signature: SignatureDef, wiring: BodyWiring, rets: dict[str, str]
    ) -> None:
        outputs: list[Value] = []
        for name, extras in signature.outputs.items():
            text = rets.pop(name, None)
            values = wiring.find(text) if text else None
            if values is None or (len(values) != 1 and not extras.is_list):
                raise MalformedError(f"output '{printable(name)}' is not computed by the body", field="ret")
            outputs += values
            function.output_names += [name] * len(values)
        if rets:
            raise MalformedError(f"'{printable(next(iter(rets)))}' is no output of the signature", field="ret")
        function.outputs = outputs

    def _set_controls(self, function: Function, signature: SignatureDef, controls: dict[str, str]) -> None:
        for name in dict.fromkeys((*signature.control_outputs, *controls)):
            node = function.find(controls.get(name, ""))
            if node is None:
                raise MalformedError(f"control output '{printable(name)}' names no node", field="control_ret")
            function.control_outputs[name] = node
        function.targets = function.control_outputs.values()

    def text_entry(self, start: int, stop: int, field: str) -> tuple[str, str]:
        pair: dict[int, str] = {}
        for tag, value, end in wire.fields(self.buffer, start, stop):
            if tag not in (0x0A, 0x12) or tag in pair:
                raise MalformedError("is no map of strings", field=field, offset=start)
            pair[tag] = wire.text(self.buffer, value, end, field)
        return pair.get(0x0A, ""), pair.get(0x12, "")

    def _argument_attributes(self, arguments: list[Node], start: int, stop: int) -> None:
        index = 0
        span = (stop, stop)
        for tag, value, end in wire.fields(self.buffer, start, stop):
            if tag == 0x08:
                index = value
            elif tag == 0x12:
                span = (value, end)
            else:
                raise MalformedError("is no map", field="arg_attr", offset=start)
        if index >= len(arguments):
            raise MalformedError(f"there is no argument {index}", field="arg_attr", offset=start)
        node = arguments[index]
        if node.extras.has_attrs:
            raise MalformedError(f"argument {index} is given twice", field="arg_attr", offset=start)
        node.extras = node.extras._replace(has_attrs=True)
        for tag, value, end in wire.fields(self.buffer, *span):
            if tag != 0x0A:
                raise MalformedError(f"has no field {tag >> 3}", field="arg_attr", offset=value)
            _put(node.attrs, *self.reader.attributes.entry(value, end, _VALUE_DEPTH + 1), "arg_attr", value)

    def _resource_id(self, arguments: list[Node], start: int, stop: int) -> None:
        numbers = [0, 0]
        for tag, value, _ in wire.fields(self.buffer, start, stop):
            if tag not in (0x08, 0x10):
                raise MalformedError("is no map of numbers", field="resource_arg_unique_id", offset=start)
            numbers[(tag >> 3) - 1] = value & 0xFFFFFFFF
        if numbers[0] >= len(arguments):
            raise MalformedError(f"there is no argument {numbers[0]}", field="resource_arg_unique_id", offset=start)
        _put(arguments[numbers[0]].attrs, RESOURCE_ID, numbers[1], "resource_arg_unique_id", start)


def _declared(name: str, extras: ArgumentExtras) -> Argument:
    dtype = None if extras.type_attr or extras.list_attr else extras.dtype
    return Argument(name, extras.type_attr, dtype, extras.number_attr, extras.list_attr, extras.is_ref)


def _put(target: dict[str, Any], key: str, value: Any, field: str, offset: int) -> None:
    if key in target:
        raise MalformedError(f"'{printable(key)}' is given twice", field=field, offset=offset)
    target[key] = value


def refuse_call_cycles(functions: dict[str, Function]) -> None:
    """Raise `MalformedError` naming functions that call themselves, directly or through others. Linear, iterative."""
    calls: dict[str, list[str]] = {}
    for name, function in functions.items():
        called: dict[str, None] = {}
        for callee, is_gradient in function.metadata.pop("callees", ()):
            target = functions.get(callee)
            gradient = target.gradient if is_gradient and target is not None else None
            for reached in (callee, gradient):
                if reached is not None and reached in functions:
                    called[reached] = None
        calls[name] = list(called)
    done: set[str] = set()
    for root in functions:
        path: dict[str, int] = {}
        stack = [root] if root not in done else []
        while stack:
            name = stack[-1]
            if name in done or not calls[name]:
                path.pop(name, None)
                done.add(name)
                stack.pop()
                continue
            path.setdefault(name, len(path))
            callee = calls[name].pop()
            if callee in path:
                cycle = [*list(path)[path[callee] :], callee]
                names = " -> ".join(f"'{printable(item, 80)}'" for item in (*cycle[:8], *cycle[8:][-1:]))
                raise MalformedError(f"functions call themselves: {names}", field="library")
            if callee not in done:
                stack.append(callee)
