"""Models that change variables: what they hold goes in and comes out of the program."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.backends.xla.backend import XlaBackend
from graphopt.ir.errors import MalformedError
from graphopt.ir.infer import infer_model
from graphopt.ir.model import Model, Variable
from graphopt.ir.tensors import tensor
from graphopt.ir.text import parse_model
from graphopt.ir.types import FLOAT32, Shape
from graphopt.runtimes.base import get_runtime
from graphopt.runtimes.xla import XlaRuntime

HANDLE = '{{dtype = float32, shape = {shape}, shared_name = "{name}"}}'
START = {"sum": np.zeros((2, 3), np.float32), "table": np.arange(8, dtype=np.float32).reshape(4, 2)}
BODY = f"""
  %sum = tf.VarHandleOp() {HANDLE.format(shape="[2, 3]", name="sum")} : resource[]
  %table = tf.VarHandleOp() {HANDLE.format(shape="[4, 2]", name="table")} : resource[]
  %before = tf.ReadVariableOp(%sum) {{dtype = float32}}
  %add = tf.AssignAddVariableOp(%sum, %x) {{dtype = float32}} after(%before)
  %after = tf.ReadVariableOp(%sum) {{dtype = float32}} after(%add)
  %twice = tf.AddV2(%after, %after)
  %set = tf.AssignVariableOp(%sum, %twice) {{dtype = float32}} after(%after)
  %row = tf.ResourceScatterUpdate(%table, %i, %u) {{dtype = float32}}
  %y = tf.ResourceGather(%table, %i) {{dtype = float32}} after(%row)
"""
ENDS = "%x: float32[2, 3], %i: int32[2], %u: float32[2, 2]"


def model_of(body: str = BODY, inputs: str = ENDS, outputs: str = "%before, %after, %y", rest: str = "") -> Model:
    """A model with variables that have values."""
    model = parse_model(f"graph @main({inputs}) -> ({outputs}) targets(%set, %row) {{{body}}}\n{rest}")
    for name, array in START.items():
        model.variables[name] = Variable(name, FLOAT32, Shape(array.shape), tensor(array))
    infer_model(model)
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


FEEDS = {
    "x": np.ones((2, 3), np.float32), "i": np.array([3, 0], np.int32), "u": np.full((2, 2), 9, np.float32)
}  # fmt: skip


def test_variables_go_in_and_come_out(tmp_path: pathlib.Path) -> None:
    """The manifest says which, and what they are at the start."""
    assert XlaBackend().check(model_of()) == []
    lowered = XlaBackend().lower(model_of(), fallback=False).model
    graphopt.save(lowered, tmp_path / "lowered")
    manifest = json.loads((tmp_path / "lowered" / "manifest.json").read_text())
    (program,) = manifest["programs"]
    assert [(state["input"], state["output"]) for state in program["state"]] == [("sum", "sum"), ("table", "table")]
    assert [end["name"] for end in program["inputs"]] == ["x", "i", "u", "sum", "table"]
    loaded, runtime = graphopt.load(tmp_path / "lowered"), XlaRuntime()
    for _ in range(2):  # each run starts anew
        found = runtime.run(loaded, FEEDS)
        assert list(found) == ["before", "after", "y"]
        np.testing.assert_array_equal(found["before"], START["sum"])
        np.testing.assert_array_equal(found["after"], START["sum"] + 1)
        np.testing.assert_array_equal(found["y"], FEEDS["u"])


def test_a_fed_variable_is_one_more_argument() -> None:
    lowered, runtime = XlaBackend().lower(model_of(), fallback=False).model, get_runtime("xla")
    found = runtime.run(lowered, FEEDS | START)
    assert list(found) == ["before", "after", "y", "sum", "table"]
    np.testing.assert_array_equal(found["sum"], 2 * (START["sum"] + 1))
    again = runtime.run(lowered, FEEDS | {"sum": found["sum"], "table": found["table"]})
    np.testing.assert_array_equal(again["before"], found["sum"])
    np.testing.assert_array_equal(found["table"][[3, 0]], FEEDS["u"])
    np.testing.assert_array_equal(found["table"][1:3], START["table"][1:3])


def test_steps_of_gradient_descent() -> None:
    step = "\n  %l = tf.Const() {value = float32[] 0.5}" + BODY.replace(
        "tf.AssignAddVariableOp(%sum, %x) {dtype = float32}",
        "tf.ResourceApplyGradientDescent(%sum, %l, %x) {T = float32}",
    )
    found = get_runtime("xla").run(XlaBackend().lower(model_of(step), fallback=False).model, FEEDS)
    np.testing.assert_array_equal(found["after"], START["sum"] - 0.5)


def test_what_has_no_form_without_variables_is_a_finding() -> None:
    """Within a branch; by an optimizer; without a value."""
    step = BODY.replace(
        "tf.AssignAddVariableOp(%sum, %x) {dtype = float32}",
        "tf.ResourceApplyAdagrad(%sum, %sum, %l, %x) {T = float32}",
    )
    model = model_of("\n  %l = tf.Const() {value = float32[] 0.1}" + step)
    (finding,) = XlaBackend().check(model)
    assert (finding.node, finding.operator) == ("add", "tf.ResourceApplyAdagrad")
    assert "'sum'" in finding.reason
    assert "graphopt freeze" in finding.remedy
    model = model_of()
    model.variables["sum"].value = None
    with pytest.raises(UnloweredError, match="no value to start from"):
        XlaBackend().lower(model, fallback=False)


def test_manifests_that_do_not_fit_are_refused(tmp_path: pathlib.Path) -> None:
    graphopt.save(XlaBackend().lower(model_of(), fallback=False).model, tmp_path / "lowered")
    path = tmp_path / "lowered" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["programs"][0]["state"][0]["output"] = "absent"
    path.write_text(json.dumps(manifest))
    with pytest.raises(MalformedError, match="no end of the program"):
        graphopt.load(tmp_path / "lowered")
