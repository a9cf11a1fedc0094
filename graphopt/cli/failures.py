"""What the command line says when something goes wrong: one paragraph, the exit status, and a reproducer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from graphopt.ir.errors import Error, printable

UNREADABLE, INTERNAL = 3, 70


def report(error: Exception, verb: str, arguments: Sequence[str], options: Any) -> int:
    """Print what `error` means to the user and return the exit status."""
    if isinstance(error, Error):
        _say(verb, str(error))
        if error.exit_status == INTERNAL:
            _offer_reproducer(error, verb, arguments, options)
        return error.exit_status
    if isinstance(error, OSError):
        _say(verb, _system_message(error))
        return UNREADABLE
    if isinstance(error, MemoryError):
        _say(verb, "memory ran out; the model needs more than this process may take")
        return INTERNAL
    _say(verb, f"internal error: {type(error).__name__}: {error}")
    _offer_reproducer(error, verb, arguments, options)
    return INTERNAL


def _say(verb: str, message: str) -> None:
    print(f"graphopt {verb}: {printable(message, 4000)}", file=sys.stderr)


def _system_message(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename is not None else reason


def _offer_reproducer(error: Exception, verb: str, arguments: Sequence[str], options: Any) -> None:
    from graphopt.cli.reproducer import write_reproducer

    try:
        path = write_reproducer(error, verb, arguments, options)
    except OSError as failure:
        _say(verb, f"no reproducer could be written: {_system_message(failure)}")
        return
    _say(verb, f"please report this with the file {path}, which holds the command, the input and the traceback")
