"""The table that the families of rules fill: one function for each StableHLO, CHLO or custom operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar, Union

from graphopt.importers.stablehlo.operand import Operand

if TYPE_CHECKING:
    from graphopt.importers.stablehlo.operation import Operation

Outcome = Union[Operand, Sequence[Operand]]  # noqa: UP007 (evaluated at run time on Python 3.10 as well)
RuleFunction = Callable[["Operation"], Outcome]
Function = TypeVar("Function", bound=RuleFunction)
FAMILIES = (
    "elementwise", "special", "shaping", "slicing", "gathering", "scattering", "products", "convolution", "reduction",
    "windows", "ordering", "control", "spectral", "linalg",
)  # fmt: skip


class ImportRules:
    """Rules by operator: `stablehlo.add`, `chlo.erf`, and `custom_call.TopK` for a custom call's target."""

    def __init__(self) -> None:
        self.functions: dict[str, RuleFunction] = {}

    def translate(self, *operators: str) -> Callable[[Function], Function]:
        """Register a function as the rule of `operators`; its docstring is its documentation."""

        def register(function: Function) -> Function:
            for operator in operators:
                self.functions[operator] = function
            return function

        return register

    def operators(self) -> dict[str, None]:
        """Operators for which there is a rule."""
        return dict.fromkeys(self.functions)


RULES = ImportRules()


@cache
def all_rules() -> ImportRules:
    """The table with the rules of every family."""
    for family in FAMILIES:
        import_module(f"graphopt.importers.stablehlo.rules.{family}")
    return RULES
