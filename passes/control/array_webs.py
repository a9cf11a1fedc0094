"""Tensor arrays followed through a model: all their handles and flows, and whether flows say what was written."""

from __future__ import annotations

from graphopt.ir.errors import printable
from graphopt.ir.model import ARGUMENT, Function
from graphopt.ir.value import Node, Value
from graphopt.passes.control.call_sites import Site, is_passed_through
from graphopt.passes.control.plain_variables import Loops

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
    the array's contents if writes follow one another in one chain and whatever else reads, reads where the chain ends.
    """

    def __init__(self, maker: Node, loops: Loops):
        self.maker, self.loops = maker, loops
        self.handles: dict[Value, None] = {}
        self.flows: dict[Value, None] = {}
        self.nodes: dict[Node, None] = {}
        self.identities: dict[Node, None] = {}  # of handles
        self.handle_variables: dict[tuple[Node, int], Site] = {}
        self.flow_variables: dict[tuple[Node, int], Site] = {}
        self.problem: str | None = None
        self.shared: Node | None = None  # a loop whose functions others run too is in the way
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
            return self._variable(self.loops.by_node[node], value.index, is_handle)
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
        if node in self.loops.by_node:
            return self._variable(self.loops.by_node[node], place, is_handle)
        if node.op == IDENTITY:
            return self._passing(node, is_handle)
        if node.op in FIELDS and place == (0 if is_handle else FLOW_PLACE.get(node.op, -1)):
            self.nodes[node] = None
            return [node.output] if node.op in WRITERS and not is_handle else []
        self.shared = node if node in self.loops.shared else None
        self.problem = f"'{printable(node.name)}' ({node.op_type}) reads it"
        return []

    def _interface(self, value: Value, is_handle: bool) -> list[Value]:
        """Follow an argument or result of a loop's function."""
        graph = value.node.graph
        site = self.loops.by_function.get(graph) if isinstance(graph, Function) else None
        is_run = graph is not None and site is not None and site.node.graph is not None  # dead loops were removed
        if graph is None or site is None or not is_run or (value.is_output and graph is not site.functions[1]):
            self.problem = f"'{printable(value.name)}' is an input or output of a graph"
            return []
        places = [place for place, other in enumerate(graph.inputs) if other is value]
        places += [place for place, other in enumerate(graph.outputs) if other is value]
        return [found for place in places for found in self._variable(site, place, is_handle)]

    def _variable(self, site: Site, place: int, is_handle: bool) -> list[Value]:
        (self.handle_variables if is_handle else self.flow_variables)[site.node, place] = site
        return self.loops.variable(site, place)

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
        writers: dict[Value, Node] = {}
        readers: dict[Value, None] = {}
        for flow in self.flows:
            state = self._state(flow)
            if flow.is_output:
                readers[state] = None
            for user, place in flow.uses:
                if user.op in (IDENTITY, SIZE):
                    continue
                site = self.loops.by_node.get(user)
                if user.op not in WRITERS and (site is None or is_passed_through(site.functions[1], place)):
                    readers[state] = None
                elif state in writers or self._is_in_condition(user):
                    return f"'{printable(user.name)}' writes beside the chain of writes"
                else:
                    writers[state] = user
        for state, node in writers.items():
            if state in readers:
                return f"what it holds is read before '{printable(node.name)}' writes, perhaps"
        return None

    def _state(self, flow: Value) -> Value:
        """The first of the flows that stand for the same contents."""
        while True:
            node = flow.node
            site = self.loops.by_node.get(node)
            if node.op == IDENTITY:
                flow = node.input(0)
            elif site is not None and is_passed_through(site.functions[1], flow.index):
                flow = site.operands[flow.index]
            else:
                return flow

    def _is_in_condition(self, node: Node) -> bool:
        graph = node.graph
        site = self.loops.by_function.get(graph) if isinstance(graph, Function) else None
        return site is not None and graph is site.functions[0]
