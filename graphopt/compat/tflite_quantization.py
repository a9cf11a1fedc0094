"""What `tf.lite.TFLiteConverter`'s attributes say of quantization, as a recipe and statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from graphopt.compat.tflite_attributes import type_name
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model
from graphopt.passes.quantize.recipe import Mode, Recipe, Rule, preset
from graphopt.passes.quantize.trained import has_trained_ranges

WIDE = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"
INTEGERS = frozenset({"TFLITE_BUILTINS_INT8", WIDE})


def mode_of(converter: Any) -> Mode | None:
    """The mode that optimizations, data and the target's types come down to; None for floats.

    Raises `UsageError` where integers are asked for and there are no data to find their ranges by.
    """
    kinds = {type_name(item) for item in converter.target_spec.supported_types or ()}
    if converter.quantize_to_float16 or ("float16" in kinds and converter.optimizations):
        return "float16"
    wants = bool(converter.optimizations) or converter.post_training_quantize
    if not wants:
        return None
    operators = operators_of(converter)
    if converter.representative_dataset is not None:
        return "int16x8" if WIDE in operators else "int8"
    if operators & INTEGERS:
        return "int16x8" if WIDE in operators else "int8"
    return "dynamic"


def operators_of(converter: Any) -> set[str]:
    """Names of the sets of operators that the target has."""
    return {str(getattr(item, "name", item)) for item in converter.target_spec.supported_ops}


def quantized(model: Model, converter: Any) -> Model:
    """`model`, lowered, quantized as `converter` says, which takes the notes; as it is where it says nothing.

    Raises `UnloweredError` naming the operators that stay floats where the target has those of integers alone, and
    `UsageError` for integers at the ends of a model that has none within.
    """
    mode = mode_of(converter)
    if mode == "dynamic" and any(map(has_trained_ranges, model.graphs)):
        mode = "int8"  # training has chosen the ranges
    is_static = mode in ("int8", "int16x8")
    for name in ("inference_input_type", "inference_output_type"):
        if not is_static and type_name(getattr(converter, name)) not in (None, "float32"):
            raise UsageError(f"{name} is float32 unless optimizations and representative_dataset make integers of it")
    if mode is None:
        return model
    from graphopt.quantization import quantize, refuse_floats, with_types

    is_strict = is_static and operators_of(converter) <= INTEGERS
    recipe = Recipe(_rules(converter, mode), islands=not is_strict)
    recipe = with_types(recipe, type_name(converter.inference_input_type), type_name(converter.inference_output_type))
    given = converter.representative_dataset if recipe.needs_statistics else None
    data = None if given is None else samples_of(given, model)
    made = quantize(model, recipe, data=data, effort=converter.effort, check=False)
    if is_strict:
        refuse_floats(made.plan, "builtin operators of integers alone")
    converter.notes = [*converter.notes, *made.notes]
    return made.model


def _rules(converter: Any, mode: Mode) -> tuple[Rule, ...]:
    (rule,) = preset(mode).rules
    if converter._experimental_disable_per_channel:
        return (msgspec.structs.replace(rule, granularity="tensor"),)
    if converter._experimental_disable_per_channel_quantization_for_dense_layers:
        return rule, msgspec.structs.replace(rule, operators=("FULLY_CONNECTED",), granularity="tensor")
    return (rule,)


def samples_of(given: Any, model: Model) -> Any:
    """A representative dataset as samples: of one signature, or of each, where it yields (signature, sample)."""
    generate = getattr(given, "input_gen", given)
    if not callable(generate):
        raise UsageError(f"a representative dataset is a function that yields samples, not a {type(given).__name__}")
    first = next(iter(generate()), None)
    if first is None:
        raise UsageError("the representative dataset yields no samples")
    if not (isinstance(first, tuple) and len(first) == 2 and isinstance(first[0], str)):
        return generate
    names = dict.fromkeys(key for key, _ in generate())
    for name in names:
        if name not in model.signatures:
            raise UsageError(f"the representative dataset has samples for '{printable(name)}', which is no signature")
    return {name: _Of(generate, name) for name in names}


class _Of:
    """The samples of one signature among those of several."""

    def __init__(self, generate: Callable[[], Any], name: str):
        self._generate, self._name = generate, name

    def __iter__(self) -> Iterator[Any]:
        return (sample for key, sample in self._generate() if key == self._name)
