"""Freezing: a model with its variables, read from wherever it is, as one graph that holds everything."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from glob import escape
from typing import Any, NamedTuple

from graphopt.discovery import Names
from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import VARIABLES, Model
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.ops.handles import maker
from graphopt.ir.traversal import reachable
from graphopt.ir.value import Node
from graphopt.ir.variable_flow import ASSIGNS, ModelFlow, initialisers_of
from graphopt.names import close_names
from graphopt.passes.freeze.freeze_tables import FreezeTables
from graphopt.passes.freeze.freeze_variables import FreezeVariables
from graphopt.passes.freeze.selection import variable_nodes
from graphopt.passes.functions.inline_functions import InlineFunctions
from graphopt.passes.manager import PassManager
from graphopt.passes.report import RunReport

BEFORE, AFTER = "strip-unused", ("strip-unused", "remove-unused-functions")


class Frozen(NamedTuple):
    """A frozen model, what the passes did, and the nodes that must run once before it: initialisers of tables."""

    model: Model
    report: RunReport
    initialisers: tuple[str, ...]


def freeze(
    source: Any,
    *,
    signature: str | None = None,
    names: Sequence[str] = (),
    exceptions: Sequence[str] = (),
    tags: Collection[str] | None = None,
    inputs: Names = None,
    outputs: Names = None,
    functions: bool = False,
) -> Frozen:
    """Make constants of the variables of a copy of the model that `source` holds, and one graph of all of it.

    `source` is what `load` takes: a SavedModel's folder above all. All signatures are frozen at once, or `signature`
    alone; `names` and `exceptions` are patterns of variables to freeze and to leave (`dense/*`). `tags` choose a
    MetaGraph. Called functions are inlined, unless `functions` are to be kept.

    Raises `UnsupportedError`, naming variable, node and reason, for a variable that cannot be a constant and is not
    among the exceptions; `UsageError` for a signature or pattern that means nothing.
    """
    from graphopt import sources
    from graphopt.api import garbage_held

    with garbage_held():
        model = sources.read(source, inputs=inputs, outputs=outputs, tags=tags, saves=False).model
        return freeze_model(model, signature=signature, names=names, exceptions=exceptions, functions=functions)


def freeze_model(
    model: Model,
    *,
    signature: str | None = None,
    names: Sequence[str] = (),
    exceptions: Sequence[str] = (),
    functions: bool = False,
) -> Frozen:
    """`freeze` for a model that may be changed."""
    initialisers = initialisers_of(model)
    select_signature(model, signature)
    passes: list[Any] = [BEFORE] if model.graph.outputs else []
    passes += [AFTER[1]] if functions else [AFTER[1], InlineFunctions(), AFTER[1]]
    passes += [FreezeVariables(tuple(names), tuple(exceptions)), FreezeTables()]
    report = PassManager(passes, verify_each=False).run(model)  # what comes out is verified, below
    _refuse(report)
    _drop_idle_assignments(model)
    _drop_idle_targets(model, initialisers)
    after = PassManager(AFTER if model.graph.outputs or model.graph.targets else AFTER[1:]).run(model)
    report.passes += after.passes
    report.nodes_after, report.bytes_after = after.nodes_after, after.bytes_after
    report.operators_after = after.operators_after
    report.seconds += after.seconds
    there = variable_nodes(model)
    model.variables = {name: variable for name, variable in model.variables.items() if name in there}
    return Frozen(model, report, tuple(node.name for node in model.graph.targets))


def select_signature(model: Model, name: str | None) -> None:
    """Make the graph's inputs and outputs those of its signatures, or of the signature `name` alone.

    Raises `UsageError`, listing the signatures there are, where none is called so.
    """
    if name is not None:
        if name not in model.signatures:
            there = ", ".join(f"'{printable(key)}'" for key in model.signatures) or "none"
            raise UsageError(f"there is no signature '{printable(name)}'; there are {there}")
        model.signatures = {name: model.signatures[name]}
    signatures = [item for item in model.signatures.values() if item.graph is model.graph]
    if not signatures:
        return
    graph = model.graph
    inputs = dict.fromkeys(value for item in signatures for value in item.input_values().values())
    outputs = dict.fromkeys(value for item in signatures for value in item.output_values().values())
    for item in signatures:
        item.inputs = {key: list(inputs).index(value) for key, value in item.input_values().items()}
        item.outputs = {key: list(outputs).index(value) for key, value in item.output_values().items()}
    graph.inputs, graph.outputs = inputs, outputs


def _refuse(report: RunReport) -> None:
    """Raise `UnsupportedError` for the first variable that stays one against the caller's wish."""
    for entry in report.passes:
        refusals = [item for item in entry.refusals if item["rule"] == FreezeVariables.name]
        if refusals:
            more = f" ({len(refusals)} such)" if len(refusals) > 1 else ""
            raise UnsupportedError(
                f"{refusals[0]['reason']}{more}; leave it a variable by an exception (--except), or freeze another "
                "signature (--signature)"
            )


def _drop_idle_assignments(model: Model) -> None:
    """Remove what initialisers assign to variables that nothing reads any more: names of files, say."""
    graph = model.graph
    given = [node for node in graph if node.op in ASSIGNS and node not in graph.targets]
    flow = ModelFlow(model) if given else None
    for node in given:
        variable = maker(node.input(0))
        if variable is None or variable.op not in VARIABLES or flow is None or not flow.is_initialisation(node):
            continue
        if all(user.op in ASSIGNS or not user.has_uses for user in variable.output.users):
            for user in node.control_users:
                user.remove_control_input(node)
            if not node.has_uses:
                graph.remove(node)


def _drop_idle_targets(model: Model, initialisers: dict[Node, None]) -> None:
    """Keep those initialisers whose effects the outputs can see: on tables, say, that they look into."""
    graph = model.graph
    wanted = dict.fromkeys(_resources(graph, [value.node for value in graph.outputs]))
    kept = []
    for node in graph.targets:
        idle = node in initialisers and not any(r in wanted for r in _resources(graph, [node]))
        if not idle:
            kept.append(node)
    graph.targets = kept


def _resources(graph: Graph, roots: list[Node]) -> list[Node]:
    """Nodes that make handles and that `roots` depend on."""
    return [
        node
        for node in reachable(roots)
        if not node.input_count and traits_of(node.op) & Trait.STATEFUL and any(v.dtype.is_handle for v in node.outputs)
    ]


def freeze_nodes(
    model: Model, outputs: Sequence[str], allowed: Collection[str] | None = None, denied: Collection[str] | None = None
) -> RunReport:
    """Freeze, in place, what the nodes `outputs` need and drop the rest; functions stay functions.

    `allowed` and `denied` are names of variables or of their nodes; those the model does not have are passed over.
    Raises `UsageError` for an output that is not there and `UnsupportedError` as `freeze` does.
    """
    graph = model.graph
    nodes = [find_node(graph, name) for name in outputs]
    graph.inputs, model.signatures = (), {}
    graph.outputs = dict.fromkeys(node.output for node in nodes if node.outputs)
    graph.targets = [node for node in nodes if not node.outputs]
    report = PassManager(AFTER).run(model)
    there = variable_nodes(model)
    kept = None if allowed is None else _among(there, allowed)
    if kept is None or kept:
        freezing = FreezeVariables(tuple(kept or ()), tuple(_among(there, denied or ())))
        report.passes += PassManager(freezing).run(model).passes
        _refuse(report)
        report.passes += PassManager(AFTER).run(model).passes
    return report


def find_node(graph: Graph, name: str) -> Node:
    """The node of a tensor or operation name. Raises `UsageError` if there is none."""
    base = name.removeprefix("^").partition(":")[0]
    node = graph.find(base)
    if node is None:
        raise UsageError(
            f"there is no node '{printable(base)}' in the graph{close_names(base, [n.name for n in graph])}"
        )
    return node


def _among(there: Mapping[str, Sequence[Node]], names: Collection[str]) -> list[str]:
    """Patterns for the variables called, or standing at nodes called, one of `names`."""
    wanted = frozenset(names)
    return [escape(key) for key, nodes in there.items() if key in wanted or any(node.name in wanted for node in nodes)]
