"""fuse-bias: sums and products by channel become part of the layer before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.passes.tflite.fuse_bias import FuseBias
from graphopt.testing import assert_equivalent, check_pass

Net = Callable[..., str]
WEIGHTS = np.linspace(-1, 1, 6).reshape(3, 1, 1, 2).astype(np.float32)
BIAS = np.array([0.5, -1.0, 2.0], np.float32)
CONV = "%c = CONV_2D(%x, %w, %b) {padding=SAME, stride_h = 1, stride_w = 1, act=NONE} : float32[1, 4, 4, 3]"
RESULT = CONV.replace("%c =", "%y =")


def combined(op: str, activation: str = "NONE", operands: str = "%c, %k", shape: str = "[1, 4, 4, 3]") -> str:
    return f"%y = {op}({operands}) {{act={activation}}} : float32{shape}"


def constants(**others: Any) -> dict[str, Any]:
    return {"w": WEIGHTS, "b": BIAS, **others}


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 1, 3)])
def test_a_sum_goes_into_the_bias(net: Net, shape: tuple[int, ...]) -> None:
    offsets = np.array([1.0, 2.0, 3.0], np.float32)
    before = net(CONV, combined("ADD", "RELU"), constants=constants(k=offsets.reshape(shape)))
    after = net(RESULT.replace("NONE", "RELU"), constants={"w": WEIGHTS, "b": BIAS + offsets})
    _, report = check_pass(FuseBias(), before, after, runtime="litert")
    assert report.rules == {"bias-of-sum": 1}


def test_a_sum_the_other_way_round_and_of_one_number(net: Net) -> None:
    before = net(CONV, combined("ADD", operands="%k, %c"), constants=constants(k=np.float32(2)))
    check_pass(FuseBias(), before, net(RESULT, constants={"w": WEIGHTS, "b": BIAS + 2}), runtime="litert")


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (3,), (2, 1), ()])
def test_a_sum_over_heads_goes_into_the_bias(net: Net, shape: tuple[int, ...]) -> None:
    offsets = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    weights, sizes = np.linspace(-1, 1, 24).reshape(6, 4).astype(np.float32), np.array([1, 5, 2, 3], np.int32)
    dense = (
        '%c = FULLY_CONNECTED(%x, %w, %b) {weights_format = b"DEFAULT", keep_num_dims = true, '
        "asymmetric_quantize_inputs = false, act=NONE} : float32[1, 5, 6]"
    )
    split = "%r = RESHAPE(%c, %sizes) {} : float32[1, 5, 2, 3]"
    held = {"w": weights, "b": np.ones(6, np.float32), "sizes": sizes}
    before = net(dense, split, combined("ADD", operands="%r, %k", shape="[1, 5, 2, 3]"),
                 constants={**held, "k": offsets}, inputs=("x: float32[1, 5, 4]",))  # fmt: skip
    after = net(dense, split.replace("%r", "%y"), inputs=("x: float32[1, 5, 4]",),
                constants={**held, "b": 1 + (offsets.reshape(shape[-2:]) + np.zeros((2, 3))).reshape(-1)})  # fmt: skip
    check_pass(FuseBias(), before, after, runtime="litert")


def test_a_difference_goes_into_the_bias(net: Net) -> None:
    offsets = np.array([1.0, 2.0, 3.0], np.float32)
    before = net(CONV, combined("SUB"), constants=constants(k=offsets))
    check_pass(FuseBias(), before, net(RESULT, constants={"w": WEIGHTS, "b": BIAS - offsets}), runtime="litert")


@pytest.mark.parametrize(("op", "power"), [("MUL", 1), ("DIV", -1)])
def test_a_scale_goes_into_weights_and_bias(net: Net, op: str, power: int) -> None:
    scales = np.array([2.0, 4.0, -0.5], np.float32)
    before = net(CONV, combined(op), constants=constants(k=scales))
    factor = scales.astype(np.float32) ** power
    after = net(RESULT, constants={"w": WEIGHTS * factor.reshape(3, 1, 1, 1), "b": BIAS * factor})
    check_pass(FuseBias(), before, after, runtime="litert")


def test_a_layer_without_a_bias_gets_one(net: Net) -> None:
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    before = net(
        "%c = FULLY_CONNECTED(%x, %w, none) {act=NONE} : float32[2, 3]", combined("ADD", shape="[2, 3]"),
        inputs=["x: float32[2, 2]"],
        constants={"w": weights, "k": BIAS},
    )  # fmt: skip
    model, _ = check_pass(FuseBias(), before, net(
        "%y = FULLY_CONNECTED(%x, %w, %c/bias) {act=NONE} : float32[2, 3]",
        inputs=["x: float32[2, 2]"], constants={"w": weights, "c/bias": BIAS},
    ), runtime="litert")  # fmt: skip
    assert model.graph.node("y").origins


def test_a_reshape_that_leaves_channels_in_place_does_not_matter(net: Net) -> None:
    reshaped = "%r = RESHAPE(%c, %s) : float32[4, 4, 3]"
    shape = np.array([4, 4, 3], np.int32)
    before = net(
        CONV, reshaped, combined("ADD", operands="%r, %k", shape="[4, 4, 3]"), constants=constants(k=BIAS, s=shape)
    )
    after = net(CONV, reshaped.replace("%r", "%y"), constants={"w": WEIGHTS, "b": 2 * BIAS, "s": shape})
    check_pass(FuseBias(), before, after, runtime="litert")


def test_a_tensor_keeps_its_own_name(net: Net) -> None:
    text = net(CONV, combined("ADD") + ' as "sum:0"', constants=constants(k=BIAS))
    model, _ = check_pass(FuseBias(), text, net(
        RESULT + ' as "sum:0"', constants={"w": WEIGHTS, "b": 2 * BIAS}), runtime="litert")  # fmt: skip
    assert model.graph.outputs[0].name == "sum:0"


def refused(report: Any) -> str:
    return " ".join(entry["reason"] for entry in report.refusals)


def test_it_refuses(net: Net) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    _, report = check_pass(FuseBias(), net(CONV, combined("ADD"), constants=constants(k=rows)), runtime=None)
    assert "a constant of shape [4, 3] is not one number a channel" in refused(report)

    endless = np.array([1.0, 2.0, 3e38], np.float32)
    _, report = check_pass(FuseBias(), net(CONV, combined("MUL"), constants=constants(k=endless)), runtime=None)
    assert "would not be finite" in refused(report)

    moved = "%r = RESHAPE(%c, %s) : float32[1, 3, 16, 1]"
    shape = np.array([1, 3, 16, 1], np.int32)
    text = net(
        CONV, moved, combined("ADD", operands="%r, %k", shape="[1, 3, 16, 1]"),
        constants=constants(k=np.float32(1), s=shape),
    )  # fmt: skip
    _, report = check_pass(FuseBias(), text, runtime=None)
    assert "'r' moves channels" in refused(report)


def test_a_layer_that_others_read_or_that_is_rectified_stays(net: Net) -> None:
    several = net(CONV, combined("ADD"), constants=constants(k=BIAS), outputs=("y", "c"))
    _, report = check_pass(FuseBias(), several, runtime=None)
    assert "is an input or output" in refused(report)
    check_pass(
        FuseBias(), net(CONV.replace("NONE", "RELU"), combined("ADD"), constants=constants(k=BIAS)), runtime=None
    )


def test_other_types_are_left_alone(net: Net) -> None:
    text = net(
        "%c = FULLY_CONNECTED(%x, %x, none) {act=NONE} : float64[2, 2]", combined("ADD", shape="[2, 2]"),
        inputs=["x: float64[2, 2]"], constants={"k": np.float32(1)},
    )  # fmt: skip
    _, report = check_pass(FuseBias(), text.replace("float32[2, 2]", "float64[2, 2]"), runtime=None)
    assert "its type is float64, or quantized" in refused(report)


def test_weights_that_others_read_are_not_copied(net: Net) -> None:
    weights = np.ones((64, 32), np.float32)
    text = net(
        "%c = FULLY_CONNECTED(%x, %w, none) {act=NONE} : float32[2, 64]",
        "%d = FULLY_CONNECTED(%x, %w, none) {act=NONE} : float32[2, 64]",
        combined("MUL", shape="[2, 64]"),
        inputs=["x: float32[2, 32]"], outputs=("y", "d"), constants={"w": weights, "k": np.float32(2)},
    )  # fmt: skip
    _, report = check_pass(FuseBias(), text, runtime=None)
    assert "other nodes read the weights of 'c'" in refused(report)


LAYERS = {
    "CONV_2D": ("CONV_2D(%x, %w, %b) {padding=SAME, stride_h = 1, stride_w = 1, act=NONE}", (6, 1, 1, 2)),
    "DEPTHWISE_CONV_2D": (
        "DEPTHWISE_CONV_2D(%x, %w, %b) {padding=SAME, stride_h = 1, stride_w = 1, depth_multiplier = 3, act=NONE}",
        (1, 1, 1, 6),
    ),
    "TRANSPOSE_CONV": (
        "TRANSPOSE_CONV(%s, %w, %x, %b) {padding=SAME, stride_h = 1, stride_w = 1, act=NONE}", (6, 1, 1, 2)
    ),
}  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_keeps_what_layers_compute(net: Net, data: st.DataObject) -> None:
    """Chains of sums and products after layers of every kind."""
    call, shape = LAYERS[data.draw(st.sampled_from(sorted(LAYERS)))]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))

    def numbers(*shape: int) -> Any:
        return rng.uniform(0.5, 2.0, shape).astype(np.float32)

    held = {"w": numbers(*shape), "b": numbers(6), "s": np.array([1, 4, 4, 6], np.int32)}
    lines = [f"%t0 = {call} : float32[1, 4, 4, 6]"]
    for place in range(1, data.draw(st.integers(2, 4))):
        op = data.draw(st.sampled_from(["ADD", "SUB", "MUL", "DIV"]))
        held[f"k{place}"] = numbers(*data.draw(st.sampled_from([(), (6,), (1, 1, 6), (4, 6)])))
        activation = data.draw(st.sampled_from(["NONE", "NONE", "RELU6"]))
        lines.append(f"%t{place} = {op}(%t{place - 1}, %k{place}) {{act={activation}}} : float32[1, 4, 4, 6]")
    before = parse_model(net(*lines, constants=held, outputs=[f"t{len(lines) - 1}"]))
    after = before.clone()
    run_pass(after, FuseBias())
    assert_equivalent(before, after, runtime="litert", exactness="reassociating", allow_flat=True)
