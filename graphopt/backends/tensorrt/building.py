"""Building and timing the engine of a folder, where TensorRT and a GPU are."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import time
from typing import Any

from graphopt.ir.errors import CheckError, UnsupportedError, printable

PACKAGE = "tensorrt"
DRIVER = "libcuda.so.1" if os.name == "posix" else "nvcuda.dll"
SECONDS = 4 * 3600


class NoTensorRTError(UnsupportedError):
    """There is no TensorRT, or no GPU, to build an engine with."""


def require_tensorrt() -> None:
    """Raise `NoTensorRTError`, before any work, unless engines can be built here."""
    remedy = "leave --build out, and run build_engine.py of the folder on the machine that has them"
    if importlib.util.find_spec(PACKAGE) is None:
        raise NoTensorRTError(
            f"--build needs the package tensorrt and a GPU, and the package is not installed; {remedy}"
        )
    if not cards():
        raise NoTensorRTError(f"--build needs the package tensorrt and a GPU, and the driver shows no GPU; {remedy}")


def cards() -> int:
    """How many GPUs the driver shows; none where there is no driver."""
    try:
        library = ctypes.CDLL(DRIVER)
    except OSError:
        return 0
    count = ctypes.c_int()
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def build_engine(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Run the script of the folder: path and bytes of the engine, seconds of the build, milliseconds of a run.

    Raises `NoTensorRTError`, and `CheckError` where TensorRT fails.
    """
    require_tensorrt()
    command = [sys.executable, os.path.join(os.fspath(folder), "build_engine.py"), "--time"]
    started = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise CheckError(f"TensorRT did not build the engine within {SECONDS} s") from None
    if done.returncode:
        raise CheckError(f"TensorRT did not build the engine: {printable(' '.join(done.stderr.split())[-600:])}")
    path, times = done.stdout.strip().splitlines()[-2:]
    return {
        "engine": path, "bytes": os.path.getsize(path), "seconds": round(time.perf_counter() - started, 3),
        "milliseconds": json.loads(times),
    }  # fmt: skip
