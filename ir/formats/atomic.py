"""Writing so that a reader finds the old file or the new one, never a part of either."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator

from graphopt.ir.errors import UsageError, printable

Chunk = bytes | bytearray | memoryview
_WRITE_LIMIT = 1 << 30  # bytes for one system call, which some systems bound at 2 GiB


def write_atomically(path: str | os.PathLike[str], chunks: Iterable[Chunk], *, overwrite: bool = False) -> None:
    """Write `chunks` to `path` by way of a temporary file beside it, which replaces `path` once it is on the disk.

    On any error `path` is as it was and the temporary file is gone. A new file gets the usual permissions, a replaced
    one keeps its own; a symbolic link is followed. Raises `UsageError` if `path` exists and `overwrite` is off, if it
    is no place for a file, and for what the system reports: no space, no permission.
    """
    target = os.path.realpath(os.fspath(path))
    with _system_errors(target):
        _write(target, chunks, overwrite)


def _write(target: str, chunks: Iterable[Chunk], overwrite: bool) -> None:
    folder = os.path.dirname(target)
    mode = _check_target(target, folder, overwrite)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(target)[:64]}.", suffix=".tmp", dir=folder)
    try:
        try:
            for chunk in chunks:
                _write_all(descriptor, chunk)
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _put_in_place(temporary, target, overwrite)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(folder)


@contextlib.contextmanager
def _system_errors(target: str) -> Iterator[None]:
    """What the system reports about `target`, as a `UsageError`."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{printable(target)} cannot be written: {error.strerror or error}") from error


def _check_target(target: str, folder: str, overwrite: bool) -> int:
    """Permissions that the new file gets."""
    if not os.path.isdir(folder):
        raise UsageError(f"{printable(target)} cannot be written: there is no folder '{printable(folder)}'")
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return 0o666 & ~_umask()
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{printable(target)} cannot be written: it is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{printable(target)} cannot be written: it is no regular file")
    if not overwrite:
        raise UsageError(f"{printable(target)} exists already; give --force (overwrite=True) to replace it")
    return stat.S_IMODE(found.st_mode)


def _put_in_place(temporary: str, target: str, overwrite: bool) -> None:
    if overwrite or not hasattr(os, "link"):
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)  # unlike a rename, never replaces a file that appeared in the meantime
    except FileExistsError:
        raise UsageError(f"{printable(target)} exists already; give --force (overwrite=True) to replace it") from None
    except OSError:  # a file system without hard links
        os.replace(temporary, target)
        return
    os.unlink(temporary)


def _write_all(descriptor: int, chunk: Chunk) -> None:
    view = memoryview(chunk).cast("B")
    while view:
        written = os.write(descriptor, view[:_WRITE_LIMIT])
        view = view[written:]


def sync_directory(folder: str) -> None:
    """Make renames in `folder` last through a loss of power, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


@contextlib.contextmanager
def directory_written_atomically(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[str]:
    """A temporary directory to fill, which takes the place of `path` when the block ends without an error.

    Every file in it is put on the disk first. An existing directory is moved aside and then deleted, so that at any
    moment `path` is the old directory, the new one, or (for an instant) absent, never a mixture. Raises like
    `write_atomically`.
    """
    target = os.path.realpath(os.fspath(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise UsageError(f"{printable(target)} cannot be written: there is no folder '{printable(folder)}'")
    exists = os.path.lexists(target)
    if exists and not os.path.isdir(target):
        raise UsageError(f"{printable(target)} cannot be written: it is no directory")
    if exists and not overwrite and os.listdir(target):
        raise UsageError(f"{printable(target)} exists already; give --force (overwrite=True) to replace it")
    prefix = f".{os.path.basename(target)[:64]}."
    with _system_errors(target):
        scratch = tempfile.TemporaryDirectory(prefix=prefix, suffix=".tmp", dir=folder)
    with scratch:
        made = os.path.join(scratch.name, "new")
        os.mkdir(made)
        yield made
        with _system_errors(target):
            _sync_tree(made)
            _exchange(made, target, os.path.join(scratch.name, "old"))
            sync_directory(folder)


def _exchange(made: str, target: str, old: str) -> None:
    """Put `made` at `target`, and what was there at `old`; on an error back again."""
    exists = os.path.lexists(target)
    if exists:
        os.rename(target, old)
    try:
        os.rename(made, target)
    except BaseException:
        if exists:
            os.rename(old, target)
        raise


def _sync_tree(root: str) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(folder)
