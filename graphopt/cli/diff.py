"""Compare how two models are built: nodes, constants, functions, signatures; exit status 1 where they differ."""

from __future__ import annotations

import argparse

from graphopt.cli.arguments import add_json, add_names
from graphopt.cli.console import Console
from graphopt.report.tables import Table, human_bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `diff`."""
    parser.add_argument("first", metavar="A", help="a model")
    parser.add_argument("second", metavar="B", help="another model")
    add_names(parser)
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Compare one pair of models."""
    from graphopt import sources
    from graphopt.differences import diff

    names = {"inputs": options.inputs, "outputs": options.outputs}
    first, second = (sources.read(path, **names).model for path in (options.first, options.second))
    difference = diff(first, second)
    if options.json:
        console.json(difference.as_dict())
        return 0 if difference.is_empty else 1
    for line in difference.lines(None) if console.verbose else difference.lines():
        console.result(line)
    if difference.operators:
        table = Table(["operator", "first>", "second>", "change>"])
        for name, (before, after) in difference.operators.items():
            table.add(name, before, after, f"{after - before:+d}")
        console.result("")
        console.table(table)
    before, after = difference.constant_bytes
    if before != after:
        console.result(f"constants: {human_bytes(before)} -> {human_bytes(after)}")
    return 0 if difference.is_empty else 1
