"""remove-nodes: splice out nodes that only pass their input on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.cleanup.dropout import DROPOUT_RULES
from graphopt.passes.replacement import misfit, replace_target
from graphopt.passes.rewriter import RuleIndex, apply_rules, rule_index

PASSING_ON = ("Identity", "IdentityN", "Snapshot", "StopGradient", "PreventGradient", "CheckNumerics")
CHECKING = ("Assert", "Print", "PrintV2", "CheckNumericsV2", "DebugIdentity", "DebugIdentityV2", "DebugNanCount")

_ON_THEIR_OWN = frozenset({"tf.Merge", "tf.RefMerge", "tf.ControlTrigger", "tf.Exit", "tf.RefExit", "tf.LoopCond"})


@dataclass(frozen=True)
class RemoveNodes(Pass):
    """Splice out nodes that only pass their inputs on, so that their readers read the inputs.

    *Given*

        %a = tf.Relu(%x)
        %b = tf.Identity(%a)
        %y = tf.Neg(%b)

    *Result*

        %a = tf.Relu(%x)
        %y = tf.Neg(%a)

    `operators` says which (those that pass values on, by default), `max_inputs` how many data inputs a node may
    have: beyond `IdentityN`, which passes on each input, the readers read the first. `dropout` also removes dropout,
    in the forms TensorFlow and Keras write it; `assertions` removes assertions, prints and debugging nodes;
    `defaults` lets placeholders that have a default, and are not among the inputs the graph has, pass the default on.

    What the node waited for, its readers wait for. Refuses a node that is an input or output of the main graph; one
    that waits for several where several read it, or one of them is a `Merge`; one for which others wait where its
    input is a v1 branch; one whose input is a reference, since removing it would move the moment of reading; and any
    node whose output has another element type than its input.
    """

    name: ClassVar[str] = "remove-nodes"
    operators: tuple[str, ...] = PASSING_ON
    max_inputs: int = 1
    dropout: bool = False
    assertions: bool = False
    defaults: bool = False

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Splice nodes out of one graph in place."""
        if self.dropout:
            apply_rules(graph, _dropout_rules(), context)
        wanted = {f"tf.{operator}" for operator in self.operators}
        checking = {f"tf.{operator}" for operator in CHECKING} if self.assertions else set()
        if self.defaults and graph.inputs:
            wanted.add("tf.PlaceholderWithDefault")
        for node in graph:
            if node.op in wanted or node.op in checking:
                self._visit(graph, node, context)

    def _visit(self, graph: Graph, node: Node, context: PassContext) -> None:
        if not node.outputs:
            if node in graph.targets and not isinstance(graph, Function):
                context.refused(self.name, node, "it is a target of the graph")
            elif context.allows(self.name):
                detach(node)
                context.rewrote(self.name, removed=(node,))
                graph.remove(node)
            return
        sources = self._sources(node)
        if sources is None:
            return
        reason = self._refusal(graph, node, sources)
        if reason is not None:
            context.refused(self.name, node, reason)
        elif context.allows(self.name):
            splice(graph, node, sources)
            context.rewrote(self.name, removed=(node,))
            if not node.has_uses:
                graph.remove(node)

    def _sources(self, node: Node) -> Mapping[Value, Value] | None:
        """What each output of `node` passes on, or None where the node is not of the form."""
        inputs = [value for value in node.inputs if value is not None]
        if node.op == "tf.IdentityN":
            return dict(zip(node.outputs, inputs, strict=True)) if len(inputs) == len(node.outputs) else None
        passes_all = traits_of(node.op) & Trait.PASS_THROUGH
        if not inputs or (len(inputs) > self.max_inputs and not (passes_all and self.assertions)):
            return None
        return {node.outputs[0]: inputs[0]} if len(node.outputs) == 1 else None

    def _refusal(self, graph: Graph, node: Node, sources: Mapping[Value, Value]) -> str | None:
        in_function = isinstance(graph, Function)
        for value, source in sources.items():
            if value.is_input:
                return "it is an input of the graph"
            if value.is_output and not in_function:
                return "it is an output of the graph"
            if source.dtype.code > 100 and value.dtype.code < 100:
                return "it reads a reference at a given moment"
            if value.dtype.code and source.dtype.code and value.dtype is not source.dtype:
                return f"its output is {value.dtype.name}, its input {source.dtype.name}"
            if source.node is node:
                return "it reads itself"
            unfit = misfit(value, source) if not value.dtype.code else None
            if unfit is not None:
                return unfit
        if node in graph.targets:
            return "it is a target of the graph"
        producer = next(iter(sources.values())).node
        if node.control_inputs and not can_wait_for_it(node):
            return f"it waits for '{printable(node.control_inputs[0].name)}'"
        if node.control_users and traits_of(producer.op) & Trait.CONTROL_FLOW:
            return "it anchors control dependencies of a v1 branch or loop"
        return None


@cache
def _dropout_rules() -> RuleIndex:
    return rule_index([rule() for rule in DROPOUT_RULES])


def can_wait_for_it(node: Node) -> bool:
    """The readers of `node` can wait for what it waits for, one for several or several for one.

    Not so an output, a `Merge`, which runs on whichever input comes first, or what ends a loop.
    """
    users = dict.fromkeys(node.successors())
    if any(value.is_output for value in node.outputs) or any(user.op in _ON_THEIR_OWN for user in users):
        return False
    return len(users) == 1 or len(node.control_inputs) == 1


def splice(graph: Graph, node: Node, sources: Mapping[Value, Value]) -> None:
    """Let the readers of each output read its source, and those who wait for `node` wait for what it read.

    All of them also wait for what `node` waited for.
    """
    producers = dict.fromkeys(source.node for source in sources.values())
    for control in node.control_inputs:
        for user in node.successors():
            user.add_control_input(control)
    for value, source in sources.items():
        if value.type.shape.rank is not None:
            merged = source.type.shape.merged(value.type.shape)
            if merged is not None:
                source.type = source.type.with_shape(merged)
        graph.replace_value(value, source)
    for user in node.control_users:
        user.remove_control_input(node)
        for producer in producers:
            if producer is not user:
                user.add_control_input(producer)


def detach(node: Node) -> None:
    """Let nobody wait for `node` any more; what it waited for, its users wait for."""
    for user in node.control_users:
        user.remove_control_input(node)
        for control in node.control_inputs:
            if control is not user:
                user.add_control_input(control)
    if node.graph is not None and node in node.graph.targets:
        replace_target(node.graph, node, None)
