"""`graphopt lower --to onnx` against tf2onnx: seconds of the whole process, nodes, transposes, ONNX Runtime's outputs.

    python tools/measure_onnx.py [--models NAME,…] [--peer PYTHON] [--opset 18]

Both start from the same SavedModel of the zoo (tools/tflite_zoo.py builds it), each in a process of its own. `--peer`
is a Python that has tf2onnx and TensorFlow. Errors are ONNX Runtime's against TensorFlow's outputs over their scale.
Timings mean something on a machine that does nothing else. A model that tf2onnx converts and graphopt does not, or
with more nodes or less than ten times as fast, is a line `FAILS`, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

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


def counts(path: pathlib.Path) -> tuple[int, int]:
    """Nodes, constants aside, and transposes, bodies of loops included."""
    import onnx

    kinds: collections.Counter[str] = collections.Counter()
    pending = [onnx.load(str(path), load_external_data=False).graph]
    while pending:
        graph = pending.pop()
        for node in graph.node:
            kinds[node.op_type] += 1
            pending += [item.g for item in node.attribute if item.HasField("g")]
    return sum(kinds.values()) - kinds["Constant"], kinds["Transpose"]


def error(path: pathlib.Path, folder: pathlib.Path) -> float | None:
    """The largest error over the scale of its output, on the first sample kept; None where none is kept."""
    import onnxruntime

    held = np.load(folder / "signature_io.npz") if (folder / "signature_io.npz").exists() else None
    if held is None:
        return None
    parts = [key.split("|") for key in held.files]
    first = next((p[1] for p in parts if p[1].startswith("serving_default")), parts[0][1])
    session = onnxruntime.InferenceSession(str(path))
    feeds = {item.name: held[f"in|{first}|{item.name}"] for item in session.get_inputs()}
    worst = 0.0
    for item, array in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        wanted = held[f"out|{first}|{item.name}"]
        if wanted.dtype.kind == "f" and wanted.size:
            worst = max(worst, float(np.abs(array - wanted).max() / (np.abs(wanted).max() + 1e-30)))
    return worst


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
    mine = counts(ours) if not own_failure else None
    other = counts(theirs) if not peer_failure and theirs.exists() else None
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
        f"{other[1] if other else '-':>3}  error {wrong if wrong is None else f'{wrong:.1e}'} "
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
