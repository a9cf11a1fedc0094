"""Bytes that nobody vouches for are parsed in a child process first: MLIR's reader ends the process on some of them."""

from __future__ import annotations

import os
import signal
import time
import warnings
from typing import Any

from graphopt.backends.xla.serialization import parse_module
from graphopt.ir.errors import MalformedError

SECONDS, SECONDS_A_MEGABYTE = 10, 1  # of the processor's time, after which parsing is given up
BYTES, BYTES_A_BYTE = 1 << 31, 64  # of memory, likewise
PRINTED = 16  # elements of a constant that are printed
STATUS = "/proc/self/statm"  # where Linux says how much a process has mapped, in pages
READ, REFUSED, UNREADABLE = 0, 1, 2  # how the child leaves


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
        if number == signal.SIGXCPU:
            raise MalformedError("this is no StableHLO module: MLIR's reader does not come to an end", source=source)
        name = signal.Signals(number).name
        raise MalformedError(f"this is no StableHLO module: MLIR's reader dies of it ({name})", source=source)
    if os.WEXITSTATUS(status) == UNREADABLE:
        raise MalformedError("this is no StableHLO module: names in it are not text", source=source)


def _parse_and_leave(code: bytes, context: Any) -> None:
    outcome = UNREADABLE
    try:
        _limit(len(code))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        module = parse_module(code, context)
        module.operation.get_asm(large_elements_limit=PRINTED, enable_debug_info=True)  # every name in it is looked at
        outcome = READ
    except MalformedError:
        outcome = REFUSED
    finally:
        os._exit(outcome)


def _limit(size: int) -> None:
    """Bound what reading `size` bytes may cost; a process that exceeds it dies."""
    import resource

    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    seconds = int(time.process_time()) + SECONDS + SECONDS_A_MEGABYTE * (size >> 20)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if os.path.exists(STATUS):
        with open(STATUS) as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        limit = mapped + BYTES + BYTES_A_BYTE * size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
