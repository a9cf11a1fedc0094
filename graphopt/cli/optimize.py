"""Run a pipeline of passes over a model and write the result; print what each pass did."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from graphopt.cli.arguments import add_json, add_model, add_output
from graphopt.cli.console import Console
from graphopt.cli.output import check_output, write_model, write_text
from graphopt.report.progress import Progress
from graphopt.report.tables import Table, counts_text, human_bytes

if TYPE_CHECKING:
    from graphopt.api import Result
    from graphopt.passes.report import RunReport

SCHEMA = "graphopt/optimize/v1"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `optimize`."""
    add_model(parser)
    add_output(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pipeline", metavar="NAME", default="inference", help="a preset (default: inference)")
    which.add_argument("--passes", metavar="SPEC", help="passes of your own: 'fold-constants{max-bytes=65536},sort'")
    parser.add_argument(
        "--check",
        choices=("structure", "numeric", "off"),
        default="structure",
        help="after each pass (default: structure)",
    )
    parser.add_argument("--data", metavar="D", help="an .npz with samples for numeric checks; random if not given")
    parser.add_argument("--runtime", metavar="R", help="what runs numeric checks: reference, tensorflow or litert")
    parser.add_argument("--exactness", metavar="CLASS", help="exact, reassociating (default) or approximate rewrites")
    parser.add_argument("--fast-math", action="store_true", help="give up NaN and Inf where that allows more")
    parser.add_argument("--journal", metavar="F", help="write every rewrite to F as JSON lines")
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Optimise one model."""
    from graphopt import api, sources
    from graphopt.passes.manager import PassManager, preset

    if options.data is not None and options.check != "numeric":
        from graphopt.ir.errors import UsageError

        raise UsageError("--data is only used by numeric checks: add --check numeric")
    console.result_to_stderr = options.output == "-"
    check_output(options.output, options.force, options.model)
    if options.journal:
        check_output(options.journal, options.force, options.model)
    started = time.perf_counter()
    with Progress(sys.stderr, enabled=not options.quiet) as progress:
        if options.passes is None:
            preset(options.pipeline)  # a name there is not is reported before anything is read
        manager = PassManager(
            options.pipeline if options.passes is None else options.passes,
            exactness=api.exactness_named(options.exactness or "reassociating"),
            fast_math=options.fast_math,
            verify_each=options.check != "off",
            journal=bool(options.journal),
            progress=_Steps(progress),
        )
        progress(0, 0, "reading")
        model, notes = sources.read(options.model, inputs=options.inputs, outputs=options.outputs)
        for note in notes:
            console.note(note)
        loaded = time.perf_counter()
        numeric = options.check == "numeric"
        result = api.run(model, manager, numeric=numeric, data=options.data, runtime=options.runtime)
        progress(0, 0, "writing")
        optimised = time.perf_counter()
        size = write_model(model, options.output, options.force)
        if options.journal:
            from graphopt.passes.report import journal_lines

            write_text(
                options.journal, (f"{line}\n" for line in journal_lines(result.report.journal or ())), options.force
            )
    seconds = {"read": loaded - started, "passes": optimised - loaded, "write": time.perf_counter() - optimised}
    _report(result, options, console, seconds, size)
    return 0


class _Steps:
    """Progress between passes; what the last pass left behind is collected there, which is cheap after a freeze."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._frozen = False

    def __call__(self, done: int, total: int, name: str) -> None:
        import gc

        if self._frozen:
            gc.collect()
        gc.freeze()
        self._frozen = True
        self._progress(done, total, name)


def _report(
    result: Result, options: argparse.Namespace, console: Console, seconds: dict[str, float], size: int
) -> None:
    report, verification = result.report, result.verification
    for note in (*report.notes, *(verification.warnings if verification is not None else ())):
        console.note(note)
    if options.json:
        console.json(_as_dict(result, options, seconds, size))
        return
    if not console.quiet:
        console.table(pass_table(report))
        console.result("")
    console.result(summary(report, options.model, options.output, size, sum(seconds.values())))
    if verification is not None:
        worst = max((output.relative_error for output in verification.outputs), default=0.0)
        over = f"{verification.samples} samples ({verification.runtime})"
        console.result(f"outputs agree within {worst:.2g} of their scale over {over}")
    for entry in report.passes:
        for note in entry.notes:
            console.detail(f"{entry.name}: {note}")
        for refusal in entry.refusals:
            nodes = ", ".join(refusal["nodes"])
            console.detail(
                f"{entry.name}: {refusal['rule']} left {refusal['count']} alone ({nodes}): {refusal['reason']}"
            )


def pass_table(report: RunReport) -> Table:
    """One row a pass: nodes and bytes before and after, milliseconds, rules fired."""
    table = Table(["pass", "nodes>", "after>", "bytes>", "after>", "ms>", "rules fired"])
    for entry in report.passes:
        before, after = human_bytes(entry.bytes_before), human_bytes(entry.bytes_after)
        rules = counts_text(entry.rules.items()) or "-"
        table.add(
            entry.name, entry.nodes_before, entry.nodes_after, before, after, f"{entry.seconds * 1000:.1f}", rules
        )
    return table


def summary(report: RunReport, source: str, output: str, size: int, seconds: float) -> str:
    """One line for the whole run."""
    from graphopt.ir.errors import printable

    changed = report.nodes_before and report.nodes_after != report.nodes_before
    share = f" ({100 * (report.nodes_after / report.nodes_before - 1):+.0f}%)" if changed else ""
    before = f"{human_bytes(os.path.getsize(source))} -> " if os.path.isfile(source) else ""
    return (
        f"{printable(output)}: {report.nodes_before:,} -> {report.nodes_after:,} nodes{share}, "
        f"{before}{human_bytes(size)}, checked: {report.verified}, {seconds:.2f} s"
    )


def _as_dict(result: Result, options: argparse.Namespace, seconds: dict[str, float], size: int) -> dict[str, Any]:
    verification = result.verification
    return {
        "schema": SCHEMA,
        "input": options.model,
        "output": options.output,
        "output_bytes": size,
        "seconds": {name: round(value, 6) for name, value in seconds.items()},
        "report": result.report.as_dict(),
        "verification": None if verification is None else verification.as_dict(),
    }
