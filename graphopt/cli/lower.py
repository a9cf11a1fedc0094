"""Lower a model to a target and write what comes out."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from graphopt.cli.arguments import add_json, add_model, add_output, names
from graphopt.cli.console import Console
from graphopt.cli.output import check_folder, check_output, write_model
from graphopt.cli.quantize import add_recipe
from graphopt.cli.tensorrt import (
    TARGET,
    add_build,
    add_tensorrt,
    check_build,
    tensorrt_options,
    write_folder,
)
from graphopt.cli.xla import TARGET as XLA
from graphopt.cli.xla import add_ahead, add_xla, ahead_options, xla_options
from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model
from graphopt.report.tables import human_bytes

if TYPE_CHECKING:
    from graphopt.backends.base import Lowered

SCHEMA = "graphopt/lower/v1"
# Of targets that make integers as they lower: what they take of the flags for quantization, and their name for it.
OWN_INTEGERS = {
    TARGET: {
        "data": "data", "recipe": "recipe", "calibration": "statistics", "effort": "effort", "no_check": "no_check",
    },
    XLA: {"data": "data", "recipe": "recipe", "calibration": "statistics"},
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `lower`."""
    add_model(parser)
    add_output(parser)
    tflite, tensorrt, xla = add_target(parser, "--to")
    tflite.add_argument("--metadata", metavar="F", help="TFLite Metadata to attach, JSON; files it names lie beside it")
    tflite.add_argument("--labels", metavar="F,G", type=names, help="files of labels, one for each output in order")
    add_build(tensorrt)
    xla.add_argument("--savedmodel", action="store_true", help="write a SavedModel, whose signatures call the programs")
    add_ahead(parser)
    add_recipe(parser, "--quantize", "floats stay floats", profile=False)
    add_json(parser)


def add_target(parser: argparse.ArgumentParser, flag: str) -> tuple[argparse._ArgumentGroup, ...]:
    """The target, and what it may be allowed; returns the groups of TFLite's, TensorRT's and XLA's options."""
    parser.add_argument(flag, dest="target", metavar="TARGET", required=True, help="tflite, onnx, tensorrt or xla")
    parser.add_argument("--signatures", metavar="A,B", type=names, help="signatures to lower (default: all)")
    tflite = parser.add_argument_group("TFLite")
    tflite.add_argument(
        "--allow-flex", action="store_true", help="let what has no builtin form be Flex operators, run by TensorFlow"
    )
    tflite.add_argument(
        "--allow-custom-ops", action="store_true", help="let it be custom operators, which the application registers"
    )
    tflite.add_argument("--unroll", action="store_true", help="write out loops whose number of iterations is known")
    tflite.add_argument(
        "--fuse-lstm", action="store_true", help="make one operator of an LSTM, whose state the application resets"
    )
    return tflite, add_tensorrt(parser), add_xla(parser)


def backend_options(options: argparse.Namespace) -> dict[str, Any]:
    """What the backend is told: what was asked for, since targets have different options."""
    given = {
        "signatures": tuple(options.signatures or ()),
        "allow_flex": options.allow_flex,
        "allow_custom_ops": options.allow_custom_ops,
        "unroll": options.unroll,
        "fuse_lstm": options.fuse_lstm,
        **tensorrt_options(options),
    }
    return {name: value for name, value in given.items() if value} | xla_options(options)


def run(options: argparse.Namespace, console: Console) -> int:
    """Lower one model."""
    from graphopt.lowering import lower

    console.result_to_stderr = options.output == "-"
    is_folder = options.target == TARGET
    ahead = ahead_options(options)
    quantizes = _asks_for_integers(options)
    chosen = backend_options(options)
    if is_folder:
        check_folder(options.output, options.force, "TensorRT")
        check_build(options)
    elif options.target == XLA:
        check_folder(options.output, options.force, "XLA")
    else:
        check_output(options.output, options.force, options.model)
    if options.savedmodel and (options.target != XLA or ahead):
        raise UsageError("--savedmodel goes with --to xla, without --aot")
    started = time.perf_counter()
    given = chosen | _own_integers(options)
    lowered = lower(options.model, options.target, inputs=options.inputs, outputs=options.outputs, **given)
    if is_folder:
        return write_folder(lowered, options, console, started)
    if quantizes:
        _quantize(lowered, options)
    if options.metadata or options.labels:
        _describe(lowered.model, options)
    if options.savedmodel:
        from graphopt.backends.xla.savedmodel import called_model

        lowered.model = called_model(lowered.model)
    path = f"{options.output.rstrip('/')}/" if options.savedmodel else options.output
    size = write_model(lowered.model, path, options.force, ahead)
    seconds = time.perf_counter() - started
    for note in lowered.notes:
        console.note(note)
    if options.json:
        console.json(
            {
                "schema": SCHEMA, "target": options.target, "output": options.output, "bytes": size,
                "seconds": round(seconds, 6), "operators": lowered.model.node_count,
                "signatures": list(lowered.model.signatures), "notes": lowered.notes,
            }
        )  # fmt: skip
        return 0
    console.result(f"{options.output}: {lowered.model.node_count} nodes, {human_bytes(size)}, in {seconds:.2f} s")
    return 0


def _asks_for_integers(options: argparse.Namespace) -> bool:
    """Raises `UsageError` where what only goes with quantization is given without, or what only goes with TFLite."""
    if options.target != "tflite" and (options.metadata or options.labels):
        raise UsageError(f"--metadata and --labels are TFLite's, not {options.target}'s")
    own = OWN_INTEGERS.get(options.target, {})
    if options.mode or (options.recipe and "recipe" not in own):
        if options.target != "tflite":
            raise UsageError(f"--quantize is for tflite, not for {options.target}")
        return True
    for name in ("calibration", "data", "input_type", "output_type"):
        if getattr(options, name) and name not in own:
            raise UsageError(f"--{name.replace('_', '-')} goes with --quantize or --recipe")
    return False


def _own_integers(options: argparse.Namespace) -> dict[str, Any]:
    """Samples, statistics and recipe for a target that makes integers as it lowers."""
    own = OWN_INTEGERS.get(options.target, {})
    return {option: getattr(options, name) for name, option in own.items() if getattr(options, name)}


def _quantize(lowered: Lowered, options: argparse.Namespace) -> None:
    from graphopt.quantization import quantize

    quantized = quantize(
        lowered.model, options.recipe or options.mode, data=options.data, calibration=options.calibration,
        input_type=options.input_type, output_type=options.output_type, profile=options.profile, effort=options.effort,
        check=not options.no_check,
    )  # fmt: skip
    lowered.model = quantized.model
    lowered.notes += quantized.notes


def _describe(model: Model, options: argparse.Namespace) -> None:
    """Attach metadata and labels."""
    from graphopt.backends.tflite.description import describe

    describe(model, options.metadata, options.labels or ())
