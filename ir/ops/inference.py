"""What a shape function may ask, and the helpers most of them need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.dimensions import Dim
from graphopt.ir.known import known_array
from graphopt.ir.ops.registry import attributes
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape
from graphopt.ir.value import Node, Value

SHAPE_BYTES = 1 << 16  # bytes of a constant beyond which it is not a shape, an axis or a list of paddings


class InferenceError(ValueError):
    """The inputs' shapes contradict the operator; the message says how."""


class InferenceContext:
    """One node, seen by its shape function.

    `partial` gives what is known of an integer vector element by element: `[batch, 7, None]` for the packed shape
    of a tensor whose batch is symbolic. The driver (`infer.py`) supplies it.
    """

    __slots__ = ("_attrs", "_partial", "node")

    def __init__(self, node: Node, partial: Callable[[Value], Sequence[Dim] | None] | None = None):
        self.node = node
        self._attrs: Mapping[str, Any] | None = None
        self._partial = partial

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes with defaults."""
        if self._attrs is None:
            self._attrs = attributes(self.node)
        return self._attrs

    @property
    def input_count(self) -> int:
        """Number of data inputs."""
        return self.node.input_count

    @property
    def output_count(self) -> int:
        """Number of outputs."""
        return len(self.node.outputs)

    def shape(self, index: int) -> Shape:
        """Shape of input `index` as far as it is known."""
        inputs = self.node._inputs
        value = inputs[index] if -len(inputs) <= index < len(inputs) else None
        return UNKNOWN_SHAPE if value is None else value.type.shape

    def shapes(self, start: int = 0, stop: int | None = None) -> list[Shape]:
        """Shapes of a run of inputs."""
        return [UNKNOWN_SHAPE if v is None else v.type.shape for v in self.node._inputs[start:stop]]

    def constant(self, index: int) -> np.ndarray[Any, Any] | None:
        """Known values of input `index`, if small enough to be a shape, an axis and the like."""
        inputs = self.node._inputs
        if not -len(inputs) <= index < len(inputs):
            return None
        return known_array(inputs[index], SHAPE_BYTES)

    def constant_ints(self, index: int) -> list[int] | None:
        """Known integers of input `index`, flat; a partially known vector counts only if all of it is known."""
        dims = self.partial(index)
        if dims is None:
            return None
        numbers = [dim for dim in dims if isinstance(dim, int)]
        return numbers if len(numbers) == len(dims) else None

    def constant_int(self, index: int) -> int | None:
        """The one known integer of input `index`."""
        numbers = self.constant_ints(index)
        return numbers[0] if numbers is not None and len(numbers) == 1 else None

    def partial(self, index: int) -> Sequence[Dim] | None:
        """What is known of an integer scalar or vector, element by element; None if not even its length."""
        inputs = self.node._inputs
        value = inputs[index] if -len(inputs) <= index < len(inputs) else None
        if value is None:
            return None
        array = known_array(value, SHAPE_BYTES)
        if array is not None:
            if array.dtype.kind not in "iu":
                return None
            return [int(item) for item in array.reshape(-1)]
        if self._partial is not None:
            found = self._partial(value)
            if found is not None:
                return found
        shape = value.type.shape
        if shape.rank == 0:
            return [None]
        if shape.rank == 1 and isinstance(shape[0], int) and shape[0] <= 64:
            return [None] * shape[0]
        return None

    def as_shape(self, index: int) -> Shape:
        """Input `index` read as a shape: -1 and what is unknown become unknown dimensions."""
        dims = self.partial(index)
        if dims is None:
            return UNKNOWN_SHAPE
        return Shape(None if isinstance(dim, int) and dim < 0 else dim for dim in dims)


def same_as(index: int = 0) -> Callable[[InferenceContext], Sequence[Shape]]:
    """Every output is shaped like input `index`."""

    def infer(context: InferenceContext) -> Sequence[Shape]:
        return [context.shape(index)] * context.output_count

    return infer


def scalar(context: InferenceContext) -> Sequence[Shape]:
    """Every output is a scalar."""
    return [SCALAR] * context.output_count


def unknown(context: InferenceContext) -> Sequence[Shape]:
    """Nothing is known of any output."""
    return [UNKNOWN_SHAPE] * context.output_count


def broadcast(context: InferenceContext) -> Sequence[Shape]:
    """All inputs broadcast against one another, as NumPy does."""
    return [broadcast_shapes(context.shapes())] * context.output_count


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    """The shape that arrays of `shapes` broadcast to. Raises `InferenceError` where they do not."""
    if any(shape.dims is None for shape in shapes):
        return UNKNOWN_SHAPE
    rank = max((len(shape.dims or ()) for shape in shapes), default=0)
    result: list[Dim] = []
    for place in range(-rank, 0):
        dims = [shape.dims[place] for shape in shapes if shape.dims is not None and len(shape.dims) >= -place]
        result.append(_broadcast_dims(dims))
    return Shape(result)


def _broadcast_dims(dims: Sequence[Dim]) -> Dim:
    numbers = {dim for dim in dims if isinstance(dim, int) and dim != 1}
    if len(numbers) > 1:
        raise InferenceError(f"dimensions {sorted(numbers)} do not broadcast")
    if numbers:
        return numbers.pop()
    others = {dim for dim in dims if dim != 1}
    if not others:
        return 1
    return others.pop() if len(others) == 1 else None


def normalized_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front. Raises `InferenceError` when out of range."""
    if not -rank <= axis < rank:
        raise InferenceError(f"axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0
