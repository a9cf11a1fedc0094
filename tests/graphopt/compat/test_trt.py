"""TrtGraphConverterV2: convert, build, save and summary as TF-TRT has them."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import graphopt
import graphopt.lowering
from graphopt.backends.tensorrt.building import NoTensorRTError
from graphopt.compat import TrtGraphConverterV2, TrtPrecisionMode
from graphopt.compat.trt import DEFAULT_TRT_CONVERSION_PARAMS, UnsupportedParameterError
from graphopt.ir.errors import UsageError
from graphopt.testing.lowering import text_model

BODY = "%w = tf.Const() {value = float32[3, 2] repeat [0.5, -1.0, 0.25]}\n%y = tf.MatMul(%x, %w)"


@pytest.fixture
def source(tmp_path: pathlib.Path) -> str:
    path = str(tmp_path / "model.pb")
    graphopt.save(text_model(BODY, "%x: float32[?, 3]"), path)
    return path


def test_dynamic_models_are_converted_built_and_saved(source: str, tmp_path: pathlib.Path) -> None:
    converter = TrtGraphConverterV2(input_saved_model_dir=source, precision_mode=TrtPrecisionMode.FP16)
    converter.convert()
    with pytest.raises(UsageError, match="call build"):
        converter.save(tmp_path / "early")
    converter.build(lambda: [[np.zeros((size, 3), np.float32)] for size in (8, 1, 4)])
    manifest = converter.save(tmp_path / "engine")
    assert manifest["precision"] == "fp16"
    assert manifest["profiles"] == {"x": [[1, 3], [4, 3], [8, 3]]}
    lines: list[str] = []
    converter.summary(print_fn=lines.append)
    assert any(line.startswith("MatMul") for line in lines)
    assert "layers in one engine" in lines[-1]


def test_static_models_need_no_build(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "model.onnx")
    graphopt.save(graphopt.lowering.lower(text_model(BODY), "onnx").model, path)
    converter = TrtGraphConverterV2(path, conversion_params={"precision_mode": "FP32"})
    converter.convert()
    assert converter.save(tmp_path / "engine")["precision"] == "fp32"


def test_int8_calibrates(source: str, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'graphopt[tensorrt]'")
    converter = TrtGraphConverterV2(source, precision_mode="INT8")
    with pytest.raises(UsageError, match="INT8 needs samples"):
        converter.convert()
    samples = [[np.ones((2, 3), np.float32)]]
    converter.convert(calibration_input_fn=lambda: samples)
    converter.build(lambda: samples)
    assert converter.save(tmp_path / "engine")["summary"]["operators"]["QuantizeLinear"] == 1


def test_mistakes_are_said(source: str) -> None:
    with pytest.raises(UsageError, match="name the SavedModel"):
        TrtGraphConverterV2()
    with pytest.raises(UsageError, match="no precision 'FP7'"):
        TrtGraphConverterV2(source, precision_mode="FP7")
    converter = TrtGraphConverterV2(source)
    with pytest.raises(UsageError, match="call convert"):
        converter.save("anywhere")
    with pytest.raises(UsageError, match="call convert"):
        converter.build(list)
    converter.convert()
    with pytest.raises(UsageError, match="nothing for the dynamic input 'x'"):
        converter.build(list)


def converter(source: str, **parameters: Any) -> TrtGraphConverterV2:
    made = TrtGraphConverterV2(source, **parameters)
    made.convert()
    return made


def shapes(*sizes: int) -> Any:
    return lambda: [[np.zeros((size, 3), np.float32)] for size in sizes]


@pytest.mark.parametrize(
    ("parameters", "remedy"),
    [
        ({"dynamic_shape_profile_strategy": "Range+Optimal"}, "be 'Range'"),
        ({"dynamic_shape_profile_strategy": "Widest"}, "there are Range"),
        ({"max_workspace_size_bytes": -1}, "zero sets no bound"),
        ({"maximum_cached_engines": 0}, "there is one engine"),
        ({"precision_mode": "INT8", "use_calibration": False}, "statistics="),
        ({"conversion_params": {"is_dynamic_op": True}}, "there are max_workspace_size_bytes"),
    ],
)
def test_parameters_that_mean_nothing_here_say_what_to_use(source: str, parameters: Any, remedy: str) -> None:
    with pytest.raises(UnsupportedParameterError, match=remedy):
        TrtGraphConverterV2(source, **parameters)


def test_parameters_may_come_together(source: str) -> None:
    params = DEFAULT_TRT_CONVERSION_PARAMS._replace(precision_mode=TrtPrecisionMode.FP16, maximum_cached_engines=16)
    made = converter(source, conversion_params=params, precision_mode="FP32")
    made.build(shapes(2))
    assert made._done().model.metadata["tensorrt"]["precision"] == "fp16"


def test_strategies_say_what_the_profile_spans(source: str, tmp_path: pathlib.Path) -> None:
    wanted = {
        "Range": [[2, 3], [4, 3], [8, 3]], "ImplicitBatchModeCompatible": [[1, 3], [4, 3], [8, 3]],
    }  # fmt: skip
    for strategy, profile in wanted.items():
        made = converter(source, dynamic_shape_profile_strategy=strategy)
        made.build(shapes(8, 2, 4))
        assert made.save(tmp_path / strategy)["profiles"] == {"x": profile}


@pytest.mark.parametrize("parameters", [{"dynamic_shape_profile_strategy": "Optimal"}, {"use_dynamic_shape": False}])
def test_an_engine_of_one_shape_takes_one(source: str, tmp_path: pathlib.Path, parameters: Any) -> None:
    made = converter(source, **parameters)
    with pytest.raises(UnsupportedParameterError, match="'Range'"):
        made.build(shapes(2, 4))
    made.build(shapes(4, 4))
    assert made.save(tmp_path / "engine")["profiles"] == {"x": [[4, 3]] * 3}


def test_the_workspace_is_bounded(source: str, tmp_path: pathlib.Path) -> None:
    made = converter(source, max_workspace_size_bytes=1 << 30)
    made.build(shapes(2))
    manifest = made.save(tmp_path / "engine")
    assert manifest["workspace"] == 1 << 30
    assert f"--memPoolSize=workspace:{1 << 30}B" in manifest["trtexec"]


def test_small_models_are_refused_where_that_is_asked_for(source: str) -> None:
    made = converter(source, minimum_segment_size=50)
    with pytest.raises(UnsupportedParameterError, match="lower minimum_segment_size"):
        made.build(shapes(2))


def test_engines_are_built_now_where_they_must_not_be_built_later(
    source: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphopt.backends.tensorrt.building.PACKAGE", "tensorrt_that_is_not_there")
    made = converter(source, allow_build_at_runtime=False)
    made.build(shapes(2))
    with pytest.raises(NoTensorRTError):
        made.save(tmp_path / "engine")
    made.save(tmp_path / "engine", save_gpu_specific_engines=False)
    with pytest.raises(UnsupportedParameterError, match="SavedModel's"):
        made.save(tmp_path / "other", options=object())
