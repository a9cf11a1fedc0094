"""The table that the families of rules fill."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from graphopt.backends.legalization import RuleTable

RULES = RuleTable("onnx")

# Modules with rules, in the order in which they are tried.
FAMILIES = (
    "elementwise",
    "composed",
    "convolution",
    "transposed_convolution",
    "pooling",
    "matmul",
    "reduction",
    "array",
    "slicing",
    "indexing",
    "filling",
    "blocks",
    "detection",
    "control",
)


@cache
def all_rules() -> RuleTable:
    """The table with the rules of every family."""
    for family in FAMILIES:
        import_module(f"graphopt.backends.onnx.rules.{family}")
    return RULES
