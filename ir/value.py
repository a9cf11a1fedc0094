"""Nodes and values: what a graph is made of.

Edges change only through methods here, so that a value always knows its uses. A `Node` belongs to at most one
`Graph`; the graph keeps order and names (`graph.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from graphopt.ir.attributes import Attribute
from graphopt.ir.errors import GraphError, printable
from graphopt.ir.types import UNKNOWN_TYPE, DType, Shape, TensorType

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph

WIDE = 32  # inputs beyond which a node keeps a list inside, so that replacing one stays O(1)


class Value:
    """One output of a node: its type, its producer and who uses it.

    `type` says what is known (dtype, shape, quantization) and may be refined. `uses` iterates in the order in
    which the uses were made.
    """

    __slots__ = ("_inputs", "_name", "_outputs", "_uses", "index", "node", "type")

    def __init__(self, node: Node, index: int, type: TensorType = UNKNOWN_TYPE):
        self.node, self.index, self.type = node, index, type
        self._uses: dict[tuple[Node, int], None] | None = None
        self._inputs = self._outputs = 0  # how many times the graph lists the value as an input, as an output
        self._name: str | None = None

    @property
    def name(self) -> str:
        """The tensor's name: given, or `node` for the first output and `node:1` and so on for the others."""
        if self._name is not None:
            return self._name
        return self.node.name if self.index == 0 else f"{self.node.name}:{self.index}"

    @name.setter
    def name(self, name: str | None) -> None:
        self._name = name

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        """Shape as far as it is known."""
        return self.type.shape

    @property
    def uses(self) -> tuple[tuple[Node, int], ...]:
        """Every `(node, input position)` that reads this value. A snapshot: safe to edit while iterating."""
        return tuple(self._uses) if self._uses else ()

    @property
    def users(self) -> tuple[Node, ...]:
        """The nodes that read this value, each once."""
        return tuple(dict.fromkeys(node for node, _ in self._uses)) if self._uses else ()

    @property
    def use_count(self) -> int:
        """Number of uses by nodes; being a graph output is not counted."""
        return len(self._uses) if self._uses else 0

    @property
    def is_output(self) -> bool:
        """The graph lists this value as an output."""
        return self._outputs > 0

    @property
    def is_input(self) -> bool:
        """The graph lists this value as an input."""
        return self._inputs > 0

    def replace_all_uses_with(self, other: Value) -> int:
        """Make every node that reads this value read `other`; the graph's outputs stay. Returns the number of uses.

        For outputs, which carry names that callers rely on, see `Graph.replace_value`.
        """
        if other is self or not self._uses:
            return 0
        uses, self._uses = self._uses, None
        other_uses = other._uses
        if other_uses is None:
            other_uses = other._uses = {}
        for use in uses:
            node, index = use
            node._store_input(index, other)
            other_uses[use] = None
        return len(uses)

    def __repr__(self) -> str:
        return f"<Value {printable(self.name)}: {self.type}>"


class Node:
    """One operation: operator with its dialect (`tf.Conv2D`), inputs, outputs, attributes, control inputs.

    `origins` are names of the source nodes it stands for, kept through every rewrite; empty means its own name.
    `extras` holds what a format needs to write the node back and nobody else reads.
    """

    __slots__ = (
        "_control_inputs",
        "_control_users",
        "_inputs",
        "_name",
        "_next",
        "_prev",
        "attrs",
        "device",
        "extras",
        "graph",
        "op",
        "origins",
        "outputs",
    )

    def __init__(self, op: str, name: str, attrs: dict[str, Any] | None = None, device: str = ""):
        self.op, self._name, self.device = op, name, device
        self.attrs: dict[str, Any] = {} if attrs is None else attrs
        self.outputs: list[Value] = []
        self.origins: tuple[str, ...] = ()
        self.extras: Any = None
        self.graph: Graph | None = None
        self._inputs: tuple[Value | None, ...] | list[Value | None] = ()
        self._control_inputs: dict[Node, None] | None = None
        self._control_users: dict[Node, None] | None = None
        self._prev: Node | None = None
        self._next: Node | None = None

    # Identity -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Unique within the graph; change it with `Graph.rename`."""
        return self._name

    @property
    def dialect(self) -> str:
        """`tf` of `tf.Conv2D`."""
        return self.op.partition(".")[0]

    @property
    def op_type(self) -> str:
        """`Conv2D` of `tf.Conv2D`."""
        return self.op.partition(".")[2]

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the source nodes this node stands for."""
        return self.origins or (self._name,)

    def __repr__(self) -> str:
        return f"<Node {printable(self._name)} = {self.op}>"

    # Outputs --------------------------------------------------------------------------------------------------

    def add_output(self, type: TensorType = UNKNOWN_TYPE) -> Value:
        """Append one more output."""
        value = Value(self, len(self.outputs), type)
        self.outputs.append(value)
        return value

    @property
    def output(self) -> Value:
        """The first output."""
        return self.outputs[0]

    @property
    def has_uses(self) -> bool:
        """Something needs this node: another node, or the graph, which lists it as an input, output or target."""
        if self._control_users:
            return True
        for value in self.outputs:
            if value._uses or value._outputs or value._inputs:
                return True
        return self.graph is not None and self in self.graph._targets

    # Data inputs ----------------------------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """The values read, in order; None only for an optional input left out (TFLite)."""
        inputs = self._inputs
        return inputs if type(inputs) is tuple else tuple(inputs)

    @property
    def input_count(self) -> int:
        """Number of data inputs."""
        return len(self._inputs)

    def input(self, index: int) -> Value:
        """The value read at `index`. Raises `GraphError` where it was left out or there is no such input."""
        inputs = self._inputs
        value = inputs[index] if -len(inputs) <= index < len(inputs) else None
        if value is None:
            raise GraphError(f"node '{printable(self._name)}' ({self.op}) has no input {index}")
        return value

    def set_inputs(self, values: Iterable[Value | None]) -> None:
        """Replace all data inputs."""
        new = tuple(values)
        self._forget_inputs()
        self._inputs = new if len(new) <= WIDE else list(new)
        for index, value in enumerate(new):
            if value is not None:
                if value._uses is None:
                    value._uses = {}
                value._uses[(self, index)] = None

    def replace_input(self, index: int, value: Value | None) -> None:
        """Read `value` at `index` instead of what is read there now."""
        inputs = self._inputs
        if not 0 <= index < len(inputs):
            raise GraphError(f"node '{printable(self._name)}' ({self.op}) has no input {index}")
        old = inputs[index]
        if old is value:
            return
        if old is not None and old._uses is not None:
            old._uses.pop((self, index), None)
        self._store_input(index, value)
        if value is not None:
            if value._uses is None:
                value._uses = {}
            value._uses[(self, index)] = None

    def _store_input(self, index: int, value: Value | None) -> None:
        inputs = self._inputs
        if type(inputs) is list:
            inputs[index] = value
        else:
            self._inputs = (*inputs[:index], value, *inputs[index + 1 :])

    def _forget_inputs(self) -> None:
        for index, value in enumerate(self._inputs):
            if value is not None and value._uses is not None:
                value._uses.pop((self, index), None)
        self._inputs = ()

    # Control inputs -------------------------------------------------------------------------------------------

    @property
    def control_inputs(self) -> tuple[Node, ...]:
        """Nodes that must run before this one, in order, each once."""
        return tuple(self._control_inputs) if self._control_inputs else ()

    @property
    def control_users(self) -> tuple[Node, ...]:
        """Nodes that wait for this one."""
        return tuple(self._control_users) if self._control_users else ()

    def add_control_input(self, node: Node) -> None:
        """Wait for `node`; nothing happens if this node already does."""
        if node is self:
            raise GraphError(f"node '{printable(self._name)}' cannot wait for itself")
        if self._control_inputs is None:
            self._control_inputs = {}
        if node._control_users is None:
            node._control_users = {}
        self._control_inputs[node] = None
        node._control_users[self] = None

    def remove_control_input(self, node: Node) -> None:
        """Wait for `node` no longer."""
        if self._control_inputs:
            self._control_inputs.pop(node, None)
        if node._control_users:
            node._control_users.pop(self, None)

    def set_control_inputs(self, nodes: Iterable[Node]) -> None:
        """Replace all control inputs."""
        new = list(nodes)
        if self in new:
            raise GraphError(f"node '{printable(self._name)}' cannot wait for itself")
        for node in self.control_inputs:
            self.remove_control_input(node)
        for node in new:
            self.add_control_input(node)

    # Attributes -----------------------------------------------------------------------------------------------

    def attr(self, name: str, default: Attribute = None) -> Any:
        """The attribute `name`, or `default` where the node does not carry it.

        What the operator itself defaults to is the operator table's to say: `ops.attributes(node)`.
        """
        return self.attrs.get(name, default)

    def predecessors(self) -> Iterator[Node]:
        """Producers of the data inputs, then the control inputs."""
        for value in self._inputs:
            if value is not None:
                yield value.node
        if self._control_inputs:
            yield from tuple(self._control_inputs)

    def successors(self) -> Iterator[Node]:
        """Readers of the outputs, then the nodes that wait."""
        for value in self.outputs:
            yield from value.users
        if self._control_users:
            yield from tuple(self._control_users)


def values_of(nodes: Sequence[Node]) -> Iterator[Value]:
    """All outputs of `nodes`."""
    for node in nodes:
        yield from node.outputs
