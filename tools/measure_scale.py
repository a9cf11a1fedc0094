"""How time and memory grow with a graph: load, each cleanup pass, save; TensorFlow's import and Grappler beside.

    python tools/measure_scale.py [--largest 1000000] [--peers-largest 100000] [--kinds chain dag]

Synthetic GraphDefs hold identities, dead branches, duplicates and constant subgraphs in fixed shares. Every figure is
from a process of its own, in microseconds a node of the source graph; the peers run on the same files in the same run.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
from typing import Any

from processes import ENVIRONMENT, PYTHON, run

OURS = """
import json, resource, sys, time
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
from graphopt.ir.formats import graphdef
from graphopt.passes import PassManager
import gc
warm, source, target, inputs, outputs = sys.argv[1:]
gc.disable()
def work(source):
    model = graphdef.load(source)
    model.set_signature({inputs: model.graph.value(inputs)}, {outputs: model.graph.value(outputs)})
    PassManager("cleanup").run(model)
    graphdef.write_graphdef(model, target)
work(warm)
base, started = peak(), time.perf_counter()
model = graphdef.load(source)
loaded, memory = time.perf_counter(), peak() - base
nodes = model.node_count
model.set_signature({inputs: model.graph.value(inputs)}, {outputs: model.graph.value(outputs)})
report = PassManager("cleanup").run(model)
passed = time.perf_counter()
graphdef.write_graphdef(model, target)
done = time.perf_counter()
print(json.dumps({
    "nodes": nodes, "left": model.node_count, "load": loaded - started, "passes": passed - loaded,
    "save": done - passed, "total": done - started, "bytes": memory,
    "each": {entry.name + "#" + str(place): [entry.seconds, entry.nodes_before]
             for place, entry in enumerate(report.passes)},
}))
"""
PEER = """
import json, sys, time
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.grappler import tf_optimizer
warm, source, target, inputs, outputs = sys.argv[1:]
def work(source):
    started = time.perf_counter()
    graph_def = graph_pb2.GraphDef.FromString(open(source, "rb").read())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    imported = time.perf_counter()
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
    meta.collection_def["train_op"].node_list.value.append(outputs)
    after = tf_optimizer.OptimizeGraph(tf.compat.v1.ConfigProto(), meta)
    open(target, "wb").write(after.SerializeToString())
    return {"nodes": len(graph_def.node), "left": len(after.node), "import": imported - started,
            "total": time.perf_counter() - started}
work(warm)
print(json.dumps(work(source)))
"""


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes | str | int) -> bytes:
    """One field of a message."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def entry(name: str, value: bytes) -> bytes:
    """One attribute."""
    return field(5, field(1, name) + field(2, value))


VECTOR = field(2, field(1, 1)) + field(2, field(1, 4))
FLOAT, DTYPE = entry("T", field(6, 1)), entry("dtype", field(6, 1))


class Writer:
    """Writes nodes one after the other, so that a graph of any size takes no memory."""

    def __init__(self, path: pathlib.Path, seed: int) -> None:
        self.file, self.random, self.count = path.open("wb"), random.Random(seed), 0

    def node(self, op: str, *inputs: str, name: str = "", attrs: bytes = FLOAT) -> str:
        name = name or f"{op}_{self.count}"
        content = field(1, name) + field(2, op) + b"".join(field(3, source) for source in inputs) + attrs
        self.file.write(field(1, content))
        self.count += 1
        return name

    def constant(self) -> str:
        values = struct.pack("<4f", *(self.random.uniform(-1, 1) for _ in range(4)))
        tensor = field(1, 1) + field(2, VECTOR) + field(4, values)
        return self.node("Const", attrs=DTYPE + entry("value", field(8, tensor)))


def write_graph(path: pathlib.Path, kind: str, nodes: int) -> None:
    """A `chain` has one path; a `dag` takes operands from the last 32 values. Half of either could go."""
    writer = Writer(path, nodes)
    live = [writer.node("Placeholder", name="x", attrs=DTYPE + entry("shape", field(7, VECTOR)))]
    while writer.count + 13 < nodes:
        left = live[-1]
        right = left if kind == "chain" else writer.random.choice(live)
        total, twin = writer.node("AddV2", left, right), writer.node("AddV2", left, right)
        folded = writer.node("Mul", writer.constant(), writer.constant())
        mixed = writer.node("Maximum", writer.node("Identity", total), writer.node("Mul", twin, folded))
        writer.node("Relu", writer.node("Sub", mixed, writer.constant()))
        live = [*live[-31:], writer.node("Identity", writer.node("Tanh", mixed))]
    writer.node("Identity", live[-1], name="y")
    writer.file.write(field(4, field(1, 1882)))
    writer.file.close()


def measure(script: str, source: pathlib.Path, target: pathlib.Path) -> dict[str, Any]:
    """Run one side in a process of its own, which has seen a graph of thirty nodes before the clock starts."""
    warm = source.with_name("warm.pb")
    write_graph(warm, "dag", 30)
    command = [PYTHON, "-c", script, str(warm), str(source), str(target), "x", "y"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def row(kind: str, nodes: int, scratch: pathlib.Path, with_peers: bool) -> bool:
    """Measure one size of one kind; returns whether the bounds hold."""
    source = scratch / f"{kind}-{nodes}.pb"
    write_graph(source, kind, nodes)
    ours = measure(OURS, source, scratch / "ours.pb")
    count = ours["nodes"]
    micro = {key: float(ours[key]) / count * 1e6 for key in ("load", "passes", "save", "total")}
    slowest = max((seconds / max(1, before) * 1e6, name) for name, (seconds, before) in ours["each"].items())
    text = (
        f"{kind:6} {count:8} {ours['left']:8} {micro['load']:6.1f} {micro['passes']:7.1f} {micro['save']:5.1f} "
        f"{micro['total']:6.1f} {slowest[0]:6.1f} {slowest[1]:22} {ours['bytes'] / count / 1024:6.2f}"
    )
    holds = slowest[0] < 10 and (nodes < 10_000 or ours["bytes"] / count < 2048)
    if with_peers:
        peer = measure(PEER, source, scratch / "peer.pb")
        loading, whole = peer["import"] / ours["load"], peer["total"] / ours["total"]
        text += f" {peer['import'] / count * 1e6:7.1f} {peer['total'] / count * 1e6:8.1f} {loading:6.1f}x {whole:6.1f}x"
        holds = holds and (nodes < 10_000 or (loading >= 2 and whole >= 4))
    print(text, "" if holds else "  FAILS", flush=True)
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--peers-largest", type=int, default=100_000)
    parser.add_argument("--kinds", nargs="+", default=["chain", "dag"], choices=["chain", "dag"])
    options = parser.parse_args()
    print(
        "kind      nodes     left   load  passes  save  total  slowest pass (us a node)      KiB/n  import  +Grappler"
    )
    held = True
    with tempfile.TemporaryDirectory() as scratch:
        run([PYTHON, "-c", "import tensorflow"]) if options.peers_largest else None
        for nodes in (1_000, 10_000, 100_000, 1_000_000):
            for kind in options.kinds if nodes <= options.largest else ():
                held = row(kind, nodes, pathlib.Path(scratch), nodes <= options.peers_largest) and held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
