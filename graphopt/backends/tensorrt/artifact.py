"""The folder that lowering to TensorRT leaves: the model, a manifest, a script that builds the engine, a report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from graphopt.backends.base import Lowered
from graphopt.backends.tensorrt.backend import TENSORRT
from graphopt.backends.tensorrt.building import build_engine, require_tensorrt
from graphopt.backends.tensorrt.capabilities import PLUGINS
from graphopt.backends.tensorrt.gates import NO_HARDWARE, Gate, run_gates
from graphopt.backends.tensorrt.layer_report import layer_report
from graphopt.backends.tensorrt.profiles import Profile
from graphopt.ir.errors import CheckError
from graphopt.ir.formats.atomic import directory_written_atomically
from graphopt.ir.formats.onnx import write_onnx
from graphopt.ir.model import Model

SCHEMA = "graphopt.tensorrt/1"
MANIFEST, MODEL, SCRIPT, REPORT = "manifest.json", "model.onnx", "build_engine.py", "report.json"


def write_artifact(
    lowered: Lowered,
    path: str | os.PathLike[str],
    *,
    source: Any = None,
    data: Any = None,
    gates: Sequence[str] = (),
    build: bool = False,
    workspace: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write what `lower(…, "tensorrt")` made into the folder `path`; returns the manifest.

    `gates` names those to run on what was written (`checker`, `onnxruntime`, `tensorrt-rtx`, or `all`); `source` is
    what to compare numbers with, on `data`. With `build` the engine is built too, and timed; `workspace`
    bounds the bytes that building takes. Raises `CheckError` where
    a gate or the build fails, `NoTensorRTError` where there is nothing to build with, `UsageError` where the folder
    exists; nothing is left behind then.
    """
    if build:
        require_tensorrt()
    model = lowered.model
    described = model.metadata[TENSORRT]
    profiles = {name: Profile(*map(tuple, dims)) for name, dims in described["profiles"].items()}
    with directory_written_atomically(path, overwrite=overwrite) as folder:
        file = os.path.join(folder, MODEL)
        write_onnx(model, file)
        ran = [Gate("linter", "passed", "every node is one that TensorRT takes")]
        ran += run_gates(
            gates, file, profiles=profiles, source=source, data=data, precision=described["precision"],
            plugins=plugins_of(model),
        )  # fmt: skip
        failed = [gate for gate in ran if gate.status == "failed"]
        if failed:
            raise CheckError("nothing was written: " + "; ".join(gate.sentence for gate in failed))
        report = layer_report(model, described["outcome"])
        manifest = _manifest(model, described, profiles, report, ran, workspace)
        _write_json(os.path.join(folder, REPORT), report)
        _write_json(os.path.join(folder, MANIFEST), manifest)
        with open(os.path.join(folder, SCRIPT), "w", encoding="utf-8") as out:
            out.write(_script())
        if build:
            built = build_engine(folder)
            manifest["engine"] = built | {"engine": os.path.relpath(built["engine"], folder)}
            manifest["hardware"] = "the engine was built and run on this machine's GPU; its numbers were not compared"
            _write_json(os.path.join(folder, MANIFEST), manifest)
    return manifest


def _script() -> str:
    """What builds the engine, with nothing but the tensorrt package."""
    return files("graphopt.backends.tensorrt").joinpath("build_script.py").read_text(encoding="utf-8")


def is_artifact(path: str) -> bool:
    """The folder holds a model lowered to TensorRT."""
    return os.path.isfile(os.path.join(path, MANIFEST)) and os.path.isfile(os.path.join(path, MODEL))


def _manifest(
    model: Model, described: Mapping[str, Any], profiles: Mapping[str, Profile], report: Mapping[str, Any],
    gates: Sequence[Gate], workspace: int,
) -> dict[str, Any]:  # fmt: skip
    line = trtexec(profiles, workspace)
    return {
        "schema": SCHEMA,
        "model": MODEL,
        "opset": described["opset"],
        "precision": described["precision"],
        "body": described["body"],
        "inputs": [_end(value) for value in model.graph.inputs],
        "outputs": [_end(value) for value in model.graph.outputs],
        "profiles": {name: [list(dims) for dims in profile] for name, profile in profiles.items()},
        "workspace": workspace,
        "trtexec": line,
        "trtexec_tensorrt_10": f"{line} --stronglyTyped",
        "summary": {key: value for key, value in report.items() if key not in ("layers", "activations")},
        "plugins": plugins_of(model),
        "gates": [gate.as_dict() for gate in gates],
        "hardware": NO_HARDWARE,
    }


def plugins_of(model: Model) -> list[str]:
    """The plugins of TensorRT's that the model uses."""
    return sorted({node.op_type for graph in model.graphs for node in graph if node.op in PLUGINS})


def trtexec(profiles: Mapping[str, Profile], workspace: int = 0) -> str:
    """The command that builds what `build_engine.py` does."""
    words = ["trtexec", f"--onnx={MODEL}", "--saveEngine=model.engine", "--timingCacheFile=timing.cache"]
    for place, flag in enumerate(("minShapes", "optShapes", "maxShapes")):
        if profiles:
            shapes = (f"{name}:{'x'.join(map(str, profile[place]))}" for name, profile in profiles.items())
            words.append(f"--{flag}={','.join(shapes)}")
    if workspace:
        words.append(f"--memPoolSize=workspace:{workspace}B")
    return " ".join(words)


def _end(value: Any) -> dict[str, Any]:
    dims = value.shape.dims
    listed = None if dims is None else [dim if isinstance(dim, int) else -1 for dim in dims]
    return {"name": value.name, "type": value.dtype.name, "shape": listed}


def _write_json(path: str, data: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as out:
        json.dump(data, out, indent=1)
        out.write("\n")
