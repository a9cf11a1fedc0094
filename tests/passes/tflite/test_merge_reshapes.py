"""merge-reshapes: what only changes the shape is merged, dropped, or left to the operator beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.ir.types import Quantization, Shape, TensorType
from graphopt.passes import run_pass
from graphopt.passes.tflite.merge_reshapes import MergeReshapes, same_elements_same_shape
from graphopt.testing import assert_equivalent, check_pass

Net = Callable[..., str]


def ints(*numbers: int) -> Any:
    return np.array(numbers, np.int32)


@pytest.mark.parametrize("inner", ["RESHAPE(%x, %s)", "EXPAND_DIMS(%x, %s)"])
def test_a_reshape_of_a_reshape(net: Net, inner: str) -> None:
    first = ints(1, 4, 4, 2, 1) if "RESHAPE" in inner else np.int32(4)
    before = net(f"%r = {inner} : float32[1, 4, 4, 2, 1]", "%y = RESHAPE(%r, %t) : float32[16, 2]",
                 constants={"s": first, "t": ints(16, 2)})  # fmt: skip
    after = net("%y = RESHAPE(%x, %t) : float32[16, 2]", constants={"t": ints(16, 2)})
    check_pass(MergeReshapes(), before, after, runtime="litert")


def test_a_reshape_to_itself(net: Net) -> None:
    lines = ("%r = RESHAPE(%x, %s) : float32[?, 4, 4, 2]", "%y = NEG(%r) : float32[?, 4, 4, 2]")
    inputs = ["x: float32[?, 4, 4, 2]"]
    before = net(*lines, constants={"s": ints(-1, 4, 4, 2)}, inputs=inputs)
    check_pass(MergeReshapes(), before, net("%y = NEG(%x) : float32[?, 4, 4, 2]", inputs=inputs), runtime="litert")
    output = net("%y = RESHAPE(%x, %s) : float32[1, 4, 4, 2]", constants={"s": ints(1, 4, 4, 2)})
    _, report = check_pass(MergeReshapes(), output, runtime=None)
    assert report.refusals[0]["reason"] == "it is an output of the graph"


def test_which_shapes_are_the_same() -> None:
    assert same_elements_same_shape(Shape((None, 3)), Shape((None, 3)))
    assert same_elements_same_shape(Shape((None, 3)), Shape((2, 3)))
    assert not same_elements_same_shape(Shape((None, None)), Shape((None, None)))
    assert not same_elements_same_shape(Shape((None, 0)), Shape((2, 0)))
    assert not same_elements_same_shape(Shape((3, 2)), Shape((2, 3)))
    assert not same_elements_same_shape(Shape(None), Shape((2, 3)))


@pytest.mark.parametrize("op", ["MEAN", "SUM", "REDUCE_MAX"])
def test_a_reduction_keeps_or_drops_dimensions_itself(net: Net, op: str) -> None:
    wide, flat = "float32[1, 1, 1, 2]", "float32[1, 2]"
    held = {"axes": ints(1, -2)}
    before = net(f"%m = {op}(%x, %axes) {{keep_dims = false}} : {flat}", f"%y = RESHAPE(%m, %s) : {wide}",
                 constants={**held, "s": ints(-1, 1, 1, 2)})  # fmt: skip
    after = net(f"%y = {op}(%x, %axes) {{keep_dims = true}} : {wide}", constants=held)
    check_pass(MergeReshapes(), before, after, runtime="litert")
    before = net(f"%m = {op}(%x, %axes) {{keep_dims = true}} : {wide}",
                 f"%y = SQUEEZE(%m) {{squeeze_dims = [1, 2]}} : {flat}", constants=held)  # fmt: skip
    after = net(f"%y = {op}(%x, %axes) {{keep_dims = false}} : {flat}", constants=held)
    check_pass(MergeReshapes(), before, after, runtime="litert")


def test_a_reduction_that_is_reshaped_otherwise_stays(net: Net) -> None:
    text = net("%m = MEAN(%x, %axes) {keep_dims = false} : float32[1, 2]", "%y = RESHAPE(%m, %s) : float32[2, 1]",
               constants={"axes": ints(1, 2), "s": ints(2, 1)})  # fmt: skip
    check_pass(MergeReshapes(), text, runtime="litert")


WEIGHTS = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)


def layer(x: str, keeps: bool, shape: str, name: str) -> str:
    return f"%{name} = FULLY_CONNECTED(%{x}, %w, none) {{act=NONE, keep_num_dims = {str(keeps).lower()}}} : {shape}"


def test_rows_of_a_fully_connected_layer(net: Net) -> None:
    inputs = ["x: float32[?, 5, 4]"]
    lines = (
        "%r = RESHAPE(%x, %s) : float32[?, 4]", layer("r", False, "float32[?, 3]", "f"),
        "%y = RESHAPE(%f, %t) : float32[?, 5, 3]",
    )  # fmt: skip
    before = net(*lines, inputs=inputs, constants={"w": WEIGHTS, "s": ints(-1, 4), "t": ints(-1, 5, 3)})
    after = net(layer("x", True, "float32[?, 5, 3]", "y"), inputs=inputs, constants={"w": WEIGHTS})
    check_pass(MergeReshapes(), before, after, runtime="litert")


def test_a_flattened_image_goes_into_a_layer_as_it_is(net: Net) -> None:
    inputs = ["x: float32[3, 2, 2]"]
    before = net("%r = RESHAPE(%x, %s) : float32[3, 4]", layer("r", False, "float32[3, 3]", "y"), inputs=inputs,
                 constants={"w": WEIGHTS, "s": ints(3, 4)})  # fmt: skip
    after = net(layer("x", False, "float32[3, 3]", "y"), inputs=inputs, constants={"w": WEIGHTS})
    check_pass(MergeReshapes(), before, after, runtime="litert")


def test_a_function_between_reshapes_goes_before_them(net: Net) -> None:
    before = net(
        "%r = RESHAPE(%x, %s) : float32[16, 2]", "%f = TANH(%r) : float32[16, 2]",
        "%y = RESHAPE(%f, %t) : float32[2, 16]", constants={"s": ints(16, 2), "t": ints(2, 16)},
    )  # fmt: skip
    after = net("%f = TANH(%x) : float32[1, 4, 4, 2]", "%y = RESHAPE(%f, %t) : float32[2, 16]",
                constants={"t": ints(2, 16)})  # fmt: skip
    check_pass(MergeReshapes(), before, after, runtime="litert")


@pytest.mark.parametrize("call", ["ADD(%x, %r) {act=NONE}", "SUB(%r, %x) {act=NONE}", "MAXIMUM(%r, %x)"])
def test_what_is_broadcast_needs_no_leading_ones(net: Net, call: str) -> None:
    inputs = ["x: float32[2, 3, 4]", "z: float32[4]"]
    before = net("%r = RESHAPE(%z, %s) : float32[1, 1, 4]", f"%y = {call} : float32[2, 3, 4]",
                 inputs=inputs, constants={"s": ints(1, 1, 4)})  # fmt: skip
    after = net(f"%y = {call.replace('%r', '%z')} : float32[2, 3, 4]", inputs=inputs)
    check_pass(MergeReshapes(), before, after, runtime="litert")
    behind = before.replace("float32[1, 1, 4]", "float32[4, 1, 1]").replace(
        "x: float32[2, 3, 4]", "x: float32[4, 3, 1]"
    )
    behind = behind.replace("[1, 1, 4]", "[4, 1, 1]").replace("float32[2, 3, 4]", "float32[4, 3, 4]")
    check_pass(MergeReshapes(), behind, runtime=None)


def test_two_layers_that_read_one_reshape(net: Net) -> None:
    lines = (
        "%r = RESHAPE(%x, %s) : float32[3, 4]", layer("r", False, "float32[3, 3]", "y"),
        layer("r", False, "float32[3, 3]", "z"),
    )  # fmt: skip
    options = {"inputs": ["x: float32[3, 2, 2]"], "outputs": ["y", "z"]}
    before = net(*lines, constants={"w": WEIGHTS, "s": ints(3, 4)}, **options)
    after = net(*(line.replace("%r,", "%x,") for line in lines[1:]), constants={"w": WEIGHTS}, **options)
    check_pass(MergeReshapes(), before, after, runtime="litert")


def scaled(model: Any, *names: str) -> Any:
    for name in names:
        value = model.graph.value(name)
        value.type = TensorType(value.dtype, value.shape, Quantization((0.5,), (0,)))
    return model


def test_what_rescales_stays(net: Net) -> None:
    itself = net("%r = RESHAPE(%x, %s) : float32[1, 4, 4, 2]", "%y = NEG(%r) : float32[1, 4, 4, 2]",
                 constants={"s": ints(1, 4, 4, 2)})  # fmt: skip
    report = run_pass(scaled(parse_model(itself), "r"), MergeReshapes())
    assert "it is scaled otherwise than 'x'" in report.refusals[0]["reason"]
    reduced = net("%m = MEAN(%x, %axes) {keep_dims = false} : float32[1, 2]",
                  "%y = RESHAPE(%m, %s) : float32[1, 1, 1, 2]",
                  constants={"axes": ints(1, 2), "s": ints(1, 1, 1, 2)})  # fmt: skip
    report = run_pass(scaled(parse_model(reduced), "m", "y"), MergeReshapes())
    assert "it is quantized" in report.refusals[0]["reason"]
    function = net("%r = RESHAPE(%x, %s) : float32[16, 2]", "%f = TANH(%r) : float32[16, 2]",
                   "%y = RESHAPE(%f, %s) : float32[2, 16]", constants={"s": ints(2, 16)})  # fmt: skip
    report = run_pass(scaled(parse_model(function), "f"), MergeReshapes())
    assert any("rescales" in entry["reason"] for entry in report.refusals)
    rows = net("%r = RESHAPE(%x, %s) : float32[3, 4]", layer("r", False, "float32[3, 3]", "y"),
               inputs=["x: float32[3, 2, 2]"], constants={"w": WEIGHTS, "s": ints(3, 4)})  # fmt: skip
    report = run_pass(scaled(parse_model(rows), "r"), MergeReshapes())
    assert "scaled otherwise" in report.refusals[0]["reason"]


def test_a_zero_in_a_shape_is_left_alone(net: Net) -> None:
    text = net("%r = RESHAPE(%x, %s) : float32[0, 2]", "%y = RESHAPE(%r, %t) : float32[0, 4]",
               inputs=["x: float32[2, 0]"], constants={"s": ints(0, 2), "t": ints(0, 4)})  # fmt: skip
    _, report = check_pass(MergeReshapes(), text, runtime=None)
    assert "may mean that it is copied" in report.refusals[0]["reason"]


SHAPES = [(1, 4, 4, 2), (16, 2), (2, 16), (32,), (4, 1, 8), (1, 32), (8, 4), (1, 1, 4, 8)]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_keeps_what_models_compute(net: Net, data: st.DataObject) -> None:
    lines, held, shape = [], {"w": WEIGHTS}, SHAPES[0]
    for place in range(data.draw(st.integers(2, 6))):
        source = f"n{place - 1}" if place else "x"
        op = data.draw(st.sampled_from(["RESHAPE", "RESHAPE", "TANH", "FULLY_CONNECTED"]))
        if op == "FULLY_CONNECTED" and shape == (8, 4):
            lines.append(layer(source, False, "float32[8, 3]", f"n{place}"))
            break
        if op == "TANH":
            lines.append(f"%n{place} = TANH(%{source}) : float32{list(shape)}")
            continue
        shape = data.draw(st.sampled_from(SHAPES))
        held[f"s{place}"] = ints(*shape)
        lines.append(f"%n{place} = RESHAPE(%{source}, %s{place}) : float32{list(shape)}")
    before = parse_model(net(*lines, constants=held, outputs=[f"n{len(lines) - 1}"]))
    after = before.clone()
    run_pass(after, MergeReshapes())
    assert_equivalent(before, after, runtime="litert", exactness="reassociating", allow_flat=True)
