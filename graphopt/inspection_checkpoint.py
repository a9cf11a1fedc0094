"""What a checkpoint holds: the tensors with types, shapes and bytes, without a graph."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "graphopt/inspect-checkpoint/v1"


@dataclass
class TensorFacts:
    """One tensor of a checkpoint. `slices` counts the parts it is kept in, zero for a whole."""

    name: str
    dtype: str
    shape: list[int]
    bytes: int
    slices: int = 0


@dataclass
class CheckpointFacts:
    """Everything `graphopt inspect` says about a checkpoint. Bytes of strings are not counted."""

    source: str
    format: str
    parameters: int
    bytes: int
    tensors: list[TensorFacts]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with its versioned schema name."""
        return {"schema": SCHEMA, **asdict(self)}


def inspect_checkpoint(path: str) -> CheckpointFacts:
    """The tensors of the checkpoint at `path`, of which only the index is read. Raises `MalformedError`."""
    from graphopt.ir.formats.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(path)
    tensors = []
    for name in checkpoint:
        dtype, shape = checkpoint.dtype(name), checkpoint.shape(name)
        slices = len(checkpoint.slices_of(name))
        tensors.append(TensorFacts(name, dtype.name, list(shape), math.prod(shape) * dtype.itemsize, slices))
    return CheckpointFacts(
        path,
        "checkpoint, version 2" if checkpoint.format == "bundle" else "checkpoint, version 1",
        sum(math.prod(fact.shape) for fact in tensors if fact.dtype != "string"),
        sum(fact.bytes for fact in tensors),
        tensors,
    )


def is_checkpoint(path: str) -> bool:
    """`path` names a checkpoint, and not the graph that may lie beside it."""
    from graphopt.ir.formats.checkpoint import prefix_of, v1_shards
    from graphopt.sources import STDIN

    if path == STDIN or path.endswith(".meta"):
        return False
    return (
        prefix_of(path) is not None or ("-of-" in path.rpartition("/")[2] and bool(v1_shards(path))) or _is_table(path)
    )


def _is_table(path: str) -> bool:
    """The file ends as tables do: a V1 checkpoint in one file."""
    from graphopt.ir.formats.table import MAGIC

    try:
        with open(path, "rb") as file:
            file.seek(-len(MAGIC), 2)
            return file.read() == MAGIC
    except OSError:
        return False
