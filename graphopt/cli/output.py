"""Writing what a command makes: never over an input, never over what exists unless told to, never half."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from graphopt.ir.errors import UsageError, printable

if TYPE_CHECKING:
    from graphopt.ir.model import Model

STDOUT = "-"


def check_output(path: str, force: bool, *inputs: str) -> None:
    """Raise `UsageError`, before any work, unless a file may be written to `path`."""
    if path == STDOUT:
        return
    shown = printable(path)
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise UsageError(f"'{shown}' is a directory; name a file in it")
    if not os.path.isdir(folder):
        raise UsageError(f"the folder '{printable(folder)}' does not exist")
    for given in inputs:
        if os.path.exists(path) and os.path.exists(given) and os.path.samefile(path, given):
            raise UsageError(f"'{shown}' is the input itself; write to another file")
    if os.path.lexists(path) and not force:
        raise UsageError(f"'{shown}' exists; give --force to replace it")


def write_model(model: Model, path: str, force: bool) -> int:
    """Write `model` to `path`, or as binary to standard output; returns the number of bytes."""
    from graphopt.api import save

    if path != STDOUT:
        save(model, path, overwrite=force)
        return os.path.getsize(path)
    from graphopt.ir.formats.graphdef import graphdef_chunks

    size = 0
    for chunk in graphdef_chunks(model):
        size += sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
    return size


def write_text(path: str, lines: Iterable[str], force: bool) -> None:
    """Write `lines` to `path` as UTF-8, or to standard output."""
    if path == STDOUT:
        sys.stdout.writelines(lines)
        return
    from graphopt.ir.formats.atomic import write_atomically

    write_atomically(path, [line.encode() for line in lines], overwrite=force)
