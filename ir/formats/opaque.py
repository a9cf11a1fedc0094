"""Fields that are carried without being understood: checked to be well-formed, then kept as bytes.

The protobuf runtime checks them, and is imported only when there are any.
"""

from __future__ import annotations

from graphopt.ir.errors import MalformedError


def check_message(name: str, raw: bytes, field: str, offset: int | None = None) -> None:
    """Raise `MalformedError` unless `raw` is a serialised message of type `name` of graph.proto."""
    from google.protobuf.message import DecodeError

    from graphopt.ir.formats.protos import graph_pb2

    try:
        getattr(graph_pb2, name).FromString(raw)
    except DecodeError:
        raise MalformedError(f"is no valid {name}", field=field, offset=offset) from None


def check_node_fields(raw: bytes) -> None:
    """Raise `MalformedError` unless `raw` are valid fields of a NodeDef."""
    check_message("NodeDef", raw, "experimental_debug_info or experimental_type")


def check_debug_info(raw: bytes, offset: int) -> None:
    """Raise `MalformedError` unless `raw` is a GraphDebugInfo."""
    check_message("GraphDebugInfo", raw, "debug_info", offset)
