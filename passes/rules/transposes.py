"""Transposes that cancel across whole regions of a graph.

A region is what hangs together by operators that do not mind a permutation of their axes. Where transposes by one
permutation lead into it, and inverse ones out of it, the region may as well compute in the other order: its transposes
go, and one is put wherever something else leads in or out. That is done where fewer transposes are left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_tensor
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import PassContext
from graphopt.passes.frames import has_v1_control_flow
from graphopt.passes.removal import remove_dead
from graphopt.passes.rules import permuting, permuting_onnx
from graphopt.passes.rules.permuting import Permutation, Plan, inverse, permutation_of

_TRANSPOSE = {"tf": "tf.Transpose", "tfl": "tfl.TRANSPOSE", "onnx": "onnx.Transpose"}
TRANSPOSES = frozenset(_TRANSPOSE.values())


def _of(node: Node) -> Any:
    """What is known of the operators of the node's dialect."""
    return permuting_onnx if node.dialect == "onnx" else permuting


def cancel_transposes(graph: Graph, context: PassContext, rule: str) -> None:
    """Flip every region of `graph` that has fewer transposes afterwards, and drop what permutes nothing.

    A graph with v1 control flow is left alone: its constants belong to frames.
    """
    if has_v1_control_flow(graph):
        return
    for node in list(graph):
        if node.graph is graph and node.op in TRANSPOSES and not node.control_users and not node.control_inputs:
            order = permutation_of(node)
            if order is not None and not node.output.is_input:
                _consider(graph, node, order, context, rule)


def _consider(graph: Graph, node: Node, order: Permutation, context: PassContext, rule: str) -> None:
    if not context.allows(rule):
        return
    if order == tuple(range(len(order))):
        if not node.output.is_output:
            _drop(graph, node, node.input(0))
            context.rewrote(rule, removed=(node,))
        return
    region = _Region(graph, order)
    region.grow(node)
    if region.gain > 0:
        region.flip()
        context.rewrote(rule, removed=(node,), added=tuple(region.plans))


def _drop(graph: Graph, node: Node, source: Value) -> None:
    node.output.replace_all_uses_with(source)
    remove_dead(graph, (node,))


class _Region:
    """What would be flipped, beginning with the readers of one transpose."""

    def __init__(self, graph: Graph, order: Permutation):
        self.graph, self.order, self.back = graph, order, inverse(order)
        self.plans: dict[Node, Plan] = {}
        self.entering: dict[Node, None] = {}  # transposes into the region
        self.leaving: dict[Node, None] = {}  # inverse transposes out of it
        self.absorbing: dict[Node, None] = {}
        self.inward: dict[Value, None] = {}  # values that would have to be transposed for the region
        self.outward: dict[Value, None] = {}  # values of the region that others read
        self._refused: dict[Node, None] = {}

    # Growing --------------------------------------------------------------------------------------------------

    def grow(self, node: Node) -> None:
        """All that hangs together with the readers of the transpose `node`."""
        self.entering[node] = None
        pending: list[Value] = [node.output]
        while pending:
            value = pending.pop()
            for user in value.users:
                plan = self._kind(user, value)
                if plan is not None:
                    self.plans[user] = plan
                    pending += user.outputs
                    pending += self._led_in(user, plan)
        for node in self.plans:
            for value in node.outputs:
                if value.is_output or any(self._is_foreign(user, value) for user in value.users):
                    self.outward[value] = None

    def _kind(self, user: Node, value: Value) -> Plan | None:
        """The plan of a node that newly belongs to the region, None for any other."""
        if user in self.plans or user in self.leaving or user in self.absorbing or user in self._refused:
            return None
        if user.op in TRANSPOSES and not user.output.is_output and not user.control_users and not user.control_inputs:
            if user.input(0) is value and permutation_of(user) == self.back:
                self.leaving[user] = None
            return None
        if _of(user).absorbs(user, self.order) and user.input(0) is value:
            self.absorbing[user] = None
            return None
        plan: Plan | None = _of(user).plan_for(user, len(self.order))
        if plan is None or not any(user.inputs[place] is value for place in plan.data):
            self._refused[user] = None
            return None
        return plan

    def _led_in(self, user: Node, plan: Plan) -> list[Value]:
        """Take in what computes the operands of `user`; the values whose readers are to be looked at because of it."""
        found: list[Value] = []
        pending = [(user, plan)]
        while pending:
            node, its = pending.pop()
            for value in (node.input(place) for place in its.data):
                producer = value.node
                if producer in self.plans or producer in self.entering or known_tensor(value) is not None:
                    continue
                if producer.op in TRANSPOSES and permutation_of(producer) == self.order and not value.is_input:
                    self.entering[producer] = None
                    found.append(value)
                    continue
                refused = value.is_input or producer in self._refused
                inner = None if refused else _of(producer).plan_for(producer, len(self.order))
                if inner is None:
                    self.inward[value] = None
                else:
                    self.plans[producer] = inner
                    found += producer.outputs
                    pending.append((producer, inner))
        return found

    def _is_foreign(self, user: Node, value: Value) -> bool:
        if user in self.leaving or user in self.absorbing:
            return False
        plan = self.plans.get(user)
        return plan is None or any(
            source is value and place not in plan.data for place, source in enumerate(user.inputs)
        )

    # Deciding -------------------------------------------------------------------------------------------------

    @property
    def gain(self) -> int:
        """How many transposes fewer there would be."""
        gone = sum(1 for node in self.entering if self._goes(node)) + len(self.leaving)
        return gone - len(self.outward) - sum(1 for value in self.inward if self._transposed(value) is None)

    def _goes(self, node: Node) -> bool:
        value = node.output
        return not value.is_output and not any(self._is_foreign(user, value) for user in value.users)

    def _transposed(self, value: Value) -> Value | None:
        """`value` transposed back, where that is there already."""
        for user in value.users:
            if user.op in TRANSPOSES and user.input(0) is value and permutation_of(user) == self.back:
                return user.output
        return None

    # Flipping -------------------------------------------------------------------------------------------------

    def flip(self) -> None:
        """Compute the region before the permutation."""
        replaced = [value.node for node in (*self.plans, *self.absorbing) for value in node.inputs if value is not None]
        before: dict[Value, Value] = {node.output: node.input(0) for node in self.entering}
        for value in self.inward:
            before[value] = self._transposed(value) or self._insert(value, self.back, f"{value.node.name}/transposed")
        for node in self.plans:
            for value in node.outputs:
                self._lead_out(value)
        for node, plan in self.plans.items():
            for place in plan.data:
                value = node.input(place)
                if value in before:
                    node.replace_input(place, before[value])
                elif known_tensor(value) is not None:
                    node.replace_input(place, self._permuted_constant(value, node))
            plan.change(node, self.order)
            for value in node.outputs:
                value.type = self._permuted(value.type, self.back)
        for node in self.absorbing:
            if node.input(0) in before:
                node.replace_input(0, before[node.input(0)])
            _of(node).absorb(node, self.order)
        for node in self.leaving:
            source = node.input(0)
            _drop(self.graph, node, before.get(source, source))
        remove_dead(self.graph, [*self.entering, *replaced])

    def _lead_out(self, value: Value) -> None:
        """What others read of a value of the region is transposed, under the name that it had."""
        if value not in self.outward:
            return
        readers = [
            (user, place)
            for user, place in value.uses
            if user not in self.leaving
            and user not in self.absorbing
            and (user not in self.plans or place not in self.plans[user].data)
        ]
        node, name = value.node, value.node.name
        made = self._insert(value, self.order, f"{name}/transposed")
        for user, place in readers:
            user.replace_input(place, made)
        if value.is_output:
            self.graph.outputs = tuple(made if each is value else each for each in self.graph.outputs)
            for each in (node, made.node):
                each.origins = tuple(each.source_names)
            self.graph.rename(node, self.graph.unique_name(f"{name}/permuted"))
            self.graph.rename(made.node, name)
            made.name, value.name = value._name, None

    def _permuted_constant(self, value: Value, node: Node) -> Value:
        array = known_tensor(value)
        assert array is not None
        return hold(self.graph, array.numpy().transpose(self.back), name=value.node.name, before=node)

    def _insert(self, value: Value, order: Permutation, name: str) -> Value:
        """A transpose right behind the node that computes `value`, whose type is still the old one."""
        node = value.node
        behind = node._next
        if value.node in self.plans:
            type = value.type  # the region's new order is permuted to what it was
        else:
            type = self._permuted(value.type, order)
        operands: list[Value] = [value]
        attrs: dict[str, Any] = {"perm": order}
        dialect = "onnx" if node.dialect == "onnx" else "tfl" if node.dialect == "tfl" else "tf"
        if dialect != "onnx":
            perm = hold(self.graph, np.array(order, np.int32), name=f"{name}/perm", before=behind)
            _as_constant(perm.node, dialect)
            operands.append(perm)
            attrs = {} if dialect == "tfl" else {"T": value.dtype, "Tperm": perm.dtype}
        made = self.graph.create_node(
            _TRANSPOSE[dialect], operands, attrs, name=name, types=(type,), before=behind, device=node.device,
            origins=node.source_names,
        )  # fmt: skip
        return made.output

    def _permuted(self, type: TensorType, order: Permutation) -> TensorType:
        dims = type.shape.dims
        return type if dims is None else type.with_shape(Shape(dims[place] for place in order))


def _as_constant(node: Node, dialect: str) -> None:
    """`hold` takes the dialect of the node that it puts a constant before, which here says nothing."""
    value = node.attrs["value"]
    node.op = "tfl.CONSTANT" if dialect == "tfl" else "tf.Const"
    node.attrs = {"value": value} if dialect == "tfl" else {"dtype": value.dtype, "value": value}
