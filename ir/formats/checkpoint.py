"""Checkpoints of every version: names, types and shapes of tensors, and the tensors as views of the mapped files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats.confinement import inside
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import DType

STATE = "checkpoint"  # file that names the latest checkpoint of a folder
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # tensor that holds the objects of an object-based checkpoint
_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5}|ckpt-index)$")
_V1_SHARD = re.compile(r"-(\d{5}|\?{5})-of-(\d{5})$")


class Checkpoint:
    """The tensors of a checkpoint. `path` is its prefix, `format` is `bundle` (V2) or `table` (V1).

    Nothing is read but the index until a tensor is asked for, and then it is a view of the file.
    """

    format = ""

    def __init__(self, path: str):
        self.path = path

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors, sorted."""
        raise TypeError(f"{type(self).__name__} lists no tensors")

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def dtype(self, name: str) -> DType:
        """Element type of the tensor `name`. Raises `MalformedError` if there is none."""
        raise TypeError(f"{type(self).__name__} holds no types")

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor `name`, whole also where it is stored in slices."""
        raise TypeError(f"{type(self).__name__} holds no shapes")

    def slices_of(self, name: str) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The slices that the tensor `name` is kept in, as (first, length) for each axis; empty for a whole."""
        raise TypeError(f"{type(self).__name__} holds no slices")

    def tensor(self, name: str, part: str = "", *, verify: bool = True) -> Tensor:
        """The tensor `name`, or the `part` of it that RestoreV2's notation describes (`10 4 0,5:-`).

        `verify` compares the checksums. Raises `MalformedError` for a missing tensor or shard, a size that does not
        fit, or a wrong checksum.
        """
        raise TypeError(f"{type(self).__name__} holds no tensors")

    def missing(self, name: str) -> MalformedError:
        """The error for a tensor that is not there."""
        return MalformedError(f"the checkpoint has no tensor '{printable(name)}'", source=self.path)


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint at `path`: a prefix, one of its files, a V1 file, a `checkpoint` file or a folder with one.

    Raises `MalformedError` where there is none, or its index cannot be read.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        return open_checkpoint(latest(name))
    if os.path.basename(name) == STATE and not os.path.exists(f"{name}.index"):
        return open_checkpoint(latest(os.path.dirname(name)))
    prefix = _SUFFIX.sub("", name)
    if os.path.lexists(f"{prefix}.index"):
        from graphopt.ir.formats.bundle import BundleCheckpoint

        return BundleCheckpoint(prefix)
    shards = v1_shards(prefix)
    if not shards:
        raise MalformedError("there is no checkpoint of this name: neither .index nor a V1 file", source=prefix)
    from graphopt.ir.formats.checkpoint_v1 import TableCheckpoint

    return TableCheckpoint(prefix, shards)


def prefix_of(path: str | os.PathLike[str]) -> str | None:
    """The prefix of the checkpoint that `path` names, by it, one of its files or a `checkpoint` file; None if none."""
    name = os.fspath(path)
    if os.path.isdir(name) or name.endswith(".meta"):
        return None
    if os.path.basename(name) == STATE and os.path.isfile(name):
        return latest(os.path.dirname(name))
    prefix = _SUFFIX.sub("", name)
    return prefix if os.path.isfile(f"{prefix}.index") else None


def v1_shards(path: str) -> list[str]:
    """The files of the V1 checkpoint `path`: itself, or every shard of `path-?????-of-00002`."""
    if os.path.isfile(path) and not _V1_SHARD.search(path):
        return [path]
    folder, base = os.path.split(_V1_SHARD.sub("", path))
    found = []
    for entry in sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else ():
        if entry.startswith(base) and _V1_SHARD.fullmatch(entry[len(base) :]):
            found.append(os.path.join(folder, entry))
    totals = {int(name[-5:]) for name in found}
    if found and totals != {len(found)}:
        raise MalformedError(f"{len(found)} files of a checkpoint in {sorted(totals)} shards", source=path)
    return found


def latest(folder: str) -> str:
    """The prefix that the `checkpoint` file of `folder` says is the latest. Raises `MalformedError`."""
    state = os.path.join(folder, STATE)
    try:
        with open(state, encoding="utf-8") as file:
            text = file.read(1 << 20)
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedError(
            "a directory without a SavedModel and without a 'checkpoint' file", source=folder
        ) from error
    found = re.search(r'^\s*model_checkpoint_path\s*:\s*("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\')', text, re.MULTILINE)
    if found is None:
        raise MalformedError("names no model_checkpoint_path", source=state)
    name = re.sub(r"\\(.)", r"\1", found.group(1)[1:-1])
    if os.path.isabs(name):  # where the checkpoint was written, which may have been moved since, all files together
        name = os.path.basename(name)
    inside(folder, f"{name}.index")
    return os.path.join(folder, name)
