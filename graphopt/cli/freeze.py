"""Make one graph of a model and its variables: a SavedModel or a checkpoint's graph in, a frozen graph out."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from graphopt.cli.arguments import add_json, add_names, add_output
from graphopt.cli.arguments import names as listed
from graphopt.cli.console import Console
from graphopt.cli.output import STDOUT, check_output, write_model
from graphopt.report.progress import Progress
from graphopt.report.tables import human_bytes

if TYPE_CHECKING:
    from graphopt.freezing import Frozen

SCHEMA = "graphopt/freeze/v1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `freeze`."""
    parser.add_argument("model", metavar="MODEL", help="a SavedModel's folder, or another model with variables")
    add_names(parser)
    add_output(parser, "frozen graph")
    parser.add_argument("--signature", metavar="S", help="freeze this signature alone (default: all of them)")
    parser.add_argument(
        "--tags", metavar="T,U", type=listed, help="the MetaGraph with these tags, where there are several"
    )
    parser.add_argument("--only", metavar="P,Q", type=listed, default=[], help="variables to freeze: 'dense/*'")
    parser.add_argument(
        "--except", metavar="P,Q", type=listed, default=[], dest="exceptions", help="variables to leave"
    )
    parser.add_argument("--keep-functions", action="store_true", help="do not inline the functions that are called")
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Freeze one model."""
    from graphopt.freezing import freeze

    console.result_to_stderr = options.output == STDOUT
    check_output(options.output, options.force, options.model)
    started = time.perf_counter()
    with Progress(sys.stderr, enabled=not options.quiet) as progress:
        progress(0, 0, "freezing")
        frozen = freeze(
            options.model,
            signature=options.signature,
            names=options.only,
            exceptions=options.exceptions,
            tags=options.tags,
            inputs=options.inputs,
            outputs=options.outputs,
            functions=options.keep_functions,
        )
        progress(0, 0, "writing")
        size = write_model(frozen.model, options.output, options.force)
    _report(frozen, options, console, size, time.perf_counter() - started)
    return 0


def _report(frozen: Frozen, options: argparse.Namespace, console: Console, size: int, seconds: float) -> None:
    if options.json:
        console.json(_as_dict(frozen, options, size, seconds))
        return
    from graphopt.ir.errors import printable

    nodes, count = (
        frozen.model.node_count,
        sum(entry.rules.get("freeze-variables", 0) for entry in frozen.report.passes),
    )
    variables = f"{count} variable{'' if count == 1 else 's'} frozen"
    console.result(f"{printable(options.output)}: {nodes:,} nodes, {human_bytes(size)}, {variables}, {seconds:.2f} s")
    if frozen.initialisers:
        shown = ", ".join(f"'{printable(name)}'" for name in frozen.initialisers)
        console.note(f"the graph has tables: run {shown} once before anything else")


def _as_dict(frozen: Frozen, options: argparse.Namespace, size: int, seconds: float) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "input": options.model,
        "output": options.output,
        "output_bytes": size,
        "seconds": round(seconds, 6),
        "signatures": list(frozen.model.signatures),
        "initialisers": list(frozen.initialisers),
        "variables": list(frozen.model.variables),
        "report": frozen.report.as_dict(),
    }
