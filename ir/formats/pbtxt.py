"""Protobuf's text format to and from the binary one, which alone is read and written."""

from __future__ import annotations

import re

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats.wire import DEPTH_LIMIT

_TOKENS = re.compile(rb"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|#[^\n]*|[{}<>]", re.DOTALL)


def text_to_binary(data: bytes, source: str) -> bytes:
    """The GraphDef that `data` is the text of, serialised. Raises `MalformedError` with the line."""
    from google.protobuf import text_format
    from google.protobuf.message import EncodeError

    from graphopt.ir.formats.protos.graph_pb2 import GraphDef

    check_nesting(data, source)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedError("the text is not valid UTF-8", source=source, offset=error.start) from None
    try:
        return text_format.Parse(text, GraphDef()).SerializeToString(deterministic=True)
    except (text_format.ParseError, RecursionError, ValueError, OverflowError, EncodeError) as error:
        reason = printable(str(error), 300)
        raise MalformedError(f"this is not the text of a GraphDef: {reason}", source=source) from None


def check_nesting(data: bytes, source: str) -> None:
    """Raise `MalformedError` where messages nest deeper than any parser follows."""
    depth = 0
    for found in _TOKENS.finditer(data):
        token = found.group()
        if token in (b"{", b"<"):
            depth += 1
            if depth > DEPTH_LIMIT:
                line = data.count(b"\n", 0, found.start()) + 1
                raise MalformedError(f"line {line}: more than {DEPTH_LIMIT} messages are nested", source=source)
        elif token in (b"}", b">"):
            depth -= 1


def binary_to_text(data: bytes) -> str:
    """A serialised GraphDef as text."""
    from google.protobuf import text_format

    from graphopt.ir.formats.protos.graph_pb2 import GraphDef

    message = GraphDef.FromString(data)
    return text_format.MessageToString(message)
