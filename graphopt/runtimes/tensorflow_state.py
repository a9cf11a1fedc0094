"""The state that a model starts from, in a TensorFlow session: values of variables, then what its initialisers do."""

from __future__ import annotations

import os
from typing import Any

from graphopt.ir.model import Model, variable_name
from graphopt.ir.value import Node
from graphopt.ir.variable_flow import ModelFlow, initialisers_of
from graphopt.runtimes.base import tensor_name


class InitialState:
    """Puts a session into the state that `model` starts from.

    `changes` says that running the model changes variables, so that every run must start anew.
    """

    def __init__(self, tensorflow: Any, model: Model, graph: Any):
        self._assignments: list[tuple[Any, Any, Any]] = []  # operation, placeholder, value
        self._initialisers = [graph.get_operation_by_name(node.name) for node in initialisers_of(model)]
        self._feeds = {tensor_name(node.output): path for node, path in _assets(model)}
        valued = {name: item for name, item in model.variables.items() if item.value is not None}
        self.changes = bool(valued) and bool(ModelFlow(model).offences())
        nodes = _nodes(model)
        with graph.as_default():
            for name, variable in valued.items():
                if name not in nodes:
                    continue
                assert variable.value is not None
                given = tensorflow.compat.v1.placeholder(variable.dtype.name, variable.value.shape)
                operation = _assignment(tensorflow, graph, nodes[name], given)
                self._assignments.append((operation, given, variable.value))

    def restore(self, session: Any) -> None:
        """Give each variable its value, one after another, then run the initialisers."""
        for operation, given, value in self._assignments:
            session.run(operation, {given: value.numpy()})
        if self._initialisers:
            session.run(self._initialisers, self._feeds)


def _nodes(model: Model) -> dict[str, Node]:
    """A node that stands for each variable: one of the main graph where there is one."""
    found: dict[str, Node] = {}
    for graph in model.graphs:
        for node in graph:
            name = variable_name(node)
            if name is not None:
                found.setdefault(name, node)
    return found


def _assignment(tensorflow: Any, graph: Any, node: Node, given: Any) -> Any:
    """An operation that assigns `given` to the variable `node`, which may stand in a function."""
    raw = tensorflow.raw_ops
    if node.op == "tf.VarHandleOp":
        if node.graph is not None and node.graph.model is not None and node.graph is node.graph.model.graph:
            handle = graph.get_tensor_by_name(tensor_name(node.output))
        else:
            shared, container = (node.attrs.get(name, b"").decode() for name in ("shared_name", "container"))
            handle = raw.VarHandleOp(dtype=given.dtype, shape=given.shape, shared_name=shared, container=container)
        return raw.AssignVariableOp(resource=handle, value=given)
    reference = graph.get_tensor_by_name(tensor_name(node.output))
    return raw.Assign(ref=reference, value=given, validate_shape=False)


def _assets(model: Model) -> list[tuple[Node, str]]:
    """Nodes that are fed with the paths of assets."""
    carried: Any = model.metadata.get("metagraph")
    found = []
    for asset in carried.assets if carried is not None else ():
        node = model.graph.find(asset.tensor.rpartition(":")[0])
        if node is not None:
            found.append((node, os.path.join(carried.root, "assets", *asset.filename.split("/"))))
    return found
