"""Tensor arrays followed through a model: all their handles and flows, and whether flows say what was written."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import ARGUMENT, Function
from graphopt.ir.types import Shape
from graphopt.ir.value import Node, Value
from graphopt.passes.control.call_sites import Site, argument_passed, is_passed_through
from graphopt.passes.control.plain_variables import Loops, Slot

ARRAY, IDENTITY = "tf.TensorArrayV3", "tf.Identity"
WRITE, SCATTER, SPLIT = "tf.TensorArrayWriteV3", "tf.TensorArrayScatterV3", "tf.TensorArraySplitV3"
READ, GATHER, CONCAT = "tf.TensorArrayReadV3", "tf.TensorArrayGatherV3", "tf.TensorArrayConcatV3"
SIZE, CLOSE = "tf.TensorArraySizeV3", "tf.TensorArrayCloseV3"
WRITERS = (WRITE, SCATTER, SPLIT)
# Operator -> the place of the flow among its inputs; the handle is the first.
FLOW_PLACE: dict[str, int] = {WRITE: 3, SCATTER: 3, SPLIT: 3, READ: 2, GATHER: 2, CONCAT: 1, SIZE: 1}
FIELDS = frozenset({*FLOW_PLACE, CLOSE})


class ArrayWeb:
    """The handles and flows of one tensor array and the nodes that use them.

    `problem` says why flows do not tell what the array holds, or why not all of its uses are known. A flow stands for
    the array's contents if writes follow one another in one chain, and nothing that depends on a write, or is returned,
    has a flow from before it. A read that a write follows sees the same elements before and after it, as an element can
    be written once only, and not after it was read.
    """

    def __init__(self, maker: Node, loops: Loops):
        self.maker, self.loops = maker, loops
        self.handles: dict[Value, None] = {}
        self.flows: dict[Value, None] = {}
        self.nodes: dict[Node, None] = {}
        self.identities: dict[Node, None] = {}  # of handles
        self.handle_slots: dict[Slot, None] = {}
        self.flow_slots: dict[Slot, None] = {}
        self._orders: dict[Graph, dict[Node, int]] = {}
        self.problem: str | None = None
        self.shared: Node | None = None  # a call whose functions others run too is in the way
        pending = [(maker.outputs[0], True), (maker.outputs[1], False)]
        while pending and self.problem is None:
            value, is_handle = pending.pop()
            seen = self.handles if is_handle else self.flows
            if value not in seen:
                seen[value] = None
                found = self._producer(value, is_handle)
                for user, place in value.uses:
                    found += self._reader(user, place, is_handle)
                if value.is_output or value.is_input:
                    found += self._interface(value, is_handle)
                pending += [(other, is_handle) for other in found]
        self.problem = self.problem or self._mismatch() or self._disorder()

    # Following ------------------------------------------------------------------------------------------------

    def _producer(self, value: Value, is_handle: bool) -> list[Value]:
        node = value.node
        if node is self.maker and value.index == (0 if is_handle else 1):
            return []
        if node.op == IDENTITY or (node.op in WRITERS and not is_handle):
            return self._passing(node, is_handle)
        if node in self.loops.by_node:
            return self._slot(self.loops.yielded(value), is_handle)
        if node.op != ARGUMENT:
            self.shared = node if node in self.loops.shared else None
            self.problem = f"'{printable(node.name)}' ({node.op_type}) may yield it too"
        return []

    def _passing(self, node: Node, is_handle: bool) -> list[Value]:
        """Follow an identity, or a write's flow."""
        if is_handle:
            self.identities[node] = None
            targeted = node.graph is not None and node in node.graph.targets
            if targeted or node.control_users or node.control_inputs:
                self.problem = f"'{printable(node.name)}' passes on its handle and orders other nodes"
            return [node.input(0), node.output]
        self.nodes[node] = None
        return [node.input(0 if node.op == IDENTITY else FLOW_PLACE[node.op]), node.output]

    def _reader(self, node: Node, place: int, is_handle: bool) -> list[Value]:
        slot = self.loops.read_at(node, place) if node in self.loops.by_node else None
        if slot is not None:
            return self._slot(slot, is_handle)
        if node.op == IDENTITY:
            return self._passing(node, is_handle)
        if node.op in FIELDS and place == (0 if is_handle else FLOW_PLACE.get(node.op, -1)):
            self.nodes[node] = None
            return [node.output] if node.op in WRITERS and not is_handle else []
        self.shared = node if node in self.loops.shared else None
        self.problem = f"'{printable(node.name)}' ({node.op_type}) reads it"
        return []

    def _interface(self, value: Value, is_handle: bool) -> list[Value]:
        """Follow an argument or result of a function."""
        slots = self.loops.interface(value)
        if slots is None:
            self.problem = f"'{printable(value.name)}' is an input or output of a graph"
        return [found for slot in slots or () for found in self._slot(slot, is_handle)]

    def _slot(self, slot: Slot, is_handle: bool) -> list[Value]:
        slots = self.handle_slots if is_handle else self.flow_slots
        if slot in slots:
            return []
        slots[slot] = None
        return slot.values

    # Judging --------------------------------------------------------------------------------------------------

    def _mismatch(self) -> str | None:
        """A node that uses this array with another's flow, or the other way around."""
        for node in self.nodes:
            if node.op == IDENTITY:
                continue
            place = FLOW_PLACE.get(node.op)
            if node.input(0) not in self.handles or (place is not None and node.input(place) not in self.flows):
                return f"'{printable(node.name)}' has the flow of something else"
        return None

    def _disorder(self) -> str | None:
        """Why a flow does not stand for what was written before it."""
        changing = self._changing()
        writers: dict[Value, Node] = {}
        readers: dict[Value, list[Node]] = {}
        returned: dict[Value, None] = {}
        for flow in self.flows:
            state = self._state(flow)
            if flow.is_output:
                returned[state] = None
            for user, place in flow.uses:
                if user.op in (IDENTITY, SIZE):
                    continue
                site = self.loops.by_node.get(user)
                if user.op not in WRITERS and (site is None or not self._is_written_by(site, place, changing)):
                    readers.setdefault(state, []).append(user)
                elif state in writers or self._is_in_condition(user):
                    return f"'{printable(user.name)}' writes beside the chain of writes"
                else:
                    writers[state] = user
        for state, node in writers.items():
            if state in returned or self._is_before(node, readers.get(state, ())):
                return f"what it holds is read before '{printable(node.name)}' writes, perhaps"
        return self._unwritten(readers.get(self.maker.outputs[1], ()))

    def _changing(self) -> dict[Node, None]:
        """The calls within which the array is written."""
        found: dict[Node, None] = {}
        for node in self.nodes:
            graph = node.graph if node.op in WRITERS else None
            while isinstance(graph, Function) and graph is not self.maker.graph:
                site = self.loops.by_function.get(graph)
                if site is None or site.node in found:
                    break
                found[site.node] = None
                graph = site.node.graph
        return found

    def _is_written_by(self, site: Site, place: int, changing: dict[Node, None]) -> bool:
        """A call writes into what its input `place` stands for, or does not say which of its flows it yields."""
        if site.node in changing:
            return True
        if site.is_loop:
            return not is_passed_through(site.functions[1], place)
        results = [slot.place for slot in self.flow_slots if slot.is_result and slot.site is site]
        return any(_passed_on(site, result) is None for result in results)

    def _is_before(self, writer: Node, readers: Sequence[Node]) -> bool:
        """One of `readers` depends on `writer`, or is that itself."""
        graph = writer.graph
        if not readers or graph is None:
            return False
        if graph not in self._orders:
            self._orders[graph] = {node: number for number, node in enumerate(graph.topological_order())}
        order, wanted = self._orders[graph], dict.fromkeys(readers)
        last = max(order[node] for node in readers)
        seen, pending = {writer: None}, [writer]
        while pending:
            node = pending.pop()
            if node in wanted:
                return True
            for user in node.successors():
                if user not in seen and order[user] <= last:
                    seen[user] = None
                    pending.append(user)
        return False

    def _unwritten(self, readers: Sequence[Node]) -> str | None:
        """A read of what nothing was written to, which fails where the shape of elements is not stated."""
        declared = self.maker.attrs.get("element_shape")
        if isinstance(declared, Shape) and declared.static is not None:
            return None
        return next(
            (
                f"'{printable(node.name)}' reads before anything is written, and no shape of elements is stated"
                for node in readers
                if node.op in FIELDS
            ),
            None,
        )

    def _state(self, flow: Value) -> Value:
        """The first of the flows that stand for the same contents."""
        while True:
            node = flow.node
            site = self.loops.by_node.get(node)
            origin = None if site is None else _passed_on(site, flow.index)
            if node.op == IDENTITY:
                flow = node.input(0)
            elif site is not None and origin is not None:
                flow = site.operands[origin]
            else:
                return flow

    def _is_in_condition(self, node: Node) -> bool:
        graph = node.graph
        site = self.loops.by_function.get(graph) if isinstance(graph, Function) else None
        return site is not None and site.is_loop and graph is site.functions[0]


def _passed_on(site: Site, result: int) -> int | None:
    """Which operand a call yields as its result `result`, whichever function runs; None if that is not so."""
    if site.is_loop:
        return result if is_passed_through(site.functions[1], result) else None
    origins = dict.fromkeys(argument_passed(function, result) for function in site.functions)
    return next(iter(origins)) if len(origins) == 1 else None
