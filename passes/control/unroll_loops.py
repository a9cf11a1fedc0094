"""unroll-loops: loops whose number of iterations is known become straight-line graphs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Function, Model
from graphopt.ir.tensors import Tensor
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.evaluation import Evaluation, truth
from graphopt.passes.control.lower_control_flow import LOOPS, called
from graphopt.passes.control.take_constant_branches import has_effects, pass_inputs_on
from graphopt.passes.frames import RAISE_FIRST, frame_anchors, has_v1_control_flow, v1_loops
from graphopt.passes.functions.call_graph import callees_first
from graphopt.passes.functions.inline_functions import inline_call

EVALUATED = 1 << 20  # nodes that may be evaluated to find out how often one loop turns


@dataclass(frozen=True)
class UnrollLoops(Pass):
    """Replace every `While` that turns a known number of times by that many copies of its body.

    *Given*

        function @cond(%i: int32) -> (%go) { %two = tf.Const() {value = int32[] 2} %go = tf.Less(%i, %two) }
        function @body(%i: int32, %s: float32) -> (%j, %t) {
          %one = tf.Const() {value = int32[] 1}
          %j = tf.AddV2(%i, %one)
          %t = tf.Tanh(%s)
        }
        %zero = tf.Const() {value = int32[] 0}
        %loop = tf.StatelessWhile(%zero, %x) {cond = @cond, body = @body}

    *Result*

        %first = tf.Tanh(%x)
        %second = tf.Tanh(%first)
        %loop = tf.IdentityN(%i2, %second)

    The number is found by evaluating the condition, and what it depends on, from the values known at the start; any
    counter will do. Nodes are named after the loop, `iteration_0` and so on, and their name in the body. Effects keep
    their order. A v1 loop has to be raised first (`raise-control-flow`).

    Refuses loops of more than `max_iterations` iterations or `max_nodes` nodes, a condition that does not follow from
    known values or has effects, and, in a v1 branch, a body whose constants could not be tied to it.
    """

    max_iterations: int = 64
    max_nodes: int = 10_000

    def run(self, model: Model, context: PassContext) -> None:
        """Unroll in the bodies of functions, those called first, then in the main graph."""
        if self.max_iterations < 0 or self.max_nodes < 0:
            raise UsageError("unroll-loops: 'max-iterations' and 'max-nodes' must not be negative")
        for graph in (*callees_first(model), model.graph):
            for node in v1_loops(graph):
                context.refused(self.name, node, RAISE_FIRST)
            self._unroll(graph, model, context)

    def _unroll(self, graph: Graph, model: Model, context: PassContext) -> None:
        queue = deque(node for node in graph if node.op in LOOPS)
        while queue:
            loop = queue.popleft()
            functions = called(loop, model)
            if functions is None:
                context.refused(self.name, loop, "the library does not have its functions")
                continue
            (condition, _), (body, reference) = functions
            found = self._iterations(graph, loop, condition, body)
            if isinstance(found, str):
                context.refused(self.name, loop, found)
            elif not context.allows(self.name):
                return
            else:
                made = unroll(graph, loop, body, reference, found)
                context.rewrote(self.name, removed=(loop,), added=(*made, loop))
                queue.extend(node for node in made if node.op in LOOPS)

    def _iterations(self, graph: Graph, loop: Node, condition: Function, body: Function) -> int | str:
        """How often the loop turns, or why that is not known or too often."""
        count = len(loop.inputs)
        if not count == len(condition.inputs) == len(body.inputs) == len(body.outputs) == len(loop.outputs):
            return "its functions take or yield another number of values"
        if len(condition.outputs) != 1 or has_effects(condition):
            return f"its condition '{printable(condition.name)}' has effects"
        if has_v1_control_flow(graph) and frame_anchors(v for v in loop.inputs if v is not None) is None:
            return "the constants of the body would leave its v1 branch"
        most = min(self.max_iterations, self.max_nodes // max(1, len(body)))
        return trip_count(loop, condition, body, most)


def trip_count(loop: Node, condition: Function, body: Function, most: int) -> int | str:
    """How often `loop` turns, if that is at most `most`; otherwise a reason."""
    test = Evaluation(condition, condition.outputs)
    places = deciding_variables(condition, body)
    step = Evaluation(body, [body.outputs[place] for place in places])
    known = {place: held for place in places if (held := known_tensor(loop.inputs[place])) is not None}
    budget = EVALUATED
    for count in range(most + 1):
        goes = truth(test.run(_arguments(condition, known))[0])
        if goes is None:
            return "its condition does not follow from known values"
        if not goes:
            return count
        budget -= test.size + step.size
        if budget < 0:
            return "counting its iterations takes too long"
        results = step.run(_arguments(body, known))
        known = {place: held for place, held in zip(places, results, strict=True) if held is not None}
    return f"it turns more than {most} times"


def deciding_variables(condition: Function, body: Function) -> list[int]:
    """Places of the variables that the condition depends on, over any number of iterations."""
    places = {value: place for place, value in enumerate(condition.inputs)}
    found = dict.fromkeys(places[v] for v in Evaluation(condition, condition.outputs).arguments if v in places)
    inner = {value: place for place, value in enumerate(body.inputs)}
    pending = list(found)
    while pending:
        for value in Evaluation(body, [body.outputs[pending.pop()]]).arguments:
            place = inner.get(value)
            if place is not None and place not in found:
                found[place] = None
                pending.append(place)
    return sorted(found)


def _arguments(function: Function, known: dict[int, Tensor]) -> dict[Value, Tensor]:
    return {function.inputs[place]: held for place, held in known.items()}


def unroll(graph: Graph, loop: Node, body: Function, reference: FunctionRef, count: int) -> list[Node]:
    """Put `count` copies of `body` in place of `loop`, which becomes an identity; returns the nodes made."""
    values = [value for value in loop.inputs if value is not None]
    waits = loop.control_inputs
    types = [value.type for value in loop.outputs]
    calls: list[Node] = []
    for number in range(count):
        attrs = {"f": reference, "Tin": tuple(v.dtype for v in values), "Tout": tuple(t.dtype for t in types)}
        call = graph.create_node(
            "tf.StatefulPartitionedCall", values, attrs, name=f"{loop.name}/iteration_{number}", types=types,
            before=loop, control_inputs=waits, device=loop.device, origins=loop.source_names,
        )  # fmt: skip
        calls.append(call)
        if has_effects(body):
            waits = (call,)
        values = list(call.outputs)
    loop.set_inputs(values)
    for control in waits:
        loop.add_control_input(control)
    pass_inputs_on(loop)
    made: list[Node] = []
    for call in calls:
        made += inline_call(graph, call, body, reference.attrs)
    return [node for node in made if node.graph is graph]
