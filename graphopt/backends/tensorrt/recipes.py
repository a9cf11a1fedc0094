"""Recipes as TensorRT can follow them: symmetric, int8 (or FP8 in its place) with activations, int4 and int8 for
weights alone. What it cannot follow is an error that says what to write instead."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from graphopt.ir.errors import UsageError
from graphopt.passes.quantize.recipe import OperatorRecipe, Recipe, Rule

# Operators of other dialects, by what they become in ONNX.
OPERATORS: Mapping[str, tuple[str, ...]] = {
    "Conv": ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D"),
    "ConvTranspose": ("Conv2DBackpropInput", "Conv3DBackpropInputV2", "TRANSPOSE_CONV"),
    "MatMul": ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "FULLY_CONNECTED", "BATCH_MATMUL"),
    "Gemm": ("MatMul", "FULLY_CONNECTED"),
    "AveragePool": ("AvgPool", "AVERAGE_POOL_2D"),
    "ReduceMean": ("Mean", "MEAN"),
    "Add": ("AddV2", "ADD"),
}
_BECOMES: dict[str, tuple[str, ...]] = {
    name: tuple(onnx for onnx, others in OPERATORS.items() if name in others)
    for names in OPERATORS.values()
    for name in names
}


def default_recipe(precision: str) -> Recipe:
    """Everything in `precision`; blocks of int4 take the size that divides the weights."""
    if precision == "int4":
        return Recipe((Rule(mode="weight-only", weight_bits=4, clip_weights=True),))
    return Recipe((Rule(mode="int8", symmetric=True),))


def read_recipe(given: Recipe | str | os.PathLike[str]) -> Recipe:
    """The recipe, checked. Raises `UsageError` for what TensorRT cannot follow."""
    from graphopt.quantization import read_recipe as read

    recipe = read(given)
    for place, rule in enumerate(recipe.rules, 1):
        problem = _problem(rule)
        if problem is not None:
            raise UsageError(f"TensorRT cannot follow rule {place} of the recipe: {problem}")
    if recipe.input_type != "float32" or recipe.output_type != "float32":
        raise UsageError("TensorRT's inputs and outputs keep their types: leave input_type and output_type out")
    return msgspec.structs.replace(recipe, rules=tuple(map(_translated, recipe.rules)))


def _problem(rule: OperatorRecipe) -> str | None:
    if rule.mode == "int8" and not rule.symmetric:
        return 'it quantizes activations with zero points other than zero; add "symmetric": true'
    if rule.mode == "int8" and rule.weight_bits != 8:
        return "weights of 4 bits go with float activations; make its mode weight-only"
    if rule.mode == "float16":
        return "half precision is a precision of its own (--precision fp16); make its mode float"
    if rule.mode == "dynamic":
        return "its scales would follow from data at run time; make its mode int8 or weight-only"
    if rule.mode == "int16x8":
        return "it has no integers of 16 bits; make its mode int8, with symmetric"
    if rule.mode == "weight-only" and rule.weight_bits == 4 and rule.granularity != "block":
        return 'weights of 4 bits have scales by block; add "granularity": "block" and "block_size": 64 or 128'
    return None


def _translated(rule: Rule) -> Rule:
    """The rule, for ONNX's names of its operators too."""
    names = list(rule.operators)
    for name in rule.operators:
        names += _BECOMES.get(name.rpartition(".")[2] if not name.startswith("onnx.") else name, ())
    return msgspec.structs.replace(rule, operators=tuple(dict.fromkeys(names)))
