"""What `lower` and `check` take for TensorRT, and the folder that `lower` writes for it."""

from __future__ import annotations

import argparse
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

TARGET = "tensorrt"
SCHEMA = "graphopt/lower/v1"


def add_tensorrt(parser: argparse.ArgumentParser) -> None:
    """Precision and profiles."""
    parser.add_argument(
        "--precision", metavar="P",
        help="fp32 (default), fp16, bf16; with --data: int8 (tensorrt, xla), fp8 (tensorrt); xla: int8-weights",
    )  # fmt: skip
    parser.add_argument(
        "--profile", metavar="X=A,B,C", action="append", default=[],
        help="tensorrt: smallest, best and largest shape of a dynamic input: x=1x3x8x8,4x...,8x...; with --quantize: "
        "kernels it must run on: litert, micro, integer",
    )  # fmt: skip
    parser.add_argument("--opset", type=int, metavar="N", help="onnx, tensorrt: version of the operators (21 to 24)")


def tensorrt_options(options: argparse.Namespace) -> dict[str, Any]:
    """What the backend is told of these. `options.profile` is left with the kernels to quantize for.

    Raises `UsageError` for a profile that is neither one of shapes nor one of kernels.
    """
    shapes = tuple(text for text in options.profile if "=" in text)
    kernels = [text for text in options.profile if "=" not in text] or [PROFILES[0]]
    if kernels[-1] not in PROFILES:
        raise UsageError(f"the profile '{printable(kernels[-1])}' does not read INPUT=SHAPE,SHAPE,SHAPE")
    options.profile = kernels[-1]
    precision = options.precision if options.target == TARGET else None
    return {"precision": precision, "profiles": shapes, "opset": options.opset}


def add_gates(parser: argparse.ArgumentParser) -> None:
    """What is to be proved of the result."""
    parser.add_argument(
        "--gates", metavar="A,B", type=names, default=[],
        help="tensorrt: gates to run besides the linter: checker, onnxruntime, tensorrt-rtx, or all",
    )  # fmt: skip


def write_folder(lowered: Lowered, options: argparse.Namespace, console: Console, started: float) -> int:
    """Write the artifact and say what is in it and what was proved of it."""
    from graphopt.backends.tensorrt.artifact import write_artifact

    manifest = write_artifact(
        lowered, options.output, source=options.model, data=options.data, gates=tuple(options.gates),
        overwrite=options.force,
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
    for gate in manifest["gates"]:
        detail = f" ({gate['detail']})" if gate["detail"] else ""
        console.result(f"gate {gate['name']}: {gate['status']}{detail}")
    console.result(manifest["hardware"])
    return 0
