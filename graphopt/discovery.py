"""Finding the inputs and outputs of a graph that does not name them, and saying why each was chosen.

Inputs are placeholders and other sources that the outputs depend on. Outputs are values that nothing reads, training
leftovers, checks, savers, summaries and the remains of loops set aside. What was set aside is kept with the reason, so
that a caller who wants it can name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model, Signature
from graphopt.ir.types import BOOL
from graphopt.ir.value import Node, Value
from graphopt.names import find_value
from graphopt.roles import DOUBTS, Doubt, doubt_of, is_aside, is_optional_source, is_source, primary_outputs

SIGNATURE = "serving_default"
Names: TypeAlias = "str | Sequence[str] | Mapping[str, str] | None"
"""Tensor names, with or without `:0`: one string separated by commas, a sequence, or signature name -> tensor name."""


@dataclass
class Discovery:
    """What was found: named values and targets, a reason for each, and what else a caller could choose.

    `set_aside` maps names that were not chosen to the reason, `notes` are things a caller should know.
    """

    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    targets: list[Node] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    set_aside: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def discover(model: Model, inputs: Names = None, outputs: Names = None) -> Discovery:
    """Find what `inputs` and `outputs` leave open in the main graph of `model`, which is not changed.

    Raises `UsageError` for a name the graph does not have.
    """
    graph, found = model.graph, Discovery()
    given_inputs, given_outputs = _given(inputs), _given(outputs)
    if given_inputs is not None:
        found.inputs = _resolve_inputs(graph, given_inputs, found)
    if given_outputs is not None:
        _resolve_outputs(graph, given_outputs, found)
    sources = dict.fromkeys(v.node for v in found.inputs.values()) if given_inputs is not None else _sources(graph)
    if given_outputs is None:
        _find_outputs(graph, sources, found)
    _find_inputs(sources, given_inputs is not None, found)
    return found


def apply(model: Model, found: Discovery) -> Signature:
    """Make what was found the only signature of `model`."""
    signature = model.set_signature(found.inputs, found.outputs, SIGNATURE)
    signature.inferred, signature.reasons = True, dict(found.reasons)
    model.graph.targets = found.targets
    return signature


def _given(names: Names) -> dict[str, str] | None:
    """Signature name -> tensor name, of any of the ways to give them."""
    if names is None:
        return None
    if isinstance(names, Mapping):
        return dict(names)
    listed = [part.strip() for part in names.split(",")] if isinstance(names, str) else list(names)
    if not listed or not all(listed):
        raise UsageError("names of inputs and outputs must not be empty; separate them by single commas")
    return {name.removesuffix(":0"): name for name in listed}


# What the caller named ----------------------------------------------------------------------------------------


def _resolve_inputs(graph: Graph, given: Mapping[str, str], found: Discovery) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for key, name in given.items():
        value = find_value(graph, name)
        values[key] = value
        found.reasons[key] = (
            "named by the caller" if is_source(value.node) else "named by the caller; cuts the graph here"
        )
    return values


def _resolve_outputs(graph: Graph, given: Mapping[str, str], found: Discovery) -> None:
    for key, name in given.items():
        node = graph.find(name.removeprefix("^"))
        if node is not None and (name.startswith("^") or not node.outputs):
            found.targets.append(node)
        else:
            found.outputs[key] = find_value(graph, name)
            found.reasons[key] = "named by the caller"


# Inputs -------------------------------------------------------------------------------------------------------


def _sources(graph: Graph) -> dict[Node, None]:
    """Everything a caller could feed, in order; arguments by their index."""
    sources = [node for node in graph if is_source(node) and node.outputs]
    arguments = [node for node in sources if node.op == "tf._Arg"]
    if arguments:
        arguments.sort(key=lambda node: _index(node))
        sources = arguments + [node for node in sources if node.op != "tf._Arg"]
    return dict.fromkeys(sources)


def _index(node: Node) -> int:
    index = node.attr("index")
    return index if isinstance(index, int) else 0


def _find_inputs(sources: Mapping[Node, None], is_given: bool, found: Discovery) -> None:
    """Of `sources`, those that the outputs depend on; or, where the caller named them, what is odd about them."""
    cuts = {value.node: None for value in found.inputs.values()}
    needed = _upstream([*(value.node for value in found.outputs.values()), *found.targets], cuts)
    if is_given:
        for key, value in found.inputs.items():
            if value.node not in needed:
                found.notes.append(f"no output depends on input '{printable(key)}'")
        for node in needed:
            if node not in cuts and is_source(node) and not is_optional_source(node):
                found.notes.append(
                    f"the outputs also depend on '{printable(node.name)}', which is not among the inputs"
                )
        return
    for node in sources:
        if node not in needed and node.op != "tf._Arg":
            found.set_aside[node.name] = "a source that no output depends on"
        elif is_optional_source(node) and node.output.dtype is BOOL:
            found.set_aside[node.name] = "a flag that has a default, which is kept"
        else:
            reason = "a source with a default" if is_optional_source(node) else f"a source ({node.op_type})"
            for value in node.outputs:
                if value.use_count or len(node.outputs) == 1:
                    found.inputs[value.name] = value
                    found.reasons[value.name] = f"{reason} that the outputs depend on" if node in needed else reason


# Outputs ------------------------------------------------------------------------------------------------------


def _find_outputs(graph: Graph, sources: Mapping[Node, None], found: Discovery) -> None:
    returned = sorted((node for node in graph if node.op == "tf._Retval" and node.input_count), key=_index)
    if returned:
        for node in returned:
            name = node.input(0).name
            found.outputs[name] = node.input(0)
            found.reasons[name] = f"returned by '{printable(node.name)}'"
        found.targets = list(returned)
        return
    fed = _downstream(sources)
    candidates = list(_candidates(graph, fed if sources else None))
    chosen: dict[tuple[Node, Doubt], None] = next(
        (c for c in (_at_doubt(candidates, doubt) for doubt in DOUBTS) if c), {}
    )
    for node, doubt in candidates:
        for value in primary_outputs(node):
            if (node, doubt) in chosen:
                found.outputs[value.name] = value
                found.reasons[value.name] = _chosen_because(doubt, bool(sources))
            else:
                found.set_aside[value.name] = doubt.reason


def _at_doubt(candidates: Iterable[tuple[Node, Doubt]], doubt: Doubt) -> dict[tuple[Node, Doubt], None]:
    return {(node, own): None for node, own in candidates if own is doubt and doubt.eligible}


def _chosen_because(doubt: Doubt, has_sources: bool) -> str:
    if doubt is DOUBTS[0]:
        return "nothing reads it, and it depends on an input" if has_sources else "nothing reads it"
    return f"the best there is: {doubt.reason}"


def _candidates(graph: Graph, fed: Mapping[Node, None] | None) -> Iterator[tuple[Node, Doubt]]:
    """Nodes of which no output is read, or only by what never matters at inference, with the doubt about each."""
    for node in graph:
        for value in node.outputs:
            if value._uses and _is_read(value):
                break
        else:
            if node.outputs:
                yield node, doubt_of(node, fed is None or node in fed)


def _is_read(value: Value) -> bool:
    """Something reads it that is not set aside as a whole."""
    return any(not is_aside(user) for user, _ in value._uses or ())


def _upstream(roots: Iterable[Node], cuts: Mapping[Node, None]) -> dict[Node, None]:
    """Everything `roots` depend on, not looking behind `cuts`: `graph.reachable`, written out for speed."""
    found = dict.fromkeys(roots)
    pending = list(found)
    while pending:
        node = pending.pop()
        if node in cuts:
            continue
        for value in node._inputs:
            if value is not None and value.node not in found:
                found[value.node] = None
                pending.append(value.node)
        if node._control_inputs:
            for control in node._control_inputs:
                if control not in found:
                    found[control] = None
                    pending.append(control)
    return found


def _downstream(sources: Iterable[Node]) -> dict[Node, None]:
    """Everything that reads `sources`, directly or not."""
    found = dict.fromkeys(sources)
    pending = list(found)
    while pending:
        for value in pending.pop().outputs:
            if value._uses:
                for user, _ in value._uses:
                    if user not in found:
                        found[user] = None
                        pending.append(user)
    return found
