"""Print a model, or one graph of it, as the text form of the IR."""

from __future__ import annotations

import argparse

from graphopt.cli.arguments import add_model
from graphopt.cli.console import Console


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `print`."""
    add_model(parser)
    parser.add_argument("--function", metavar="F", help="print only this function of the library")
    parser.add_argument("--full", action="store_true", help="print every tensor in full, so that the text parses back")
    parser.add_argument("--infer", action="store_true", help="infer shapes first, so that every type is filled in")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print one model."""
    from graphopt import sources
    from graphopt.ir.errors import UsageError, printable
    from graphopt.ir.text import print_graph, print_model
    from graphopt.names import close_names

    model, notes = sources.read(options.model, inputs=options.inputs, outputs=options.outputs)
    for note in notes:
        console.note(note)
    if options.infer:
        from graphopt.ir.infer import infer_model

        infer_model(model)
    shown = {"elide": None} if options.full else {}
    if options.function is None:
        console.result(print_model(model, **shown).rstrip("\n"))
        return 0
    function = model.functions.get(options.function)
    if function is None:
        hint = close_names(options.function, model.functions)
        raise UsageError(f"the model has no function '{printable(options.function)}'{hint}")
    console.result(print_graph(function, **shown).rstrip("\n"))
    return 0
