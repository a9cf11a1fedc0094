"""Loops over recurrent cells: what counts, what is read step by step, what is collected, and what cells sum up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.known import PASS_THROUGH, known_array, known_scalar
from graphopt.ir.value import Node, Value
from graphopt.passes.control.call_sites import Site, is_passed_through
from graphopt.passes.control.take_constant_branches import has_effects

Array = np.ndarray[Any, Any]
SUMS = ("tf.Add", "tf.AddV2", "tf.BiasAdd")
RESHAPES = ("tf.Reshape", "tf.Squeeze", "tf.ExpandDims")


class UnfitError(Exception):
    """Why a loop is no recurrent layer that can be one operator."""


def need(condition: object, reason: str) -> None:
    """Raise `UnfitError` where the condition does not hold."""
    if not condition:
        raise UnfitError(reason)


def through(value: Value) -> Value:
    """What `value` passes on."""
    while value.node.op in PASS_THROUGH and not value.is_input:
        value = value.node.input(0)
    return value


def operands(value: Value, *ops: str) -> list[Value] | None:
    """The inputs of the node behind `value` if it is one of `ops`, without identities."""
    value = through(value)
    if value.is_input or value.node.op not in ops:
        return None
    return [through(other) for other in value.node.inputs if other is not None]


def unwrapped(value: Value) -> Value:
    """What was reshaped."""
    value = through(value)
    while not value.is_input and value.node.op in RESHAPES:
        value = through(value.node.input(0))
    return value


def is_zero(value: Value) -> bool:
    """The value is zeros: a constant, or filled with them."""
    value = through(value)
    if value.node.op == "tf.Fill" and not value.is_input:
        return known_scalar(value.node.input(1)) == 0.0
    held = known_array(value)
    return held is not None and not np.any(held) and not np.any(np.signbit(held))


class Linear(NamedTuple):
    """A sum of products with matrices, and a bias: rows of what is multiplied, by the value."""

    terms: Mapping[Value, Array]
    bias: Array

    def columns(self, first: int, last: int) -> Linear:
        """Some of its columns."""
        return Linear({value: matrix[:, first:last] for value, matrix in self.terms.items()}, self.bias[first:last])

    def plus(self, other: Linear) -> Linear:
        """The sum of both."""
        terms = dict(self.terms)
        for value, matrix in other.terms.items():
            terms[value] = terms[value] + matrix if value in terms else matrix
        return Linear(terms, self.bias + other.bias)


class RecurrentLoop:
    """One loop, looked at from its results backwards."""

    def __init__(self, site: Site):
        self.site = site
        self.condition, self.body = site.functions
        self.arguments = {value: place for place, value in enumerate(self.body.inputs)}
        self.results = [through(value) for value in self.body.outputs]
        self._linears: dict[Value, Linear] = {}

    def check_effects(self) -> None:
        """Its functions do nothing but compute, and its results are no outputs of the graph."""
        need(not any(has_effects(function) for function in self.site.functions), "its body has effects")
        need(not any(value.is_output for value in self.site.node.outputs), "its results are outputs of the graph")

    def counter(self) -> tuple[int, Value]:
        """The variable that counts from zero, and the value of the condition's that it is compared with."""
        compared = operands(self.condition.outputs[0], "tf.Less")
        need(compared, "its condition is no comparison of a counter with a number")
        assert compared is not None
        places = [place for place, value in enumerate(self.condition.inputs) if value is compared[0]]
        need(places, "how often it turns is not known")
        place = places[0]
        total = operands(self.body.outputs[place], *SUMS) or []
        is_count = any(value is self.body.inputs[place] for value in total) and any(
            known_scalar(value) == 1 for value in total
        )
        need(is_count and known_scalar(self.site.operands[place]) == 0, "it does not count its steps from zero")
        return place, compared[1]

    def turns_over(self, limit: Value, inputs: int) -> bool:
        """It turns as often as the variable `inputs` has elements."""
        sequence = self.site.operands[inputs]
        steps, known = sequence.shape.dims[0] if sequence.shape.dims else None, known_scalar(limit)
        if known is not None:
            return steps == int(known)
        places = [place for place, value in enumerate(self.condition.inputs) if value is limit]
        if not places or not is_passed_through(self.body, places[0]):
            return False
        return _is_length(through(self.site.operands[places[0]]), through(sequence))

    def step_of(self, value: Value, counter: int) -> int:
        """The variable of which `value` is the element of this step."""
        read = operands(value, "tf.GatherV2") or []
        fits = (
            len(read) == 3
            and read[0] in self.arguments
            and read[1] is self.body.inputs[counter]
            and known_scalar(read[2]) == 0
            and not through(value).node.attrs.get("batch_dims")
        )
        need(fits, "its input is not one element after the other")
        place = self.arguments[read[0]]
        need(is_passed_through(self.body, place), "its inputs change")
        return place

    def collectors(self, hidden: int, counter: int, steps: object) -> tuple[tuple[int, bool], ...]:
        """Variables that collect the outputs, and whether they keep the last one alone."""
        found = []
        for place, result in enumerate(self.results):
            written = operands(result, "tf.TensorScatterUpdate")
            if written is None and place != hidden and unwrapped(result) is self.results[hidden]:
                if (result.shape.dims or (None,))[0] == 1 and result.shape.rank == 3:
                    found.append((place, True))
                continue
            if written is None or written[0] is not self.body.inputs[place]:
                continue
            row = unwrapped(written[2])
            length = (self.body.inputs[place].shape.dims or (None,))[0]
            index = known_array(written[1])
            every = unwrapped(written[1]) is self.body.inputs[counter] and length is not None and length == steps
            last = length == 1 and index is not None and index.size == 1 and int(index.reshape(())) == 0
            if row is self.results[hidden] and (every or last):
                found.append((place, not every))
        return tuple(found)

    def check_readers(self, accounted: Mapping[int, bool]) -> None:
        """Only those variables are read afterwards that are `accounted` for with True."""
        for place, value in enumerate(self.site.node.outputs):
            if value.use_count:
                need(place in accounted, f"it also computes '{printable(value.name)}'")
                need(accounted[place], f"'{printable(value.name)}' is read afterwards")

    # Sums -----------------------------------------------------------------------------------------------------

    def linear(self, value: Value) -> Linear:
        """What a gate sums up. Raises `UnfitError` for what is no sum of products with known matrices."""
        value = through(value)
        if value not in self._linears:
            self._linears[value] = self._computed(value)
        return self._linears[value]

    def _computed(self, value: Value) -> Linear:
        pending, found = [value], Linear({}, np.zeros(_width(value), np.float32))
        while pending:
            item = through(pending.pop())
            held = known_array(item)
            if held is not None:
                need(held.size in (1, len(found.bias)), "its bias does not fit")
                found = found.plus(Linear({}, np.broadcast_to(held.reshape(-1), found.bias.shape)))
                continue
            summands = operands(item, *SUMS)
            if summands is not None:
                pending += summands
            elif not item.is_input and item.node.op in RESHAPES and _width(item) == _width(item.node.input(0)):
                pending.append(item.node.input(0))
            else:
                found = found.plus(self._product(item))
        return found

    def _product(self, value: Value) -> Linear:
        """A product, or some columns of a sum of products."""
        node = value.node
        need(not value.is_input, "it sums something else than products with weights")
        if node.op == "tf.Split":
            need(known_scalar(node.input(0)) in (1, -1), "its gates are split along another axis")
            width = _width(value)
            return self.linear(node.input(1)).columns(value.index * width, (value.index + 1) * width)
        if node.op in ("tf.StridedSlice", "tf.Slice"):
            return self.linear(node.input(0)).columns(*_columns(node))
        need(node.op == "tf.MatMul", "it sums something else than products with weights")
        matrix = known_array(node.input(1))
        flipped = any(node.attrs.get(name) for name in ("transpose_a", "transpose_b"))
        need(matrix is not None and not flipped, "it sums something else than products with weights")
        assert matrix is not None
        return Linear(_by_rows(through(node.input(0)), matrix), np.zeros(matrix.shape[1], np.float32))


def _width(value: Value) -> int:
    dims = value.shape.dims
    need(dims and isinstance(dims[-1], int), "how many units it has is not known")
    return int(str(dims[-1])) if dims else 0


def _columns(node: Node) -> tuple[int, int]:
    """Which columns a slice of rows takes: all rows, and columns side by side."""
    width = _width(node.output)
    starts = known_array(node.input(1))
    whole = node.input(0).shape.rank == node.output.shape.rank == 2
    need(starts is not None and len(starts) == 2 and whole, "its gates are no columns of a sum")
    assert starts is not None
    if node.op == "tf.StridedSlice":
        steps = known_array(node.input(3))
        is_plain = steps is not None and (steps == 1).all() and not node.attrs.get("shrink_axis_mask")
        masks = any(node.attrs.get(name) for name in ("new_axis_mask", "ellipsis_mask"))
        need(is_plain and not masks, "its gates are no columns of a sum")
        starts = np.where([int(node.attrs.get("begin_mask", 0)) >> place & 1 for place in (0, 1)], 0, starts)
    rows = node.input(0).shape.dims, node.output.shape.dims
    need(rows[0] and rows[1] and rows[0][0] == rows[1][0] and not starts[0], "its gates are parts of the batch")
    first = int(starts[1]) % _width(node.input(0))
    return first, first + width


def _by_rows(value: Value, matrix: Array) -> dict[Value, Array]:
    """The operand of a product with the rows of the weights for it; both parts of a concatenation."""
    parts = operands(value, "tf.ConcatV2")
    if parts is None:
        return {value: matrix}
    *joined, axis = parts
    need(known_scalar(axis) in (1, -1), "it joins input and state in another way")
    rows, start = {}, 0
    for part in joined:
        end = start + _width(part)
        rows[part] = matrix[start:end]
        start = end
    return rows


def _is_length(value: Value, sequence: Value) -> bool:
    """The value is how many elements the sequence has."""
    node = value.node
    if node.op not in ("tf.StridedSlice", "tf.GatherV2") or through(node.input(0)).node.op != "tf.Shape":
        return False
    place = known_array(node.input(1))
    is_first = place is not None and place.size == 1 and not place.any() and value.shape.rank == 0
    return is_first and through(through(node.input(0)).node.input(0)) is sequence
