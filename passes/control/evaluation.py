"""What a body yields where some of its arguments are known: partial evaluation of small values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.errors import Error
from graphopt.ir.graph import Graph
from graphopt.ir.known import known_tensor
from graphopt.ir.ops import Trait, attributes, find
from graphopt.ir.tensors import ArrayTensor, Tensor
from graphopt.ir.types import dtype_of
from graphopt.ir.value import Node, Value

SMALL = 1 << 16  # bytes of a value beyond which it is not computed with here
_NEVER = Trait.STATEFUL | Trait.RANDOM | Trait.CONTROL_FLOW | Trait.CALL | Trait.SOURCE
_DECIDED_BY = {"tf.LogicalAnd": False, "tf.LogicalOr": True}  # one operand that is this decides the result

Known = Mapping[Value, Tensor]


class Evaluation:
    """What `values` of a graph are, for any knowledge of others; the nodes on the way are looked up once."""

    def __init__(self, graph: Graph, values: Iterable[Value]):
        self.values = list(values)
        self._order = _cone(self.values)
        self.size = len(self._order)

    @property
    def arguments(self) -> list[Value]:
        """Inputs of the graph that the values depend on."""
        return [value for node in self._order for value in node.outputs if value.is_input]

    def run(self, known: Known) -> list[Tensor | None]:
        """The values, None where they do not follow from what is `known`."""
        found: dict[Value, Tensor] = dict(known)
        for node in self._order:
            if any(value in found for value in node.outputs):
                continue
            for value, result in zip(node.outputs, _results(node, found), strict=False):
                if result is not None:
                    found[value] = result
        return [found.get(value) for value in self.values]


def truth(condition: Tensor | None) -> bool | None:
    """What `If` and `While` take a known condition for: a scalar by its value, a tensor by whether it has elements."""
    if condition is None:
        return None
    if condition.shape:
        return condition.size > 0
    if condition.dtype.numpy is None:
        return None
    return bool(condition.numpy().reshape(-1)[0])


def truth_of(value: Value) -> bool | None:
    """`truth` of a value, which for a tensor of known shape follows from the shape."""
    held = known_tensor(value)
    if held is not None:
        return truth(held)
    static = value.shape.static
    return None if not static or value.is_input else 0 not in static


def _cone(values: Sequence[Value]) -> list[Node]:
    """Producers before readers: all that `values` are computed from. Iterative; stops at nodes never evaluated."""
    order: list[Node] = []
    state: dict[Node, bool] = {}
    stack = [value.node for value in reversed(values)]
    while stack:
        node = stack[-1]
        done = state.get(node)
        if done is None:
            state[node] = False
            operator = find(node.op)
            if operator is not None and not operator.traits & _NEVER:
                stack += [v.node for v in reversed(node._inputs) if v is not None and v.node not in state]
            continue
        stack.pop()
        if not done:
            state[node] = True
            order.append(node)
    return order


def _results(node: Node, found: Known) -> Sequence[Tensor | None]:
    operator = find(node.op)
    if operator is None or operator.traits & _NEVER:
        return ()
    if node.op == "tf.Const":
        held = known_tensor(node.outputs[0])
        return (held,)
    operands = [None if value is None else found.get(value) for value in node._inputs]
    if node.op in _DECIDED_BY:
        decided = _decided(_DECIDED_BY[node.op], operands)
        if decided is not None:
            return (decided,)
    known = [operand for operand in operands if operand is not None]
    if operator.evaluate is None or len(known) != len(operands) or not operands:
        return ()
    if any(operand.nbytes > SMALL or operand.dtype.numpy is None for operand in known):
        return ()
    return _computed(node, operator.evaluate, known)


def _decided(wanted: bool, operands: Sequence[Tensor | None]) -> Tensor | None:
    for operand in operands:
        if operand is not None and operand.shape == () and bool(operand.numpy()) is wanted:
            return operand
    return None


def _computed(node: Node, evaluate: Any, operands: Sequence[Tensor]) -> Sequence[Tensor | None]:
    static = [value.shape.static for value in node.outputs]
    if any(shape is not None and int(np.prod(shape, dtype=object)) > SMALL for shape in static):
        return ()
    if any(shape is None for shape in static) and node.op in ("tf.Fill", "tf.Tile", "tf.BroadcastTo", "tf.Range"):
        return ()  # a few bytes could ask for any amount
    try:
        with np.errstate(all="ignore"):
            computed = evaluate(attributes(node), *(operand.numpy() for operand in operands))
    except (Error, ArithmeticError, LookupError, TypeError, ValueError, MemoryError):
        return ()  # it is for the run to fail
    arrays = [np.asarray(a) for a in (computed if isinstance(computed, (list, tuple)) else [computed])]
    if len(arrays) != len(node.outputs) or any(array.nbytes > SMALL for array in arrays):
        return ()
    return [
        ArrayTensor(np.asarray(array, order="C"), value.dtype if value.dtype.code else dtype_of(array))
        for array, value in zip(arrays, node.outputs, strict=True)
    ]
