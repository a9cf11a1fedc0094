"""cancel-transposes: transposes that take each other back go, whatever lies between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.passes.tflite.cancel_transposes import CancelTransposes
from graphopt.testing import assert_equivalent, check_pass

Net = Callable[..., str]
FIRST, LAST = np.array([0, 3, 1, 2], np.int32), np.array([0, 2, 3, 1], np.int32)
X, F = "float32[1, 4, 5, 2]", "float32[1, 2, 4, 5]"  # channels last, and first
INPUTS = ["x: float32[1, 4, 5, 2]"]
BOTH = {"first": FIRST, "last": LAST}


def counts(model: Any) -> int:
    return sum(node.op == "tfl.TRANSPOSE" for node in model.graph)


def test_two_that_cancel(net: Net) -> None:
    before = net(f"%a = TRANSPOSE(%x, %first) : {F}", f"%b = RELU(%a) : {F}", f"%y = TRANSPOSE(%b, %last) : {X}",
                 f"%z = NEG(%y) : {X}", inputs=INPUTS, outputs=["z"], constants=BOTH)  # fmt: skip
    after = net(f"%b = RELU(%x) : {X}", f"%z = NEG(%b) : {X}", inputs=INPUTS, outputs=["z"])
    check_pass(CancelTransposes(), before, after, runtime="litert")


def test_two_in_a_row_are_one(net: Net) -> None:
    before = net(f"%a = TRANSPOSE(%x, %first) : {F}", "%y = TRANSPOSE(%a, %swap) : float32[2, 1, 4, 5]",
                 inputs=INPUTS, constants={"first": FIRST, "swap": np.array([1, 0, 2, 3], np.int32)})  # fmt: skip
    after = net("%y = TRANSPOSE(%x, %y/perm) : float32[2, 1, 4, 5]", inputs=INPUTS,
                constants={"y/perm": np.array([3, 0, 1, 2], np.int32)})  # fmt: skip
    check_pass(CancelTransposes(), before, after, runtime="litert")


def test_one_that_only_moves_ones_is_a_reshape(net: Net) -> None:
    inputs = ["x: float32[?, 1, 1, 7]"]
    before = net("%y = TRANSPOSE(%x, %first) : float32[?, 7, 1, 1]", inputs=inputs, constants={"first": FIRST})
    after = net("%y = RESHAPE(%x, %y/shape) : float32[?, 7, 1, 1]", inputs=inputs,
                constants={"y/shape": np.array([-1, 7, 1, 1], np.int32)})  # fmt: skip
    check_pass(CancelTransposes(), before, after, runtime="litert")


def test_one_that_moves_nothing(net: Net) -> None:
    before = net(f"%a = TRANSPOSE(%x, %same) : {X}", f"%y = NEG(%a) : {X}", inputs=INPUTS,
                 constants={"same": np.arange(4).astype(np.int32)})  # fmt: skip
    check_pass(CancelTransposes(), before, net(f"%y = NEG(%x) : {X}", inputs=INPUTS), runtime="litert")


def flipped(text: str, left: int) -> Any:
    """The model after the pass, with `left` transposes, computing the same."""
    before = parse_model(text)
    after = before.clone()
    run_pass(after, CancelTransposes())
    verify(after)
    assert counts(after) == left
    assert_equivalent(before, after, runtime="litert", exactness="reassociating")
    return after


def test_constants_paddings_and_axes_follow(net: Net) -> None:
    text = net(
        f"%a = TRANSPOSE(%x, %first) : {F}", f"%b = MUL(%a, %k) {{act=NONE}} : {F}",
        "%c = PAD(%b, %pads) : float32[1, 2, 7, 5]",
        "%d = CONCATENATION(%c, %more) {axis = -3, act=NONE} : float32[1, 3, 7, 5]",
        "%e = SLICE(%d, %begin, %size) : float32[1, 3, 4, 2]",
        "%f = MEAN(%e, %axes) {keep_dims = true} : float32[1, 3, 1, 2]",
        "%y = TRANSPOSE(%f, %last) : float32[1, 1, 2, 3]", "%z = NEG(%y) : float32[1, 1, 2, 3]",
        inputs=INPUTS, outputs=["z"],
        constants={
            **BOTH, "k": np.arange(1, 9, dtype=np.float32).reshape(2, 4, 1),
            "pads": np.array([[0, 0], [0, 0], [1, 2], [0, 0]], np.int32), "axes": np.array([2], np.int32),
            "more": np.linspace(0, 1, 35, dtype=np.float32).reshape(1, 1, 7, 5),
            "begin": np.array([0, 0, 2, 1], np.int32), "size": np.array([1, 3, 4, 2], np.int32),
        },
    )  # fmt: skip
    after = flipped(text, 0)
    assert after.graph.find("d").attrs["axis"] == 3


def test_a_region_with_several_ways_in_and_out(net: Net) -> None:
    text = net(
        f"%a = TRANSPOSE(%x, %first) : {F}", f"%b = TRANSPOSE(%w, %first) : {F}",
        f"%s = ADD(%a, %b) {{act=NONE}} : {F}",
        f"%r = RELU(%s) : {F}", f"%t = TRANSPOSE(%s, %last) : {X}", f"%u = TRANSPOSE(%r, %last) : {X}",
        f"%y = NEG(%t) : {X}", f"%z = ABS(%u) : {X}", inputs=[*INPUTS, INPUTS[0].replace("x:", "w:")],
        outputs=["y", "z"], constants=BOTH,
    )  # fmt: skip
    flipped(text, 0)


def test_what_an_output_or_another_reader_sees_is_transposed(net: Net) -> None:
    text = net(
        f"%a = TRANSPOSE(%x, %first) : {F}", f'%r = RELU(%a) : {F} as "r:0"', f"%t = TRANSPOSE(%r, %last) : {X}",
        f"%y = NEG(%t) : {X}", inputs=INPUTS, outputs=["y", "r"], constants=BOTH,
    )  # fmt: skip
    after = flipped(text, 1)
    assert after.graph.outputs[1].name == "r:0"
    assert after.graph.node("r").op == "tfl.TRANSPOSE"


def test_a_reduction_takes_the_transpose_in(net: Net) -> None:
    text = net(f"%a = TRANSPOSE(%x, %first) : {F}", "%y = MEAN(%a, %axes) {keep_dims = false} : float32[1, 2]",
               inputs=INPUTS, constants={"first": FIRST, "axes": np.array([2, 3], np.int32)})  # fmt: skip
    flipped(text, 0)
    text = text.replace("[2, 3]} : int32[2]", "[1, 3]} : int32[2]").replace("float32[1, 2]", "float32[1, 4]")
    flipped(text, 0)


def test_something_else_led_in_is_transposed_once(net: Net) -> None:
    text = net(
        f"%a = TRANSPOSE(%x, %first) : {F}", f"%s = ADD(%a, %w) {{act=NONE}} : {F}",
        f"%r = MUL(%s, %w) {{act=NONE}} : {F}", f"%t = TRANSPOSE(%r, %last) : {X}", f"%y = NEG(%t) : {X}",
        inputs=[*INPUTS, f"w: {F}"], constants=BOTH,
    )  # fmt: skip
    flipped(text, 1)


def test_it_leaves_what_gains_nothing(net: Net) -> None:
    for lines in (
        (f"%a = TRANSPOSE(%x, %first) : {F}", f"%y = RELU(%a) : {F}"),
        (f"%a = TRANSPOSE(%x, %first) : {F}", f"%y = SOFTMAX(%a) {{beta = 1.0}} : {F}"),
    ):
        check_pass(CancelTransposes(), net(*lines, inputs=INPUTS, constants={"first": FIRST}), runtime="litert")


def test_unknown_permutations_are_left_alone(net: Net) -> None:
    text = net(f"%a = TRANSPOSE(%x, %p) : {F}", f"%y = TRANSPOSE(%a, %bad) : {X}", inputs=[*INPUTS, "p: int32[4]"],
               constants={"bad": np.array([0, 0, 0, 0], np.int32)})  # fmt: skip
    check_pass(CancelTransposes(), text, runtime=None)
    both = net(f"%a = TRANSPOSE(%x, %bad) : {F}", f"%y = TRANSPOSE(%a, %bad) : {X}", inputs=INPUTS,
               constants={"bad": np.array([0, 0, 0, 0], np.int32)})  # fmt: skip
    _, report = check_pass(CancelTransposes(), both, runtime=None)
    assert "is no permutation" in report.refusals[0]["reason"]


PERMUTATIONS = [[0, 3, 1, 2], [0, 2, 3, 1], [3, 2, 1, 0], [0, 1, 2, 3], [0, 1, 3, 2]]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_keeps_what_models_compute(net: Net, data: st.DataObject) -> None:
    """Random graphs of transposes, sums, functions, pads and reductions that keep dimensions."""
    values, lines, held = (
        [("x", (1, 3, 2, 4))],
        [],
        {f"p{i}": np.array(p, np.int32) for i, p in enumerate(PERMUTATIONS)},
    )
    for place in range(data.draw(st.integers(3, 10))):
        name, (source, shape) = f"n{place}", data.draw(st.sampled_from(values[-4:]))
        op = data.draw(st.sampled_from(["TRANSPOSE"] * 4 + ["RELU", "ADD", "ADD", "SCALE", "PAD", "REDUCE_MAX"]))
        call = f"{op}(%{source})"
        if op == "TRANSPOSE":
            chosen = data.draw(st.integers(0, len(PERMUTATIONS) - 1))
            call, shape = f"TRANSPOSE(%{source}, %p{chosen})", tuple(shape[axis] for axis in PERMUTATIONS[chosen])
        elif op == "ADD":
            others = [other for other, its in values if its == shape]
            call = f"ADD(%{source}, %{data.draw(st.sampled_from(others))}) {{act=NONE}}"
        elif op == "SCALE":
            held[f"k{place}"] = np.linspace(1, 2, shape[-1] * shape[-2]).reshape(shape[-2:]).astype(np.float32)
            call = f"MUL(%{source}, %k{place}) {{act=NONE}}"
        elif op == "PAD":
            axis = data.draw(st.integers(0, 3))
            held[f"k{place}"] = np.array([[0, int(axis == each)] for each in range(4)], np.int32)
            call, shape = f"PAD(%{source}, %k{place})", tuple(n + (axis == each) for each, n in enumerate(shape))
        elif op == "REDUCE_MAX":
            axis = data.draw(st.integers(0, 3))
            held[f"k{place}"] = np.array([axis], np.int32)
            call = f"REDUCE_MAX(%{source}, %k{place}) {{keep_dims = true}}"
            shape = tuple(1 if axis == each else n for each, n in enumerate(shape))
        lines.append(f"%{name} = {call} : float32{list(shape)}")
        values.append((name, shape))
    outputs = list(dict.fromkeys([values[-1][0], data.draw(st.sampled_from(values[1:]))[0]]))
    before = parse_model(net(*lines, inputs=["x: float32[1, 3, 2, 4]"], constants=held, outputs=outputs))
    after = before.clone()
    run_pass(after, CancelTransposes())
    verify(after)
    assert counts(after) <= counts(before)
    assert_equivalent(before, after, runtime="litert", allow_flat=True)


@pytest.mark.parametrize("readers", [1, 3])
def test_a_second_run_changes_nothing(net: Net, readers: int) -> None:
    lines = [f"%a = TRANSPOSE(%x, %first) : {F}", f"%r = RELU(%a) : {F}"]
    names = [f"y{place}" for place in range(readers)]
    lines += [f"%{name} = SOFTMAX(%r) {{beta = {place + 1}.0}} : {F}" for place, name in enumerate(names)]
    check_pass(
        CancelTransposes(), net(*lines, inputs=INPUTS, outputs=names, constants={"first": FIRST}), runtime="litert"
    )
