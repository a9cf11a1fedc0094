"""Putting a replacement in place: what the engine guarantees of names, edges and control dependencies."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function
from graphopt.ir.ops import Trait, find, traits_of
from graphopt.ir.types import dereferenced
from graphopt.ir.value import Node, Value
from graphopt.passes.base import PassError
from graphopt.passes.frames import frame_anchors, has_v1_control_flow
from graphopt.passes.matcher import Match
from graphopt.passes.rule import Editor, Replacement, Rule


def as_outputs(rule: Rule, root: Node, result: Replacement) -> list[Value | None] | None:
    """What a rule returned as one value, or None, for each output of the root; None if the rule left it."""
    if result is None:
        return None
    values: list[Value | None] = [result] if isinstance(result, Value) else list(result)
    if len(values) > len(root.outputs):
        raise PassError(
            f"rule '{rule.name}' gives {len(values)} values for the {len(root.outputs)} outputs of "
            f"'{printable(root.name)}'"
        )
    return values + [None] * (len(root.outputs) - len(values))


def check_values(rule: Rule, root: Node, values: Sequence[Value | None]) -> None:
    """Raise `PassError` naming the rule if a replacement has another type than what it replaces."""
    for old, new in zip(root.outputs, values, strict=False):
        if new is None:
            continue
        if new.node.graph is not root.graph:
            raise PassError(
                f"rule '{rule.name}' would replace '{printable(old.name)}' by '{printable(new.name)}', which is no "
                "value of the graph"
            )
        known = old.dtype.code and new.dtype.code
        if (known and dereferenced(old.dtype) is not dereferenced(new.dtype)) or old.shape.merged(new.shape) is None:
            raise PassError(
                f"rule '{rule.name}' would replace '{printable(old.name)}' of type {old.type} by a value of type "
                f"{new.type}"
            )


def replace_root(root: Node, match: Match, values: Sequence[Value | None], edit: Editor) -> str | None:
    """Put `values` in place of the outputs of `root`; returns a reason, with nothing changed, if that cannot be."""
    graph = match.graph
    fresh = dict.fromkeys(edit.created)
    heir = next((value.node for value in values if value is not None), None)
    for old, new in zip(root.outputs, values, strict=True):
        if new is None and (old.use_count or old.is_output):
            return f"nothing replaces its output {old.index}, which is in use"
        if old.is_input:
            return "it is an input of the graph"
        if new is not None and new.dtype is not old.dtype and new.dtype.code:
            if dereferenced(new.dtype) is not new.dtype:
                return f"'{printable(new.name)}' is a reference"
            reason = misfit(old, new)
            if reason is not None:
                return reason
        named = new is not None and new.node in fresh and _carries_name(old, new, heir)
        if new is not None and old.is_output and old.index and not named:
            return f"its output '{printable(old.name)}' is an output of the graph"
    if heir is not None and root.op == "tf.Identity" and _keeps_root(root, values, heir, fresh):
        return "it is an output of the graph"
    gone = [root, *(node for node in match.interior if not rule_keeps(node, match))]
    waits = list(dict.fromkeys(control for node in gone for control in node.control_inputs if control not in gone))
    anchored = root.control_users or root in graph.targets
    if waits and (heir is None or heir not in fresh):
        return f"it waits for '{printable(waits[0].name)}'"
    if anchored and heir is None:
        return "other nodes wait for it"
    if anchored and heir is not None and heir not in fresh and traits_of(heir.op) & Trait.CONTROL_FLOW:
        return "it anchors control dependencies of a v1 branch"
    if root in graph.targets and (heir is None or heir not in fresh):
        return "it is a target of the graph"
    if not _frame_is_kept(graph, match, edit):
        return "a constant in its place would leave its v1 loop or branch"
    _pass_on(root, values, heir, fresh, waits)
    return None


def misfit(old: Value, new: Value) -> str | None:
    """Why readers of `old`, whose type is not known, cannot read `new`."""
    for user, place in old.uses:
        operator = find(user.op)
        if operator is None or operator.interface is None:
            continue
        try:
            wanted = operator.interface.input_types(user.attrs)
        except (KeyError, ValueError):
            continue
        if place < len(wanted) and wanted[place].code and dereferenced(wanted[place]) is not new.dtype:
            taken = f"where '{printable(user.name)}' takes {wanted[place].name}"
            return f"'{printable(new.name)}' is {new.dtype.name}, {taken}"
    return None


def _carries_name(old: Value, new: Value, heir: Node | None) -> bool:
    """`new` is called what `old` was once its node, the heir, has taken the name of the root."""
    return new.node is heir and new.index == old.index


def _keeps_root(root: Node, values: Sequence[Value | None], heir: Node, fresh: dict[Node, None]) -> bool:
    """The root stays as an identity: it is an output, and what replaces it has a name of its own."""
    old, new = root.output, values[0]
    return old.is_output and new is not None and not (heir in fresh and _carries_name(old, new, heir))


def rule_keeps(node: Node, match: Match) -> bool:
    """An interior node that something outside the match reads, and that therefore stays."""
    matched = dict.fromkeys(match.nodes)
    return any(user not in matched for user in node.successors()) or any(v.is_output for v in node.outputs)


def _pass_on(
    root: Node, values: Sequence[Value | None], heir: Node | None, fresh: dict[Node, None], waits: list[Node]
) -> None:
    graph = root.graph
    assert graph is not None
    if heir is not None and heir in fresh:
        for control in waits:
            heir.add_control_input(control)
    name = root.name
    kept = heir is not None and _keeps_root(root, values, heir, fresh)
    if heir is not None and heir in fresh and heir.name != name and not kept:
        graph.rename(root, graph.unique_name(f"{name}/replaced"))
        graph.rename(heir, name)
    for user in root.control_users:
        user.remove_control_input(root)
        if heir is not None and heir is not user:
            user.add_control_input(heir)
    if root in graph.targets and heir is not None and not kept:
        replace_target(graph, root, heir)
    for old, new in zip(root.outputs, values, strict=True):
        if new is not None:
            if old.shape.rank is not None and new.shape != old.shape:
                merged = new.shape.merged(old.shape)
                new.type = new.type if merged is None else new.type.with_shape(merged)
            if old._name is not None and new._name is None and new.node in fresh:
                new.name = old.name  # a tensor's own name, which TFLite has, stays with what computes it now
            if not (kept and old.index == 0):
                graph.replace_value(old, new)
    if kept and values[0] is not None:
        _keep_output(root, values[0])


def replace_target(graph: Graph, old: Node, new: Node | None) -> None:
    """Make `new` a target where `old` is one, under the same name as control output; None: a target less."""
    kept = ((new if node is old else node) for node in graph.targets)
    graph.targets = [node for node in kept if node is not None]
    if isinstance(graph, Function):
        outputs = {key: new if node is old else node for key, node in graph.control_outputs.items()}
        graph.control_outputs = {key: node for key, node in outputs.items() if node is not None}


def _keep_output(root: Node, value: Value) -> None:
    """Turn the root into an identity of `value`."""
    root.output.replace_all_uses_with(value)
    root.op = "tf.Identity"
    root.attrs = {"T": value.dtype}
    root.set_inputs((value,))
    del root.outputs[1:]


def _frame_is_kept(graph: Graph, match: Match, edit: Editor) -> bool:
    """In a graph with v1 control flow, tie new constants to the frame and branch of what they replace."""
    lone = [node for node in edit.created if not node._inputs]
    if not lone or not has_v1_control_flow(graph):
        return True
    anchors = frame_anchors(match.captures())
    if anchors is None:
        return False
    for node in lone:
        for anchor in anchors:
            node.add_control_input(anchor)
    return True
