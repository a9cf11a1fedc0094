"""Branches and loops: function bodies become regions, which read what lies outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand, PendingList
from graphopt.backends.xla.table import RULES
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.graph import Graph
from graphopt.ir.types import BOOL, INT32
from graphopt.ir.value import Value


def _graph(op: Emission, reference: Any) -> Graph:
    functions = op.emitter.model.functions
    if not isinstance(reference, FunctionRef) or reference.name not in functions:
        op.refuse("its body is not in the model", "export the model with its functions")
    return functions[reference.name]


@RULES.lower("tf.If", "tf.StatelessIf")
def if_(op: Emission) -> list[Operand | None]:
    """One of two bodies."""
    b, condition = op.build, op.input(0)
    if condition.rank:
        op.refuse("its condition is no scalar", "reduce the condition to a scalar")
    if condition.dtype is not BOOL:
        condition = b.compare("NE", condition, b.like(0, condition))
    bodies = [_graph(op, op.attr(name)) for name in ("then_branch", "else_branch")]
    operation = b.hlo.IfOp(_kinds(op), condition.value)
    return _branches(op, operation, bodies)


@RULES.lower("tf.Case", "tf.StatelessCase")
def case(op: Emission) -> list[Operand | None]:
    """One of several bodies; an index out of bounds takes the last."""
    b, index = op.build, op.input(0)
    bodies = [_graph(op, reference) for reference in op.attr("branches")]
    operation = b.hlo.CaseOp(_kinds(op), b.convert(index, INT32).value, len(bodies))
    return _branches(op, operation, bodies)


def _kinds(op: Emission) -> list[Any]:
    return [op.build.type(value.dtype, op.dims(place)) for place, value in enumerate(op.node.outputs)]


def _branches(op: Emission, operation: Any, bodies: Sequence[Graph]) -> list[Operand | None]:
    b = op.build
    arguments = op.inputs[1:]
    passed = list(op.node.inputs[1:])
    for region, body in zip(operation.regions, bodies, strict=True):
        with b.ir.InsertionPoint(region.blocks.append()):
            made = op.emitter.body(body, arguments, passed)
            _check(op, made, [op.dims(place) for place in range(len(made))], "its bodies yield")
            b.hlo.return_([operand.value for operand in made])
    return [
        b.made(result, value.dtype, op.dims(value.index))
        for result, value in zip(operation.results, op.node.outputs, strict=True)
    ]


@RULES.lower("tf.While", "tf.StatelessWhile")
def while_(op: Emission) -> list[Operand | None]:
    """A loop; what it never changes is read from outside."""
    b = op.build
    condition, body = (_graph(op, op.attr(name)) for name in ("cond", "body"))
    start = op.inputs
    passed = [source if _passes_on(body, place) else None for place, source in enumerate(op.node.inputs)]
    if any(isinstance(operand, PendingList) for operand in start):
        start = _sized_lists(op, start, body, passed)
    changing = [place for place, source in enumerate(passed) if source is None]
    kinds = [b.type(start[place].dtype, start[place].dims) for place in changing]
    operation = b.hlo.WhileOp(kinds, [start[place].value for place in changing])
    for region, graph in zip(operation.regions, (condition, body), strict=True):
        block = region.blocks.append(*kinds)
        arguments = list(start)
        for place, given in zip(changing, block.arguments, strict=True):
            arguments[place] = b.made(given, start[place].dtype, start[place].dims)
        with b.ir.InsertionPoint(block):
            made = op.emitter.body(graph, arguments, passed)
            if graph is body:
                _check(op, made, [operand.dims for operand in start], "an iteration yields")
                made = [made[place] for place in changing]
            elif made[0].dtype is not BOOL:
                made = [b.compare("NE", made[0], b.like(0, made[0]))]
            b.hlo.return_([operand.value for operand in made])
    results = list(start)
    for place, result in zip(changing, operation.results, strict=True):
        results[place] = b.made(result, start[place].dtype, start[place].dims)
    return list(results)


def _sized_lists(op: Emission, start: Sequence[Operand], body: Graph, passed: Sequence[Value | None]) -> list[Operand]:
    """Learn the shapes of the lists' elements from an iteration that is emitted for nothing else."""
    b = op.build
    firm = [place for place, operand in enumerate(start) if not isinstance(operand, PendingList)]
    kinds = [b.type(start[place].dtype, start[place].dims) for place in firm]
    trial = b.hlo.WhileOp(kinds, [start[place].value for place in firm])
    block = trial.regions[0].blocks.append(*kinds)
    arguments = list(start)
    for place, given in zip(firm, block.arguments, strict=True):
        arguments[place] = b.made(given, start[place].dtype, start[place].dims)
    with b.ir.InsertionPoint(block):
        op.emitter.body(body, arguments, passed)
    trial.operation.erase()
    sized = []
    for operand in start:
        if isinstance(operand, PendingList):
            if operand.found is None:
                op.refuse("it carries a list whose elements have no known shape", "specialise the inputs (--batch)")
            operand = b.full(0, operand.dtype, (operand.dims[0], *operand.found))
        sized.append(operand)
    return sized


def _passes_on(body: Graph, place: int) -> bool:
    """The body yields its argument as it is."""
    value = body.outputs[place]
    while value.node.op == "tf.Identity" and not value.is_input:
        value = value.node.input(0)
    return value is body.inputs[place]


def _check(op: Emission, made: Sequence[Operand], dims: Sequence[Any], what: str) -> None:
    for operand, wanted in zip(made, dims, strict=True):
        if operand.dims != tuple(wanted):
            shown = [", ".join(map(str, shape)) for shape in (operand.dims, wanted)]
            op.refuse(f"{what} the shape [{shown[0]}] where [{shown[1]}] is needed", "keep shapes the same")


@RULES.lower("tf.PartitionedCall", "tf.StatefulPartitionedCall")
def call(op: Emission) -> list[Operand | None]:
    """A called function, in place."""
    return list(op.emitter.body(_graph(op, op.attr("f")), op.inputs, list(op.node.inputs)))
