"""The table that the families of rules fill: one function for each TensorFlow operator."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TypeVar

from graphopt.backends.xla.emission import RuleFunction

Function = TypeVar("Function", bound=RuleFunction)
FAMILIES = (
    "elementwise", "activations", "special", "gamma", "gradients", "rounding", "convolution", "pooling",
    "normalization", "matmul", "einsum", "linalg", "fused", "reduction", "reshaping", "slicing", "joining",
    "indexing", "scattering", "segments", "ordering", "filling", "diagonals", "resampling", "image", "detection",
    "spectral", "control", "lists", "random", "recurrent", "refusals",
)  # fmt: skip


class EmissionRules:
    """Rules by operator."""

    def __init__(self) -> None:
        self.functions: dict[str, RuleFunction] = {}

    def lower(self, *ops: str) -> Callable[[Function], Function]:
        """Register a function as the rule of `ops` (`tf.Relu`); its docstring is its documentation."""

        def register(function: Function) -> Function:
            for op in ops:
                self.functions[op] = function
            return function

        return register

    def operators(self) -> dict[str, None]:
        """Operators for which there is a rule."""
        return dict.fromkeys(self.functions)


RULES = EmissionRules()


@cache
def all_rules() -> EmissionRules:
    """The table with the rules of every family."""
    for family in FAMILIES:
        import_module(f"graphopt.backends.xla.rules.{family}")
    return RULES
