"""--build: what is missing is said before any work; what the script calls of TensorRT is seen by a stand-in."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
import types
from typing import Any

import pytest

import graphopt
from graphopt.backends.tensorrt import building
from graphopt.backends.tensorrt.artifact import write_artifact
from graphopt.backends.tensorrt.building import NoTensorRTError, require_tensorrt
from graphopt.cli.main import main
from graphopt.ir.errors import CheckError
from graphopt.ir.model import Model

PROFILE = "x=1x8x8x2,4x...,8x..."


class Recorded:
    """Stands for every object of the tensorrt package: notes what is called, and answers as that does."""

    def __init__(self, calls: list[Any], name: str = "", answers: dict[str, Any] | None = None):
        self.__dict__.update(_calls=calls, _name=name, _answers=answers or {})

    def __getattr__(self, name: str) -> Any:
        if name in self._answers:
            return self._answers[name]
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self._calls.append((f"{self._name}{name}", arguments))
            return self._answers.get(f"{name}()", Recorded(self._calls, f"{name}.", self._answers))

        return call


@pytest.fixture
def calls() -> list[Any]:
    return []


@pytest.fixture
def tensorrt(calls: list[Any]) -> types.ModuleType:
    """A module with the names that TensorRT 11 has, and no more."""
    module = types.ModuleType("tensorrt")
    engine = {
        "num_io_tensors": 2, "get_tensor_name()": "x", "get_tensor_dtype()": types.SimpleNamespace(name="FLOAT"),
        "get_tensor_shape()": (4, 8, 8, 2), "build_serialized_network()": b"engine", "serialize()": b"timings",
        "parse_from_file()": True, "num_errors": 0,
    }  # fmt: skip

    class Logger:
        WARNING = 2

        def __init__(self, severity: int):
            calls.append(("Logger", (severity,)))

    attributes: dict[str, Any] = {
        "__version__": "11.0.0", "Logger": Logger, "NetworkDefinitionCreationFlag": types.SimpleNamespace(),
        "MemoryPoolType": types.SimpleNamespace(WORKSPACE="workspace"),
    }  # fmt: skip
    for name in ("Builder", "OnnxParser", "Runtime", "init_libnvinfer_plugins"):
        attributes[name] = getattr(Recorded(calls, "", engine), name)
    vars(module).update(attributes)
    return module


def script_of(folder: pathlib.Path) -> Any:
    spec = importlib.util.spec_from_file_location("build_engine_of_a_folder", folder / "build_engine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Card:
    """Stands for CUDA's driver."""

    stream = types.SimpleNamespace(value=7)

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def zeros(self, size: int) -> int:
        self.sizes.append(size)
        return 4096

    def wait(self) -> None:
        """Nothing is under way."""


@pytest.fixture
def folder(dynamic: Model, tmp_path: pathlib.Path) -> pathlib.Path:
    write_artifact(graphopt.lower(dynamic, "tensorrt", profiles=PROFILE), tmp_path / "engine", workspace=1 << 20)
    return tmp_path / "engine"


def test_the_script_builds_keeps_and_times(
    folder: pathlib.Path, tensorrt: Any, calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    script, card = script_of(folder), Card()
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    monkeypatch.setattr(script, "Driver", lambda: card)
    monkeypatch.setattr(sys, "argv", ["build_engine.py", "--time"])
    script.main()
    engine, times = capsys.readouterr().out.splitlines()
    assert pathlib.Path(engine).read_bytes() == b"engine"
    assert set(json.loads(times)) == {"median", "least"}
    made = {name.rpartition(".")[2]: arguments for name, arguments in calls}
    assert made["create_network"] == (0,)  # networks of TensorRT 11 are strongly typed, and have no flag for it
    assert made["set_shape"] == ("x", [1, 8, 8, 2], [4, 8, 8, 2], [8, 8, 8, 2])
    assert made["set_memory_pool_limit"] == ("workspace", 1 << 20)
    assert made["set_input_shape"] == ("x", (4, 8, 8, 2))
    assert card.sizes == [4 * 4 * 8 * 8 * 2] * 2
    assert (folder / "timing.cache").read_bytes() == b"timings"
    assert not {"set_flag", "int8_calibrator"} & set(made)
    calls.clear()
    monkeypatch.setattr(sys, "argv", ["build_engine.py"])
    script.main()
    assert calls == [("Logger", (2,))]  # the engine is there
    assert capsys.readouterr().out.strip() == engine


def test_what_tensorrt_does_not_parse_is_said(
    folder: pathlib.Path, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = types.SimpleNamespace(parse_from_file=lambda path: False, num_errors=1, get_error=lambda place: "no Foo")
    tensorrt.OnnxParser = lambda network, logger: parser
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    monkeypatch.setattr(sys, "argv", ["build_engine.py"])
    with pytest.raises(SystemExit, match="no Foo"):
        script_of(folder).main()
    assert not (folder / "engines").exists() or not list((folder / "engines").iterdir())


def test_without_the_package_nothing_is_begun(
    dynamic: Model, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(building, "PACKAGE", "tensorrt_that_is_not_there")
    with pytest.raises(NoTensorRTError, match="the package is not installed"):
        write_artifact(graphopt.lower(dynamic, "tensorrt", profiles=PROFILE), tmp_path / "engine", build=True)
    missing = str(tmp_path / "missing.pb")  # which would be an error of its own
    assert main(["lower", missing, "--to", "tensorrt", "-o", str(tmp_path / "engine"), "--build"]) == 4
    assert "run build_engine.py of the folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_a_card_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "PACKAGE", "numpy")
    monkeypatch.setattr(building, "DRIVER", "libcuda_that_is_not_there.so")
    with pytest.raises(NoTensorRTError, match="the driver shows no GPU"):
        require_tensorrt()


def test_what_was_built_is_in_the_manifest(
    network: Model, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "PACKAGE", "numpy")
    monkeypatch.setattr(building, "cards", lambda: 1)
    script = (
        "import pathlib, sys\np = pathlib.Path(sys.argv[0]).parent / 'e'\np.write_bytes(b'abc')\nprint(p)\nprint('{}')"
    )
    monkeypatch.setattr("graphopt.backends.tensorrt.artifact._script", lambda: script)
    manifest = write_artifact(graphopt.lower(network, "tensorrt"), tmp_path / "engine", build=True)
    assert (manifest["engine"]["engine"], manifest["engine"]["bytes"]) == ("e", 3)
    assert "built and run on this machine's GPU" in manifest["hardware"]
    monkeypatch.setattr("graphopt.backends.tensorrt.artifact._script", lambda: "raise SystemExit('out of memory')")
    with pytest.raises(CheckError, match="out of memory"):
        write_artifact(graphopt.lower(network, "tensorrt"), tmp_path / "other", build=True)
    assert not (tmp_path / "other").exists()
