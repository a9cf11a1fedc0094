"""Graphs inferred anew, for the tests of inference."""

from __future__ import annotations

from typing import Any

from graphopt.ir.graph import Graph
from graphopt.ir.infer import forget_shapes, infer_graph
from graphopt.ir.text import parse_graph


def inferred(text: str, **options: Any) -> Graph:
    graph = parse_graph(text)
    forget_shapes(graph)
    infer_graph(graph, **options)
    return graph


def types_of(graph: Graph, *names: str) -> list[str]:
    return [str(graph.value(name).type) for name in names]
