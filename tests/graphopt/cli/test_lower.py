"""`graphopt lower` where what it would write, or was told, makes no sense: refused before any work, nothing written."""

from __future__ import annotations

import pathlib

import pytest

import graphopt
from graphopt.cli.main import main
from graphopt.testing.lowering import text_model


@pytest.fixture
def model(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "model.pb"
    graphopt.save(text_model("%y = tf.Relu(%x)"), path)
    return str(path)


@pytest.mark.parametrize(("target", "name"), [("tensorrt", "TensorRT"), ("xla", "XLA")])
def test_where_a_folder_cannot_go(
    model: str, target: str, name: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "item").write_text("kept")
    refusals = {
        "-": f"lowering to {name} writes a folder, which standard output cannot take",
        str(tmp_path / "file"): f"is a file; lowering to {name} writes a folder",
        str(tmp_path / "full"): "exists; give --force to replace it",
        str(tmp_path / "none" / "folder"): "does not exist",
    }
    for output, reason in refusals.items():
        assert main(["lower", model, "--to", target, "-o", output]) == 2
        assert reason in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "item").read_text() == "kept"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--to", "tflit"], "did you mean 'tflite'"),
        (["--to", "onnx", "--allow-flex"], "target 'onnx' has no option 'allow_flex'"),
        (["--to", "onnx", "--signatures", "none"], "there is no signature 'none'"),
        (["--to", "onnx", "--quantize", "int8"], "--quantize is for tflite, not for onnx"),
        (["--to", "tflite", "--input-type", "int8"], "--input-type goes with --quantize or --recipe"),
        (["--to", "onnx", "--labels", "labels.txt"], "are TFLite's, not onnx's"),
    ],
)
def test_options_that_make_no_sense(
    model: str, given: list[str], reason: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.onnx"
    assert main(["lower", model, "-o", str(output), *given]) == 2
    assert reason in capsys.readouterr().err
    assert not output.exists()
