"""Quantization under names that people know: MediaPipe Model Maker's `QuantizationConfig`, tf.lite's debugger."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphopt.compat.tflite import OpsSet, Optimize, TFLiteConverter
from graphopt.ir.errors import UnsupportedError, UsageError

__all__ = ["QuantizationConfig", "QuantizationDebugOptions", "QuantizationDebugger"]

STEPS = 500  # samples that representative data give at most


@dataclass
class QuantizationConfig:
    """How to quantize: of Model Maker's form, to be set on a converter. Make one by `for_dynamic`, `for_int8`,
    `for_float16`."""

    optimizations: Sequence[Any] = field(default_factory=list)
    representative_data: Any = None
    quantization_steps: int | None = None
    inference_input_type: Any = None
    inference_output_type: Any = None
    supported_ops: Iterable[Any] | None = None
    supported_types: Iterable[Any] | None = None
    effort: str | None = None

    @classmethod
    def for_dynamic(cls) -> QuantizationConfig:
        """Integer weights, activations quantized at run time."""
        return cls([Optimize.DEFAULT])

    @classmethod
    def for_float16(cls) -> QuantizationConfig:
        """Weights in half precision."""
        return cls([Optimize.DEFAULT], supported_types=["float16"])

    @classmethod
    def for_int8(
        cls,
        representative_data: Any,
        quantization_steps: int = STEPS,
        inference_input_type: Any = "uint8",
        inference_output_type: Any = "uint8",
        supported_ops: Any = OpsSet.TFLITE_BUILTINS_INT8,
        effort: str | None = None,
    ) -> QuantizationConfig:
        """Integers throughout, by the ranges of at most `quantization_steps` of the samples.

        `representative_data` are samples: lists of arrays, dicts by input name, or a function that yields them; what
        has a method `gen_tf_dataset` is asked for a dataset, whose labels are left out. `effort` says how hard to try
        for accuracy, as for `graphopt.quantize`; it is for converters of graphopt.
        """
        listed = list(supported_ops) if isinstance(supported_ops, (list, tuple, set)) else [supported_ops]
        return cls(
            [Optimize.DEFAULT], representative_data, quantization_steps, inference_input_type, inference_output_type,
            listed, effort=effort,
        )  # fmt: skip

    def set_converter_with_quantization(self, converter: Any, **options: Any) -> Any:
        """Set the attributes of `converter`, ours or tf.lite's, and return it; `options` go to `gen_tf_dataset`."""
        converter.optimizations = list(self.optimizations)
        if self.representative_data is not None:
            converter.representative_dataset = self._samples(options)
        if self.inference_input_type is not None:
            converter.inference_input_type = self.inference_input_type
        if self.inference_output_type is not None:
            converter.inference_output_type = self.inference_output_type
        if self.supported_ops is not None:
            converter.target_spec.supported_ops = list(self.supported_ops)
        if self.supported_types is not None:
            converter.target_spec.supported_types = list(self.supported_types)
        if self.effort is not None:
            converter.effort = self.effort
        return converter

    def _samples(self, options: dict[str, Any]) -> Callable[[], Iterator[Any]]:
        def generate() -> Iterator[Any]:
            given = self.representative_data
            if hasattr(given, "gen_tf_dataset"):
                pairs = given.gen_tf_dataset(batch_size=1, is_training=False, **options).as_numpy_iterator()
                given = ([pair[0]] if isinstance(pair, tuple) else [pair] for pair in pairs)
            samples = given() if callable(given) else given
            yield from itertools.islice(iter(samples), self.quantization_steps)

        return generate


@dataclass
class QuantizationDebugOptions:
    """Further figures of each layer (functions of the differences) and of the model (of its outputs), by name.

    `layer_debug_metrics` take the differences; `layer_direct_compare_metrics` the floats, the integers, scale and zero
    point; `model_debug_metrics` the outputs of the float and of the quantized model. `denylisted_ops` are types of
    operators, `denylisted_nodes` names of tensors, that stay float.
    """

    layer_debug_metrics: dict[str, Callable[[Any], float]] | None = None
    model_debug_metrics: dict[str, Callable[[Any, Any], float]] | None = None
    layer_direct_compare_metrics: dict[str, Callable[[Any, Any, float, int], float]] | None = None
    denylisted_ops: list[str] | None = None
    denylisted_nodes: list[str] | None = None
    fully_quantize: bool = False


class QuantizationDebugger:
    """tf.lite's: what each integer operator's output is off from the float operator's on the same inputs.

    Of a converter with `representative_dataset`, or of a float model (`float_model_path`, `float_model_content`), which
    is then quantized to int8 by the ranges that `debug_dataset` shows. `debug_dataset` yields samples as
    `representative_dataset` does. After `run`, `layer_statistics` and `model_statistics` hold the means over them.
    """

    def __init__(
        self,
        quant_debug_model_path: str | None = None,
        quant_debug_model_content: bytes | None = None,
        float_model_path: str | None = None,
        float_model_content: bytes | None = None,
        debug_dataset: Callable[[], Any] | None = None,
        debug_options: QuantizationDebugOptions | None = None,
        converter: TFLiteConverter | None = None,
    ):
        if quant_debug_model_path or quant_debug_model_content:
            raise UnsupportedError(
                "graphopt reads no debug models of tf.lite's: give a converter, or the float model as float_model_path"
            )
        if debug_dataset is None:
            raise UsageError("a debugger needs debug_dataset, a function that yields samples")
        self._data = debug_dataset
        self._options = debug_options or QuantizationDebugOptions()
        self._source = converter or float_model_path or float_model_content
        if self._source is None:
            raise UsageError("a debugger needs a converter or a float model")
        self._inspection: Any = None
        self.layer_statistics: dict[str, dict[str, float]] = {}
        self.model_statistics: dict[str, float] = {}

    @property
    def options(self) -> QuantizationDebugOptions:
        """What was asked for; setting it quantizes anew."""
        return self._options

    @options.setter
    def options(self, value: QuantizationDebugOptions) -> None:
        self._options, self._inspection = value, None

    def run(self) -> None:
        """Run all samples and average what is found."""
        inspection = self._inspected()
        self.layer_statistics, self.model_statistics = inspection.run(self._data, self._options)

    def layer_statistics_dump(self, file: Any) -> None:
        """Write a row of CSV for each layer: what it is, the figures, its scale and zero point, its tensor's name."""
        self._inspected().dump(file, self.layer_statistics)

    def get_nondebug_quantized_model(self) -> bytes:
        """The quantized model as the bytes of a `.tflite` file."""
        content: bytes = self._inspected().quantized_bytes
        return content

    def get_debug_quantized_model(self) -> bytes:
        """The quantized model with the float operators beside its own."""
        content: bytes = self._inspected().debug_bytes
        return content

    def _inspected(self) -> Any:
        if self._inspection is None:
            from graphopt.compat.quantization_inspection import inspect

            self._inspection = inspect(self._source, self._data, self._options)
        return self._inspection
