"""Models whose weights lie behind the FlatBuffer: small ones that are made so, and one of more than 2 GB.

Weights are parts of one file that overlap, mapped, and one value repeated, so that neither disk nor memory holds them.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from graphopt.ir.formats.tflite import read_tflite

WRITE = """
import json, pathlib, sys, threading, time
import numpy as np
from graphopt.ir.formats.tflite import write_tflite
from graphopt.ir.model import Model
from graphopt.ir.tensors import FileTensor, Mapping, RepeatedTensor
from graphopt.ir.types import FLOAT32, tensor_type

folder, width, layers, apart = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "apart"
peak = [0]

def watch():
    while True:
        text = pathlib.Path("/proc/self/status").read_text()
        kib = int(next(line for line in text.splitlines() if line.startswith("RssAnon")).split()[1])
        peak[0] = max(peak[0], kib)
        time.sleep(0.01)

threading.Thread(target=watch, daemon=True).start()
source = folder / "weights"
generator = np.random.default_rng(0)
with open(source, "wb") as file:
    for _ in range(width):
        file.write((generator.standard_normal(width) / width**0.5).astype(np.float32).tobytes())
    file.write((generator.standard_normal(16 * layers) / width**0.5).astype(np.float32).tobytes())
mapping = Mapping(source)
model = Model()
node = model.graph.create_node("tfl.INPUT", [], {}, name="x")
value = node.outputs[0] if node.outputs else node.add_output()
value.type = tensor_type("float32", (1, width))
first = value
for layer in range(layers + 1):
    held = FileTensor(mapping, 64 * layer, FLOAT32, (width, width))
    if layer == layers:
        held = RepeatedTensor(np.float32([2.0, 0.5]), FLOAT32, (width, width))
    node = model.graph.create_node("tfl.CONSTANT", [], {"value": held}, name=f"w{layer}")
    weights = node.outputs[0] if node.outputs else node.add_output()
    weights.type = tensor_type("float32", (width, width))
    node = model.graph.create_node(
        "tfl.FULLY_CONNECTED", [value, weights, None], {"fused_activation_function": b"NONE"}, name=f"y{layer}"
    )
    value = node.outputs[0] if node.outputs else node.add_output()
    value.type = tensor_type("float32", (1, width))
model.set_signature({"x": first}, {"y": value})
write_tflite(model, folder / "model.tflite", apart=True if apart else None)
time.sleep(0.05)
print(json.dumps({"anonymous": peak[0] << 10}))
"""
INVOKE = """
import pathlib, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

folder = pathlib.Path(sys.argv[1])
resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
interpreter = Interpreter(model_path=str(folder / "model.tflite"), experimental_op_resolver_type=resolver)
runner = interpreter.get_signature_runner("serving_default")
width = interpreter.get_input_details()[0]["shape"][1]
np.save(folder / "y.npy", runner(x=np.linspace(-1, 1, width, dtype=np.float32)[None])["y"])
"""


def _done(source: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-P", "-c", source, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _expected(folder: pathlib.Path, width: int, layers: int) -> np.ndarray:
    weights = np.memmap(folder / "weights", np.float32, "r")
    value = np.linspace(-1, 1, width, dtype=np.float32)
    for layer in range(layers):
        value = weights[16 * layer : 16 * layer + width * width].reshape(width, width) @ value
    last = np.full(width, 0.5 * value.sum(dtype=np.float64))
    last[0] += 1.5 * value[0]
    return last


@pytest.mark.parametrize(
    ("width", "layers", "apart"),
    [(64, 3, "apart"), (64, 3, "within"), (1000, 2, "apart"),
     pytest.param(10_000, 5, "as needed", marks=pytest.mark.deep)],
    ids=["small", "within", "repeated", "over 2 GB"],
)  # fmt: skip
def test_weights_behind_the_flatbuffer(tmp_path: pathlib.Path, width: int, layers: int, apart: str) -> None:
    told = json.loads(_done(WRITE, str(tmp_path), str(width), str(layers), apart))
    size = (tmp_path / "model.tflite").stat().st_size
    assert size >= 4 * width**2 * (layers + 1)
    if width == 10_000:
        assert size > 2_200_000_000
        assert told["anonymous"] < 300 << 20, "the weights are nowhere in memory but in the page cache"
    model = read_tflite(tmp_path / "model.tflite")
    assert model.metadata["tflite"].is_apart == (apart != "within")
    _done(INVOKE, str(tmp_path))
    found, wanted = np.load(tmp_path / "y.npy")[0], _expected(tmp_path, width, layers)
    assert np.abs(found - wanted).max() <= 1e-3 * np.abs(wanted).max()
