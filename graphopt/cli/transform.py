"""Run transforms of TensorFlow's transform_graph over a graph, with its flags: a drop-in for that tool."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from graphopt.cli.arguments import add_force
from graphopt.cli.console import Console
from graphopt.cli.output import STDOUT, check_output

if TYPE_CHECKING:
    from graphopt.transforms.engine import Applied

BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `transform`."""
    parser.add_argument("--in_graph", metavar="PATH", required=True, help="the graph to read: binary or text, or -")
    parser.add_argument("--out_graph", metavar="PATH", required=True, help="the graph to write; - is stdout")
    parser.add_argument("--inputs", metavar="A,B", default="", help="names of inputs")
    parser.add_argument("--outputs", metavar="C,D", default="", help="names of outputs")
    parser.add_argument(
        "--transforms", metavar="LIST", required=True, help="as in 'strip_unused_nodes(type=float) fold_constants'"
    )
    parser.add_argument(
        "--output_as_text",
        metavar="BOOL",
        nargs="?",
        const=True,
        default=False,
        type=boolean,
        help="write the graph as text",
    )
    add_force(parser)
    parser.epilog = epilog()


def epilog() -> str:
    """The transforms there are, as transform_graph's own help ends."""
    from graphopt.transforms.table import TRANSFORMS

    return "\n".join(["transforms:", *(f"  {name}" for name in TRANSFORMS)])


def boolean(text: str) -> bool:
    """`true` or `false`, also as a digit or a letter."""
    value = BOOLEANS.get(text.lower())
    if value is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is neither true nor false")
    return value


def run(options: argparse.Namespace, console: Console) -> int:
    """Transform one graph."""
    from graphopt import sources
    from graphopt.ir.errors import UsageError, printable
    from graphopt.ir.formats.graphdef import graphdef_bytes, write_graphdef
    from graphopt.transforms.engine import transform
    from graphopt.transforms.grammar import parse_transforms

    started = time.perf_counter()
    source, target = (os.path.expanduser(path) for path in (options.in_graph, options.out_graph))
    for flag, path in (("in_graph", source), ("out_graph", target)):
        if not path:
            raise UsageError(f"--{flag} must name a file")
    requests = parse_transforms(options.transforms)
    if not requests:
        raise UsageError("--transforms must list at least one transform")
    console.result_to_stderr = target == STDOUT
    check_output(target, options.force, source)
    model = sources.read_path(source)
    before = model.node_count
    model, done = transform(model, options.inputs.split(","), options.outputs.split(","), requests, console.note)
    if target == STDOUT:
        _print(graphdef_bytes(model), options.output_as_text)
    else:
        write_graphdef(model, target, text=options.output_as_text, overwrite=options.force)
    for entry in done:
        _detail(entry, console)
    steps = f"{len(done)} transform{'s' if len(done) > 1 else ''}"
    if not console.quiet:
        seconds = time.perf_counter() - started
        console.result(f"{printable(target)}: {before:,} -> {model.node_count:,} nodes, {steps}, {seconds:.2f} s")
    return 0


def _print(data: bytes, as_text: bool) -> None:
    import sys

    if as_text:
        from graphopt.ir.formats.pbtxt import binary_to_text

        data = binary_to_text(data).encode()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _detail(entry: Applied, console: Console) -> None:
    console.detail(f"{entry.name}: {entry.nodes_before:,} -> {entry.nodes_after:,} nodes")
    for report in entry.passes:
        for note in report.notes:
            console.detail(f"{entry.name}: {report.name}: {note}")
        for refusal in report.refusals:
            nodes = ", ".join(refusal["nodes"])
            console.detail(f"{entry.name}: {report.name} left {refusal['count']} alone ({nodes}): {refusal['reason']}")
