"""Writing what a command makes: never over an input, never over what exists unless told to, never half."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from graphopt.ir.errors import UsageError, printable

if TYPE_CHECKING:
    from graphopt.backends.xla.ahead import AheadOptions
    from graphopt.ir.model import Model

STDOUT = "-"


def check_output(path: str, force: bool, *inputs: str) -> None:
    """Raise `UsageError`, before any work, unless a file may be written to `path`."""
    if path == STDOUT:
        return
    from graphopt.sources import is_folder_name

    shown = printable(path)
    folder = os.path.dirname(os.path.abspath(path.rstrip("/")))
    is_folder = is_folder_name(path)
    if os.path.isdir(path) and not is_folder:
        raise UsageError(f"'{shown}' is a directory; name a file in it, or end the name with / for a SavedModel")
    if not os.path.isdir(folder) and not _makes_folder(path):
        raise UsageError(f"the folder '{printable(folder)}' does not exist")
    for given in inputs:
        if os.path.exists(path) and os.path.exists(given) and os.path.samefile(path, given):
            raise UsageError(f"'{shown}' is the input itself; write to another file")
    if os.path.lexists(path) and not force and not (os.path.isdir(path) and not os.listdir(path)):
        raise UsageError(f"'{shown}' exists; give --force to replace it")


def _makes_folder(path: str) -> bool:
    """`path` is a version of a model, `name/1`, whose folder is made where a SavedModel is written."""
    from graphopt.ir.formats.savedmodel_writer import is_version

    return is_version(path)


def check_folder(path: str, force: bool, target: str) -> None:
    """Raise `UsageError`, before any work, unless a folder may be written to `path` for `target`."""
    shown = printable(path)
    if path == STDOUT:
        raise UsageError(f"lowering to {target} writes a folder, which standard output cannot take")
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UsageError(f"'{shown}' is a file; lowering to {target} writes a folder")
    if os.path.isdir(path) and os.listdir(path) and not force:
        raise UsageError(f"'{shown}' exists; give --force to replace it")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path.rstrip("/")))):
        raise UsageError(f"the folder around '{shown}' does not exist")


def write_model(model: Model, path: str, force: bool, ahead: AheadOptions | None = None) -> int:
    """Write `model` to `path`, or as binary to standard output; returns the number of bytes.

    `ahead` compiles what was lowered to XLA ahead of time.
    """
    from graphopt.api import save

    if ahead is not None:
        from graphopt.backends.xla.artifact import write_artifact

        write_artifact(model, path, overwrite=force, ahead=ahead)
        return _size(path)
    if path != STDOUT:
        save(model, path, overwrite=force)
        return _size(path)
    from graphopt.ir.formats.graphdef import graphdef_chunks

    size = 0
    for chunk in graphdef_chunks(model):
        size += sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
    return size


def _size(path: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def write_text(path: str, lines: Iterable[str], force: bool) -> None:
    """Write `lines` to `path` as UTF-8, or to standard output."""
    if path == STDOUT:
        sys.stdout.writelines(lines)
        return
    from graphopt.ir.formats.atomic import write_atomically

    write_atomically(path, [line.encode() for line in lines], overwrite=force)
