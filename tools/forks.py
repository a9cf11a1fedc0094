"""Running a function in a forked child: whatever it does, crash and hang included, comes back as a value."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What became of a child: its value, or why there is none; seconds, and peak resident memory in MiB."""

    value: Any
    failure: str
    seconds: float
    peak_mib: float


def in_child(function: Callable[[], Any], *, timeout: float, memory_gib: float = 12.0) -> Outcome:
    """`function()` in a forked child; its value must be fit for JSON. Standard error and output go nowhere."""
    reader, writer = os.pipe()
    started = time.perf_counter()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reader)
        _serve(function, writer, memory_gib)
    os.close(writer)
    content, is_late = _read_until(reader, started + timeout)
    if is_late:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    seconds, peak = time.perf_counter() - started, usage.ru_maxrss / 1024
    if is_late:
        return Outcome(None, f"still running after {timeout:.0f} s", seconds, peak)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return Outcome(None, f"killed by {signal.Signals(-code).name}", seconds, peak)
    if code or not content:
        return Outcome(None, content.decode(errors="replace") or f"exit status {code}", seconds, peak)
    return Outcome(json.loads(content), "", seconds, peak)


def _serve(function: Callable[[], Any], writer: int, memory_gib: float) -> None:
    """The child: never returns."""
    code = 0
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        limit = int(memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        content = json.dumps(function())
    except BaseException as error:
        code = 1
        trace = traceback.extract_tb(error.__traceback__)[-1]
        content = f"{type(error).__name__}: {error} [{os.path.basename(trace.filename)}:{trace.lineno}]"
    with os.fdopen(writer, "wb") as stream:
        stream.write(content.encode(errors="replace"))
    os._exit(code)


def _read_until(reader: int, deadline: float) -> tuple[bytes, bool]:
    """Everything the pipe gives before `deadline`, and whether it was late."""
    pieces = []
    with os.fdopen(reader, "rb", buffering=0) as stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(max(deadline - time.perf_counter(), 0)):
                return b"".join(pieces), True
            piece = stream.read(1 << 20)
            if not piece:
                return b"".join(pieces), False
            pieces.append(piece)
