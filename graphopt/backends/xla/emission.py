"""A node about to be emitted: its inputs as operands, its attributes, and what to build with.

A rule is a function registered by operator:

    @RULES.lower("tf.Relu")
    def relu(op: Emission) -> Operand:
        \"\"\"Rectified linear units.\"\"\"
        return op.build.max(op.input(0), 0)

It returns an operand for the one output, or a sequence with one for each, None for those that nothing may read.
Where a node does not fit, `op.refuse(reason, remedy)` ends the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.backends.xla.operand import SPECIALISE, Operand, static_dims
from graphopt.backends.xla.options import XlaOptions
from graphopt.ir.dimensions import KnownDim
from graphopt.ir.known import known_array
from graphopt.ir.ops import attributes, find
from graphopt.ir.shape_values import ShapeValues
from graphopt.ir.types import DType
from graphopt.ir.value import Node, Value

if TYPE_CHECKING:
    from graphopt.backends.xla.emitter import Emitter

Array = np.ndarray[Any, Any]
Outcome = Operand | Sequence[Operand | None]
RuleFunction = Callable[["Emission"], Outcome]
CONSTANT_LIMIT = 1 << 24  # bytes of a constant that a rule may read


class Emission:
    """One node, for one call of a rule."""

    __slots__ = ("_attrs", "build", "emitter", "node")

    def __init__(self, node: Node, emitter: Emitter):
        self.node, self.emitter, self.build = node, emitter, emitter.build
        self._attrs: Mapping[str, Any] = attributes(node)

    @property
    def options(self) -> XlaOptions:
        """What the caller asked for."""
        return self.emitter.options

    def by_platform(self, choose: Callable[[str], Callable[[], Operand]]) -> Operand:
        """The only output, by what `choose` says for the platform; the program chooses itself where they differ."""
        choices = [choose(name) for name in self.options.platforms]
        if all(choice is choices[0] for choice in choices):
            return choices[0]()
        b, index, dims = self.build, self.emitter.platform, self.dims()
        assert index is not None
        operation = b.hlo.CaseOp([b.type(self.dtype, dims)], index.value, len(choices))
        for region, choice in zip(operation.regions, choices, strict=True):
            with b.ir.InsertionPoint(region.blocks.append()):
                b.hlo.return_([choice().value])
        return b.made(operation.result, self.dtype, dims)

    def value(self, index: int) -> Value:
        """The data input `index` in the graph, negative from the end."""
        return self.node.input(index)

    def input(self, index: int) -> Operand:
        """The data input `index`, negative from the end."""
        return self.emitter.input(self.node, index % len(self.node.inputs))

    @property
    def inputs(self) -> list[Operand]:
        """All data inputs."""
        return [self.input(place) for place, value in enumerate(self.node.inputs) if value is not None]

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute `name`, with the operator's own default."""
        return self._attrs.get(name, default)

    def text(self, name: str, default: str = "") -> str:
        """A string attribute as text."""
        value = self._attrs.get(name)
        return value.decode(errors="replace") if isinstance(value, bytes) else default

    @property
    def dtype(self) -> DType:
        """Element type of the first output."""
        return self.node.output.dtype if len(self.node.outputs) == 1 else self.node.outputs[0].dtype

    def dims(self, index: int = 0) -> tuple[KnownDim, ...]:
        """The shape of an output. Refuses where it follows from data alone."""
        shape = self.node.outputs[index].shape
        found = () if shape.dims is None else tuple(dim for dim in shape.dims if dim is not None)
        if shape.dims is None or len(found) != len(shape.dims):
            self.refuse(f"its shape {shape} depends on data", SPECIALISE)
        return found

    def static(self, index: int = 0) -> tuple[int, ...]:
        """The shape of an output in numbers. Refuses where it is not known."""
        return static_dims(self.dims(index))

    def known(self, index: int) -> Array | None:
        """The value of an input that is constant, or None."""
        value = self.node.input(index)
        found = known_array(value, CONSTANT_LIMIT)
        return found if found is not None else self.emitter.bound_array(value)

    def constant_input(self, index: int, what: str) -> Array:
        """The value of an input that must be constant. Refuses, calling it `what`, where it is not."""
        array = self.known(index)
        if array is None:
            self.refuse(f"{what} is computed at run time", "make it a constant (freeze or specialise the model)")
        return array

    def sizes(self, index: int, what: str) -> list[KnownDim]:
        """An input that holds sizes, as numbers and symbols. Refuses where one is neither."""
        array = self.known(index)
        if array is not None:
            return [int(number) for number in array.reshape(-1)]
        partial = ShapeValues(256)(self.node.input(index))
        if partial is None or any(dim is None for dim in partial):
            self.refuse(f"{what} is computed at run time", "make it a constant (freeze or specialise the model)")
        return [dim for dim in partial if dim is not None]

    def axis(self, index: int, rank: int, what: str = "the axis") -> int:
        """A constant scalar input that names an axis, counted from the front."""
        number = int(self.constant_input(index, what).reshape(-1)[0])
        return number % rank if rank else 0

    def refuse(self, reason: str, remedy: str = "") -> NoReturn:
        """End the rule: the node has no form, for this reason; `remedy` is what helps."""
        raise CannotLowerError(reason, remedy)


def reference(op: Emission) -> Callable[..., Any]:
    """What the operator table computes with the node's attributes, for numbers that a rule needs beforehand."""
    known = find(op.node.op)
    evaluate = known.evaluate if known is not None else None
    assert evaluate is not None
    attrs = attributes(op.node)
    return lambda *arrays: evaluate(attrs, *arrays)
