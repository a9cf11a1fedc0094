"""What the tests of the TensorRT backend share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.backends.base import Lowered, find_backend
from graphopt.ir.model import Model
from graphopt.testing.lowering import text_model

KERNEL = np.random.default_rng(1).normal(size=(3, 3, 2, 4)).round(2).tolist()
DENSE = np.random.default_rng(2).normal(size=(4, 3)).round(2).tolist()
CONV = f"""
%w = tf.Const() {{value = float32[3, 3, 2, 4] {KERNEL}}}
%b = tf.Const() {{value = float32[4] [1.0, 2.0, 3.0, 4.0]}}
%v = tf.Const() {{value = float32[4, 3] {DENSE}}}
%axes = tf.Const() {{value = int32[2] [1, 2]}}
%c = tf.Conv2D(%x, %w) {{strides = [1, 1, 1, 1], padding = b"SAME"}}
%d = tf.BiasAdd(%c, %b)
%r = tf.Relu(%d)
%m = tf.Mean(%r, %axes)
%p = tf.MatMul(%m, %v)
%y = tf.Softmax(%p)
"""


def lower(model: Model, **options: Any) -> Lowered:
    """The model lowered to TensorRT."""
    return find_backend("tensorrt").lower(model, **options)


@pytest.fixture
def network() -> Model:
    """A convolution, a mean, a product, a softmax; three outputs of four images."""
    return text_model(CONV, "%x: float32[4, 8, 8, 2]")


@pytest.fixture
def dynamic() -> Model:
    """The same for any number of images."""
    return text_model(CONV, "%x: float32[?, 8, 8, 2]")


@pytest.fixture
def samples() -> list[dict[str, Any]]:
    """Images for either."""
    generator = np.random.default_rng(0)
    return [{"x": generator.normal(size=(4, 8, 8, 2)).astype(np.float32)} for _ in range(4)]


@pytest.fixture
def onnxruntime() -> Any:
    """ONNX Runtime, or a skip."""
    return pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'graphopt[tensorrt]'")
