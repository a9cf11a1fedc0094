"""Runs numbered cases in forked workers that may crash, hang or run out of memory, and says which case was at fault.

A worker runs many cases. Memory shared with it tells which one it is at and since when, in its own CPU time, so that a
busy machine makes nothing look slow. A case that took too much time or memory is run again in a process of its own
before it counts.
"""

from __future__ import annotations

import gc
import mmap
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

SECONDS, SECONDS_PER_BYTE = 2.0, 20e-6
MEMORY, MEMORY_PER_BYTE = 64 << 20, 8
ADDRESS_SPACE = 4 << 30  # beyond what a worker starts with
WALL_FACTOR = 30  # wall seconds for each CPU second allowed, before a sleeping worker counts as hung
LIFETIME, GROWTH = 4000, 24 << 20  # cases, and bytes of growth, after which a worker is replaced
INDEX, STARTED, ALLOWED, PEAK = range(4)


class Outcome(NamedTuple):
    """What became of one case: `kind` is counted; an unclean one has a `signature`, the same for the same fault."""

    kind: str
    signature: str = ""
    detail: str = ""


Case = Callable[[int], tuple[int, Callable[[], Outcome]]]
"""Gets a number; returns the size of the input and what runs it."""
Found = Callable[[int, Outcome], None]


class Supervisor:
    """Runs `case` for ranges of numbers; `kinds` are the outcomes it may have, `found` is told of unclean ones."""

    def __init__(self, case: Case, kinds: tuple[str, ...], found: Found):
        self.case, self.kinds, self.found = case, kinds, found
        self.shared = mmap.mmap(-1, 8 * (4 + len(kinds)))
        self.cells = memoryview(self.shared).cast("q")

    def counts(self) -> dict[str, int]:
        """How many cases ended in which way."""
        return {kind: self.cells[4 + place] for place, kind in enumerate(self.kinds)}

    def run(self, start: int, stop: int) -> None:
        """Run the cases from `start` to `stop`."""
        place = start
        while place < stop:
            self.cells[INDEX] = place
            reader, writer = os.pipe()
            child = os.fork()
            if not child:
                os.close(reader)
                self._worker(place, stop, writer)
            os.close(writer)
            status = self._wait(child)
            with os.fdopen(reader, "rb") as pipe:
                suspects = [int(line) for line in pipe.read().split()]
            place = self.cells[INDEX]
            if status:
                self._tell(place, self._death(status))
                place += 1
            for suspect in suspects:
                self._confirm(suspect)

    def alone(self, number: int, case: Case | None = None) -> Outcome:
        """The outcome of one case in a process of its own."""
        reader, writer = os.pipe()
        self.cells[INDEX] = number
        child = os.fork()
        if not child:
            os.close(reader)
            outcome = self._timed(number, case or self.case)
            os.write(writer, "\0".join(outcome).encode(errors="replace")[:60000])
            os._exit(0)
        os.close(writer)
        status = self._wait(child)
        with os.fdopen(reader, "rb") as pipe:
            parts = pipe.read().decode().split("\0")
        return self._death(status) if status else Outcome(*parts)

    # In the parent --------------------------------------------------------------------------------------------

    def _wait(self, child: int) -> int:
        """The exit status of a worker, which is killed when its case takes too long."""
        pause, since, at = 0.002, time.monotonic(), -1
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status
            time.sleep(pause)
            pause = min(pause * 2, 0.25)
            if self.cells[INDEX] != at:
                since, at = time.monotonic(), self.cells[INDEX]
            allowed = max(self.cells[ALLOWED], int(SECONDS * 1e6))
            spent = _cpu_microseconds(child) - self.cells[STARTED]
            waited = time.monotonic() - since
            is_late = spent > 2 * allowed + 1_000_000 or waited > allowed / 1e6 * WALL_FACTOR
            if is_late and self.cells[INDEX] == at:
                os.kill(child, signal.SIGKILL)

    def _death(self, status: int) -> Outcome:
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:
            return Outcome("unclean", "hang", "killed: it took too long")
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return Outcome("unclean", f"crash {name}", f"the process died: {name}")

    def _confirm(self, number: int) -> None:
        outcome = self.alone(number)
        if outcome.kind == "unclean":
            self._tell(number, outcome)
        else:
            self.cells[4 + self.kinds.index(outcome.kind)] += 1

    def _tell(self, number: int, outcome: Outcome) -> None:
        self.cells[4 + self.kinds.index("unclean")] += 1
        self.found(number, outcome)

    # In the worker --------------------------------------------------------------------------------------------

    def _worker(self, start: int, stop: int, writer: int) -> None:
        """Run cases, count them, and write the numbers of suspects to the pipe. Never returns."""
        try:
            base = _start()
            for number in range(start, min(stop, start + LIFETIME)):
                self.cells[INDEX] = number
                outcome = self._timed(number, self.case, base)
                if outcome.kind == "unclean":
                    os.write(writer, b"%d\n" % number)
                else:
                    self.cells[4 + self.kinds.index(outcome.kind)] += 1
                if number % 64 == 0:
                    gc.collect()
                if _peak() - base > GROWTH:
                    break
            self.cells[INDEX] = number + 1
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)

    def _timed(self, number: int, case: Case, base: int | None = None) -> Outcome:
        base = _start() if base is None else base
        self.cells[ALLOWED], self.cells[STARTED] = 0, time.process_time_ns() // 1000
        size, run = case(number)
        allowed = SECONDS + SECONDS_PER_BYTE * size
        started = time.process_time()
        self.cells[ALLOWED], self.cells[STARTED] = int(allowed * 1e6), int(started * 1e6)
        outcome = run()
        spent, grown = time.process_time() - started, _peak() - base
        if outcome.kind == "unclean":
            return outcome
        if spent > allowed:
            return Outcome("unclean", "slow", f"{spent:.1f} s for {size} bytes; allowed are {allowed:.1f} s")
        if grown > MEMORY + MEMORY_PER_BYTE * size:
            return Outcome("unclean", "memory", f"{grown >> 20} MiB for {size} bytes")
        return outcome


def _start() -> int:
    """Bound the address space of this process; returns the bytes it has in memory."""
    pages = [int(number) for number in _read("/proc/self/statm").split()]
    limit = pages[0] * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return max(_peak(), pages[1] * resource.getpagesize())


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _cpu_microseconds(process: int) -> int:
    """User and system time of a process, 0 if it has gone."""
    try:
        numbers = _read(f"/proc/{process}/stat").rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(numbers[11]) + int(numbers[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
