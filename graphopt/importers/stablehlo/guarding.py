"""Bytes that nobody vouches for are parsed in a child process first: MLIR's reader ends the process on some of them."""

from __future__ import annotations

import os
import signal
import warnings
from typing import Any

from graphopt.backends.xla.serialization import parse_module
from graphopt.ir.errors import MalformedError

SECONDS = 120  # after which parsing is given up


def check_parses(code: bytes, context: Any, source: str) -> None:
    """Raise `MalformedError` where reading `code` would end this process, or would not end.

    What the reader itself refuses passes: whoever parses next gets its reason. Where processes cannot be forked nothing
    is checked.
    """
    if not hasattr(os, "fork"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which the child has no use for
        child = os.fork()
    if child == 0:
        _parse_and_leave(code, context)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGALRM:
            raise MalformedError(f"MLIR does not read this module within {SECONDS} s", source=source)
        name = signal.Signals(number).name
        raise MalformedError(f"this is no StableHLO module: MLIR's reader dies of it ({name})", source=source)


def _parse_and_leave(code: bytes, context: Any) -> None:
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        parse_module(code, context).operation.verify()
    finally:
        os._exit(0)
