"""set-device: say where nodes run."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.graph import Graph
from graphopt.ir.model import ARGUMENT
from graphopt.passes.base import Pass, PassContext


@dataclass(frozen=True)
class SetDevice(Pass):
    """Place all nodes on `device`, or with an empty one, the default, nowhere in particular.

    *Given* `set-device{device="/device:CPU:0"}`

        %a = tf.Relu(%x) device("/device:GPU:1")
        %y = tf.Neg(%a)

    *Result*

        %a = tf.Relu(%x) device("/device:CPU:0")
        %y = tf.Neg(%a) device("/device:CPU:0")

    With `if_default`, nodes that are placed somewhere already stay there.

    Refuses nothing. Arguments of functions have no device of their own.
    """

    device: str = ""
    if_default: bool = False

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Place the nodes of one graph."""
        for node in graph:
            if node.device == self.device or (self.if_default and node.device) or node.op == ARGUMENT:
                continue
            if context.allows(self.name):
                node.device = self.device
                context.rewrote(self.name, removed=(node,), added=(node,))
