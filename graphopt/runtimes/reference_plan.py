"""What a run of one graph needs, worked out once: its nodes in order, who reads what, and the frames of v1 loops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto

from graphopt.ir.attributes import AttributePlaceholder
from graphopt.ir.errors import MalformedError
from graphopt.ir.graph import Graph
from graphopt.ir.traversal import forward_predecessors
from graphopt.ir.value import Node, Value


class Kind(Enum):
    """How the executor treats a node."""

    PLAIN = auto()
    FED = auto()  # every output comes from the caller
    SWITCH = auto()
    MERGE = auto()
    ENTER = auto()
    EXIT = auto()
    NEXT = auto()
    TRIGGER = auto()  # runs even where what it waits for is dead


_KINDS = {
    "tf.Switch": Kind.SWITCH,
    "tf.RefSwitch": Kind.SWITCH,
    "tf._SwitchN": Kind.SWITCH,
    "tf.Merge": Kind.MERGE,
    "tf.RefMerge": Kind.MERGE,
    "tf.Enter": Kind.ENTER,
    "tf.RefEnter": Kind.ENTER,
    "tf.Exit": Kind.EXIT,
    "tf.RefExit": Kind.EXIT,
    "tf.NextIteration": Kind.NEXT,
    "tf.RefNextIteration": Kind.NEXT,
    "tf.ControlTrigger": Kind.TRIGGER,
}

Path = tuple[bytes, ...]  # names of the frames around a node, outermost first


class Task:
    """One node that must run: how many inputs it waits for and where its outputs go."""

    __slots__ = ("consumers", "control_consumers", "control_count", "data_count", "is_generic", "kind", "node", "rank")

    def __init__(self, node: Node, rank: int, kind: Kind):
        self.node, self.rank, self.kind = node, rank, kind
        self.data_count = 0 if kind is Kind.FED else len(node._inputs)
        self.control_count = 0 if kind is Kind.FED else len(node.control_inputs)
        self.consumers: list[list[tuple[Task, int]]] = [[] for _ in node.outputs]
        self.control_consumers: list[Task] = []
        self.is_generic = any(isinstance(attr, AttributePlaceholder) for attr in node.attrs.values())


class Frames:
    """For each loop, the number of values that enter it and the tasks that leave it."""

    __slots__ = ("enters", "exits")

    def __init__(self, tasks: Sequence[Task]):
        self.enters: dict[Path, int] = {}
        self.exits: dict[Path, list[Task]] = {}
        paths: dict[Node, Path] = {}
        for task in tasks:
            node = task.node
            path: Path = ()
            for producer in forward_predecessors(node) if task.kind is not Kind.FED else ():
                path = max(path, paths.get(producer, ()), key=len)
            if task.kind is Kind.ENTER:
                path = (*path, node.attrs.get("frame_name", b""))
                self.enters[path] = self.enters.get(path, 0) + 1
            elif task.kind is Kind.EXIT:
                if not path:
                    raise MalformedError("leaves a loop that nothing entered", node=node.name)
                self.exits.setdefault(path, []).append(task)
                path = path[:-1]
            paths[node] = path


class Plan:
    """The tasks of a run that computes `fetches` and runs `targets` when `feeds` are given."""

    def __init__(self, graph: Graph, feeds: Iterable[Value], fetches: Sequence[Value], targets: Iterable[Node] = ()):
        fed = dict.fromkeys(feeds)
        kinds = _needed(fed, fetches, targets)
        self.tasks = [Task(node, 0, kinds[node]) for node in _order(graph, kinds)]
        self.fetches = list(fetches)
        self.fed_consumers: dict[Value, list[tuple[Task, int]]] = {value: [] for value in fed}
        tasks = {task.node: task for task in self.tasks}
        for rank, task in enumerate(self.tasks):
            task.rank = rank
            if task.kind is Kind.FED:
                continue
            for slot, value in enumerate(task.node._inputs):
                if value is None:
                    raise MalformedError(f"has no input {slot}", node=task.node.name)
                if value in fed:
                    self.fed_consumers[value].append((task, slot))
                else:
                    tasks[value.node].consumers[value.index].append((task, slot))
            for control in task.node.control_inputs:
                tasks[control].control_consumers.append(task)
        self.frames = Frames(self.tasks) if any(task.kind is Kind.ENTER for task in self.tasks) else None


def _needed(fed: dict[Value, None], fetches: Iterable[Value], targets: Iterable[Node]) -> dict[Node, Kind]:
    """Every node that has to run, and how."""
    kinds: dict[Node, Kind] = {}
    pending = [value.node for value in fetches if value not in fed]
    pending += targets
    while pending:
        node = pending.pop()
        if node in kinds:
            continue
        if node.outputs and all(value in fed for value in node.outputs):
            kinds[node] = Kind.FED
            continue
        kinds[node] = _KINDS.get(node.op, Kind.PLAIN)
        pending += [value.node for value in node._inputs if value is not None and value not in fed]
        pending += node.control_inputs
    return kinds


def _order(graph: Graph, needed: dict[Node, Kind]) -> list[Node]:
    """The needed nodes, producers first, the back edges of loops aside."""
    seen: set[Node] = set()
    order = [node for node in graph if node in needed]
    for node in order:
        if any(producer not in seen for producer in forward_predecessors(node) if producer in needed):
            return [node for node in graph.topological_order() if node in needed]
        seen.add(node)
    return order
