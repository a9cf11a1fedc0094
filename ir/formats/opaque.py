"""Fields that are carried without being understood: checked to be well-formed, then kept as bytes."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message

from graphopt.ir.errors import MalformedError


def check(message: type[Message], raw: bytes, field: str, offset: int | None = None) -> None:
    """Raise `MalformedError` unless `raw` is a serialised `message`."""
    try:
        message.FromString(raw)
    except DecodeError:
        raise MalformedError(f"is no valid {message.DESCRIPTOR.name}", field=field, offset=offset) from None


def check_node_fields(raw: bytes) -> None:
    """Raise `MalformedError` unless `raw` are valid fields of a NodeDef."""
    from graphopt.ir.formats.protos.graph_pb2 import NodeDef

    check(NodeDef, raw, "experimental fields")


def check_debug_info(raw: bytes, offset: int) -> None:
    """Raise `MalformedError` unless `raw` is a GraphDebugInfo."""
    from graphopt.ir.formats.protos.graph_pb2 import GraphDebugInfo

    check(GraphDebugInfo, raw, "debug_info", offset)
