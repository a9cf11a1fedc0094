"""Compilation ahead of time: what is refused, and a program of C++ that is built and run."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import graphopt
from graphopt.backends.xla.ahead import AheadOptions, class_names, identifiers
from graphopt.backends.xla.artifact import write_artifact
from graphopt.backends.xla.backend import XlaBackend
from graphopt.cli.main import main
from graphopt.ir.errors import UnsupportedError, UsageError
from graphopt.ir.model import Model
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import text_model

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"),
    pytest.mark.xdist_group("xla"),
]
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or shutil.which("make") is None, reason="needs g++ and make"
)


def network() -> Model:
    """A depthwise convolution and a product, two inputs and two outputs, names that are none in C++."""
    model = text_model(
        """
        %k = tf.Const() {value = float32[3, 3, 2, 1] repeat [0.5, -1.0, 2.0]}
        %c = tf.DepthwiseConv2dNative(%x, %k) {strides = [1, 1, 1, 1], padding = "SAME"}
        %s = tf.Const() {value = int32[2] [1, 32]}
        %f = tf.Reshape(%c, %s)
        %w = tf.Const() {value = float32[32, 16] repeat [0.25, -0.5, 1.0]}
        %m = tf.MatMul(%f, %w)
        %y = tf.Add(%m, %b)
        %z = tf.Relu(%y)
        """,
        "%x: float32[1, 4, 4, 2], %b: float32[16]",
        "%y, %z",
    )
    signature = model.signatures["serving_default"]
    signature.inputs = {"image/1": 0, "image_1": 1}
    signature.outputs = {"logits:0": 0, "rectified": 1}
    return model


@pytest.mark.tensorflow
@needs_compiler
def test_it_is_built_and_run(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "compiled"
    lowered = XlaBackend().lower(network(), fallback=False).model
    write_artifact(lowered, folder, ahead=AheadOptions("tests::Network"))
    said = json.loads((folder / "manifest.json").read_text())["programs"][0]["ahead_of_time"]
    assert said["class"] == "tests::Network"
    assert said["inputs"] == {"image/1": "image_1", "image_1": "image_1_1"}
    assert said["outputs"] == {"logits:0": "logits_0", "rectified": "rectified"}
    assert all((folder / name).stat().st_size for name in (said["header"], *said["objects"]))

    rng = np.random.default_rng(0)
    feeds = {
        "image/1": rng.normal(size=(1, 4, 4, 2)).astype(np.float32),
        "image_1": rng.normal(size=16).astype(np.float32),
    }
    subprocess.run(["make", f"PYTHON={sys.executable}", "CXXFLAGS=-O0"], cwd=folder, check=True, capture_output=True)
    for place, array in enumerate(feeds.values()):
        array.tofile(tmp_path / f"x{place}")
    files = [str(tmp_path / name) for name in ("x0", "x1", "y0", "y1")]
    subprocess.run([str(folder / "serving_default"), *files], check=True, capture_output=True)
    expected = get_runtime("reference").run(network(), feeds)
    for file, array in zip(files[2:], expected.values(), strict=True):
        np.testing.assert_allclose(np.fromfile(file, np.float32).reshape(array.shape), array, rtol=1e-4, atol=1e-4)

    loaded = graphopt.load(folder)  # beside what was compiled it is an artifact as any other
    again = get_runtime("xla").run(loaded, feeds)
    np.testing.assert_allclose(again["rectified"], expected["rectified"], rtol=1e-4, atol=1e-4)


def test_what_is_not_compiled_is_said_and_not_written(tmp_path: pathlib.Path) -> None:
    unknown = text_model("%y = tf.Relu(%x)", "%x: float32[?, 3]")
    for options, message in (({}, "sizes that are not known"), ({"platform": "cuda", "batch": 1}, "only CPUs")):
        lowered = XlaBackend().lower(unknown, fallback=False, **options).model
        with pytest.raises(UnsupportedError, match=message):
            write_artifact(lowered, tmp_path / "none", ahead=AheadOptions("Network"))
        assert not (tmp_path / "none").exists()


def test_names_that_are_none() -> None:
    for name in ("", "1st", "a-b", "a::", "a b", "Netz\u00e4"):
        with pytest.raises(UsageError, match="name of a class"):
            AheadOptions(name)
    with pytest.raises(UsageError, match="name of a processor"):
        AheadOptions("Network", cpu="x; rm")


def test_names_become_identifiers() -> None:
    assert identifiers(["a/b", "a_b", "a:b", "c"]) == ["a_b", "a_b_1", "a_b_2", "c"]
    assert class_names(["one"], AheadOptions("a::Net")) == ["a::Net"]
    assert class_names(["one", "two"], AheadOptions("Net")) == ["Net_one", "Net_two"]


def test_the_command_line_refuses_other_targets(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    given = [str(tmp_path / "absent.pb"), "-o", str(tmp_path / "out")]
    assert main(["lower", *given, "--to", "tflite", "--aot", "Network"]) == 2
    assert "--aot is for xla" in capsys.readouterr().err
    assert main(["lower", *given, "--to", "xla", "--aot-cpu", "znver3"]) == 2
    assert "go with --aot" in capsys.readouterr().err
