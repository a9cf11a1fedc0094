"""Graphs of TFLite's operators as short text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

Net = Callable[..., str]
# What short lines leave out: the dialect, the quotes of names, the long name of the activation.
SHORT = (
    (r"= ([A-Z][A-Z0-9_]*)\(", r"= tfl.\1("),
    (r"\bact\b ?= ?(\w+)", r'fused_activation_function = b"\1"'),
    (r"\bpadding ?= ?(SAME|VALID)", r'padding = b"\1"'),
)


def spelt_out(line: str) -> str:
    """A short line in full."""
    for short, full in SHORT:
        line = re.sub(short, full, line)
    return line


def constant(name: str, values: Any, dtype: str = "float32") -> str:
    """A line that declares a constant."""
    array = np.asarray(values)
    flat = ", ".join(repr(item) for item in array.reshape(-1).tolist())
    type = f"{dtype}{list(array.shape)}"
    contents = f"[{flat}]" if array.shape else flat
    return f"%{name} = tfl.CONSTANT() {{value = {type} {contents}}} : {type}"


@pytest.fixture
def net() -> Net:
    """Text of a graph: short lines of nodes, constants given by name, and inputs as `name: type`."""

    def make(
        *lines: str, constants: dict[str, Any] | None = None, inputs: Sequence[str] = ("x: float32[1, 4, 4, 2]",),
        outputs: Sequence[str] = ("y",),
    ) -> str:  # fmt: skip
        names = [line.partition(":")[0] for line in inputs]
        body = [f"%{name} = tfl.INPUT() :{line.partition(':')[2]}" for name, line in zip(names, inputs, strict=True)]
        for name, values in (constants or {}).items():
            whole = np.asarray(values).dtype.kind == "i"
            body.append(constant(name, values, "int32" if whole else "float32"))
        head = ", ".join(f"%{name}" for name in names)
        tail = ", ".join(f"%{name}" for name in outputs)
        return f"graph @main({head}) -> ({tail}) {{\n  " + "\n  ".join([*body, *map(spelt_out, lines)]) + "\n}\n"

    return make
