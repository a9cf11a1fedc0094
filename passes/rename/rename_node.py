"""rename-node: give one node another name."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.rename.naming import check_node_name, rename_nodes


@dataclass(frozen=True)
class RenameNode(Pass):
    """Rename the node `old` to `new`; what reads it, waits for it or is placed beside it follows.

    *Given* `rename-node{old=splitter,new=demux}`

        %splitter = tf.Split(%axis, %x) {num_split = 2}
        %adder = tf.Add(%splitter, %splitter:1)

    *Result*

        %demux = tf.Split(%axis, %x) {num_split = 2}
        %adder = tf.Add(%demux, %demux:1)

    The node may be an input or output: signatures refer to values, so callers by signature notice nothing, callers
    by node name do. `function` names the function of the library to look in, the main graph if not given. A graph
    without a node `old` is left as it is.

    Refuses an argument of a function, which has its name from the function's signature. It is an error where another
    node is called `new`, where `new` cannot be a node's name, or where there is no such function.
    """

    old: str = ""
    new: str = ""
    function: str | None = None

    def run(self, model: Model, context: PassContext) -> None:
        """Rename in one graph."""
        if not self.old:
            raise UsageError(f"{self.name}: 'old' must name the node to rename")
        check_node_name(self.new, self.name)
        if self.function is not None and self.function not in model.functions:
            raise UsageError(f"{self.name}: the library has no function '{printable(self.function)}'")
        self.run_graph(model.graph if self.function is None else model.functions[self.function], context)

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Rename in `graph`."""
        node = graph.find(self.old)
        if node is None:
            context.log.note(f"graph '{printable(graph.name)}' has no node '{printable(self.old)}'")
            return
        if self.old == self.new:
            return
        if graph.find(self.new) is not None:
            raise UsageError(
                f"{self.name}: '{printable(self.old)}' cannot be renamed: graph '{printable(graph.name)}' already has "
                f"a node '{printable(self.new)}'"
            )
        if isinstance(graph, Function) and node.op == ARGUMENT:
            context.refused(self.name, node, "it is an argument, named by the function's signature")
        elif context.allows(self.name):
            rename_nodes(graph, {node: self.new})
            context.rewrote(self.name, added=(node,))
