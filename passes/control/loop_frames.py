"""Frames of v1 loops: which loop each node of a graph runs in."""

from __future__ import annotations

from graphopt.ir.graph import Graph
from graphopt.ir.traversal import forward_predecessors
from graphopt.ir.value import Node

ENTERS = frozenset({"tf.Enter", "tf.RefEnter"})
EXITS = frozenset({"tf.Exit", "tf.RefExit"})
MERGES = frozenset({"tf.Merge", "tf.RefMerge"})
SWITCHES = frozenset({"tf.Switch", "tf.RefSwitch"})
NEXT_ITERATIONS = frozenset({"tf.NextIteration", "tf.RefNextIteration"})
LOOP_CONDITION = "tf.LoopCond"

Path = tuple[bytes, ...]  # names of the frames around a node, outermost first
OUTSIDE: Path = ()


def frame_paths(graph: Graph) -> dict[Node, Path]:
    """The frame of every node of `graph`, in topological order of the nodes. An `Exit` counts as outside its loop.

    A path is shared by all nodes of its frame, so memory stays linear.
    """
    paths: dict[Node, Path] = {}
    shared: dict[tuple[Path, bytes], Path] = {}
    for node in graph.topological_order():
        path = OUTSIDE
        for producer in forward_predecessors(node):
            other = paths[producer]
            if len(other) > len(path):
                path = other
        if node.op in ENTERS:
            key = (path, frame_name(node))
            path = shared.setdefault(key, (*path, key[1]))
        elif node.op in EXITS and path:
            path = path[:-1]
        paths[node] = path
    return paths


def frame_name(enter: Node) -> bytes:
    """The name of the frame that `enter` leads into."""
    name = enter.attrs.get("frame_name")
    return name if isinstance(name, bytes) else b""
