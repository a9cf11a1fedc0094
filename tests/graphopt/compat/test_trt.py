"""TrtGraphConverterV2: convert, build, save and summary as TF-TRT has them."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

import graphopt
import graphopt.lowering
from graphopt.compat import TrtGraphConverterV2, TrtPrecisionMode
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
