"""Write a small model to try things on: a MobileNet as frameworks export it, with all that an optimiser removes."""

from __future__ import annotations

import argparse

from graphopt.cli.arguments import add_force
from graphopt.cli.console import Console
from graphopt.cli.output import check_output, write_model
from graphopt.report.tables import human_bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `example`."""
    parser.add_argument("output", metavar="PATH", help="the file to write; .pbtxt is text, - is stdout")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="what the weights are drawn from (default: 0)")
    add_force(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the example."""
    from graphopt.example import mobile_network
    from graphopt.ir.errors import printable

    console.result_to_stderr = options.output == "-"
    check_output(options.output, options.force)
    model = mobile_network(options.seed)
    size = write_model(model, options.output, options.force)
    console.result(f"{printable(options.output)}: {model.node_count} nodes, {human_bytes(size)}")
    return 0
