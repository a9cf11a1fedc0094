"""The reference runtime alone: loops, calls, lists, state, order, and what its errors say."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import ResourceError, UnsupportedError
from graphopt.ir.model import Function, Model
from graphopt.ir.text import parse_model
from graphopt.ir.types import FLOAT32, tensor_type, unshaped
from graphopt.runtimes.base import RunError, get_runtime


def run(text: str, feeds: dict[str, Any] | None = None, outputs: list[str] | None = None) -> dict[str, Any]:
    return get_runtime("reference").run(parse_model(text), feeds or {}, outputs)


X = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)


def test_runs_what_the_outputs_need_and_nothing_else() -> None:
    text = """graph @main(%x: float32[2, 2]) -> (%y) {
        %y = tf.Relu(%x)
        %never = tf.NobodyKnowsThis(%x) : float32[*]
      }"""
    assert run(text, {"x": X})["y"].tolist() == [[1.0, 0.0], [3.0, 4.0]]


def test_a_fed_intermediate_replaces_what_computes_it() -> None:
    text = """graph @main(%x: float32[2, 2]) -> (%z) {
        %y = tf.NobodyKnowsThis(%x) : float32[*]
        %z = tf.Neg(%y)
      }"""
    assert run(text, {"y": X})["z"].tolist() == (-X).tolist()


def test_every_intermediate() -> None:
    model = parse_model("graph @main(%x: float32[2, 2]) -> (%z) { %y = tf.Relu(%x)  %z = tf.Neg(%y)  %q = tf.Abs(%x) }")
    found = get_runtime("reference").run_all(model, {"x": X})
    assert list(found) == ["x:0", "y:0", "z:0"]


@pytest.mark.parametrize(
    ("text", "feeds", "error", "words"),
    [
        ("graph @main(%x: float32[2]) -> (%y) { %y = tf.Relu(%x) }", {}, RunError, r"'x' \(Placeholder\): is not fed"),
        (
            "graph @main(%x: complex64[2, 2]) -> (%y) { %y = tf.MatrixLogarithm(%x) }", {"x": X}, UnsupportedError,
            "'y': the reference runtime cannot run tf.MatrixLogarithm",
        ),
        (
            "graph @main(%x: float32[*], %z: float32[*]) -> (%y) { %y = tf.AddV2(%x, %z) }",
            {"x": X, "z": np.ones(3, np.float32)}, RunError, r"'y' \(AddV2\) cannot be evaluated",
        ),
        (
            "graph @main(%x: float32[*]) -> (%y) { %y = tf.CheckNumerics(%x) {message = b\"boom\"} }",
            {"x": np.array([np.nan], np.float32)}, RunError, "boom",
        ),
        (
            """graph @main(%x: float32[*], %p: bool[]) -> (%y) {
              %check = tf.Assert(%p, %x)  %y = tf.Relu(%x) after(%check)
            }""",
            {"x": X, "p": np.array(False)}, RunError, r"'check' \(Assert\): the assertion failed: \[\[",
        ),
        (
            "graph @main(%x: float32[*], %p: bool[]) -> (%s:1) { %s = tf.Switch(%x, %p) }",
            {"x": X, "p": np.array(False)}, RunError, "'s:1' was not computed: it lies in a branch",
        ),
        (
            """graph @main() -> (%y) {
              %v = tf.VarHandleOp() {dtype = float32, shape = shape[]}  %y = tf.ReadVariableOp(%v) {dtype = float32}
            }""",
            {}, RunError, "variable 'v' has no value",
        ),
        (
            """graph @main(%x: float32[3], %i: int32[2]) -> (%y) {
              %y = tf.ScatterAdd(%x, %i, %x) {T = float32, Tindices = int32} : float32_ref[3]
            }""",
            {"x": np.ones(3, np.float32), "i": [0, 1]}, RunError, "takes a variable or a table, not an array",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_node(text: str, feeds: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        run(text, feeds)


# v1 control flow -----------------------------------------------------------------------------------------------

BRANCH = """graph @main(%x: float32[*], %p: bool[]) -> (%y, %y:1) {
    %s = tf.Switch(%x, %p)
    %one = tf.Neg(%s:0)
    %two = tf.Relu(%s:1)
    %y = tf.Merge(%one, %two)
  }"""


def test_a_branch() -> None:
    taken = run(BRANCH, {"x": X, "p": np.array(True)})
    assert taken["y"].tolist() == [[1.0, 0.0], [3.0, 4.0]]
    assert taken["y:1"].tolist() == 1
    assert run(BRANCH, {"x": X, "p": np.array(False)})["y"].tolist() == (-X).tolist()


def test_what_waits_for_a_dead_node_is_dead() -> None:
    text = """graph @main(%p: bool[]) -> (%y) {
        %s = tf.Switch(%p, %p)
        %pivot = tf.Identity(%s:1)
        %no = tf.Identity(%s:0)
        %one = tf.Const() {value = int32[] 1} after(%pivot)
        %two = tf.Const() {value = int32[] 2} after(%no)
        %y = tf.Merge(%one, %two)
      }"""
    assert run(text, {"p": np.array(True)})["y"] == 1
    assert run(text, {"p": np.array(False)})["y"] == 2


# sum of i * j for i < n and j < i: a loop within a loop, the inner one not run at all for i = 0.
NESTED = """graph @main(%n: int32[]) -> (%total) {
    %zero = tf.Const() {value = int32[] 0}
    %i_in = tf.Enter(%zero) {frame_name = b"outer"}
    %t_in = tf.Enter(%zero) {frame_name = b"outer"}
    %n_in = tf.Enter(%n) {frame_name = b"outer", is_constant = true}
    %i = tf.Merge(%i_in, %i_next)
    %t = tf.Merge(%t_in, %t_next)
    %more = tf.Less(%i, %n_in)
    %cond = tf.LoopCond(%more)
    %i_s = tf.Switch(%i, %cond)
    %t_s = tf.Switch(%t, %cond)
    %one = tf.Const() {value = int32[] 1} after(%i_live)
    %nought = tf.Const() {value = int32[] 0} after(%i_live)
    %i_live = tf.Identity(%i_s:1)
    %j_in = tf.Enter(%nought) {frame_name = b"inner"}
    %u_in = tf.Enter(%t_s:1) {frame_name = b"inner"}
    %bound = tf.Enter(%i_live) {frame_name = b"inner", is_constant = true}
    %step = tf.Enter(%one) {frame_name = b"inner", is_constant = true}
    %j = tf.Merge(%j_in, %j_next)
    %u = tf.Merge(%u_in, %u_next)
    %inner_more = tf.Less(%j, %bound)
    %inner_cond = tf.LoopCond(%inner_more)
    %j_s = tf.Switch(%j, %inner_cond)
    %u_s = tf.Switch(%u, %inner_cond)
    %product = tf.Mul(%j_s:1, %bound)
    %u_new = tf.AddV2(%u_s:1, %product)
    %j_new = tf.AddV2(%j_s:1, %step)
    %j_next = tf.NextIteration(%j_new)
    %u_next = tf.NextIteration(%u_new)
    %u_out = tf.Exit(%u_s:0)
    %i_new = tf.AddV2(%i_live, %one)
    %i_next = tf.NextIteration(%i_new)
    %t_next = tf.NextIteration(%u_out)
    %total = tf.Exit(%t_s:0)
  }"""


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_nested_loops(n: int) -> None:
    expected = sum(i * j for i in range(n) for j in range(i))
    assert run(NESTED, {"n": np.array(n, np.int32)})["total"] == expected


def test_a_loop_in_a_branch_not_taken_is_dead_and_ends() -> None:
    text = """graph @main(%n: int32[], %p: bool[]) -> (%y) {
        %s = tf.Switch(%n, %p)
        %enter = tf.Enter(%s:1) {frame_name = b"loop"}
        %merge = tf.Merge(%enter, %next)
        %zero = tf.Const() {value = int32[] 0}
        %floor = tf.Enter(%zero) {frame_name = b"loop", is_constant = true}
        %more = tf.Greater(%merge, %floor)
        %cond = tf.LoopCond(%more)
        %switch = tf.Switch(%merge, %cond)
        %halved = tf.Sub(%switch:1, %switch:1)
        %next = tf.NextIteration(%halved)
        %exit = tf.Exit(%switch:0)
        %y = tf.Merge(%exit, %s:0)
      }"""
    for taken in (True, False):
        expected = 0 if taken else 5
        assert run(text, {"n": np.array(5, np.int32), "p": np.array(taken)})["y"] == expected


# Calls ---------------------------------------------------------------------------------------------------------

FUNCTIONS = """
    function @twice(%a: float32[*]) -> (%b) { %b = tf.AddV2(%a, %a) : float32[*] }
    function @same(%a: float32[*]) -> (%b) { %b = tf.Identity(%a) : float32[*] }
    function @cond(%i: int32[], %a: float32[*]) -> (%less) {
      %five = tf.Const() {value = int32[] 5}
      %less = tf.Less(%i, %five)
    }
    function @body(%i: int32[], %a: float32[*]) -> (%j, %b) {
      %one = tf.Const() {value = int32[] 1}
      %j = tf.AddV2(%i, %one)
      %b = tf.PartitionedCall(%a) {f = @twice} : float32[*]
    }"""


def call(node: str, feeds: dict[str, Any]) -> Any:
    return run(f"graph @main(%x: float32[*], %i: int32[], %p: bool[]) -> (%y) {{ {node} }} {FUNCTIONS}", feeds)["y"]


@pytest.mark.parametrize(
    ("node", "feeds", "factor"),
    [
        ("%y = tf.PartitionedCall(%x) {f = @twice} : float32[*]", {}, 2),
        ("%y = tf.twice(%x) : float32[*]", {}, 2),
        ("%y = tf.If(%p, %x) {then_branch = @twice, else_branch = @same} : float32[*]", {"p": np.array(True)}, 2),
        (
            "%y = tf.If(%i, %x) {then_branch = @twice, else_branch = @same} : float32[*]",
            {"i": np.array(0, np.int32)},
            1,
        ),
        ("%y = tf.Case(%i, %x) {branches = [@twice, @same]} : float32[*]", {"i": np.array(0, np.int32)}, 2),
        ("%y = tf.Case(%i, %x) {branches = [@twice, @same]} : float32[*]", {"i": np.array(-3, np.int32)}, 1),
        (
            """%w = tf.While(%i, %x) {T = [int32, float32], cond = @cond, body = @body} : (int32[], float32[*])
            %y = tf.Identity(%w:1)""",
            {"i": np.array(0, np.int32)},
            32,
        ),
    ],
)
def test_calls(node: str, feeds: dict[str, Any], factor: int) -> None:
    assert call(node, {"x": X, **feeds}).tolist() == (X * factor).tolist()


def test_a_generic_body_gets_its_attributes_from_the_call() -> None:
    text = """graph @main(%x: float32[*]) -> (%y) { %y = tf.convert(%x) {to = int32} : int32[*] }
        function @convert(%a: float32[*]) -> (%b) { %b = tf.Cast(%a) {SrcT = float32, DstT = $to} : int32[*] }"""
    assert run(text, {"x": X})["y"].dtype == np.int32


def chain(depth: int, last: str) -> Model:
    model = Model()
    for level in range(depth):
        body = Function(f"f{level}")
        argument = body.create_node("tf._Arg", (), {"T": FLOAT32, "index": 0}, name="a", types=(unshaped(FLOAT32),))
        body.inputs = [argument.output]
        target = f"f{level + 1}" if level < depth - 1 else last
        attrs = {"Tin": (FLOAT32,), "Tout": (FLOAT32,), "f": FunctionRef(target)}
        op = "tf.PartitionedCall" if target else "tf.Neg"
        body.outputs = [body.create_node(op, body.inputs, attrs, name="b", types=(unshaped(FLOAT32),)).output]
        model.add_function(body)
    x = model.graph.create_node("tf.Placeholder", (), {"dtype": FLOAT32}, name="x", types=(tensor_type(FLOAT32, []),))
    attrs = {"Tin": (FLOAT32,), "Tout": (FLOAT32,), "f": FunctionRef("f0")}
    y = model.graph.create_node("tf.PartitionedCall", x.outputs, attrs, name="y", types=(unshaped(FLOAT32),))
    model.set_signature({"x": x.output}, {"y": y.output})
    return model


def test_ten_thousand_calls_deep() -> None:
    assert get_runtime("reference").run(chain(10_000, ""), {"x": np.float32(3)})["y"] == -3


def test_a_function_that_calls_itself_for_ever() -> None:
    with pytest.raises(ResourceError, match="levels deep"):
        get_runtime("reference").run(chain(2, "f0"), {"x": np.float32(3)})


# State ---------------------------------------------------------------------------------------------------------


def test_variables_keep_their_value_from_run_to_run() -> None:
    model = parse_model("""graph @main(%x: float32[]) -> (%now) {
        %v = tf.VarHandleOp() {dtype = float32, shape = shape[]}
        %init = tf.AssignVariableOp(%v, %x)
        %add = tf.AssignAddVariableOp(%v, %x)
        %now = tf.ReadVariableOp(%v) {dtype = float32} after(%add)
      }""")
    runtime = get_runtime("reference")
    assert runtime.run(model, {"x": np.float32(10)}, ["init"]) == {}
    assert runtime.run(model, {"x": np.float32(1)})["now"] == 11
    assert runtime.run(model, {"x": np.float32(2)})["now"] == 13


def test_reference_variables() -> None:
    model = parse_model("""graph @main(%x: float32[3]) -> (%now) {
        %v = tf.VariableV2() {dtype = float32, shape = shape[3]}
        %init = tf.Assign(%v, %x) {T = float32} : float32_ref[3]
        %places = tf.Const() {value = int32[2] [0, 0]}
        %two = tf.Const() {value = float32[2] [1.0, 2.0]}
        %add = tf.ScatterAdd(%init, %places, %two) {T = float32, Tindices = int32} : float32_ref[3]
        %now = tf.Identity(%add) {T = float32} : float32[3]
      }""")
    found = get_runtime("reference").run(model, {"x": np.array([1, 2, 3], np.float32)})
    assert found["now"].tolist() == [4.0, 2.0, 3.0]


def test_tables_are_filled_before_they_are_asked() -> None:
    text = """graph @main(%k: string[*]) -> (%y, %n) {
        %table = tf.HashTableV2() {key_dtype = string, value_dtype = int64}
        %keys = tf.Const() {value = string[2] [b"a", b"b"]}
        %values = tf.Const() {value = int64[2] [7, 8]}
        %fill = tf.InitializeTableV2(%table, %keys, %values)
        %default = tf.Const() {value = int64[] -1}
        %y = tf.LookupTableFindV2(%table, %k, %default)
        %n = tf.LookupTableSizeV2(%table)
      }"""
    found = run(text, {"k": [["b", "x"]]})
    assert found["y"].tolist() == [[8, -1]]
    assert found["n"] == 2


def test_a_table_that_nothing_fills() -> None:
    text = """graph @main(%k: string[*]) -> (%y) {
        %table = tf.HashTableV2() {key_dtype = string, value_dtype = int64}
        %default = tf.Const() {value = int64[] -1}
        %y = tf.LookupTableFindV2(%table, %k, %default)
      }"""
    with pytest.raises(RunError, match="table 'table' is empty"):
        run(text, {"k": ["a"]})


# Memory --------------------------------------------------------------------------------------------------------


def test_intermediates_are_released_when_nothing_needs_them() -> None:
    length = 60
    lines = "".join(f"%n{i} = tf.Neg(%{'x' if i == 0 else f'n{i - 1}'})\n" for i in range(length))
    model = parse_model(f"graph @main(%x: float32[*]) -> (%n{length - 1}) {{ {lines} }}")
    alive = peak = 0

    class Watched(np.ndarray):
        pass

    def negate(attrs: Any, array: Any) -> Any:
        nonlocal alive, peak
        made = np.negative(array).view(Watched)
        alive += 1
        peak = max(peak, alive)
        weakref.finalize(made, died)
        return made

    def died() -> None:
        nonlocal alive
        alive -= 1

    from graphopt.ir.ops import registry

    original = registry.find("tf.Neg")
    assert original is not None
    replaced = registry.Operator(original.name, original.interface, original.traits, original.shape, negate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphopt.runtimes.reference.find", lambda op: replaced if op == "tf.Neg" else registry.find(op))
        get_runtime("reference").run(model, {"x": X})
    assert peak <= 3
