"""The first TensorFlow Lite runtime that has an operator in a version.

Source: TensorFlow's `runtime_version.cc`. A line is an operator and the runtimes of its versions from 1 on, `-` for a
version that there never was.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources


def runtime_of(operators: Iterable[tuple[str, int]]) -> str:
    """The runtime, `2.3.0` say, that has all of these operators in these versions; empty where none is known of.

    An operator that the table does not have counts for nothing.
    """
    found = [runtime for runtime in (_table().get(pair, "") for pair in operators) if runtime]
    return max(found, key=lambda runtime: tuple(map(int, runtime.split("."))), default="")


@cache
def _table() -> dict[tuple[str, int], str]:
    text = resources.files(__package__).joinpath("tflite_runtimes.txt").read_text(encoding="utf-8")
    found: dict[tuple[str, int], str] = {}
    for line in text.splitlines():
        name, *runtimes = line.split()
        for version, runtime in enumerate(runtimes, 1):
            if runtime != "-":
                found[name, version] = runtime if runtime.count(".") == 2 else f"{runtime}.0"
    return found
