"""What `lower` and `check` may be told for XLA."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from graphopt.ir.errors import UsageError

if TYPE_CHECKING:
    from graphopt.backends.xla.ahead import AheadOptions

TARGET = "xla"
OPTIONS = ("weights", "weights_format", "convolutions", "depthwise", "platform", "minimum_version", "batch", "unknown")
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # as --precision names them


def add_xla(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options of the target `xla`; returns the group that they are listed in."""
    group = parser.add_argument_group("XLA")
    group.add_argument("--weights", choices=("arguments", "constants"), help="weights beside the program, or in it")
    group.add_argument("--weights-format", choices=("npz", "safetensors"), help="format of that file (default: npz)")
    group.add_argument("--convolutions", choices=("auto", "plain"), help="products of matrices where faster, or plain")
    group.add_argument("--depthwise", choices=("auto", "grouped", "slices"), help="form of depthwise convolutions")
    group.add_argument("--platform", metavar="P,Q", help="what it is to run on: cpu, cuda, rocm, tpu (default: cpu)")
    group.add_argument("--minimum-version", metavar="V", help="oldest StableHLO version that must read it")
    group.add_argument("--batch", metavar="N", type=int, help="number for unknown leading dimensions of the inputs")
    group.add_argument("--unknown", metavar="N", type=int, help="number for their other unknown dimensions")
    group.add_argument("--no-fallback", action="store_true", help="never let TensorFlow lower the model as a whole")
    return group


def add_ahead(parser: argparse.ArgumentParser) -> None:
    """The options of compilation ahead of time."""
    group = parser.add_argument_group("XLA ahead of time")
    group.add_argument("--aot", metavar="CLASS", help="compile for C++ too, as this class (needs TensorFlow)")
    group.add_argument("--aot-cpu", metavar="NAME", default="", help="LLVM's name of the processor, such as znver3")
    group.add_argument("--aot-triple", metavar="T", default="", help="LLVM's name of the machine (default: this one)")


def ahead_options(options: argparse.Namespace) -> AheadOptions | None:
    """What was given, or None. Raises `UsageError` for another target."""
    if options.aot is None:
        if options.aot_cpu or options.aot_triple:
            raise UsageError("--aot-cpu and --aot-triple go with --aot")
        return None
    if options.target != TARGET:
        raise UsageError(f"--aot is for xla, not for {options.target}")
    from graphopt.backends.xla.ahead import AheadOptions

    return AheadOptions(options.aot, options.aot_cpu, options.aot_triple)


def xla_options(options: argparse.Namespace) -> dict[str, Any]:
    """Those that were given."""
    given = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    if getattr(options, "target", TARGET) == TARGET and options.precision:
        given["precision"] = PRECISIONS.get(options.precision, options.precision)
    return given | ({"fallback": False} if options.no_fallback else {})
