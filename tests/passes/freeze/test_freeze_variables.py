"""freeze-variables on graphs as text: what becomes of handles and references, and what is refused and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model, Variable
from graphopt.ir.specifications import check
from graphopt.ir.tensors import tensor
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.types import Shape
from graphopt.passes.freeze.freeze_variables import FreezeVariables
from graphopt.passes.manager import PassManager
from graphopt.passes.report import PassReport

FLOAT = "float32[2]"


def model_of(text: str, **values: Any) -> Model:
    model = parse_model(text)
    for name, value in values.items():
        held = None if value is None else tensor(np.asarray(value, np.float32))
        shape = Shape(None) if held is None else Shape(held.shape)
        model.variables[name] = Variable(name, shape=shape, value=held)
    return model


def handle(name: str) -> str:
    return f'%{name} = tf.VarHandleOp() {{dtype = float32, shape = shape[2], shared_name = b"{name}"}}'


def freeze(model: Model, **options: Any) -> PassReport:
    return PassManager(FreezeVariables(**options)).run(model).passes[0]


def refusals(report: PassReport) -> Mapping[str, str]:
    found = (re.match(r"variable '(.*?)' stays one: (.*)", item["reason"]) for item in report.refusals)
    return {match.group(1): match.group(2) for match in found if match is not None}


def operators(model: Model) -> list[str]:
    return [node.op_type for graph in model.graphs for node in graph]


def test_a_reference_variable_and_a_resource() -> None:
    model = model_of(
        """graph @main(%x: float32[2]) -> (%y, %there) {
          %v = tf.VariableV2() {dtype = float32, shape = shape[2]}
          %read = tf.Identity(%v) {T = float32, _class = [b"loc:@v"]}
          """
        + handle("w")
        + """
          %value = tf.ReadVariableOp(%w) {dtype = float32, _tag = b"kept"} after(%x)
          %sum = tf.Add(%read, %value)
          %y = tf.Mul(%x, %sum)
          %there = tf.VarIsInitializedOp(%w)
        }""",
        v=[1, 2],
        w=[3, 4],
    )
    held = model.variables["w"].value
    report = freeze(model)
    assert report.rules == {"freeze-variables": 2}
    graph = model.graph
    assert [graph.node(name).op for name in ("v", "w")] == ["tf.Const", "tf.Const"]
    assert graph.node("w").attrs["value"] is held  # the bytes stay where they are
    assert graph.node("value").op == "tf.Identity"
    assert graph.node("value").attrs["_tag"] == b"kept"
    assert [node.name for node in graph.node("value").control_inputs] == ["x"]
    assert "_class" not in graph.node("read").attrs
    assert graph.node("there").attrs["value"].numpy().item() is True
    assert model.variables == {}
    assert check(model, "frozen") == []


def test_a_variable_is_one_constant_in_a_graph() -> None:
    second = handle("w").replace("%w", "%again", 1)
    text = f"""graph @main(%x: {FLOAT}) -> (%y) {{
        {handle("w")}
        {second}
        %a = tf.ReadVariableOp(%w) {{dtype = float32}}
        %b = tf.ReadVariableOp(%again) {{dtype = float32}}
        %s = tf.Add(%a, %b)
        %y = tf.Mul(%x, %s)
    }}"""
    model = model_of(text, w=[1, 2])
    assert freeze(model).rules == {"freeze-variables": 1}
    assert model.graph.node("again").op == "tf.Identity"
    assert operators(model).count("Const") == 1


CALLEE = """
function @f(%a: float32[2], %h: resource[]) -> (%b) attrs {api_implements = b"f", _input_shapes = [shape[2], shape[]]} {
  %r = tf.ReadVariableOp(%h) {dtype = float32}
  %b = tf.Mul(%a, %r)
}
"""


def test_a_function_called_with_values_keeps_its_name() -> None:
    main = f"""graph @main(%x: {FLOAT}) -> (%y) {{
        {handle("v")}
        {handle("w")}
        %first = tf.StatefulPartitionedCall(%x, %v) {{f = @f, _read_only_resource_inputs = [1]}}
        %y = tf.StatefulPartitionedCall(%first, %w) {{f = @f}}
    }}"""
    model = model_of(main + CALLEE, v=[1, 2], w=[3, 4])
    assert freeze(model).rules == {"freeze-variables": 2}
    assert list(model.functions) == ["f"]  # one copy serves both: the values have one type
    assert [value.type.dtype.name for value in model.functions["f"].inputs] == ["float32", "float32"]
    assert model.functions["f"].attrs == {"_input_shapes": (Shape([2]), Shape([2]))}
    assert model.graph.node("first").attrs["Tin"] == tuple(value.dtype for value in model.graph.node("first").inputs)
    assert model.graph.node("first").attrs["_read_only_resource_inputs"] == ()


def test_a_function_called_both_ways_is_copied() -> None:
    main = f"""graph @main(%x: {FLOAT}) -> (%y) {{
        {handle("v")}
        {handle("w")}
        %first = tf.StatefulPartitionedCall(%x, %v) {{f = @f}}
        %y = tf.StatefulPartitionedCall(%first, %w) {{f = @f}}
    }}"""
    model = model_of(main + CALLEE, v=[1, 2], w=[3, 4])
    assert freeze(model, exceptions=("w",)).rules == {"freeze-variables": 1}
    assert list(model.functions) == ["f", "f_frozen"]
    assert model.graph.node("first").attrs["f"].name == "f_frozen"
    assert model.graph.node("y").attrs["f"].name == "f"
    assert operators(model).count("ReadVariableOp") == 1
    assert list(model.variables) == ["w"]
    assert freeze(model).rules == {"freeze-variables": 1}
    assert list(model.functions) == ["f", "f_frozen"]


def test_values_of_different_shapes_are_passed_to_copies() -> None:
    main = f"""graph @main(%x: {FLOAT}) -> (%y) {{
        {handle("v")}
        {handle("w").replace("shape[2]", "shape[1]")}
        %first = tf.StatefulPartitionedCall(%x, %v) {{f = @f}}
        %y = tf.StatefulPartitionedCall(%first, %w) {{f = @f}}
    }}"""
    model = model_of(main + CALLEE, v=[1, 2], w=[3])
    freeze(model)
    assert {name: str(f.inputs[1].type) for name, f in model.functions.items()} == {
        "f": "float32[2]",
        "f_frozen_1": "float32[1]",
    }


def test_a_variable_within_a_function() -> None:
    text = f"""graph @main(%x: {FLOAT}) -> (%y) {{ %y = tf.StatefulPartitionedCall(%x) {{f = @f}} }}
        function @f(%a: {FLOAT}) -> (%b) {{
          {handle("w")}
          %b = tf.StatefulPartitionedCall(%a, %w) {{f = @g}}
        }}
    """ + CALLEE.replace("@f", "@g")
    model = model_of(text, w=[1, 2])
    freeze(model)
    assert check(model, "frozen") == []
    assert list(model.functions) == ["f", "g"]


V1_LOOP = f"""graph @main(%x: {FLOAT}, %i: int32[2]) -> (%y) {{
    {handle("w")}
    %enter = tf.Enter(%x) {{frame_name = b"f"}}
    %handle = tf.Enter(%w) {{frame_name = b"f", is_constant = true}}
    %index = tf.Enter(%i) {{frame_name = b"f", is_constant = true}}
    %merge = tf.Merge(%enter, %next)
    %zero = tf.Const() {{value = float32[] 100.0}} after(%merge)
    %axes = tf.Const() {{value = int32[1] [0]}} after(%merge)
    %total = tf.Sum(%merge, %axes)
    %less = tf.Less(%total, %zero)
    %cond = tf.LoopCond(%less)
    %switch = tf.Switch(%merge, %cond)
    %body = tf.Identity(%switch:1)
    %rows = tf.ResourceGather(%handle, %index) {{dtype = float32, Tindices = int32}}
    %sum = tf.Add(%body, %rows)
    %next = tf.NextIteration(%sum)
    %y = tf.Exit(%switch)
}}"""


@pytest.mark.tensorflow
def test_a_loop_of_v1_control_flow() -> None:
    from graphopt.runtimes.tensorflow import TensorFlowRuntime

    model = model_of(V1_LOOP, w=[1, 2])
    freeze(model)
    axis = next(node for node in model.graph if node.name == "rows/axis")
    assert [node.name for node in axis.control_inputs] == ["handle"]  # in the frame of the loop
    feeds = {"x": np.array([1, 2], np.float32), "i": np.array([1, 1], np.int32)}
    found = TensorFlowRuntime().run(model, feeds)
    np.testing.assert_array_equal(found["y"], [51, 52])


def test_references_through_v1_control_flow() -> None:
    text = f"""graph @main(%p: bool[], %x: {FLOAT}) -> (%y) {{
        %v = tf.VariableV2() {{dtype = float32, shape = shape[2]}}
        %w = tf.VariableV2() {{dtype = float32, shape = shape[2]}}
        %sv = tf.RefSwitch(%v, %p)
        %sw = tf.RefSwitch(%w, %p)
        %m = tf.RefMerge(%sv, %sw:1)
        %y = tf.Mul(%x, %m)
    }}"""
    model = model_of(text, v=[1, 2], w=[3, 4])
    freeze(model)
    assert operators(model)[2:] == ["Const", "Const", "Switch", "Switch", "Merge", "Mul"]
    assert model.graph.node("m").output.dtype.name == "float32"
    stays = model_of(text, v=[1, 2], w=[3, 4])
    report = freeze(stays, exceptions=("w",))
    assert refusals(report) == {"v": "node 'm' (RefMerge) yields either it or 'w', which stays a variable"}
    assert operators(stays).count("VariableV2") == 2


@pytest.mark.parametrize("op", ["Assign", "AssignAdd", "ScatterUpdate"])
def test_references_that_are_written_to(op: str) -> None:
    indices = "%v, %i, %x" if op.startswith("Scatter") else "%v, %x"
    text = f"""graph @main(%x: {FLOAT}, %i: int32[2]) -> (%y) {{
        %v = tf.VariableV2() {{dtype = float32, shape = shape[2]}}
        %y = tf.{op}({indices}) {{T = float32, Tindices = int32}}
    }}"""
    text = text if op.startswith("Scatter") else text.replace(", Tindices = int32", "")
    report = freeze(model_of(text, v=[1, 2]))
    assert refusals(report) == {"v": f"node 'y' ({op}) changes it"}
    assert report.refusals[0]["nodes"] == ["y"]
    assert report.rewrites == 0


def test_a_variable_that_a_called_function_changes() -> None:
    text = f"""graph @main(%x: {FLOAT}) -> (%y) {{
        {handle("w")}
        {handle("v")}
        %y = tf.StatefulPartitionedCall(%x, %w, %v) {{f = @f}}
    }}
    function @f(%a: {FLOAT}, %h: resource[], %k: resource[]) -> (%b) {{
        %s = tf.AssignAddVariableOp(%h, %a) {{dtype = float32}}
        %r = tf.ReadVariableOp(%h) {{dtype = float32}} after(%s)
        %t = tf.ReadVariableOp(%k) {{dtype = float32}}
        %b = tf.Mul(%t, %r)
    }}"""
    model = model_of(text, w=[1, 2], v=[1, 2])
    report = freeze(model)
    assert refusals(report) == {"w": "node 's' (AssignAddVariableOp) of function 'f' changes it"}
    assert report.rules == {"freeze-variables": 1}
    assert [value.dtype.name for value in model.functions["f"].inputs] == ["float32", "resource", "float32"]


def test_what_no_output_needs_does_not_count_and_goes() -> None:
    text = f"""graph @main(%x: {FLOAT}) -> (%y) {{
        {handle("w")}
        {handle("v")}
        %y = tf.ReadVariableOp(%w) {{dtype = float32}}
        %restored = tf.Const() {{value = float32[2] [5.0, 6.0]}}
        %set = tf.AssignVariableOp(%w, %restored) {{dtype = float32}}
        %keep = tf.AssignVariableOp(%v, %restored) {{dtype = float32}}
        %init = tf.NoOp() after(%set, %keep)
    }}"""
    model = model_of(text, w=[1, 2], v=None)
    report = freeze(model)
    assert report.rules == {"freeze-variables": 1}
    assert report.refusals == []  # v has no value, and nothing needs it
    assert model.graph.find("set") is None
    assert [node.name for node in model.graph.node("init").control_inputs] == ["keep"]


def test_variables_without_a_value_or_of_another_shape() -> None:
    text = f"""graph @main(%x: {FLOAT}) -> (%a, %b) {{
        {handle("w")}
        {handle("v")}
        %a = tf.ReadVariableOp(%w) {{dtype = float32}}
        %b = tf.ReadVariableOp(%v) {{dtype = float32}}
    }}"""
    report = freeze(model_of(text, v=[1, 2, 3]))
    assert refusals(report) == {
        "w": "it has no value: no checkpoint gives it one and nothing that was read initialises it",
        "v": "its value has shape [3], and node 'v' declares [2]",
    }


def test_patterns() -> None:
    text = f"""graph @main() -> (%a, %b) {{
        {handle("w")}
        {handle("v")}
        %a = tf.ReadVariableOp(%w) {{dtype = float32}}
        %b = tf.ReadVariableOp(%v) {{dtype = float32}}
    }}"""
    model = model_of(text, w=[1, 2], v=[3, 4])
    with pytest.raises(UsageError, match="no variable matches 'u'; there are 'w', 'v'"):
        freeze(model, names=("u",))
    before = print_model(model)
    assert freeze(model, names=("?",), exceptions=("[vw]",)).rewrites == 0
    assert print_model(model) == before
    assert freeze(model, names=("w*",)).rewrites == 1
    assert list(model.variables) == ["v"]
    assert freeze(model).rewrites == 1
    assert check(model, "frozen") == []


def test_a_handle_carried_by_a_loop_and_a_branch_that_returns_one() -> None:
    text = f"""graph @main(%x: {FLOAT}, %p: bool[], %i: int32[]) -> (%y) {{
        {handle("w")}
        {handle("v")}
        %chosen = tf.If(%p, %w, %v) {{
          then_branch = @left, else_branch = @right, Tout = [resource], output_shapes = [shape[]]
        }}
        %loop = tf.While(%i, %x, %chosen) {{cond = @cond, body = @body, output_shapes = [shape[], shape[2], shape[]]}}
        %y = tf.Identity(%loop:1)
    }}
    function @left(%a: resource[], %b: resource[]) -> (%c) {{ %c = tf.Identity(%a) }}
    function @right(%a: resource[], %b: resource[]) -> (%c) {{ %c = tf.Identity(%b) }}
    function @cond(%i: int32[], %x: {FLOAT}, %h: resource[]) -> (%go) {{
        %ten = tf.Const() {{value = int32[] 10}}
        %go = tf.Less(%i, %ten)
    }}
    function @body(%i: int32[], %x: {FLOAT}, %h: resource[]) -> (%n, %z, %same) {{
        %one = tf.Const() {{value = int32[] 1}}
        %n = tf.Add(%i, %one)
        %r = tf.ReadVariableOp(%h) {{dtype = float32}}
        %z = tf.Add(%x, %r)
        %same = tf.Identity(%h)
    }}"""
    model = model_of(text, w=[1, 2], v=[3, 4])
    freeze(model)
    assert check(model, "frozen") == []
    chosen, loop = model.graph.node("chosen"), model.graph.node("loop")
    assert [dtype.name for dtype in chosen.attrs["Tout"]] == ["float32"]
    assert chosen.attrs["output_shapes"] == (Shape([2]),)
    assert [dtype.name for dtype in loop.attrs["T"]] == ["int32", "float32", "float32"]
    assert model.functions["body"].outputs[2].dtype.name == "float32"
    kept = model_of(text, w=[1, 2], v=[3, 4])
    report = freeze(kept, exceptions=("v",))
    assert refusals(report) == {"w": "node 'chosen' (If) yields either it or 'v', which stays a variable"}
    assert report.rewrites == 0


def test_initialisers_of_the_model_give_values_and_change_none() -> None:
    class Carried:
        initialisers = ("set",)

    text = f"""graph @main() -> (%y) targets(%set) {{
        {handle("w")}
        %y = tf.ReadVariableOp(%w) {{dtype = float32}}
        %first = tf.Const() {{value = float32[2] [5.0, 6.0]}}
        %set = tf.AssignVariableOp(%w, %first) {{dtype = float32}}
    }}"""
    model = model_of(text, w=[5, 6])
    assert refusals(freeze(model)) == {"w": "node 'set' (AssignVariableOp) changes it"}
    model.metadata["metagraph"] = Carried()
    assert freeze(model).rules == {"freeze-variables": 1}
    assert model.graph.node("set").op == "tf.NoOp"
    assert model.graph.targets == (model.graph.node("set"),)
