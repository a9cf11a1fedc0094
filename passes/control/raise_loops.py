"""v1 loops as functional ones: what is inside a frame becomes a condition and a body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model
from graphopt.ir.types import TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import PassContext
from graphopt.passes.control.bodies import FIRST_REFERENCE, BodyBuilder, backward, unfit
from graphopt.passes.control.loop_frames import LOOP_CONDITION, Path, frame_name, frame_paths
from graphopt.passes.removal import is_removable

CONTEXT = "while_context"  # how TensorFlow ends the frame's name of a loop


class Irregular(Exception):
    """Why a loop is not of the form that loops have. Never leaves this package."""


def raise_loops(graph: Graph, model: Model, rule: str, context: PassContext) -> tuple[int, dict[Node, str]]:
    """Raise every loop that contains no other; returns how many, and why others had to stay."""
    paths = frame_paths(graph)
    frames: dict[Path, list[Node]] = {}
    for node, path in paths.items():
        if path:
            frames.setdefault(path, []).append(node)
    outer = {path[:-1] for path in frames}
    done, refused = 0, {}
    for path, nodes in frames.items():
        if path in outer:
            refused[nodes[0]] = "a loop inside of it could not be raised"
            continue
        try:
            loop = _Loop(graph, model, nodes)
        except Irregular as reason:
            refused[nodes[0]] = str(reason)
            continue
        if not context.allows(rule):
            break
        made = loop.emit()
        context.rewrote(rule, removed=tuple(nodes), added=(made,))
        done += 1
    return done, refused


class _Loop:
    """One frame, understood: variables, invariants, the condition and the way out. Raises `Irregular`."""

    def __init__(self, graph: Graph, model: Model, nodes: Sequence[Node]):
        self.graph, self.model, self.nodes = graph, model, nodes
        self.inside = dict.fromkeys(nodes)
        self.by_op: dict[str, list[Node]] = {}
        for node in nodes:
            self.by_op.setdefault(node.op, []).append(node)
        for op in ("tf.RefEnter", "tf.RefMerge", "tf.RefSwitch", "tf.RefNextIteration"):
            if op in self.by_op:
                raise Irregular(f"'{printable(self.by_op[op][0].name)}' passes on a reference to a variable")
        conditions = self.by_op.get(LOOP_CONDITION, [])
        if len(conditions) != 1:
            raise Irregular(f"it has {len(conditions)} conditions")
        self.condition = conditions[0]
        self.initial: dict[Node, Node] = {}  # Merge -> Enter
        self.following: dict[Node, Node] = {}  # Merge -> NextIteration
        self.constants: list[Node] = []
        self._read_variables()
        self.sources: dict[Value, Node] = {}  # value inside -> the Merge or constant Enter that it is
        self.exits: dict[Node, Node] = {}  # Exit -> Merge or Enter
        self._read_switches()
        self._read_bodies()

    # Reading --------------------------------------------------------------------------------------------------

    def _read_variables(self) -> None:
        for merge in self.by_op.get("tf.Merge", []):
            producers = [value.node for value in merge.inputs if value is not None]
            kinds = [producer.op for producer in producers]
            if kinds == ["tf.NextIteration", "tf.Enter"]:
                producers.reverse()
            elif kinds != ["tf.Enter", "tf.NextIteration"]:
                raise Irregular(f"'{printable(merge.name)}' joins no beginning and end of an iteration")
            enter, following = producers
            if enter.attrs.get("is_constant") or enter.output.use_count != 1 or enter.control_users:
                raise Irregular(f"'{printable(enter.name)}' enters a variable and is read by others")
            if (len(merge.outputs) > 1 and merge.outputs[1].use_count) or following.output.use_count != 1:
                raise Irregular(f"'{printable(merge.name)}' is read in another way than a variable is")
            self.initial[merge], self.following[merge] = enter, following
        entering = dict.fromkeys(self.initial.values())
        for enter in self.by_op.get("tf.Enter", []):
            if enter.attrs.get("is_constant"):
                self.constants.append(enter)
            elif enter not in entering and enter.has_uses:
                raise Irregular(f"'{printable(enter.name)}' holds in the first iteration alone")
            if enter.output.dtype.code >= FIRST_REFERENCE or enter.input(0).dtype.code >= FIRST_REFERENCE:
                raise Irregular(f"'{printable(enter.name)}' passes on a reference to a variable")
        repeated = dict.fromkeys(self.following.values())
        stray = next((node for node in self.by_op.get("tf.NextIteration", []) if node not in repeated), None)
        if stray is not None:
            raise Irregular(f"'{printable(stray.name)}' leads to no variable")
        if not self.initial:
            raise Irregular("it has no variables")

    def _read_switches(self) -> None:
        for merge in self.initial:
            self.sources[merge.outputs[0]] = merge
        for enter in self.constants:
            self.sources[enter.output] = enter
        for switch in self.by_op.get("tf.Switch", []):
            source = self.sources.get(switch.input(0))
            if switch.input(1).node is not self.condition or source is None:
                raise Irregular(f"'{printable(switch.name)}' inside of it belongs to a conditional that stays")
            self.sources[switch.outputs[1]] = source
            for user in switch.outputs[0].users:
                if user.op != "tf.Exit":
                    raise Irregular(f"'{printable(user.name)}' reads a variable after the last iteration, inside")
                self.exits[user] = source
        if not self.exits:
            raise Irregular("nothing leaves it")

    def _read_bodies(self) -> None:
        boundary = dict.fromkeys([*self.initial, *self.constants, *self.by_op.get("tf.Switch", [])])
        test, step = self.condition.input(0), [node.input(0) for node in self.following.values()]
        self.test_nodes = backward(self._roots([self.condition], [test]), boundary)
        self.step_nodes = backward(self._roots(self.following.values(), step), boundary)
        if isinstance(self.graph, Function):  # in a function, effects happen without being asked for
            self._add_effects(boundary)
        for node in (*self.test_nodes, *self.step_nodes):
            if node not in self.inside:
                raise Irregular(f"'{printable(node.name)}' outside of it is read inside")
            if node in self.test_nodes and node in self.step_nodes and not is_removable(node):
                raise Irregular(f"'{printable(node.name)}' has effects and serves the condition and the body")
        reason = unfit((*self.test_nodes, *self.step_nodes), self.model)
        if reason is None:
            reason = self._stray()
        if reason is not None:
            raise Irregular(reason)

    def _roots(self, ends: Any, values: Sequence[Value]) -> list[Node]:
        """Producers of `values`, and what their readers wait for."""
        return [*(value.node for value in values), *(control for end in ends for control in end.control_inputs)]

    def _add_effects(self, boundary: dict[Node, None]) -> None:
        """Effects behind a `Switch` belong to the body, others to the condition."""
        turning: dict[Node, None] = {}
        for node in self.nodes:
            if node.op == "tf.Switch" or any(p in turning for p in node.predecessors() if p.op != "tf.NextIteration"):
                turning[node] = None
            if not is_removable(node) and node not in boundary:
                target = self.step_nodes if node in turning else self.test_nodes
                target.update(backward([node], boundary))

    def _stray(self) -> str | None:
        """Something of the loop that callers rely on and that no body has."""
        for node in self.nodes:
            if node in self.graph._targets or any(v.is_output or v.is_input for v in node.outputs):
                return f"'{printable(node.name)}' inside of it is an input, output or target of the graph"
            for value in node.outputs:
                if value.is_output or value.is_input:
                    return f"'{printable(value.name)}' inside of it is an input or output of the graph"
            for user in node.successors():
                if user not in self.inside and user not in self.exits:
                    return f"'{printable(user.name)}' outside of it depends on '{printable(node.name)}' inside"
        return None

    # Making ---------------------------------------------------------------------------------------------------

    def emit(self) -> Node:
        """Put the functional loop in place."""
        model = self.model
        label = frame_name(next(iter(self.initial.values()))).decode(errors="replace")
        name = label.removesuffix(CONTEXT).rstrip("/") or "while"
        operands: dict[Value, int] = {}
        places: dict[Node, int] = {merge: place for place, merge in enumerate(self.initial)}
        for enter in self.constants:
            place = operands.setdefault(enter.input(0), len(self.initial) + len(operands))
            places[enter] = place
        inputs = [enter.input(0) for enter in self.initial.values()] + list(operands)
        types = [merge.outputs[0].type for merge in self.initial] + [value.type for value in operands]
        test = BodyBuilder(model, f"{name}_cond")
        self._fill(test, self.test_nodes, types, places)
        cond = test.finish(model, [test.value(self.condition.input(0))], self._effects(self.test_nodes))
        step = BodyBuilder(model, f"{name}_body")
        arguments = self._fill(step, self.step_nodes, types, places)
        results = [step.value(node.input(0)) for node in self.following.values()] + arguments[len(self.initial) :]
        body = step.finish(model, results, self._effects(self.step_nodes))
        loop = self._make(name, inputs, types, cond, body, test.is_stateful or step.is_stateful)
        self._replace(loop, places)
        return loop

    def _fill(
        self, builder: BodyBuilder, nodes: dict[Node, None], types: Sequence[TensorType], places: dict[Node, int]
    ) -> list[Value]:
        names = [merge.name.rpartition("/")[2] for merge in self.initial]
        names += [f"invariant_{place}" for place in range(len(types) - len(names))]
        arguments = [builder.argument(type, name) for type, name in zip(types, names, strict=True)]
        for value, source in self.sources.items():
            builder.stand_for(value, arguments[places[source]])
        builder.copy(node for node in self.nodes if node in nodes)
        return arguments

    def _effects(self, nodes: dict[Node, None]) -> list[Node]:
        return [node for node in self.nodes if node in nodes and not is_removable(node)]

    def _make(
        self, name: str, inputs: Sequence[Value], types: Sequence[TensorType], cond: Function, body: Function,
        is_stateful: bool,
    ) -> Node:  # fmt: skip
        parallel = next(iter(self.initial.values())).attrs.get("parallel_iterations", 10)
        attrs = {
            "T": tuple(type.dtype for type in types), "cond": FunctionRef(cond.name), "body": FunctionRef(body.name),
            "output_shapes": tuple(type.shape for type in types), "parallel_iterations": parallel,
        }  # fmt: skip
        enters = [*self.initial.values(), *self.constants]
        waits = dict.fromkeys(control for enter in enters for control in enter.control_inputs)
        first = next(iter(self.exits))
        return self.graph.create_node(
            "tf.While" if is_stateful else "tf.StatelessWhile", inputs, attrs, name=name, types=types, before=first,
            control_inputs=waits, device=first.device,
            origins=tuple(dict.fromkeys(origin for node in self.by_op["tf.Merge"] for origin in node.source_names)),
        )  # fmt: skip

    def _replace(self, loop: Node, places: dict[Node, int]) -> None:
        for leave, source in self.exits.items():
            leave.origins = leave.source_names
            leave.op, leave.extras = "tf.Identity", None
            leave.set_inputs([loop.outputs[places[source]]])
            leave.set_control_inputs(control for control in leave.control_inputs if control not in self.inside)
        self.graph.remove_all(self.nodes)
