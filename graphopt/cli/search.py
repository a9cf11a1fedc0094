"""Meet an accuracy with the fewest bytes above int8: which parts of a model to keep in higher precision."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from graphopt.cli.arguments import add_force, add_json
from graphopt.cli.console import Console
from graphopt.cli.output import check_output, write_model
from graphopt.cli.sensitivity import add_trials, figures
from graphopt.report.progress import Progress
from graphopt.report.tables import Table, human_bytes

if TYPE_CHECKING:
    from graphopt.tuning.search import Found

SCHEMA = "graphopt/search/v1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `search`."""
    add_trials(parser, effort="default", seconds=600)
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the .tflite to write")
    parser.add_argument("--save-recipe", metavar="R.json", help="write the recipe that was found, too")
    add_force(parser)
    parser.add_argument("--snr", metavar="DB", type=float, help="least ratio of signal to noise of the outputs")
    parser.add_argument("--centred", metavar="DB", type=float, help="the same, without what all samples have in common")
    parser.add_argument("--max-error", metavar="X", type=float, help="largest absolute error of the outputs")
    parser.add_argument(
        "--keep", metavar="P,Q", default="weight-only,float16",
        help="precisions to keep operators in: weight-only, float16, float, int16x8 (default: weight-only,float16)",
    )  # fmt: skip
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Search for one model; status 1 where the budget is not met, though the best found is written."""
    from graphopt.passes.quantize.recipe import save_recipe
    from graphopt.tuning.search import search

    check_output(options.output, options.force, options.model)
    if options.save_recipe is not None:
        check_output(options.save_recipe, options.force, options.model)
    started = time.perf_counter()
    with Progress(sys.stderr, enabled=not options.quiet) as progress:
        found = search(
            options.model, options.data, snr=options.snr, centred=options.centred, max_error=options.max_error,
            recipe=options.recipe, precisions=tuple(name.strip() for name in options.keep.split(",")),
            profile=options.profile, effort=options.effort, seconds=options.seconds, state=options.state,
            progress=progress,
        )  # fmt: skip
        size = write_model(found.model, options.output, options.force)
    if options.save_recipe is not None:
        save_recipe(found.recipe, options.save_recipe, overwrite=options.force)
    seconds = time.perf_counter() - started
    for note in found.notes:
        console.note(note)
    if options.json:
        console.json(_as_dict(found, options, size, seconds))
        return 0 if found.meets else 1
    table = Table(("SNR>", "centred>", "bytes>", "operators kept>", "in", "the rest in"))
    for point in found.points:
        table.add(
            f"{point.accuracy.snr:.2f} dB",
            f"{point.accuracy.centred:.2f} dB",
            point.bytes,
            len(point.kept),
            point.precision,
            point.rest,
        )
    console.table(table)
    for name in found.best.kept:
        console.detail(f"{name} is kept in {found.best.precision}")
    console.result(
        f"{options.output}: {figures(found.best.accuracy)}; {len(found.best.kept)} operators kept in "
        f"{found.best.precision}, the rest in {found.best.rest}, {human_bytes(size)}, in {seconds:.1f} s"
    )
    return 0 if found.meets else 1


def _as_dict(found: Found, options: argparse.Namespace, size: int, seconds: float) -> dict[str, Any]:
    from graphopt.tuning.search import points_as_rows

    return {
        "schema": SCHEMA, "model": options.model, "output": options.output, "size": size, "meets": found.meets,
        "best": points_as_rows([found.best])[0], "points": points_as_rows(found.points), "notes": found.notes,
        "seconds": round(seconds, 6),
    }  # fmt: skip
