"""Which functions call which."""

from __future__ import annotations

from graphopt.ir.errors import GraphError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model, callees, function_references


def called_functions(graph: Graph, model: Model) -> list[Function]:
    """Functions that `graph` refers to, each once, in order; a function's gradient counts."""
    names = dict.fromkeys(name for node in graph for name in callees(node))
    if isinstance(graph, Function):
        if graph.gradient:
            names[graph.gradient] = None
        for value in graph.attrs.values():
            names.update((reference.name, None) for reference in function_references(value))
    return [model.functions[name] for name in names if name in model.functions]


def callees_first(model: Model) -> list[Function]:
    """Functions that the main graph reaches, each after those it calls. Iterative.

    Raises `GraphError` naming a function that calls itself, directly or through others.
    """
    order: dict[Function, None] = {}
    active: dict[Function, None] = {}
    stack = [iter(called_functions(model.graph, model))]
    path: list[Function] = []
    while stack:
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
            stack.append(iter(called_functions(function, model)))
    return list(order)
