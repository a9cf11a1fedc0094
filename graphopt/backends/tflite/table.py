"""The table that the families of rules fill."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from graphopt.backends.legalization import RuleTable
from graphopt.ir.value import Node

UNCHECKED = frozenset({"tfl.CONSTANT", "tfl.INPUT", "tfl.VARIABLE", "tfl.TENSOR", "tfl.CUSTOM"})


def supported(node: Node) -> str | None:
    """None where LiteRT has a kernel that takes the node, or the reason why it has none."""
    from graphopt.ir.ops.tflite_kernels import supports_node

    return None if node.op in UNCHECKED else supports_node(node)


RULES = RuleTable("tfl", supported)
# Rules that are done with before those begin: they ask what an operator of TensorFlow is computed from.
FIRST = RuleTable("tfl", supported)

# Modules with rules, in the order in which they are tried.
FAMILIES = (
    "activations",
    "l2_normalization",
    "audio",
    "fake_quantization",
    "elementwise",
    "composed",
    "decomposed",
    "bits",
    "convolution",
    "transposed_convolution",
    "pooling",
    "normalization",
    "image",
    "neighbours",
    "matmul",
    "einsum",
    "control",
    "rows",
    "reshaping",
    "slicing",
    "joining",
    "blocks",
    "filling",
    "selection",
    "gathering",
    "diagonals",
    "scattering",
    "reduction",
    "ordering",
    "segment",
    "detection",
    "tables",
)


FIRST_FAMILIES = ("parts",)


@cache
def first_rules() -> RuleTable:
    """The table with the rules that come first."""
    for family in FIRST_FAMILIES:
        import_module(f"graphopt.backends.tflite.rules.{family}")
    return FIRST


@cache
def all_rules() -> RuleTable:
    """The table with the rules of every family."""
    for family in FAMILIES:
        import_module(f"graphopt.backends.tflite.rules.{family}")
    return RULES
