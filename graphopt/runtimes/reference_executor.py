"""Runs one graph, value by value: what is ready runs, v1 control flow by dead tokens and frames of loops.

A loop runs one iteration after the other. A token is an array, a handle (a variable, a list, a table) or `DEAD`,
what a branch not taken yields.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.value import Value
from graphopt.runtimes.base import RunError, tensor_name
from graphopt.runtimes.reference_plan import Kind, Path, Plan, Task
from graphopt.runtimes.reference_values import dereferenced

Token = Any


class _Dead:
    __slots__ = ()

    def __repr__(self) -> str:
        return "DEAD"


DEAD = _Dead()


class Invocation(NamedTuple):
    """A body to run: its arguments, and the attributes it is instantiated with."""

    graph: Graph
    arguments: Sequence[Token]
    attrs: Mapping[str, Any]


Outputs = Sequence[Token]
Running = Generator[Invocation, Outputs, Outputs]


class State:
    """What has arrived for a task in the current iteration of its frame."""

    __slots__ = ("dead", "dead_count", "fired", "inputs", "live_slot", "waiting")

    def __init__(self, task: Task):
        is_merge = task.kind is Kind.MERGE
        self.waiting = task.control_count + (0 if is_merge else task.data_count)
        self.inputs: list[Token] = [None] * task.data_count
        self.dead = self.fired = False
        self.dead_count, self.live_slot = 0, -1


class Frame:
    """One activation of a loop, or the graph itself."""

    __slots__ = (
        "arrived", "children", "constants", "exited", "next_tokens", "parent", "path", "queued", "ready", "states",
    )  # fmt: skip

    def __init__(self, path: Path, parent: Frame | None):
        self.path, self.parent = path, parent
        self.ready: list[int] = []
        self.states: dict[Task, State] = {}
        self.children: dict[bytes, Frame] = {}
        self.constants: list[tuple[Task, Token]] = []
        self.next_tokens: list[tuple[Task, Token]] = []
        self.exited: set[Task] = set()
        self.arrived = 0
        self.queued = False


class Executor:
    """One run of a graph. `compute` runs a plain task and may ask for bodies to be run first.

    `watch` is told every live value as it is produced.
    """

    def __init__(
        self,
        plan: Plan,
        compute: Callable[[Task, list[Token]], Running],
        watch: Callable[[Value, Token], None] | None = None,
    ):
        self._plan, self._compute, self._watch = plan, compute, watch
        self._root = Frame((), None)
        self._runnable: list[Frame] = []
        self._results: dict[Value, Token] = {}
        self._wanted = dict.fromkeys(plan.fetches)

    def run(self, feeds: Mapping[Value, Token]) -> Running:
        """Tokens of the plan's fetches. Raises `RunError` for one that lies in a branch not taken."""
        for value, token in feeds.items():
            if value in self._wanted:
                self._results[value] = token
            for task, slot in self._plan.fed_consumers.get(value, ()):
                self._deliver(self._root, task, slot, token)
        for task in self._plan.tasks:
            if not task.data_count and not task.control_count:
                self._make_ready(self._root, task)
        runnable, tasks = self._runnable, self._plan.tasks
        while runnable:
            frame = runnable[-1]
            if frame.ready:
                task = tasks[heapq.heappop(frame.ready)]
                yield from self._fire(frame, task)
            else:
                runnable.pop()
                frame.queued = False
                self._settle(frame)
        for value in self._plan.fetches:
            if value not in self._results:
                raise RunError(f"'{tensor_name(value)}' was not computed: it lies in a branch that was not taken")
        return [self._results[value] for value in self._plan.fetches]

    def _fire(self, frame: Frame, task: Task) -> Generator[Invocation, Outputs, None]:
        state = frame.states.pop(task, None) or State(task)
        kind = task.kind
        if kind is Kind.MERGE:
            state.fired = True
            frame.states[task] = state  # what else arrives in this iteration finds that it has run
            merged, state.inputs = state.inputs[state.live_slot], [None] * task.data_count
            outputs = [DEAD, DEAD] if state.live_slot < 0 else [merged, np.array(state.live_slot, dtype=np.int32)]
            self._emit(frame, task, outputs[: len(task.consumers)], state.live_slot < 0)
        elif kind is Kind.NEXT:
            if not state.dead:
                frame.next_tokens.append((task, state.inputs[0]))
        elif kind is Kind.ENTER:
            self._enter(frame, task, DEAD if state.dead else state.inputs[0])
        elif kind is Kind.EXIT:
            if not state.dead and frame.parent is not None:
                frame.exited.add(task)
                self._emit(frame.parent, task, [state.inputs[0]], False)
        elif kind is Kind.FED:
            self._emit(frame, task, [], False)
        elif state.dead and kind is not Kind.TRIGGER:
            self._emit(frame, task, [DEAD] * len(task.consumers), True)
        else:
            if kind is Kind.SWITCH:
                computed: Outputs = _switched(task, state.inputs)
            else:
                computed = yield from self._compute(task, state.inputs)
            self._emit(frame, task, computed, False)

    def _emit(self, frame: Frame, task: Task, outputs: Sequence[Token], dead: bool) -> None:
        """Hand the outputs to those who read them, in `frame`."""
        values = task.node.outputs
        for index, token in enumerate(outputs):
            if token is not DEAD:
                value = values[index]
                if value in self._wanted and value not in self._plan.fed_consumers:
                    self._results[value] = token
                if self._watch is not None:
                    self._watch(value, token)
            for consumer, slot in task.consumers[index]:
                self._deliver(frame, consumer, slot, token)
        for consumer in task.control_consumers:
            self._signal(frame, consumer, dead)

    def _deliver(self, frame: Frame, task: Task, slot: int, token: Token) -> None:
        state = frame.states.get(task)
        if state is None:
            state = frame.states[task] = State(task)
        if task.kind is Kind.MERGE:
            if token is DEAD:
                state.dead_count += 1
            elif state.live_slot < 0:
                state.live_slot, state.inputs[slot] = slot, token
            self._check_merge(frame, task, state)
            return
        state.inputs[slot] = token
        if token is DEAD:
            state.dead = True
        state.waiting -= 1
        if not state.waiting:
            self._make_ready(frame, task)

    def _signal(self, frame: Frame, task: Task, dead: bool) -> None:
        """A control input has arrived."""
        state = frame.states.get(task)
        if state is None:
            state = frame.states[task] = State(task)
        state.waiting -= 1
        if task.kind is Kind.MERGE:
            self._check_merge(frame, task, state)
            return
        if dead:
            state.dead = True
        if not state.waiting:
            self._make_ready(frame, task)

    def _check_merge(self, frame: Frame, task: Task, state: State) -> None:
        complete = state.live_slot >= 0 or state.dead_count == task.data_count
        if complete and not state.waiting and not state.fired:
            state.fired = True
            self._make_ready(frame, task)

    def _make_ready(self, frame: Frame, task: Task) -> None:
        heapq.heappush(frame.ready, task.rank)
        self._queue(frame)

    def _queue(self, frame: Frame) -> None:
        if not frame.queued:
            frame.queued = True
            self._runnable.append(frame)

    # Loops ----------------------------------------------------------------------------------------------------

    def _enter(self, frame: Frame, task: Task, token: Token) -> None:
        name = task.node.attrs.get("frame_name", b"")
        child = frame.children.get(name)
        if child is None:
            child = frame.children[name] = Frame((*frame.path, name), frame)
        child.arrived += 1
        if task.node.attrs.get("is_constant", False):
            child.constants.append((task, token))
        self._emit(child, task, [token], token is DEAD)
        self._queue(child)

    def _settle(self, frame: Frame) -> None:
        """Nothing of `frame` is ready: go on with its next iteration, or leave it, and so on outwards."""
        frames = self._plan.frames
        inner: Frame | None = frame
        while inner is not None and inner.parent is not None and frames is not None:
            if inner.queued or inner.ready or inner.children or inner.arrived < frames.enters.get(inner.path, 0):
                return
            parent = inner.parent
            if inner.next_tokens:
                self._iterate(inner)
                return
            del parent.children[inner.path[-1]]
            for task in frames.exits.get(inner.path, ()):
                if task not in inner.exited:
                    self._emit(parent, task, [DEAD], True)
            inner = None if parent.queued else parent

    def _iterate(self, frame: Frame) -> None:
        tokens, frame.next_tokens = frame.next_tokens, []
        frame.states = {}
        for task, token in (*frame.constants, *tokens):
            self._emit(frame, task, [token], token is DEAD)
        self._queue(frame)


def _switched(task: Task, inputs: Sequence[Token]) -> list[Token]:
    """The data on the output that the predicate, or the index, chooses; `DEAD` on the others."""
    node, count = task.node, len(task.node.outputs)
    data, choice = inputs[0], dereferenced(inputs[1])
    if node.op != "tf.RefSwitch":
        data = dereferenced(data)
    if choice.size != 1 or (node.op != "tf._SwitchN" and choice.dtype != bool):
        raise RunError(f"node '{printable(node.name)}' ({node.op_type}): what it switches on must be one element")
    index = int(choice.reshape(-1)[0])
    if not 0 <= index < count:
        index = count - 1
    return [data if place == index else DEAD for place in range(count)]
