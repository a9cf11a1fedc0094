"""V1 control flow: frames, branches and what ties a constant to them."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from graphopt.ir.graph import Graph
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.value import Node, Value

RAISE_FIRST = "it is a v1 loop: run raise-control-flow first, which makes a While of it"
_V1_CONTROL_FLOW: WeakKeyDictionary[Graph, tuple[int, bool]] = WeakKeyDictionary()


def frame_anchors(values: Iterable[Value]) -> list[Node] | None:
    """Nodes that a constant computed from `values` must wait for to stay in their v1 frame and branch.

    None if there is no such node: a `Switch` itself runs whichever branch is taken.
    """
    anchors: dict[Node, None] = {}
    for value in values:
        node = value.node
        if node.op == "tf.Const":
            anchors.update(dict.fromkeys(node.control_inputs))
        elif traits_of(node.op) & Trait.CONTROL_FLOW and node.op.endswith("Switch"):
            return None
        else:
            anchors[node] = None
    return list(anchors)


def has_v1_control_flow(graph: Graph) -> bool:
    """The graph has a v1 `Switch`, `Merge`, `Enter` and so on. Remembered while the number of nodes stays."""
    remembered = _V1_CONTROL_FLOW.get(graph)
    if remembered is None or (not remembered[1] and remembered[0] < len(graph)):
        found = any(traits_of(node.op) & Trait.CONTROL_FLOW for node in graph)
        remembered = _V1_CONTROL_FLOW[graph] = (len(graph), found)
    return remembered[1]


def forget_v1_control_flow(graph: Graph) -> None:
    """Look again when next asked: a pass took v1 control flow out of `graph`."""
    _V1_CONTROL_FLOW.pop(graph, None)


def v1_loops(graph: Graph) -> list[Node]:
    """The LoopCond of each v1 loop."""
    return [node for node in graph if node.op == "tf.LoopCond"] if has_v1_control_flow(graph) else []
