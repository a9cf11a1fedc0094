"""Store and compute with fewer bits: integers or half precision, operator by operator as a recipe says."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from graphopt.cli.arguments import add_force, add_json, add_model
from graphopt.cli.console import Console
from graphopt.cli.output import check_output, write_model
from graphopt.report.progress import Progress
from graphopt.report.tables import Table, human_bytes

if TYPE_CHECKING:
    from graphopt.passes.quantize.plan import Plan

SCHEMA = "graphopt/quantize/v1"
EFFORTS = ("fast", "default", "high")
TYPES = ("float32", "int8", "uint8", "int16")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `quantize`."""
    add_model(parser)
    parser.add_argument("-o", "--output", metavar="OUT", help="the .tflite to write; - is stdout")
    add_force(parser)
    add_recipe(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what each operator would become; write nothing")
    add_json(parser)


PROFILES = ("litert", "micro", "integer")


def add_recipe(
    parser: argparse.ArgumentParser, flag: str = "--mode", default: str = "int8", *, profile: bool = True
) -> None:
    """How to quantize, and what from; without `profile` the caller adds that flag."""
    group = parser.add_argument_group("quantization")
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        flag,
        dest="mode",
        choices=("int8", "int16x8", "dynamic", "weight-only", "float16"),
        help=f"one mode for every operator (default: {default})",
    )
    how.add_argument("--recipe", metavar="R.json", help="a recipe: modes by operator, layer, subgraph and signature")
    ranges = group.add_mutually_exclusive_group()
    ranges.add_argument(
        "--calibration", "--statistics", metavar="STATS", help="statistics that `graphopt calibrate` wrote"
    )
    ranges.add_argument("--data", metavar="D", help="an .npz with samples to gather statistics from")
    group.add_argument(
        "--effort", choices=EFFORTS, default="default", help="how many ways to quantize to int8 are tried"
    )
    group.add_argument("--no-check", action="store_true", help="note what is wrong with the samples, and go on")
    group.add_argument("--input-type", choices=TYPES, help="what callers feed (default: float32)")
    group.add_argument("--output-type", choices=TYPES, help="what callers fetch (default: float32)")
    if profile:
        group.add_argument("--profile", choices=PROFILES, default=PROFILES[0], help="kernels it must run on")


def run(options: argparse.Namespace, console: Console) -> int:
    """Quantize one model."""
    from graphopt.quantization import plan_of, quantize

    recipe = options.recipe or options.mode or "int8"
    console.result_to_stderr = options.output == "-"
    if options.dry_run:
        plan = plan_of(options.model, recipe, profile=options.profile, inputs=options.inputs, outputs=options.outputs)
        _show(plan, options, console)
        return 0
    if options.output is None:
        from graphopt.ir.errors import UsageError

        raise UsageError("name the file to write (-o), or ask for the plan alone (--dry-run)")
    check_output(options.output, options.force, options.model)
    started = time.perf_counter()
    with Progress(sys.stderr, enabled=not options.quiet) as progress:
        progress(0, 0, "quantizing")
        quantized = quantize(
            options.model, recipe, data=options.data, calibration=options.calibration, input_type=options.input_type,
            output_type=options.output_type, profile=options.profile, effort=options.effort, inputs=options.inputs,
            outputs=options.outputs, check=not options.no_check, progress=progress,
        )  # fmt: skip
        progress(0, 0, "writing")
        size = write_model(quantized.model, options.output, options.force)
    seconds = time.perf_counter() - started
    for note in quantized.notes:
        console.note(note)
    for row in quantized.plan.rows():
        if row["compute"] == "float32" and not row["storage"]:
            console.detail(f"{row['node']} ({row['operator']}) stays float: {row['reason']}")
    if options.json:
        console.json(_as_dict(quantized.plan, options, size=size, seconds=round(seconds, 6), notes=quantized.notes))
        return 0
    console.result(f"{options.output}: {summary(quantized.plan)}, {human_bytes(size)}, in {seconds:.2f} s")
    return 0


def summary(plan: Plan) -> str:
    """How many operators there are of each kind."""
    counts: dict[str, int] = {}
    for row in plan.rows():
        kind = row["compute"] if not row["storage"] else f"{row['compute']} with {row['storage']} weights"
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} operators {kind}" for kind, count in counts.items())


def _show(plan: Plan, options: argparse.Namespace, console: Console) -> None:
    if options.json:
        console.json(_as_dict(plan, options))
        return
    table = Table(("operator", "node", "computes in", "stores", "why"))
    for row in plan.rows():
        table.add(row["operator"], row["node"], row["compute"], row["storage"] or "-", row["reason"])
    console.table(table)


def _as_dict(plan: Plan, options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "model": options.model, "profile": options.profile, "plan": list(plan.rows()), **more}
