"""`graphopt calibrate`: what it writes and prints, shards and merging, and how it refuses."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from graphopt.cli.main import main
from graphopt.ir.formats.tflite import tflite_bytes
from graphopt.ir.text import parse_model
from graphopt.passes.quantize.statistics_file import load_statistics

TEXT = """
graph @main(%x) -> (%y) {
  %x = tfl.INPUT() : float32[1, 2]
  %h = tfl.NEG(%x) : float32[1, 2]
  %y = tfl.RELU(%h) : float32[1, 2]
}
signature "main"(x = %x) -> (y = %y)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    """model.tflite and data.npz, in the folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.tflite").write_bytes(tflite_bytes(parse_model(TEXT)))
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(12, 1, 2)).astype(np.float32))
    return tmp_path


def calibrate(*arguments: str) -> int:
    return main(["calibrate", *arguments])


def test_statistics_are_written(folder, capsys) -> None:
    assert calibrate("model.tflite", "--data", "data.npz", "-o", "s.json", "--method", "mse", "--channels") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("s.json: 3 tensors, 12 samples, mse, in ")
    assert shown.err == ""
    found = load_statistics("s.json")
    assert (found.method.name, found.collected.histogram, found.collected.channels) == ("mse", True, True)


def test_options_of_methods(folder) -> None:
    common = ["model.tflite", "--data", "data.npz", "-o", "s.json", "--force"]
    assert calibrate(*common, "--method", "ema", "--decay", "0.5", "--also", "mse,percentile") == 0
    found = load_statistics("s.json")
    assert (found.method.decay, found.collected.histogram, found.collected.recent) == (0.5, True, True)
    assert calibrate(*common, "--method", "percentile", "--percentile", "99") == 0
    assert load_statistics("s.json").method.percentile == 99


def test_shards_are_merged_exactly(folder, capsys) -> None:
    assert calibrate("model.tflite", "--data", "data.npz", "-o", "whole.json", "--method", "ema") == 0
    names = [f"{place}.json" for place in (2, 4, 1, 3)]
    for name in names:
        shard = f"{name[0]}/4"
        common = ("model.tflite", "--data", "data.npz", "--method", "ema")
        assert calibrate(*common, "-o", name, "--shard", shard) == 0
    assert calibrate("--merge", *names, "-o", "merged.json") == 0
    assert capsys.readouterr().err == ""
    assert (folder / "merged.json").read_bytes() == (folder / "whole.json").read_bytes()


def test_json_and_tables(folder, capsys) -> None:
    assert calibrate("model.tflite", "--data", "data.npz", "-o", "s.json", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["samples"]) == ("graphopt/calibrate/v1", 12)
    assert [row["tensor"] for row in report["tensors"]] == ["x:0", "h:0", "y:0"]
    assert calibrate("model.tflite", "--data", "data.npz", "-o", "s.json", "--force", "-v") == 0
    assert "h:0 " in capsys.readouterr().out


def test_bad_samples_are_refused_or_noted(folder, capsys) -> None:
    np.savez("data.npz", x=np.full((4, 1, 2), np.inf, np.float32))
    arguments = ("model.tflite", "--data", "data.npz", "-o", "s.json")
    assert calibrate(*arguments) == 1
    assert "holds Inf" in capsys.readouterr().err
    assert not (folder / "s.json").exists()
    assert calibrate(*arguments, "--no-check") == 0
    shown = capsys.readouterr().err
    assert "all 4 samples are equal" in shown
    assert "2 tensors held NaN or Inf" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.tflite", "-o", "s.json"], "give --data"),
        (["-o", "s.json"], "statistics to --merge"),
        (["model.tflite", "--merge", "s.json", "-o", "t.json"], "statistics to --merge"),
        (["model.tflite", "--data", "data.npz", "-o", "data.npz"], "exists"),
        (["model.tflite", "--data", "data.npz", "-o", "s.json", "--shard", "3/2"], "K/N"),
        (["model.tflite", "--data", "data.npz", "-o", "s.json", "--also", "mode"], "is not one of"),
        (["model.tflite", "--data", "data.npz", "-o", "s.json", "--states", "x"], "INPUT=OUTPUT"),
        (["model.tflite", "--data", "data.npz", "-o", "s.json", "--states", "x=z"], "no output 'z'"),
        (["model.tflite", "--data", "data.npz", "-o", "s.json", "--decay", "2"], "decay"),
        (["model.tflite", "--data", "data.npz", "-o", "s.json", "--runtime", "abacus"], "abacus"),
        (["model.tflite", "--data", "data.npz", "-o", "s.json", "--signature", "other"], "no signature"),
    ],
)
def test_usage_errors(folder, capsys, arguments: list[str], message: str) -> None:
    assert calibrate(*arguments) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_no_statistics(folder, capsys) -> None:
    (folder / "a.json").write_text("{}")
    assert calibrate("--merge", "a.json", "-o", "b.json") == 3
    assert "a.json" in capsys.readouterr().err
