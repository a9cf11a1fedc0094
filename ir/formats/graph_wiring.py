"""Names of inputs into edges, in the main graph and in function bodies.

Nodes may come in any order: what a node reads is connected at once where it is already there, and at the end where it
is not. A graph in which nothing was left for the end has no cycles; any other is searched for them.
"""

from __future__ import annotations

from graphopt.ir.errors import MalformedError, printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.node_def import NodeExtras, NodeReader, located
from graphopt.ir.formats.op_layout import Layout
from graphopt.ir.graph import Graph
from graphopt.ir.traversal import BACK_EDGE_SOURCES
from graphopt.ir.value import WIDE, Node, Value


class Wiring:
    """Connects the nodes of one graph by the names that they give for their inputs."""

    def __init__(self, reader: NodeReader, graph: Graph):
        self.reader, self.graph, self.names = reader, graph, graph._names
        self.layouts: dict[Node, Layout] = {}  # of nodes whose outputs are not fixed, or are referred to by port
        self.late: list[tuple[Node, list[str]]] = []

    def add_main_nodes(self, start: int, end: int) -> None:
        """Append every `node` field (number 1) between `start` and `end` of a GraphDef."""
        buffer, names, read, make = self.reader.buffer, self.names, self.reader.read, self.reader.node
        append, position = self.graph.append_new, start
        while position < end:
            if buffer[position] != 0x0A:
                _, _, position = next(wire.fields(buffer, position, end))
                continue
            size, begin = buffer[position + 1], position + 2
            if size > 0x7F:
                begin, position = wire.read_length(buffer, position + 1, end)
            else:
                position = begin + size
            name, inputs, template = read(begin, position)
            if name in names:
                raise MalformedError("two nodes have this name", node=name)
            node = make(name, template)
            append(node)
            if template.layout.is_open:
                self.layouts[node] = template.layout
            values = []
            for text in inputs:
                producer = names.get(text)
                if producer is None or producer is node or not producer.outputs:
                    self.connect(node, inputs)
                    break
                values.append(producer.outputs[0])
            else:
                attach(node, values)

    def connect(self, node: Node, inputs: list[str], is_last: bool = False) -> None:
        """Connect `node`, or keep it for the end if not everything it reads is there yet."""
        values: list[Value] = []
        controls: list[Node] = []
        try:
            for text in inputs:
                if text[:1] == "^":
                    source = self.names.get(text[1:])
                    if source is node:
                        raise MalformedError("waits for itself", field="input")
                    if source is not None:
                        controls.append(source)
                        continue
                elif controls:
                    raise MalformedError(f"'{printable(text)}' comes after a control input", field="input")
                else:
                    found = self.find(text)
                    if found is not None and (is_last or not found or found[0].node is not node):
                        self.reader.budget.take(len(found) - 1)
                        values += found
                        continue
                if is_last:
                    raise MalformedError(f"there is no node for '{printable(text)}'", field="input")
                self.late.append((node, inputs))
                return
        except MalformedError as error:
            raise located(error, node.name) from None
        attach(node, values)
        for source in controls:
            node.add_control_input(source)

    def find(self, text: str) -> list[Value] | None:
        """The values an input refers to, None if its node is not there yet. Raises `MalformedError`."""
        producer = self.names.get(text)
        index = 0
        if producer is None:
            name, colon, place = text.rpartition(":")
            if not colon or not (place.isascii() and place.isdecimal()) or len(place) > 9:
                return None
            producer, index = self.names.get(name), int(place)
            if producer is None:
                return None
        if index < len(producer.outputs):
            return [producer.outputs[index]]
        if producer not in self.layouts:
            raise MalformedError(
                f"reads output {index} of '{printable(producer.name)}' ({producer.op}), "
                f"which has {len(producer.outputs)}",
                field="input",
            )
        return [self.reader.grow(producer, index)]

    def finish(self) -> None:
        """Connect what was left for the end. Raises `MalformedError` for dangling inputs and cycles."""
        late, self.late = self.late, []
        for node, inputs in late:
            self.connect(node, inputs, is_last=True)
        if any(self._may_close_a_cycle(node) for node, _ in late):
            cycle = self.graph.find_cycle()
            if cycle:
                names = " -> ".join(f"'{printable(node.name)}'" for node in (*cycle[:8], cycle[0]))
                more = f" (through {len(cycle)} nodes)" if len(cycle) > 8 else ""
                raise MalformedError(f"the graph has a cycle: {names}{more}", node=cycle[0].name)

    def _may_close_a_cycle(self, node: Node) -> bool:
        return bool(node._control_inputs) or any(
            value is not None and value.node.op not in BACK_EDGE_SOURCES for value in node._inputs
        )


class BodyWiring(Wiring):
    """Connects a function body, whose nodes name tensors as `node:output:place` and arguments by their own name."""

    def __init__(self, reader: NodeReader, graph: Graph):
        super().__init__(reader, graph)
        self.found: dict[str, list[Value]] = {}
        self.ports: dict[Node, dict[str, int]] = {}  # made-up numbering of the outputs of unknown operators

    def add_node(self, start: int, stop: int) -> None:
        """Append the NodeDef between `start` and `stop` to the body."""
        name, inputs, template = self.reader.read(start, stop)
        if name in self.names:
            raise MalformedError("two nodes or arguments have this name", node=name)
        node = self.reader.node(name, template)
        self.graph.append_new(node)
        self.layouts[node] = template.layout
        self.connect(node, inputs)

    def find(self, text: str) -> list[Value] | None:
        values = self.found.get(text)
        if values is None:
            values = self._find(text)
            if values is not None:
                self.found[text] = values
        return values

    def _find(self, text: str) -> list[Value] | None:
        name, _, rest = text.partition(":")
        producer = self.names.get(name)
        if producer is None:
            return None
        layout = self.layouts.get(producer)
        if layout is None:  # an argument
            return [self._argument(producer, rest)]
        port, colon, place = rest.partition(":")
        if colon and not (place.isascii() and place.isdecimal() and len(place) < 9):
            raise MalformedError(f"'{printable(text)}' names no tensor", field="input")
        for declared, start, count in layout.ports:
            if declared == port:
                if not colon:
                    return producer.outputs[start : start + count]
                if int(place) < count:
                    return [producer.outputs[start + int(place)]]
                break
        else:
            if layout.is_open and port:
                return [self._made_up(producer, layout, port, place or "0")]
        raise MalformedError(f"'{printable(text)}' is no output of that node ({producer.op})", field="input")

    def _argument(self, node: Node, place: str) -> Value:
        if not place:
            return node.outputs[0]
        if not (place.isascii() and place.isdecimal() and len(place) < 9):
            raise MalformedError(f"argument '{printable(node.name)}' has no '{printable(place)}'", field="input")
        if int(place) < len(node.outputs):
            return node.outputs[int(place)]
        if not node.extras.is_list:
            raise MalformedError(f"argument '{printable(node.name)}' is one tensor", field="input")
        return self.reader.grow(node, int(place))

    def name_ports(self) -> None:
        """Keep the names of the outputs of unknown operators with their nodes."""
        for node, ports in self.ports.items():
            known = [f"{name}:{place}" for name, _, count in self.layouts[node].ports for place in range(count)]
            raw = node.extras.raw if node.extras is not None else b""
            node.extras = NodeExtras(raw, (*known, *ports))

    def _made_up(self, node: Node, layout: Layout, port: str, place: str) -> Value:
        ports = self.ports.setdefault(node, {})
        index = ports.setdefault(f"{port}:{place}", len(layout.types) + len(ports))
        return self.reader.grow(node, index)


def attach(node: Node, values: list[Value]) -> None:
    """`node.set_inputs` for a node that has none yet."""
    node._inputs = tuple(values) if len(values) <= WIDE else list(values)
    for index, value in enumerate(values):
        uses = value._uses
        if uses is None:
            value._uses = {(node, index): None}
        else:
            uses[node, index] = None
