"""Quantization by names that people know: the converter's attributes, Model Maker's configuration, the debugger."""

from __future__ import annotations

import csv
import io
import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.compat import OpsSet, Optimize, RepresentativeDataset, TFLiteConverter
from graphopt.compat.quantization import QuantizationConfig, QuantizationDebugger, QuantizationDebugOptions
from graphopt.compat.tflite_quantization import WIDE, mode_of, samples_of
from graphopt.ir.formats.tflite import read_tflite
from graphopt.ir.formats.tflite.metadata import read_conversion_metadata
from graphopt.runtimes.litert import LiteRTRuntime
from graphopt.testing.lowering import text_model

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(32, 48)).astype(np.float32)
SAMPLES = RNG.normal(size=(12, 1, 32)).astype(np.float32)
BODY = f"""
%w = tf.Const() {{dtype = float32, value = float32[32, 48] {WEIGHTS.tolist()}}} : float32[32, 48]
%h = tf.MatMul(%x, %w) {{T = float32, transpose_a = false, transpose_b = false}} : float32[1, 48]
%y = tf.Relu(%h) {{T = float32}} : float32[1, 48]
"""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("quantization") / "frozen.pb"
    graphopt.save(text_model(BODY, "%x: float32[1, 32]"), path)
    return str(path)


@pytest.fixture
def converter(frozen: str) -> TFLiteConverter:
    return TFLiteConverter.from_frozen_graph(frozen, ["x"], ["y"])


def listed() -> Iterator[list[Any]]:
    for sample in SAMPLES:
        yield [sample]


def named() -> Iterator[dict[str, Any]]:
    for sample in SAMPLES:
        yield {"x": sample}


def signed() -> Iterator[tuple[str, dict[str, Any]]]:
    for sample in SAMPLES:
        yield "serving_default", {"x": sample}


def decibels(model: graphopt.Model) -> float:
    right = np.maximum(SAMPLES[0] @ WEIGHTS, 0)
    got = next(iter(LiteRTRuntime().run(model, {"x": SAMPLES[0]}).values()))
    kind = model.graph.outputs[0].type
    if kind.quantization is not None:
        got = (got.astype(np.float32) - kind.quantization.zero_point[0]) * kind.quantization.scale[0]
    return float(10 * np.log10(np.square(right).sum() / np.square(got - right).sum()))


def kinds(model: graphopt.Model) -> set[str]:
    return {value.dtype.name for node in model.graph for value in node.outputs}


class TestConverter:
    @pytest.mark.parametrize("data", [listed, named, signed, RepresentativeDataset(listed)])
    def test_integers_by_the_ranges_of_data(self, converter: TFLiteConverter, data: Any) -> None:
        converter.optimizations = [Optimize.DEFAULT]
        converter.representative_dataset = data
        content = converter.convert()
        model = read_tflite(content)
        assert [node.op_type for node in model.graph if node.op_type.startswith("FULLY")] == ["FULLY_CONNECTED"]
        assert model.graph.inputs[0].dtype.name == "float32"
        assert "int8" in kinds(model)
        assert decibels(model) > 30
        said = read_conversion_metadata(model)
        assert said is not None
        assert said.options is not None
        assert said.options.model_optimization_modes == ("PTQ_FULL_INTEGER",)

    @pytest.mark.parametrize("kind", [np.int8, np.uint8, "int8"])
    def test_integers_at_the_ends(self, converter: TFLiteConverter, kind: Any) -> None:
        converter.optimizations = [Optimize.DEFAULT]
        converter.representative_dataset = listed
        converter.target_spec.supported_ops = [OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = kind
        model = read_tflite(converter.convert())
        assert {model.graph.inputs[0].dtype.name, model.graph.outputs[0].dtype.name} == {np.dtype(kind).name}

    @pytest.mark.parametrize(
        ("operators", "types", "data", "stored"),
        [
            ([OpsSet.TFLITE_BUILTINS], [], None, "int8"),
            ([OpsSet.TFLITE_BUILTINS], [np.float16], None, "float16"),
            ([OpsSet.TFLITE_BUILTINS], ["float16"], listed, "float16"),
            ([WIDE], [], listed, "int16"),
        ],
    )
    def test_other_modes(self, converter: TFLiteConverter, operators: Any, types: Any, data: Any, stored: str) -> None:
        converter.optimizations = [Optimize.DEFAULT]
        converter.target_spec.supported_ops, converter.target_spec.supported_types = operators, types
        converter.representative_dataset = data
        model = read_tflite(converter.convert())
        assert stored in kinds(model)
        assert decibels(model) > 30

    def test_without_optimizations_floats_stay_floats(self, converter: TFLiteConverter) -> None:
        converter.representative_dataset = listed
        assert mode_of(converter) is None
        assert kinds(read_tflite(converter.convert())) <= {"float32", "int32"}

    @pytest.mark.parametrize("wishes", [[], [Optimize.DEFAULT]])
    def test_integers_at_the_ends_need_integers_within(self, converter: TFLiteConverter, wishes: list[Any]) -> None:
        converter.optimizations = wishes
        converter.inference_input_type = np.uint8
        with pytest.raises(graphopt.UsageError, match="inference_input_type is float32 unless"):
            converter.convert()

    def test_effort_is_what_quantize_takes(self, converter: TFLiteConverter) -> None:
        converter.optimizations, converter.representative_dataset = [Optimize.DEFAULT], listed
        tried = converter.convert()
        assert any("ways tried" in note for note in converter.notes), converter.notes
        converter.effort = "fast"
        plain = read_tflite(converter.convert())
        assert converter.notes == []
        assert decibels(read_tflite(tried)) >= decibels(plain) - 0.5
        converter.effort = "none"
        with pytest.raises(graphopt.UsageError, match="there is no effort 'none'"):
            converter.convert()

    @pytest.mark.parametrize(
        ("name", "scales"),
        [("optimizations", 48), ("_experimental_disable_per_channel", 1),
         ("_experimental_disable_per_channel_quantization_for_dense_layers", 1)],
    )  # fmt: skip
    def test_scales_for_each_channel_or_none(self, converter: TFLiteConverter, name: str, scales: int) -> None:
        setattr(converter, name, True)
        converter.optimizations, converter.representative_dataset = [Optimize.DEFAULT], listed
        model = read_tflite(converter.convert())
        layer = next(node for node in model.graph if node.op_type == "FULLY_CONNECTED")
        kind = layer.input(1).type.quantization
        assert kind is not None
        assert len(kind.scale) == scales

    def test_buffers_behind_the_model(self, converter: TFLiteConverter) -> None:
        plain = converter.convert()
        converter._experimental_use_buffer_offset = True
        apart = converter.convert()
        assert apart != plain
        assert decibels(read_tflite(apart)) > 100

    def test_samples_that_cannot_be_right_are_noted(self, converter: TFLiteConverter) -> None:
        converter.optimizations = [Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([SAMPLES[0]] for _ in range(12))
        converter.convert()
        assert any("all 12 samples are equal" in note for note in converter.notes)

    def test_integers_alone_need_data(self, converter: TFLiteConverter) -> None:
        converter.optimizations = [Optimize.DEFAULT]
        converter.target_spec.supported_ops = [OpsSet.TFLITE_BUILTINS_INT8]
        with pytest.raises(graphopt.UsageError, match="give data"):
            converter.convert()

    def test_what_has_no_integers_is_refused_where_there_are_integers_alone(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "sine.pb"
        graphopt.save(text_model("%y = tf.Sin(%x) {T = float32} : float32[1, 32]", "%x: float32[1, 32]"), path)
        converter = TFLiteConverter.from_frozen_graph(str(path), ["x"], ["y"])
        converter.optimizations = [Optimize.DEFAULT]
        converter.representative_dataset = listed
        assert kinds(read_tflite(converter.convert())) == {"float32"}
        converter.target_spec.supported_ops = [OpsSet.TFLITE_BUILTINS_INT8]
        with pytest.raises(graphopt.UnsupportedError, match="SIN"):
            converter.convert()

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (lambda: iter(()), "yields no samples"),
            ([1], "is a function"),
            (lambda: iter([("other", {"x": SAMPLES[0]})]), "no signature"),
        ],
    )
    def test_data_that_are_none(self, converter: TFLiteConverter, data: Any, said: str) -> None:
        with pytest.raises(graphopt.UsageError, match=said):
            samples_of(data, converter.lowered())


class TestConfig:
    def test_each_kind(self, converter: TFLiteConverter) -> None:
        QuantizationConfig.for_dynamic().set_converter_with_quantization(converter)
        assert mode_of(converter) == "dynamic"
        QuantizationConfig.for_float16().set_converter_with_quantization(converter)
        assert mode_of(converter) == "float16"

    def test_integers(self, converter: TFLiteConverter) -> None:
        config = QuantizationConfig.for_int8(listed, quantization_steps=4, effort="fast")
        assert config.set_converter_with_quantization(converter) is converter
        assert converter.effort == "fast"
        assert len(list(converter.representative_dataset())) == 4
        model = read_tflite(converter.convert())
        assert [model.graph.inputs[0].dtype.name, model.graph.outputs[0].dtype.name] == ["uint8", "uint8"]


class TestDebugger:
    def run(self, converter: TFLiteConverter, **options: Any) -> tuple[QuantizationDebugger, list[dict[str, str]]]:
        converter.optimizations = [Optimize.DEFAULT]
        converter.representative_dataset = listed
        debugger = QuantizationDebugger(
            converter=converter, debug_dataset=listed, debug_options=QuantizationDebugOptions(**options)
        )
        debugger.run()
        file = io.StringIO()
        debugger.layer_statistics_dump(file)
        return debugger, list(csv.DictReader(io.StringIO(file.getvalue())))

    def test_the_report_has_the_columns_of_tf_lite(self, converter: TFLiteConverter) -> None:
        debugger, rows = self.run(converter)
        assert list(rows[0]) == [
            "op_name", "tensor_idx", "num_elements", "stddev", "mean_error", "max_abs_error", "mean_squared_error",
            "scale", "zero_point", "tensor_name",
        ]  # fmt: skip
        assert Counter(row["op_name"] for row in rows) == {"FULLY_CONNECTED": 1}
        assert float(rows[0]["num_elements"]) == 48
        scale = float(rows[0]["scale"])
        assert 0 < float(rows[0]["mean_squared_error"]) < scale**2
        assert float(rows[0]["max_abs_error"]) < 3 * scale
        assert debugger.layer_statistics[rows[0]["tensor_name"]]["stddev"] == pytest.approx(float(rows[0]["stddev"]))
        assert len(debugger.get_nondebug_quantized_model()) < len(debugger.get_debug_quantized_model())
        assert debugger.get_nondebug_quantized_model() == converter.convert()

    def test_further_figures_and_operators_that_stay_float(self, converter: TFLiteConverter) -> None:
        debugger, rows = self.run(
            converter,
            layer_debug_metrics={"l1": lambda errors: np.abs(errors).mean()},
            layer_direct_compare_metrics={"steps": lambda right, codes, scale, zero: np.abs(right / scale).max()},
            model_debug_metrics={"worst": lambda right, got: np.abs(right[0] - got[0]).max()},
        )
        assert 0 < float(rows[0]["l1"]) < float(rows[0]["max_abs_error"])
        assert 100 < float(rows[0]["steps"]) < 260
        assert debugger.model_statistics["worst"] < 1
        debugger.options = QuantizationDebugOptions(denylisted_ops=["FULLY_CONNECTED"])
        debugger.run()
        assert debugger.layer_statistics == {}

    def test_it_needs_a_model_and_data(self) -> None:
        with pytest.raises(graphopt.UsageError, match="debug_dataset"):
            QuantizationDebugger()
        with pytest.raises(graphopt.UsageError, match="a converter or a float model"):
            QuantizationDebugger(debug_dataset=listed)
        with pytest.raises(graphopt.UnsupportedError, match="no debug models"):
            QuantizationDebugger("debug.tflite", debug_dataset=listed)
