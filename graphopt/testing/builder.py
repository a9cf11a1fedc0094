"""Builds random models one block at a time; `blocks.py` holds the blocks, what decides is passed in as `Choices`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.known import CONSTANT, constant_type
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.ir.tensors import Tensor, tensor
from graphopt.ir.types import BOOL, FLOAT32, DType, Shape, TensorType
from graphopt.ir.value import Node, Value

Item = TypeVar("Item")
Dims = tuple["int | None", ...]
Array = np.ndarray[Any, Any]
RECENT = 6  # operands are taken from so many of the latest values, so that graphs grow deep
LOUD = 100.0  # magnitude beyond which a value is squashed before it is used again


class Choices(Protocol):
    """Where decisions come from: a seeded generator, or hypothesis, which shrinks towards 0."""

    def below(self, count: int) -> int:
        """A number from 0 to `count` - 1."""
        ...


class SeededChoices:
    """Decisions from a seed."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def below(self, count: int) -> int:
        """A number from 0 to `count` - 1."""
        return int(self._random.random() * count)


class Known(NamedTuple):
    """A value under construction, with what the blocks must know of it.

    `dims` have None for the batch; `low` and `high` bound the elements; `exact` says that no rounding is on its way
    from the inputs, so that comparisons and truncations of it are the same after any legal rewrite; `varies` that it
    depends on the inputs' elements.
    """

    value: Value
    dims: Dims
    low: float = 0.0
    high: float = 0.0
    exact: bool = True
    varies: bool = True

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.value.dtype

    @property
    def magnitude(self) -> float:
        """Bound of the absolute value."""
        return max(-self.low, self.high)


class Builder:
    """One graph under construction, its pool of values and its constants."""

    def __init__(self, choices: Choices, model: Model, graph: Graph, shaped: bool, depth: int = 0):
        self.choices, self.model, self.graph, self.shaped, self.depth = choices, model, graph, shaped, depth
        self.numbers = np.random.default_rng(choices.below(1 << 16))
        self.pool: list[Known] = []
        self.constants: list[Value] = []
        self.finished: dict[str, tuple[list[Dims], list[Known]]] = {}  # functions: their arguments and results
        self._scope = ""

    # Choosing -------------------------------------------------------------------------------------------------

    def pick(self, items: Sequence[Item]) -> Item:
        """One of `items`; hypothesis shrinks towards the first."""
        return items[self.choices.below(len(items))]

    def chance(self, one_in: int) -> bool:
        """True once in so many times; hypothesis shrinks towards False."""
        return self.choices.below(one_in) == one_in - 1

    def operand(self, wanted: Callable[[Known], bool] = lambda known: True) -> Known | None:
        """One of the latest values that are `wanted`, quiet enough to compute with; None if there is none."""
        fitting = [known for known in reversed(self.pool) if wanted(known)][:RECENT]
        if not fitting:
            return None
        return self.quiet(self.pick(fitting))

    def floats(self, rank: int | None = None, *, exact: bool = False) -> Known | None:
        """A float value, of this rank, without rounding on its way."""
        return self.operand(
            lambda known: (
                known.dtype is FLOAT32
                and (rank is None or len(known.dims) == rank)
                and (known.exact or not exact)
                and known.varies
            )
        )

    def quiet(self, known: Known) -> Known:
        """The value, squashed to between -1 and 1 if it could be large."""
        if known.dtype is not FLOAT32 or known.magnitude <= LOUD:
            return known
        scale = np.float32(2.0 / known.magnitude)
        scaled = self.node("Mul", [known.value, self.constant(scale)], {"T": FLOAT32}, known.dims)
        result = self.node("Tanh", [scaled.value], {"T": FLOAT32}, known.dims)
        return self.keep(result._replace(low=-1.0, high=1.0, exact=False))

    # Making ---------------------------------------------------------------------------------------------------

    def constant(self, data: Any, dtype: DType | None = None, *, name: str = "Const") -> Value:
        """A constant; now and then one that is there already, or an equal one beside it."""
        held = tensor(data, dtype)
        alike = [c for c in self.constants if c.dtype is held.dtype and _held(c).shape == held.shape]
        same = [c for c in alike if np.array_equal(_held(c).numpy(), held.numpy())]
        if same and not self.chance(3):
            return same[-1]
        node = self.graph.create_node(
            CONSTANT, attrs={"dtype": held.dtype, "value": held}, name=self._scope + name, types=(constant_type(held),)
        )
        self.constants.append(node.output)
        return node.output

    def weights(self, shape: Sequence[int], scale: float = 1.0, *, name: str = "weights") -> Value:
        """A float constant of random elements; now and then one of the same shape that is there already."""
        alike = [c for c in self.constants if c.dtype is FLOAT32 and _held(c).shape == tuple(shape) and shape]
        if alike and self.chance(4):
            return self.pick(alike)
        data = self.numbers.standard_normal(tuple(shape)) * scale
        return self.constant(np.clip(data, -3 * scale, 3 * scale).astype(np.float32), name=name)

    def nodes(
        self, op: str, inputs: Sequence[Value], attrs: dict[str, Any], outputs: Sequence[tuple[DType, Dims]]
    ) -> list[Known]:
        """A node with any number of outputs, now and then with a control input or under a scope's name."""
        types = [TensorType(dtype, Shape(dims) if self.shaped else Shape(None)) for dtype, dims in outputs]
        node = self.graph.create_node(f"tf.{op}", inputs, attrs, name=f"{self._scope}{op}", types=types)
        if self.pool and self.chance(12):
            node.add_control_input(self.pick(self.pool[-RECENT:]).value.node)
        return [Known(value, dims) for value, (_, dims) in zip(node.outputs, outputs, strict=True)]

    def node(
        self, op: str, inputs: Sequence[Value], attrs: dict[str, Any], dims: Dims, dtype: DType = FLOAT32
    ) -> Known:
        """A node with one output."""
        return self.nodes(op, inputs, attrs, [(dtype, dims)])[0]

    def effect(self, op: str, inputs: Sequence[Value], attrs: dict[str, Any], waits: Sequence[Node]) -> Node:
        """A node without outputs."""
        name = f"{self._scope}{op}"
        return self.graph.create_node(f"tf.{op}", inputs, attrs, name=name, types=(), control_inputs=waits)

    def keep(self, known: Known) -> Known:
        """Put a value into the pool."""
        self.pool.append(known)
        return known

    def like(self, source: Known, result: Known) -> Known:
        """`result` in the pool, bounded like `source` and as exact: for operators that only move elements."""
        return self.keep(result._replace(low=source.low, high=source.high, exact=source.exact, varies=source.varies))

    def enter_scope(self) -> None:
        """Name what follows under a scope of its own, or under none."""
        self._scope = self.pick(("", "block/", "block/conv/", "tower-1/"))

    # Inputs and functions -------------------------------------------------------------------------------------

    def add_input(self, dims: Dims, dtype: DType = FLOAT32) -> Known:
        """A placeholder, or in a function body the next argument."""
        shape = Shape(dims)
        if isinstance(self.graph, Function):
            attrs: dict[str, Any] = {"T": dtype, "index": len(self.graph.inputs)}
            type = TensorType(dtype, shape if self.shaped else Shape(None))
            node = self.graph.create_node(ARGUMENT, attrs=attrs, name="argument", types=(type,))
            self.graph.input_names.append(node.name)
        else:
            attrs = {"dtype": dtype, "shape": shape}
            node = self.graph.create_node(
                "tf.Placeholder", attrs=attrs, name="input", types=(TensorType(dtype, shape),)
            )
        self.graph.inputs = (*self.graph.inputs, node.output)
        high = {FLOAT32: 3.0, BOOL: 1.0}.get(dtype, 5.0)
        return self.keep(Known(node.output, dims, -high if dtype is FLOAT32 else 0.0, high))


def _held(constant: Value) -> Tensor:
    held = constant.node.attrs["value"]
    assert isinstance(held, Tensor)
    return held
