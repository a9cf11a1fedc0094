"""Which functions call which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphopt.ir.errors import GraphError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model, callees, function_references


def called_functions(graph: Graph, model: Model) -> list[Function]:
    """Functions that `graph` refers to, each once, in order; a function's gradient counts."""
    return _known((*_called(graph), *_mentioned(graph)), model)


def callees_first(model: Model) -> list[Function]:
    """Functions that the main graph reaches, each after those it calls. Iterative.

    A function may be its own gradient: those that are only mentioned are in no order. Raises `GraphError` naming a
    function that calls itself, directly or through others.
    """
    order: dict[Function, None] = {}
    active: dict[Function, None] = {}
    mentioned: list[Function] = []
    stack = [iter(_known(_called(model.graph), model))]
    path: list[Function] = []
    while stack or mentioned:
        if not stack:
            stack.append(iter((mentioned.pop(),)))
        function = next(stack[-1], None)
        if function is None:
            stack.pop()
            if path:
                done = path.pop()
                del active[done]
                order[done] = None
        elif function in active:
            raise GraphError(f"function '{printable(function.name)}' calls itself")
        elif function not in order:
            active[function] = None
            path.append(function)
            stack.append(iter(_known(_called(function), model)))
            mentioned += _known(_mentioned(function), model)
    return list(order)


def _called(graph: Graph) -> Iterator[str]:
    return (name for node in graph for name in callees(node))


def _mentioned(graph: Graph) -> Iterator[str]:
    """Names that the body does not call: the gradient, and those in attributes of the function."""
    if isinstance(graph, Function):
        if graph.gradient:
            yield graph.gradient
        for value in graph.attrs.values():
            yield from (reference.name for reference in function_references(value))


def _known(names: Iterable[str], model: Model) -> list[Function]:
    return [model.functions[name] for name in dict.fromkeys(names) if name in model.functions]
