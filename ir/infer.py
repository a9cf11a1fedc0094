"""Shape and dtype inference: of one node, of a graph with its loops, of a model with its functions.

`infer_node` says what one node yields and changes nothing. `infer_graph` and `infer_model` refine `Value.type`
everywhere; what was known before is kept. A v1 loop starts from the types that enter it, which are widened until
they hold for every iteration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import NamedTuple

from graphopt.ir.dimensions import Dim, symbol
from graphopt.ir.errors import GraphError
from graphopt.ir.graph import Graph
from graphopt.ir.infer_nodes import NodeTypes, Oracle
from graphopt.ir.joins import join_shapes, join_types
from graphopt.ir.known import CONSTANT
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.ir.shape_values import NODE_LIMIT, ShapeValues
from graphopt.ir.tensors import Tensor
from graphopt.ir.traversal import BACK_EDGE_SOURCES
from graphopt.ir.types import UNKNOWN_DTYPE, Shape, TensorType, unshaped
from graphopt.ir.value import Node, Value

MERGES = frozenset({"tf.Merge", "tf.RefMerge"})
FED = frozenset({"tf.Placeholder", "tf.PlaceholderV2", "tf.PlaceholderWithDefault", ARGUMENT})  # declare what is fed
SWEEPS = 8  # over a graph with loops before what still changes is given up as unknown
Step = Generator[Function, None, None]  # asks for the bodies that must be inferred first


class Outcome(NamedTuple):
    """How many values changed their type; in words, where the graph contradicts itself or makes no sense."""

    changed: int
    notes: list[str]


def infer_node(
    node: Node,
    partial: Callable[[Value], Sequence[Dim] | None] | None = None,
    *,
    oracle: Oracle | None = None,
) -> tuple[TensorType, ...]:
    """One type for each output of `node`, from its attributes and the types of its inputs. Changes nothing.

    `partial` says what is known of small integer tensors; without it the node's producers are looked at.
    """
    return tuple(NodeTypes(partial or ShapeValues(NODE_LIMIT), oracle=oracle).of(node))


def infer_graph(
    graph: Graph,
    *,
    fresh_symbols: bool = False,
    notes: list[str] | None = None,
    oracle: Oracle | None = None,
) -> int:
    """Refine the type of every value of `graph`; returns how many changed.

    `fresh_symbols` names the unknown dimensions of the graph's inputs (`images.0`), so that they stay recognisable.
    `notes` collects, in words, what contradicts itself: there the inferred type wins over the one claimed before.
    `oracle` gives the types of nodes whose operators the table does not cover. Calls of functions keep their types;
    `infer_model` follows them.
    """
    driver = Inference(oracle=oracle)
    if fresh_symbols:
        name_unknown_dimensions(graph)
    driver.run(graph)
    outcome = driver.outcome()
    if notes is not None:
        notes.extend(outcome.notes)
    return outcome.changed


def infer_model(model: Model, *, fresh_symbols: bool = False, oracle: Oracle | None = None) -> Outcome:
    """`infer_graph` for the main graph and every function body, following calls in both directions.

    A body's arguments get what all its call sites agree on, a call's outputs what the body yields.
    """
    from graphopt.ir.infer_calls import Calls

    if fresh_symbols:
        name_unknown_dimensions(model.graph)
    driver = Calls(model, oracle=oracle)
    driver.infer()
    return driver.outcome()


def forget_shapes(graph: Graph) -> None:
    """Drop the shapes of everything but the graph's inputs, before inferring anew from changed inputs."""
    for node in graph:
        for value in node.outputs:
            if not value._inputs and value.type.quantization is None:
                value.type = unshaped(value.type.dtype)


def name_unknown_dimensions(graph: Graph) -> None:
    """Give each unknown dimension of the graph's inputs a symbol named after the input and the dimension.

    An input whose type nobody has inferred yet has the shape that its node declares.
    """
    for value in graph.inputs:
        if value.type.shape.dims is None and value.node.op in FED:
            value.type = infer_node(value.node)[value.index]
        dims = value.type.shape.dims
        if dims is not None and None in dims:
            named = [symbol(dimension_name(value, axis)) if dim is None else dim for axis, dim in enumerate(dims)]
            value.type = value.type.with_shape(Shape(named))


def dimension_name(value: Value, axis: int) -> str:
    """What the unknown dimension `axis` of an input is called."""
    return re.sub(r"\W", "_", value.name) + f"_{axis}"


class Inference:
    """Sweeps over graphs in topological order, refining types."""

    def __init__(self, oracle: Oracle | None = None, functions: Mapping[str, Function] | None = None):
        self.shape_values = ShapeValues()
        self.types = NodeTypes(self.shape_values, oracle, functions)
        self._changed = 0
        # What was known, at the start, of values in graphs that may be swept more than once.
        self._known: dict[Graph, dict[Value, TensorType]] = {}

    def run(self, graph: Graph) -> None:
        """Infer `graph` and whatever bodies it asks for."""
        stack = [self.steps(graph)]
        while stack:
            body = next(stack[-1], None)
            if body is None:
                stack.pop()
            else:
                stack.append(self.steps(body))

    def outcome(self) -> Outcome:
        """What all runs together changed and noted."""
        again = (value.type != type for known in self._known.values() for value, type in known.items())
        return Outcome(self._changed + sum(again), list(self.types.notes.values()))

    def call(self, node: Node) -> Generator[Function, None, list[TensorType]]:
        """Types of a call's outputs, asking first for bodies to be inferred."""
        return self.types.of(node)
        yield  # a generator, as in `Calls`

    def steps(self, graph: Graph) -> Step:
        """Infer one graph, asking for bodies on the way; in a graph with a cycle nothing."""
        try:
            order = _ordered(graph)
        except GraphError as cycle:
            self.types.note(next(iter(graph)), str(cycle))
            return
        loops = [node for node in order if node.op in MERGES and any(_back_edges(node))]
        if not loops:
            yield from self._sweep(order, {}, graph)
            return
        self.remember(graph)
        floors: dict[Node, TensorType | None] = dict.fromkeys(loops)
        yield from self._sweep(order, floors, graph)
        for sweep in range(SWEEPS + 1):
            stale = self._widened(graph, floors, give_up=sweep == SWEEPS)
            if not stale:
                break
            behind = _behind(order, stale)
            self.restore(graph, behind)
            yield from self._sweep(behind, floors, graph)

    def remember(self, graph: Graph) -> None:
        """Keep what is known of the values of `graph` now, to start again from there."""
        if graph not in self._known:
            self._known[graph] = {value: value.type for node in graph for value in node.outputs}

    def restore(self, graph: Graph, nodes: Iterable[Node]) -> None:
        """Back to what was remembered; types found since were only tried."""
        known = self._known[graph]
        self.shape_values.forget()
        for node in nodes:
            self.types.notes.pop(node, None)
            for value in node.outputs:
                value.type = known[value]

    def _widened(self, graph: Graph, floors: dict[Node, TensorType | None], give_up: bool) -> dict[Node, None]:
        """Merges whose back edges bring what their type does not cover; `floors` then says what it must cover."""
        stale: dict[Node, None] = {}
        for node in floors:
            value = node.outputs[0]
            widened = value.type
            for back in _back_edges(node):
                widened = join_types(widened, back.type)
            if widened is not value.type and _refined(self._known[graph][value], widened) != value.type:
                stale[node] = None
                floors[node] = widened
        if stale and give_up:
            for node in floors:
                floors[node] = unshaped(node.outputs[0].type.dtype)
            return dict.fromkeys(floors)
        return stale

    def _sweep(self, nodes: Sequence[Node], floors: dict[Node, TensorType | None], graph: Graph) -> Step:
        """Visit `nodes` in order; `floors` are the merges of loops with what they must cover, back edges aside."""
        types, changed = self.types, 0
        plans, plan_of, constant, of = types.plans, types.plan, types.constant, types.of
        for node in nodes:
            outputs = node.outputs
            op = node.op
            plan = plans.get(op) or plan_of(op)
            if plan.keeps_type:
                kept = _kept_type(node._inputs, outputs)
                if kept is not None:
                    if outputs[0].type is not kept:
                        changed += self._refine(outputs[0], kept)
                    continue
            elif op == CONSTANT:
                held = node.attrs.get("value")
                if isinstance(held, Tensor) and outputs and outputs[0].type.dtype is held.dtype:
                    changed += self._refine(outputs[0], constant(held))
                    continue
            found: Sequence[TensorType]
            if floors and node in floors:
                found = _entering(node, floors[node], of(node))
            elif plan.is_call:
                found = yield from self.call(node)
            else:
                found = of(node)
            for value, new in zip(outputs, found, strict=True):
                if value.type is not new:
                    changed += self._refine(value, new)
        if graph not in self._known:
            self._changed += changed

    def _refine(self, value: Value, new: TensorType) -> bool:
        """Add what `new` says to the type of `value`; True if that changed it."""
        old = value.type
        if value._inputs and value.node.op not in FED:
            return False
        if old.shape.dims is None and old.dtype is new.dtype and old.quantization is None:
            if new.shape.dims is None:
                return False
            value.type = new
            return True
        refined = _refined(old, new)
        if refined is None:
            self.types.note(value.node, f"its shape is {new.shape}, not {old.shape} as claimed")
            refined = new if old.quantization is None else TensorType(new.dtype, new.shape, old.quantization)
        if refined == old:
            return False
        value.type = refined
        return True


def _kept_type(inputs: Sequence[Value | None], outputs: Sequence[Value]) -> TensorType | None:
    """The type of all `inputs` if it is one and the same, and the element type that of the one output."""
    if not inputs or inputs[0] is None or len(outputs) != 1:
        return None
    first = inputs[0].type
    if first.dtype is not outputs[0].type.dtype or first.quantization is not None:
        return None
    for value in inputs:
        if value is None:
            return None
        if value.type is not first and value.type.shape.dims != first.shape.dims:
            return None
    return first


def _refined(old: TensorType, new: TensorType) -> TensorType | None:
    """What both types say together, one of the two objects where it says no more; None on a contradiction."""
    dtype = old.dtype if new.dtype is UNKNOWN_DTYPE else new.dtype
    shape = old.shape.merged(new.shape)
    if shape is None:
        return None
    if new.dtype is dtype and old.quantization is None and shape == new.shape:
        return new
    return TensorType(dtype, shape, old.quantization)


def _entering(node: Node, floor: TensorType | None, found: Sequence[TensorType]) -> list[TensorType]:
    """Types of a loop's merge without what its back edges bring, but at least `floor`."""
    entering = [value.type.shape for value in node._inputs if value is not None and not _is_back_edge(value)]
    if floor is not None:
        entering.append(floor.shape)
    return [found[0].with_shape(join_shapes(entering)), *found[1:]]


def _is_back_edge(value: Value) -> bool:
    return value.node.op in BACK_EDGE_SOURCES


def _back_edges(node: Node) -> list[Value]:
    return [value for value in node._inputs if value is not None and value.node.op in BACK_EDGE_SOURCES]


def _behind(order: Sequence[Node], roots: dict[Node, None]) -> list[Node]:
    """`roots` and every node of `order` that depends on them, back edges aside."""
    found = dict(roots)
    for node in order:
        if node not in found:
            for value in node._inputs:
                if value is not None and value.node in found and value.node.op not in BACK_EDGE_SOURCES:
                    found[node] = None
                    break
    return [node for node in order if node in found]


def _ordered(graph: Graph) -> list[Node]:
    """The nodes, producers first; in the graph's own order if that already is such an order."""
    order, seen = list(graph), set[Node]()
    for node in order:
        for value in node._inputs:
            if value is not None and value.node not in seen and value.node.op not in BACK_EDGE_SOURCES:
                return graph.topological_order()
        seen.add(node)
    return order
