"""The table of LiteRT's kernels: what `supports` says, and that LiteRT says the same."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from graphopt.ir.formats.tflite import read_tflite
from graphopt.ir.ops.tflite import BUILTIN
from graphopt.ir.ops.tflite_kernel_table import KERNELS
from graphopt.ir.ops.tflite_kernels import forms_of, has_kernel, supports, supports_node, types_of
from graphopt.ir.types import Quantization, TensorType, tensor_type

ROOT = pathlib.Path(__file__).parents[3]
REAL = tensor_type("float32", (1, 4, 4, 2))
SCALES = Quantization((0.5,), (0,))


def scaled(name: str, *dims: int) -> TensorType:
    return TensorType(tensor_type(name).dtype, tensor_type(name, dims).shape, SCALES)


def test_every_line_of_the_table_is_of_an_operator_and_parses() -> None:
    assert set(KERNELS) <= set(BUILTIN)
    assert all(forms_of(operator) for operator in KERNELS)
    assert not has_kernel("STABLEHLO_DIVIDE")


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "reason"),
    [
        ("ADD", ["float32", "float32"], ["float32"], None),
        ("ADD", ["int8", "int8"], ["int8"], "input 0 is int8; the kernel takes"),
        ("ADD", ["float32", "int32"], ["float32"], "input 1 is int32, the kernel wants float32 as for"),
        ("ADD", ["float32"], ["float32"], "input 1 is missing"),
        ("ABS", ["float32", "float32"], ["float32"], "input 1 is one more than the kernel takes"),
        ("SHAPE", ["string"], ["int32"], None),
        ("SHAPE", ["float32"], ["int8"], "output 0 is int8; the kernel takes int32 or int64"),
        ("UNPACK", ["float32"], ["float32", "float32", "float32"], None),
        ("CONCATENATION", ["bool", "bool", "bool"], ["bool"], None),
        ("GATHER", ["unknown", "int8"], ["unknown"], "input 1 is int8; the kernel takes int16 or int32 or int64"),
        ("CALL", [], [], "LiteRT has no kernel for CALL"),
        ("EQUAL", ["string", "string"], ["bool"], None),
        ("WHILE", ["float32", "string"], ["float32", "string"], None),
    ],
)  # fmt: skip
def test_types(operator: str, inputs: list[str], outputs: list[str], reason: str | None) -> None:
    said = supports(operator, [tensor_type(name) for name in inputs], [tensor_type(name) for name in outputs])
    assert said == reason if reason is None else said is not None and said.startswith(reason)


def test_ranks_scales_shapes_constants_and_activations() -> None:
    assert supports("BATCH_MATMUL", [tensor_type("float32", (2,) * 6)] * 2, [REAL]) == (
        "input 0 has 6 dimensions; the kernel takes 2 to 5"
    )
    assert supports("PAD", [tensor_type("float32", (1,) * 6), tensor_type("int32")], [REAL]) == (
        "input 0 has 6 dimensions; the kernel takes 0 to 5"
    )
    assert supports("CONV_2D", [tensor_type("float32", (1, 4, 2)), REAL, None], [REAL]) == (
        "input 0 has 3 dimensions; the kernel takes 4"
    )
    assert supports("ADD", [scaled("int8", 2)] * 2, [scaled("int8", 2)]) is None
    assert supports("RELU", [tensor_type("int8")], [tensor_type("int8")]) is not None
    qint8 = tensor_type("qint8")
    assert supports("RELU", [qint8], [qint8]) is None, "TensorFlow's name of an int8 with scales"
    alike = "input 1 has another shape than the first, and the kernel does not broadcast"
    assert supports("ATAN2", [tensor_type("float32", (2, 1)), tensor_type("float32", (1, 2))], [REAL]) == alike
    assert supports("ATAN2", [tensor_type("float32", (None, 2)), tensor_type("float32", (3, 2))], [REAL]) is None
    dense = [tensor_type("float32", (2, 2))]
    assert (
        supports("DENSIFY", dense, dense, constants=[False]) == "input 0 is computed, and the kernel needs a constant"
    )
    assert supports("DENSIFY", dense, dense, constants=[True]) is None
    tanh = {"fused_activation_function": b"TANH"}
    assert supports("ADD", [REAL, REAL], [REAL], tanh) == "the kernel of ADD computes no activation TANH"
    assert supports("UNIDIRECTIONAL_SEQUENCE_LSTM", [REAL], [REAL], tanh) is None


def test_an_operand_between_others_may_be_left_out() -> None:
    assert (
        supports("FULLY_CONNECTED", [tensor_type("float32", (1, 2)), tensor_type("float32", (3, 2)), None], [REAL])
        is None
    )
    assert supports("FULLY_CONNECTED", [tensor_type("float32", (1, 2)), None], [REAL]) == "input 1 is missing"


@pytest.mark.corpus("tflite/**/*.tflite")
def test_every_operator_of_real_models_has_a_kernel(corpus_file: pathlib.Path) -> None:
    for graph in read_tflite(corpus_file).graphs:
        for node in graph:
            if node.op_type in KERNELS:
                assert supports_node(node) is None, node


def test_types_of_an_operand() -> None:
    assert types_of("GATHER", 1) == {"int16", "int32", "int64"}
    assert types_of("SHAPE", 0) == frozenset(), "all"


def _probe(*operators: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "probe_litert_kernels.py"), *operators]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT / "tools")


def test_litert_agrees_on_some() -> None:
    done = _probe("ADD", "PAD", "ATAN2", "GATHER", "FULLY_CONNECTED")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "disagreements" in done.stdout


@pytest.mark.deep
def test_litert_agrees_on_all() -> None:
    done = _probe()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
