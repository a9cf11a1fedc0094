"""Recipes of ai-edge-quantizer, a JSON list of {regex, operation, algorithm_key, op_config}, as recipes of graphopt.

As there, entries of one regular expression stand together where the first of them stood, and one for all operations
("*") takes the place of those before it. What differs: there, a rule that LiteRT has no kernel for gives way to the one
before; here, such operators stay float.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.passes.quantize.recipe import BLOCK_SIZES, Mode, Recipe, Rule

# ai-edge-quantizer's name -> the schema's, where they are not the same
_OPERATORS = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV", "CUSTOM_OP": "CUSTOM"}
_ALGORITHMS = {"no_quantize": False, "min_max_uniform_quantize": False, "float_casting": False, "MSE": True}


class _Tensor(msgspec.Struct):
    num_bits: int
    symmetric: bool = True
    granularity: str = "TENSORWISE"
    dtype: Literal["INT", "UINT", "FLOAT"] = "INT"
    block_size: int = 0


class _Config(msgspec.Struct):
    activation_tensor_config: _Tensor | None = None
    weight_tensor_config: _Tensor | None = None
    compute_precision: Literal["INTEGER", "FLOAT"] = "FLOAT"
    explicit_dequantize: bool = False
    min_weight_elements: int = 0


class _Entry(msgspec.Struct):
    regex: str
    operation: str
    algorithm_key: str
    op_config: _Config | None = None


def translate(plain: Any, *, source: str = "recipe") -> Recipe:
    """The recipe that a decoded list stands for.

    Raises `MalformedError` for what is no such list, `UnsupportedError` for what has no counterpart here.
    """
    try:
        entries = msgspec.convert(plain, list[_Entry])
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at ")
        raise MalformedError(f"this is no recipe of ai-edge-quantizer: {printable(reason, 400)}", source=source,
                             field=printable(field.strip("`$."))) from None  # fmt: skip
    scopes: dict[str, dict[str, Rule]] = {}
    for place, entry in enumerate(entries):
        try:
            rule = _rule(entry)
        except ValueError as error:
            raise MalformedError(str(error), source=source, field=f"[{place}]") from None
        except UnsupportedError as error:
            raise UnsupportedError(f"{printable(source)}: rule {place}: {error}") from None
        if entry.operation == "*":
            scopes[entry.regex] = {"*": rule}
        else:
            scopes.setdefault(entry.regex, {})[entry.operation] = rule
    return Recipe(tuple(rule for rules in scopes.values() for rule in rules.values()))


def _rule(entry: _Entry) -> Rule:
    clips = _ALGORITHMS.get(entry.algorithm_key)
    if clips is None:
        raise UnsupportedError(
            f"ai-edge-quantizer's algorithm '{printable(entry.algorithm_key)}' has no counterpart here; "
            f"{', '.join(_ALGORITHMS)} have one"
        )
    operation = entry.operation
    operators = () if operation == "*" else (_OPERATORS.get(operation, operation),)
    layers = "" if entry.regex in ("", ".*") else entry.regex
    config = entry.op_config
    if entry.algorithm_key == "no_quantize" or config is None or config.weight_tensor_config is None:
        return Rule(operators=operators, layers=layers)
    weights = config.weight_tensor_config
    mode = _mode(config, weights)
    if mode == "float16":
        return Rule(operators=operators, layers=layers, mode=mode, minimum_elements=config.min_weight_elements)
    if weights.num_bits not in (4, 8):
        raise UnsupportedError(f"weights of {weights.num_bits} bits are not supported; 4 and 8 are")
    activations = config.activation_tensor_config
    granularity, block_size = _granularity(weights)
    return Rule(
        operators=operators,
        layers=layers,
        mode=mode,
        weight_bits=4 if weights.num_bits == 4 else 8,
        granularity=granularity,
        block_size=block_size,
        minimum_elements=config.min_weight_elements,
        clip_weights=clips,
        symmetric=mode == "int8" and activations is not None and activations.symmetric,
    )


def _mode(config: _Config, weights: _Tensor) -> Mode:
    activations = config.activation_tensor_config
    if weights.dtype == "FLOAT":
        if weights.num_bits != 16:
            raise UnsupportedError(f"float weights of {weights.num_bits} bits are not supported; 16 are")
        return "float16"
    if activations is None or activations.dtype == "FLOAT":
        return "dynamic" if config.compute_precision == "INTEGER" and not config.explicit_dequantize else "weight-only"
    if activations.num_bits not in (8, 16):
        raise UnsupportedError(f"activations of {activations.num_bits} bits are not supported; 8 and 16 are")
    return "int8" if activations.num_bits == 8 else "int16x8"


def _granularity(weights: _Tensor) -> tuple[Literal["tensor", "channel", "block"], int]:
    name = weights.granularity
    if weights.block_size or name.startswith("BLOCKWISE_"):
        digits = name.removeprefix("BLOCKWISE_")
        size = weights.block_size or (int(digits) if digits.isdecimal() else 0)
        if size not in BLOCK_SIZES:
            raise UnsupportedError(f"blocks of {size} elements are not supported; {BLOCK_SIZES} are")
        return "block", size
    if name not in ("TENSORWISE", "CHANNELWISE"):
        raise ValueError(f"there is no granularity '{printable(name)}'")
    return ("tensor", 0) if name == "TENSORWISE" else ("channel", 0)
