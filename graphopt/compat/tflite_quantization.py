"""What `tf.lite.TFLiteConverter`'s attributes say of quantization, as a recipe and statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graphopt.compat.tflite_attributes import type_name
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model
from graphopt.passes.quantize.recipe import Mode, Recipe, preset

WIDE = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"
INTEGERS = frozenset({"TFLITE_BUILTINS_INT8", WIDE})
MODES: Mapping[str, str] = {
    "float16": "PTQ_FLOAT16", "dynamic": "PTQ_DYNAMIC_RANGE", "int8": "PTQ_FULL_INTEGER", "int16x8": "PTQ_INT16",
}  # fmt: skip


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
    """`model`, lowered, quantized as `converter` says; as it is where it says nothing.

    Raises `UnloweredError` naming the operators that stay floats where the target has those of integers alone.
    """
    mode = mode_of(converter)
    if mode is None:
        return model
    from graphopt.quantization import quantize, refuse_floats, with_types

    is_strict = mode in ("int8", "int16x8") and operators_of(converter) <= INTEGERS
    recipe = Recipe(preset(mode).rules, islands=not is_strict)
    recipe = with_types(recipe, type_name(converter.inference_input_type), type_name(converter.inference_output_type))
    made = quantize(model, recipe, calibration=_statistics(model, converter, recipe))
    if is_strict:
        refuse_floats(made.plan, "builtin operators of integers alone")
    return made.model


def _statistics(model: Model, converter: Any, recipe: Recipe) -> Any:
    """Statistics of the representative dataset, whatever its samples look like; None where it is not needed."""
    given = converter.representative_dataset
    if not recipe.needs_statistics or given is None:
        return None
    from graphopt.calibration import calibrate

    return calibrate(model, samples_of(given, model), check=False)


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
