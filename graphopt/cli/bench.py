"""Time a model in several runtimes, side by side."""

from __future__ import annotations

import argparse

from graphopt.cli.arguments import add_json, add_model, names
from graphopt.cli.console import Console
from graphopt.cli.xla import PRECISIONS, add_xla, xla_options


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench`."""
    add_model(parser)
    parser.add_argument(
        "--runtime", metavar="A,B", type=names, default=["tensorflow", "xla"],
        help="of tensorflow, tensorflow-jit, xla, litert, onnxruntime (default: tensorflow,xla)",
    )  # fmt: skip
    parser.add_argument("--signature", metavar="NAME", help="the signature to run")
    parser.add_argument("--data", metavar="F", help="an .npz with samples, of which the first is run")
    parser.add_argument("--runs", metavar="N", type=int, default=50, help="runs that are timed (default: 50)")
    parser.add_argument("--warm-up", metavar="N", type=int, default=5, help="runs before that (default: 5)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the random sample (default: 0)")
    add_xla(parser)
    parser.add_argument("--precision", choices=tuple(PRECISIONS), help="of XLA's products and convolutions")
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Time one model; 1 if some runtime does not run it."""
    from graphopt.api import load
    from graphopt.benchmark import bench

    model = load(options.model, inputs=options.inputs, outputs=options.outputs)
    report = bench(
        model, options.runtime, data=options.data, seed=options.seed, runs=options.runs, warm_up=options.warm_up,
        signature=options.signature, options=xla_options(options),
    )  # fmt: skip
    failed = any(timing.problem for timing in report.timings)
    if options.json:
        console.json(report.as_dict())
        return int(failed)
    width = max(len(timing.runtime) for timing in report.timings)
    for timing in report.timings:
        if timing.median_seconds is None or timing.fastest_seconds is None:
            console.result(f"{timing.runtime:<{width}}  does not run: {timing.problem}")
            continue
        console.result(
            f"{timing.runtime:<{width}}  median {timing.median_seconds * 1e3:9.3f} ms  "
            f"fastest {timing.fastest_seconds * 1e3:9.3f} ms  prepared in {timing.prepare_seconds:.1f} s"
        )
    for note in report.notes:
        console.result(note)
    return int(failed)
