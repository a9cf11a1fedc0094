"""The folder that is written, read back, run with JAX alone, and broken."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import graphopt
from graphopt.backends.xla.backend import XlaBackend
from graphopt.ir.errors import Error, MalformedError, UsageError
from graphopt.ir.model import Model
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import text_model
from graphopt.verification import verify

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
    from graphopt.runtimes.xla import XlaRuntime

    cost = XlaRuntime().cost(network(), {"x": np.ones((2, 32), np.float32)})
    assert cost["flops"] >= 2 * 2 * 32 * 16
    assert cost["argument_bytes"] >= 32 * 16 * 4
