"""Legalisation of conditionals and loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.backends.base import UnloweredError
from graphopt.ir.infer import infer_model
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.types import unshaped
from graphopt.testing.lowering import assert_lowers

BRANCHES = """
function @double(%a: float32[?]) -> (%b) {
  %two = tf.Const() {value = float32[] 2.0}
  %b = tf.Mul(%a, %two)
}
function @bend(%a: float32[?]) -> (%b) { %b = tf.Tanh(%a) }
"""


def model_of(text: str) -> Model:
    """The model in `text`, with types and a signature of its inputs and outputs."""
    model = parse_model(text)
    infer_model(model)
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


def conditional(dtype: str, shape: str = "") -> Model:
    return model_of(
        f"graph @main(%c: {dtype}[{shape}], %x: float32[3]) -> (%y) {{\n"
        f"  %y = tf.StatelessIf(%c, %x) {{then_branch = @double, else_branch = @bend, Tcond = {dtype}, "
        f"Tin = [float32], Tout = [float32]}}\n}}{BRANCHES}"
    )


def test_a_conditional() -> None:
    data = {"c": np.array([True, False]), "x": np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], np.float32)}
    assert_lowers(conditional("bool"), ["IF", "MUL", "TANH"], reference="reference", data=data)


def test_a_condition_that_is_a_number() -> None:
    data = {"c": np.array([0, 7], np.int32), "x": np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], np.float32)}
    assert_lowers(conditional("int32"), ["NOT_EQUAL", "IF", "MUL", "TANH"], reference="reference", data=data)


def test_a_condition_of_unknown_shape() -> None:
    model = conditional("bool")
    model.graph.inputs[0].type = unshaped(model.graph.inputs[0].dtype)
    data = {"c": np.array([True, False]), "x": np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], np.float32)}
    assert_lowers(model, ["IF", "MUL", "TANH"], reference="reference", data=data)


def test_a_condition_with_axes_is_refused() -> None:
    with pytest.raises(UnloweredError, match="its condition 'c' is bool\\[2\\], no scalar"):
        assert_lowers(conditional("bool", "2"), reference=None)


def loop(limit: str, body: str = "%t = tf.Tanh(%s)", shape: str = "3") -> Model:
    return model_of(f"""
graph @main(%n: int32[], %x: float32[{shape}]) -> (%loop:1) {{
  %zero = tf.Const() {{value = int32[] 0}}
  %loop = tf.StatelessWhile(%zero, %x, %n) {{cond = @cond, body = @body, T = [int32, float32, int32]}}
}}
function @cond(%i: int32[], %s: float32[{shape}], %n: int32[]) -> (%go) {{ %go = tf.Less(%i, {limit}) }}
function @body(%i: int32[], %s: float32[{shape}], %n: int32[]) -> (%j, %t, %n) {{
  %one = tf.Const() {{value = int32[] 1}}
  %j = tf.AddV2(%i, %one)
  {body}
}}
""")


def test_a_loop_until_a_number_that_is_fed() -> None:
    data = {"n": np.array([0, 1, 5], np.int32), "x": np.full((3, 3), 0.7, np.float32)}
    assert_lowers(loop("%n"), ["WHILE", "LESS", "ADD", "TANH"], reference="reference", data=data)


def test_dynamic_shapes() -> None:
    data = {"n": np.array([3], np.int32), "x": np.full((1, 4, 2), 0.7, np.float32)}
    assert_lowers(loop("%n", shape="?, 2"), ["WHILE", "LESS", "ADD", "TANH"], reference="reference", data=data)


def test_a_condition_of_a_loop_that_is_a_number_is_refused() -> None:
    text = loop("%n")
    condition = text.functions["cond"]
    condition.outputs = [condition.inputs[2]]
    with pytest.raises(UnloweredError, match="its condition yields int32"):
        assert_lowers(text, reference=None)


def test_a_list_that_stays_is_named() -> None:
    model = model_of("""
graph @main(%n: int32[], %x: string[3]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %shape = tf.Const() {value = int32[1] [3]}
  %list = tf.EmptyTensorList(%shape, %n) {element_dtype = string}
  %loop = tf.StatelessWhile(%zero, %list, %x, %n) {cond = @cond, body = @body, T = [int32, variant, string, int32]}
  %y = tf.TensorListStack(%loop:1, %shape) {element_dtype = string}
}
function @cond(%i: int32[], %l: variant[], %s: string[3], %n: int32[]) -> (%go) { %go = tf.Less(%i, %n) }
function @body(%i: int32[], %l: variant[], %s: string[3], %n: int32[]) -> (%j, %m, %s, %n) {
  %one = tf.Const() {value = int32[] 1}
  %j = tf.AddV2(%i, %one)
  %m = tf.TensorListPushBack(%l, %s) {element_dtype = string}
}
""")
    with pytest.raises(UnloweredError, match="it passes on the list of tensors 'list'"):
        assert_lowers(model, reference=None)


def recurrent(batch: str, steps: str, every_step: bool) -> Model:
    """A simple recurrent layer as Keras writes it, with lists; every output or the last."""
    count, place = ("%steps", "%i") if every_step else ("%one", "%zero")
    return model_of(f"""
graph @main(%x: float32[{steps}, {batch}, 3]) -> (%y, %loop:3) {{
  %zero = tf.Const() {{value = int32[] 0}}
  %one = tf.Const() {{value = int32[] 1}}
  %two = tf.Const() {{value = int32[1] [2]}}
  %first = tf.Const() {{value = int32[1] [0]}}
  %second = tf.Const() {{value = int32[1] [1]}}
  %four = tf.Const() {{value = int32[] 4}}
  %float = tf.Const() {{value = float32[] 0.0}}
  %dims = tf.Shape(%x)
  %steps = tf.StridedSlice(%dims, %first, %second, %second) {{shrink_axis_mask = 1}}
  %batch = tf.StridedSlice(%dims, %second, %two, %second) {{shrink_axis_mask = 1}}
  %size = tf.Pack(%batch, %four) {{axis = 0}}
  %state = tf.Fill(%size, %float)
  %row = tf.Const() {{value = int32[2] [-1, 3]}}
  %out = tf.Const() {{value = int32[2] [-1, 4]}}
  %inputs = tf.TensorListFromTensor(%x, %row) {{element_dtype = float32}}
  %outputs = tf.TensorListReserve(%out, {count}) {{element_dtype = float32}}
  %loop = tf.While(%zero, %steps, %outputs, %state, %inputs) {{cond = @cond, body = @body,
    T = [int32, int32, variant, float32, variant]}}
  %y = tf.TensorListStack(%loop:2, %out) {{element_dtype = float32}}
}}
function @cond(%i: int32[], %n: int32[], %o: variant[], %s: float32[{batch}, 4], %x: variant[]) -> (%go) {{
  %go = tf.Less(%i, %n)
}}
function @body(%i: int32[], %n: int32[], %o: variant[], %s: float32[{batch}, 4], %x: variant[])
    -> (%j, %n, %p, %t, %x) {{
  %one = tf.Const() {{value = int32[] 1}}
  %zero = tf.Const() {{value = int32[] 0}}
  %row = tf.Const() {{value = int32[2] [-1, 3]}}
  %kernel = tf.Const() {{value = float32[3, 4] [[0.5, -0.2, 0.1, 0.7], [0.3, 0.2, -0.6, 0.4], [-0.1, 0.9, 0.2, -0.5]]}}
  %again = tf.Const() {{value = float32[4, 4] [[0.1, 0.2, 0.3, 0.4], [0.5, -0.6, 0.7, 0.8], [0.9, 0.1, 0.2, -0.3],
    [0.4, 0.5, -0.6, 0.7]]}}
  %j = tf.AddV2(%i, %one)
  %given = tf.TensorListGetItem(%x, %i, %row) {{element_dtype = float32}}
  %a = tf.MatMul(%given, %kernel)
  %b = tf.MatMul(%s, %again)
  %c = tf.AddV2(%a, %b)
  %t = tf.Tanh(%c)
  %p = tf.TensorListSetItem(%o, {place}, %t) {{element_dtype = float32}}
}}
""")


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.booleans(), st.booleans(), st.booleans())
def test_recurrent_layers(batch: int, steps: int, open_batch: bool, open_steps: bool, every_step: bool) -> None:
    model = recurrent("?" if open_batch else str(batch), "?" if open_steps else str(steps), every_step)
    data = {"x": np.random.default_rng(batch + steps).normal(size=(2, steps, batch, 3)).astype(np.float32)}
    lowered = assert_lowers(model, reference="reference", data=data)
    found = {node.op for graph in lowered.model.graphs for node in graph}
    assert "tfl.WHILE" in found
    assert ("tfl.DYNAMIC_UPDATE_SLICE" in found) is (every_step and (open_steps or steps > 1))


@pytest.mark.parametrize("batch", ["2", "?"])
def test_unrolled(batch: str) -> None:
    data = {"x": np.random.default_rng(0).normal(size=(2, 3, 2, 3)).astype(np.float32)}
    lowered = assert_lowers(recurrent(batch, "3", True), reference="reference", data=data, unroll=True)
    assert not lowered.model.functions
    assert "tfl.WHILE" not in {node.op for node in lowered.model.graph}
