"""Fields that are carried without being understood: checked to be well-formed, then kept as bytes.

What is common is checked here; for the rest the protobuf runtime is imported, which takes longer than most graphs.
"""

from __future__ import annotations

from graphopt.ir.errors import MalformedError
from graphopt.ir.formats import wire


def check_message(name: str, raw: bytes, field: str, offset: int | None = None) -> None:
    """Raise `MalformedError` unless `raw` is a serialised message of type `name` of graph.proto."""
    from google.protobuf.message import DecodeError

    from graphopt.ir.formats.protos import graph_pb2

    try:
        getattr(graph_pb2, name).FromString(raw)
    except DecodeError:
        raise MalformedError(f"is no valid {name}", field=field, offset=offset) from None


# Fields of each message by tag: the message within, "" for a string, None for anything.
_DEBUG, _TYPE = "ExperimentalDebugInfo", "FullTypeDef"
_SCHEMAS: dict[str, dict[int, str | None]] = {
    "NodeDef": {0x32: _DEBUG, 0x3A: _TYPE},
    _DEBUG: {0x0A: "", 0x12: ""},
    _TYPE: {0x08: None, 0x12: _TYPE, 0x1A: "", 0x20: None},
}


def check_node_fields(raw: bytes) -> None:
    """Raise `MalformedError` unless `raw` are valid experimental fields of a NodeDef, or unknown ones."""
    pending = [("NodeDef", 0, len(raw), 2)]
    while pending:
        name, start, end, depth = pending.pop()
        if depth > wire.DEPTH_LIMIT:
            raise MalformedError(f"more than {wire.DEPTH_LIMIT} messages are nested", field=name)
        schema = _SCHEMAS[name]
        numbers = {tag >> 3: name for tag in schema}
        for tag, value, stop in wire.fields(raw, start, end):
            within = schema.get(tag)
            if tag not in schema:
                wire.unexpected(tag, numbers, value)
            elif within == "":
                wire.text(raw, value, stop, name)
            elif within is not None:
                pending.append((within, value, stop, depth + 1))


def check_debug_info(raw: bytes, offset: int) -> None:
    """Raise `MalformedError` unless `raw` is a GraphDebugInfo."""
    check_message("GraphDebugInfo", raw, "debug_info", offset)
