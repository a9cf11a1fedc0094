"""Bytes that nobody vouches for are parsed in a child process: MLIR's reader ends the process on some of them, or
leaves its memory in disorder. What this process parses is what the child's MLIR has written anew.
"""

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


def vetted(code: bytes, context: Any, source: str) -> bytes:
    """The module that `code` holds as bytecode that is certainly well formed.

    Raises `MalformedError` where it holds none, or where reading it would end this process, or not end at all. Where
    processes cannot be forked it is `code` itself.
    """
    if not hasattr(os, "fork"):
        return code
    import resource  # before there is a child, which had better import nothing

    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which the child has no use for
        child = os.fork()
    if child == 0:
        os.close(reader)
        _parse_and_leave(code, context, writer, resource)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            raise MalformedError("this is no StableHLO module: MLIR's reader does not come to an end", source=source)
        name = signal.Signals(number).name
        raise MalformedError(f"this is no StableHLO module: MLIR's reader dies of it ({name})", source=source)
    if os.WEXITSTATUS(status) == REFUSED:
        raise MalformedError(told.decode(errors="replace"), source=source)
    if os.WEXITSTATUS(status) == UNREADABLE:
        raise MalformedError("this is no StableHLO module: names in it are not text", source=source)
    return told


def _parse_and_leave(code: bytes, context: Any, writer: int, resource: Any) -> None:
    """Write the module, or why it is none, and end the process."""
    outcome = UNREADABLE
    try:
        _limit(len(code), resource)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        with os.fdopen(writer, "wb") as pipe:
            try:
                module = parse_module(code, context)
                module.operation.get_asm(large_elements_limit=PRINTED, enable_debug_info=True)  # looks at every name
                module.operation.write_bytecode(pipe)
                outcome = READ
            except MalformedError as error:
                pipe.write(error.reason.encode())
                outcome = REFUSED
    finally:
        os._exit(outcome)


def _limit(size: int, resource: Any) -> None:
    """Bound what reading `size` bytes may cost; a process that exceeds it dies."""
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    seconds = int(time.process_time()) + SECONDS + SECONDS_A_MEGABYTE * (size >> 20)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if os.path.exists(STATUS):
        with open(STATUS) as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        limit = mapped + BYTES + BYTES_A_BYTE * size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
