"""Quantizing operators of TFLite: plan, shared and prescribed scales, borders, storage, types at the model's ends."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from tflite_layers import DENSE, FC, NONE, build, operators, quantization, run, statistics

from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.types import Quantization
from graphopt.ir.verifier import verify
from graphopt.passes.quantize.quantize import quantize_model
from graphopt.passes.quantize.recipe import Recipe, Rule
from graphopt.passes.quantize.statistics import TensorKey
from graphopt.runtimes.litert import LiteRTRuntime


def test_a_layer_in_integers_keeps_its_names_and_floats_at_both_ends() -> None:
    model = build(DENSE)
    plan = run(model, ranges={"x": (-1, 1), "y": (-4, 4)})
    assert operators(model) == {"QUANTIZE": 1, "FULLY_CONNECTED": 1, "DEQUANTIZE": 1}
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert str(model.graph.outputs[0].type) == "float32[2, 3]"
    weights = model.graph.node("w/int8").attrs["value"].numpy()
    assert weights.tolist() == [[127, 64, 0, 0], [0, 127, 0, 0], [0, 0, 0, 0]]
    scale = np.array(quantization(model, "w/int8").scale) * quantization(model, "x/int8").scale[0]
    assert np.allclose(quantization(model, "b/int32").scale, scale)
    assert model.graph.node("b/int32").attrs["value"].numpy().tolist()[0] == round(1.0 / scale[0])
    assert [row["compute"] for row in plan.rows()] == ["int8"]


def test_a_channel_of_zeros_never_gives_nan() -> None:
    model = build(DENSE)
    run(model, ranges={"x": (0, 0), "y": (0, 0)})
    for node in model.graph:
        for value in node.outputs:
            if value.type.quantization is not None:
                assert all(np.isfinite(scale) and scale > 0 for scale in value.type.quantization.scale)


def test_operators_that_move_elements_share_a_scale_over_all_ranges() -> None:
    body = """
    %a = tfl.ABS(%x) : float32[2, 4]
    %n = tfl.ELU(%x) : float32[2, 4]
    %y = tfl.CONCATENATION(%a, %n) {axis = 0, fused_activation_function = b"NONE"} : float32[4, 4]
    """
    model = build(body)
    run(model, ranges={"x": (-2, 1), "a": (0, 2), "n": (-1, 2), "y": (-1, 2)})
    assert quantization(model, "a") == quantization(model, "n") == quantization(model, "y/int8")
    assert quantization(model, "a").scale[0] == pytest.approx(3 / 255)


@pytest.mark.parametrize(("smaller", "is_apart"), [(1.0, True), (3.0, False)])
def test_an_operand_that_others_read_keeps_its_scale_beside_much_larger_ones(smaller: float, is_apart: bool) -> None:
    body = """
    %a = tfl.ABS(%x) : float32[2, 4]
    %n = tfl.ELU(%x) : float32[2, 4]
    %c = tfl.CONCATENATION(%a, %n) {axis = 0, fused_activation_function = b"NONE"} : float32[4, 4]
    %s = tfl.ELU(%a) : float32[2, 4]
    %y = tfl.CONCATENATION(%c, %s) {axis = 0, fused_activation_function = b"NONE"} : float32[6, 4]
    """
    model = build(body)
    run(model, ranges={"x": (-4, 4), "a": (0, smaller), "n": (-4, 4), "c": (-4, 4), "s": (-4, 0), "y": (-4, 4)})
    assert (quantization(model, "a").scale[0] == pytest.approx(smaller / 255)) is is_apart
    read = [value.type.quantization for value in model.graph.node("c").inputs if value is not None]
    assert read == [quantization(model, "c")] * 2
    assert operators(model)["QUANTIZE"] == 1 + is_apart


def test_a_prescribed_scale_is_passed_on_by_what_only_moves_elements() -> None:
    body = """
    %s = tfl.LOGISTIC(%x) : float32[2, 4]
    %shape = tfl.CONSTANT() {value = int32[1] [8]} : int32[1]
    %y = tfl.RESHAPE(%s, %shape) {new_shape = [8]} : float32[8]
    """
    model = build(body)
    run(model, ranges={"x": (-8, 8), "s": (0.1, 0.9), "y": (0.1, 0.9)})
    assert quantization(model, "s") == quantization(model, "y/int8") == Quantization((1 / 256,), (-128,))


def test_a_prescribed_scale_is_left_behind_by_a_requantization() -> None:
    body = """
    %s = tfl.LOGISTIC(%x) : float32[2, 4]
    %n = tfl.ELU(%x) : float32[2, 4]
    %y = tfl.CONCATENATION(%s, %n) {axis = 0, fused_activation_function = b"NONE"} : float32[4, 4]
    """
    model = build(body)
    run(model, ranges={"x": (-8, 8), "s": (0, 1), "n": (-8, 8), "y": (-8, 8)})
    assert quantization(model, "s") == Quantization((1 / 256,), (-128,))
    assert operators(model)["QUANTIZE"] == 2
    read = [value for value in model.graph.node("y/int8").inputs if value is not None]
    assert {value.type.quantization for value in read} == {quantization(model, "y/int8")}


def test_an_operator_without_kernel_or_range_stays_float() -> None:
    body = "%s = tfl.SIN(%x) : float32[2, 4]\n%y = tfl.ABS(%s) : float32[2, 4]"
    model = build(body)
    plan = run(model, ranges={"x": (-1, 1), "y": (0, 1)})
    reasons = [row["reason"] for row in plan.rows()]
    assert reasons == ["SIN has no integer kernel", "no range of 's' is known"]
    assert operators(model) == {"SIN": 1, "ABS": 1}


def test_what_a_kernel_refuses_stays_float_with_its_reason() -> None:
    model = build(DENSE)
    plan = run(model, ranges={"x": (-1, 1), "y": (-1, 1)}, supports=lambda *types: "not on this device")
    assert [row["reason"] for row in plan.rows()] == ["not on this device"]
    assert operators(model) == {"FULLY_CONNECTED": 1}


def test_islands_of_floats_have_one_conversion_a_tensor() -> None:
    body = """
    %a = tfl.ABS(%x) : float32[2, 4]
    %s = tfl.SIN(%a) : float32[2, 4]
    %c = tfl.COS(%a) : float32[2, 4]
    %y = tfl.ADD(%s, %c) {fused_activation_function = b"NONE"} : float32[2, 4]
    """
    model = build(body)
    run(model, ranges={"x": (-1, 1), "a": (0, 1), "s": (0, 1), "c": (0, 1), "y": (0, 2)})
    assert operators(model) == {"QUANTIZE": 3, "ABS": 1, "DEQUANTIZE": 2, "SIN": 1, "COS": 1, "ADD": 1}


def test_without_statistics_activations_cannot_be_quantized() -> None:
    with pytest.raises(UsageError, match="calibrate first"):
        run(build(DENSE))


@pytest.mark.parametrize("types", [("int8", "int8"), ("uint8", "uint8"), ("int8", "float32")])
def test_types_at_both_ends(types: tuple[str, str]) -> None:
    model = build(DENSE)
    recipe = Recipe((Rule(mode="int8"),), *types)  # type: ignore[arg-type]
    run(model, recipe, {"x": (-1, 1), "y": (-4, 4)})
    assert model.graph.inputs[0].dtype.name == types[0]
    assert model.graph.outputs[0].dtype.name == types[1]
    assert [value.name for value in model.graph.outputs] == ["y"]
    zero = model.graph.inputs[0].type.quantization
    assert zero is not None
    assert zero.zero_point == ((-1,) if types[0] == "int8" else (127,))


def test_an_end_of_no_known_range_stays_float_and_is_noted() -> None:
    model = build("%y = tfl.SIN(%x) : float32[2, 4]")
    plan = run(model, Recipe((Rule(mode="float16"),), "int8", "int8"))
    assert plan.notes == [
        "input 'x' stays float32: no range of it is known", "output 'y' stays float32: no range of it is known",
    ]  # fmt: skip


def test_dynamic_range_stores_integers_and_keeps_activations() -> None:
    model = build(DENSE)
    run(model, Recipe((Rule(mode="dynamic"),)))
    node = model.graph.node("y")
    assert [value.dtype.name for value in node.inputs if value is not None] == ["float32", "int8", "float32"]
    assert node.attrs["asymmetric_quantize_inputs"] is True


@pytest.mark.parametrize(("mode", "stored"), [("weight-only", "int8"), ("float16", "float16")])
def test_stored_weights_are_dequantized(mode: str, stored: str) -> None:
    model = build(DENSE)
    run(model, Recipe((Rule(mode=mode),)))  # type: ignore[arg-type]
    weights = model.graph.node("y").input(1)
    assert weights.node.op == "tfl.DEQUANTIZE"
    assert weights.node.input(0).dtype.name == stored


def test_small_weights_stay_float() -> None:
    plan = run(build(DENSE), "dynamic")
    assert [row["reason"] for row in plan.rows()] == ["it has no constant weights of at least 1024 elements"]


def test_layers_are_mixed_by_name() -> None:
    body = "%head = tfl.ABS(%x) : float32[2, 4]\n%y = tfl.ELU(%head) : float32[2, 4]"
    model = build(body)
    recipe = Recipe((Rule(mode="int8"), Rule(mode="float", layers="^head")))
    plan = run(model, recipe, {"x": (-1, 1), "head": (0, 1), "y": (-1, 0)})
    assert [row["compute"] for row in plan.rows()] == ["float32", "int8"]


def test_a_quantized_model_prints_and_parses_and_is_left_alone_by_a_second_run() -> None:
    model = build(DENSE)
    ranges = {"x": (-1.0, 1.0), "y": (-4.0, 4.0)}
    run(model, ranges=ranges)
    text = print_model(model)
    assert print_model(parse_model(text)) == text
    run(model, ranges=ranges)
    assert print_model(model) == text


@given(
    rows=st.integers(1, 5), columns=st.integers(1, 6), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000),
    mode=st.sampled_from(["int8", "int16x8", "dynamic", "weight-only", "float16"]),
)  # fmt: skip
def test_litert_computes_nearly_the_same(rows: int, columns: int, scale: float, seed: int, mode: str) -> None:
    """The error of a layer is bounded by half a step of each operand, carried through the sum, and of the result."""
    rng = np.random.default_rng(seed)
    weights = (rng.normal(size=(rows, columns)) * scale).astype(np.float32)
    x = rng.normal(size=(2, columns)).astype(np.float32)
    text = ", ".join("[" + ", ".join(repr(float(v)) for v in row) + "]" for row in weights)
    body = (
        f"%w = tfl.CONSTANT() {{value = float32[{rows}, {columns}] [{text}]}} : float32[{rows}, {columns}]\n"
        f"%y = tfl.FULLY_CONNECTED(%x, %w, none) {{{FC}}} : float32[2, {rows}]"
    )
    model = build(body, inputs=f"%x: float32[2, {columns}]")
    right = x @ weights.T
    found = statistics({})
    found.observe(TensorKey("", "x:0"), x)
    found.observe(TensorKey("", "y:0"), right)
    quantize_model(model, Recipe((Rule(mode=mode),)), found, lambda *types: None)  # type: ignore[arg-type]
    verify(model)
    got = LiteRTRuntime().run(model, {"x": x})["y"]
    largest, extent = np.abs(weights).max(), np.ptp(np.append(x, 0))
    step = {"int16x8": 2.0**-15}.get(mode, 2.0**-8)
    bound = columns * (largest / 127 * np.abs(x).max() + extent * step * largest) + np.ptp(np.append(right, 0)) * step
    assert np.abs(got - right).max() <= 1.01 * bound + 1e-6


def test_weights_are_clipped_where_the_recipe_says_so() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_t(3, (3, 400)).astype(np.float32)
    text = ", ".join("[" + ", ".join(repr(float(v)) for v in row) + "]" for row in weights)
    body = (
        f"%w = tfl.CONSTANT() {{value = float32[3, 400] [{text}]}} : float32[3, 400]\n"
        f"%y = tfl.FULLY_CONNECTED(%x, %w, none) {{{FC}}} : float32[2, 3]"
    )
    scales = []
    for clip in (False, True):
        model = build(body, inputs="%x: float32[2, 400]")
        run(model, Recipe((Rule(mode="weight-only", weight_bits=4, clip_weights=clip),)))
        scales.append(np.array(quantization(model, "w/int4").scale))
    assert (scales[1] < scales[0]).all()


def compared(op: str, other: str, ends: dict[str, tuple[float, float]], mode: str) -> tuple[Model, dict[str, str]]:
    model = build(
        f"{other}\n%y = tfl.{op}(%x, %b) : bool[2, 4]", inputs=f"%x: float32[2, 4]{', %b: float32[2, 4]' * (not other)}"
    )
    plan = run(model, Recipe((Rule(mode=mode),)), ends)  # type: ignore[arg-type]
    return model, next(iter(plan.rows()))


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
@pytest.mark.parametrize("op", ["GREATER", "LESS_EQUAL", "EQUAL"])
def test_operands_of_a_comparison_share_a_scale(op: str, mode: str) -> None:
    """LiteRT compares the integers of int16 as they are."""
    model, row = compared(op, "", {"x": (-1, 1), "b": (-50, 50)}, mode)
    assert row["compute"] == mode.removesuffix("x8")
    first, second = (value.type.quantization for value in model.graph.node("y").inputs if value is not None)
    assert first == second
    x = np.array([[1, -1, 0.5, 0], [1, 1, -1, 0]], np.float32)
    b = np.array([[50, -50, -30, 40], [-2, 2, 2, -2]], np.float32)
    wanted = {"GREATER": x > b, "LESS_EQUAL": x <= b, "EQUAL": x == b}[op]
    assert (LiteRTRuntime().run(model, {"x": x, "b": b})["y"] == wanted).all()


@pytest.mark.parametrize("limit", [-40.0, 0.0, 0.25, 40.0])
@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_a_constant_is_compared_in_the_scale_of_the_tensor(limit: float, mode: str) -> None:
    model, row = compared(
        "GREATER", f"%b = tfl.CONSTANT() {{value = float32[] {limit}}} : float32[]", {"x": (-1, 1)}, mode
    )
    assert row["compute"] == mode.removesuffix("x8")
    x = np.array([[0.9, -0.9, 0.5, 0.1], [0.3, 0.2, -0.1, 0]], np.float32)
    assert (LiteRTRuntime().run(model, {"x": x})["y"] == (x > limit)).all()


def test_int8_of_large_scales_is_not_compared() -> None:
    """LiteRT stops the process."""
    _, row = compared("GREATER", "", {"x": (0, 255), "b": (0, 1)}, "int8")
    assert row["reason"] == "no kernel compares int8 of scale 1, only of scales below 1"


@pytest.mark.parametrize(("op", "mode"), [("NEG", "int8"), ("PRELU", "int16x8")])
def test_what_a_kernel_computes_wrongly_stays_float(op: str, mode: str) -> None:
    slopes = "%a = tfl.CONSTANT() {value = float32[4] [0.5, 1.0, 2.0, -1.0]} : float32[4]\n"
    model = build(f"{slopes}%y = tfl.{op}(%x{', %a' * (op == 'PRELU')}) : float32[2, 4]")
    plan = run(model, Recipe((Rule(mode=mode),)), {"x": (-1, 2), "y": (-2, 2)})  # type: ignore[arg-type]
    assert next(iter(plan.rows()))["reason"].startswith("LiteRT's kernel for int")


def test_a_negation_in_int16_keeps_its_scale() -> None:
    model = build("%y = tfl.NEG(%x) : float32[2, 4]")
    run(model, "int16x8", {"x": (-1, 3), "y": (-2, 1)})
    assert quantization(model, "x/int16") == quantization(model, "y/int16")


def test_what_stands_for_infinity_stays_float_and_spoils_no_scale() -> None:
    body = """
    %m = tfl.CONSTANT() {value = bool[4] [true, false, true, true]} : bool[4]
    %low = tfl.CONSTANT() {value = float32[] -1000000000.0} : float32[]
    %a = tfl.ABS(%x) : float32[2, 4]
    %s = tfl.SELECT_V2(%m, %a, %low) : float32[2, 4]
    %y = tfl.RELU(%s) : float32[2, 4]
    """
    model = build(body)
    plan = run(model, ranges={"x": (-1, 1), "a": (0, 1), "s": (-1e9, 1), "y": (0, 1)})
    rows = {row["node"]: row for row in plan.rows()}
    assert [rows[name]["compute"] for name in ("a", "s", "y")] == ["int8", "float32", "float32"]
    assert rows["s"]["reason"] == "'low' holds -1e+09, beside which integers cannot tell other numbers apart"
    assert quantization(model, "a").scale[0] == pytest.approx(1 / 255)


def test_an_operand_of_a_selection_that_others_read_keeps_its_scale() -> None:
    body = """
    %z = tfl.CONSTANT() {value = float32[] 0.0} : float32[]
    %m = tfl.GREATER(%x, %z) : bool[2, 4]
    %y = tfl.SELECT_V2(%m, %x, %b) : float32[2, 4]
    """
    model = build(body, inputs="%x: float32[2, 4], %b: float32[2, 4]")
    run(model, ranges={"x": (-1, 1), "b": (-50, 50), "y": (-50, 50)})
    assert quantization(model, "x/int8").scale[0] == pytest.approx(2 / 255, rel=1e-3)


@pytest.mark.parametrize("type", ["int8", "uint8", "int16"])
def test_ends_in_floats_are_converted_where_their_ranges_are_known(type: str) -> None:
    model = build("%y = tfl.SIN(%x) : float32[2, 4]")
    plan = run(model, Recipe((Rule(mode="int8"),), type, type), {"x": (-2, 2), "y": (-1, 1)})  # type: ignore[arg-type]
    assert plan.notes == []
    assert operators(model) == {"DEQUANTIZE": 1, "SIN": 1, "QUANTIZE": 1}
    assert [value.name for value in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y"]
    assert {value.dtype.name for value in (*model.graph.inputs, *model.graph.outputs)} == {type}
    given, yielded = (model.graph.node(name).output.type.quantization for name in "xy")
    assert given is not None
    assert yielded is not None
    codes = np.round(np.array([[1, -2, 0.5, 0]] * 2) / given.scale[0] + given.zero_point[0])
    got = LiteRTRuntime().run(model, {"x": codes.astype(type)})["y"]
    found = (got.astype(np.float32) - yielded.zero_point[0]) * yielded.scale[0]
    assert np.abs(found - np.sin([1, -2, 0.5, 0])).max() < 0.02


@pytest.mark.parametrize(("type", "scale", "zero_point"), [("int8", 1 / 256, -128), ("uint8", 1 / 256, 0)])
def test_probabilities_computed_in_floats_are_fetched_as_kernels_would_yield_them(
    type: str, scale: float, zero_point: int
) -> None:
    model = build("%y = tfl.SOFTMAX(%x) {beta = 1.0} : float32[2, 4]")
    recipe = Recipe((Rule(mode="float"),), "float32", type)  # type: ignore[arg-type]
    run(model, recipe, {"x": (-2, 2), "y": (0.1, 0.6)})
    assert model.graph.outputs[0].type.quantization == Quantization((scale,), (zero_point,))


def test_ends_that_are_quantized_already_stay_and_that_is_noted() -> None:
    model = build(DENSE)
    run(model, Recipe((Rule(mode="int8"),), "uint8", "uint8"), {"x": (-1, 1), "y": (-4, 4)})
    text = print_model(model)
    plan = run(model, Recipe((Rule(mode="int8"),), "int8", "uint8"))
    assert plan.notes == ["input 'x' stays uint8: it is quantized already"]
    assert print_model(model) == text


def test_an_input_that_is_an_output_stays_float() -> None:
    model = build("%y = tfl.ABS(%x) : float32[2, 4]", "%y, %x")
    plan = run(model, Recipe((Rule(mode="int8"),), "int8", "int8"), {"x": (-1, 1), "y": (0, 1)})
    assert [note.partition(":")[0] for note in plan.notes] == ["input 'x' stays float32", "output 'x' stays float32"]


@pytest.mark.parametrize(("low", "compute"), [(0, "int8"), (-1e-6, "float32")])
@pytest.mark.parametrize("op", ["SQRT", "RSQRT"])
def test_roots_of_what_may_be_negative_stay_float(op: str, low: float, compute: str) -> None:
    """LiteRT's kernels for integers stop there."""
    model = build(f"%y = tfl.{op}(%x) : float32[2, 4]")
    (row,) = run(model, ranges={"x": (low, 4), "y": (0, 2)}).rows()
    assert row["compute"] == compute
    assert ("goes down to -1e-06" in row["reason"]) is (compute == "float32")


@pytest.mark.parametrize(
    ("divisor", "mode", "compute"),
    [
        ("[1.0, 2.0, 4.0, 8.0]", "int8", "int8"),
        ("[1.0, 2.0, 4.0, 80.0]", "int8", "float32"),
        ("[1.0, 10.0, 100.0, 1000.0]", "int16x8", "int16"),
    ],
)
def test_nothing_is_divided_by_what_integers_tell_too_little_of(divisor: str, mode: str, compute: str) -> None:
    model = build(
        f"%b = tfl.CONSTANT() {{value = float32[4] {divisor}}} : float32[4]\n"
        f"%y = tfl.DIV(%x, %b) {{{NONE}}} : float32[2, 4]"
    )
    (row,) = run(model, Recipe((Rule(mode=mode),)), {"x": (0, 1), "y": (0, 1)}).rows()  # type: ignore[arg-type]
    assert row["compute"] == compute
    assert ("integers tell too little" in row["reason"]) is (compute == "float32")


def test_a_divisor_around_zero_stays_float() -> None:
    for low, compute in ((-1.0, "float32"), (0.0, "float32"), (0.5, "int8")):
        model = build(f"%y = tfl.DIV(%x, %b) {{{NONE}}} : float32[2, 4]", inputs="%x: float32[2, 4], %b: float32[2, 4]")
        (row,) = run(model, ranges={"x": (0, 1), "b": (low, 2), "y": (0, 2)}).rows()
        assert row["compute"] == compute


@pytest.mark.parametrize(
    ("op", "limit"), [("MINIMUM", 3e38), ("MAXIMUM", -3e38), ("MINIMUM", 0.5), ("MAXIMUM", 1000.0)]
)
def test_what_cuts_off_beyond_a_tensors_range_costs_it_nothing(op: str, limit: float) -> None:
    model = build(
        f"%b = tfl.CONSTANT() {{value = float32[] {limit}}} : float32[]\n%y = tfl.{op}(%x, %b) : float32[2, 4]"
    )
    x = np.array([[-1, -0.5, 0, 0.25], [0.4, 0.6, 0.9, 1]], np.float32)
    right = np.minimum(x, limit) if op == "MINIMUM" else np.maximum(x, limit)
    (row,) = run(model, ranges={"x": (-1, 1), "y": (float(right.min()), float(right.max()))}).rows()
    assert row["compute"] == "int8"
    assert np.abs(LiteRTRuntime().run(model, {"x": x})["y"] - right).max() <= max(1, right.max()) / 250
