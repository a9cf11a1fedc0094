"""recognise-hard-swish: hard sigmoids and hard swishes that are written out become ONNX's operators."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass

NAME = "recognise-hard-swish"
KIND = "float32[2, 5]"
GATE = (f"%a = onnx.Add(%x, %three) : {KIND}", f"%c = onnx.Clip(%a, %zero, %top) : {KIND}")
SWISHES = {
    "gate divided": (*GATE, f"%d = onnx.Mul(%c, %sixth) : {KIND}", f"%y = onnx.Mul(%x, %d) : {KIND}"),
    "gate divided by six": (*GATE, f"%d = onnx.Div(%c, %top) : {KIND}", f"%y = onnx.Mul(%d, %x) : {KIND}"),
    "product divided": (*GATE, f"%p = onnx.Mul(%x, %c) : {KIND}", f"%y = onnx.Mul(%p, %sixth) : {KIND}"),
    "other factor divided": (*GATE, f"%s = onnx.Mul(%x, %sixth) : {KIND}", f"%y = onnx.Mul(%s, %c) : {KIND}"),
}


def build(*lines: str, three: float = 3.0, sixth: float = 1 / 6) -> Model:
    numbers = {"three": three, "zero": 0.0, "top": 6.0, "sixth": sixth}
    held = (f"%{name} = onnx.Initializer() {{value = float32[] {n}}} : float32[]" for name, n in numbers.items())
    body = "\n".join((f"%x = onnx.Input() : {KIND}", *held, *lines))
    model = parse_model(f"graph @main(%x: {KIND}) -> (%y) {{\n{body}\n}}")
    model.format = "onnx"
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    return model


def operators(model: Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph if node.op_type not in ("Input", "Initializer")))


def recognised(model: Model, seed: int = 0) -> Model:
    """The model after the pass, which computes the same in ONNX Runtime and is left alone the second time."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle: pip install 'graphopt[tensorrt]'")
    from graphopt.runtimes.onnxruntime import OnnxRuntime

    feeds = {"x": np.random.default_rng(seed).normal(size=(2, 5), scale=4).astype(np.float32)}
    wanted = OnnxRuntime().run(model, feeds)["y"]
    ends = [(value.name, str(value.type)) for value in (*model.graph.inputs, *model.graph.outputs)]
    run_pass(model, NAME)
    verify(model)
    assert np.allclose(OnnxRuntime().run(model, feeds)["y"], wanted, atol=1e-5)
    assert [(value.name, str(value.type)) for value in (*model.graph.inputs, *model.graph.outputs)] == ends
    once = print_model(model)
    run_pass(model, NAME)
    assert print_model(model) == once
    return model


@pytest.mark.parametrize("form", SWISHES)
@settings(max_examples=3)
@given(seed=st.integers(0, 99))
def test_hard_swishes(form: str, seed: int) -> None:
    assert operators(recognised(build(*SWISHES[form]), seed)) == {"HardSwish": 1}


def test_hard_sigmoids() -> None:
    done = recognised(build(*GATE, f"%y = onnx.Mul(%c, %sixth) : {KIND}"))
    assert operators(done) == {"HardSigmoid": 1}
    assert done.graph.node("y").attrs == {"alpha": 1 / 6, "beta": 0.5}


def test_the_sum_may_be_part_of_what_comes_before() -> None:
    done = recognised(build(f"%c = onnx.Clip(%x, %zero, %top) : {KIND}", f"%y = onnx.Mul(%c, %sixth) : {KIND}"))
    assert done.graph.node("y").attrs == {"alpha": 1 / 6, "beta": 0.0}


@pytest.mark.parametrize("numbers", [{"three": 2.5}, {"sixth": 0.2}])
def test_other_constants_are_left(numbers: dict[str, float]) -> None:
    model = build(*SWISHES["gate divided"], **numbers)
    before = print_model(model)
    run_pass(model, NAME)
    assert print_model(model) == before


def test_a_gate_that_something_else_reads_is_left() -> None:
    lines = (*GATE, f"%d = onnx.Mul(%c, %sixth) : {KIND}", f"%z = onnx.Mul(%x, %d) : {KIND}",
             f"%y = onnx.Add(%z, %c) : {KIND}")  # fmt: skip
    assert "HardSwish" not in operators(recognised(build(*lines)))
