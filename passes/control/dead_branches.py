"""v1 conditionals whose predicate is known: the `Switch` passes on, and what can never run goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_tensor
from graphopt.ir.model import Function
from graphopt.ir.value import Node, Value
from graphopt.passes.base import PassContext
from graphopt.passes.control.evaluation import truth
from graphopt.passes.control.loop_frames import (
    ENTERS,
    EXITS,
    LOOP_CONDITION,
    MERGES,
    NEXT_ITERATIONS,
    SWITCHES,
    frame_name,
    frame_paths,
)
from graphopt.passes.frames import forget_v1_control_flow, has_v1_control_flow

ROUNDS = 4  # of setting aside predicates that cannot be resolved, before all of them are left
_LOOP = EXITS | NEXT_ITERATIONS | {LOOP_CONDITION}


def resolve_switches(graph: Graph, rule: str, context: PassContext) -> None:
    """Resolve every `Switch` and `Merge` of `graph` whose predicate is known."""
    if not has_v1_control_flow(graph):
        return
    chosen = {node: taken for node in graph if node.op in SWITCHES and (taken := _taken(node)) is not None}
    for switch in list(chosen):
        reason = _refusal(switch, chosen[switch])
        if reason is not None:
            context.refused(rule, switch, reason)
            del chosen[switch]
    if context.limit is not None:
        allowed = max(0, context.limit - context.log.total)
        chosen = dict(list(chosen.items())[:allowed])
    for _ in range(ROUNDS):
        if not chosen or not context.allows(rule):
            return
        dead = _dead(chosen)
        bad = _problems(graph, chosen, dead)
        if not bad:
            _resolve(graph, chosen, dead, rule, context)
            forget_v1_control_flow(graph)
            return
        for switch, reason in _blamed(bad, dead, chosen).items():
            context.refused(rule, switch, reason)
            del chosen[switch]
    for switch in chosen:
        context.refused(rule, switch, "its branches are entangled with those of others that cannot be resolved")


def _taken(switch: Node) -> int | None:
    """Which output of `switch` lives, if that is known."""
    held = known_tensor(switch._inputs[1]) if len(switch._inputs) == 2 else None
    if held is None or held.size != 1 or held.dtype.kind != "bool":
        return None
    decided = truth(held) if not held.shape else bool(held.numpy().reshape(-1)[0])
    return None if decided is None else int(decided)


def _refusal(switch: Node, taken: int) -> str | None:
    if any(value.is_input for value in switch.outputs):
        return "it is an input of the graph"
    if taken and switch.outputs[1].is_output:
        return f"its output '{printable(switch.outputs[1].name)}' is an output of the graph"
    return None


class _Dead:
    """What never runs: whole nodes, single outputs, and of each the switches that make it so."""

    def __init__(self) -> None:
        self.nodes: dict[Node, list[Node]] = {}  # the dead nodes, or switches, right before it
        self.values: dict[Value, None] = {}
        self.merge_inputs: dict[Node, int] = {}


def _dead(chosen: dict[Node, int]) -> _Dead:
    dead = _Dead()
    queue: deque[tuple[Node, Iterable[Value]]] = deque()
    for switch, taken in chosen.items():
        queue.append((switch, [switch.outputs[1 - taken]]))
    while queue:
        source, values = queue.popleft()
        for value in values:
            if value in dead.values:
                continue
            dead.values[value] = None
            for user, index in value.uses:
                if user.op in MERGES and not _all_forward_dead(user, dead, index):
                    continue
                _bury(user, source, dead, queue)
        if source in dead.nodes:
            for user in source.control_users:
                if user.op not in MERGES and user.op != "tf.ControlTrigger":
                    _bury(user, source, dead, queue)
    return dead


def _all_forward_dead(merge: Node, dead: _Dead, index: int) -> bool:
    """Every input of `merge` other than a loop's back edge is dead, now that the one at `index` is."""
    forward = dead.merge_inputs.get(merge)
    if forward is None:
        forward = sum(1 for v in merge._inputs if v is not None and v.node.op not in NEXT_ITERATIONS)
    producer = merge.input(index).node
    if producer.op not in NEXT_ITERATIONS:
        forward -= 1
    dead.merge_inputs[merge] = forward
    return forward == 0


def _bury(node: Node, source: Node, dead: _Dead, queue: deque[tuple[Node, Iterable[Value]]]) -> None:
    causes = dead.nodes.get(node)
    if causes is not None:
        causes.append(source)
        return
    dead.nodes[node] = [source]
    queue.append((node, node.outputs))


def _problems(graph: Graph, chosen: dict[Node, int], dead: _Dead) -> dict[Node, str]:
    """Nodes that cannot go, or cannot be rewritten, with the reason."""
    found: dict[Node, str] = {}
    loops: list[Node] = []
    for node in dead.nodes:
        if any(value.is_output for value in node.outputs):
            found[node] = f"'{printable(node.name)}', an output of the graph, lies in the branch not taken"
        elif any(value.is_input for value in node.outputs) or node in graph._targets:
            found[node] = f"'{printable(node.name)}', which callers name, lies in the branch not taken"
        elif node.op in _LOOP or node.op in ENTERS:
            loops.append(node)
    for switch, taken in chosen.items():
        if switch.outputs[1 - taken].is_output:
            found[switch] = "the output that is not taken is an output of the graph"
    for merge in dict.fromkeys(user for value in dead.values for user, _ in value.uses if user.op in MERGES):
        reason = None if merge in dead.nodes else _merge_problem(merge, dead)
        if reason is not None:
            found[merge] = reason
    if loops:
        _check_loops(graph, loops, dead, found)
    return found


def _merge_problem(merge: Node, dead: _Dead) -> str | None:
    alive = [place for place, value in enumerate(merge._inputs) if value not in dead.values]
    indexed = merge.outputs[1] if len(merge.outputs) > 1 else None
    if any(v.node.op in NEXT_ITERATIONS for v in merge.inputs if v is not None):
        return f"'{printable(merge.name)}' begins a loop of which only a part would never run"
    if indexed is not None and indexed.is_output:
        return f"'{printable(indexed.name)}' is an output of the graph"
    if indexed is not None and indexed.use_count and len(alive) > 1 and alive != list(range(len(alive))):
        return f"'{printable(indexed.name)}' is read and would count inputs differently"
    return None


def _check_loops(graph: Graph, loops: Sequence[Node], dead: _Dead, found: dict[Node, str]) -> None:
    """A loop may go only as a whole: everything that enters it is dead."""
    paths = frame_paths(graph)
    entering: dict[tuple[bytes, ...], list[Node]] = {}
    for node in paths:
        if node.op in ENTERS:
            entering.setdefault(paths[node], []).append(node)
    for node in loops:
        path = paths[node]
        if node.op in EXITS:
            producer = next((v.node for v in node._inputs if v is not None), node)
            path = paths[producer]
        if not path or any(enter not in dead.nodes for enter in entering.get(path, ())):
            name = printable(frame_name(node).decode(errors="replace") or node.name)
            found[node] = f"only a part of the loop at '{name}' would never run"


def _blamed(bad: dict[Node, str], dead: _Dead, chosen: dict[Node, int]) -> dict[Node, str]:
    """The switches that make the bad nodes dead, each with the first reason."""
    blamed: dict[Node, str] = {}
    seen: dict[Node, None] = {}
    pending = list(bad.items())
    for merge, reason in list(pending):
        if merge.op in MERGES and merge not in dead.nodes:
            pending += [(v.node, reason) for v in merge.inputs if v in dead.values]
    while pending:
        node, reason = pending.pop()
        if node in seen:
            continue
        seen[node] = None
        if node in chosen and node not in dead.nodes:
            blamed.setdefault(node, reason)
        pending += [(source, reason) for source in dead.nodes.get(node, ())]
    return blamed or dict.fromkeys(chosen, next(iter(bad.values())))


# Edits ---------------------------------------------------------------------------------------------------------


def _resolve(graph: Graph, chosen: dict[Node, int], dead: _Dead, rule: str, context: PassContext) -> None:
    merges = dict.fromkeys(
        user for value in dead.values for user, _ in value.uses if user.op in MERGES and user not in dead.nodes
    )
    alive = {merge: [place for place, v in enumerate(merge._inputs) if v not in dead.values] for merge in merges}
    removed = tuple(dead.nodes)
    for node in dead.nodes:
        for user in node.control_users:
            if user not in dead.nodes:
                user.remove_control_input(node)
    for merge, places in alive.items():
        _narrow(graph, merge, places)
    if isinstance(graph, Function):
        graph.control_outputs = {key: node for key, node in graph.control_outputs.items() if node not in dead.nodes}
    graph.remove_all(dead.nodes)
    for switch, taken in chosen.items():
        if switch.graph is graph:
            _pass_on(switch, taken)
            context.rewrote(rule, removed=removed)
            removed = ()


def _narrow(graph: Graph, merge: Node, places: Sequence[int]) -> None:
    """Take the dead inputs from `merge`; with one left and nothing to wait for it is an identity."""
    merge.set_inputs([merge.input(place) for place in places])
    if len(places) > 1 or merge.control_inputs:
        merge.attrs["N"] = len(places)
    else:
        merge.op = "tf.Identity" if merge.op == "tf.Merge" else "tf.RefIdentity"
        merge.attrs.pop("N", None)
        merge.origins = merge.source_names
    if len(places) == 1 and len(merge.outputs) > 1:
        index = merge.outputs[1]
        if index.use_count:
            name = f"{merge.name}/value_index"
            count = hold(graph, np.array(places[0], np.int32), name=name, origins=merge.source_names)
            graph.move(count.node, merge._next)
            count.node.device = merge.device
            count.node.add_control_input(merge)
            index.replace_all_uses_with(count)
        if merge.op not in MERGES:
            del merge.outputs[1:]


def _pass_on(switch: Node, taken: int) -> None:
    """Make an identity of `switch`, which runs under the same conditions."""
    predicate = switch.input(1).node
    lived = switch.outputs[taken]
    first = switch.outputs[0]
    if taken:
        first.type = lived.type
        lived.replace_all_uses_with(first)
    switch.origins = switch.source_names
    switch.op = "tf.Identity" if switch.op == "tf.Switch" else "tf.RefIdentity"
    switch.set_inputs([switch.input(0)])
    del switch.outputs[1:]
    if predicate.control_inputs or predicate.op != "tf.Const":
        switch.add_control_input(predicate)
