"""Inference through v1 loops, branches and calls, however deep."""

from __future__ import annotations

import pytest
from infer_helpers import inferred, types_of

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.infer import forget_shapes, infer_graph, infer_model
from graphopt.ir.joins import join_shapes
from graphopt.ir.model import Function, Model
from graphopt.ir.text import parse_graph, parse_model
from graphopt.ir.types import FLOAT32, INT32, Shape, tensor_type, unshaped

# v1 loops ------------------------------------------------------------------------------------------------------

LOOP = """graph @main(%x: float32[?, 4], %p: bool[]) -> (%exit) {{
    %enter = tf.Enter(%x) {{frame_name = b"f"}}
    %merge = tf.Merge(%enter, %next)
    %pred = tf.LoopCond(%p)
    %switch = tf.Switch(%merge, %pred)
    %axis = tf.Const() {{value = int32[] {axis}}}
    {body}
    %next = tf.NextIteration(%out)
    %exit = tf.Exit(%switch:0)
  }}"""


def test_a_loop_that_keeps_its_shape_keeps_it() -> None:
    graph = inferred(LOOP.format(axis=0, body="%out = tf.Relu(%switch:1)"))
    assert types_of(graph, "merge", "out", "exit") == ["float32[?, 4]"] * 3


def test_a_loop_that_grows_is_widened_until_it_holds_for_every_iteration() -> None:
    graph = inferred(LOOP.format(axis=1, body="%out = tf.ConcatV2(%switch:1, %switch:1, %axis)"))
    assert types_of(graph, "merge", "out", "exit") == ["float32[?, ?]"] * 3


def test_a_loop_that_changes_rank_is_unknown() -> None:
    graph = inferred(LOOP.format(axis=0, body="%out = tf.ExpandDims(%switch:1, %axis)"))
    assert types_of(graph, "merge", "exit") == ["float32[*]", "float32[*]"]


def test_shape_values_follow_the_widening() -> None:
    body = """%grown = tf.ConcatV2(%switch:1, %switch:1, %axis)
    %shape = tf.Shape(%grown)
    %copy = tf.Reshape(%grown, %shape)
    %out = tf.Relu(%copy)"""
    graph = inferred(LOOP.format(axis=1, body=body))
    assert types_of(graph, "copy", "exit") == ["float32[?, ?]", "float32[?, ?]"]


def test_what_is_claimed_in_a_loop_is_kept() -> None:
    graph = parse_graph(LOOP.format(axis=1, body="%out = tf.ConcatV2(%switch:1, %switch:1, %axis)"))
    forget_shapes(graph)
    graph.value("merge").type = tensor_type("float32", [5, None])
    infer_graph(graph)
    assert types_of(graph, "merge", "exit") == ["float32[5, ?]", "float32[5, ?]"]


def test_a_branch_joins_what_its_sides_yield() -> None:
    graph = inferred("""graph @main(%x: float32[2, 4], %p: bool[]) -> (%merge) {
        %switch = tf.Switch(%x, %p)
        %axis = tf.Const() {value = int32[] 0}
        %twice = tf.ConcatV2(%switch:1, %switch:1, %axis)
        %merge = tf.Merge(%switch:0, %twice)
      }""")
    assert types_of(graph, "merge", "merge:1") == ["float32[?, 4]", "int32[]"]


def test_joining() -> None:
    assert str(join_shapes([Shape([2, 3]), Shape([2, None]), Shape([2, 3])])) == "[2, ?]"
    assert str(join_shapes([Shape([2]), Shape([2, 3])])) == "[*]"
    assert str(join_shapes([])) == "[*]"


# Calls ---------------------------------------------------------------------------------------------------------


def test_arguments_come_from_the_call_and_outputs_from_the_body() -> None:
    model = parse_model("""
        graph @main(%x: float32[?, 4]) -> (%y) { %y = tf.PartitionedCall(%x) {f = @body} : float32[*] }
        function @body(%a: float32[*]) -> (%b) {
          %axis = tf.Const() {value = int32[] 0}
          %b = tf.ConcatV2(%a, %a, %axis) : float32[*]
        }""")
    outcome = infer_model(model)
    assert types_of(model.graph, "y") == ["float32[?, 4]"]
    assert types_of(model.functions["body"], "a", "b") == ["float32[?, 4]", "float32[?, 4]"]
    assert outcome.changed >= 3
    assert infer_model(model).changed == 0


def test_several_call_sites_give_what_they_agree_on() -> None:
    model = parse_model("""
        graph @main(%x: float32[2, 4], %z: float32[3, 4]) -> (%y, %v) {
          %y = tf.PartitionedCall(%x) {f = @body} : float32[*]
          %v = tf.PartitionedCall(%z) {f = @body} : float32[*]
        }
        function @body(%a: float32[*]) -> (%b) { %b = tf.Relu(%a) : float32[*] }""")
    infer_model(model)
    assert types_of(model.functions["body"], "a", "b") == ["float32[?, 4]", "float32[?, 4]"]
    assert types_of(model.graph, "y", "v") == ["float32[?, 4]", "float32[?, 4]"]


def test_a_function_that_others_may_call_takes_nothing_from_its_callers() -> None:
    model = parse_model("""
        graph @main(%x: float32[2]) -> (%y) {
          %y = tf.PartitionedCall(%x) {f = @body} : float32[*]
          %d = tf.RemoteCall(%t, %x) {f = @body} : float32[*]
          %t = tf.Const() {value = string[] b"cpu"}
        }
        function @body(%a: float32[*]) -> (%b) { %b = tf.Relu(%a) : float32[*] }""")
    infer_model(model)
    assert types_of(model.functions["body"], "a", "b") == ["float32[*]", "float32[*]"]


def test_branches_join() -> None:
    model = parse_model("""
        graph @main(%p: bool[], %x: float32[2, 4]) -> (%y) {
          %y = tf.If(%p, %x) {then_branch = @same, else_branch = @twice} : float32[*]
        }
        function @same(%a: float32[*]) -> (%b) { %b = tf.Relu(%a) : float32[*] }
        function @twice(%a: float32[*]) -> (%b) {
          %axis = tf.Const() {value = int32[] 0}
          %b = tf.ConcatV2(%a, %a, %axis) : float32[*]
        }""")
    infer_model(model)
    assert types_of(model.graph, "y") == ["float32[?, 4]"]


WHILE = """
    graph @main(%i: int32[], %x: float32[2, 4]) -> (%w:1) {{
      %w = tf.While(%i, %x) {{T = [int32, float32], cond = @cond, body = @body}} : (int32[*], float32[*])
    }}
    function @cond(%i: int32[*], %x: float32[*]) -> (%less) {{
      %ten = tf.Const() {{value = int32[] 10}}
      %less = tf.Less(%i, %ten)
    }}
    function @body(%i: int32[*], %x: float32[*]) -> (%j, %y) {{
      %one = tf.Const() {{value = int32[] 1}}
      %j = tf.AddV2(%i, %one) : int32[*]
      {body}
    }}"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("%y = tf.Relu(%x) : float32[*]", "float32[2, 4]"),
        ("%y = tf.ConcatV2(%x, %x, %one) : float32[*]", "float32[2, ?]"),
        ("%y = tf.ExpandDims(%x, %one) : float32[*]", "float32[*]"),
    ],
)
def test_variables_of_a_functional_loop(body: str, expected: str) -> None:
    model = parse_model(WHILE.format(body=body))
    infer_model(model)
    assert types_of(model.graph, "w", "w:1") == ["int32[]", expected]
    assert types_of(model.functions["body"], "x", "i") == [expected, "int32[]"]
    assert types_of(model.functions["cond"], "x", "less") == [expected, "bool[]"]


def test_a_function_called_as_an_operator() -> None:
    model = parse_model("""
        graph @main(%x: float32[2]) -> (%y) { %y = tf.body(%x) : float32[*] }
        function @body(%a: float32[*]) -> (%b) { %b = tf.Relu(%a) : float32[*] }""")
    infer_model(model)
    assert types_of(model.graph, "y") == ["float32[2]"]


def test_functions_that_call_each_other_end() -> None:
    model = parse_model("""
        graph @main(%x: float32[2]) -> (%y) { %y = tf.PartitionedCall(%x) {f = @f} : float32[*] }
        function @f(%a: float32[*]) -> (%b) { %b = tf.PartitionedCall(%a) {Tout = [float32], f = @g} : float32[*] }
        function @g(%a: float32[*]) -> (%b) { %b = tf.PartitionedCall(%a) {Tout = [float32], f = @f} : float32[*] }""")
    infer_model(model)
    assert types_of(model.graph, "y") == ["float32[*]"]


def test_ten_thousand_calls_deep() -> None:
    depth = 10_000
    model = Model()
    for level in range(depth):
        body = Function(f"f{level}")
        argument = body.create_node("tf._Arg", (), {"T": FLOAT32, "index": 0}, name="a", types=(unshaped(FLOAT32),))
        body.inputs = [argument.output]
        op, attrs = "tf.Relu", {"T": FLOAT32}
        if level < depth - 1:
            op, attrs = "tf.PartitionedCall", {"Tin": (FLOAT32,), "Tout": (FLOAT32,), "f": FunctionRef(f"f{level + 1}")}
        body.outputs = [body.create_node(op, body.inputs, attrs, name="b", types=(unshaped(FLOAT32),)).output]
        model.add_function(body)
    x = model.graph.create_node(
        "tf.Placeholder", (), {"dtype": FLOAT32, "shape": Shape([None, 2])}, types=(unshaped(FLOAT32),)
    )
    call = model.graph.create_node(
        "tf.PartitionedCall",
        x.outputs,
        {"Tin": (FLOAT32,), "Tout": (FLOAT32,), "f": FunctionRef("f0")},
        types=(unshaped(FLOAT32),),
    )
    infer_model(model)
    assert str(call.output.type) == "float32[?, 2]"


def test_nested_loops_of_absurd_depth_end() -> None:
    model = Model()
    depth = 40
    for level in range(depth):
        body = Function(f"b{level}")
        argument = body.create_node("tf._Arg", (), {"T": FLOAT32, "index": 0}, name="a", types=(unshaped(FLOAT32),))
        body.inputs = [argument.output]
        axis = body.create_node("tf.Placeholder", (), {"dtype": INT32, "shape": Shape([])}, types=(unshaped(INT32),))
        inner = argument.output
        if level < depth - 1:
            attrs = {"T": (FLOAT32,), "cond": FunctionRef("c"), "body": FunctionRef(f"b{level + 1}")}
            inner = body.create_node("tf.While", [inner], attrs, types=(unshaped(FLOAT32),)).output
        grown = body.create_node(
            "tf.ConcatV2",
            [inner, inner, axis.output],
            {"T": FLOAT32, "N": 2, "Tidx": INT32},
            types=(unshaped(FLOAT32),),
        )
        body.outputs = [grown.output]
        model.add_function(body)
    condition = Function("c")
    argument = condition.create_node("tf._Arg", (), {"T": FLOAT32, "index": 0}, name="a", types=(unshaped(FLOAT32),))
    condition.inputs, condition.outputs = [argument.output], [argument.output]
    model.add_function(condition)
    x = model.graph.create_node(
        "tf.Placeholder", (), {"dtype": FLOAT32, "shape": Shape([2, 2])}, types=(unshaped(FLOAT32),)
    )
    attrs = {"T": (FLOAT32,), "cond": FunctionRef("c"), "body": FunctionRef("b0")}
    loop = model.graph.create_node("tf.While", x.outputs, attrs, types=(unshaped(FLOAT32),))
    infer_model(model)
    assert loop.output.type.shape.static is None
