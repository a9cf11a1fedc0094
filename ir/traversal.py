"""What comes before what: what nodes depend on, orders, cycles.

The back edges of v1 loops, the only legal cycles, are not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from graphopt.ir.value import Node

_MERGES = frozenset({"tf.Merge", "tf.RefMerge"})
BACK_EDGE_SOURCES = frozenset({"tf.NextIteration", "tf.RefNextIteration"})  # v1 loops: the only legal cycles


def forward_predecessors(node: Node) -> Iterator[Node]:
    """Predecessors without the back edge of a v1 loop."""
    for value in node._inputs:
        if value is not None and value.node.op not in BACK_EDGE_SOURCES:
            yield value.node
    if node._control_inputs:
        yield from tuple(node._control_inputs)


def reachable(roots: Iterable[Node], stop: Callable[[Node], bool] = lambda node: False) -> dict[Node, None]:
    """`roots` and everything they depend on, data and control, without looking behind nodes where `stop` holds."""
    found = dict.fromkeys(roots)
    pending = list(found)
    while pending:
        node = pending.pop()
        if stop(node):
            continue
        for producer in node.predecessors():
            if producer not in found:
                found[producer] = None
                pending.append(producer)
    return found


def depth_first(nodes: Iterable[Node], roots: Iterable[Node]) -> list[Node] | None:
    """Postorder from `roots`, from the back edges met on the way, then from all nodes; None on a cycle."""
    finished: dict[Node, bool] = {}  # False while what the node needs is being placed
    order: list[Node] = []
    back: list[Node] = []
    for root in chain(roots, _draining(back), nodes):
        stack = [root]
        while stack:
            node = stack[-1]
            state = finished.get(node)
            if state is None:
                finished[node] = False
                if not _push_predecessors(node, stack, finished):
                    return None
                continue
            stack.pop()
            if not state:
                finished[node] = True
                order.append(node)
                if node.op in _MERGES:
                    back += [v.node for v in node._inputs if v is not None and v.node.op in BACK_EDGE_SOURCES]
    return order


def _push_predecessors(node: Node, stack: list[Node], finished: dict[Node, bool]) -> bool:
    """Put those not yet visited on the stack, the first on top; False if one is being placed: a cycle."""
    if node._control_inputs:
        for control in reversed(node._control_inputs):
            state = finished.get(control)
            if state is None:
                stack.append(control)
            elif not state:
                return False
    for value in reversed(node._inputs):
        if value is not None:
            producer = value.node
            state = finished.get(producer)
            if state is None:
                if producer.op not in BACK_EDGE_SOURCES:
                    stack.append(producer)
            elif not state and producer.op not in BACK_EDGE_SOURCES:
                return False
    return True


def _draining(nodes: list[Node]) -> Iterator[Node]:
    """The items of a list that grows meanwhile."""
    place = 0
    while place < len(nodes):
        yield nodes[place]
        place += 1


def find_cycle(nodes: Iterable[Node]) -> list[Node]:
    """Nodes of one cycle other than a v1 loop's, in order; empty if there is none."""
    remaining: dict[Node, int] = {node: sum(1 for _ in forward_predecessors(node)) for node in nodes}
    ready = [node for node, count in remaining.items() if count == 0]
    while ready:
        node = ready.pop()
        del remaining[node]
        if node.op in BACK_EDGE_SOURCES:
            users: Iterable[Node] = node.control_users
        else:
            users = (user for value in node.outputs for user, _ in value.uses)
            users = (*users, *node.control_users)
        for user in users:
            if user in remaining:
                remaining[user] -= 1
                if remaining[user] == 0:
                    ready.append(user)
    if not remaining:
        return []
    path: dict[Node, int] = {}
    node = next(iter(remaining))
    while node not in path:
        path[node] = len(path)
        node = next(p for p in forward_predecessors(node) if p in remaining)
    return list(reversed(list(path)[path[node] :]))
