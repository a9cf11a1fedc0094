"""`graphopt lower --to onnx` against tf2onnx: seconds of the whole process, nodes, transposes, ONNX Runtime's outputs.

    python tools/measure_onnx.py [--models NAME,…] [--peer PYTHON] [--opset 18]

Both start from the same SavedModel of the zoo (tools/tflite_zoo.py builds it), each in a process of its own. `--peer`
is a Python that has tf2onnx and TensorFlow. Errors are ONNX Runtime's against TensorFlow's outputs over their scale.
Timings mean something on a machine that does nothing else. A model that tf2onnx converts and graphopt does not, or
with more nodes or less than ten times as fast, is a line `FAILS`, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

from onnx_files import compare, counts
from subjects import cases

ZOO = pathlib.Path.home() / ".cache" / "graphopt" / "zoo"
SPEEDUP, LIMIT = 10.0, 600


def run(command: list[str]) -> tuple[float, str]:
    """Seconds, and what went wrong, empty if nothing."""
    started = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return float(LIMIT), f"no end within {LIMIT} s"
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return time.perf_counter() - started, (lines[-1] if lines else "failed") if done.returncode else ""


def sizes(path: pathlib.Path) -> tuple[int, int]:
    """Nodes, constants aside, and transposes, bodies of loops included."""
    kinds = counts(path)
    return sum(kinds.values()), kinds["Transpose"]


def error(path: pathlib.Path, folder: pathlib.Path) -> float | str | None:
    """The largest error over the scale of its output, on the first sample kept; None where none is kept."""
    held = folder / "signature_io.npz"
    names = list(cases(held))
    return compare(path, held, "serving_default" if "serving_default" in names else names[0]) if names else None


def measure(name: str, options: argparse.Namespace, scratch: pathlib.Path) -> bool:
    """Print a row; whether it holds."""
    source, ours, theirs = ZOO / name / "saved_model", scratch / "ours.onnx", scratch / "theirs.onnx"
    for path in (ours, theirs):
        path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "graphopt", "lower", str(source), "--to", "onnx", "-o", str(ours)]
    own_seconds, own_failure = run([*command, "--signatures", "serving_default"] if options.signature else command)
    peer_command = [options.peer, "-m", "tf2onnx.convert", "--saved-model", str(source), "--output", str(theirs)]
    peer_seconds, peer_failure = run([*peer_command, "--opset", str(options.opset)])
    row: dict[str, Any] = {"ours": own_failure[:60], "theirs": re.sub(r"\s+", " ", peer_failure)[:60]}
    mine = sizes(ours) if not own_failure else None
    other = sizes(theirs) if not peer_failure and theirs.exists() else None
    wrong = error(ours, ZOO / name) if mine else None
    failed = []
    if other and not mine:
        failed.append("tf2onnx converts it")
    if other and mine and mine[0] > other[0]:
        failed.append("more nodes")
    if other and mine and peer_seconds / own_seconds < SPEEDUP:
        failed.append("not fast enough")
    print(
        f"{name:28} {own_seconds:6.2f} s {peer_seconds:7.2f} s {peer_seconds / own_seconds:6.1f}x  nodes "
        f"{mine[0] if mine else '-':>5} {other[0] if other else '-':>5}  transposes {mine[1] if mine else '-':>3} "
        f"{other[1] if other else '-':>3}  error {f'{wrong:.1e}' if isinstance(wrong, float) else wrong} "
        f"{' '.join(filter(None, row.values()))} {'FAILS ' + ', '.join(failed) if failed else ''}",
        flush=True,
    )
    return not failed


def main() -> int:
    """All models that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="", help="names of the zoo's models (default: all that are there)")
    parser.add_argument("--peer", default=sys.executable, help="a Python with tf2onnx")
    parser.add_argument("--opset", type=int, default=18, help="tf2onnx's, which goes to 18")
    parser.add_argument("--signature", action="store_true", help="lower serving_default alone")
    options = parser.parse_args()
    names = options.models.split(",") if options.models else sorted(p.parent.name for p in ZOO.glob("*/saved_model"))
    with tempfile.TemporaryDirectory() as scratch:
        held = [measure(name, options, pathlib.Path(scratch)) for name in names]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
