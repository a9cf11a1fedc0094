"""A reader finds the old file or the new one, whatever happens to the writer."""

from __future__ import annotations

import errno
import os
import pathlib
import random
import signal
import stat
import subprocess
import sys
import time
from typing import Any

import pytest

from graphopt.ir.errors import UsageError
from graphopt.ir.formats import atomic
from graphopt.ir.formats.atomic import directory_written_atomically, write_atomically


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_kinds_of_chunks(tmp_path: pathlib.Path) -> None:
    write_atomically(tmp_path / "f", [b"ab", bytearray(b"cd"), memoryview(b"xefx")[1:3], b""])
    assert (tmp_path / "f").read_bytes() == b"abcdef"
    assert names(tmp_path) == ["f"]


def test_nothing_is_replaced_unasked(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f"
    write_atomically(path, [b"old"])
    with pytest.raises(UsageError, match="exists already; give --force"):
        write_atomically(path, [b"new"])
    assert path.read_bytes() == b"old"
    write_atomically(path, [b"new"], overwrite=True)
    assert path.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f"

    def chunks() -> Any:
        yield b"new"
        path.write_bytes(b"other")

    with pytest.raises(UsageError, match="exists already"):
        write_atomically(path, chunks())
    assert path.read_bytes() == b"other"
    assert names(tmp_path) == ["f"]


def test_permissions_and_links_are_kept(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    write_atomically(tmp_path / "link", [b"new"], overwrite=True)
    assert path.read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    umask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "g", [b"new"])
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "g").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("target", "words"), [(".", "is a directory"), ("no/file", "no folder"), ("/dev/null", "regular")]
)
def test_what_is_no_place_for_a_file(target: str, words: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=words):
        write_atomically(tmp_path / target, [b"x"], overwrite=True)


def failing_after(function: Any, calls: int, code: int) -> Any:
    """`function`, which fails with the system's error `code` from call number `calls` on."""
    count = 0

    def call(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > calls:
            raise OSError(code, os.strerror(code))
        return function(*arguments)

    return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(
    ("function", "calls"),
    [("write", 0), ("write", 1), ("write", 2), ("fsync", 0), ("fchmod", 0), ("replace", 0)],
)
def test_after_an_error_everything_is_as_it_was(
    function: str, calls: int, code: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    monkeypatch.setattr(atomic.os, function, failing_after(getattr(os, function), calls, code))
    with pytest.raises(UsageError, match=r"f cannot be written: (No space left|Input/output error)"):
        write_atomically(path, [b"a", b"b", b"c"], overwrite=True)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_short_writes_are_continued(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(atomic.os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_atomically(tmp_path / "f", [b"0123456789"])
    assert (tmp_path / "f").read_bytes() == b"0123456789"


def test_the_order_that_survives_a_loss_of_power(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("write", "fsync", "close", "replace"):
        function = getattr(os, name)

        def call(*arguments: Any, name: str = name, function: Any = function) -> Any:
            is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            calls.append("fsync folder" if is_folder else name)
            return function(*arguments)

        monkeypatch.setattr(atomic.os, name, call)
    write_atomically(tmp_path / "f", [b"x"], overwrite=True)
    assert calls == ["write", "fsync", "close", "replace", "fsync folder", "close"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_source_that_fails_leaves_nothing(error: type[BaseException], tmp_path: pathlib.Path) -> None:
    def chunks() -> Any:
        yield b"new"
        raise error

    with pytest.raises(error):
        write_atomically(tmp_path / "f", chunks())
    assert names(tmp_path) == []


WRITER = """
import sys
from graphopt.ir.formats.atomic import write_atomically
print("ready", flush=True)
count = 0
while True:
    count += 1
    octet = bytes([count % 256])
    write_atomically(sys.argv[1], [octet * 4096] * 64, overwrite=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
def test_killed_at_any_moment(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\0" * 4096 * 64)
    generator = random.Random(0)
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-I", "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=tmp_path)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(generator.uniform(0, 0.05))
        writer.kill()
        writer.communicate()
        content = path.read_bytes()
        assert len(content) == 4096 * 64
        assert len(set(content)) == 1


# Directories --------------------------------------------------------------------------------------------------


def test_a_directory_takes_its_place_when_it_is_whole(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "model"
    with directory_written_atomically(target) as made:
        (pathlib.Path(made) / "variables").mkdir()
        (pathlib.Path(made) / "variables" / "data").write_bytes(b"1")
        assert not target.exists()
    assert (target / "variables" / "data").read_bytes() == b"1"
    with pytest.raises(UsageError, match="exists already"), directory_written_atomically(target):
        raise AssertionError("the block ran")
    with directory_written_atomically(target, overwrite=True) as made:
        (pathlib.Path(made) / "new").write_bytes(b"2")
    assert names(target) == ["new"]
    assert names(tmp_path) == ["model"]


def test_a_directory_that_fails_leaves_the_old_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_bytes(b"1")

    def fill(error: type[Exception] | None) -> None:
        with directory_written_atomically(target, overwrite=True) as made:
            (pathlib.Path(made) / "new").write_bytes(b"2")
            if error is not None:
                raise error

    with pytest.raises(RuntimeError):
        fill(RuntimeError)
    assert names(target) == ["old"]
    monkeypatch.setattr(atomic.os, "rename", _second_fails(os.rename))
    with pytest.raises(UsageError, match="Input/output"):
        fill(None)
    assert names(target) == ["old"]
    assert names(tmp_path) == ["model"]


def _second_fails(rename: Any) -> Any:
    calls = 0

    def call(source: str, target: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    return call


@pytest.mark.parametrize(("target", "words"), [("f", "no directory"), ("no/dir", "no folder")])
def test_what_is_no_place_for_a_directory(target: str, words: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    with pytest.raises(UsageError, match=words), directory_written_atomically(tmp_path / target, overwrite=True):
        raise AssertionError("the block ran")
