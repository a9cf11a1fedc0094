"""What `lower` and `check` may be told for XLA."""

from __future__ import annotations

import argparse
from typing import Any

TARGET = "xla"
OPTIONS = ("weights", "depthwise", "platform", "minimum_version", "batch", "unknown")
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # as --precision names them


def add_xla(parser: argparse.ArgumentParser) -> None:
    """The options of the target `xla`."""
    group = parser.add_argument_group("XLA")
    group.add_argument("--weights", choices=("arguments", "constants"), help="weights beside the program, or in it")
    group.add_argument("--depthwise", choices=("auto", "grouped", "slices"), help="form of depthwise convolutions")
    group.add_argument("--platform", choices=("cpu", "cuda", "rocm", "tpu"), help="what it is to run on (default: cpu)")
    group.add_argument("--minimum-version", metavar="V", help="oldest StableHLO version that must read it")
    group.add_argument("--batch", metavar="N", type=int, help="number for unknown leading dimensions of the inputs")
    group.add_argument("--unknown", metavar="N", type=int, help="number for their other unknown dimensions")
    group.add_argument("--no-fallback", action="store_true", help="never let TensorFlow lower the model as a whole")


def xla_options(options: argparse.Namespace) -> dict[str, Any]:
    """Those that were given."""
    given = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    if getattr(options, "target", TARGET) == TARGET and options.precision:
        given["precision"] = PRECISIONS.get(options.precision, options.precision)
    return given | ({"fallback": False} if options.no_fallback else {})
