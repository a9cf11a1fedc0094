"""Run two models on the same inputs and compare what they compute; exit status 1 where an output differs."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from graphopt.cli.arguments import add_json, add_names, positive, tolerance
from graphopt.cli.console import Console
from graphopt.ir.errors import printable
from graphopt.report.tables import Table

if TYPE_CHECKING:
    from graphopt.accuracy import OutputError
    from graphopt.verification import VerificationReport


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `verify`."""
    parser.add_argument("first", metavar="A", help="the model that is right")
    parser.add_argument("second", metavar="B", help="the model to compare with it")
    add_names(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--data", metavar="D", help="an .npz: one array per input, shaped (samples, *the input's shape)")
    which.add_argument("--random", metavar="N", type=positive, default=3, help="samples drawn at random (default: 3)")
    parser.add_argument(
        "--seed", metavar="S", type=int, default=0, help="what random samples are drawn from (default: 0)"
    )
    parser.add_argument("--rtol", metavar="R", type=tolerance, help="error allowed, relative to an output's scale")
    parser.add_argument("--atol", metavar="A", type=tolerance, help="error allowed besides (default: 0)")
    parser.add_argument("--per-layer", action="store_true", help="compare every tensor that both models have")
    parser.add_argument(
        "--runtime", metavar="R", help="what runs models of TensorFlow: reference or tensorflow; LiteRT runs TFLite's"
    )
    parser.add_argument("--signature", metavar="S", help="the signature to run (default: A's default or first one)")
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Verify one pair of models."""
    from graphopt import sources
    from graphopt.verification import verify

    names = {"inputs": options.inputs, "outputs": options.outputs}
    first, second = (sources.read(path, **names).model for path in (options.first, options.second))
    report = verify(
        first,
        second,
        data=None if options.data is None else os.fspath(options.data),
        random=options.random,
        seed=options.seed,
        rtol=options.rtol,
        atol=options.atol,
        per_layer=options.per_layer,
        runtime=options.runtime,
        signature=options.signature,
    )
    for warning in report.warnings:
        console.note(warning)
    if options.json:
        console.json(report.as_dict())
    else:
        _print(report, console)
    return 0 if report.holds else 1


def _print(report: VerificationReport, console: Console) -> None:
    if report.layers:
        console.table(_table("tensor", report.layers))
        console.result("")
    console.table(_table("output", report.outputs))
    if report.layers:
        console.result(f"first diverging tensor: {printable(report.first_divergence or 'none')}")
    over = f"over {report.samples} samples ({report.runtime})"
    console.result(f"the outputs agree {over}" if report.holds else f"the outputs differ {over}: {report.difference}")


def _table(what: str, errors: list[OutputError]) -> Table:
    table = Table([what, "type", "largest error>", "scale>", "relative>", "SNR dB>", "mismatches>", "holds"])
    for error in errors:
        snr = "" if error.snr_db is None else f"{error.snr_db:.1f}"
        table.add(
            error.name, f"{error.dtype}{error.shape}", f"{error.max_error:.3g}", f"{error.scale:.3g}",
            f"{error.relative_error:.3g}", snr, error.mismatches, "yes" if error.holds else "NO",
        )  # fmt: skip
    return table
