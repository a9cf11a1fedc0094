"""The Graph Transform Tool's own cases on graphs of bare nodes, through `TransformGraph`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import graphopt
from graphopt.compat.graph_transforms import TransformGraph
from graphopt.ir.formats.protos.graph_pb2 import GraphDef

CPU, GPU0, GPU1 = "/device:CPU:0", "/device:GPU:0", "/device:GPU:1"


# add_default_attributes


def test_add_default_attributes(bare: Callable, transformed: Callable, attr: Callable) -> None:
    graph_def = bare("lrn_node1=LRN(x)", "lrn_node2=LRN(x)", "x=Placeholder")
    attr(graph_def.node[1], "depth_radius").i = 7
    for name, value in (("bias", 2.0), ("alpha", 2.0), ("beta", 1.0)):
        attr(graph_def.node[1], name).f = value
    nodes = transformed(graph_def, "add_default_attributes").nodes
    for name, expected in (("lrn_node1", (5, 1.0, 1.0, 0.5)), ("lrn_node2", (7, 2.0, 2.0, 1.0))):
        floats = [attr(nodes[name], key).f for key in ("bias", "alpha", "beta")]
        assert (attr(nodes[name], "depth_radius").i, *floats) == expected


# obfuscate_names


@pytest.mark.parametrize("spelling", ["obfuscate_names", "obsfucate_names"])
def test_obfuscate_names_of_a_tree(tree: Any, transformed: Callable, spelling: str) -> None:
    found = transformed(tree, spelling, ["const_node1"], ["add_node1"])
    assert {"const_node1", "add_node1"} <= set(found.names)
    assert not {"add_node2", "add_node3", "const_node2", "const_node3", "const_node4"} & set(found.names)
    assert len(found.names) == 7


def test_obfuscate_names_of_many_nodes(bare: Callable, transformed: Callable) -> None:
    graph_def = bare(*(f"const_node{i}=Const" for i in range(1000)))
    names = transformed(graph_def, "obfuscate_names", ["const_node0"], ["const_node999"]).names
    assert {"const_node0", "const_node999"} <= set(names)
    assert "const_node500" not in names


def test_obfuscate_names_that_clash(bare: Callable, transformed: Callable) -> None:
    graph_def = bare(*(f"1{i}=Const" for i in range(1000)))
    names = transformed(graph_def, "obfuscate_names", ["10"], ["19"]).names
    assert {"10", "19"} <= set(names)
    assert len(set(names)) == 1000


# remove_attribute, rename_attribute, remove_device, remove_control_dependencies


@pytest.fixture
def attributed(bare: Callable, attr: Callable) -> Any:
    graph_def = bare("mul_node1=Mul(add_node2,add_node2)", "add_node2=Add(c,c)", "c=Const")
    attr(graph_def.node[0], "foo").i = 23
    attr(graph_def.node[0], "bar").s = b"something"
    attr(graph_def.node[1], "foo").i = 46
    attr(graph_def.node[1], "bob").i = 23
    attr(graph_def.node[1], "bar").s = b"something else"
    return graph_def


def attributes(found: Any, name: str) -> dict[str, Any]:
    return {entry.key: entry.value.i or entry.value.s for entry in found.nodes[name].attr}


@pytest.mark.parametrize(("op_name", "kept"), [("*", False), ("Mul", True)])
def test_remove_attribute(attributed: Any, transformed: Callable, op_name: str, kept: bool) -> None:
    found = transformed(attributed, f'remove_attribute(op_name="{op_name}", attribute_name=foo)')
    assert attributes(found, "mul_node1") == {"bar": b"something"}
    assert attributes(found, "add_node2") == {"bob": 23, "bar": b"something else"} | ({"foo": 46} if kept else {})


@pytest.mark.parametrize(("op_name", "key"), [("*", "baz"), ("Mul", "foo")])
def test_rename_attribute(attributed: Any, transformed: Callable, op_name: str, key: str) -> None:
    arguments = f"op_name={op_name}, old_attribute_name=foo, new_attribute_name=baz"
    found = transformed(attributed, f"rename_attribute({arguments})")
    assert attributes(found, "mul_node1") == {"baz": 23, "bar": b"something"}
    assert attributes(found, "add_node2") == {key: 46, "bob": 23, "bar": b"something else"}


def test_remove_control_dependencies(bare: Callable, transformed: Callable) -> None:
    graph_def = bare("a=Const", "b=Const(^a)", "add=Add(a,b,^b,^a)")
    found = transformed(graph_def, "remove_control_dependencies")
    assert found.inputs("b") == []
    assert found.inputs("add") == ["a", "b"]


@pytest.fixture
def placed(bare: Callable) -> Any:
    def make(mul: str, add: str) -> Any:
        graph_def = bare(
            "mul_node1=Mul(add_node2,add_node3)",
            "add_node2=Add(const_node1,const_node2)",
            "add_node3=Add(const_node1,const_node3)",
            "const_node1=Const",
            "const_node2=Const",
            "const_node3=Const",
            "add_node4=Add(add_node2,add_node3)",
        )
        graph_def.node[0].device, graph_def.node[1].device = mul, add
        return graph_def

    return make


def test_remove_device(placed: Callable, transformed: Callable) -> None:
    found = transformed(placed("//cpu:0", "//device:GPU:1"), "remove_device", ["mul_node1"], ["add_node4"])
    assert [node.device for node in found.nodes.values()] == [""] * 7


def test_set_device(placed: Callable, transformed: Callable) -> None:
    found = transformed(placed(CPU, GPU1), f"set_device(device={CPU})")
    assert [node.device for node in found.nodes.values()] == [CPU] * 7


def test_set_device_if_default(placed: Callable, transformed: Callable) -> None:
    found = transformed(placed(CPU, GPU1), f'set_device(device="{GPU0}", if_default=true)')
    assert [node.device for node in found.nodes.values()] == [CPU, GPU1, *[GPU0] * 5]


# remove_nodes


def test_remove_nodes(bare: Callable, transformed: Callable) -> None:
    graph_def = bare(
        "add_node1=Add(add_node2,add_node3)",
        "add_node2=Add(identity_node1,identity_node2)",
        "add_node3=Add(identity_node1,const_node3)",
        *(f"const_node{i}=Const" for i in (1, 2, 3)),
        *(f"identity_node{i}=Identity(const_node{i})" for i in (1, 2, 3)),
        "add_node4=Add(add_node2,add_node3)",
    )
    found = transformed(graph_def, "remove_nodes(op=Identity)", [], ["add_node1"])
    assert found.inputs("add_node1") == found.inputs("add_node4") == ["add_node2", "add_node3"]
    assert found.inputs("add_node2") == ["const_node1", "const_node2"]
    assert found.inputs("add_node3") == ["const_node1", "const_node3"]
    assert "Identity" not in found.operators()
    assert {"const_node1", "const_node2", "const_node3"} <= set(found.names)


def test_remove_nodes_keeps_outputs(bare: Callable, transformed: Callable) -> None:
    graph_def = bare("const_node1=Const", "const_node2=Const", "add_node=Add(const_node1,const_node2)")
    graph_def.node.add(name="identity_node", op="Identity", input=["add_node"])
    found = transformed(graph_def, "remove_nodes(op=Identity)", [], ["identity_node"])
    assert found.inputs("identity_node") == ["add_node"]
    assert found.inputs("add_node") == ["const_node1", "const_node2"]


def test_remove_nodes_in_a_chain_with_an_output_that_is_not_there(bare: Callable, transformed: Callable) -> None:
    graph_def = bare(
        "const_node1=Const",
        "const_node2=Const",
        "identity_node1=Identity(const_node1)",
        "identity_node2=Identity(identity_node1)",
        "identity_node3=Identity(identity_node2)",
        "add_node=Add(identity_node3,const_node2)",
    )
    found = transformed(graph_def, "remove_nodes(op=Identity)", [], ["identity_node"])
    assert found.inputs("add_node") == ["const_node1", "const_node2"]
    assert sorted(found.names) == ["add_node", "const_node1", "const_node2"]


def test_remove_nodes_of_several_inputs(bare: Callable, transformed: Callable) -> None:
    graph_def = bare(
        *(f"const_node{i}=Const" for i in (1, 2, 3, 4)),
        "fake_quant_node=FakeQuantWithMinMaxVars(const_node1,const_node2,const_node3)",
        "add_node=Add(fake_quant_node,const_node4)",
    )
    found = transformed(graph_def, "remove_nodes(op=FakeQuantWithMinMaxVars, max_inputs=3)", [], ["add_node"])
    assert found.inputs("add_node") == ["const_node1", "const_node4"]
    assert "fake_quant_node" not in found.names


# rename_node, rename_op


@pytest.fixture
def split(bare: Callable, attr: Callable) -> Any:
    graph_def = bare("axis=Const", "input=Placeholder", "splitter=Split(axis,input)", "adder=Add(splitter,splitter:1)")
    attr(graph_def.node[1], "dtype").type = 1
    attr(graph_def.node[2], "num_split").i = 2
    attr(graph_def.node[2], "T").type = 1
    return graph_def


def test_rename_node(split: Any, transformed: Callable) -> None:
    found = transformed(split, "rename_node(old_node_name=splitter, new_node_name=demux)", [], ["adder"])
    assert "splitter" not in found.names
    assert found.nodes["demux"].op == "Split"
    assert found.inputs("adder") == ["demux", "demux:1"]


def test_rename_node_to_a_name_that_exists(split: Any) -> None:
    with pytest.raises(graphopt.UsageError, match=r"'adder'.*already"):
        TransformGraph(split, [], ["adder"], ["rename_node(old_node_name=splitter, new_node_name=adder)"])


def test_rename_op(bare: Callable, transformed: Callable) -> None:
    graph_def = bare("mul_node1=Mul(add_node2,add_node3)", "add_node2=Add(c,c)", "add_node3=Add(c,c)", "c=Const")
    found = transformed(graph_def, "rename_op(old_op_name=Mul, new_op_name=Multiply)")
    assert found.operators() == ["Multiply", "Add", "Add", "Const"]


# sort_by_execution_order


def order(found: Any) -> dict[str, int]:
    return {name: place for place, name in enumerate(found.names)}


def test_sort_an_addition(bare: Callable, transformed: Callable) -> None:
    places = order(transformed(bare("add=Add(a,b)", "b=Const", "a=Const"), "sort_by_execution_order"))
    assert places["add"] == 2


def test_sort_a_chain(bare: Callable, transformed: Callable) -> None:
    graph_def = bare("negative=Neg(sqrt)", "relu=Relu(const)", "sqrt=Sqrt(relu)", "const=Const")
    assert transformed(graph_def, "sort_by_execution_order").names == ["const", "relu", "sqrt", "negative"]


def test_sort_a_tree(tree: Any, transformed: Callable) -> None:
    places = order(transformed(tree, "sort_by_execution_order"))
    assert places["add_node1"] == 6
    assert max(places["add_node2"], places["add_node3"]) < 6
    assert max(places[f"const_node{i}"] for i in range(1, 5)) < 5


def test_sort_with_a_common_ancestor(dag: Any, transformed: Callable) -> None:
    places = order(transformed(dag, "sort_by_execution_order"))
    assert places["add_node1"] == 5
    assert max(places["add_node2"], places["add_node3"]) < 5
    assert max(places["const_node2"], places["const_node3"]) < 4
    assert places["const_node1"] < 3


# strip_unused_nodes


def test_strip_an_addition(bare: Callable, transformed: Callable) -> None:
    graph_def = bare("add_node=Add(a_node,b_node)", "a_node=Const", "b_node=Const", "c_node=Const")
    assert transformed(graph_def, "strip_unused_nodes", [], ["add_node"]).names == ["add_node", "a_node", "b_node"]


def test_strip_keeps_inputs_that_nothing_reads(dag: Any, transformed: Callable) -> None:
    dag.node.add(name="dangling_input", op="Const")
    dag.node.add(name="add_node4", op="Add", input=["add_node2", "add_node3"])
    found = transformed(dag, "strip_unused_nodes", ["dangling_input"], ["add_node1"])
    assert "add_node4" not in found.names
    assert "dangling_input" in found.names
    assert len(found.names) == 7


STRIPPED = (
    "add_node=Add(mul_node,a_node)",
    "mul_node=Mul(b_node,c_node)",
    "a_node=Const",
    "b_node=Const",
    "c_node=Const",
)
FLOAT, INT32, INT64, QUINT8 = 1, 3, 9, 12


@pytest.fixture
def placeholder(attr: Callable) -> Callable:
    def check(found: Any, name: str) -> tuple[int, list[int]]:
        node = found.nodes[name]
        assert node.op == "Placeholder"
        assert not node.input
        assert not attr(node, "shape").shape.unknown_rank
        return attr(node, "dtype").type, [dim.size for dim in attr(node, "shape").shape.dim]

    return check


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("", (FLOAT, [])), ('(type=int32, shape="1,2,3")', (INT32, [1, 2, 3]))],
)
def test_strip_makes_placeholders(
    bare: Callable, transformed: Callable, arguments: str, expected: Any, placeholder: Callable
) -> None:
    found = transformed(bare(*STRIPPED), f"strip_unused_nodes{arguments}", ["mul_node"], ["add_node"])
    assert placeholder(found, "mul_node") == expected
    assert sorted(found.names) == ["a_node", "add_node", "mul_node"]


def test_strip_makes_placeholders_one_by_one(bare: Callable, transformed: Callable, placeholder: Callable) -> None:
    arguments = (
        'name=a_node, type_for_name=int64, shape_for_name="1,2",'
        ' name=mul_node, type_for_name=quint8, shape_for_name="1, 2, 3"'
    )
    found = transformed(bare(*STRIPPED), f"strip_unused_nodes({arguments})", ["mul_node", "a_node"], ["add_node"])
    assert placeholder(found, "a_node") == (INT64, [1, 2])
    assert placeholder(found, "mul_node") == (QUINT8, [1, 2, 3])


def test_strip_leaves_placeholders_as_they_are(bare: Callable, transformed: Callable, attr: Callable) -> None:
    graph_def = bare("x=Placeholder", "y=Relu(x)")
    attr(graph_def.node[0], "dtype").type = INT32
    found = transformed(graph_def, 'strip_unused_nodes(type=float, shape="1,2")', ["x"], ["y"])
    assert found.nodes["x"] == graph_def.node[0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("type=floaty", "cannot understand the type 'floaty'"),
        ("type=float, type=int32", "takes one 'type'"),
        ("name=mul_node", "needs a 'type_for_name' for every 'name'"),
        ("name=mul_node, type_for_name=float", "needs a 'shape_for_name' for every 'name'"),
        ('shape="1,x"', "no shape"),
    ],
)
def test_strip_with_wrong_arguments(bare: Callable, arguments: str, reason: str) -> None:
    with pytest.raises(graphopt.UsageError, match=reason):
        TransformGraph(bare(*STRIPPED), ["mul_node"], ["add_node"], [f"strip_unused_nodes({arguments})"])


def test_strip_to_a_type_that_readers_do_not_take(bare: Callable, attr: Callable) -> None:
    graph_def = bare("x=Placeholder", "a=Relu(x)", "y=Relu(a)")
    attr(graph_def.node[0], "dtype").type = INT32
    for node in graph_def.node[1:]:
        attr(node, "T").type = INT32
    with pytest.raises(graphopt.UsageError, match="what reads it expects int32"):
        TransformGraph(graph_def, ["a"], ["y"], ["strip_unused_nodes(type=float)"])


def test_strip_to_an_output_that_is_not_there(dag: Any) -> None:
    with pytest.raises(graphopt.UsageError, match="there is no 'nowhere' in the graph"):
        TransformGraph(dag, [], ["add_node1", "nowhere"], ["strip_unused_nodes"])


# inline_partitionedcall


def test_inline_checks_the_call(bare: Callable) -> None:
    with pytest.raises(graphopt.UsageError, match="no function in attribute 'f' of node 'call'"):
        TransformGraph(bare("call=PartitionedCall"), [], ["call"], ["inline_partitionedcall"])


def test_inline_of_a_call_that_passes_too_little(bare: Callable, attr: Callable) -> None:
    graph_def = bare("call=PartitionedCall")
    attr(graph_def.node[0], "f").func.name = "unary"
    function = graph_def.library.function.add()
    function.signature.name = "unary"
    function.signature.input_arg.add(name="x", type=FLOAT)
    function.signature.output_arg.add(name="y", type=FLOAT)
    function.ret.add(key="y", value="x")
    with pytest.raises(graphopt.UsageError, match="passes 0 values to 'unary', which takes 1"):
        TransformGraph(graph_def, [], ["call"], ["inline_partitionedcall"])


# The engine


@pytest.mark.parametrize(
    "transforms",
    [
        ["strip_unused_nodes"],
        "strip_unused_nodes",
        ["sort_by_execution_order", "strip_unused_nodes()"],
    ],
)
def test_the_function_takes_what_the_tool_took(bare: Callable, transforms: Any) -> None:
    graph_def = bare("input1=Const", "input2=Const", "add_op=Add(input1,input2)", "relu_op=Relu(add_op)")
    result = TransformGraph(graph_def, [], ["add_op"], transforms)
    assert type(result) is GraphDef
    assert [node.name for node in result.node] == ["input1", "input2", "add_op"]


def test_renamed_outputs_are_followed(bare: Callable, transformed: Callable) -> None:
    graph_def = bare("a=Const", "y=Relu(a)", "z=Relu(y)")
    steps = "rename_node(old_node_name=y, new_node_name=output) strip_unused_nodes"
    assert transformed(graph_def, steps, [], ["y"]).names == ["a", "output"]
    assert transformed(graph_def, steps, [], ["output"]).names == ["a", "output"]


def test_all_ports_of_an_output_count(split: Any, transformed: Callable) -> None:
    names = ["splitter:1", "splitter:0", "^splitter"]
    assert transformed(split, "strip_unused_nodes", ["input:0", ""], names).names == ["axis", "input", "splitter"]


def test_nodes_without_outputs_can_be_outputs(bare: Callable, transformed: Callable) -> None:
    graph_def = bare("a=Const", "group=NoOp(^a)", "b=Const")
    assert transformed(graph_def, "strip_unused_nodes", [], ["group"]).names == ["a", "group"]


@pytest.mark.parametrize("flag", ["true", "TRUE"])
def test_errors_can_be_ignored(split: Any, transformed: Callable, flag: str) -> None:
    failing = f"rename_node(old_node_name=splitter, new_node_name=adder, ignore_errors={flag})"
    steps = f"{failing} rename_op(old_op_name=Add, new_op_name=Sum2)"
    found = transformed(split, steps, [], ["adder"])
    assert found.inputs("adder") == ["splitter", "splitter:1"]
    assert found.nodes["adder"].op == "Sum2"


@pytest.mark.parametrize("flag", ["false", "foo"])
def test_errors_are_errors(split: Any, flag: str) -> None:
    step = f"rename_node(old_node_name=splitter, new_node_name=adder, ignore_errors={flag})"
    with pytest.raises(graphopt.UsageError, match="already" if flag == "false" else "should be true or false, found"):
        TransformGraph(split, [], ["adder"], [step])


def test_an_ignored_error_leaves_the_graph_as_it_was(bare: Callable, transformed: Callable) -> None:
    graph_def = bare(*STRIPPED)
    found = transformed(graph_def, 'strip_unused_nodes(shape="x", ignore_errors=true)', ["mul_node"], ["add_node"])
    assert list(found.nodes.values()) == list(graph_def.node)


def test_a_transform_that_never_was(dag: Any) -> None:
    with pytest.raises(graphopt.UsageError, match="'strip_unused_node' not recognized; did you mean"):
        TransformGraph(dag, [], [], ["strip_unused_node"])


def test_a_transform_that_is_not_here(dag: Any) -> None:
    expected = "transform 'quantize_weights' of transform_graph is not part of this version of graphopt"
    with pytest.raises(graphopt.UsageError, match=f"^{expected}$"):
        TransformGraph(dag, [], [], ["quantize_weights(minimum_size=16)"])


def test_unknown_names_are_found_before_anything_runs(split: Any) -> None:
    steps = ["rename_node(old_node_name=splitter, new_node_name=adder)", "test_no_such_transform"]
    with pytest.raises(graphopt.UsageError, match="not recognized"):
        TransformGraph(split, [], ["adder"], steps)
