"""`graphopt optimize` against TensorFlow's Grappler, whole processes, on frozen Keras applications.

    python tools/measure_optimize.py [--runs 5] [NAME ...]

The peer is a process that imports TensorFlow, parses the same file, runs Grappler's default rewriters on it and
writes the result. Both run in turn on the same machine; the ratio is the median over pairs. What graphopt wrote is then
checked: no batch norm, no foldable constant, only portable operators, no more nodes than Grappler leaves (each of
its `_Fused…` counted as the operators it stands for), outputs as TensorFlow computed them, TensorFlow never imported.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from model_zoo import APPLICATIONS, ensure
from processes import ENVIRONMENT, PYTHON, geometric_mean, paired

GRAPPLER = """
import sys
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.grappler import tf_optimizer
source, target, outputs = sys.argv[1:]
graph_def = graph_pb2.GraphDef.FromString(open(source, "rb").read())
with tf.Graph().as_default() as graph:
    tf.import_graph_def(graph_def, name="")
meta = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
meta.collection_def["train_op"].node_list.value.extend(outputs.split(","))
open(target, "wb").write(tf_optimizer.OptimizeGraph(tf.compat.v1.ConfigProto(), meta).SerializeToString())
"""
FREE_OF_TENSORFLOW = """
import sys
from graphopt.cli.main import main
status = main(sys.argv[1:])
sys.exit(status or ("tensorflow imported" if "tensorflow" in sys.modules else 0))
"""
ERROR, MEMORY_FACTOR, MEMORY_MIB = 1e-4, 2.5, 150.0


def check(folder: pathlib.Path, optimised: pathlib.Path) -> dict[str, Any]:
    """What is true of the model graphopt wrote."""
    import numpy as np
    import tensorflow as tf

    meta = json.loads((folder / "meta.json").read_text())
    graph_def = tf.compat.v1.GraphDef.FromString(optimised.read_bytes())
    operators = [node.op for node in graph_def.node]
    constants = {node.name for node in graph_def.node if node.op == "Const"}
    foldable = [
        node.name
        for node in graph_def.node
        if node.input and all(name.partition(":")[0] in constants for name in node.input)
    ]
    arrays = np.load(folder / "io.npz")
    output = meta["outputs"][0]
    expected = arrays[f"out|{output}"]
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            actual = np.stack([session.run(f"{output}:0", {"x:0": sample}) for sample in arrays["in|x"]])
    return {
        "nodes": len(operators),
        "grappler_nodes": sum(meta["grappler"].values()),
        "error": float(np.abs(actual - expected).max() / np.abs(expected).max()),
        "spread": meta["spread"],
        "batch_norms": sum("BatchNorm" in op or op == "Rsqrt" for op in operators),
        "foldable": len(foldable),
        "unportable": sorted({op for op in operators if op.startswith("_")}),
    }


def check_apart(folder: pathlib.Path, optimised: pathlib.Path) -> dict[str, Any]:
    """`check` in a process of its own: a child's peak memory starts at its parent's, so this one stays light."""
    command = [PYTHON, __file__, "--check", str(folder), str(optimised)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def measure(name: str, runs: int, scratch: pathlib.Path) -> tuple[float, bool]:
    """Time one model, print its row; returns the ratio and whether everything held."""
    folder = ensure(name)
    meta = json.loads((folder / "meta.json").read_text())
    source, outputs = str(folder / "frozen.pb"), ",".join(meta["outputs"])
    ours, theirs = scratch / f"{name}.pb", scratch / f"{name}.grappler.pb"
    verb = ["optimize", source, "-o", str(ours), "--force", "-q", "--inputs", "x", "--outputs", outputs]
    mine, peer, ratio = paired(
        [PYTHON, "-c", FREE_OF_TENSORFLOW, *verb], [PYTHON, "-c", GRAPPLER, source, str(theirs), outputs], runs
    )
    facts = check_apart(folder, ours)
    limit = MEMORY_FACTOR * meta["weights"] / 2**20 + MEMORY_MIB
    held = (
        facts["error"] <= ERROR
        and not (facts["batch_norms"] or facts["foldable"] or facts["unportable"])
        and facts["nodes"] <= facts["grappler_nodes"]
        and mine.peak_mib <= limit
        and ratio >= 5
    )
    print(
        f"{name:16} {mine.wall:6.2f} {peer.wall:8.2f} {ratio:6.1f}x "
        f"{mine.peak_mib:6.0f} / {limit:4.0f} {peer.peak_mib:8.0f} "
        f"{meta['nodes']:6} {facts['nodes']:5} {facts['grappler_nodes']:8} {facts['error']:8.1e}  "
        f"{'holds' if held else 'FAILS ' + json.dumps(facts)}",
        flush=True,
    )
    return ratio, bool(held)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(APPLICATIONS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--check", nargs=2, type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check:
        print(json.dumps(check(*options.check)))
        return 0
    print("model            ours s Grappler   ratio  peak MiB/limit  Grappler  nodes  ours Grappler  error/scale")
    with tempfile.TemporaryDirectory() as scratch:
        rows = [measure(name, options.runs, pathlib.Path(scratch)) for name in options.names]
    mean = geometric_mean([ratio for ratio, _ in rows])
    print(f"geometric mean {mean:.1f}x (bound 8x), least {min(ratio for ratio, _ in rows):.1f}x (bound 5x)")
    return 0 if mean >= 8 and all(held for _, held in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
