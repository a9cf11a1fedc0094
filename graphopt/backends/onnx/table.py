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
    "bits",
    "convolution",
    "transposed_convolution",
    "pooling",
    "matmul",
    "reduction",
    "array",
    "joining",
    "slicing",
    "gathering",
    "scattering",
    "ordering",
    "diagonals",
    "filling",
    "blocks",
    "computed_blocks",
    "images",
    "random",
    "text",
    "quantization",
    "detection",
    "control",
    "decomposed",
)
FIRST_FAMILIES = ("spectra",)


@cache
def first_rules() -> RuleTable:
    """The table with the rules that come before all others."""
    from graphopt.backends.onnx.rules.spectra import FIRST

    return FIRST


@cache
def all_rules() -> RuleTable:
    """The table with the rules of every family."""
    for family in FAMILIES:
        import_module(f"graphopt.backends.onnx.rules.{family}")
    return RULES
