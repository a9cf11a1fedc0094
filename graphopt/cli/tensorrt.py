"""What `lower` and `check` take for TensorRT, and the folder that `lower` writes for it."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import TYPE_CHECKING, Any

from graphopt.cli.arguments import names
from graphopt.cli.console import Console
from graphopt.cli.quantize import PROFILES
from graphopt.ir.errors import UsageError, printable
from graphopt.report.tables import human_bytes

if TYPE_CHECKING:
    from graphopt.backends.base import Lowered
    from graphopt.backends.tensorrt.gates import Gate

TARGET = "tensorrt"
SCHEMA = "graphopt/lower/v1"
NOT_ASKED = "not asked for"


def add_tensorrt(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Precision, profiles and gates; returns the group that they are listed in."""
    group = parser.add_argument_group("ONNX and TensorRT")
    parser.add_argument(
        "--precision", metavar="P",
        help="fp32 (default), fp16, bf16; with --data: int8 (tensorrt, xla), fp8 (tensorrt); tensorrt: int4; xla: "
        "int8-weights",
    )  # fmt: skip
    parser.add_argument(
        "--profile", metavar="X=A,B,C", action="append", default=[],
        help="tensorrt: smallest, best and largest shape of a dynamic input: x=1x3x8x8,4x...,8x...; with --quantize: "
        "kernels it must run on: litert, micro, integer",
    )  # fmt: skip
    group.add_argument("--opset", type=int, metavar="N", help="onnx, tensorrt: version of the operators (21 to 24)")
    group.add_argument("--body", metavar="P", help="tensorrt: type around integers: fp32 (default), fp16, bf16")
    group.add_argument("--block-size", type=int, metavar="N", help="tensorrt, int4: how many weights share a scale")
    group.add_argument("--pin", metavar="A,B", type=names, default=[], help="tensorrt: layers to keep in float32")
    group.add_argument(
        "--efficient-nms", action="store_true", help="tensorrt: make heads of detectors its plugin EfficientNMS_TRT"
    )
    group.add_argument(
        "--gates", metavar="A,B", type=names, default=[],
        help="tensorrt: gates to run besides the linter: checker, onnxruntime, tensorrt-rtx, or all",
    )  # fmt: skip
    return group


def tensorrt_options(options: argparse.Namespace) -> dict[str, Any]:
    """What the backend is told of these. `options.profile` is left with the kernels to quantize for, `options.shapes`
    with the shapes, given or of the folder that is looked at.

    Raises `UsageError` for a profile that is neither one of shapes nor one of kernels.
    """
    shapes: Any = tuple(text for text in options.profile if "=" in text)
    if options.target == TARGET and not shapes:
        shapes = _manifest_of(options.model).get("profiles", ())
    kernels = [text for text in options.profile if "=" not in text] or [PROFILES[0]]
    if kernels[-1] not in PROFILES:
        raise UsageError(f"the profile '{printable(kernels[-1])}' does not read INPUT=SHAPE,SHAPE,SHAPE")
    options.profile, options.shapes = kernels[-1], shapes
    own = {
        "precision": options.precision, "body": options.body, "block_size": options.block_size,
        "pinned": tuple(options.pin), "efficient_nms": options.efficient_nms,
    }  # fmt: skip
    return {"profiles": shapes, "opset": options.opset} | (own if options.target == TARGET else {})


def add_build(group: argparse._ArgumentGroup) -> None:
    """Whether to go as far as an engine."""
    group.add_argument("--build", action="store_true", help="tensorrt: build the engine and time it, on a GPU here")


def gates_alone(options: argparse.Namespace) -> list[Gate]:
    """Run gates on a folder for TensorRT, or an ONNX file. Raises `UsageError` for another model or target."""
    from graphopt.backends.tensorrt.artifact import MODEL, is_artifact
    from graphopt.backends.tensorrt.gates import run_gates
    from graphopt.backends.tensorrt.profiles import make_profiles

    if options.target != TARGET:
        raise UsageError(f"--gates is for tensorrt, not for {options.target}")
    manifest = _manifest_of(options.model)
    path = os.path.join(options.model, MODEL) if is_artifact(options.model) else options.model
    if not path.endswith(".onnx"):
        raise UsageError(f"gates run on a folder for TensorRT, or on an ONNX file: lower '{printable(path)}' first")
    ran = run_gates(
        options.gates, path, profiles=make_profiles(options.shapes), source=options.source,
        precision=manifest.get("precision", options.precision or "fp32"), plugins=manifest.get("plugins", ()),
    )  # fmt: skip
    return [gate for gate in ran if gate.detail != NOT_ASKED]


def _manifest_of(path: str) -> dict[str, Any]:
    """That of a folder for TensorRT; nothing of another model."""
    from graphopt.backends.tensorrt.artifact import MANIFEST, is_artifact

    if not is_artifact(path):
        return {}
    with open(os.path.join(path, MANIFEST), encoding="utf-8") as file:
        manifest: dict[str, Any] = json.load(file)
    return manifest


def check_build(options: argparse.Namespace) -> None:
    """Raise `NoTensorRTError`, before any work, where an engine is wanted and cannot be built here."""
    if options.build:
        from graphopt.backends.tensorrt.building import require_tensorrt

        require_tensorrt()


def write_folder(lowered: Lowered, options: argparse.Namespace, console: Console, started: float) -> int:
    """Write the artifact and say what is in it and what was proved of it."""
    from graphopt.backends.tensorrt.artifact import write_artifact

    manifest = write_artifact(
        lowered, options.output, source=options.model, data=options.data, gates=tuple(options.gates),
        build=options.build, overwrite=options.force,
    )  # fmt: skip
    seconds, summary = time.perf_counter() - started, manifest["summary"]
    size = sum(entry.stat().st_size for entry in os.scandir(options.output) if entry.is_file())
    for note in lowered.notes:
        console.note(note)
    if options.json:
        console.json(
            {
                "schema": SCHEMA, "target": TARGET, "output": options.output, "bytes": size,
                "seconds": round(seconds, 6), "operators": lowered.model.node_count,
                "signatures": list(lowered.model.signatures), "notes": lowered.notes,
                "manifest": {key: value for key, value in manifest.items() if key != "schema"},
            }
        )  # fmt: skip
        return 0
    held = ", ".join(f"{human_bytes(number)} of {kind}" for kind, number in summary["weight_bytes"].items())
    console.result(f"{options.output}: {summary['nodes']} nodes, {human_bytes(size)}, in {seconds:.2f} s")
    console.result(f"{summary['transposes']} transposes and {summary['casts']} casts stay; weights: {held or 'none'}")
    counts = ", ".join(f"{count} in {kind}" for kind, count in summary["computing"].items())
    console.result(f"convolutions and products: {counts or 'none'}; layer by layer in report.json")
    if summary["overflow"]:
        console.result(f"{len(summary['overflow'])} tensors leave float16's range; they are in report.json")
    for gate in manifest["gates"]:
        detail = f" ({gate['detail']})" if gate["detail"] else ""
        console.result(f"gate {gate['name']}: {gate['status']}{detail}")
    if "engine" in manifest:
        engine = manifest["engine"]
        console.result(
            f"{engine['engine']}: {human_bytes(engine['bytes'])}, built in {engine['seconds']:.1f} s; a run takes "
            f"{engine['milliseconds']['median']:.3f} ms"
        )
    console.result(manifest["hardware"])
    return 0
