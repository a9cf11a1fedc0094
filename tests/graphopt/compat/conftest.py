"""Graphs of bare nodes, and graphs that TensorFlow runs before and after."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from graphopt.compat.graph_transforms import TransformGraph
from graphopt.ir.formats.protos.graph_pb2 import GraphDef

sys.path.append(str(pathlib.Path(__file__).parent.resolve()))
_NODE = re.compile(r"(?P<name>[^=]+)=(?P<op>\w+)(\((?P<inputs>.*)\))?\Z")


class Transformed(NamedTuple):
    """A transformed graph: nodes by name."""

    nodes: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        return list(self.nodes)

    def inputs(self, name: str) -> list[str]:
        return list(self.nodes[name].input)

    def operators(self) -> list[str]:
        return [node.op for node in self.nodes.values()]


def nodes_of(graph_def: Any) -> Transformed:
    names = [node.name for node in graph_def.node]
    assert len(set(names)) == len(names)
    return Transformed({node.name: node for node in graph_def.node})


@pytest.fixture
def attr() -> Callable[[Any, str], Any]:
    """The value of a node's attribute, made if it is not there: `attr(node, "T").type = 1`."""

    def find(node: Any, name: str) -> Any:
        for entry in node.attr:
            if entry.key == name:
                return entry.value
        return node.attr.add(key=name).value

    return find


@pytest.fixture
def bare() -> Callable[..., Any]:
    """A GraphDef of nodes like `add=Add(a,b)`, without attributes unless `edit` sets them."""

    def build(*lines: str) -> Any:
        graph_def = GraphDef()
        for line in lines:
            found = _NODE.match(line)
            assert found, line
            inputs = [item for item in (found["inputs"] or "").split(",") if item]
            graph_def.node.add(name=found["name"], op=found["op"], input=inputs)
        return graph_def

    return build


@pytest.fixture
def transformed() -> Callable[..., Transformed]:
    """Transform a GraphDef; the original stays as it was."""

    def apply(graph_def: Any, transforms: str, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> Transformed:
        before = graph_def.SerializeToString(deterministic=True)
        result = TransformGraph(graph_def, list(inputs), list(outputs), [transforms])
        assert type(result) is type(graph_def)
        assert graph_def.SerializeToString(deterministic=True) == before
        return nodes_of(result)

    return apply


TREE = (
    "add_node1=Add(add_node2,add_node3)",
    "add_node2=Add(const_node1,const_node2)",
    "add_node3=Add(const_node3,const_node4)",
    *(f"const_node{number}=Const" for number in range(1, 5)),
)
DAG = (
    "add_node1=Add(add_node2,add_node3)",
    "add_node2=Add(const_node1,const_node2)",
    "add_node3=Add(const_node1,const_node3)",
    *(f"const_node{number}=Const" for number in range(1, 4)),
)


@pytest.fixture
def tree(bare: Callable[..., Any]) -> Any:
    """Seven bare nodes: three additions over four constants."""
    return bare(*TREE)


@pytest.fixture
def dag(bare: Callable[..., Any]) -> Any:
    """Six bare nodes: three additions over three constants, one of them read twice."""
    return bare(*DAG)


class Bench:
    """Builds a graph with TensorFlow, transforms it, and runs both."""

    def __init__(self) -> None:
        import tensorflow

        self.tf = tensorflow
        self.graph = tensorflow.Graph()
        self.producer: int | None = None

    def __enter__(self) -> Any:
        self._scope = self.graph.as_default()
        self._scope.__enter__()
        return self.tf

    def __exit__(self, *failure: Any) -> None:
        self._scope.__exit__(*failure)

    def constant(self, name: str, values: Any, shape: Sequence[int] | None = None, dtype: Any = np.float32) -> Any:
        array = np.asarray(values, dtype)
        return self.tf.constant(array if shape is None else array.reshape(shape), name=name)

    def transform(self, transforms: str, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> Any:
        self.before = self.graph.as_graph_def()
        if self.producer is not None:
            self.before.versions.producer = self.producer
        self.outputs = [name if ":" in name else f"{name}:0" for name in outputs]
        self.after = TransformGraph(self.before, list(inputs), list(outputs), [transforms])
        return nodes_of(self.after)

    def check(self, atol: float, feeds: Mapping[str, Any] | None = None, rtol: float = 0.0) -> None:
        """Both graphs compute the same, and not something flat."""
        expected, actual = (self._run(graph_def, feeds or {}) for graph_def in (self.before, self.after))
        for one, other in zip(expected, actual, strict=True):
            np.testing.assert_allclose(other, one, rtol=rtol, atol=atol)
            assert np.ptp(one) > 100 * atol

    def _run(self, graph_def: Any, feeds: Mapping[str, Any]) -> Any:
        v1 = self.tf.compat.v1
        with self.tf.Graph().as_default() as graph:
            v1.import_graph_def(graph_def, name="")
            with v1.Session(graph=graph) as session:
                return session.run(self.outputs, {f"{name}:0": value for name, value in feeds.items()})


@pytest.fixture
def bench() -> Bench:
    return Bench()
