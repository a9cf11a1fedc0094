"""Byte mutants of GraphDefs: read or refused, never a crash, a hang, undue memory or another exception."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2].resolve()


def fuzz(mode: str, count: int, folder: pathlib.Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the harness from scratch on `count` mutants."""
    command = [sys.executable, str(ROOT / "tools" / "fuzz_graphdef.py"), mode, "--count", str(count), *options]
    command += ["--state", str(folder / "state.json"), "--findings", str(folder / "findings")]
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("seed", "count"), [(0, 3000), pytest.param(1, 1_000_000, marks=pytest.mark.deep)], ids=["brief", "deep"]
)
def test_byte_mutants_are_read_or_refused(seed: int, count: int, tmp_path: pathlib.Path) -> None:
    done = fuzz("bytes", count, tmp_path, "--seed", str(seed))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{count} tried" in done.stdout
    assert "'unclean': 0" in done.stdout.splitlines()[-1]
