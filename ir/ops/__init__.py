"""The operator table: interfaces, traits, shape inference and NumPy evaluation, by family."""

from graphopt.ir.ops.interfaces import Argument, Interface, interface
from graphopt.ir.ops.registry import (
    Operator,
    attributes,
    declared_operators,
    declared_with,
    find,
    has_trait,
    register,
    traits_of,
)
from graphopt.ir.ops.traits import Trait

__all__ = [
    "Argument",
    "Interface",
    "Operator",
    "Trait",
    "attributes",
    "declared_operators",
    "declared_with",
    "find",
    "has_trait",
    "interface",
    "register",
    "traits_of",
]
