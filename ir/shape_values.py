"""Integers that a graph computes from shapes, known element by element: `[batch, 7, 7, 64]` of a packed shape.

`ShapeValues` evaluates small tensors symbolically, through Shape, StridedSlice, Pack, arithmetic and the like, and
whatever else is wholly known with the operator's own evaluation. An element is a number, a symbolic expression or
None where nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.known import CONSTANT, known_array
from graphopt.ir.ops.inference import InferenceContext
from graphopt.ir.ops.registry import Operator, attributes, find
from graphopt.ir.ops.traits import Trait
from graphopt.ir.shape_rules import RULES, SHAPE_SOURCES, Array, object_array
from graphopt.ir.traversal import BACK_EDGE_SOURCES
from graphopt.ir.types import DType, Shape
from graphopt.ir.value import Node, Value

ELEMENTS = 1024  # beyond which a tensor is data, not a shape
NODE_LIMIT = 256  # producers looked at for a question asked outside a pass over the graph
_UNEVALUATED = Trait.STATEFUL | Trait.RANDOM | Trait.CONTROL_FLOW | Trait.CALL | Trait.SOURCE | Trait.DECOMPRESS
# What evaluating operators, or rules, with absurd operands or attributes raises.
_NONSENSE = (ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError)


class ShapeValues:
    """Answers what is known of small tensors; remembers every answer until `forget`.

    An answer relies on the types that values have when it is first asked for. `limit` bounds the producers that
    one question may visit.
    """

    def __init__(self, limit: int | None = None):
        self._limit = limit
        self._known: dict[Node, Sequence[Array | None]] = {}

    def __call__(self, value: Value) -> Sequence[Dim] | None:
        """The elements of an integer tensor in row-major order, or None if not even their number is known."""
        return _elements(self.partial(value))

    def array(self, value: Value) -> np.ndarray[Any, Any] | None:
        """The whole tensor, in its own element type, if every element is a known number."""
        array = self.partial(value)
        return None if array is None or array.dtype == object else array

    def partial(self, value: Value) -> Array | None:
        """The tensor as an array, of objects (`int`, `SymbolicDim`, None) where not all of it is known."""
        if value.node not in self._known and _is_followed(value):
            self._visit(value.node)
        return self._operand(value)

    def assume(self, value: Value, array: Array) -> None:
        """Take it that `value`, the first output of an argument's node, is `array`, until `forget`."""
        self._known[value.node] = [array]

    def forget(self) -> None:
        """Drop all answers: types have changed."""
        self._known.clear()

    def _operand(self, value: Value | None) -> Array | None:
        """What is known of `value` by now; of a small one with a static shape at least how many elements it has."""
        if value is None:
            return None
        outputs = self._known.get(value.node)
        if outputs is not None and value.index < len(outputs) and not value._inputs:
            found = outputs[value.index]
            if found is not None:
                return found
        dims = value.type.shape.static
        if dims is None or not value.type.dtype.is_integer or not _few(dims):
            return None
        array = np.empty(dims, dtype=object)
        array.fill(None)
        return array

    def _visit(self, root: Node) -> None:
        """Evaluate `root` after everything it depends on, without recursion."""
        known, stack, opened = self._known, [root], set[Node]()
        while stack:
            node = stack[-1]
            if node in known:
                stack.pop()
            elif node in opened or (self._limit is not None and len(opened) >= self._limit):
                stack.pop()
                known[node] = self._evaluate(node)
            else:
                opened.add(node)
                stack.extend(p for p in _producers(node) if p not in known and p not in opened)

    def _evaluate(self, node: Node) -> Sequence[Array | None]:
        if node.op == CONSTANT:
            return (known_array(node.outputs[0], ELEMENTS * 8),) if node.outputs else ()
        try:
            with np.errstate(all="ignore"):
                found = self._computed(node)
        except _NONSENSE:  # what is wrong with the node is inference's to say, which asks for shapes and tells
            return ()
        outputs = found if isinstance(found, (list, tuple)) else (found,)
        if len(outputs) != len(node.outputs):
            return ()
        return [_checked(array, value.type.dtype) for array, value in zip(outputs, node.outputs, strict=True)]

    def _computed(self, node: Node) -> Any:
        operands = [self._operand(value) for value in node._inputs] if node.op not in SHAPE_SOURCES else []
        operator = find(node.op)
        attrs = attributes(node)
        if operands and operator is not None and operator.evaluate is not None and _may_evaluate(operator):
            arrays = [array for array in operands if array is not None and array.dtype != object]
            if len(arrays) == len(operands) and self._yields_few(node, operator):
                return operator.evaluate(attrs, *arrays)
        rule = RULES.get(node.op)
        return None if rule is None else rule(node, attrs, operands)

    def _yields_few(self, node: Node, operator: Operator) -> bool:
        """No output can be large, so that absurd operands cost no memory."""
        if Trait.ELEMENTWISE in operator.traits:
            return True
        shapes: Sequence[Shape] = [value.type.shape for value in node.outputs]
        if not all(shape.is_static for shape in shapes) and operator.shape is not None:
            shapes = operator.shape(InferenceContext(node, self._told))
        sizes = [shape.static for shape in shapes]
        return all(dims is not None and _few(dims) for dims in sizes)

    def _told(self, value: Value) -> Sequence[Dim] | None:
        return _elements(self._operand(value))


def _elements(array: Array | None) -> Sequence[Dim] | None:
    if array is None or (array.dtype != object and array.dtype.kind not in "iu"):
        return None
    items: list[Dim] = array.reshape(-1).tolist()
    return items


def _checked(array: Any, dtype: DType) -> Array | None:
    """A result as it is kept: numbers beyond the element type, which would wrap, are unknown; none too large."""
    if array is None or dtype.numpy is None:
        return None
    array = np.asarray(array)
    if array.size > ELEMENTS:
        return None
    if array.dtype != object or not dtype.is_integer:
        return array if array.dtype == dtype.numpy else None
    low, high = (-(1 << dtype.bits - 1), 1 << dtype.bits - 1) if dtype.kind == "int" else (0, 1 << dtype.bits)
    items = [item if type(item) is not int or low <= item < high else None for item in array.flat]
    if all(type(item) is int for item in items):
        return np.array(items, dtype=dtype.numpy).reshape(array.shape)
    return object_array(items, array.shape) if dtype.bits >= 32 else None


def _producers(node: Node) -> Iterator[Node]:
    """The nodes whose values `node` is computed from, as far as they are worth asking."""
    if node.op in SHAPE_SOURCES or node.op == CONSTANT:
        return
    values = node._inputs
    if node.op == "tf.Merge" and any(v is not None and v.node.op in BACK_EDGE_SOURCES for v in values):
        return
    for value in values:
        if value is not None and _is_followed(value):
            yield value.node


def _is_followed(value: Value) -> bool:
    if value._inputs:  # fed by the caller
        return False
    op = value.node.op
    if op == CONSTANT:
        return True
    shape = value.type.shape
    if shape.dims is not None:
        dims = shape.static
        if len(shape.dims) > 3 or (dims is not None and not _few(dims)):
            return False
    return op in RULES or _has_evaluation(op)


def _few(dims: Sequence[int]) -> bool:
    count = 1
    for dim in dims:
        count *= dim
    return 0 <= count <= ELEMENTS


@cache
def _has_evaluation(op: str) -> bool:
    operator = find(op)
    return operator is not None and operator.evaluate is not None and _may_evaluate(operator)


def _may_evaluate(operator: Operator) -> bool:
    return not operator.traits & _UNEVALUATED
