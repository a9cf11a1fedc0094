"""Islands of floats: what a delegate leaves in int8, and what around it is converted more cheaply as a whole."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from tflite_layers import DENSE, FC, NONE, build, operators, statistics

from graphopt.ir.formats.tflite import tflite_bytes
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes.quantize.cuts import UNLIMITED, Network
from graphopt.passes.quantize.delegates import XNNPACK
from graphopt.passes.quantize.plan import Plan, make_plan
from graphopt.passes.quantize.quantize import quantize_model
from graphopt.passes.quantize.recipe import Recipe, Rule
from graphopt.runtimes.litert import LiteRTRuntime

WIDE = "float32[1, 64]"
LAYER = f"""
%w = tfl.CONSTANT() {{value = float32[64, 64] ~ 0.5}} : float32[64, 64]
%f = tfl.FULLY_CONNECTED(%x, %w, none) {{{FC}}} : {WIDE}
"""
NORM = """
%axis = tfl.CONSTANT() {value = int32[1] [1]} : int32[1]
%m = tfl.MEAN(%f, %axis) {keep_dims = true} : float32[1, 1]
%d = tfl.SQUARED_DIFFERENCE(%f, %m) : float32[1, 64]
%v = tfl.MEAN(%d, %axis) {keep_dims = true} : float32[1, 1]
%r = tfl.RSQRT(%v) : float32[1, 1]
%s = tfl.MUL(%f, %r) {NONE} : float32[1, 64]
%t = tfl.MUL(%m, %r) {NONE} : float32[1, 1]
%y = tfl.SUB(%s, %t) {NONE} : float32[1, 64]
""".replace("NONE", NONE)


def run(model: Model, recipe: Recipe | None = None) -> Plan:
    ranges = {node.name: (0.0, 4.0) for node in model.graph}
    plan = quantize_model(
        model, recipe or Recipe((Rule(mode="int8"),)), statistics(ranges), lambda *types: None, delegate=XNNPACK
    )
    verify(model)
    return plan


def dense(inside: str) -> Model:
    return build(LAYER.replace(" ~ 0.5", " " + str([[0.5] * 64] * 64)) + inside, inputs=f"%x: {WIDE}")


def pieces(model: Model) -> Counter[str]:
    from ai_edge_litert.interpreter import Interpreter

    loaded = Interpreter(model_content=tflite_bytes(model))
    loaded.allocate_tensors()
    return Counter(item["op_name"] for item in loaded._get_ops_details())


def test_what_the_delegate_leaves_is_computed_in_floats_in_one_piece() -> None:
    model = dense(f"%y = tfl.HARD_SWISH(%f) : {WIDE}")
    plan = run(model)
    assert [row["reason"] for row in plan.rows()] == ["a kernel for int8", "XNNPACK takes no HARD_SWISH of int8"]
    assert operators(model) == {"QUANTIZE": 1, "FULLY_CONNECTED": 1, "DEQUANTIZE": 1, "HARD_SWISH": 1}
    assert pieces(model)["DELEGATE"] == 1


def test_a_dense_layer_at_the_end_yields_floats() -> None:
    last = f"%y = tfl.FULLY_CONNECTED(%f, %w, none) {{{FC}}} : {WIDE}"
    model = dense(last)
    assert [row["compute"] for row in run(model).rows()] == ["int8", "int8 on the fly"]
    assert operators(model) == {"QUANTIZE": 1, "FULLY_CONNECTED": 2, "DEQUANTIZE": 1}
    assert model.graph.node("y").input(0).dtype.name == "float32"
    assert pieces(model)["DELEGATE"] == 1
    whole = dense(last)
    assert [row["compute"] for row in run(whole, Recipe((Rule(mode="int8"),), output_type="int8")).rows()] == [
        "int8", "int8",
    ]  # fmt: skip
    alone = dense(f"%y = tfl.RELU(%f) : {WIDE}")
    assert {row["compute"] for row in run(alone).rows()} == {"int8"}


def test_a_recipe_can_ask_for_integers_all_the_same() -> None:
    model = dense(f"%y = tfl.HARD_SWISH(%f) : {WIDE}")
    run(model, Recipe((Rule(mode="int8"),), islands=False))
    assert model.graph.node("y/int8").op == "tfl.HARD_SWISH"
    assert pieces(model)["DELEGATE"] > 1


@pytest.mark.parametrize("share", [1.0, 1e-2, 1e-4])
def test_an_operand_far_smaller_than_its_sum_is_taken_too(share: float) -> None:
    body = f"%m = tfl.MUL(%x, %c) {{{NONE}}} : {WIDE}\n%y = tfl.ADD(%x, %m) {{{NONE}}} : {WIDE}"
    model = build(f"%c = tfl.CONSTANT() {{value = float32[] {share}}} : float32[]\n{body}", inputs=f"%x: {WIDE}")
    ranges = {"x": (-4.0, 4.0), "m": (-4 * share, 4 * share), "y": (-4 - 4 * share, 4 + 4 * share)}
    quantize_model(model, Recipe((Rule(mode="int8"),)), statistics(ranges), lambda *types: None, delegate=XNNPACK)
    assert pieces(model) == {"DELEGATE": 1, **operators(model)}
    x = np.linspace(-4, 4, 64, dtype=np.float32)[None]
    got = LiteRTRuntime().run(model, {"x": x})["y"]
    assert np.abs(got - x * (1 + share)).max() < 0.1


def test_a_table_that_an_island_looks_up_in_is_stored_in_int8() -> None:
    body = f"""
    %w = tfl.CONSTANT() {{value = float32[8, 64] {[[row / 8] * 64 for row in range(8)]}}} : float32[8, 64]
    %g = tfl.GATHER(%w, %x) {{axis = 0, batch_dims = 0}} : {WIDE}
    %y = tfl.HARD_SWISH(%g) : {WIDE}
    """
    model = build(body, inputs="%x: int32[1]")
    plan = run(model)
    assert [row["storage"] for row in plan.rows()] == ["int8", ""]
    assert operators(model) == {"GATHER": 1, "DEQUANTIZE": 1, "HARD_SWISH": 1}
    got = LiteRTRuntime().run(model, {"x": np.array([4], np.int32)})["y"]
    assert got == pytest.approx(0.5 * 3.5 / 6, abs=0.01)


def test_a_layer_normalisation_is_one_island() -> None:
    model = dense(NORM)
    plan = run(model)
    assert [row["compute"] for row in plan.rows()] == ["int8", *["float32"] * 7]
    assert operators(model)["DEQUANTIZE"] == 1
    assert pieces(model)["DELEGATE"] == 1


def test_without_such_operators_nothing_is_left_out() -> None:
    model = build(DENSE)
    assert [row["compute"] for row in run(model).rows()] == ["int8"]


def test_a_cheap_operator_between_two_islands_joins_them() -> None:
    body = f"%h = tfl.HARD_SWISH(%f) : {WIDE}\n%n = tfl.MUL(%h, %h) {{{NONE}}} : {WIDE}\n%y = tfl.ABS(%n) : {WIDE}"
    plan = run(dense(body))
    assert [row["compute"] for row in plan.rows()] == ["int8", "float32", "float32", "float32"]


def test_weights_are_never_left_out_to_save_conversions() -> None:
    again = f"%g = tfl.FULLY_CONNECTED(%h, %w, none) {{{FC}}} : {WIDE}"
    body = f"%h = tfl.ABS(%f) : {WIDE}\n{again}\n%y = tfl.ABS(%g) : {WIDE}"
    plan = run(dense(body))
    assert [row["compute"] for row in plan.rows()] == ["int8", "float32", "int8", "float32"]


def test_integers_at_the_ends_count_as_integers() -> None:
    body = f"%h = tfl.ADD(%x, %x) {{{NONE}}} : float32[2, 4]\n%y = tfl.ABS(%h) : float32[2, 4]"
    assert [row["compute"] for row in run(build(body)).rows()] == ["float32", "float32"]
    ends: dict[str, Any] = {"input_type": "int8", "output_type": "int8"}
    rows = run(build(body), Recipe((Rule(mode="int8"),), **ends)).rows()
    assert [row["compute"] for row in rows] == ["int8", "float32"]


def test_depthwise_weights_beside_floats_are_dequantized_for_the_delegate() -> None:
    weights = "float32[1, 3, 3, 2] " + str(np.ones((1, 3, 3, 2)).tolist())
    body = f"""
    %w = tfl.CONSTANT() {{value = {weights}}} : float32[1, 3, 3, 2]
    %b = tfl.CONSTANT() {{value = float32[2] [0.0, 0.0]}} : float32[2]
    %y = tfl.DEPTHWISE_CONV_2D(%x, %w, %b) {{padding = b"SAME", stride_w = 1, stride_h = 1, dilation_wfactor = 1,
      dilation_hfactor = 1, depth_multiplier = 1, {NONE}}} : float32[1, 8, 8, 2]
    """
    model = build(body, inputs="%x: float32[1, 8, 8, 2]")
    plan = run(model, Recipe((Rule(mode="dynamic"),)))
    reasons = [row["reason"] for row in plan.rows()]
    assert reasons == ["integer weights, computed in float: XNNPACK takes no DEPTHWISE_CONV_2D with int8 weights alone"]
    assert [row["storage"] for row in plan.rows()] == ["int8"]
    assert pieces(model)["DELEGATE"] == 1


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9)), max_size=14))
def test_a_cut_is_a_cheapest_one(count: int, edges: list[tuple[int, int, int]]) -> None:
    joined = [(start, end, cost) for start, end, cost in edges if start != end and max(start, end) < count + 2]

    def cost(side: tuple[bool, ...]) -> int:
        return sum(amount for start, end, amount in joined if side[start] and not side[end])

    network = Network()
    for _ in range(count):
        network.add()
    for edge in joined:
        network.join(*edge)
    found = tuple(network.source_side())
    assert found[:2] == (True, False)
    assert cost(found) == min(cost((True, False, *rest)) for rest in product((True, False), repeat=count))


def test_a_long_chain_is_cut_where_it_is_cheapest() -> None:
    network = Network()
    places = [0, *(network.add() for _ in range(5000)), 1]
    for start, end in pairwise(places):
        network.join(start, end, 2 if start == 2500 else UNLIMITED)
    assert sum(network.source_side()) == 2500


@pytest.mark.parametrize("op", ["tfl.HARD_SWISH", "tfl.SOFTMAX", "tfl.AVERAGE_POOL_2D"])
def test_facts_of_the_delegate_are_consistent(op: str) -> None:
    assert op in XNNPACK.floats
    assert op not in XNNPACK.integers
    assert XNNPACK.hybrid < XNNPACK.integers < XNNPACK.floats


@pytest.mark.parametrize(("op", "highest"), [("RELU", 4.0), ("RELU6", 4.0), ("RELU6", 6.0)])
def test_a_clamp_alone_is_a_requantization(op: str, highest: float) -> None:
    model = build(f"%s = tfl.ADD(%x, %x) {{{NONE}}} : float32[2, 4]\n%y = tfl.{op}(%s) : float32[2, 4]")
    found = statistics({"x": (-4.0, 4.0), "s": (-8.0, 8.0), "y": (0.0, highest)})
    quantize_model(model, Recipe((Rule(mode="int8"),)), found, lambda *types: None, delegate=XNNPACK)
    verify(model)
    assert operators(model) == {"QUANTIZE": 2, "ADD": 1, "DEQUANTIZE": 1}
    x = np.linspace(-4, 4, 8, dtype=np.float32).reshape(2, 4)
    got = LiteRTRuntime().run(model, {"x": x})["y"]
    assert np.abs(got - np.clip(2 * x, 0, highest)).max() < 0.1


def test_a_scaled_norm_is_one_island_too() -> None:
    body = NORM.replace("%s = tfl.MUL(%f, %r)", "%g = tfl.MUL(%r, %k) {NONE} : float32[1, 64]\n%s = tfl.MUL(%f, %g)")
    body = f"%k = tfl.CONSTANT() {{value = float32[64] {[0.5] * 64}}} : float32[64]\n" + body.replace(
        "{NONE}", f"{{{NONE}}}"
    )
    plan = run(dense(body))
    assert [row["compute"] for row in plan.rows()] == ["int8", *["float32"] * 8]


@pytest.mark.parametrize(("places", "computes"), [(64, "int8"), (2, "float32")])
def test_a_softmax_over_few_classes_at_the_end_stays_integer(places: int, computes: str) -> None:
    kind = f"float32[{places}, 4]"
    model = build(f"%y = tfl.SOFTMAX(%x) {{beta = 1.0}} : {kind}", inputs=f"%x: {kind}")
    assert [row["compute"] for row in run(model).rows()] == [computes]


LOOP = f"""
graph @main(%x) -> (%loop:1) {{
  %x = tfl.INPUT() : {WIDE}
  %n = tfl.CONSTANT() {{value = int32[] 0}} : int32[]
  %loop = tfl.WHILE(%n, %x) {{cond_subgraph_index = @more, body_subgraph_index = @step}} : (int32[], {WIDE})
}}
function @more(%n, %x) -> (%c) {{
  %n = tfl.INPUT() : int32[]
  %x = tfl.INPUT() : {WIDE}
  %limit = tfl.CONSTANT() {{value = int32[] 3}} : int32[]
  %c = tfl.LESS(%n, %limit) : bool[]
}}
function @step(%n, %x) -> (%m, %y) {{
  %n = tfl.INPUT() : int32[]
  %x = tfl.INPUT() : {WIDE}
  %one = tfl.CONSTANT() {{value = int32[] 1}} : int32[]
  %m = tfl.ADD(%n, %one) {{{NONE}}} : int32[]
  %w = tfl.CONSTANT() {{value = float32[64, 64] {[[0.01] * 64] * 64}}} : float32[64, 64]
  %f = tfl.FULLY_CONNECTED(%x, %w, none) {{{FC}}} : {WIDE}
  %y = tfl.TANH(%f) : {WIDE}
}}
signature "main"(x = %x) -> (y = %loop:1)
"""


@pytest.mark.parametrize("is_pure", [False, True])
def test_steps_of_a_loop_convert_by_themselves(is_pure: bool) -> None:
    model = parse_model(LOOP)
    model.format = "tflite"
    plan = make_plan(model, Recipe((Rule(mode="int8"),), islands=not is_pure), lambda *types: None, XNNPACK)
    computes = {row["node"]: row["compute"] for row in plan.rows() if row["graph"] == "step"}
    assert computes == {
        "m": "float32", "f": "int8" if is_pure else "int8 on the fly", "y": "int8" if is_pure else "float32",
    }  # fmt: skip
    quantize_model(model, Recipe((Rule(mode="int8"),)), statistics({}), lambda *types: None, delegate=XNNPACK)
    verify(model)
    assert model.functions["step"].node("f").input(1).dtype.name == "int8"
