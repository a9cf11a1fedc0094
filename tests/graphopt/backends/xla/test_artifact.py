"""The folder that is written, read back, run with JAX alone, and broken."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import graphopt
from graphopt.backends.xla.backend import XlaBackend
from graphopt.backends.xla.safetensors import read_safetensors, write_safetensors
from graphopt.backends.xla.weights import read_weights, write_weights
from graphopt.ir.errors import Error, MalformedError, UnsupportedError, UsageError
from graphopt.ir.model import Model
from graphopt.ir.tensors import ArrayTensor, Tensor
from graphopt.ir.types import FLOAT32, Shape, TensorType, dtype_of
from graphopt.runtimes.base import get_runtime
from graphopt.runtimes.xla import XlaRuntime
from graphopt.testing.lowering import text_model
from graphopt.verification import engine_for, verify

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"),
    pytest.mark.xdist_group("xla"),
]

# What a user writes who has the folder and JAX.
RUNNER = """
import json, sys
import jax, jax.export, numpy as np
folder = sys.argv[1]
program = json.load(open(folder + "/manifest.json"))["programs"][0]
weights = np.load(folder + "/weights.npz") if program["weights"] else {}
with open(folder + "/" + program["jax_export"], "rb") as file:
    exported = jax.export.deserialize(bytearray(file.read()))
x = np.ones(program["inputs"][0]["shape"], np.float32)
(y,) = jax.jit(exported.call)(x, *(weights[item["key"]] for item in program["weights"]))
assert "graphopt" not in sys.modules and "tensorflow" not in sys.modules
np.save(sys.argv[2], y)
"""


# Reads and runs 300 mutants of a folder, and prints how many are refused and how many still run.
MUTANTS = """
import os, random, sys
import numpy as np
import graphopt
from graphopt.ir.errors import Error
from graphopt.runtimes.base import get_runtime
folder, choice = sys.argv[1], random.Random(0)
files = {name: open(os.path.join(folder, name), "rb").read() for name in sorted(os.listdir(folder))}
runtime, refused, held = get_runtime("xla"), 0, 0
for number in range(300):
    name = choice.choice(list(files))
    data = bytearray(files[name])
    kind, place = choice.randrange(4), choice.randrange(len(data))
    print(number, name, kind, place, flush=True)
    if kind == 0:
        del data[place:]
    elif kind == 1:
        data[place] ^= 1 << choice.randrange(8)
    elif kind == 2:
        data[place : place + 8] = bytes(choice.randrange(256) for _ in range(8))
    else:
        data[place:place] = data[: choice.randrange(64)]
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(data)
    try:
        runtime.run(graphopt.load(folder), {"x": np.ones((2, 32), np.float32)})
        held += 1
    except Error:
        refused += 1
    with open(path, "wb") as file:
        file.write(files[name])
print(refused, held)
"""


def network() -> Model:
    """A dense layer whose weights are large enough to be arguments."""
    weights = np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32)
    rows = ", ".join("[" + ", ".join(f"{number:.6f}" for number in row) + "]" for row in weights)
    return text_model(
        f"%w = tf.Const() {{value = float32[32, 16] [{rows}]}}\n%m = tf.MatMul(%x, %w)\n%y = tf.Relu(%m)",
        "%x: float32[2, 32]",
    )


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """An artifact."""
    path = tmp_path / "lowered"
    graphopt.save(XlaBackend().lower(network(), fallback=False).model, path)
    return path


def test_what_is_written_is_read_back(folder: pathlib.Path) -> None:
    assert sorted(os.listdir(folder)) == [
        "manifest.json", "serving_default.jax", "serving_default.stablehlo", "weights.npz",
    ]  # fmt: skip
    model = graphopt.load(folder)
    assert model.format == "xla"
    assert verify(network(), model, runtime="reference").holds
    again = folder.parent / "again"
    graphopt.save(model, again)
    for name in os.listdir(folder):
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name


def test_it_runs_with_jax_alone(folder: pathlib.Path) -> None:
    target = folder.parent / "y.npy"
    command = [sys.executable, "-I", "-c", RUNNER, str(folder), str(target)]
    subprocess.run(command, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    expected = get_runtime("reference").run(network(), {"x": np.ones((2, 32), np.float32)})["y"]
    np.testing.assert_allclose(np.load(target), expected, rtol=1e-5, atol=1e-5)


def test_weights_as_constants_make_a_folder_without_weights(tmp_path: pathlib.Path) -> None:
    graphopt.save(XlaBackend().lower(network(), fallback=False, weights="constants").model, tmp_path / "whole")
    assert "weights.npz" not in os.listdir(tmp_path / "whole")
    assert verify(network(), tmp_path / "whole", runtime="reference").holds


def test_several_signatures(tmp_path: pathlib.Path) -> None:
    model = text_model("%y = tf.Relu(%x)\n%z = tf.Neg(%x)", outputs="%y, %z")
    first = model.signatures.pop("serving_default")
    for name, output in (("rectify", "y"), ("turn around!", "z")):
        model.signatures[name] = type(first)(model.graph, {"x": 0}, {output: first.outputs[output]})
    graphopt.save(XlaBackend().lower(model, fallback=False).model, tmp_path / "two")
    loaded = graphopt.load(tmp_path / "two")
    assert list(loaded.signatures) == ["rectify", "turn around!"]
    feeds = {"x": np.full((2, 3), 2.0, np.float32)}
    assert get_runtime("xla").run(loaded, feeds, signature="turn around!")["z"][0, 0] == -2


def test_programs_share_weights(tmp_path: pathlib.Path) -> None:
    """Those that each signature was given on its own too: kernels that are transformed beforehand."""
    model = text_model(
        "%k = tf.Const() {value = float32[3, 3, 32, 32] splat 0.0}\n"
        '%y = tf.Conv2D(%x, %k) {strides = [1, 1, 1, 1], padding = "SAME"}\n%z = tf.Relu(%y)',
        "%x: float32[1, 7, 8, 32]",
        "%y, %z",
    )
    kernel = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    model.graph.node("k").attrs["value"] = ArrayTensor(kernel, FLOAT32)
    first = model.signatures.pop("serving_default")
    for name in ("y", "z"):
        model.signatures[name] = type(first)(model.graph, {"x": 0}, {name: first.outputs[name]})
    graphopt.save(XlaBackend().lower(model, fallback=False).model, tmp_path / "two")
    programs = json.loads((tmp_path / "two" / "manifest.json").read_text())["programs"]
    assert [[item["key"] for item in program["weights"]] for program in programs] == [["w0"], ["w0"]]
    loaded = graphopt.load(tmp_path / "two")
    assert all(verify(model, loaded, runtime="reference", signature=name).holds for name in ("y", "z"))


def test_nothing_is_written_over_what_exists(folder: pathlib.Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="exists"):
        graphopt.save(XlaBackend().lower(network(), fallback=False).model, folder)
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(schema="graphopt.xla/9"), "schema"),
        (lambda manifest: manifest.update(programs=[]), "no program"),
        (lambda manifest: manifest.update(programs=3), "list of objects"),
        (lambda manifest: manifest["programs"][0].update(stablehlo="../secret"), "no name of a file"),
        (lambda manifest: manifest["programs"][0].update(stablehlo="absent"), "cannot be read"),
        (lambda manifest: manifest["programs"][0].update(signatures=[]), "list of names"),
        (lambda manifest: manifest["programs"][0].update(outputs=[]), "no output"),
        (lambda manifest: manifest["programs"][0]["inputs"][0].update(dtype="float"), "no type"),
        (lambda manifest: manifest["programs"][0]["inputs"][0].update(shape=[True]), "dimensions"),
        (lambda manifest: manifest["programs"][0]["weights"][0].update(shape=[1 << 40]), "as the manifest says"),
        (lambda manifest: manifest["programs"][0]["weights"][0].update(key="w7"), "no weight"),
        (lambda manifest: manifest["programs"].append(manifest["programs"][0]), "named twice"),
        (lambda manifest: manifest.pop("weights"), "where the weights are"),
        (lambda manifest: manifest["weights"].update(format="pickle"), "no format of weights"),
        (lambda manifest: manifest["weights"].update(file="absent.npz"), "cannot be read"),
        (lambda manifest: manifest["weights"].update(file="/etc/passwd"), "no name of a file"),
        (lambda manifest: manifest["weights"].update(sha256="0"), "digest"),
        (lambda manifest: manifest["programs"][0]["sha256"].update(stablehlo="0"), "digest"),
    ],
)
def test_a_manifest_that_makes_no_sense(folder: pathlib.Path, change: object, message: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)  # type: ignore[operator]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(MalformedError, match=message):
        graphopt.load(folder)


def test_files_that_are_cut_off(folder: pathlib.Path) -> None:
    """Whatever is cut off, the error is one of ours, when it is read or when it is run."""
    runtime = get_runtime("xla")
    for name in sorted(os.listdir(folder)):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(Error):
            runtime.run(graphopt.load(folder), {"x": np.ones((2, 32), np.float32)})
        (folder / name).write_bytes(whole)
    assert verify(network(), folder, runtime="reference").holds


def test_mutants_end_in_errors_of_ours(folder: pathlib.Path) -> None:
    """Whatever bytes change, no other exception is raised, and the process that reads them does not end."""
    done = subprocess.run(
        [sys.executable, "-c", MUTANTS, str(folder)], capture_output=True, text=True, cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout[-200:], done.stderr[-2000:])
    refused, held = map(int, done.stdout.split()[-2:])
    assert refused > 250
    assert refused + held == 300


def test_weights_as_safetensors(tmp_path: pathlib.Path) -> None:
    lowered = XlaBackend().lower(network(), fallback=False, weights_format="safetensors").model
    graphopt.save(lowered, tmp_path / "lowered")
    assert "weights.safetensors" in os.listdir(tmp_path / "lowered")
    loaded = graphopt.load(tmp_path / "lowered")
    assert verify(network(), loaded, runtime="reference").holds
    graphopt.save(loaded, tmp_path / "again")
    for name in os.listdir(tmp_path / "lowered"):
        assert (tmp_path / "lowered" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def tensors() -> dict[str, Tensor]:
    """Weights of several element types."""
    arrays = {
        "narrow": np.arange(6, dtype=np.float32).reshape(2, 3).astype(ml_dtypes.bfloat16),
        "none": np.zeros((0, 4), np.int64),
        "one": np.asarray(2.5, np.float64),
        "mask": np.asarray([True, False, True]),
    }
    return {key: ArrayTensor(array, dtype_of(array.dtype)) for key, array in arrays.items()}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_weights_of_all_kinds_come_back(tmp_path: pathlib.Path, kind: str) -> None:
    path = str(tmp_path / kind)
    write, read = (write_safetensors, read_safetensors) if kind == "safetensors" else (write_weights, read_weights)
    write(path, tensors())
    wanted = {key: TensorType(held.dtype, Shape(held.shape)) for key, held in tensors().items()}
    for key, found in read(path, wanted).items():
        assert found.dtype is wanted[key].dtype
        np.testing.assert_array_equal(found.numpy(), tensors()[key].numpy())
    for wrong, message in (
        ({"absent": wanted["one"]}, "no weight 'absent'"),
        ({"one": wanted["mask"]}, "as the manifest says"),
        ({"mask": TensorType(wanted["mask"].dtype, Shape((4,)))}, "as the manifest says"),
    ):
        with pytest.raises(MalformedError, match=message):
            read(path, wrong)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "cannot be read"),
        (b"[]", "no JSON object"),
        (b'{"w": 3}', "no weight"),
        (b'{"w": {"dtype": "F32", "shape": [2]}}', "no place"),
        (b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, true]}}', "no place"),
        (b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}', "cut off"),
        (b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}', "cut off"),
        (b'{"w": {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}', "as the manifest says"),
    ],
)
def test_safetensors_that_make_no_sense(tmp_path: pathlib.Path, header: bytes, message: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(MalformedError, match=message):
        read_safetensors(str(path), {"w": TensorType(FLOAT32, Shape((2,)))})
    path.write_bytes((1 << 60).to_bytes(8, "little") + header)
    with pytest.raises(MalformedError, match="longer than the file"):
        read_safetensors(str(path), {})


def test_safetensors_lack_some_element_types(tmp_path: pathlib.Path) -> None:
    array = np.zeros(2, np.complex128)
    with pytest.raises(UnsupportedError, match="choose npz"):
        write_safetensors(str(tmp_path / "w"), {"w": ArrayTensor(array, dtype_of(array.dtype))})


def depthwise() -> Model:
    """A depthwise convolution, which platforms have in other forms."""
    return text_model(
        """
        %k = tf.Const() {value = float32[3, 3, 4, 1] repeat [0.5, -1.0, 2.0]}
        %y = tf.DepthwiseConv2dNative(%x, %k) {strides = [1, 1, 1, 1], padding = "SAME"}
        """,
        "%x: float32[?, 6, 6, 4]",
    )


def test_a_program_for_two_platforms(tmp_path: pathlib.Path) -> None:
    import jax.export

    lowered = XlaBackend().lower(depthwise(), fallback=False, platform="cpu,cuda", batch=1).model
    graphopt.save(lowered, tmp_path / "two")
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert manifest["programs"][0]["platforms"] == ["cpu", "cuda"]
    exported = jax.export.deserialize(bytearray((tmp_path / "two" / "serving_default.jax").read_bytes()))
    assert exported.platforms == ("cpu", "cuda")
    loaded = graphopt.load(tmp_path / "two")
    assert verify(depthwise(), loaded, runtime="reference").holds
    compiled = XlaRuntime().compiled(loaded.signatures["serving_default"], ((1, 6, 6, 4),)).call.as_text()
    assert "conditional" not in compiled  # the platform is known when it is compiled
    assert "convolution(" not in compiled


def test_a_program_for_a_gpu_says_so(tmp_path: pathlib.Path) -> None:
    import jax.export

    graphopt.save(XlaBackend().lower(depthwise(), fallback=False, platform="cuda").model, tmp_path / "gpu")
    exported = jax.export.deserialize(bytearray((tmp_path / "gpu" / "serving_default.jax").read_bytes()))
    assert exported.platforms == ("cuda",)
    assert "convolution" in exported.mlir_module()


@pytest.mark.parametrize("platform", ["gpu", "cpu,cpu", "", "cpu,"])
def test_platforms_that_there_are_not(platform: str) -> None:
    with pytest.raises(UsageError, match="each once"):
        XlaBackend().lower(depthwise(), platform=platform)


def test_the_runtime_lowers_models_of_tensorflow() -> None:
    assert engine_for(network(), "xla").name == "xla"
    assert verify(network(), network(), runtime="xla").holds


def test_inputs_that_do_not_fit(folder: pathlib.Path) -> None:
    model, runtime = graphopt.load(folder), get_runtime("xla")
    with pytest.raises(UsageError, match="shape"):
        runtime.run(model, {"x": np.ones((3, 32), np.float32)})
    with pytest.raises(UsageError, match="not fed"):
        runtime.run(model, {})


def test_versions_that_there_are_not() -> None:
    with pytest.raises(UsageError, match="not a StableHLO version"):
        XlaBackend().lower(network(), minimum_version="new")
    with pytest.raises(UsageError, match="can be asked for"):
        XlaBackend().lower(network(), minimum_version="99.0.0")


def test_cost_and_memory() -> None:
    cost = XlaRuntime().cost(network(), {"x": np.ones((2, 32), np.float32)})
    assert cost["flops"] >= 2 * 2 * 32 * 16
    assert cost["argument_bytes"] >= 32 * 16 * 4
