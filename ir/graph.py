"""A graph: nodes in an order that is cheap to edit, unique names, inputs, outputs and targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from graphopt.ir.errors import GraphError, printable
from graphopt.ir.traversal import depth_first, find_cycle
from graphopt.ir.types import UNKNOWN_TYPE, TensorType
from graphopt.ir.value import Node, Value

if TYPE_CHECKING:
    from graphopt.ir.model import Model


class Graph:
    """A list of nodes that may be edited while it is iterated.

    Iterating visits the nodes present when it reaches them: a node appended or inserted after the current one is
    visited, one inserted before it is not, one removed before its turn is not. Removing the current node is safe.

    `inputs` are the values that callers feed, `outputs` those they fetch, `targets` nodes they run for effect;
    all three, with their names, belong to the contract: passes keep them.
    """

    def __init__(self, name: str = "main"):
        self.name = name
        self.model: Model | None = None
        self.metadata: dict[str, Any] = {}  # what a format needs to write the graph back
        self._names: dict[str, Node] = {}
        self._first: Node | None = None
        self._last: Node | None = None
        self._inputs: tuple[Value, ...] = ()
        self._outputs: tuple[Value, ...] = ()
        self._targets: dict[Node, None] = {}
        self._suffixes: dict[str, int] = {}

    # Reading --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Node]:
        node = self._first
        while node is not None:
            if node.graph is self:
                yield node
            node = node._next

    def __reversed__(self) -> Iterator[Node]:
        node = self._last
        while node is not None:
            if node.graph is self:
                yield node
            node = node._prev

    def __contains__(self, item: object) -> bool:
        return isinstance(item, Node) and item.graph is self

    def __repr__(self) -> str:
        return f"<Graph {printable(self.name)}: {len(self)} nodes>"

    def find(self, name: str) -> Node | None:
        """The node called `name`, or None."""
        return self._names.get(name)

    def node(self, name: str) -> Node:
        """The node called `name`. Raises `GraphError` if there is none."""
        found = self._names.get(name)
        if found is None:
            raise GraphError(f"there is no node '{printable(name)}' in graph '{printable(self.name)}'")
        return found

    def value(self, name: str) -> Value:
        """The value that a tensor name means: `conv`, `conv:0`, `split:1`."""
        base, colon, port = name.rpartition(":")
        if not colon or not port.isdecimal():
            base, port = name, "0"
        node, index = self.node(base), int(port)
        if index >= len(node.outputs):
            raise GraphError(f"node '{printable(base)}' ({node.op}) has no output {index}")
        return node.outputs[index]

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Values that callers feed, in order."""
        return self._inputs

    @inputs.setter
    def inputs(self, values: Iterable[Value]) -> None:
        new = tuple(values)
        self._check_own(new)
        for value in self._inputs:
            value._inputs -= 1
        for value in new:
            value._inputs += 1
        self._inputs = new

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Values that callers fetch, in order; one may be listed twice."""
        return self._outputs

    @outputs.setter
    def outputs(self, values: Iterable[Value]) -> None:
        new = tuple(values)
        self._check_own(new)
        for value in self._outputs:
            value._outputs -= 1
        for value in new:
            value._outputs += 1
        self._outputs = new

    @property
    def targets(self) -> tuple[Node, ...]:
        """Nodes that callers run without fetching a value, in order."""
        return tuple(self._targets)

    @targets.setter
    def targets(self, nodes: Iterable[Node]) -> None:
        new = dict.fromkeys(nodes)
        for node in new:
            if node.graph is not self:
                raise GraphError(f"node '{printable(node.name)}' is not of graph '{printable(self.name)}'")
        self._targets = new

    # Editing --------------------------------------------------------------------------------------------------

    def create_node(
        self,
        op: str,
        inputs: Iterable[Value | None] = (),
        attrs: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        types: Sequence[TensorType] = (UNKNOWN_TYPE,),
        before: Node | None = None,
        control_inputs: Iterable[Node] = (),
        device: str = "",
        origins: tuple[str, ...] = (),
    ) -> Node:
        """Make a node with one output for each of `types` and put it before `before`, or last.

        The name is made unique; without one the operator's name is taken.
        """
        if before is not None and before.graph is not self:
            raise GraphError(f"node '{printable(before.name)}' is not of graph '{printable(self.name)}'")
        node = Node(op, self.unique_name(name or op.partition(".")[2]), attrs, device)
        node.origins = origins
        for type in types:
            node.add_output(type)
        node.set_inputs(inputs)
        for control in control_inputs:
            node.add_control_input(control)
        self.insert(node, before)
        return node

    def insert(self, node: Node, before: Node | None = None) -> None:
        """Add a node that belongs to no graph before `before`, or last. Its name must be free."""
        if node.graph is not None:
            raise GraphError(f"node '{printable(node.name)}' already belongs to a graph")
        if node.name in self._names:
            raise GraphError(f"graph '{printable(self.name)}' already has a node '{printable(node.name)}'")
        if before is not None and before.graph is not self:
            raise GraphError(f"node '{printable(before.name)}' is not of graph '{printable(self.name)}'")
        self._names[node.name] = node
        node.graph = self
        self._link(node, before)

    def append_new(self, node: Node) -> None:
        """`insert` at the end for readers, which have checked that `node` is free and its name too."""
        self._names[node._name] = node
        node.graph = self
        last = self._last
        node._prev = last
        if last is None:
            self._first = node
        else:
            last._next = node
        self._last = node

    def move(self, node: Node, before: Node | None) -> None:
        """Put a node of this graph before `before`, or last."""
        if node.graph is not self or (before is not None and before.graph is not self):
            raise GraphError(f"node '{printable(node.name)}' cannot move: not of graph '{printable(self.name)}'")
        if before is not node:
            self._unlink(node)
            self._link(node, before)

    def remove(self, node: Node) -> None:
        """Take out a node that nothing uses. Raises `GraphError`, and changes nothing, if something does."""
        if node.graph is not self:
            raise GraphError(f"node '{printable(node.name)}' is not of graph '{printable(self.name)}'")
        if node.has_uses:
            raise GraphError(f"node '{printable(node.name)}' is still in use")
        self._take_out(node)

    def remove_all(self, nodes: Iterable[Node]) -> None:
        """Take out nodes that use one another, in any order, even in cycles, and that nothing else uses."""
        doomed = dict.fromkeys(nodes)
        for node in doomed:
            if node.graph is not self:
                raise GraphError(f"node '{printable(node.name)}' is not of graph '{printable(self.name)}'")
            if node in self._targets or any(value._outputs or value._inputs for value in node.outputs):
                raise GraphError(f"node '{printable(node.name)}' is an input, an output or a target of the graph")
            for user in node.successors():
                if user not in doomed:
                    raise GraphError(f"node '{printable(node.name)}' is still used by '{printable(user.name)}'")
        for node in doomed:
            self._take_out(node)

    def replace_value(self, old: Value, new: Value) -> None:
        """Make `new` stand wherever `old` does: in every node that reads it, and among the outputs.

        Names are not moved: a rewrite that must keep an output's name renames nodes first (`Graph.rename`).
        """
        self._check_own((old, new))
        old.replace_all_uses_with(new)
        if old._outputs:
            self.outputs = tuple(new if value is old else value for value in self._outputs)

    def rename(self, node: Node, name: str) -> None:
        """Give `node` another name. Raises `GraphError` if it is taken."""
        if node.graph is not self:
            raise GraphError(f"node '{printable(node.name)}' is not of graph '{printable(self.name)}'")
        if name == node.name:
            return
        if name in self._names:
            raise GraphError(f"graph '{printable(self.name)}' already has a node '{printable(name)}'")
        del self._names[node.name]
        node._name = name
        self._names[name] = node

    def unique_name(self, base: str) -> str:
        """`base`, or `base_1`, `base_2` and so on: the first that is free."""
        if base not in self._names:
            return base
        count = self._suffixes.get(base, 0)
        while True:
            count += 1
            name = f"{base}_{count}"
            if name not in self._names:
                self._suffixes[base] = count
                return name

    def sort(self) -> None:
        """Put the nodes in topological order, stably. Raises `GraphError` on a cycle outside v1 loops."""
        self.reorder(self.topological_order())

    def reorder(self, order: Sequence[Node]) -> None:
        """Put the nodes in `order`, which must list each node of the graph once."""
        if len(order) != len(self) or len(dict.fromkeys(order)) != len(self):
            raise GraphError(f"an order of graph '{printable(self.name)}' must list each of its nodes once")
        self._check_nodes(order)
        previous: Node | None = None
        for node in order:
            node._prev = previous
            if previous is not None:
                previous._next = node
            previous = node
        self._first = order[0] if order else None
        self._last = previous
        if previous is not None:
            previous._next = None

    def topological_order(self, roots: Iterable[Node] = ()) -> list[Node]:
        """Producers before consumers: what `roots` need in the order they need it, then the rest as listed.

        Without roots a sorted list comes back unchanged. Iterative and linear. The back edges of v1 loops (from
        `NextIteration`) are not counted. Raises `GraphError` naming the nodes of any other cycle.
        """
        order = depth_first(self, roots)
        if order is None:
            cycle = " -> ".join(f"'{printable(node.name)}'" for node in self.find_cycle()[:8])
            raise GraphError(f"graph '{printable(self.name)}' has a cycle: {cycle}")
        return order

    def find_cycle(self) -> list[Node]:
        """Nodes of one cycle other than a v1 loop's, in order; empty if there is none."""
        return find_cycle(self)

    # Inside ---------------------------------------------------------------------------------------------------

    def _check_own(self, values: Iterable[Value]) -> None:
        self._check_nodes(value.node for value in values)

    def _check_nodes(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if node.graph is not self:
                raise GraphError(f"node '{printable(node.name)}' is not of graph '{printable(self.name)}'")

    def _take_out(self, node: Node) -> None:
        node._forget_inputs()
        for control in node.control_inputs:
            node.remove_control_input(control)
        del self._names[node.name]
        self._unlink(node)
        node.graph = None

    def _link(self, node: Node, before: Node | None) -> None:
        previous = self._last if before is None else before._prev
        node._prev, node._next = previous, before
        if previous is None:
            self._first = node
        else:
            previous._next = node
        if before is None:
            self._last = node
        else:
            before._prev = node

    def _unlink(self, node: Node) -> None:
        """The node keeps its own links, so that an iteration standing on it finds its way on."""
        previous, following = node._prev, node._next
        if previous is None:
            self._first = following
        else:
            previous._next = following
        if following is None:
            self._last = previous
        else:
            following._prev = previous
