"""SavedModels and MetaGraphs written as text (`saved_model.pbtxt`) into the binary form, which alone is read."""

from __future__ import annotations

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats.pbtxt import check_nesting


def text_to_binary(data: bytes, message: str, source: str) -> bytes:
    """What `data` is the text of, a message of type `message` of saved_model.proto, serialised.

    Raises `MalformedError` with the line.
    """
    from google.protobuf import text_format
    from google.protobuf.message import EncodeError

    from graphopt.ir.formats.protos import saved_model_pb2

    check_nesting(data, source)
    kind = getattr(saved_model_pb2, message)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedError("the text is not valid UTF-8", source=source, offset=error.start) from None
    try:
        found: bytes = text_format.Parse(text, kind()).SerializeToString(deterministic=True)
    except (text_format.ParseError, RecursionError, ValueError, OverflowError, EncodeError) as error:
        reason = printable(str(error), 300)
        raise MalformedError(f"this is not the text of a {message}: {reason}", source=source) from None
    return found
