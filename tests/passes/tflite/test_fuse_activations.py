"""fuse-activations: rectifiers become part of the operator before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.passes.tflite.fuse_activations import FuseActivations
from graphopt.testing import assert_equivalent, check_pass

Net = Callable[..., str]
SHAPE = "float32[1, 4, 4, 2]"
WEIGHTS = {"w": np.linspace(-1, 1, 4).reshape(2, 1, 1, 2).astype(np.float32), "b": np.array([0.5, -1.0], np.float32)}
WINDOW = "padding=SAME, stride_h = 1, stride_w = 1"
HOSTS = {
    "CONV_2D": f"(%x, %w, %b) {{{WINDOW}, act=?}}",
    "ADD": "(%x, %b) {act=?}",
    "SUB": "(%x, %b) {act=?}",
    "MUL": "(%x, %b) {act=?}",
    "DIV": "(%x, %b) {act=?}",
    "MAX_POOL_2D": f"(%x) {{{WINDOW}, filter_height = 2, filter_width = 2, act=?}}",
    "AVERAGE_POOL_2D": f"(%x) {{{WINDOW}, filter_height = 2, filter_width = 2, act=?}}",
}


def host(op: str, name: str, activation: str = "NONE") -> str:
    return f"%{name} = {op}{HOSTS[op].replace('?', activation)} : {SHAPE}"


@pytest.mark.parametrize("op", HOSTS)
def test_a_host_takes_the_activation(net: Net, op: str) -> None:
    held = {name: array for name, array in WEIGHTS.items() if f"%{name}" in HOSTS[op]}
    before = net(host(op, "h"), f"%y = RELU6(%h) : {SHAPE}", constants=held)
    check_pass(FuseActivations(), before, net(host(op, "y", "RELU6"), constants=held), runtime="litert")


@pytest.mark.parametrize("name", ["RELU", "RELU_N1_TO_1"])
def test_other_rectifiers(net: Net, name: str) -> None:
    held = {"b": WEIGHTS["b"]}
    before = net(host("ADD", "h"), f"%y = {name}(%h) : {SHAPE}", constants=held)
    check_pass(FuseActivations(), before, net(host("ADD", "y", name), constants=held), runtime="litert")


def test_it_passes_a_reshape(net: Net) -> None:
    held = {"b": WEIGHTS["b"], "s": np.array([16, 2], np.int32)}
    before = net(host("ADD", "h"), "%r = RESHAPE(%h, %s) : float32[16, 2]", "%y = RELU(%r) : float32[16, 2]",
                 constants=held)  # fmt: skip
    after = net(host("ADD", "h", "RELU"), "%y = RESHAPE(%h, %s) : float32[16, 2]", constants=held)
    check_pass(FuseActivations(), before, after, runtime="litert")


def test_operands_of_a_concatenation_take_it(net: Net) -> None:
    held = {"b": WEIGHTS["b"]}
    joined = "CONCATENATION(%f, %g) {axis = 3, act=NONE} : float32[1, 4, 4, 4]"
    before = net(host("ADD", "f"), host("MUL", "g"), f"%j = {joined}", "%y = RELU(%j) : float32[1, 4, 4, 4]",
                 constants=held)  # fmt: skip
    after = net(host("ADD", "f", "RELU"), host("MUL", "g", "RELU"), f"%y = {joined}", constants=held)
    _, report = check_pass(FuseActivations(), before, after, runtime="litert")
    assert report.rules == {"activation-of-joined": 1}


def test_a_concatenation_of_something_else_keeps_it(net: Net) -> None:
    lines = (
        host("ADD", "f"), "%j = CONCATENATION(%f, %x) {axis = 3, act=NONE} : float32[1, 4, 4, 4]",
        "%y = RELU(%j) : float32[1, 4, 4, 4]",
    )  # fmt: skip
    _, report = check_pass(FuseActivations(), net(*lines, constants={"b": WEIGHTS["b"]}), runtime=None)
    assert "not every operand" in report.refusals[0]["reason"]


def test_a_host_that_is_rectified_or_read_by_others_keeps_its_rectifier(net: Net) -> None:
    held = {"b": WEIGHTS["b"]}
    check_pass(FuseActivations(), net(host("ADD", "h", "RELU"), f"%y = RELU6(%h) : {SHAPE}", constants=held),
               runtime=None)  # fmt: skip
    text = net(host("ADD", "h"), f"%y = RELU6(%h) : {SHAPE}", f"%z = NEG(%h) : {SHAPE}", constants=held,
               outputs=("y", "z"))  # fmt: skip
    _, report = check_pass(FuseActivations(), text, runtime=None)
    assert "is also read by 'z'" in report.refusals[0]["reason"]


def test_operators_that_cannot_take_it(net: Net) -> None:
    check_pass(FuseActivations(), net(f"%h = NEG(%x) : {SHAPE}", f"%y = RELU(%h) : {SHAPE}"), runtime=None)


def test_another_scale_is_a_reason(net: Net) -> None:
    from graphopt.ir.types import Quantization, TensorType

    model = parse_model(net(host("MAX_POOL_2D", "h"), f"%y = RELU(%h) : {SHAPE}"))
    for name, scale in (("h", 0.5), ("y", 0.25)):
        value = model.graph.value(name)
        value.type = TensorType(value.dtype, value.shape, Quantization((scale,), (0,)))
    report = run_pass(model, FuseActivations())
    assert "scaled otherwise than 'h'" in report.refusals[0]["reason"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_keeps_what_models_compute(net: Net, data: st.DataObject) -> None:
    ops, names = sorted(HOSTS), ["x"]
    lines = []
    for place in range(data.draw(st.integers(2, 6))):
        source = data.draw(st.sampled_from(names[-2:]))
        op = data.draw(st.sampled_from([*ops, "RELU", "RELU6", "RELU_N1_TO_1"]))
        call = HOSTS.get(op, "(%x)").replace("?", "NONE").replace("%x", f"%{source}")
        lines.append(f"%n{place} = {op}{call} : {SHAPE}")
        names.append(f"n{place}")
    before = parse_model(net(*lines, constants=WEIGHTS, outputs=names[-1:]))
    after = before.clone()
    run_pass(after, FuseActivations())
    assert_equivalent(before, after, runtime="litert", exactness="reassociating", allow_flat=True)
