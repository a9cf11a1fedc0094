"""The folder: what is in it, that it loads, that nothing is left of one that failed; the gates, each alone."""

from __future__ import annotations

import ast
import importlib.util
import json
import pathlib
import subprocess
import sys
from importlib.metadata import version as importlib_version
from typing import Any

import pytest

import graphopt
from graphopt.backends.base import find_backend
from graphopt.backends.tensorrt.artifact import SCHEMA, write_artifact
from graphopt.backends.tensorrt.gates import GATES, checker, chosen_gates, rtx, run_gates
from graphopt.cli.main import main
from graphopt.ir.errors import CheckError, UsageError
from graphopt.ir.model import Model

PROFILE = "x=1x8x8x2,4x...,8x..."
HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
needs_rtx = pytest.mark.skipif(not HAS_RTX, reason="needs TensorRT-RTX: pip install 'graphopt[tensorrt-test]'")


def lowered(model: Model, **options: Any) -> Any:
    return find_backend("tensorrt").lower(model, **options)


def test_the_folder_says_what_is_in_it(dynamic: Model, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "engine"
    manifest = write_artifact(lowered(dynamic, profiles=PROFILE), folder)
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert manifest["schema"] == SCHEMA
    assert manifest["profiles"] == {"x": [[1, 8, 8, 2], [4, 8, 8, 2], [8, 8, 8, 2]]}
    assert "--minShapes=x:1x8x8x2 --optShapes=x:4x8x8x2 --maxShapes=x:8x8x8x2" in manifest["trtexec"]
    assert "fp16" not in manifest["trtexec"]
    assert {gate["name"]: gate["status"] for gate in manifest["gates"]} == {
        "linter": "passed", **dict.fromkeys(GATES, "not run"),
    }  # fmt: skip
    assert "nothing ran on NVIDIA hardware" in manifest["hardware"]
    report = json.loads((folder / "report.json").read_text())
    assert report["nodes"] == len(report["layers"])
    assert report["weight_bytes"]["float32"] > 0
    loaded = graphopt.load(folder)
    assert [value.name for value in loaded.graph.outputs] == ["y"]


def test_the_script_needs_tensorrt_alone(network: Model, tmp_path: pathlib.Path) -> None:
    write_artifact(lowered(network), tmp_path / "engine")
    tree = ast.parse((tmp_path / "engine" / "build_engine.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= set(sys.stdlib_module_names)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_what_exists_is_replaced_only_when_told_to(network: Model, tmp_path: pathlib.Path) -> None:
    made = lowered(network)
    write_artifact(made, tmp_path / "engine")
    with pytest.raises(UsageError, match="exists already"):
        write_artifact(made, tmp_path / "engine")
    write_artifact(made, tmp_path / "engine", overwrite=True)


def test_nothing_is_left_where_a_gate_fails(
    network: Model, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphopt.backends.tensorrt import gates

    monkeypatch.setattr(gates, "checker", lambda path: gates.Gate("checker", "failed", "no such thing"))
    with pytest.raises(CheckError, match="no such thing"):
        write_artifact(lowered(network), tmp_path / "engine", gates=("checker",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_checker_takes_every_precision(network: Model, tmp_path: pathlib.Path, precision: str) -> None:
    pytest.importorskip("onnx", reason="needs the onnx package: pip install 'graphopt[tensorrt]'")
    graphopt.save(lowered(network, precision=precision).model, tmp_path / "model.onnx")
    gate = checker(str(tmp_path / "model.onnx"))
    assert gate.status == "passed", gate.sentence


def test_the_checker_refuses_what_is_no_model(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("onnx", reason="needs the onnx package: pip install 'graphopt[tensorrt]'")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a")
    assert checker(str(tmp_path / "model.onnx")).status == "failed"


def test_gates_that_nobody_asked_for_did_not_run(tmp_path: pathlib.Path) -> None:
    assert [gate.status for gate in run_gates((), str(tmp_path))] == ["not run"] * 3
    assert chosen_gates(("all",)) == GATES
    with pytest.raises(UsageError, match="no gate 'cheker'"):
        chosen_gates(("cheker",))


@pytest.mark.skipif(HAS_RTX, reason="TensorRT-RTX is installed")
def test_a_gate_without_its_package_says_so(tmp_path: pathlib.Path) -> None:
    gate = rtx(str(tmp_path), {})
    assert gate.status == "not run"
    assert "tensorrt-test" in gate.detail


@needs_rtx
@pytest.mark.parametrize("body", ["fp32", "fp16"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8", "int4"])
def test_tensorrt_rtx_builds_it(
    dynamic: Model, samples: Any, tmp_path: pathlib.Path, precision: str, body: str
) -> None:
    data = samples if precision in ("int8", "fp8") else None
    made = lowered(dynamic, precision=precision, body=body, profiles=PROFILE, data=data)
    manifest = write_artifact(made, tmp_path / "engine", gates=("tensorrt-rtx",))
    assert manifest["gates"][-1]["status"] == "passed"


@needs_rtx
def test_the_script_builds_the_engine(dynamic: Model, tmp_path: pathlib.Path) -> None:
    write_artifact(lowered(dynamic, profiles=PROFILE), tmp_path / "engine")
    command = [sys.executable, str(tmp_path / "engine" / "build_engine.py"), "--package", "tensorrt_rtx"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = pathlib.Path(done.stdout.strip().splitlines()[-1])
    assert built.stat().st_size > 1000
    assert built.parent.name == "engines"


def test_the_command_line(dynamic: Model, tmp_path: pathlib.Path, capsys: Any) -> None:
    source, folder = str(tmp_path / "model.pb"), str(tmp_path / "engine")
    graphopt.save(dynamic, source)
    assert main(["lower", source, "--to", "tensorrt", "-o", folder, "--outputs", "y"]) == 4
    assert not pathlib.Path(folder).exists()
    assert "--profile x=" in capsys.readouterr().err
    given = ["--outputs", "y", "--profile", PROFILE]
    assert main(["check", source, "--target", "tensorrt", *given]) == 0
    assert main(["lower", source, "--to", "tensorrt", "-o", folder, "--precision", "fp16", *given]) == 0
    assert "nothing ran on NVIDIA hardware" in capsys.readouterr().out
    assert main(["lower", source, "--to", "tensorrt", "-o", folder, *given]) == 2
    assert main(["lower", source, "--to", "tensorrt", "-o", folder, "--force", "--json", *given]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["manifest"]["precision"] == "fp32"
    assert main(["lower", source, "--to", "tensorrt", "-o", "-", *given]) == 2
    assert main(["lower", source, "--to", "tensorrt", "-o", folder + "2", "--outputs", "y", "--profile", "x"]) == 2


def test_gates_run_alone(dynamic: Model, tmp_path: pathlib.Path, capsys: Any) -> None:
    pytest.importorskip("onnx", reason="needs the onnx package: pip install 'graphopt[tensorrt]'")
    source, folder = str(tmp_path / "model.pb"), str(tmp_path / "engine")
    graphopt.save(dynamic, source)
    write_artifact(lowered(dynamic, profiles=PROFILE), folder)
    alone = ["check", folder, "--target", "tensorrt", "--gates"]
    assert main([*alone, "checker"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [f"gate checker: passed (onnx {importlib_version('onnx')})"]
    assert main([*alone, "onnxruntime", "--json"]) == 0
    assert "no source" in json.loads(capsys.readouterr().out)["gates"][0]["detail"]
    assert main(["check", source, "--target", "tensorrt", "--gates", "checker", "--outputs", "y",
                 "--profile", PROFILE]) == 2  # fmt: skip
    assert "first" in capsys.readouterr().err
    assert main(["check", source, "--target", "onnx", "--gates", "checker", "--outputs", "y"]) == 2
