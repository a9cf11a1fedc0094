"""Timing whole processes: wall and CPU seconds and peak memory, as the operating system accounts for them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple


class Usage(NamedTuple):
    """What one process took: seconds, and peak resident memory in MiB (mapped files included)."""

    wall: float
    cpu: float
    peak_mib: float


def run(command: Sequence[str], *, timeout: float = 600) -> Usage:
    """Run `command` to its end. Raises `RuntimeError` with its output if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}\n{output.decode(errors='replace')}")
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def paired(ours: Sequence[str], theirs: Sequence[str], runs: int) -> tuple[Usage, Usage, float]:
    """Run both in turn, `runs` times after a warm-up; medians of each, and the median of theirs / ours in wall time."""
    run(ours)
    run(theirs)
    pairs = [(run(ours), run(theirs)) for _ in range(runs)]
    ratio = statistics.median(b.wall / a.wall for a, b in pairs)
    return median([a for a, _ in pairs]), median([b for _, b in pairs]), ratio


def median(usages: Sequence[Usage]) -> Usage:
    """Median of each figure."""
    return Usage(*(statistics.median(column) for column in zip(*usages, strict=True)))


def geometric_mean(ratios: Sequence[float]) -> float:
    """Geometric mean of positive numbers."""
    return statistics.geometric_mean(ratios)


ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
PYTHON = sys.executable
