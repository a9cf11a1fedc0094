"""recognise-activations: activations that are written out get operators of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.passes.tflite.recognise_activations import RecogniseActivations
from graphopt.testing import assert_equivalent, check_pass

Net = Callable[..., str]
T = "float32[1, 4, 4, 2]"
NUMBERS = {"three": np.float32(3), "six": np.float32(6), "share": np.float32(1 / 6)}
GATES = {
    "apart": (f"%a = ADD(%x, %three) {{act=NONE}} : {T}", f"%g = RELU6(%a) : {T}"),
    "fused": (f"%g = ADD(%three, %x) {{act=RELU6}} : {T}",),
}
SWISHES = {
    "gate times sixth": (f"%h = MUL(%g, %share) {{act=NONE}} : {T}", f"%y = MUL(%x, %h) {{act=NONE}} : {T}"),
    "gate by six": (f"%h = DIV(%g, %six) {{act=NONE}} : {T}", f"%y = MUL(%h, %x) {{act=NONE}} : {T}"),
    "product times sixth": (f"%h = MUL(%x, %g) {{act=NONE}} : {T}", f"%y = MUL(%h, %share) {{act=NONE}} : {T}"),
    "product by six": (f"%h = MUL(%g, %x) {{act=NONE}} : {T}", f"%y = DIV(%h, %six) {{act=NONE}} : {T}"),
    "input times sixth": (f"%h = MUL(%x, %share) {{act=NONE}} : {T}", f"%y = MUL(%h, %g) {{act=NONE}} : {T}"),
}


def read(lines: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in NUMBERS.items() if any(f"%{name}" in line for line in lines)}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("swish", SWISHES)
def test_hard_swish(net: Net, gate: str, swish: str) -> None:
    lines = (*GATES[gate], *SWISHES[swish])
    feeds = {"x": np.linspace(-5, 5, 32, dtype=np.float32).reshape(1, 4, 4, 2)}
    before = net(*lines, constants=read(lines))
    check_pass(RecogniseActivations(), before, net(f"%y = HARD_SWISH(%x) : {T}"), runtime="litert",
               feeds=[feeds, {"x": -2 * feeds["x"]}])  # fmt: skip


def test_a_hard_sigmoid_stays(net: Net) -> None:
    lines = (*GATES["apart"], f"%y = MUL(%g, %share) {{act=NONE}} : {T}")
    check_pass(RecogniseActivations(), net(*lines, constants=read(lines)), runtime=None)


def test_other_numbers_and_an_activation_are_no_hard_swish(net: Net) -> None:
    lines = (*GATES["apart"], *SWISHES["gate times sixth"])
    held = {**read(lines), "share": np.float32(0.2)}
    check_pass(RecogniseActivations(), net(*lines, constants=held), runtime=None)
    rectified = tuple(line.replace("%y = MUL(%x, %h) {act=NONE}", "%y = MUL(%x, %h) {act=RELU}") for line in lines)
    check_pass(RecogniseActivations(), net(*rectified, constants=read(lines)), runtime=None)


ALPHA = np.array([0.25, 0.5], np.float32)
BELOW = (f"%p = RELU(%x) : {T}", f"%n = NEG(%x) : {T}", f"%b = RELU(%n) : {T}")
SLOPES = {
    "negated": (*BELOW, f"%s = MUL(%k, %b) {{act=NONE}} : {T}", f"%y = ADD(%p, %s) {{act=NONE}} : {T}"),
    "subtracted": (*BELOW, f"%s = MUL(%b, %k) {{act=NONE}} : {T}", f"%y = SUB(%p, %s) {{act=NONE}} : {T}"),
    "halved": (
        f"%p = RELU(%x) : {T}", f"%n = ABS(%x) : {T}", f"%d = SUB(%x, %n) {{act=NONE}} : {T}",
        f"%s = MUL(%k, %d) {{act=NONE}} : {T}", f"%h = MUL(%s, %half) {{act=NONE}} : {T}",
        f"%y = ADD(%p, %h) {{act=NONE}} : {T}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", SLOPES)
def test_slopes(net: Net, form: str) -> None:
    sign = -1 if form == "negated" else 1
    held = {"k": sign * ALPHA, **({"half": np.float32(0.5)} if form == "halved" else {})}
    after = net(f"%y = PRELU(%x, %y/alpha) : {T}", constants={"y/alpha": ALPHA.reshape(1, 1, 2)})
    check_pass(RecogniseActivations(), net(*SLOPES[form], constants=held), after, runtime="litert")


def test_one_slope_is_a_leaky_rectifier(net: Net) -> None:
    before = net(*SLOPES["subtracted"], constants={"k": np.float32(0.25)})
    check_pass(RecogniseActivations(), before, net(f"%y = LEAKY_RELU(%x) {{alpha = 0.25}} : {T}"), runtime="litert")
    lines = (f"%m = MUL(%x, %k) {{act=NONE}} : {T}", f"%y = MAXIMUM(%m, %x) : {T}")
    before = net(*lines, constants={"k": np.float32(0.25)})
    check_pass(RecogniseActivations(), before, net(f"%y = LEAKY_RELU(%x) {{alpha = 0.25}} : {T}"), runtime="litert")
    check_pass(RecogniseActivations(), net(*lines, constants={"k": np.float32(2)}), runtime=None)


def test_slopes_that_widen_are_refused(net: Net) -> None:
    text = net(*SLOPES["subtracted"], constants={"k": np.ones((3, 1, 1, 1), np.float32)})
    _, report = check_pass(RecogniseActivations(), text, runtime=None)
    assert "a slope of shape [3, 1, 1, 1] widens" in report.refusals[0]["reason"]


LIMITS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("order", ["low first", "high first"])
def test_limits(net: Net, name: str, order: str) -> None:
    first, second = ("MAXIMUM(%x, %low)", "MINIMUM(%c, %high)")
    if order == "high first":
        first, second = "MINIMUM(%x, %high)", "MAXIMUM(%low, %c)"
    low, high = (np.float32(limit) for limit in LIMITS[name])
    before = net(f"%c = {first} : {T}", f"%y = {second} : {T}", constants={"low": low, "high": high})
    check_pass(RecogniseActivations(), before, net(f"%y = {name}(%x) : {T}"), runtime="litert")


def test_a_rectifier_and_a_limit(net: Net) -> None:
    before = net(f"%c = RELU(%x) : {T}", f"%y = MINIMUM(%c, %six) : {T}", constants={"six": np.float32(6)})
    check_pass(RecogniseActivations(), before, net(f"%y = RELU6(%x) : {T}"), runtime="litert")
    before = net(f"%y = MAXIMUM(%zero, %x) : {T}", constants={"zero": np.float32(0)})
    check_pass(RecogniseActivations(), before, net(f"%y = RELU(%x) : {T}"), runtime="litert")


def test_other_types_scales_and_ranks_are_reasons(net: Net) -> None:
    from graphopt.ir.types import Quantization, TensorType

    model = parse_model(net(f"%y = MAXIMUM(%x, %zero) : {T}", constants={"zero": np.float32(0)}))
    value = model.graph.value("y")
    value.type = TensorType(value.dtype, value.shape, Quantization((0.5,), (0,)))
    assert "or quantized" in run_pass(model, RecogniseActivations()).refusals[0]["reason"]
    text = net("%y = MAXIMUM(%x, %zero) : float32[1, 1, 4, 4, 2]", constants={"zero": np.zeros((1,) * 5, np.float32)})
    _, report = check_pass(RecogniseActivations(), text, runtime=None)
    assert "are not known to be the same" in report.refusals[0]["reason"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_keeps_what_models_compute(net: Net, data: st.DataObject) -> None:
    every = {**SWISHES, **SLOPES}
    name = data.draw(st.sampled_from(sorted(every)))
    lines = (*(GATES[data.draw(st.sampled_from(sorted(GATES)))] if name in SWISHES else ()), *every[name])
    shape = data.draw(st.sampled_from([(), (1,), (2,), (4, 2), (4, 4, 2), (1, 4, 1, 2)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    held = {**NUMBERS, "k": rng.normal(size=shape).astype(np.float32), "half": np.float32(0.5)}
    before = parse_model(net(*lines, constants=held))
    after = before.clone()
    run_pass(after, RecogniseActivations())
    feeds = [{"x": rng.normal(size=(1, 4, 4, 2), scale=4).astype(np.float32)} for _ in range(2)]
    assert_equivalent(before, after, feeds, runtime="litert", exactness="reassociating")
