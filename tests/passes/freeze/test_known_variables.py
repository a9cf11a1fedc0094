"""Variables as known values: rules see through them, and what they compute stays in the variables."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir.known import constant_tensor, known_tensor
from graphopt.ir.known_variables import READ, forget
from graphopt.ir.model import Model, Variable
from graphopt.ir.tensors import tensor
from graphopt.ir.text import parse_model
from graphopt.ir.types import FLOAT32, Shape
from graphopt.passes.fold.fold_batch_norms import FoldBatchNorms
from graphopt.passes.fold.fold_constants import FoldConstants
from graphopt.passes.manager import PassManager

SHAPES = {"k": [1, 1, 1, 2], "s": [2], "o": [2]}
HANDLES = "\n".join(
    f'%{name}h = tf.VarHandleOp() {{dtype = float32, shape = shape{shape}, shared_name = b"{name}"}}'
    for name, shape in SHAPES.items()
)
BODY = """
    %kr = tf.ReadVariableOp(%kh) {dtype = float32}
    %sr = tf.ReadVariableOp(%sh) {dtype = float32}
    %or = tf.ReadVariableOp(%oh) {dtype = float32}
    %c = tf.Conv2D(%x, %kr) {strides = [1, 1, 1, 1], padding = b"VALID"}
    %mul = tf.Mul(%c, %sr)
    %add = tf.AddV2(%mul, %or)
    %y = tf.Identity(%add) after(%kr, %sr, %or)
"""
IMAGE = "float32[?, 4, 4, 1]"
PLAIN = f"graph @main(%x: {IMAGE}) -> (%y) {{ {HANDLES} {BODY} }}"
CALLED = f"""graph @main(%x: {IMAGE}) -> (%y) {{
    {HANDLES}
    %y = tf.StatefulPartitionedCall(%x, %kh, %sh, %oh) {{f = @f}}
}}
function @f(%x: {IMAGE}, %kh: resource[], %sh: resource[], %oh: resource[]) -> (%y) {{ {BODY} }}
"""


def model_of(text: str) -> Model:
    model = parse_model(text)
    for name, shape in SHAPES.items():
        value = tensor(np.arange(1, 3, dtype=np.float32).reshape(shape))
        model.variables[name] = Variable(name, FLOAT32, Shape(shape), value, trainable=True)
    return model


def values(model: Model) -> dict[str, list[float]]:
    return {
        name: variable.value.numpy().reshape(-1).tolist()
        for name, variable in model.variables.items()
        if variable.value is not None
    }


@pytest.mark.parametrize("text", [PLAIN, CALLED])
def test_batch_norms_are_folded_into_variables(text: str) -> None:
    model = model_of(text)
    assert PassManager(FoldBatchNorms()).run(model).passes[0].rules == {"fold-into-weights": 1}
    assert values(model) == {"k": [1.0, 4.0], "s": [1.0, 2.0], "o": [1.0, 2.0]}
    assert all(variable.trainable for variable in model.variables.values())
    body = model.functions.get("f", model.graph)
    operators = [node.op_type for node in body]
    assert operators.count("ReadVariableOp") == 2  # the kernel, and one of the vectors for the bias
    assert "Const" not in operators
    assert body.node("y").control_inputs == ()


@pytest.mark.parametrize("differs", [False, True])
def test_two_that_fold_the_same_weights_share_the_variables(differs: bool) -> None:
    second = BODY.replace("%x", "%z")
    for name in ("kr", "sr", "or", "c", "mul", "add", "y"):
        second = second.replace(f"%{name} ", f"%{name}2 ").replace(f"%{name})", f"%{name}2)")
        second = second.replace(f"%{name},", f"%{name}2,")
    if differs:  # other weights come of the same variables
        second = second.replace("tf.Mul(%c2, %sr2)", "tf.Mul(%c2, %or2)")
    model = model_of(f"graph @main(%x: {IMAGE}, %z: {IMAGE}) -> (%y, %y2) {{ {HANDLES} {BODY} {second} }}")
    if differs:
        model.variables["o"].value = tensor(np.array([1, 3], np.float32))
    PassManager([FoldBatchNorms()]).run(model)
    assert not [node for node in model.graph if node.op == "tf.Mul"]
    kernels = [node.input(1) for node in model.graph if node.op == "tf.Conv2D"]
    held = sorted(known_tensor(kernel).numpy().reshape(-1).tolist() for kernel in kernels)
    assert held == ([[1.0, 4.0], [1.0, 6.0]] if differs else [[1.0, 4.0], [1.0, 4.0]])
    assert sorted(kernel.node.op for kernel in kernels) == ["tf.Const" if differs else READ, READ]
    assert values(model)["k"] in held


def test_a_kernel_that_another_reads_stays_as_it_is() -> None:
    text = PLAIN.replace("-> (%y)", "-> (%y, %other)").replace(BODY, BODY + "%other = tf.Neg(%kr)")
    model = model_of(text)
    PassManager(FoldBatchNorms()).run(model)
    assert values(model)["k"] == [1.0, 2.0]
    other = known_tensor(model.graph.node("other").input(0))
    assert other is not None
    assert other.numpy().reshape(-1).tolist() == [1.0, 2.0]


def test_constants_are_not_made_of_variables() -> None:
    model = model_of(
        "graph @main() -> (%y) { " + HANDLES + "%r = tf.ReadVariableOp(%kh) {dtype = float32} %y = tf.Neg(%r) }"
    )
    read = model.graph.node("r").output
    assert known_tensor(read) is model.variables["k"].value
    assert constant_tensor(read) is None
    assert PassManager(FoldConstants()).run(model).rewrites == 0


def test_a_reference_variable() -> None:
    model = parse_model(
        """graph @main() -> (%y, %z) {
          %v = tf.VariableV2() {dtype = float32, shape = shape[1]}
          %w = tf.VariableV2() {dtype = float32, shape = shape[1]}
          %y = tf.Identity(%v) {T = float32}
          %set = tf.AssignAdd(%w, %y) {T = float32}
          %z = tf.Identity(%w) {T = float32} after(%set)
        }"""
    )
    for name in ("v", "w"):
        model.variables[name] = Variable(name, FLOAT32, Shape([1]), tensor(np.ones(1, np.float32)))
    assert known_tensor(model.graph.node("y").output) is model.variables["v"].value
    assert known_tensor(model.graph.node("z").output) is None  # it is changed


def test_a_variable_that_is_changed_somewhere_is_not_known() -> None:
    model = model_of(
        CALLED.replace("%c = tf.Conv2D", "%set = tf.AssignVariableOp(%kh, %kr) {dtype = float32} %c = tf.Conv2D")
    )
    body = model.functions["f"]
    assert known_tensor(body.node("kr").output) is None
    assert known_tensor(body.node("sr").output) is model.variables["s"].value
    body.remove_all([body.node("set")])
    forget(model)
    assert known_tensor(body.node("kr").output) is model.variables["k"].value


def test_an_argument_bound_to_two_variables_is_not_known() -> None:
    text = CALLED.replace(
        "%y = tf.StatefulPartitionedCall(%x, %kh, %sh, %oh) {f = @f}",
        """%a = tf.StatefulPartitionedCall(%x, %kh, %sh, %oh) {f = @f}
           %b = tf.StatefulPartitionedCall(%x, %kh, %oh, %oh) {f = @f}
           %y = tf.AddV2(%a, %b)""",
        1,
    )
    body = model_of(text).functions["f"]
    assert known_tensor(body.node("sr").output) is None
    assert known_tensor(body.node("kr").output) is not None
    assert known_tensor(body.node("or").output) is not None


@pytest.mark.parametrize("changed", [False, True])
def test_nobody_waits_for_idle_reads(changed: bool) -> None:
    assign = "%a = tf.AssignVariableOp(%sh, %x) {dtype = float32}" if changed else ""
    after = "%r, %a" if changed else "%r"
    model = model_of(f"""graph @main(%x: float32[2]) -> (%y) {{
        {HANDLES}
        %p = tf.PrintV2(%x)
        %r = tf.ReadVariableOp(%sh) {{dtype = float32}} after(%p)
        {assign}
        %y = tf.Relu(%x) after({after})
    }}""")
    forget(model)
    PassManager(["prune-control-dependencies"]).run(model)
    waits = [node.name for node in model.graph.node("y").control_inputs]
    assert waits == (["r", "a"] if changed else ["p"])
