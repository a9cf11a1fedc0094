"""Sums of products named by labels: transposes, products of matrices and reshapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.matmul import BATCH_RANK, INTEGERS
from graphopt.backends.tflite.table import RULES
from graphopt.ir.known import known_array
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.ops.tf_einsum import Equation, Labels, expanded, parse
from graphopt.ir.types import INT32
from graphopt.ir.value import Value


class Operand(NamedTuple):
    """A tensor and what its axes are called; `sizes` are their known sizes."""

    value: Value
    labels: Labels

    @property
    def sizes(self) -> dict[str, Any]:
        """Label -> size, for those that are known."""
        return dict(zip(self.labels, self.value.shape.dims or (), strict=True))


class Groups(NamedTuple):
    """Labels of two operands by what becomes of them."""

    batch: Labels
    left: Labels
    right: Labels
    inner: Labels


@RULES.legalize("tf.Einsum")
def einsum(op: Lowering) -> Value:
    """Diagonals along labels that repeat, sums over those that occur once, and one product of batches of matrices."""
    equation = _equation(op)
    builder = _Builder(op, equation)
    kept = tuple(dict.fromkeys(equation.output))
    operands = [builder.plain(Operand(value, labels)) for value, labels in zip(op.inputs, equation.inputs, strict=True)]
    if len(operands) == 1:
        result = builder.summed(operands[0], kept)
    else:
        left, right = operands
        left = builder.summed(left, {*kept, *right.labels})
        right = builder.summed(right, {*kept, *left.labels})
        result = builder.product(left, right, kept)
    result = builder.arranged(result, kept)
    if len(kept) != len(equation.output):
        op.refuse(f"a label occurs twice in the output of '{op.text('equation')}'")
    return result.value


def _equation(op: Lowering) -> Equation:
    ranks = [op.rank(value) for value in op.inputs]
    try:
        equation = parse(op.text("equation").replace(" ", ""))
        if len(equation.inputs) != len(ranks):
            op.refuse(f"equation '{op.text('equation')}' does not have {len(ranks)} inputs")
        return expanded(equation, ranks)
    except InferenceError as error:
        op.refuse(str(error))


class _Builder:
    """Makes the operators that one equation comes down to."""

    def __init__(self, op: Lowering, equation: Equation):
        self.op, self.name, self.equation = op, op.node.name, equation

    def make(self, kind: str, *inputs: Value, **attrs: Any) -> Value:
        """A TensorFlow operator, which other rules lower."""
        return self.op.source(kind, *inputs, name=f"{self.name}/{kind.partition('.')[2].lower()}", **attrs)

    def numbers(self, numbers: Any) -> Value:
        """A constant of int32."""
        return self.op.integers(numbers, name=f"{self.name}/numbers")

    # Axes -----------------------------------------------------------------------------------------------------

    def plain(self, operand: Operand) -> Operand:
        """The operand with each label once: of axes with the same label only the diagonal counts."""
        for label in dict.fromkeys(operand.labels):
            while operand.labels.count(label) > 1:
                operand = self._diagonal(operand, label)
        return operand

    def _diagonal(self, operand: Operand, label: str) -> Operand:
        """The first two axes called `label` as one, the last."""
        first = operand.labels.index(label)
        second = operand.labels.index(label, first + 1)
        size = (operand.value.shape.dims or ())[first]
        if not isinstance(size, int) or (operand.value.shape.dims or ())[second] != size:
            self.op.refuse("the size of a diagonal is not known", "give the inputs shapes (set-shapes)")
        others = [axis for axis in range(len(operand.labels)) if axis not in (first, second)]
        value = self.transposed(operand.value, [*others, first, second])
        dims = self.dimensions(Operand(value, tuple(str(axis) for axis in range(len(operand.labels)))))
        rest = len(others)
        flat = self.reshaped(value, [*dims[:rest], size * size])
        ends = [*[0] * rest, size * size]
        every = self.make(
            "tf.StridedSlice", flat, self.numbers([0] * (rest + 1)), self.numbers(ends),
            self.numbers([*[1] * rest, size + 1]), begin_mask=(1 << rest) - 1, end_mask=(1 << rest) - 1,
        )  # fmt: skip
        return Operand(every, (*(operand.labels[axis] for axis in others), label))

    def summed(self, operand: Operand, kept: Any) -> Operand:
        """The operand without the labels that are not `kept`."""
        axes = [axis for axis, label in enumerate(operand.labels) if label not in kept]
        if not axes:
            return operand
        value = self.make("tf.Sum", operand.value, self.numbers(axes), keep_dims=False)
        return Operand(value, tuple(label for label in operand.labels if label in kept))

    def arranged(self, operand: Operand, labels: Sequence[str]) -> Operand:
        """The operand with its axes in the order of `labels`."""
        permutation = [operand.labels.index(label) for label in labels]
        return Operand(self.transposed(operand.value, permutation), tuple(labels))

    def transposed(self, value: Value, permutation: list[int]) -> Value:
        """`value` with its axes permuted."""
        if permutation == list(range(len(permutation))):
            return value
        held = known_array(value)
        if held is not None:
            return self.op.constant(np.ascontiguousarray(held.transpose(permutation)), name=value.node.name)
        return self.make("tf.Transpose", value, self.numbers(permutation))

    # Sizes ----------------------------------------------------------------------------------------------------

    def dimensions(self, operand: Operand) -> list[Any]:
        """The size of each axis: a number, or what is looked up when the model runs."""
        return [
            dim if isinstance(dim, int) else (operand.value, axis)
            for axis, dim in enumerate(operand.value.shape.dims or ())
        ]

    def reshaped(self, value: Value, dims: Sequence[Any]) -> Value:
        """`value` in the shape `dims`, of numbers and what is looked up."""
        unknown = [place for place, dim in enumerate(dims) if not isinstance(dim, int)]
        static = value.shape.static
        if static is not None and list(static) == list(dims):
            return value
        held = known_array(value)
        if held is not None and not unknown:
            return self.op.constant(held.reshape(dims), name=value.node.name)
        if len(unknown) <= 1:
            return self.make("tf.Reshape", value, self.numbers([dim if isinstance(dim, int) else -1 for dim in dims]))
        scalars = [self.numbers(dim) if isinstance(dim, int) else self._size(dim) for dim in dims]
        return self.make("tf.Reshape", value, self.make("tf.Pack", *scalars, axis=0, N=len(scalars)))

    def _size(self, found: Any) -> Value:
        """A size that is looked up, or the product of several."""
        if isinstance(found, list):
            product = self._size(found[0])
            for other in found[1:]:
                product = self.make("tf.Mul", product, self._size(other))
            return product
        if isinstance(found, int):
            return self.numbers(found)
        value, axis = found
        shape = self.make("tf.Shape", value, out_type=INT32)
        return self.make("tf.GatherV2", shape, self.numbers(axis), self.numbers(0), batch_dims=0)

    # Products -------------------------------------------------------------------------------------------------

    def product(self, left: Operand, right: Operand, kept: Labels) -> Operand:
        """The product of two operands, summed over the labels that are not `kept`."""
        inner = tuple(label for label in left.labels if label in right.labels and label not in kept)
        if not inner or left.value.dtype in INTEGERS:
            return self._elementwise(left, right, kept)
        if _stands_before(right, left, kept, inner):
            left, right = right, left
        groups = Groups(
            tuple(label for label in kept if label in left.labels and label in right.labels),
            tuple(label for label in kept if label in left.labels and label not in right.labels),
            tuple(label for label in kept if label in right.labels and label not in left.labels),
            inner,
        )
        return self._matrices(left, right, groups)

    def _elementwise(self, left: Operand, right: Operand, kept: Labels) -> Operand:
        """Products of elements that broadcast, then sums: where nothing is summed, and for integers."""
        labels = (*kept, *(label for label in left.labels if label in right.labels and label not in kept))
        spread = [self._spread(operand, labels) for operand in (left, right)]
        return self.summed(Operand(self.make("tf.Mul", *spread), labels), kept)

    def _spread(self, operand: Operand, labels: Labels) -> Value:
        """The operand with an axis for each of `labels`, of size 1 for those it does not have."""
        there = tuple(label for label in labels if label in operand.labels)
        operand = self.arranged(operand, there)
        found = dict(zip(there, self.dimensions(operand), strict=True))
        return self.reshaped(operand.value, [found.get(label, 1) for label in labels])

    def _matrices(self, left: Operand, right: Operand, groups: Groups) -> Operand:
        """One batched product; axes of one sort are joined where there are several."""
        batch, rows, columns, inner = groups
        sizes = {**_looked_up(self, right), **_looked_up(self, left)}
        joined_batch = len(batch) + 2 > BATCH_RANK
        if joined_batch and any(left.sizes[label] != right.sizes[label] for label in batch):
            self.op.refuse(f"it has a batch of {len(batch)} axes that broadcast")
        weights = not batch and known_array(right.value) is not None
        stack = [batch] if joined_batch else [(label,) for label in batch]
        a = self._joined(left, [*stack, *([(label,) for label in rows] if weights and rows else [rows]), inner])
        flipped = not weights and right.labels == (*batch, *columns, *inner)
        order = (columns, inner) if flipped else (inner, columns)
        b = self._joined(right, [*stack, *order])
        made = self.make("tf.BatchMatMulV2", a, b, adj_x=False, adj_y=flipped)
        labels = (*batch, *rows, *columns)
        if joined_batch or len(columns) != 1 or (len(rows) != 1 and not weights):
            made = self.reshaped(made, [sizes[label] for label in labels])
        return Operand(made, labels)

    def _joined(self, operand: Operand, groups: Sequence[Labels]) -> Value:
        """The operand with one axis for each of `groups`, of size 1 for one without labels."""
        arranged = self.arranged(operand, [label for group in groups for label in group])
        if all(len(group) == 1 for group in groups):
            return arranged.value
        found = dict(zip(arranged.labels, self.dimensions(arranged), strict=True))
        return self.reshaped(arranged.value, [_times([found[label] for label in group]) for group in groups])


def _times(sizes: Sequence[Any]) -> Any:
    """The product of sizes: a number, or a list of what is looked up."""
    if all(isinstance(size, int) for size in sizes):
        return int(np.prod(sizes, dtype=np.int64)) if sizes else 1
    return sizes[0] if len(sizes) == 1 else list(sizes)


def _looked_up(builder: _Builder, operand: Operand) -> dict[str, Any]:
    return dict(zip(operand.labels, builder.dimensions(operand), strict=True))


def _stands_before(right: Operand, left: Operand, kept: Labels, inner: Labels) -> bool:
    """The second operand is better the left one: its axes come first in the output, or the first holds weights."""
    if (known_array(left.value) is None) != (known_array(right.value) is None):
        return known_array(left.value) is not None
    own_left = [kept.index(label) for label in left.labels if label in kept and label not in right.labels]
    own_right = [kept.index(label) for label in right.labels if label in kept and label not in left.labels]
    return bool(own_left) and bool(own_right) and min(own_right) < min(own_left)
