"""`graphopt quantize` and `graphopt lower --quantize`: what they write and print, and how they refuse."""

from __future__ import annotations

import json
import pathlib
import zipfile
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.cli.main import main
from graphopt.ir.text import parse_model
from graphopt.passes.quantize.recipe import Recipe, Rule, save_recipe
from graphopt.testing.lowering import text_model
from graphopt.tflite_metadata import read_conversion_metadata, read_metadata

RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(size=(32, 48)).astype(np.float32)
BODY = f"""
%w = tf.Const() {{dtype = float32, value = float32[32, 48] {WEIGHTS.tolist()}}} : float32[32, 48]
%h = tf.MatMul(%x, %w) {{T = float32, transpose_a = false, transpose_b = false}} : float32[1, 48]
%y = tf.Sin(%h) {{T = float32}} : float32[1, 48]
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """model.pb, model.tflite and data.npz, in the folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    graphopt.save(text_model(BODY, "%x: float32[1, 32]"), "model.pb")
    graphopt.save(graphopt.lower("model.pb", "tflite", inputs=["x"], outputs=["y"]).model, "model.tflite")
    np.savez(tmp_path / "data.npz", x=RNG.normal(size=(12, 1, 32)).astype(np.float32))
    return tmp_path


def counts(path: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in graphopt.load(path).graph:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


@pytest.mark.parametrize("mode", ["int8", "int16x8", "dynamic", "weight-only", "float16"])
@pytest.mark.parametrize("verb", ["quantize", "lower"])
def test_every_mode_from_both_verbs(folder: pathlib.Path, mode: str, verb: str, capsys: Any) -> None:
    given = ["quantize", "model.tflite", "--mode", mode]
    if verb == "lower":
        given = ["lower", "model.pb", "--to", "tflite", "--quantize", mode]
    data = ["--data", "data.npz"] if mode.startswith("int") else []
    assert main([*given, "-o", "out.tflite", *data]) == 0
    assert capsys.readouterr().out.startswith("out.tflite: ")
    assert (folder / "out.tflite").stat().st_size < (folder / "model.tflite").stat().st_size
    assert counts("out.tflite")["SIN"] == 1


def test_both_verbs_write_the_same(folder: pathlib.Path) -> None:
    common = ["--data", "data.npz", "--input-type", "int8"]
    assert main(["quantize", "model.pb", "-o", "a.tflite", *common]) == 0
    assert main(["lower", "model.pb", "--to", "tflite", "--quantize", "int8", "-o", "b.tflite", *common]) == 0
    assert (folder / "a.tflite").read_bytes() == (folder / "b.tflite").read_bytes()
    assert graphopt.load("a.tflite").graph.inputs[0].dtype.name == "int8"


def test_statistics_and_a_recipe(folder: pathlib.Path) -> None:
    save_recipe(Recipe((Rule(mode="int8"), Rule(operators=("FULLY_CONNECTED",), mode="dynamic"))), "recipe.json")
    assert main(["calibrate", "model.tflite", "--data", "data.npz", "-o", "s.json"]) == 0
    arguments = ["--recipe", "recipe.json", "--calibration", "s.json", "-o", "out.tflite"]
    assert main(["quantize", "model.tflite", *arguments]) == 0
    assert counts("out.tflite")["FULLY_CONNECTED"] == 1
    assert "QUANTIZE" not in counts("out.tflite")
    lowering = ["lower", "model.pb", "--to", "tflite", "--force", *arguments]
    assert main(lowering) == 0


def test_a_plan_without_data(folder: pathlib.Path, capsys: Any) -> None:
    assert main(["quantize", "model.tflite", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "FULLY_CONNECTED" in shown
    assert "SIN has no integer kernel" in shown
    assert main(["quantize", "model.tflite", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["schema"] == "graphopt/quantize/v1"
    assert [row["compute"] for row in plan["plan"]] == ["int8", "float32"]
    assert [row["storage"] for row in plan["plan"]] == ["int8", ""]
    assert sorted(path.name for path in folder.iterdir()) == ["data.npz", "model.pb", "model.tflite"]


def test_json_says_what_was_written(folder: pathlib.Path, capsys: Any) -> None:
    assert main(["quantize", "model.tflite", "--mode", "dynamic", "-o", "out.tflite", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["size"] == (folder / "out.tflite").stat().st_size
    assert said["plan"][0]["compute"] == "int8 on the fly"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["quantize", "model.tflite", "-o", "out.tflite"], 2, "give data"),
        (["quantize", "model.tflite"], 2, "--dry-run"),
        (["quantize", "model.tflite", "-o", "o.tflite", "--mode", "dynamic", "--recipe", "r"], 2, "not allowed"),
        (["quantize", "model.tflite", "-o", "o.tflite", "--recipe", "none.json"], 3, "none.json"),
        (["quantize", "model.tflite", "-o", "o.tflite", "--data", "data.npz", "--profile", "integer"], 4, "SIN"),
        (["lower", "model.pb", "--to", "tflite", "-o", "o.tflite", "--data", "data.npz"], 2, "goes with --quantize"),
        (["lower", "model.pb", "--to", "onnx", "-o", "o.onnx", "--quantize", "dynamic"], 2, "is for tflite"),
        (["lower", "model.pb", "--to", "tensorrt", "-o", "o", "--quantize", "int8"], 2, "is for tflite"),
    ],
)  # fmt: skip
def test_what_is_refused(folder: pathlib.Path, arguments: list[str], status: int, said: str, capsys: Any) -> None:
    assert status_of(arguments) == status
    assert said in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"data.npz", "model.pb", "model.tflite"}


def status_of(arguments: list[str]) -> Any:
    try:
        return main(arguments)
    except SystemExit as error:
        return error.code


def test_what_is_said_of_samples_is_said_here_too(folder: pathlib.Path, capsys: Any) -> None:
    np.savez("few.npz", x=RNG.normal(size=(3, 1, 32)).astype(np.float32))
    np.savez("equal.npz", x=np.ones((12, 1, 32), np.float32))
    for effort in ("fast", "default"):
        arguments = ["quantize", "model.tflite", "-o", "out.tflite", "--force", "--effort", effort, "--data"]
        assert main([*arguments, "few.npz"]) == 0
        assert "3 samples are few" in capsys.readouterr().err
        assert main([*arguments, "equal.npz"]) == 1
        assert "all 12 samples are equal" in capsys.readouterr().err
        assert main([*arguments, "equal.npz", "--no-check"]) == 0
        assert "all 12 samples are equal" in capsys.readouterr().err


def test_metadata_and_packed_files_stay_and_the_mode_is_told(folder: pathlib.Path) -> None:
    pathlib.Path("labels.txt").write_text("one\ntwo\n")
    pathlib.Path("about.json").write_text('{"name": "Numbers", "license": "MIT"}')
    described = ["--labels", "labels.txt", "--metadata", "about.json"]
    assert main(["lower", "model.pb", "--to", "tflite", "-o", "described.tflite", *described]) == 0
    for mode, told in (("int8", "PTQ_FULL_INTEGER"), ("dynamic", "PTQ_DYNAMIC_RANGE"), ("float16", "PTQ_FLOAT16")):
        data = ["--data", "data.npz"] if mode == "int8" else []
        assert main(["quantize", "described.tflite", "--mode", mode, "-o", f"{mode}.tflite", *data]) == 0
        model = graphopt.load(f"{mode}.tflite")
        kept = read_metadata(model)
        assert kept is not None
        assert (kept.name, kept.license) == ("Numbers", "MIT")
        assert zipfile.ZipFile(f"{mode}.tflite").read("labels.txt") == b"one\ntwo\n"
        said = read_conversion_metadata(model)
        assert said is not None
        assert said.environment is not None
        assert said.options is not None
        assert (said.environment.model_type, said.options.model_optimization_modes) == ("TF_GRAPH_DEF", (told,))


def test_a_plan_between_named_tensors(folder: pathlib.Path, capsys: Any) -> None:
    assert main(["quantize", "model.pb", "--dry-run", "--outputs", "h"]) == 0
    assert "SIN" not in capsys.readouterr().out


def test_what_assigns_to_variables_stays(folder: pathlib.Path) -> None:
    """It hangs on no output."""
    text = """
    graph @main(%x) -> (%y) {
      %x = tfl.INPUT() : float32[2]
      %once = tfl.CALL_ONCE() {init_subgraph_index = @start} : ()
      %sum = tfl.VAR_HANDLE() {container = b"", shared_name = b"sum"} : resource[]
      %before = tfl.READ_VARIABLE(%sum) : float32[2]
      %y = tfl.ADD(%before, %x) {fused_activation_function = b"NONE"} : float32[2]
      %after = tfl.ASSIGN_VARIABLE(%sum, %y) : ()
    }
    function @start() -> () {
      %sum = tfl.VAR_HANDLE() {container = b"", shared_name = b"sum"} : resource[]
      %zero = tfl.CONSTANT() {value = float32[2] [0.0, 0.0]} : float32[2]
      %done = tfl.ASSIGN_VARIABLE(%sum, %zero) : ()
    }
    signature "main"(x = %x) -> (y = %y)
    """
    model = parse_model(text)
    model.format = "tflite"
    graphopt.save(model, "sum.tflite")
    np.savez("sum.npz", x=np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32))
    for mode, data in (("float16", []), ("int8", ["--data", "sum.npz"])):
        assert main(["quantize", "sum.tflite", "--mode", mode, "-o", f"{mode}.tflite", *data]) == 0
        found = counts(f"{mode}.tflite")
        assert (found["CALL_ONCE"], found["ASSIGN_VARIABLE"]) == (1, 1)
        assert "start" in graphopt.load(f"{mode}.tflite").functions
