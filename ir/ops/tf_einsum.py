"""`Einsum`: sums of products named by labels, as products of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError, broadcast_shapes
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_elementwise import Array, is_narrow
from graphopt.ir.ops.tf_linalg import product
from graphopt.ir.ops.tf_windows import settled
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Labels = tuple[str, ...]
ELLIPSIS = "..."
einsum: Any = np.einsum  # whose form with numbers for labels has no types


class Equation(NamedTuple):
    """Labels of each input and of the output; an ellipsis is one label, `...`."""

    inputs: tuple[Labels, ...]
    output: Labels


def parse(text: str) -> Equation:
    """The equation in `text`. Raises `InferenceError` for what TensorFlow does not take."""
    parts = text.split("->")
    if len(parts) != 2:
        raise InferenceError(f"equation '{text}' must have exactly one '->'")
    inputs = tuple(_labels(part) for part in parts[0].split(","))
    if len(inputs) > 2:
        raise InferenceError(f"equation '{text}' has more than two inputs")
    known = {label for labels in inputs for label in labels}
    output = _labels(parts[1])
    for label in output:
        if label not in known and label != ELLIPSIS:
            raise InferenceError(f"output label '{label}' of equation '{text}' is in no input")
    return Equation(inputs, output)


def _labels(text: str) -> Labels:
    before, ellipsis, after = text.partition(ELLIPSIS)
    if before + after and not (before + after).isalpha():
        raise InferenceError(f"'{text}' is no sequence of labels")
    return (*before, ELLIPSIS, *after) if ellipsis else tuple(text)


def expanded(equation: Equation, ranks: Sequence[int]) -> Equation:
    """The equation with each ellipsis spelled out: labels `.1`, `.2`, … counted from the last dimension."""
    inputs, widest = [], 0
    for labels, rank in zip(equation.inputs, ranks, strict=True):
        named = len(labels) - (ELLIPSIS in labels)
        if rank < named or (rank > named and ELLIPSIS not in labels):
            raise InferenceError(f"labels {' '.join(labels)} do not fit an input of rank {rank}")
        widest = max(widest, rank - named)
        inputs.append(_spelled(labels, rank - named))
    if widest and ELLIPSIS not in equation.output:
        raise InferenceError("the output of the equation has no ellipsis for the broadcast dimensions")
    return Equation(tuple(inputs), _spelled(equation.output, widest))


def _spelled(labels: Labels, count: int) -> Labels:
    if ELLIPSIS not in labels:
        return labels
    place = labels.index(ELLIPSIS)
    return (*labels[:place], *(f".{count - i}" for i in range(count)), *labels[place + 1 :])


def label_sizes(equation: Equation, shapes: Sequence[Shape]) -> dict[str, Dim]:
    """The dimension each label stands for. Raises `InferenceError` where two inputs disagree."""
    sizes: dict[str, Dim] = {}
    for labels, shape in zip(equation.inputs, shapes, strict=True):
        for label, dim in zip(labels, shape.dims or (), strict=True):
            if label not in sizes:
                sizes[label] = dim
            elif label.startswith("."):
                (sizes[label],) = broadcast_shapes([Shape([sizes[label]]), Shape([dim])]).dims or (None,)
            else:
                both = Shape([sizes[label]]).merged(Shape([dim]))
                if both is None:
                    raise InferenceError(f"label '{label}' stands for dimensions {sizes[label]} and {dim}")
                sizes[label] = both[0]
    return sizes


@settled("equation")
def _shape(context: InferenceContext) -> Sequence[Shape]:
    equation = parse(context.attrs["equation"].decode("utf-8", "replace"))
    shapes = context.shapes()
    if len(shapes) != len(equation.inputs):
        raise InferenceError(f"the equation has {len(equation.inputs)} inputs, the node {len(shapes)}")
    ranks = []
    for labels, shape in zip(equation.inputs, shapes, strict=True):
        if shape.rank is None and ELLIPSIS in labels:
            return [UNKNOWN_SHAPE]
        ranks.append(len(labels) if shape.rank is None else shape.rank)
    full = expanded(equation, ranks)
    known = [Shape([None] * rank) if s.dims is None else s for s, rank in zip(shapes, ranks, strict=True)]
    sizes = label_sizes(full, known)
    return [Shape(sizes[label] for label in full.output)]


# Evaluation ---------------------------------------------------------------------------------------------------


def _evaluate(attrs: Any, *inputs: Array) -> Array:
    equation = parse(attrs["equation"].decode("utf-8", "replace"))
    if len(inputs) != len(equation.inputs):
        raise ValueError(f"the equation has {len(equation.inputs)} inputs, not {len(inputs)}")
    full = expanded(equation, [x.ndim for x in inputs])
    sizes = {label: int(str(dim)) for label, dim in label_sizes(full, [Shape(x.shape) for x in inputs]).items()}
    wide = [x.astype(np.float32) if is_narrow(x) else x for x in inputs]
    kept = tuple(dict.fromkeys(full.output))
    with np.errstate(all="ignore"):
        if len(wide) == 1:
            result = _summed(wide[0], full.inputs[0], kept)
        else:
            result = _contracted(wide, full, kept, sizes)
        if len(kept) < len(full.output):
            result = _on_diagonal(result, kept, full.output, sizes)
    return np.ascontiguousarray(result).astype(inputs[0].dtype).reshape([sizes[label] for label in full.output])


def _summed(array: Array, labels: Labels, kept: Labels) -> Array:
    """Diagonals along repeated labels, then sums over labels that are not `kept`, in the order of `kept`."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    if len(numbers) > 52:
        raise ValueError("an equation of more than 52 labels is not evaluated")
    return np.asarray(einsum(array, [numbers[i] for i in labels], [numbers[i] for i in kept]))


def _contracted(arrays: Sequence[Array], equation: Equation, output: Labels, sizes: dict[str, int]) -> Array:
    """A product of two inputs: batches of matrices, with what is summed inside."""
    left, right = (tuple(dict.fromkeys(labels)) for labels in equation.inputs)
    batch = tuple(i for i in output if i in left and i in right)
    inner = tuple(i for i in left if i in right and i not in output)
    rows = tuple(i for i in output if i in left and i not in right)
    columns = tuple(i for i in output if i in right and i not in left)
    x = _matrices(arrays[0], equation.inputs[0], batch, rows, inner, sizes)
    y = _matrices(arrays[1], equation.inputs[1], batch, inner, columns, sizes)
    order = batch + rows + columns
    result = product(x, y, x.dtype).reshape([sizes[i] for i in order])
    return result.transpose([order.index(i) for i in output])


def _matrices(
    array: Array, labels: Labels, batch: Labels, rows: Labels, columns: Labels, sizes: dict[str, int]
) -> Array:
    kept = batch + rows + columns
    summed = np.broadcast_to(_summed(array, labels, kept), [sizes[label] for label in kept])
    return summed.reshape([math.prod(sizes[label] for label in group) for group in (batch, rows, columns)])


def _on_diagonal(array: Array, kept: Labels, output: Labels, sizes: dict[str, int]) -> Array:
    """Zeros, but `array` along the diagonal of the labels that `output` repeats."""
    result = np.zeros([sizes[label] for label in output], array.dtype)
    numbers = {label: number for number, label in enumerate(kept)}
    einsum(result, [numbers[i] for i in output], [numbers[i] for i in kept])[...] = array
    return result


register("tf.Einsum", shape=_shape, evaluate=_evaluate)
