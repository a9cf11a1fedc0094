"""An operation about to be translated: its operands, its attributes, and what to build with.

A rule is a function registered by operator:

    @RULES.translate("stablehlo.abs")
    def absolute(op: Operation) -> Operand:
        \"\"\"Absolute values.\"\"\"
        return op.elementwise("Abs", op.input(0))

It returns an operand for the one result, or a sequence with one for each. Where an operation does not fit,
`op.refuse(reason, remedy)` ends the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.importers.stablehlo import attributes
from graphopt.importers.stablehlo.building import Builder
from graphopt.importers.stablehlo.operand import Operand
from graphopt.ir.dimensions import Dim
from graphopt.ir.types import DType
from graphopt.ir.value import Value

if TYPE_CHECKING:
    from graphopt.importers.stablehlo.scope import Scope
    from graphopt.importers.stablehlo.translation import Translator


class Operation:
    """One operation, for one call of a rule."""

    __slots__ = ("_attributes", "build", "mlir", "name", "operands", "scope", "translator")

    def __init__(
        self, name: str, mlir: Any, given: Any, operands: Sequence[Operand], scope: Scope, translator: Translator
    ):
        self.name, self.mlir, self._attributes = name, mlir, given
        self.operands, self.scope, self.translator = tuple(operands), scope, translator
        self.build: Builder = scope.build

    # Operands and results -------------------------------------------------------------------------------------

    def input(self, index: int) -> Operand:
        """The operand `index`."""
        return self.operands[index]

    def full(self, index: int) -> Value:
        """The operand `index` with nothing left to broadcast."""
        return self.build.full(self.operands[index])

    def dims(self, index: int = 0) -> tuple[Dim, ...]:
        """The shape of a result as the module declares it, None for sizes it leaves open."""
        return attributes.dims_of(self.mlir.results[index].type)

    def static(self, operand: Operand, axes: Sequence[int] | None = None) -> tuple[int, ...]:
        """Sizes of an operand as numbers, of all axes or of some. Refuses where one is not known."""
        chosen = operand.dims if axes is None else [operand.dims[axis] for axis in axes]
        numbers = tuple(dim for dim in chosen if isinstance(dim, int))
        if len(numbers) != len(chosen):
            self.refuse("it needs sizes that are not known", "export the function for sizes that are numbers")
        return numbers

    def dtype(self, index: int = 0) -> DType:
        """The element type of a result."""
        return attributes.dtype_of(self.mlir.results[index].type)

    def constant_input(self, index: int, what: str) -> np.ndarray[Any, Any]:
        """The elements of an operand that must be constant. Refuses, calling it `what`, where they are not."""
        operand = self.operands[index]
        number = operand.number
        array = operand.array if number is None else np.full(self.static(operand), number)
        if array is None:
            self.refuse(f"{what} is computed at run time")
        return array

    def refuse(self, reason: str, remedy: str = "") -> NoReturn:
        """End the rule: the operation has no form, for this reason; `remedy` is what helps."""
        raise CannotLowerError(reason, remedy)

    # Attributes -----------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """There is an attribute of this name."""
        return name in self._attributes

    def attribute(self, name: str) -> Any:
        """An attribute as MLIR has it. Refuses where it is missing."""
        if name not in self._attributes:
            self.refuse(f"it has no attribute '{name}'")
        return self._attributes[name]

    def ints(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """A list of integers, flat."""
        return attributes.integers_of(self._attributes[name]) if name in self._attributes else list(default)

    def integer(self, name: str, default: int = 0) -> int:
        """A number."""
        return int(self._attributes[name].value) if name in self._attributes else default

    def number(self, name: str) -> float:
        """A number with a fraction."""
        return float(self.attribute(name).value)

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value."""
        return bool(self._attributes[name].value) if name in self._attributes else default

    def text(self, name: str) -> str:
        """A string, or the name of a symbol."""
        return str(self._attributes[name].value) if name in self._attributes else ""

    def keyword(self, name: str, kind: str, default: str = "") -> str:
        """The keyword of an enumeration's attribute."""
        return attributes.enumeration(self._attributes[name], kind) if name in self._attributes else default

    def structure(self, name: str, kind: str) -> Any:
        """An attribute with fields."""
        return attributes.structure(self.attribute(name), kind)

    # Building -------------------------------------------------------------------------------------------------

    def elementwise(self, op: str, *operands: Operand, dims: Sequence[Dim] | None = None, **attrs: Any) -> Operand:
        """An operator that works element by element, on operands that may yet have to be broadcast."""
        value = self.build.value(op, *(operand.value for operand in operands), **attrs)
        return self.like(value, *operands, dims=dims)

    def like(self, value: Value, *operands: Operand, dims: Sequence[Dim] | None = None) -> Operand:
        """`value` as an operand of the shape that `operands` have."""
        if dims is None:
            dims = operands[0].dims
            for other in operands[1:]:
                dims = [mine if isinstance(mine, int) or theirs is None else theirs
                        for mine, theirs in zip(dims, other.dims, strict=True)]  # fmt: skip
        result = Operand(value, dims)
        if not result.is_full:
            result.size_source = next((operand.size_source for operand in operands if operand.size_source), None)
            if result.size_source is None and any(not isinstance(dim, int) for dim in dims):
                whole = next((operand for operand in operands if operand.is_full), None)
                result.size_source = None if whole is None else self.build.sizes(whole)
        return result

    def made(self, value: Value, dims: Sequence[Dim] | None = None) -> Operand:
        """`value`, of the shape that the first result is declared with, or `dims`."""
        return self.build.operand(value, self.dims() if dims is None else dims)

    def constant(self, number: Any, like: Operand) -> Operand:
        """A number as an operand of the type and shape of another."""
        made = Operand(self.build.scalar(number, like.dtype), like.dims, like.size_source)
        if made.size_source is None and any(not isinstance(dim, int) for dim in like.dims):
            made.size_source = self.build.sizes(like)
        return made
