"""Which layers hurt when a model is quantized: the error each causes alone, and what has added up by then."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from graphopt.cli.arguments import add_json
from graphopt.cli.console import Console
from graphopt.report.progress import Progress
from graphopt.report.tables import Table

if TYPE_CHECKING:
    from graphopt.tuning.measuring import Accuracy
    from graphopt.tuning.sensitivity import LayerError, Sensitivity

SCHEMA = "graphopt/sensitivity/v1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sensitivity`."""
    add_trials(parser, effort="fast", seconds=300)
    parser.add_argument("--top", metavar="N", type=int, default=20, help="layers to list (default: 20)")
    add_json(parser)


def add_trials(parser: argparse.ArgumentParser, *, effort: str, seconds: int) -> None:
    """What both commands need that try one model many times."""
    parser.add_argument("model", metavar="MODEL", help="a float .tflite, or a model to be lowered first")
    parser.add_argument("--data", metavar="D", required=True, help="an .npz: one array per input, samples first")
    parser.add_argument("--recipe", metavar="R", default="int8", help="a mode or a recipe (default: int8)")
    parser.add_argument("--profile", choices=("litert", "micro", "integer"), default="litert", help="kernels to run on")
    parser.add_argument(
        "--effort", choices=("fast", "default", "high"), default=effort,
        help=f"ways to quantize that are tried beforehand (default: {effort})",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=seconds, help=f"stop after so long (default: {seconds})"
    )
    parser.add_argument("--state", metavar="FILE", help="keep what was measured here, and go on from there")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure one model."""
    from graphopt.tuning.sensitivity import sensitivity

    started = time.perf_counter()
    with Progress(sys.stderr, enabled=not options.quiet) as progress:
        found = sensitivity(
            options.model, options.data, options.recipe, profile=options.profile, effort=options.effort,
            seconds=options.seconds, state=options.state, progress=progress,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    for note in found.notes:
        console.note(note)
    if options.json:
        console.json(_as_dict(found, options, seconds))
        return 0
    table = Table(("layer", "operator", "share>", "alone>", "accumulated>", "weights>"))
    for item in found.ranking[: options.top]:
        table.add(
            item.name, item.operator, _percent(item), decibels(item.alone), decibels(item.accumulated), item.weights
        )
    console.table(table)
    measured = sum(item.alone is not None for item in found.layers)
    console.result(
        f"{options.model}: {figures(found.accuracy)}; {measured} of {len(found.layers)} int8 operators measured alone, "
        f"in {seconds:.1f} s"
    )
    return 0


def figures(found: Accuracy) -> str:
    """One line."""
    return (
        f"SNR {found.snr:.2f} dB, centred {found.centred:.2f} dB, largest error {found.max_error:.3g}, "
        f"cosine {found.cosine:.6f}"
    )


def decibels(found: Accuracy | None) -> str:
    """The plain ratio, for tables."""
    return "-" if found is None else f"{found.snr:.1f} dB"


def _percent(item: LayerError) -> str:
    return "-" if item.share is None else f"{100 * item.share:.1f} %"


def _as_dict(found: Sensitivity, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    rows = [
        {
            "name": item.name, "operator": item.operator, "layers": list(item.layers), "weights": item.weights,
            "share": item.share, "noise": item.noise,
            "alone": None if item.alone is None else item.alone._asdict(),
            "accumulated": None if item.accumulated is None else item.accumulated._asdict(),
        }
        for item in found.layers
    ]  # fmt: skip
    return {
        "schema": SCHEMA, "model": options.model, "accuracy": found.accuracy._asdict(),
        "outputs": {name: item._asdict() for name, item in found.outputs.items()}, "complete": found.is_complete,
        "notes": found.notes, "seconds": round(seconds, 6), "layers": rows,
    }  # fmt: skip
