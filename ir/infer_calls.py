"""Inference through calls: arguments of bodies from their call sites, outputs of calls from the bodies."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.graph import Graph
from graphopt.ir.infer import Inference, Step
from graphopt.ir.infer_nodes import Oracle
from graphopt.ir.joins import join_types
from graphopt.ir.model import Function, Model, callees
from graphopt.ir.ops.interfaces import Interface
from graphopt.ir.types import UNKNOWN_DTYPE, TensorType, unshaped
from graphopt.ir.value import Node

ROUNDS = 4  # over the whole model, while call sites still tell shared bodies something new
ATTEMPTS = 4  # at the types of a while loop's variables, each wider, before they count as unknown
EFFORT = 64  # visits of a node, on average, after which loops are no longer tried with precise types

DIRECT = frozenset({"tf.PartitionedCall", "tf.StatefulPartitionedCall"})
BRANCHING = {
    "tf.If": ("then_branch", "else_branch"),
    "tf.StatelessIf": ("then_branch", "else_branch"),
    "tf.Case": ("branches",),
    "tf.StatelessCase": ("branches",),
}
LOOPS = frozenset({"tf.While", "tf.StatelessWhile"})


def called_names(node: Node, functions: dict[str, Function]) -> list[str]:
    """Names of the bodies that `node` passes its operands to, in order; empty where it calls in no known way."""
    op, attrs = node.op, node.attrs
    references: list[object]
    if op in DIRECT:
        references = [attrs.get("f")]
    elif op in LOOPS:
        references = [attrs.get("cond"), attrs.get("body")]
    elif op in BRANCHING:
        references = []
        for name in BRANCHING[op]:
            held = attrs.get(name)
            references += [held] if isinstance(held, FunctionRef) else held if isinstance(held, tuple) else [None]
    else:
        return [node.op_type] if node.op_type in functions else []
    names = [item.name for item in references if isinstance(item, FunctionRef)]
    return names if len(names) == len(references) and all(name in functions for name in names) else []


class Calls(Inference):
    """Inference of a whole model.

    A body called from one place is inferred there and then, with that place's types. One called from several places
    gets, in the next round, the types that all of them agree on.
    """

    def __init__(self, model: Model, oracle: Oracle | None = None):
        super().__init__(oracle, model.functions)
        self._model, self._functions = model, model.functions
        self._site_counts: dict[str, int] = {}
        self._open: set[str] = set()  # called in ways, or from places, that do not tell the arguments' types
        self._sites: dict[str, dict[tuple[Node, int], Sequence[TensorType]]] = {}
        self._arguments: dict[str, Sequence[TensorType]] = {}
        self._active: set[Graph] = set()
        self._inferred: dict[str, None] = {}
        self._effort = EFFORT * model.node_count
        if model.functions:
            self._count_sites()

    def infer(self) -> None:
        """Infer every graph of the model."""
        if not self._functions:
            self.run(self._model.graph)
            return
        for _ in range(ROUNDS):
            self._inferred.clear()
            self.run(self._model.graph)
            uncalled = [f for f in self._functions.values() if not self._site_counts.get(f.name)]
            for function in (*uncalled, *self._functions.values()):
                if function.name not in self._inferred:
                    self.run(function)
            if not self._agree():
                return

    def steps(self, graph: Graph) -> Step:
        """Infer one graph; a body starts from what was known of it and the arguments of the moment."""
        self._effort -= len(graph)
        if isinstance(graph, Function):
            self._inferred[graph.name] = None
            if graph in self._known:
                self.restore(graph, graph)
            else:
                self.remember(graph)
            arguments = self._arguments.get(graph.name, ())
            if len(arguments) == len(graph.inputs):
                for value, type in zip(graph.inputs, arguments, strict=True):
                    if type.dtype is value.type.dtype or value.type.dtype is UNKNOWN_DTYPE:
                        self._refine(value, type)
        self._active.add(graph)
        yield from super().steps(graph)
        self._active.discard(graph)

    def call(self, node: Node) -> Generator[Function, None, list[TensorType]]:
        """Types of a call's outputs, asking first for the bodies."""
        claimed = self.types.of(node)
        names = called_names(node, self._functions)
        if not names:
            return claimed
        operands = [unshaped(UNKNOWN_DTYPE) if value is None else value.type for value in node._inputs]
        if node.op in LOOPS:
            results = yield from self._loop(node, names, operands)
        else:
            passed = operands[1:] if node.op in BRANCHING else operands
            joined: list[TensorType] | None = None
            for place, name in enumerate(names):
                yield from self._enter(name, (node, place), passed)
                branch = [value.type for value in self._functions[name].outputs]
                joined = branch if joined is None else _joined(joined, branch)
            results = joined or []
        if len(results) != len(claimed):
            return claimed
        return [self._combined(claim, result) for claim, result in zip(claimed, results, strict=True)]

    def _combined(self, claim: TensorType, result: TensorType) -> TensorType:
        """What the body yields, with what the call itself declares where the body says nothing."""
        dtype = result.dtype if claim.dtype is UNKNOWN_DTYPE else claim.dtype
        merged = result.shape.merged(claim.shape)
        return self.types.intern(dtype, result.shape if merged is None else merged)

    def _loop(
        self, node: Node, names: Sequence[str], operands: Sequence[TensorType]
    ) -> Generator[Function, None, list[TensorType]]:
        """Types that hold before, between and after all iterations."""
        condition, body = names
        types = list(operands)
        for attempt in range(ATTEMPTS + 1):
            if attempt == ATTEMPTS or (self._effort < 0 and attempt):
                types = [unshaped(type.dtype) for type in types]
            yield from self._enter(body, (node, 1), types)
            widened = _joined(types, [value.type for value in self._functions[body].outputs])
            if len(widened) != len(types):
                types = [unshaped(type.dtype) for type in types]
                yield from self._enter(body, (node, 1), types)
                break
            if all(a.shape == b.shape for a, b in zip(types, widened, strict=True)):
                break
            types = widened
        yield from self._enter(condition, (node, 0), types)
        return types

    def _enter(self, name: str, site: tuple[Node, int], types: Sequence[TensorType]) -> Iterator[Function]:
        """Infer the body `name` for a call with arguments of these `types`, now or in the next round."""
        function = self._functions[name]
        if function in self._active:
            return
        if self._site_counts[name] == 1 and name not in self._open:
            self._arguments[name] = list(types)
            yield function
            return
        self._sites.setdefault(name, {})[site] = list(types)
        if name not in self._inferred:
            yield function

    def _agree(self) -> bool:
        """Give bodies with several call sites what all of these agree on; True if that says something new."""
        found_more = False
        for name, sites in self._sites.items():
            if name in self._open or len(sites) != self._site_counts[name]:
                continue
            agreed: Sequence[TensorType] | None = None
            for types in sites.values():
                agreed = types if agreed is None else _joined(agreed, types)
            previous = self._arguments.get(name, [])
            if agreed is not None and agreed != previous and any(type.shape.dims is not None for type in agreed):
                self._arguments[name] = agreed
                found_more = True
        return found_more

    def _count_sites(self) -> None:
        for graph in self._model.graphs:
            for node in graph:
                if not self._may_refer(node.op):
                    continue
                names = called_names(node, self._functions)
                for name in names:
                    self._site_counts[name] = self._site_counts.get(name, 0) + 1
                if len(names) != sum(1 for _ in callees(node)):
                    self._open.update(callees(node))
        self._open.update(s.graph.name for s in self._model.signatures.values() if isinstance(s.graph, Function))
        self._open.update(f.gradient for f in self._functions.values() if f.gradient is not None)

    def _may_refer(self, op: str) -> bool:
        operator = self.types.plan(op).operator
        interface: Interface | None = operator.interface if operator is not None else None
        return interface is None or self.types.plan(op).is_call or _takes_functions(interface)


def _takes_functions(interface: Interface) -> bool:
    return any(kind in ("func", "list(func)") for kind in interface.attr_kinds.values())


def _joined(left: Sequence[TensorType], right: Sequence[TensorType]) -> list[TensorType]:
    """Joined pairwise; empty where the lengths differ."""
    if len(left) != len(right):
        return []
    return [join_types(a, b) for a, b in zip(left, right, strict=True)]
