"""Weights stored in 4 and 8 bits: per channel, by blocks, in tables, shared by subgraphs."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from tflite_layers import DENSE, FC, NONE, build, operators, run

from graphopt.ir.errors import UsageError
from graphopt.ir.formats.tflite import read_tflite, tflite_bytes
from graphopt.ir.known import known_array
from graphopt.ir.model import Function, Model
from graphopt.ir.tensors import Tensor
from graphopt.passes.quantize.recipe import Recipe, Rule
from graphopt.passes.quantize.weights import half_scales
from graphopt.runtimes.litert import LiteRTRuntime

RNG = np.random.default_rng(5)
MATRIX = RNG.normal(size=(8, 64)).astype(np.float32)
LAYER = f"""
%w = tfl.CONSTANT() {{value = float32[8, 64] {MATRIX.tolist()}}} : float32[8, 64]
%y = tfl.FULLY_CONNECTED(%x, %w, none) {{{FC}}} : float32[2, 8]
"""


def layer() -> Model:
    return build(LAYER, inputs="%x: float32[2, 64]")


def decibels(model: Model) -> float:
    x = RNG.normal(size=(2, 64)).astype(np.float32)
    error = LiteRTRuntime().run(model, {"x": x})["y"] - (right := x @ MATRIX.T)
    return float(10 * np.log10(np.square(right).sum() / np.square(error).sum()))


@pytest.mark.parametrize("mode", ["dynamic", "weight-only"])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "block"])
def test_weights_of_4_bits_run_in_litert(mode: str, granularity: str) -> None:
    model = layer()
    size = 32 if granularity == "block" else 0
    rule = Rule(mode=mode, weight_bits=4, granularity=granularity, block_size=size)  # type: ignore[arg-type]
    plan = run(model, Recipe((rule,)))
    assert [row["storage"] for row in plan.rows()] == ["int4"]
    assert len(tflite_bytes(model)) < len(tflite_bytes(layer())) - MATRIX.size * 2
    assert decibels(model) > 13


def test_scales_of_blocks_are_a_constant_that_a_file_keeps() -> None:
    model = layer()
    rule = Rule(mode="weight-only", weight_bits=4, granularity="block", block_size=32)
    plan = run(model, Recipe((rule,)))
    assert [row["reason"] for row in plan.rows()] == ["blocks of integer weights, activations quantized on the fly"]
    data = tflite_bytes(model)
    read = read_tflite(data)
    weights = read.graph.node("y").input(1)
    scales = known_array(weights.node.input(0))
    assert scales is not None
    assert scales.shape == (8, 2)
    assert scales.dtype == np.float16
    assert tflite_bytes(read) == data
    codes = weights.node.attrs["value"].numpy().reshape(8, 2, 32).astype(np.float32)
    error = np.abs((codes * scales.astype(np.float32)[..., None]).reshape(8, 64) - MATRIX)
    assert (error.reshape(8, 2, 32) <= scales[..., None] * 0.501).all()


def test_blocks_that_do_not_divide_the_rows_become_channels() -> None:
    model = build(DENSE)
    rule = Rule(mode="dynamic", weight_bits=4, granularity="block", block_size=32)
    run(model, Recipe((rule,)))
    assert model.graph.node("y").input(1).type.quantization is not None


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=9))
def test_scales_in_half_precision_never_cut_weights_off(scales: list[float]) -> None:
    given_scales = np.array(scales, np.float32)
    half = half_scales(given_scales)
    assert (half == half.astype(np.float16)).all()
    assert (half >= np.minimum(given_scales, 65504)).all()
    assert (half > 0).all()


@pytest.mark.parametrize("mode", ["dynamic", "weight-only"])
@pytest.mark.parametrize("is_output", [True, False])
def test_tables_are_looked_up_as_integers(mode: str, is_output: bool) -> None:
    tail = "" if is_output else f"%z = tfl.ADD(%y, %y) {{{NONE}}} : float32[3, 64]"
    body = f"""
    %w = tfl.CONSTANT() {{value = float32[8, 64] {MATRIX.tolist()}}} : float32[8, 64]
    %y = tfl.GATHER(%w, %x) {{axis = 0, batch_dims = 0}} : float32[3, 64]
    {tail}
    """
    model = build(body, outputs="%y" if is_output else "%z", inputs="%x: int32[3]")
    plan = run(model, Recipe((Rule(mode=mode),)))  # type: ignore[arg-type]
    assert plan.decisions[next(iter(plan.decisions))].reason.startswith("an integer table")
    assert operators(model)["DEQUANTIZE"] == 1
    name = "y" if is_output else "z"
    got = LiteRTRuntime().run(model, {"x": np.array([1, 7, 0], np.int32)})[name]
    assert np.abs(got - MATRIX[[1, 7, 0]] * (1 if is_output else 2)).max() < np.abs(MATRIX).max() / 100


def test_weights_with_nan_are_refused_by_name() -> None:
    model = build(DENSE.replace("[[1.0,", "[[nan,"))
    with pytest.raises(UsageError, match="'w' has NaN or Inf"):
        run(model, Recipe((Rule(mode="dynamic"),)))


def shared() -> Model:
    """A loop's body and the main graph multiply by the same matrix."""
    model = layer()
    function = Function("body")
    source = function.create_node("tfl.INPUT", name="x", types=(model.graph.inputs[0].type,))
    copies = {model.graph.inputs[0].node: source}
    for node in model.graph:
        if node not in copies:
            inputs = [None if value is None else copies[value.node].output for value in node.inputs]
            copies[node] = function.create_node(
                node.op, inputs, attrs=dict(node.attrs), name=node.name, types=(node.output.type,)
            )
    function.inputs, function.outputs = [source.output], [copies[model.graph.node("y")].output]
    function.input_names, function.output_names = ["x"], ["y"]
    model.add_function(function)
    return model


@pytest.mark.parametrize("is_read", [False, True])
def test_weights_shared_by_functions_are_quantized_once(is_read: bool) -> None:
    model = read_tflite(tflite_bytes(shared())) if is_read else shared()
    run(model, Recipe((Rule(mode="dynamic"),)))
    held: list[Tensor] = [graph.node("y").input(1).node.attrs["value"] for graph in model.graphs]
    assert len(held) == 2
    assert held[0] is held[1]
    assert len(tflite_bytes(model)) < len(tflite_bytes(shared())) - MATRIX.size * 2


@pytest.mark.parametrize("kind", ["RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize("tail", ["", "%z = tfl.ABS(%y) : float32[2, 8]"])
def test_blocks_leave_the_activation_to_an_operator_of_its_own(kind: str, tail: str) -> None:
    """LiteRT's kernels for blocks do not compute it."""
    body = LAYER.replace('b"NONE"', f'b"{kind}"') + tail
    right, model = (build(body, "%z" if tail else "%y", inputs="%x: float32[2, 64]") for _ in range(2))
    run(model, Recipe((Rule(mode="weight-only", weight_bits=4, granularity="block", block_size=32),)))
    assert model.graph.node("y").op_type == kind
    assert model.graph.node("y").input(0).node.attrs["fused_activation_function"] == b"NONE"
    x = RNG.normal(size=(2, 64)).astype(np.float32) / 4
    wanted, got = (LiteRTRuntime().run(item, {"x": x})["z" if tail else "y"] for item in (right, model))
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - got).sum()) > 10


def test_a_table_in_half_precision_is_looked_up_as_it_is() -> None:
    body = """
    %w = tfl.CONSTANT() {value = float32[3, 2] [[0.1, 1.0], [2.0, 3.0], [70000.0, 5.0]]} : float32[3, 2]
    %y = tfl.GATHER(%w, %x) {axis = 0, batch_dims = 0} : float32[2, 2]
    """
    model = build(body, inputs="%x: int32[2]")
    plan = run(model, "float16")
    assert [row["storage"] for row in plan.rows()] == ["float16"]
    assert operators(model) == {"GATHER": 1, "DEQUANTIZE": 1}
    assert str(model.graph.node("y/float16").output.type) == "float16[2, 2]"
    got = LiteRTRuntime().run(model, {"x": np.array([2, 0], np.int32)})["y"]
    assert got.tolist() == [[65504.0, 5.0], [float(np.float16(0.1)), 1.0]]


@pytest.mark.parametrize("mode", ["dynamic", "weight-only"])
def test_weights_that_no_kernel_takes_beside_floats_are_dequantized(mode: str) -> None:
    kernel = RNG.normal(size=(2, 3, 3, 4)).astype(np.float32)
    body = f"""
    %shape = tfl.CONSTANT() {{value = int32[4] [1, 4, 4, 2]}} : int32[4]
    %w = tfl.CONSTANT() {{value = float32[2, 3, 3, 4] {kernel.tolist()}}} : float32[2, 3, 3, 4]
    %y = tfl.TRANSPOSE_CONV(%shape, %w, %x) {{padding = b"SAME", stride_w = 2, stride_h = 2, {NONE}}} :
        float32[1, 4, 4, 2]
    """
    right, model = (build(body, inputs="%x: float32[1, 2, 2, 4]") for _ in range(2))
    (row,) = run(model, Recipe((Rule(mode=mode),))).rows()  # type: ignore[arg-type]
    assert (row["compute"], row["storage"]) == ("float32", "int8")
    assert ("no kernel takes them" in row["reason"]) is (mode == "dynamic")
    x = RNG.normal(size=(1, 2, 2, 4)).astype(np.float32)
    wanted, got = (LiteRTRuntime().run(item, {"x": x})["y"] for item in (right, model))
    assert np.abs(wanted - got).max() < np.abs(wanted).max() / 50


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_an_embedding_have_scales_of_their_own(bits: int) -> None:
    rows = RNG.normal(size=(4, 8)).astype(np.float32) * np.array([[1], [100], [0.01], [1]], np.float32)
    body = f"""
    %w = tfl.CONSTANT() {{value = float32[4, 8] {rows.tolist()}}} : float32[4, 8]
    %y = tfl.EMBEDDING_LOOKUP(%x, %w) : float32[3, 8]
    """
    model = build(body, inputs="%x: int32[3]")
    (row,) = run(model, Recipe((Rule(mode="dynamic", weight_bits=bits),))).rows()  # type: ignore[arg-type]
    assert row["storage"] == f"int{bits}"
    numbers = np.array([2, 1, 0], np.int32)
    got, right = LiteRTRuntime().run(model, {"x": numbers})["y"], rows[numbers]
    largest = np.abs(right).max(axis=1, keepdims=True)
    assert (np.abs(got - right) <= largest * (0.5 / (2 ** (bits - 1) - 1)) * 1.001).all()


@pytest.mark.parametrize(("width", "stored"), [(8, "int4"), (7, "int8")])
@pytest.mark.parametrize("op", ["EMBEDDING_LOOKUP", "GATHER"])
def test_rows_of_4_bits_end_with_a_byte(op: str, width: int, stored: str) -> None:
    rows = RNG.normal(size=(4, width)).astype(np.float32)
    attrs, operands = ("{axis = 0, batch_dims = 0}", "%w, %x") if op == "GATHER" else ("", "%x, %w")
    body = f"""
    %w = tfl.CONSTANT() {{value = float32[4, {width}] {rows.tolist()}}} : float32[4, {width}]
    %y = tfl.{op}({operands}) {attrs} : float32[3, {width}]
    """
    model = build(body, inputs="%x: int32[3]")
    (row,) = run(model, Recipe((Rule(mode="weight-only", weight_bits=4),))).rows()
    assert row["storage"] == stored
    numbers = np.array([3, 1, 0], np.int32)
    got = LiteRTRuntime().run(model, {"x": numbers})["y"]
    assert np.abs(got - rows[numbers]).max() <= np.abs(rows).max() * (0.5 / 7) * 1.001
