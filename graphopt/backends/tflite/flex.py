"""Flex operators: TensorFlow's own, run by TensorFlow's kernels beside LiteRT, as tf.lite's converter writes them."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from graphopt.backends.tflite.custom import described_attributes, new_builder, text
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.formats import wire
from graphopt.ir.formats.attr_encoding import encode_entry
from graphopt.ir.value import Node

PREFIX = "Flex"
_INPUT, _ATTRIBUTE = 3, 5
_DEBUG_INFO = wire.tagged(6, b"")  # there, and empty
_EMPTY_LIST = wire.tagged(2, b"\x0a\x00")


@cache
def _operators() -> frozenset[str]:
    path = resources.files("graphopt.backends.tflite").joinpath("flex_operators.txt")
    return frozenset(path.read_text(encoding="utf-8").split())


def is_flex_operator(op_type: str) -> bool:
    """The Flex delegate runs TensorFlow's operator `op_type`."""
    return op_type in _operators()


def refers_to_functions(node: Node) -> bool:
    """The node calls functions, of which a Flex operator has none."""
    values = (item for value in node.attrs.values() for item in (value if type(value) is tuple else (value,)))
    return any(isinstance(item, FunctionRef) for item in values)


def flex_options(node: Node) -> bytes:
    """A FlexBuffer vector of the operator's name and a NodeDef without names.

    Raises `UnsupportedError` for an attribute that a NodeDef cannot hold.
    """
    name = node.op_type.encode()
    builder = new_builder()
    with builder.Vector():
        builder.String(text(name))
        builder.String(text(_node_def(node, name)))
    return bytes(builder.Finish())


def _node_def(node: Node, name: bytes) -> bytes:
    pieces: list[Any] = [wire.tagged(2, name), b"\x1a\x00" * node.input_count]
    for key, value in sorted(described_attributes(node).items()):
        if value == () and type(value) is tuple:
            entry = wire.tagged(1, key.encode()) + _EMPTY_LIST
            pieces.append(wire.tagged(_ATTRIBUTE, entry))
        else:
            pieces += encode_entry(_ATTRIBUTE, key, value)
    return b"".join((*pieces, _DEBUG_INFO))
