"""The verifier accepts what is right and names everything that is broken."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable

import numpy as np
import pytest

from graphopt.ir import (
    ArrayTensor,
    Function,
    FunctionRef,
    Graph,
    Model,
    Node,
    Shape,
    VerificationError,
    tensor,
    tensor_type,
)
from graphopt.ir.model import Signature
from graphopt.ir.text import parse_graph, parse_model
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Value
from graphopt.ir.verifier import LIMIT, problems, verify
from graphopt.testing import random_model

TEXT = """
graph @main(%x: float32[?, 2]) -> (%y) targets(%done) {
  %w = tf.Const() {value = float32[2, 2] [1.0, 2.0, 3.0, 4.0]}
  %mm = tf.MatMul(%x, %w)
  %s = tf.Split(%axis, %mm) {num_split = 2}
  %axis = tf.Const() {value = int32[] 1}
  %sum = tf.AddV2(%s, %s:1)
  %y = tf.PartitionedCall(%sum) {f = @f}
  %done = tf.NoOp() after(%y)
}
function @f(%a: float32[*]) -> (%b) {
  %b = tf.Relu(%a)
}
signature "serving_default"(x = %x) -> (y = %y)
"""


def model() -> Model:
    return parse_model(TEXT)


def test_a_right_model_has_no_problems() -> None:
    assert problems(model()) == []
    verify(model())
    verify(model().graph)
    verify(Graph())


@pytest.mark.parametrize("seed", range(20))
def test_random_models_have_no_problems(seed: int) -> None:
    assert problems(random_model(seed)) == []


def damage_links(m: Model) -> None:
    m.graph.node("mm")._prev = None


def damage_graph(m: Model) -> None:
    m.graph.node("mm").graph = None


def damage_name(m: Model) -> None:
    m.graph.node("mm")._name = "w"


def damage_name_table(m: Model) -> None:
    del m.graph._names["y"]


def damage_last(m: Model) -> None:
    m.graph._last = m.graph._first


def damage_links_into_a_circle(m: Model) -> None:
    m.graph.node("done")._next = m.graph.node("done")


def damage_use(m: Model) -> None:
    m.graph.node("x").output._uses = None


def damage_stray_use(m: Model) -> None:
    uses = m.graph.node("x").output._uses
    assert uses is not None
    uses[m.graph.node("axis"), 3] = None


def damage_foreign_input(m: Model) -> None:
    m.graph.node("sum").replace_input(0, m.functions["f"].node("b").output)


def damage_removed_input(m: Model) -> None:
    other = Graph()
    m.graph.node("sum").replace_input(0, other.create_node("tf.Relu", types=(tensor_type("float32"),)).output)


def damage_left_out_input(m: Model) -> None:
    m.graph.node("sum").replace_input(0, None)


def damage_output_index(m: Model) -> None:
    m.graph.node("s").outputs[1].index = 0


def damage_output_owner(m: Model) -> None:
    m.graph.node("y").outputs[0].node = m.graph.node("mm")


def damage_wait(m: Model) -> None:
    m.graph.node("y")._control_users = None


def damage_stray_wait(m: Model) -> None:
    m.graph.node("w")._control_users = {m.graph.node("mm"): None}


def damage_foreign_wait(m: Model) -> None:
    m.graph.node("done").add_control_input(m.functions["f"].node("b"))


def damage_input_count(m: Model) -> None:
    m.graph.node("x").output._inputs = 2


def damage_unlisted_output(m: Model) -> None:
    m.graph.node("w").output._outputs = 1


def damage_graph_output(m: Model) -> None:
    m.graph._outputs = (m.functions["f"].node("b").output,)


def damage_target(m: Model) -> None:
    m.graph._targets = {m.functions["f"].node("b"): None}


def damage_cycle(m: Model) -> None:
    m.graph.node("mm").replace_input(0, m.graph.node("sum").output)


def damage_self(m: Model) -> None:
    m.graph.node("sum").replace_input(0, m.graph.node("sum").output)


def damage_number_of_inputs(m: Model) -> None:
    m.graph.node("sum").set_inputs([m.graph.node("s").output])


def damage_input_type(m: Model) -> None:
    m.graph.node("axis").output.type = tensor_type("float32")
    del m.graph.node("axis").attrs["value"], m.graph.node("axis").attrs["dtype"]


def damage_output_type(m: Model) -> None:
    m.graph.node("sum").output.type = tensor_type("int32")


def damage_number_of_outputs(m: Model) -> None:
    m.graph.node("sum").add_output()


def damage_absurd_count(m: Model) -> None:
    m.graph.node("s").attrs["num_split"] = -1


def damage_attribute_kind(m: Model) -> None:
    m.graph.node("mm").attrs["transpose_a"] = 1


def damage_attribute_value(m: Model) -> None:
    m.graph.node("mm").attrs["_note"] = "text"


def damage_attribute_list(m: Model) -> None:
    m.graph.node("y").attrs["Tin"] = (FLOAT32, 1)


def damage_constant_dtype(m: Model) -> None:
    m.graph.node("w").attrs["value"] = tensor(np.ones((2, 2), np.int32))


def damage_constant_shape(m: Model) -> None:
    m.graph.node("w").attrs["value"] = tensor(np.ones((3, 2), np.float32))


def damage_function_reference(m: Model) -> None:
    m.graph.node("y").attrs["f"] = FunctionRef("gone")


def damage_call(m: Model) -> None:
    body = m.functions["f"]
    body.node("b").replace_input(0, body.create_node("tf.Const", types=(tensor_type("float32"),)).output)
    body.inputs, body.input_names = (), []


def damage_call_type(m: Model) -> None:
    m.functions["f"].node("a").output.type = tensor_type("int32")


def damage_recursion(m: Model) -> None:
    node = m.functions["f"].node("b")
    node.op, node.attrs = "tf.PartitionedCall", {"f": FunctionRef("f"), "Tin": (FLOAT32,), "Tout": (FLOAT32,)}


def damage_function_names(m: Model) -> None:
    m.functions["f"].output_names = ["b", "c"]


def damage_function_name_twice(m: Model) -> None:
    body = m.functions["f"]
    body.outputs, body.output_names = (body.outputs[0],) * 2, ["b", "b"]


def damage_control_output(m: Model) -> None:
    m.functions["f"].control_outputs = {"c": m.functions["f"].node("b")}


def damage_gradient(m: Model) -> None:
    m.functions["f"].gradient = "nobody"


def damage_library_key(m: Model) -> None:
    m.functions["g"] = m.functions.pop("f")


def damage_library_owner(m: Model) -> None:
    m.functions["f"].model = None


def damage_signature_place(m: Model) -> None:
    m.signatures["serving_default"].outputs["y"] = 1


def damage_signature_graph(m: Model) -> None:
    m.signatures["serving_default"] = Signature(Graph())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_links, "node 'mm' (tf.MatMul) is not linked as a node of its graph is"),
        (damage_graph, "node 'mm' (tf.MatMul) is not linked as a node of its graph is"),
        (damage_name, "node 'w' (tf.MatMul) has a name that the graph knows for another node"),
        (
            damage_name_table,
            "node 'y' (tf.PartitionedCall) has a name that the graph knows for another node or not at all",
        ),
        (damage_last, "graph 'main' lists 8 nodes and knows 8 names"),
        (damage_links_into_a_circle, "node 'done' (tf.NoOp) is not linked as a node of its graph is"),
        (damage_use, "node 'mm' (tf.MatMul) reads 'x' at 0, which does not know of the use"),
        (damage_stray_use, "node 'x' (tf.Placeholder) believes that 'axis' reads 'x'"),
        (damage_foreign_input, "node 'sum' (tf.AddV2) reads 'b' at 0, which is no value of the graph"),
        (damage_removed_input, "node 'sum' (tf.AddV2) reads 'Relu' at 0, which is no value of the graph"),
        (damage_left_out_input, "node 'sum' (tf.AddV2) has None as input 0"),
        (damage_output_index, "node 's' (tf.Split) has an output 1 that takes itself for another"),
        (damage_output_owner, "node 'y' (tf.PartitionedCall) has an output 0 that takes itself for another"),
        (damage_wait, "node 'done' (tf.NoOp) waits for 'y', which does not know it"),
        (damage_stray_wait, "node 'w' (tf.Const) believes that 'mm' waits for it"),
        (damage_foreign_wait, "node 'done' (tf.NoOp) waits for 'b', which is no node of the graph"),
        (damage_input_count, "node 'x' (tf.Placeholder) counts 2 listings as graph input instead of 1"),
        (damage_unlisted_output, "graph 'main' has values that take themselves for its inputs or outputs"),
        (damage_graph_output, "graph 'main' has an output 'b' that is none of its values"),
        (damage_target, "graph 'main' has a target 'b' that is none of its nodes"),
        (damage_cycle, "graph 'main' has a cycle: "),
        (damage_self, "graph 'main' has a cycle: 'sum'"),
        (damage_number_of_inputs, "node 'sum' (tf.AddV2) has 1 inputs, and its attributes ask for 2"),
        (damage_input_type, "node 's' (tf.Split) has float32 as input 0, and its attributes ask for int32"),
        (damage_output_type, "node 'sum' (tf.AddV2) has int32 as output 0, and its attributes ask for float32"),
        (damage_number_of_outputs, "node 'sum' (tf.AddV2) has 2 outputs, and its attributes ask for 1"),
        (damage_absurd_count, "node 's' (tf.Split) is absurd: attribute 'num_split' must be a number between 0 and"),
        (damage_attribute_kind, "node 'mm' (tf.MatMul) has a int as attribute 'transpose_a', where bool is declared"),
        (damage_attribute_value, "node 'mm' (tf.MatMul) has a str as attribute '_note', which is no attribute value"),
        (damage_attribute_list, "node 'y' (tf.PartitionedCall) has a int in the list of attribute 'Tin'"),
        (damage_constant_dtype, "node 'w' (tf.Const) holds a tensor of int32 under dtype = float32"),
        (damage_constant_shape, "node 'w' (tf.Const) holds a tensor of float32[3, 2] under type float32[2, 2]"),
        (damage_function_reference, "refers to function 'gone', which is not in the library"),
        (damage_call, "node 'y' (tf.PartitionedCall) passes 1 values to 'f', which takes 0"),
        (damage_call_type, "node 'y' (tf.PartitionedCall) passes float32 to 'f' at 0, which takes int32"),
        (damage_recursion, "has functions that call themselves, directly or through others: 'f'"),
        (damage_function_names, "graph 'f' has 1 outputs and 2 names for them"),
        (damage_function_name_twice, "graph 'f' gives two outputs the same name"),
        (damage_control_output, "graph 'f' has a control output 'c' that is no target"),
        (damage_gradient, "graph 'f' has a gradient function 'nobody' that is not in the library"),
        (damage_library_key, "knows function 'f' by the name 'g'"),
        (damage_library_owner, "is listed in a model, and 'f' does not know it"),
        (damage_signature_place, "has no output 1 for 'y' of 'serving_default'"),
        (damage_signature_graph, "has a signature 'serving_default' of no graph of the model"),
    ],
)
def test_every_broken_invariant_is_named(damage: Callable[[Model], None], message: str) -> None:
    broken = model()
    damage(broken)
    found = problems(broken)
    assert any(message in problem for problem in found), found
    with pytest.raises(VerificationError, match=re.escape(message)):
        verify(broken)


@pytest.mark.parametrize("damage", [damage_input_type, damage_constant_dtype, damage_call_type, damage_attribute_kind])
def test_what_nodes_ask_of_one_another_may_be_left_out(damage: Callable[[Model], None]) -> None:
    broken = model()
    damage(broken)
    assert problems(broken)
    verify(broken, contracts=False)
    damage_use(broken)
    damage_recursion(broken)
    assert len(problems(broken, contracts=False)) == 2


def test_problems_are_bounded() -> None:
    graph = Graph()
    for _ in range(100):
        graph.create_node("tf.Relu", attrs={"T": FLOAT32}, types=(tensor_type("int32"),))
    assert len(problems(graph)) == LIMIT
    assert len(problems(graph, limit=3)) == 3
    with pytest.raises(VerificationError, match="breaks 20 of its invariants \\(there may be more\\)"):
        verify(graph)


def test_names_in_problems_are_safe_to_print() -> None:
    graph = Graph()
    graph.create_node("tf.Relu", attrs={"T": FLOAT32}, name="a\x1b[2J", types=(tensor_type("int32"),))
    assert all(problem.isprintable() for problem in problems(graph))


# What is left open is no problem ------------------------------------------------------------------------------


def test_old_graphs_lack_attributes_and_types() -> None:
    graph = Graph()
    x = graph.create_node("tf.Placeholder").output
    graph.create_node("tf.Relu", [x])
    graph.create_node("tf.Split", [x, x], types=())
    graph.create_node("tf.AddV2", [x, x], {"T": FLOAT32}, types=(tensor_type("float32"),))
    assert problems(graph) == []


def test_unknown_operators_and_foreign_dialects_are_left_alone() -> None:
    graph = Graph()
    x = graph.create_node("tf.NeverHeardOf", attrs={"anything": (1, 2)}, types=()).add_output()
    graph.create_node("tfl.CONV_2D", [x, None], types=(tensor_type("int8"),))
    assert problems(graph) == []


def test_references_stand_where_plain_values_are_asked_for_and_not_the_other_way() -> None:
    graph = Graph()
    attrs = {"dtype": FLOAT32, "shape": Shape(())}
    variable = graph.create_node("tf.VariableV2", attrs=attrs, types=(tensor_type("float32_ref"),)).output
    graph.create_node("tf.Relu", [variable], {"T": FLOAT32}, types=(tensor_type("float32"),))
    assert problems(graph) == []
    plain = graph.create_node("tf.Const", types=(tensor_type("float32"),)).output
    graph.create_node("tf.Assign", [plain, plain], {"T": FLOAT32}, types=(tensor_type("float32_ref"),))
    assert problems(graph) == [
        "node 'Assign' (tf.Assign) has float32 as input 0, and its attributes ask for float32_ref"
    ]


def test_generic_bodies_take_their_types_from_the_instantiation() -> None:
    verify(parse_graph("function @f(%a: unknown[*]) -> (%b) { %b = tf.Relu(%a) {T = $T} : unknown[*] }"))


def test_loops_of_version_one_are_no_cycles() -> None:
    verify(
        parse_graph("""
    graph @main(%x: int32[]) -> (%exit) {
      %enter = tf.Enter(%x) {frame_name = b"loop"}
      %merge = tf.Merge(%enter, %next)
      %cond = tf.LoopCond(%less)
      %less = tf.Less(%merge, %x)
      %switch = tf.Switch(%merge, %cond)
      %exit = tf.Exit(%switch)
      %next = tf.NextIteration(%switch:1)
    }""")
    )


def test_functions_may_be_called_as_operators_and_operators_as_functions() -> None:
    m = model()
    x = m.graph.node("x").output
    m.graph.create_node("tf.f", [x], types=(tensor_type("float32"),))
    m.graph.create_node("tf.SymbolicGradient", [x], {"f": FunctionRef("MatMul")}, types=(tensor_type("float32"),))
    assert problems(m) == []


def test_a_tensor_of_somebody_elses_class_is_a_tensor() -> None:
    class Mine(ArrayTensor):
        __slots__ = ()

    m = model()
    m.graph.node("w").attrs["value"] = Mine(np.ones((2, 2), np.float32))
    assert problems(m) == []


# Size and depth -----------------------------------------------------------------------------------------------


def chain(length: int) -> Graph:
    graph = Graph()
    value = graph.create_node("tf.Placeholder", attrs={"dtype": FLOAT32}, types=(tensor_type("float32"),)).output
    for _ in range(length):
        value = graph.create_node("tf.Relu", [value], {"T": FLOAT32}, types=(tensor_type("float32"),)).output
    graph.outputs = [value]
    return graph


def test_deep_graphs_in_any_order() -> None:
    graph = chain(10_000)
    verify(graph)
    graph.reorder(list(reversed(list(graph))))
    verify(graph)


def test_deep_calls() -> None:
    m = Model()
    for place in range(5_000):
        function = Function(f"f{place}")
        m.add_function(function)
        function.create_node("tf.PartitionedCall", attrs={"f": FunctionRef(f"f{place + 1}")}, types=())
    m.functions["f4999"].remove(m.functions["f4999"].node("PartitionedCall"))
    assert problems(m) == []


def test_each_edge_is_looked_at_once() -> None:
    class Counting(dict[tuple[Node, int], None]):
        asked = 0

        def __contains__(self, key: object) -> bool:
            Counting.asked += 1
            return super().__contains__(key)

    graph = chain(100)
    values: list[Value] = [value for node in graph for value in node.outputs]
    for value in values:
        value._uses = Counting(value._uses or {})
    verify(graph)
    assert Counting.asked == 100


# Real models --------------------------------------------------------------------------------------------------

# TensorFlow imports these and cannot run them; the reasons are the verifier's.
CONTRADICTORY = {
    "function_functional_while.pbtxt": "passes int32 to 'Cond_Xf5ttAHgUCg' at 0, which takes float32",
    "tensor-list.pbtxt": "holds a tensor of int32 under dtype = float32",
}


def test_the_corpus_is_accepted(corpus: pathlib.Path) -> None:
    """What TensorFlow loads is whole, and apart from two files no node contradicts another."""
    from graphopt.ir.formats import graphdef

    checked, refused = 0, {}
    for entry in json.loads((corpus / "MANIFEST.json").read_text()):
        path = corpus / entry["path"]
        if entry["kind"] != "graphdef" or not entry["loads"] or path.suffix not in (".pb", ".pbtxt"):
            continue
        loaded = graphdef.load(path)
        verify(loaded, contracts=False)
        found = problems(loaded)
        reason = CONTRADICTORY.get(path.name)
        if not (found == [] if reason is None else any(reason in problem for problem in found)):
            refused[entry["path"]] = found
        checked += 1
    assert refused == {}
    assert checked > 100
