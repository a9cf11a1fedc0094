"""Say what a rule, or every rule of a pass, makes of a model: where it applies, refuses, or does not match, and why."""

from __future__ import annotations

import argparse

from graphopt.cli.arguments import add_json, add_names
from graphopt.cli.console import Console
from graphopt.report.tables import Table


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `why`."""
    parser.add_argument("rule", metavar="RULE", help="a rule or a pass")
    parser.add_argument("model", metavar="MODEL", help="a frozen graph, or - for standard input")
    parser.add_argument("--node", metavar="N", help="ask about this node alone")
    parser.add_argument("--after", metavar="SPEC", help="a pipeline to run first, as before the pass in a preset")
    add_names(parser)
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Explain one rule on one model."""
    from graphopt import sources
    from graphopt.explanation import as_dict, why

    model, notes = sources.read(options.model, inputs=options.inputs, outputs=options.outputs)
    for note in notes:
        console.note(note)
    if options.after is not None:
        from graphopt.passes.manager import PassManager

        PassManager(options.after).run(model)
    verdicts = why(model, options.rule, options.node)
    if options.json:
        console.json(as_dict(verdicts))
        return 0
    table = Table(["rule", "nodes>", "verdict", "for example"])
    for verdict in verdicts:
        more = ", …" if verdict.count > len(verdict.nodes) else ""
        table.add(verdict.rule, verdict.count, verdict.text, ", ".join(verdict.nodes) + more)
    console.table(table)
    return 0
