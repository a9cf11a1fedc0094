"""Custom operators: a FlexBuffer map of the attributes says how, as tf.lite's converter writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from graphopt.ir.formats.tflite.element_types import NUMBERS
from graphopt.ir.ops import find
from graphopt.ir.ops.derive import derived_attributes
from graphopt.ir.types import DType
from graphopt.ir.value import Node

# Attributes that say something about the graph an operator of no table came from, not about the operator.
_HINTS = frozenset({"_output_shapes", "_class", "device"})


def described_attributes(node: Node) -> dict[str, Any]:
    """The attributes that make the operator what it is, defaults among them; all of an operator of no table."""
    operator = find(node.op)
    interface = operator.interface if operator is not None else None
    if interface is None:
        return {key: node.attrs[key] for key in sorted(node.attrs.keys() - _HINTS)}
    dtypes = [value.dtype for value in node.inputs if value is not None]
    complete = interface.with_defaults(derived_attributes(interface, dtypes, node.attrs))
    return {key: complete[key] for key in sorted(interface.attr_kinds) if key in complete}


def custom_options(attrs: Mapping[str, Any]) -> bytes:
    """A FlexBuffer map of `attrs`, laid out in their order; what it has no form for, shapes or tensors, is left out."""
    builder = new_builder()
    with builder.Map():
        for key, value in attrs.items():
            _add(builder, key, value)
    return bytes(builder.Finish())


def _add(builder: Any, key: str, value: Any) -> None:
    if isinstance(value, DType):
        number = NUMBERS.get(value)
        if number is not None:
            builder.Int(key, number)
    elif isinstance(value, tuple):
        _add_list(builder, key, value)
    else:
        write = _writer(builder, value)
        if write is not None:
            write(key, text(value))


def _add_list(builder: Any, key: str, values: tuple[Any, ...]) -> None:
    write = _writer(builder, values[0]) if values and not isinstance(values[0], bool) else None
    if write is None:
        return
    with builder.TypedVector(key):
        for value in values:
            write(text(value))


def _writer(builder: Any, value: Any) -> Callable[..., Any] | None:
    for kind, method in ((bool, "Bool"), (int, "Int"), (float, "Float"), (bytes, "String")):
        if isinstance(value, kind):
            found: Callable[..., Any] = getattr(builder, method)
            return found
    return None


class _Text(bytes):
    """Bytes that pass for text that is encoded already: a FlexBuffer's strings may hold any."""

    def encode(self, encoding: str = "") -> bytes:
        """The bytes."""
        return bytes(self)


def text(value: Any) -> Any:
    """`value` as a builder of FlexBuffers takes it."""
    return _Text(value) if isinstance(value, bytes) else value


@cache
def _builder() -> Any:
    from flatbuffers import flexbuffers

    return flexbuffers.Builder


def new_builder() -> Any:
    """A builder of one FlexBuffer."""
    return _builder()()
