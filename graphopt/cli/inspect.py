"""Print what a model is: format, signatures and why they were chosen, operators, parameters, bytes, dynamic shapes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphopt.cli.arguments import add_json, add_model
from graphopt.cli.console import Console
from graphopt.report.tables import Table, human_bytes

if TYPE_CHECKING:
    from graphopt.inspection import Inspection, Port, SignatureFacts

OPERATORS = 30  # shown unless -v


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `inspect`."""
    add_model(parser)
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Inspect one model."""
    from graphopt.inspection_checkpoint import is_checkpoint

    if is_checkpoint(options.model):
        return _run_checkpoint(options, console)
    from graphopt.inspection import inspect

    facts = inspect(options.model, inputs=options.inputs, outputs=options.outputs)
    for note in facts.notes:
        console.note(note)
    if options.json:
        console.json(facts.as_dict())
        return 0
    for block in _blocks(facts, console.verbose):
        if isinstance(block, Table):
            console.table(block)
        else:
            console.result(block)
    return 0


def _run_checkpoint(options: argparse.Namespace, console: Console) -> int:
    """Show the variables of a checkpoint."""
    from graphopt.inspection_checkpoint import inspect_checkpoint

    facts = inspect_checkpoint(options.model)
    if options.json:
        console.json(facts.as_dict())
        return 0
    overview = Table(["checkpoint", facts.source])
    overview.add("format", facts.format)
    overview.add("tensors", f"{len(facts.tensors):,}")
    overview.add("parameters", f"{facts.parameters:,} in {human_bytes(facts.bytes)}")
    console.table(overview)
    console.result("")
    table = Table(["tensor", "type", "bytes>", "slices>"])
    for fact in facts.tensors:
        table.add(fact.name, f"{fact.dtype}{fact.shape}", fact.bytes, fact.slices or "")
    console.table(table)
    return 0


def _blocks(facts: Inspection, everything: bool) -> Iterator[Table | str]:
    yield _overview(facts)
    for signature in facts.signatures:
        yield ""
        yield _signature_table(signature)
        if signature.targets:
            yield f"run for their effect: {', '.join(signature.targets)}"
    if facts.set_aside:
        yield ""
        yield _set_aside_table(facts, everything)
    yield ""
    yield _operator_table(facts, everything)
    if facts.dynamic_origins:
        yield ""
        yield _dynamic_table(facts)
    if facts.functions:
        yield ""
        yield _function_table(facts)
    if everything and facts.largest_constants:
        yield ""
        yield _constant_table(facts)


def _overview(facts: Inspection) -> Table:
    table = Table(["model", facts.source or "(unnamed)"])
    table.add("format", f"{facts.format}, producer {facts.producer}, minimum consumer {facts.min_consumer}")
    nodes = f"{facts.nodes:,}"
    table.add("nodes", nodes if facts.nodes == facts.main_nodes else f"{nodes}, {facts.main_nodes:,} in the main graph")
    table.add("parameters", facts.parameters)
    table.add("constants", f"{facts.constants:,} holding {human_bytes(facts.constant_bytes)}")
    if facts.variables:
        table.add("variables", facts.variables)
    if facts.leftovers:
        table.add("training leftovers", facts.leftovers)
    if facts.devices:
        table.add("devices", ", ".join(f"{name} ({count})" for name, count in facts.devices.items()))
    unknown = ", ".join(f"{name} ({count})" for name, count in facts.unknown_operators.items())
    table.add("unknown operators", unknown or "none")
    return table


def _signature_table(signature: SignatureFacts) -> Table:
    how = " (found by graphopt)" if signature.inferred else ""
    table = Table(["", "name", "type", "tensor", "why"], title=f"signature {signature.name}{how}")
    for kind, ports in (("input", signature.inputs), ("output", signature.outputs)):
        for port in ports:
            table.add(kind, port.name, _type(port), port.tensor, port.reason)
        if not ports:
            table.add(kind, "(none)", "", "", "")
    return table


def _type(port: Port) -> str:
    if port.shape is None:
        return f"{port.dtype}[*]"
    return f"{port.dtype}[{', '.join('?' if dim is None else str(dim) for dim in port.shape)}]"


def _set_aside_table(facts: Inspection, everything: bool) -> Table:
    table = Table(["name", "why"], title="set aside; name one with --inputs or --outputs to choose it")
    names = list(facts.set_aside.items())
    shown = names if everything else names[:10]
    for name, reason in shown:
        table.add(name, reason)
    if len(shown) < len(names):
        table.add(f"… and {len(names) - len(shown)} more", "shown with -v")
    return table


def _operator_table(facts: Inspection, everything: bool) -> Table:
    table = Table(["operator", "count>"])
    names = list(facts.operators.items())
    shown = names if everything else names[:OPERATORS]
    for name, count in shown:
        table.add(name, count)
    if len(shown) < len(names):
        table.add(f"… and {len(names) - len(shown)} more", sum(count for _, count in names[len(shown) :]))
    return table


def _dynamic_table(facts: Inspection) -> Table:
    title = f"dynamic shapes: {facts.dynamic_values:,} values, because of"
    table = Table(["node", "operator", "shape", "why"], title=title)
    for origin in facts.dynamic_origins:
        table.add(origin.node, origin.op, origin.shape, origin.reason)
    return table


def _function_table(facts: Inspection) -> Table:
    table = Table(["function", "nodes>", "inputs>", "outputs>"])
    for function in facts.functions:
        table.add(function.name, function.nodes, function.inputs, function.outputs)
    return table


def _constant_table(facts: Inspection) -> Table:
    table = Table(["largest constants", "type", "bytes>"])
    for constant in facts.largest_constants:
        table.add(constant["node"], f"{constant['dtype']}{constant['shape']}", constant["bytes"])
    return table
