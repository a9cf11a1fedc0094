"""Optimise every GraphDef of the corpus and compare what TensorFlow computes before and after.

    python tools/run_corpus.py [--corpus FOLDER] [--pipeline inference] [--only TEXT] [--list]

Needs the extra `tensorflow` and a corpus folder with its MANIFEST.json (default ../shared/corpus, or $GRAPHOPT_CORPUS).
Each model ends as one of

- `reproduced`: the optimised graph gives the recorded reference, or TensorFlow's own output on seeded inputs;
- `imports`: TensorFlow cannot run the original either (no variables, no inputs to guess); it takes the optimised graph;
- `refused by both`: TensorFlow refuses the file, and graphopt says clearly why or carries it through;
- `FAILS`: anything else. The exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DEFAULT = pathlib.Path(os.environ.get("GRAPHOPT_CORPUS", pathlib.Path(__file__).parents[2] / "shared" / "corpus"))
GUESSES = ((1, 8), (2, 64), (1, 28))  # numbers for the first and the other unknown dimensions, tried in turn
STATED = {"graphdef/tract/hey_snips_3.pb": {"inputs": (100, 40)}}  # inputs whose shape the graph does not say
LONGEST_MS = 10_000
RELATIVE = 1e-4  # of the output's scale
UNKNOWN_RANK = ((1,), (), (1, 8), (1, 8, 8, 3))


def reason_of(error: Exception) -> str:
    """The telling line of TensorFlow's message."""
    lines = [line for line in str(error).splitlines() if line.strip() and "execution error" not in line]
    return (lines or [type(error).__name__])[0][:200]


def base(name: str) -> str:
    """A node's name without its port."""
    return name.partition(":")[0]


class Session:
    """One graph in TensorFlow, with its rewriters off."""

    def __init__(self, graph_def: Any) -> None:
        import tensorflow as tf

        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.import_graph_def(graph_def, name="")
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        config.graph_options.optimizer_options.opt_level = -1
        config.operation_timeout_in_ms = LONGEST_MS  # a guessed input may let a loop run for ever
        self.session = tf.compat.v1.Session(graph=self.graph, config=config)

    def run(self, feeds: dict[str, Any], outputs: list[str]) -> list[Any]:
        return self.session.run(outputs, {f"{base(name)}:0": value for name, value in feeds.items()})


def fetchable(model: Any, names: list[str]) -> list[str]:
    """Tensor names that a session can fetch: dense values."""
    found = []
    for name in names:
        node = model.graph.find(base(name))
        port = int(name.partition(":")[2] or 0)
        if node is not None and port < len(node.outputs):
            dtype = node.outputs[port].dtype
            if not dtype.is_handle:
                found.append((dtype.code > 100, f"{base(name)}:{port}"))
    plain = [name for is_reference, name in found if not is_reference]
    return list(dict.fromkeys(plain or [name for _, name in found]))


def recorded(entry: dict[str, Any], root: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reference inputs and outputs, if there are any."""
    import numpy as np

    feeds: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    for path in entry.get("reference_io") or ():
        if path.endswith(".npz"):
            with np.load(root / path, allow_pickle=False) as arrays:
                for key in arrays.files:
                    kind, _, name = key.partition("|")
                    (feeds if kind == "in" else expected)[name] = arrays[key]
    return feeds, expected


def guessed_feeds(model: Any, names: list[str], stated: dict[str, tuple[int, ...]]) -> Any:
    """Seeded inputs for `names`, with several guesses at unknown dimensions."""
    import numpy as np

    rng = np.random.default_rng(0)
    for guess, unknown_rank in [(g, r) for r in UNKNOWN_RANK for g in GUESSES]:
        feeds = {}
        for name in names:
            value = model.graph.value(name)
            dims = value.shape.dims if value.shape.dims is not None else stated.get(base(name), unknown_rank)
            shape = [d if isinstance(d, int) else guess[0 if place == 0 else 1] for place, d in enumerate(dims)]
            dtype = value.dtype.numpy
            if dtype is None or value.dtype.kind == "string":
                return
            if dtype == np.bool_:
                feeds[name] = np.zeros(shape, bool)
            elif dtype.kind in "iu":
                feeds[name] = rng.integers(0, 5, shape).astype(dtype)
            else:
                feeds[name] = rng.normal(size=shape).astype(dtype)
        yield feeds


def differs(actual: Any, expected: Any) -> str | None:
    """How two arrays differ beyond tolerance, or None."""
    import numpy as np

    left, right = np.asarray(actual), np.asarray(expected)
    if left.shape != right.shape:
        return f"shape {left.shape}, expected {right.shape}"
    if left.dtype.kind not in "fc":
        return None if np.array_equal(left, right) else "values differ"
    if not np.array_equal(np.isnan(left), np.isnan(right)):
        return "NaN in other places"
    finite = np.isfinite(right)
    if not np.array_equal(left[~finite & ~np.isnan(right)], right[~finite & ~np.isnan(right)]):
        return "Inf in other places"
    scale = max(float(np.abs(right[finite]).max(initial=0.0)), 1e-3)
    error = float(np.abs(left[finite].astype(np.float64) - right[finite]).max(initial=0.0))
    return f"error {error:.2e} at scale {scale:.2e}" if error > RELATIVE * scale else None


def examine(entry: dict[str, Any], root: pathlib.Path, pipeline: str) -> tuple[str, str]:
    """The verdict on one model, and its reason."""
    from graphopt.ir import Error
    from graphopt.ir.formats import graphdef
    from graphopt.passes import PassManager

    path = root / entry["path"]
    try:
        model = graphdef.load(path)
        original = graphdef.graphdef_bytes(model)
        feeds, expected = recorded(entry, root)
        feeds = {name: value for name, value in feeds.items() if model.graph.find(base(name)) is not None}
        inputs = list(feeds) or [i["name"] for i in entry.get("inputs") or () if model.graph.find(base(i["name"]))]
        names = list(expected) or entry.get("ref_outputs") or [o["name"] for o in entry.get("outputs") or ()]
        outputs = fetchable(model, names) or fetchable(model, discovered(model))
        model.set_signature(
            {name: model.graph.value(name) for name in inputs}, {name: model.graph.value(name) for name in outputs}
        )
        if not outputs:
            model.graph.targets = [node for node in model.graph if not node.has_uses]
        PassManager(pipeline).run(model)
        optimised = graphdef.graphdef_bytes(model)
    except Error as error:
        if not entry["loads"]:
            return "refused by both", str(error)
        return "FAILS", f"{type(error).__name__}: {error}"
    return compare(entry, model, original, optimised, feeds, expected, outputs, inputs)


def discovered(model: Any) -> list[str]:
    """Outputs that graphopt itself would choose."""
    from graphopt.discovery import discover

    return [value.name for value in discover(model).outputs.values()]


def compare(
    entry: dict[str, Any],
    model: Any,
    original: bytes,
    optimised: bytes,
    feeds: dict[str, Any],
    expected: dict[str, Any],
    outputs: list[str],
    inputs: list[str],
) -> tuple[str, str]:
    """Run both graphs in TensorFlow."""
    from tensorflow.core.framework import graph_pb2

    try:
        before = Session(graph_pb2.GraphDef.FromString(original))
    except Exception as error:
        return "refused by both", f"TensorFlow: {reason_of(error)}"
    try:
        after = Session(graph_pb2.GraphDef.FromString(optimised))
    except Exception as error:
        return "FAILS", f"TensorFlow refuses the optimised graph: {reason_of(error)}"
    if not outputs:
        return "imports", "no output to compute"
    reason = "no feeds to guess"
    for candidate in [feeds] if feeds or not inputs else guessed_feeds(model, inputs, STATED.get(entry["path"], {})):
        try:
            wanted = before.run(candidate, outputs)
            again = before.run(candidate, outputs)
        except Exception as error:
            reason = f"TensorFlow cannot run the original: {reason_of(error)}"
            continue
        try:
            got = after.run(candidate, outputs)
        except Exception as error:
            return "FAILS", f"TensorFlow cannot run the optimised graph: {reason_of(error)}"
        return judge(entry, outputs, wanted, again, got, expected)
    return "imports", reason


def judge(
    entry: dict[str, Any],
    outputs: list[str],
    wanted: list[Any],
    again: list[Any],
    got: list[Any],
    expected: dict[str, Any],
) -> tuple[str, str]:
    """Compare what was computed with TensorFlow's output and with the record."""
    compared = 0
    for name, want, repeat, have in zip(outputs, wanted, again, got, strict=True):
        if differs(repeat, want) is not None:
            continue  # drawn at random
        compared += 1
        difference = differs(have, want)
        if difference is not None:
            return "FAILS", f"'{name}': {difference}"
        if entry.get("reference_verified") and name in expected and differs(have, expected[name]) is not None:
            return "FAILS", f"'{name}' against the record: {differs(have, expected[name])}"
    return ("reproduced", f"{compared} outputs") if compared else ("imports", "every output is drawn at random")


def work(paths: list[str], root: pathlib.Path, pipeline: str) -> None:
    """Examine models one after the other, a JSON line each."""
    entries = {entry["path"]: entry for entry in json.loads((root / "MANIFEST.json").read_text())}
    for path in paths:
        print(json.dumps({"start": path}), flush=True)
        try:
            verdict, reason = examine(entries[path], root, pipeline)
        except Exception as error:
            verdict, reason = "FAILS", f"{type(error).__name__}: {error}"
        print(json.dumps({"path": path, "verdict": verdict, "reason": reason}), flush=True)


def supervise(paths: list[str], root: pathlib.Path, pipeline: str) -> list[dict[str, str]]:
    """Run a worker over all models, and another over the rest whenever one dies."""
    results: list[dict[str, str]] = []
    remaining = list(paths)
    while remaining:
        command = [sys.executable, __file__, "--corpus", str(root), "--pipeline", pipeline, "--worker", *remaining]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        current = ""
        for line in process.stdout:
            record = json.loads(line) if line.startswith("{") else {}
            current = record.get("start", current)
            if "verdict" in record:
                results.append(record)
        process.wait()
        done = {record["path"] for record in results}
        if current and current not in done:
            results.append({"path": current, "verdict": "FAILS", "reason": f"the process died ({process.returncode})"})
            done.add(current)
        elif process.returncode:
            raise RuntimeError(f"the worker could not start (exit status {process.returncode})")
        remaining = [path for path in remaining if path not in done]
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=pathlib.Path, default=DEFAULT)
    parser.add_argument("--pipeline", default="inference")
    parser.add_argument("--only", default="", help="only models whose path contains this")
    parser.add_argument("--list", action="store_true", help="print the verdict on every model")
    parser.add_argument("--worker", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker, options.corpus, options.pipeline)
        return 0
    entries = json.loads((options.corpus / "MANIFEST.json").read_text())
    paths = [e["path"] for e in entries if e["kind"] == "graphdef" and options.only in e["path"]]
    results = supervise(paths, options.corpus, options.pipeline)
    counts: dict[str, int] = {}
    for record in results:
        counts[record["verdict"]] = counts.get(record["verdict"], 0) + 1
        if options.list or record["verdict"] == "FAILS":
            print(f"{record['verdict']:16} {record['path']}: {record['reason']}")
    print(f"{len(results)} GraphDefs: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    return 1 if "FAILS" in counts else 0


if __name__ == "__main__":
    sys.exit(main())
