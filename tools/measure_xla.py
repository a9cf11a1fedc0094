"""How long lowering to StableHLO takes beside TensorFlow's fastest route, and how fast the result runs beside its jit.

    python tools/measure_xla.py FROZEN.pb ... [--runs 30] [--json report.json]

Each lowering is a process of its own on the same frozen graph: ours, and TensorFlow's `experimental_get_compiler_ir`.
Seconds are those of the CPU, which other processes do not change; those without imports are measured inside.
Latencies are medians of `graphopt bench`, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
from typing import Any

NAMES = ("process", "without imports")
OURS = """
import sys, time
started = time.process_time()
import graphopt
from graphopt.backends.xla.backend import XlaBackend
from graphopt.testing import text_model
XlaBackend().lower(text_model("%y = tf.Relu(%x)"))  # what is imported at first use
ready = time.process_time()
model = graphopt.load(sys.argv[1])
lowered = XlaBackend().lower(model, fallback=False, batch=1)
print(ready - started, time.process_time() - ready)
"""
THEIRS = """
import sys, time
started = time.process_time()
import tensorflow as tf
ready = time.process_time()
graph = tf.compat.v1.GraphDef()
with open(sys.argv[1], "rb") as file:
    graph.ParseFromString(file.read())
wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
inputs, outputs = sys.argv[2].split(","), sys.argv[3].split(",")
tensors = [wrapped.graph.get_tensor_by_name(name) for name in inputs]
pruned = wrapped.prune(tensors, [wrapped.graph.get_tensor_by_name(name) for name in outputs])
specs = [tf.TensorSpec([1 if size is None else size for size in item.shape], item.dtype) for item in tensors]
function = tf.function(lambda *values: pruned(*values), jit_compile=True, input_signature=specs)
code = function.experimental_get_compiler_ir(*specs)(stage="stablehlo_serialized")
assert len(code) > 100
print(ready - started, time.process_time() - ready)
"""


def timed(program: str, *arguments: str) -> tuple[float, float] | None:
    """CPU seconds of a whole process, and of what it does after its imports; None where it fails, which is said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1][:300], file=sys.stderr)
        return None
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return whole, float(done.stdout.split()[-1])


def measure(path: str, runs: int) -> dict[str, Any]:
    """All figures of one frozen graph."""
    import graphopt
    from graphopt.names import tensor_name

    model = graphopt.load(path)
    signature = next(iter(model.signatures.values()))
    ends = [
        ",".join(map(tensor_name, values.values())) for values in (signature.input_values(), signature.output_values())
    ]
    ours, theirs = timed(OURS, path), timed(THEIRS, path, *ends)
    medians = {name: latency(path, name, runs) for name in ("tensorflow", "tensorflow-jit", "xla")}
    return {"model": path, "ours": ours, "theirs": theirs, "medians": medians}


def latency(path: str, runtime: str, runs: int) -> float | None:
    """The median of a runtime in a process of its own: thread pools of two in one process are in each other's way."""
    command = [sys.executable, "-m", "graphopt", "bench", path, "--runtime", runtime, "--runs", str(runs), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    timing = json.loads(done.stdout)["timings"][0]
    if timing["problem"]:
        print(f"{runtime}: {timing['problem'][:300]}", file=sys.stderr)
    found: float | None = timing["median_seconds"]
    return found


def main() -> None:
    """Print a line for each model, and the geometric means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--json")
    options = parser.parse_args()
    rows = []
    for path in options.models:
        row = measure(path, options.runs)
        rows.append(row)
        print(_line(row), flush=True)
    for name, quotients in _quotients(rows).items():
        if quotients:
            mean = math.exp(sum(map(math.log, quotients)) / len(quotients))
            print(f"{name}: {mean:.2f} in the geometric mean of {len(quotients)}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


def _line(row: dict[str, Any]) -> str:
    parts = [
        f"{name} {'-' if ours is None else f'{ours:.2f} s'} against {'-' if theirs is None else f'{theirs:.2f} s'}"
        for name, ours, theirs in zip(NAMES, _pair(row["ours"]), _pair(row["theirs"]), strict=True)
    ]
    parts += [f"{name} {seconds * 1e3:.2f} ms" for name, seconds in row["medians"].items() if seconds]
    return f"{row['model']}: " + ", ".join(parts)


def _pair(found: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if found is None else found


def _quotients(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"process": [], "without imports": [], "latency of tensorflow-jit over xla": []}
    for row in rows:
        ours, theirs, medians = row["ours"], row["theirs"], row["medians"]
        if ours and theirs:
            found["process"].append(theirs[0] / ours[0])
            found["without imports"].append(theirs[1] / ours[1])
        if medians["tensorflow-jit"] and medians["xla"]:
            found["latency of tensorflow-jit over xla"].append(medians["tensorflow-jit"] / medians["xla"])
    return found


if __name__ == "__main__":
    main()
