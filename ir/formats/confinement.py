"""Files that belong to a model of several files: opened only inside the model's own folder.

A model names files of its own (shards, assets). Whatever it says, nothing outside its folder is opened: neither by
an absolute path, nor by `..`, nor through a symbolic link; nor anything that is no regular file.
"""

from __future__ import annotations

import mmap
import os
import stat

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.tensors import Mapping

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def inside(root: str, relative: str) -> str:
    """The real path of `relative` in the folder `root`. Raises `MalformedError` if that is not inside it."""
    parts = relative.replace("\\", "/").split("/")
    if "\0" in relative or os.path.isabs(relative) or ".." in parts:
        raise MalformedError(
            f"the file '{printable(relative)}' is named by a path that leaves the model's folder, and is not opened",
            source=root,
        )
    base = os.path.realpath(root)
    path = os.path.realpath(os.path.join(base, relative))
    if path != base and not path.startswith(os.path.join(base, "")):
        raise MalformedError(
            f"'{printable(relative)}' is a symbolic link out of the model's folder and is not followed; "
            "put a copy of the file in its place",
            source=root,
        )
    return path


def map_inside(root: str, relative: str) -> Mapping:
    """The file `relative` of the folder `root`, mapped. Raises `MalformedError`."""
    path = inside(root, relative)
    name = os.path.join(root, relative)
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise MalformedError("there is no such file", source=name) from None
    except OSError as error:
        raise MalformedError(f"cannot be read: {printable(error.strerror or str(error))}", source=name) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise MalformedError("cannot be read: it is no regular file", source=name)
        return Mapping(name, mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if found.st_size else b"")
    finally:
        os.close(descriptor)
