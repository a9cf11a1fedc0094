"""What every test run needs first: the environment, and the examples in the Markdown files as tests."""

from __future__ import annotations

import doctest
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest
from sybil import Example, Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

# Read by TensorFlow when it is imported, hence before anything can import it.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault(
    "TF_ENABLE_ONEDNN_OPTS", "1"
)  # one set of kernels for all tests, whoever imports TensorFlow first

ROOT = pathlib.Path(__file__).parent.resolve()
# `python -m pytest` puts the root on the path, where the folder graphopt/ would hide the installed package.
sys.path[:] = [entry for entry in sys.path if pathlib.Path(entry).resolve() != ROOT]

CONSOLE_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def split_console(block: str) -> list[tuple[str, str]]:
    """The (command, expected output) pairs of a console block: commands follow `$ `, their continuation lines `> `."""
    pairs: list[tuple[str, str]] = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            pairs.append((line[2:], ""))
        elif not pairs:
            raise ValueError(f"a console block starts with a line '$ command', not {line!r}")
        elif line.startswith("> ") and not pairs[-1][1]:
            pairs[-1] = (pairs[-1][0] + line[2:], "")
        else:
            pairs[-1] = (pairs[-1][0], pairs[-1][1] + line)
    return pairs


def run_console(example: Example) -> str | None:
    """Run each command in the document's folder; compare what it prints where the block shows it (`...` elides)."""
    binaries = pathlib.Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    for command, expected in split_console(example.parsed):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            return f"$ {command}exit status {done.returncode}\n{done.stdout}{done.stderr}"
        if expected and not doctest.OutputChecker().check_output(expected, done.stdout, CONSOLE_FLAGS):
            return f"$ {command}expected:\n{expected}\nprinted:\n{done.stdout}"
    return None


def enter_folder(namespace: dict[str, object]) -> None:
    """One empty folder per document, shared by its Python and console blocks."""
    namespace["_home"] = os.getcwd()
    namespace["_folder"] = folder = tempfile.TemporaryDirectory(prefix="graphopt-docs-")
    os.chdir(folder.name)


def leave_folder(namespace: dict[str, object]) -> None:
    os.chdir(str(namespace["_home"]))
    namespace["_folder"].cleanup()  # type: ignore[attr-defined]


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_console), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    setup=enter_folder,
    teardown=leave_folder,
).pytest()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep in one worker what belongs together: the blocks of a document, and all that imports TensorFlow."""
    if isinstance(item, SybilItem):
        item.add_marker(pytest.mark.xdist_group(item.path.relative_to(ROOT).as_posix()))
    elif item.get_closest_marker("tensorflow") and not item.get_closest_marker("xdist_group"):
        item.add_marker(pytest.mark.xdist_group("tensorflow"))
