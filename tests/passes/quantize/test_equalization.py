"""Equalization, bias correction and adaptive rounding: what they keep, and what they win."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from graphopt.ir.known import known_array
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify
from graphopt.passes.quantize.arithmetic import fake_quantize
from graphopt.passes.quantize.correction import correct_biases, correct_output, restore_bias
from graphopt.passes.quantize.equalization import equalize
from graphopt.passes.quantize.parameters import weight_parameters
from graphopt.passes.quantize.rounding import round_adaptively, round_rows, second_moments
from graphopt.passes.quantize.schemes import INT8_WEIGHT
from graphopt.passes.quantize.statistics import Collected, Statistics
from graphopt.runtimes.litert import LiteRTRuntime

CHANNELS = 4
CONVOLUTION = (
    'padding = b"SAME", stride_w = 1, stride_h = 1, dilation_wfactor = 1, dilation_hfactor = 1, '
    'fused_activation_function = b"%s"'
)


def constant(name: str, array: np.ndarray) -> str:
    def listed(part: np.ndarray) -> str:
        return "[" + ", ".join(repr(float(x)) if part.ndim == 1 else listed(x) for x in part) + "]"

    shape = f"float32[{', '.join(map(str, array.shape))}]"
    return f"%{name} = tfl.CONSTANT() {{value = {shape} {listed(array)}}} : {shape}"


def network(seed: int, activation: str = "RELU", octaves: float = 4) -> Model:
    """Two branches of convolutions, one depthwise, that are added; channels of very different ranges."""
    rng = np.random.default_rng(seed)
    spread = np.exp2(rng.uniform(-octaves, octaves, CHANNELS))
    shape = f"float32[1, 4, 4, {CHANNELS}]"
    first = rng.normal(size=(CHANNELS, 1, 1, 3)) * spread[:, None, None, None]
    lines = [
        "graph @main(%x) -> (%y) {", "%x = tfl.INPUT() : float32[1, 4, 4, 3]",
        constant("w1", first), constant("b1", rng.normal(size=CHANNELS) * spread),
        constant("w2", rng.normal(size=(1, 3, 3, CHANNELS))), constant("b2", rng.normal(size=CHANNELS)),
        constant("w3", rng.normal(size=(CHANNELS, 1, 1, CHANNELS)) / spread), constant("b3", rng.normal(size=CHANNELS)),
        constant("w4", rng.normal(size=(2, 1, 1, CHANNELS))),
        constant("b4", np.zeros(2)),
        f"%a = tfl.CONV_2D(%x, %w1, %b1) {{{CONVOLUTION % activation}}} : {shape}",
        f"%d = tfl.DEPTHWISE_CONV_2D(%a, %w2, %b2) {{depth_multiplier = 1, {CONVOLUTION % 'RELU'}}} : {shape}",
        f"%c = tfl.CONV_2D(%a, %w3, %b3) {{{CONVOLUTION % 'NONE'}}} : {shape}",
        f'%s = tfl.ADD(%d, %c) {{fused_activation_function = b"NONE"}} : {shape}',
        f"%y = tfl.CONV_2D(%s, %w4, %b4) {{{CONVOLUTION % 'NONE'}}} : float32[1, 4, 4, 2]", "}",
    ]  # fmt: skip
    model = parse_model("\n".join(lines))
    model.format = "tflite"
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    return model


SAMPLES = np.abs(np.random.default_rng(9).normal(size=(6, 1, 4, 4, 3))).astype(np.float32)


def observed(model: Model) -> Statistics:
    statistics = Statistics(collected=Collected(channels=True))
    values = {value.name: value for node in model.graph for value in node.outputs}
    runtime = LiteRTRuntime()
    for number, sample in enumerate(SAMPLES):
        statistics.begin_sample(number)
        for name, array in runtime.run_all(model, {"x": sample}).items():
            value = values.get(name.removesuffix(":0"))
            if value is not None and value.node.op != "tfl.CONSTANT" and array.dtype == np.float32:
                statistics.observe(value, array)
    return statistics


def computed(model: Model) -> np.ndarray:
    runtime = LiteRTRuntime()
    return np.stack([runtime.run(model, {"x": sample})["y"] for sample in SAMPLES])


def spread_of(statistics: Statistics, model: Model, name: str) -> float:
    found = statistics.of(model.graph.node(name).output)
    assert found is not None
    magnitude = found.channel_magnitude
    assert magnitude is not None
    return float(magnitude.max() / magnitude[magnitude > 0].min())


@given(st.integers(0, 1000), st.sampled_from([0.25, 0.5, 1.0]))
def test_what_is_computed_stays(seed: int, strength: float) -> None:
    model = network(seed)
    right, statistics = computed(model), observed(model)
    before = spread_of(statistics, model, "a")
    factors = equalize(model.graph, statistics, strength)
    verify(model)
    assert np.abs(computed(model) - right).max() <= 1e-5 * max(1.0, np.abs(right).max())
    assert model.graph.outputs[0] not in factors
    assert model.graph.inputs[0] not in factors
    assert spread_of(statistics, model, "a") <= before * 1.001


def test_statistics_follow_the_channels() -> None:
    model = network(3)
    statistics = observed(model)
    equalize(model.graph, statistics, 1.0)
    anew = observed(model)
    for key, found in anew.tensors.items():
        kept = statistics.tensors[key]
        assert np.allclose(kept.channel_maximum, found.channel_maximum, rtol=1e-4, atol=1e-5)
        assert np.allclose(kept.channel_mean, found.channel_mean, rtol=1e-3, atol=1e-4)


def test_channels_become_alike_and_a_second_run_finds_nothing() -> None:
    model = network(5, octaves=2)
    statistics = observed(model)
    before = spread_of(statistics, model, "a")
    assert equalize(model.graph, statistics, 1.0)
    assert spread_of(statistics, model, "a") < before / 2
    text = print_model(model)
    assert equalize(model.graph, statistics, 1.0) == {}
    assert print_model(model) == text


def test_what_a_clip_would_change_is_left_alone() -> None:
    model = network(5, activation="RELU6")
    statistics = observed(model)
    factors = equalize(model.graph, statistics, 1.0)
    assert model.graph.node("a").output not in factors
    assert all((found >= 1).all() for found in factors.values())


def rounded(model: Model) -> Model:
    """With weights as int8 leaves them."""
    from graphopt.passes.quantize.equalization import hold

    copy = model.clone()
    for node in list(copy.graph):
        place = {"tfl.CONV_2D": 0, "tfl.DEPTHWISE_CONV_2D": 3}.get(node.op)
        if place is not None:
            weights = known_array(node.input(1))
            assert weights is not None
            hold(node, 1, fake_quantize(weights, weight_parameters(weights, INT8_WEIGHT, axis=place)))
    return copy


@given(st.integers(0, 1000))
def test_correction_takes_the_mean_off_the_error(seed: int) -> None:
    """Of the layer that reads the input: no error comes in, and 1x1 has no padding."""
    model = network(seed, activation="NONE")
    statistics = observed(model)
    target = statistics.of(model.graph.node("a").output)
    corrected = model.clone()
    assert correct_biases(corrected.graph, statistics) == 4
    verify(corrected)
    means = [observed(rounded(item)).of(rounded(item).graph.node("a").output) for item in (model, corrected)]
    assert target is not None
    before, after = (np.abs(found.channel_mean - target.channel_mean).max() for found in means)  # type: ignore[union-attr]
    largest = float(np.abs(target.channel_mean).max())  # type: ignore[arg-type]
    assert after <= before + 1e-6 * largest
    assert after <= 1e-5 * max(1.0, largest)


def test_corrections_are_taken_back() -> None:
    model = network(1)
    corrected = model.clone()
    correct_biases(corrected.graph, observed(model))
    assert not np.array_equal(computed(corrected), computed(model))
    for node in list(corrected.graph):
        if node.op in ("tfl.CONV_2D", "tfl.DEPTHWISE_CONV_2D"):
            restore_bias(node, model.graph.node(node.name))
    verify(corrected)
    assert np.array_equal(computed(corrected), computed(model))


@given(st.integers(0, 1000), st.sampled_from([3, 17, 70]))
def test_adaptive_rounding_changes_the_outputs_less(seed: int, inputs: int) -> None:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(inputs, inputs))
    places = (np.abs(rng.normal(size=(500, inputs))) @ np.abs(mixing)).astype(np.float32)
    weights = rng.normal(size=(5, inputs)).astype(np.float32)
    found = weight_parameters(weights, INT8_WEIGHT, axis=0)
    codes = round_rows(weights, found.scale, second_moments(places))
    assert codes.dtype == np.int8
    assert (np.abs(codes.astype(int)) <= 127).all()
    errors = [
        np.square(places @ (item - weights).T).mean()
        for item in (codes * found.scale[:, None], fake_quantize(weights, found))
    ]
    assert errors[0] <= errors[1] * 1.1


def test_adaptive_rounding_wins_much_where_inputs_go_together() -> None:
    rng = np.random.default_rng(0)
    places = (np.abs(rng.normal(size=(500, 1))) + 0.1 * rng.normal(size=(500, 64))).astype(np.float32)
    weights = rng.normal(size=(8, 64)).astype(np.float32)
    found = weight_parameters(weights, INT8_WEIGHT, axis=0)
    codes = round_rows(weights, found.scale, second_moments(places))
    better, plain = (
        np.square(places @ (item - weights).T).mean()
        for item in (codes * found.scale[:, None], fake_quantize(weights, found))
    )
    assert better < plain / 10


@pytest.mark.parametrize("rows", [None, np.zeros((8, 3), np.float32)])
def test_layers_without_known_inputs_are_rounded_to_the_nearest(rows: np.ndarray | None) -> None:
    model = network(2)
    found = round_adaptively(model.graph, lambda value: rows if value.is_input else None)
    for node, (weights, codes) in found.items():
        expected = weight_parameters(weights, INT8_WEIGHT, axis=0)
        assert node.name == "a"
        assert np.array_equal(codes * expected.scale.reshape(-1, 1, 1, 1), fake_quantize(weights, expected))
    assert len(found) == (rows is not None)


def test_a_dense_layer_that_reads_images_takes_factors_in_every_place() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(CHANNELS, 1, 1, 3)) * np.exp2([[[[-4]]], [[[4]]], [[[0]]], [[[2]]]])
    dense = 'weights_format = b"DEFAULT", keep_num_dims = false, asymmetric_quantize_inputs = false'
    lines = [
        "graph @main(%x) -> (%y) {", "%x = tfl.INPUT() : float32[1, 4, 4, 3]",
        constant("w1", first), constant("b1", np.ones(CHANNELS)), constant("w2", rng.normal(size=(2, 16 * CHANNELS))),
        constant("b2", np.zeros(2)),
        f"%a = tfl.CONV_2D(%x, %w1, %b1) {{{CONVOLUTION % 'RELU'}}} : float32[1, 4, 4, {CHANNELS}]",
        f'%y = tfl.FULLY_CONNECTED(%a, %w2, %b2) {{{dense}, fused_activation_function = b"NONE"}} : float32[1, 2]', "}",
    ]  # fmt: skip
    model = parse_model("\n".join(lines))
    model.format = "tflite"
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    statistics = Statistics(collected=Collected(channels=True))
    sample = rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
    runtime = LiteRTRuntime()
    right = runtime.run(model, {"x": sample})["y"]
    statistics.begin_sample(0)
    for node in model.graph:
        if node.op_type in ("INPUT", "CONV_2D", "FULLY_CONNECTED"):
            statistics.observe(node.output, runtime.run(model, {"x": sample}, [f"{node.name}:0"])[f"{node.name}:0"])
    assert equalize(model.graph, statistics)
    verify(model)
    np.testing.assert_allclose(runtime.run(model, {"x": sample})["y"], right, rtol=1e-4, atol=1e-4)


def normalised(seed: int, other: str = "") -> Model:
    """A layer normalization, its deviation times a scale first, that two dense layers read."""
    rng = np.random.default_rng(seed)
    spread = np.exp2(rng.uniform(-4, 4, CHANNELS))
    shape, rows = f"float32[1, 6, {CHANNELS}]", "float32[1, 6, 1]"
    kind = (
        'fused_activation_function = b"NONE", weights_format = b"DEFAULT", keep_num_dims = true, '
        "asymmetric_quantize_inputs = false"
    )
    plain = '{fused_activation_function = b"NONE"}'
    lines = [
        "graph @main(%x) -> (%y, %z) {", f"%x = tfl.INPUT() : {shape}",
        "%axis = tfl.CONSTANT() {value = int32[1] [2]} : int32[1]",
        constant("gamma", rng.uniform(0.5, 2, CHANNELS) * spread), constant("beta", rng.normal(size=CHANNELS)),
        constant("w1", rng.normal(size=(2, CHANNELS))), constant("w2", rng.normal(size=(3, CHANNELS))),
        f"%m = tfl.MEAN(%x, %axis) {{keep_dims = true}} : {rows}",
        f"%d = tfl.SQUARED_DIFFERENCE(%x, %m) : {shape}",
        f"%v = tfl.MEAN(%d, %axis) {{keep_dims = true}} : {rows}",
        f"%r = tfl.RSQRT(%v) : {rows}",
        f"%s = tfl.MUL(%r, %gamma) {plain} : {shape}",
        f"%c = tfl.SUB(%x, %m) {plain} : {shape}",
        f"%n = tfl.MUL(%c, %s) {plain} : {shape}",
        f"%b = tfl.ADD(%n, %beta) {plain} : {shape}", other,
        f"%y = tfl.FULLY_CONNECTED(%b, %w1, none) {{{kind}}} : float32[1, 6, 2]",
        f"%z = tfl.FULLY_CONNECTED(%b, %w2, none) {{{kind}}} : float32[1, 6, 3]", "}",
    ]  # fmt: skip
    model = parse_model("\n".join(lines))
    model.format = "tflite"
    model.set_signature({"x": model.graph.inputs[0]}, dict(zip("yz", model.graph.outputs, strict=True)))
    return model


def seen_by(model: Model) -> tuple[Statistics, list[np.ndarray]]:
    statistics = Statistics(collected=Collected(channels=True))
    x = np.random.default_rng(3).normal(size=(1, 6, CHANNELS)).astype(np.float32)
    found = {name.removesuffix(":0"): array for name, array in LiteRTRuntime().run_all(model, {"x": x}).items()}
    statistics.begin_sample(0)
    for node in model.graph:
        if node.op != "tfl.CONSTANT" and node.output.name in found:
            statistics.observe(node.output, found[node.output.name])
    return statistics, [found["y"], found["z"]]


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0]))
def test_scale_and_offset_of_a_layer_normalization_take_factors(seed: int, strength: float) -> None:
    model = normalised(seed)
    statistics, right = seen_by(model)
    before = spread_of(statistics, model, "b")
    equalize(model.graph, statistics, strength)
    verify(model)
    for wanted, got in zip(right, seen_by(model)[1], strict=True):
        assert np.abs(got - wanted).max() <= 1e-4 * max(1.0, np.abs(wanted).max())
    assert spread_of(statistics, model, "b") <= before * 1.001


def test_channels_of_a_layer_normalization_become_alike() -> None:
    model = normalised(7)
    statistics, _ = seen_by(model)
    before = spread_of(statistics, model, "b")
    factors = equalize(model.graph, statistics, 1.0)
    assert {"s", "n", "b"} == {value.name for value in factors}
    assert spread_of(statistics, model, "b") < before


def test_a_layer_normalization_that_something_else_reads_stays() -> None:
    model = normalised(7, f"%e = tfl.EXP(%b) : float32[1, 6, {CHANNELS}]")
    text = print_model(model)
    assert equalize(model.graph, seen_by(model)[0], 1.0) == {}
    assert print_model(model) == text


ENDING = """graph @main(%%x) -> (%%y) {
    %%x = tfl.INPUT() : float32[1, 3]
    %%w = tfl.CONSTANT() {value = float32[2, 3] [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]} : float32[2, 3]
    %%s = tfl.CONSTANT() {value = int32[3] [1, 1, 2]} : int32[3]
    %%f = tfl.FULLY_CONNECTED(%%x, %%w, none) {fused_activation_function = b"%s", weights_format = b"DEFAULT",
      keep_num_dims = false, asymmetric_quantize_inputs = false} : float32[1, 2]
    %s
}"""
RESHAPED = "%y = tfl.RESHAPE(%f, %s) {} : float32[1, 1, 2]"


def ending(activation: str, last: str) -> Model:
    return parse_model((ENDING % (activation, last)).replace(",\n      ", ", "))


def test_the_mean_error_of_an_output_goes_into_the_bias_before_it() -> None:
    model = ending("NONE", RESHAPED)
    assert correct_output(model.graph.outputs[0], np.array([0.5, -2.0]))
    verify(model)
    bias = known_array(model.graph.node("f").input(2))
    assert bias is not None
    assert bias.tolist() == [-0.5, 2.0]


@pytest.mark.parametrize(
    ("activation", "last", "shift"),
    [
        ("RELU", RESHAPED, [0.5, -2.0]),  # cut off differently
        ("NONE", "%y = tfl.SOFTMAX(%f) {beta = 1.0} : float32[1, 2]", [0.5, -2.0]),
        ("NONE", RESHAPED, [0.5]),  # other channels
        ("NONE", RESHAPED + "\n    %z = tfl.NEG(%f) : float32[1, 2]", [0.5, -2.0]),  # something else reads the layer
    ],
)
def test_a_mean_error_that_no_bias_stands_for_stays(activation: str, last: str, shift: list[float]) -> None:
    model = ending(activation, last)
    text = print_model(model)
    assert not correct_output(model.graph.outputs[0], np.array(shift))
    assert print_model(model) == text
