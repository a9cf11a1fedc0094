"""Recipes: which operators are quantized how, as plain data that is read from and written to JSON.

A recipe is a list of rules. A rule says which operators it is for and how they are quantized; where several rules match
an operator, the last one decides alone, and an operator that no rule matches stays float.

    {"schema": "graphopt.recipe/1",
     "rules": [{"mode": "int8"},
               {"layers": "^head/", "mode": "float"},
               {"operators": ["FULLY_CONNECTED"], "mode": "weight-only", "weight_bits": 4, "block_size": 32}]}
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from graphopt.ir.errors import MalformedError, UnsupportedError, UsageError, printable
from graphopt.ir.formats.atomic import write_atomically
from graphopt.ir.value import Node
from graphopt.passes.quantize.methods import RangeMethod

SCHEMA = "graphopt.recipe/1"
Mode = Literal["float", "float16", "dynamic", "weight-only", "int8", "int16x8"]
MODES: tuple[Mode, ...] = ("float", "float16", "dynamic", "weight-only", "int8", "int16x8")
Granularity = Literal["tensor", "channel", "block"]
BoundaryType = Literal["float32", "int8", "uint8", "int16"]
BLOCK_SIZES = (32, 64, 128, 256)


class OperatorRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How one operator is quantized.

    `mode`: `float` leaves it alone; `float16` stores weights in half precision; `dynamic` stores integer weights and
    quantizes activations at run time; `weight-only` stores integer weights and computes in float; `int8` and `int16x8`
    compute in integers, with activations of 8 or 16 bits, and need statistics.

    Weights have `weight_bits` bits and one scale for each `granularity`; for blocks, of `block_size` elements each. A
    weight of fewer than `minimum_elements` elements stays float where the mode allows. `clip_weights` searches for the
    weights' range with the least squared error. `symmetric` makes int8 activations symmetric. `calibration` chooses
    their ranges; None means the method the statistics were collected for.
    """

    mode: Mode = "float"
    weight_bits: Literal[4, 8] = 8
    granularity: Granularity = "channel"
    block_size: int = 0
    minimum_elements: int = 0
    clip_weights: bool = False
    symmetric: bool = False
    calibration: RangeMethod | None = None

    def __post_init__(self) -> None:
        """msgspec turns a `ValueError` into an error with the place in the file."""
        if self.block_size and (self.granularity != "block" or self.block_size not in BLOCK_SIZES):
            raise ValueError(f"a block_size goes with granularity 'block' and is one of {BLOCK_SIZES}")
        if self.granularity == "block" and not self.block_size:
            raise ValueError(f"granularity 'block' needs a block_size, one of {BLOCK_SIZES}")
        if self.granularity == "block" and self.mode not in ("weight-only", "dynamic", "float"):
            raise ValueError(f"no kernel takes blocks of weights in mode '{self.mode}'")
        if self.minimum_elements < 0:
            raise ValueError("minimum_elements is below zero")

    @property
    def is_static(self) -> bool:
        """Activations are quantized ahead of time, so statistics are needed."""
        return self.mode in ("int8", "int16x8")

    @property
    def activation_bits(self) -> int | None:
        """Bits of stored activations; None where they stay float."""
        return {"int8": 8, "int16x8": 16}.get(self.mode)


FLOAT = OperatorRecipe()


class Rule(OperatorRecipe, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An `OperatorRecipe` and what it is for; what is left out matches everything.

    `operators` are types, with or without their dialect (`CONV_2D`, `tfl.CONV_2D`, `tf.Conv2D`). `layers` is a regular
    expression searched for in the names of the source nodes that the operator comes from and in those of its outputs.
    `subgraph` is one searched for in the name of the function it is in, which is empty for the main graph: `^$`.
    `signature` names a signature that uses the operator.
    """

    operators: tuple[str, ...] = ()
    layers: str = ""
    subgraph: str = ""
    signature: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "subgraph"):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # of sets within sets, which mean what they say
                    re.compile(getattr(self, name))
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"'{name}' is no regular expression: {error}") from None

    @property
    def recipe(self) -> OperatorRecipe:
        """What the rule says of the operators it matches."""
        return OperatorRecipe(**{name: getattr(self, name) for name in OperatorRecipe.__struct_fields__})


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rules, of which the last that matches decides, and the types at the model's borders.

    `input_type` and `output_type` are what callers feed and fetch: float32, or an integer type where the border is
    quantized, which then needs no conversion. With `islands`, operators that the target's delegate does not take in
    int8 compute in floats, where that makes the model faster; without, all integers that there are kernels for.
    """

    rules: tuple[Rule, ...] = ()
    input_type: BoundaryType = "float32"
    output_type: BoundaryType = "float32"
    islands: bool = True

    @property
    def needs_statistics(self) -> bool:
        """Some rule quantizes activations ahead of time."""
        return any(rule.is_static for rule in self.rules)

    @property
    def range_methods(self) -> tuple[RangeMethod, ...]:
        """The calibration methods that rules name: statistics must hold what they need."""
        named = (rule.calibration for rule in self.rules if rule.is_static and rule.calibration is not None)
        return tuple(dict.fromkeys(named))

    def for_node(self, node: Node) -> OperatorRecipe:
        """How `node` is quantized. For many nodes of one model, `RecipeMatcher(recipe, model).for_node` is faster."""
        from graphopt.passes.quantize.matching import RecipeMatcher

        return RecipeMatcher(self, node.graph.model if node.graph is not None else None).for_node(node)

    def with_rules(self, *rules: Rule) -> Recipe:
        """The recipe with more rules at the end, which decide over those it has."""
        return msgspec.structs.replace(self, rules=(*self.rules, *rules))


SMALL = 1024  # elements below which storing a weight in fewer bits saves less than it costs
PRESETS: Mapping[str, Recipe] = {
    "float16": Recipe((Rule(mode="float16"),)),
    "dynamic": Recipe((Rule(mode="dynamic", minimum_elements=SMALL),)),
    "weight-only": Recipe((Rule(mode="weight-only", minimum_elements=SMALL),)),
    "int8": Recipe((Rule(mode="int8"),)),
    "int16x8": Recipe((Rule(mode="int16x8"),)),
}


def preset(name: str) -> Recipe:
    """The recipe that quantizes everything in one mode. Raises `UsageError` for an unknown one."""
    if name not in PRESETS:
        raise UsageError(f"there is no quantization mode '{printable(name)}'; there are {', '.join(PRESETS)}")
    return PRESETS[name]


# As a file ----------------------------------------------------------------------------------------------------


def recipe_bytes(recipe: Recipe) -> bytes:
    """`recipe` as JSON, indented."""
    plain: dict[str, Any] = {"schema": SCHEMA, **msgspec.to_builtins(recipe)}
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def save_recipe(recipe: Recipe, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """Write `recipe` to `path`, atomically. Raises `UsageError` if it exists and `overwrite` is off."""
    write_atomically(path, [recipe_bytes(recipe)], overwrite=overwrite)


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a JSON file, graphopt's or ai-edge-quantizer's. Raises `MalformedError`."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read()
    except OSError as error:
        raise MalformedError(f"cannot be read: {printable(error.strerror or str(error))}", source=name) from None
    return read_recipe(data, source=name)


def read_recipe(data: bytes, *, source: str = "recipe") -> Recipe:
    """The inverse of `recipe_bytes`; also reads ai-edge-quantizer's lists.

    Raises `MalformedError` naming the field, and `UnsupportedError` for an algorithm of ai-edge-quantizer's that has no
    counterpart here.
    """
    try:
        plain = msgspec.json.decode(data)
        if isinstance(plain, list):
            from graphopt.passes.quantize.ai_edge_recipe import translate

            return translate(plain, source=source)
        if _is_bundle(plain):
            raise UnsupportedError(
                f"{printable(source)}: these are ai-edge-quantizer's recipes for the models of a bundle "
                f"({printable(', '.join(plain), 200)}): give the list for one model"
            )
        schema = plain.pop("schema", None) if isinstance(plain, dict) else None
        if schema != SCHEMA:
            shown = f"schema {printable(repr(schema), 80)}" if schema is not None else "no schema"
            raise MalformedError(f"this is not a recipe: it has {shown}, not '{SCHEMA}'", source=source)
        return msgspec.convert(plain, Recipe)
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at ")
        raise MalformedError(printable(reason, 400), source=source, field=printable(field.strip("`$."))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"this is not a recipe: {printable(str(error), 400)}", source=source) from None


def _is_bundle(plain: Any) -> bool:
    """ai-edge-quantizer's lists by the names of models, or of files that have them."""
    if not isinstance(plain, dict) or not plain or "schema" in plain:
        return False
    return all(isinstance(item, (list, str)) for item in plain.values())
