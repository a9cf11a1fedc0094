"""Programs that need TensorFlow, each in a process of its own: TensorFlow ends the process where it did not expect
what it meets."""

from __future__ import annotations

import os
import subprocess
import sys

from graphopt.ir.errors import UnsupportedError, printable

SECONDS = 600.0


def run_tensorflow(program: str, *arguments: str, what: str, folder: str | None = None) -> None:
    """Run a program of Python, in `folder` if it is given. Raises `UnsupportedError`, naming `what`, if it fails."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", program, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, env=environment, check=False, cwd=folder)
    except subprocess.TimeoutExpired as error:
        raise UnsupportedError(f"{what} did not end within {SECONDS:.0f} s") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise UnsupportedError(f"{what} failed: {printable(lines[-1], 400)}")
