"""SavedModel to frozen, optimised graph: graphopt against TensorFlow's freezer and Grappler, whole processes.

    python tools/measure_freeze.py [--runs 5] [NAME ...]

The peer is a process that loads the SavedModel with TensorFlow, freezes its signature with
`convert_variables_to_constants_v2`, runs Grappler's default rewriters and writes the result. Models are those of
tools/model_zoo.py, exported once as SavedModels with their variables.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from model_zoo import NAMES, ensure
from processes import ENVIRONMENT, PYTHON, geometric_mean, paired

OURS = """
import gc, sys
gc.disable()
from graphopt.freezing import freeze
from graphopt.ir.formats.graphdef import write_graphdef
from graphopt.passes import PassManager
frozen = freeze(sys.argv[1], signature="serving_default")
PassManager("inference").run(frozen.model)
write_graphdef(frozen.model, sys.argv[2])
sys.exit("tensorflow imported" if "tensorflow" in sys.modules else 0)
"""
PEER = """
import sys
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.grappler import tf_optimizer
loaded = tf.saved_model.load(sys.argv[1])
frozen = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
outputs = [tensor.name.split(":")[0] for tensor in frozen.outputs]
meta = tf.compat.v1.train.export_meta_graph(graph_def=frozen.graph.as_graph_def(), graph=frozen.graph)
meta.collection_def["train_op"].node_list.value.extend(outputs)
open(sys.argv[2], "wb").write(tf_optimizer.OptimizeGraph(tf.compat.v1.ConfigProto(), meta).SerializeToString())
"""
COMPARE = """
import json, sys
import numpy as np, tensorflow as tf
from graphopt.ir.formats.graphdef import load
saved, ours = sys.argv[1:]
function = tf.saved_model.load(saved).signatures["serving_default"]
spec = next(iter(function.structured_input_signature[1].values()))
x = np.random.default_rng(0).normal(size=spec.shape.as_list()).astype(np.float32)
want = next(iter(function(tf.constant(x)).values())).numpy()
graph_def = tf.compat.v1.GraphDef.FromString(open(ours, "rb").read())
names = [n.name for n in graph_def.node]
used = {i.split(":")[0].lstrip("^") for n in graph_def.node for i in n.input}
with tf.Graph().as_default() as graph:
    tf.import_graph_def(graph_def, name="")
    sources = [n.name for n in graph_def.node if n.op == "Placeholder"]
    sinks = [n for n in names if n not in used]
    with tf.compat.v1.Session(graph=graph) as session:
        have = session.run(sinks[0] + ":0", {sources[0] + ":0": x})
print(json.dumps({"error": float(np.abs(have - want).max() / np.abs(want).max()), "nodes": len(names)}))
"""


def measure(name: str, runs: int, scratch: pathlib.Path) -> tuple[float, bool]:
    """Time one model and print its row; returns the ratio and whether the bounds hold."""
    saved = ensure(name) / "saved_model"
    ours, theirs = scratch / "ours.pb", scratch / "theirs.pb"
    mine, peer, ratio = paired(
        [PYTHON, "-c", OURS, str(saved), str(ours)], [PYTHON, "-c", PEER, str(saved), str(theirs)], runs
    )
    command = [PYTHON, "-c", COMPARE, str(saved), str(ours)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    facts = json.loads(done.stdout.splitlines()[-1])
    held = facts["error"] <= 1e-4 and mine.peak_mib <= peer.peak_mib / 2
    print(
        f"{name:18} {mine.wall:6.2f} {peer.wall:8.2f} {ratio:6.1f}x {mine.cpu:6.2f} {peer.cpu:8.2f} "
        f"{peer.cpu / mine.cpu:6.1f}x {mine.peak_mib:6.0f} {peer.peak_mib:8.0f} "
        f"{facts['nodes']:6} {facts['error']:8.1e}  {'holds' if held else 'FAILS'}",
        flush=True,
    )
    return ratio, held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print("model              wall s   peer's   ratio  CPU s   peer's   ratio    MiB   peer's  nodes  error/scale")
    with tempfile.TemporaryDirectory() as scratch:
        rows = [measure(name, options.runs, pathlib.Path(scratch)) for name in options.names]
    mean = geometric_mean([ratio for ratio, _ in rows])
    print(f"geometric mean {mean:.1f}x (bound 10x)")
    return 0 if mean >= 10 and all(held for _, held in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
