"""The linter: what TensorRT refuses is found, with its reason, without the package."""

from __future__ import annotations

import pytest

from graphopt.backends.base import find_backend
from graphopt.backends.tensorrt.capabilities import CONSTANTS, OPERATORS
from graphopt.backends.tensorrt.linter import findings_of
from graphopt.ir.model import Model
from graphopt.ir.ops import find
from graphopt.ir.text import parse_model
from graphopt.testing.lowering import text_model


def onnx_model(body: str, inputs: str = "%x: float32[2, 3]") -> Model:
    kinds = inputs.replace(", %", "\n%").splitlines()
    lines = "\n".join(f"{item.partition(':')[0]} = onnx.Input() : {item.partition(': ')[2]}" for item in kinds)
    model = parse_model(f"graph @main({inputs}) -> (%y) {{\n{lines}\n{body}\n}}")
    model.format = "onnx"
    return model


def test_every_operator_of_the_table_is_one_of_onnx() -> None:
    assert [name for name in OPERATORS if find(f"onnx.{name}") is None and name != "GlobalLpPool"] == []
    assert set(CONSTANTS) <= set(OPERATORS)


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        ("%y = onnx.NonZero(%x)", "%x: float32[2, 3]", "follows from data"),
        ("%y = onnx.Unheard(%x)", "%x: float32[2, 3]", "no such operator"),
        ("%y = com.microsoft.Gelu(%x)", "%x: float32[2, 3]", "no such operator"),
        ("%y = onnx.Relu(%x)", "%x: float64[2, 3]", "float64"),
        ("%y = onnx.Add(%x, %x)", "%x: uint32[2]", "uint32"),
        ("%y = onnx.Softmax(%x)", "%x: int32[2]", "not int32"),
        ("%y = onnx.ReduceMean(%x, %a)", "%x: float32[2, 3], %a: int64[1]", "its axes, 'a', must be constant"),
        (
            "%k = onnx.Initializer() {value = int64[1] [4000]} : int64[1]\n%y = onnx.TopK(%x, %k)",
            "%x: float32[5000]", "at most 3840",
        ),
        (
            "%s = onnx.Initializer() {value = float32[] 0.5} : float32[]\n"
            "%z = onnx.Initializer() {value = int8[] 3} : int8[]\n%y = onnx.QuantizeLinear(%x, %s, %z)",
            "%x: float32[4]", "zero point is not zero",
        ),
        (
            "%s = onnx.Initializer() {value = float32[] 0.5} : float32[]\n"
            "%z = onnx.Initializer() {value = int16[] 0} : int16[]\n%y = onnx.QuantizeLinear(%x, %s, %z)",
            "%x: float32[4]", "int16",
        ),
    ],
)  # fmt: skip
def test_what_tensorrt_refuses_is_found(body: str, inputs: str, reason: str) -> None:
    sentences = [finding.sentence for finding in findings_of(onnx_model(body, inputs))]
    assert any(reason in sentence for sentence in sentences), sentences


def test_what_it_takes_is_not() -> None:
    assert findings_of(onnx_model("%y = onnx.Relu(%x)")) == []


def test_findings_name_the_source() -> None:
    (finding,) = find_backend("tensorrt").check(text_model("%y = tf.Where(%x)", "%x: float32[2, 3]"))
    assert finding.operator == "onnx.NonZero"
    assert "y" in finding.origins
    assert finding.remedy


def test_what_has_no_form_in_onnx_is_found_too() -> None:
    (finding,) = find_backend("tensorrt").check(text_model("%y = tf.FFT(%x)", "%x: complex64[4]"))
    assert finding.operator == "tf.FFT"
