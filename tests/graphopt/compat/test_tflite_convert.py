"""`tflite_convert` by its flags."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

import graphopt
from graphopt.compat.tflite_convert import tflite_convert
from graphopt.testing.lowering import text_model


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    model = text_model("%y = tf.Relu(%x)\n%z = tf.Erfinv(%y)", "%x: float32[?, 3]", "%y")
    graphopt.save(model, tmp_path / "frozen.pb")
    graphopt.save(model, f"{tmp_path}/saved/")
    return tmp_path


def shape_of(path: pathlib.Path) -> Any:
    (value,) = graphopt.load(path).graph.inputs
    return value.shape.static


def test_a_saved_model(folder: pathlib.Path) -> None:
    flags = [f"--saved_model_dir={folder}/saved", f"--output_file={folder}/model.tflite"]
    for more in ([], ["--saved_model_signature_key=serving_default"], ["--experimental_new_converter=true"]):
        assert tflite_convert([*flags, *more]) == 0
        assert list(graphopt.load(folder / "model.tflite").signatures) == ["serving_default"]
    assert tflite_convert([*flags, "--input_arrays=x", "--input_shapes=4,3", "--output_arrays=y"]) == 0
    assert shape_of(folder / "model.tflite") == (4, 3)


def test_a_frozen_graph(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [f"--graph_def_file={folder}/frozen.pb", f"--output_file={folder}/model.tflite", "--input_arrays=x"]
    assert tflite_convert([*flags, "--output_arrays=y", "--input_shapes=2,3"]) == 0
    assert shape_of(folder / "model.tflite") == (2, 3)
    (folder / "model.tflite").unlink()
    assert tflite_convert([*flags, "--output_arrays=z"]) == 4
    assert "Erfinv" in capsys.readouterr().err
    assert not (folder / "model.tflite").exists()
    assert tflite_convert([*flags, "--output_arrays=z", "--allow_custom_ops"]) == 0
    assert tflite_convert([*flags, "--output_arrays=z", "--target_ops=TFLITE_BUILTINS,SELECT_TF_OPS"]) == 4


@pytest.mark.parametrize("flags", [["--input_arrays=x"], ["--output_arrays=y"], ["--input_shapes=1"]])
def test_flags_that_do_not_go_together(flags: list[str], folder: pathlib.Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        tflite_convert([f"--graph_def_file={folder}/frozen.pb", "--output_file=out.tflite", *flags])


def test_a_shape_for_each_input(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [f"--graph_def_file={folder}/frozen.pb", f"--output_file={folder}/out", "--output_arrays=y"]
    assert tflite_convert([*flags, "--input_arrays=x", "--input_shapes=1,3:2"]) == 2
    assert "2 shapes for 1" in capsys.readouterr().err
