"""A file that holds all that is needed to see an internal error again."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from graphopt import __version__

SCHEMA = "graphopt/reproducer/v1"
COPY_LIMIT = 64 << 20  # bytes beyond which an input is described, not copied
INPUT_OPTIONS = ("model", "first", "second", "data", "in_graph")
PACKAGES = ("numpy", "ml-dtypes", "protobuf", "tensorflow")


def write_reproducer(error: BaseException, verb: str, arguments: Sequence[str], options: Any) -> str:
    """Write a ZIP archive into the temporary directory and return its path.

    It holds `reproducer.json` (command, versions, traceback, inputs with size and SHA-256) and a copy of each input
    file up to 64 MiB. Raises `OSError` where it cannot be written.
    """
    descriptor, path = tempfile.mkstemp(prefix="graphopt-reproducer-", suffix=".zip")
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        inputs = [_add_input(archive, place, given) for place, given in enumerate(_inputs(options))]
        description = {
            "schema": SCHEMA,
            "command": ["graphopt", verb, *arguments],
            "error": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exception(error),
            "inputs": inputs,
            "versions": {"graphopt": __version__, "python": sys.version, **dict(_versions())},
            "platform": platform.platform(),
        }
        archive.writestr("reproducer.json", json.dumps(description, indent=2, ensure_ascii=True))
    return path


def _inputs(options: Any) -> list[str]:
    named = (getattr(options, name, None) for name in INPUT_OPTIONS)
    return list(dict.fromkeys(path for path in named if isinstance(path, str) and os.path.isfile(path)))


def _add_input(archive: zipfile.ZipFile, place: int, path: str) -> dict[str, Any]:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)
    entry: dict[str, Any] = {"path": os.path.abspath(path), "bytes": size, "sha256": digest}
    if size <= COPY_LIMIT:
        entry["copy"] = f"inputs/{place}{os.path.splitext(path)[1]}"
        archive.write(path, entry["copy"])
    return entry


def _sha256(file: Any) -> str:
    """`hashlib.file_digest`, which Python 3.10 does not have."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"
