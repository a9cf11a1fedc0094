"""The function library: into graphs and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef
from graphopt.ir.errors import MalformedError, UnsupportedError
from graphopt.ir.formats.graphdef import graphdef_bytes, read_graphdef
from graphopt.ir.formats.protos import graph_pb2 as pb
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model
from graphopt.ir.types import FLOAT32, INT32, UNKNOWN_DTYPE, tensor_type


def entry(key: str, **value: Any) -> pb.AttrEntry:
    return pb.AttrEntry(key=key, value=pb.AttrValue(**value))


def text(key: str, value: str) -> pb.FunctionDef.TextEntry:
    return pb.FunctionDef.TextEntry(key=key, value=value)


def library(*functions: pb.FunctionDef, **fields: Any) -> bytes:
    return pb.GraphDef(library=pb.FunctionDefLibrary(function=functions, **fields)).SerializeToString()


FLOAT = [entry("T", type=pb.DT_FLOAT)]
ARGUMENTS = [
    pb.OpDef.ArgDef(name="x", type=pb.DT_FLOAT, description="what goes in"),
    pb.OpDef.ArgDef(name="r", type=pb.DT_RESOURCE, handle_data=[{"dtype": pb.DT_FLOAT}]),
]


def full() -> pb.FunctionDef:
    """A function that uses every field."""
    signature = pb.OpDef(
        name="body",
        input_arg=ARGUMENTS,
        output_arg=[pb.OpDef.ArgDef(name="y", type=pb.DT_FLOAT), pb.OpDef.ArgDef(name="i", type=pb.DT_INT32)],
        control_output=["done", "also"],
        attr=[pb.OpDef.AttrDef(name="k", type="int", default_value=pb.AttrValue(i=3), has_minimum=True, minimum=1)],
        summary="sums up",
        description="describes",
        is_stateful=True,
    )
    nodes = [
        pb.NodeDef(name="late", op="AddV2", input=["switch:output_true:0", "x", "^noop"], attr=FLOAT),
        pb.NodeDef(name="p", op="Placeholder", attr=[entry("dtype", type=pb.DT_BOOL)]),
        pb.NodeDef(name="switch", op="Switch", input=["x", "p:output:0"], attr=FLOAT, device="/cpu:0"),
        pb.NodeDef(name="merge", op="Merge", input=["late:z:0", "x"], attr=[entry("N", i=2), *FLOAT]),
        pb.NodeDef(name="noop", op="NoOp", input=["^r"]),
    ]
    return pb.FunctionDef(
        signature=signature,
        node_def=nodes,
        ret=[text("y", "late:z:0"), text("i", "merge:value_index:0")],
        control_ret=[text("done", "noop"), text("also", "late")],
        attr=[entry("_XlaCompile", b=True), entry("api", s=b"x")],
        arg_attr=[
            pb.FunctionDef.ArgAttrEntry(
                key=0, value=pb.FunctionDef.ArgAttrs(attr=[entry("_user_specified_name", s=b"x")])
            ),
            pb.FunctionDef.ArgAttrEntry(key=1, value=pb.FunctionDef.ArgAttrs()),
        ],
        resource_arg_unique_id=[pb.FunctionDef.NumberEntry(key=1, value=5)],
    )


def test_every_field_is_kept() -> None:
    data = library(
        full(),
        pb.FunctionDef(signature=pb.OpDef(name="g")),
        gradient=[pb.GradientDef(function_name="body", gradient_func="g")],
        registered_gradients=[pb.RegisteredGradient(gradient_func="g", registered_op_type="Relu")],
    )
    assert pb.GraphDef.FromString(graphdef_bytes(read_graphdef(data))) == pb.GraphDef.FromString(data)


def test_an_empty_library_is_kept() -> None:
    for data in (b"", b"\x12\x00"):
        assert graphdef_bytes(read_graphdef(data)) == data


def test_functions_are_graphs() -> None:
    function = read_graphdef(library(full())).functions["body"]
    assert [node.op for node in function][:3] == ["tf._Arg", "tf._Arg", "tf.AddV2"]
    assert [value.dtype.name for value in function.inputs] == ["float32", "resource"]
    assert function.input_names == ["x", "r"]
    assert [value.name for value in function.outputs] == ["late", "merge:1"]
    assert [value.dtype for value in function.outputs] == [FLOAT32, INT32]
    assert function.output_names == ["y", "i"]
    assert list(function.control_outputs) == ["done", "also"]
    assert [node.name for node in function.targets] == ["noop", "late"]
    assert function.attrs == {"_XlaCompile": True, "api": b"x"}
    assert function.node("x").attrs == {"index": 0, "T": FLOAT32, "_user_specified_name": b"x"}
    assert function.node("r").attrs["_resource_arg_unique_id"] == 5
    assert [value.name for value in function.node("late").inputs if value is not None] == ["switch:1", "x"]
    assert function.node("late").control_inputs == (function.node("noop"),)


def test_a_clone_writes_the_same_bytes() -> None:
    model = read_graphdef(library(full()))
    assert graphdef_bytes(model.clone()) == graphdef_bytes(model)


def test_generic_functions_keep_their_placeholders() -> None:
    signature = pb.OpDef(
        name="generic",
        input_arg=[
            pb.OpDef.ArgDef(name="x", type_attr="T"),
            pb.OpDef.ArgDef(name="xs", type_attr="T", number_attr="N"),
            pb.OpDef.ArgDef(name="ys", type_list_attr="Ts"),
        ],
        output_arg=[
            pb.OpDef.ArgDef(name="y", type_attr="T"),
            pb.OpDef.ArgDef(name="parts", type_attr="T", number_attr="P"),
        ],
        attr=[pb.OpDef.AttrDef(name="T", type="type"), pb.OpDef.AttrDef(name="Ts", type="list(type)")],
    )
    t = entry("T", placeholder="T")
    nodes = [
        pb.NodeDef(name="a", op="AddV2", input=["x", "xs:2"], attr=[t]),
        pb.NodeDef(name="b", op="IdentityN", input=["xs:0", "ys:1"], attr=[entry("T", placeholder="Ts")]),
        pb.NodeDef(name="c", op="Relu", input=["b:output:1"], attr=[t]),
        pb.NodeDef(name="s", op="Split", input=["c:activations:0", "x"], attr=[t, entry("num_split", i=2)]),
        pb.NodeDef(name="n", op="AddN", input=["s:output"], attr=[entry("N", i=2), t]),
    ]
    definition = pb.FunctionDef(
        signature=signature, node_def=nodes, ret=[text("y", "n:sum:0"), text("parts", "s:output")]
    )
    model = read_graphdef(library(definition))
    function = model.functions["generic"]
    assert function.node("x").attrs["T"] == AttributePlaceholder("T")
    assert function.node("a").output.dtype is UNKNOWN_DTYPE
    assert [value.name for value in function.node("a").inputs if value is not None] == ["x", "xs:2"]
    assert function.node("n").input_count == 2  # a whole output stands for each of its tensors
    assert function.output_names == ["y", "parts", "parts"]
    definition.node_def[4].input[:] = ["s:output:0", "s:output:1"]
    assert pb.GraphDef.FromString(graphdef_bytes(model)).library.function[0] == definition


def test_calls_by_name_take_their_outputs_from_the_signature() -> None:
    callee = full()
    del callee.node_def[0].input[2]
    caller = pb.FunctionDef(
        signature=pb.OpDef(
            name="caller", input_arg=ARGUMENTS, output_arg=[pb.OpDef.ArgDef(name="z", type=pb.DT_INT32)]
        ),
        node_def=[pb.NodeDef(name="call", op="body", input=["x", "r"])],
        ret=[text("z", "call:i:0")],
    )
    graph = pb.GraphDef(
        node=[pb.NodeDef(name="n", op="body"), pb.NodeDef(name="m", op="Identity", input=["n:1"])],
        library=pb.FunctionDefLibrary(function=[caller, callee]),
    )
    model = read_graphdef(graph.SerializeToString())
    assert [value.dtype for value in model.graph.node("n").outputs] == [FLOAT32, INT32]
    assert model.functions["caller"].outputs[0].index == 1
    assert pb.GraphDef.FromString(graphdef_bytes(model)) == graph
    graph.node[1].input[0] = "n:2"
    with pytest.raises(MalformedError, match="output 2 of 'n'"):
        read_graphdef(graph.SerializeToString())


def test_outputs_of_unknown_operators_keep_their_names() -> None:
    definition = pb.FunctionDef(
        signature=pb.OpDef(name="g", output_arg=[pb.OpDef.ArgDef(name="y", type=pb.DT_FLOAT)]),
        node_def=[
            pb.NodeDef(name="u", op="Unheard"),
            pb.NodeDef(name="v", op="AddV2", input=["u:second:0", "u:first:3"], attr=FLOAT),
        ],
        ret=[text("y", "u:first:3")],
    )
    model = read_graphdef(library(definition))
    assert pb.GraphDef.FromString(graphdef_bytes(model)).library.function[0] == definition
    function = model.functions["g"]
    # In a main graph outputs have numbers, and no table says which number `second` has.
    model.graph.create_node("tf.Identity", [_copied(function.node("u"), model.graph)], name="i")
    with pytest.raises(UnsupportedError, match=r"'u' comes from a function body"):
        graphdef_bytes(model)


def _copied(node: Any, graph: Graph) -> Any:
    copy = graph.create_node(node.op, name=node.name, types=[value.type for value in node.outputs])
    copy.extras = node.extras
    return copy.output


def test_a_new_function_is_written() -> None:
    model = Model()
    function = Function("made")
    x = function.create_node("tf._Arg", attrs={"T": FLOAT32, "index": 0}, name="x", types=[tensor_type(FLOAT32)])
    split = function.create_node(
        "tf.Split",
        [x.output, x.output],
        {"num_split": 2, "T": FLOAT32},
        name="s",
        types=[tensor_type(FLOAT32)] * 2,
    )
    function.inputs, function.input_names = [x.output], ["x"]
    function.outputs, function.output_names = [split.outputs[1]], ["y"]
    function.control_outputs, function.targets = {"done": split}, [split]
    model.add_function(function)
    model.graph.create_node("tf.PartitionedCall", attrs={"f": FunctionRef("made", {})}, name="call", types=[])
    written = pb.GraphDef.FromString(graphdef_bytes(model)).library.function[0]
    assert written.signature.output_arg[0].type == pb.DT_FLOAT
    assert list(written.signature.control_output) == ["done"]
    assert written.ret[0].value == "s:output:1"
    assert list(written.node_def[0].input) == ["x", "x"]
    assert read_graphdef(graphdef_bytes(model)).functions["made"].outputs[0].index == 1


def test_an_output_without_a_name_is_refused() -> None:
    model = Model()
    function = Function("made")
    unknown = function.create_node("tf.Unheard", name="u")
    function.outputs, function.output_names = [unknown.output], ["y"]
    model.add_function(function)
    with pytest.raises(UnsupportedError, match=r"'made', node 'u': output 0 of tf\.Unheard has no name"):
        graphdef_bytes(model)


def test_ten_thousand_calls_deep() -> None:
    functions = [
        pb.FunctionDef(
            signature=pb.OpDef(name=f"f{place}"),
            node_def=[pb.NodeDef(name="n", op="PartitionedCall", attr=[entry("f", func={"name": f"f{place + 1}"})])],
        )
        for place in range(10_000)
    ]
    last = pb.FunctionDef(signature=pb.OpDef(name="f10000"))
    data = library(*functions, last)
    assert graphdef_bytes(read_graphdef(data)) == data
    last.node_def.add(name="n", op="PartitionedCall", attr=[entry("f", func={"name": "f0"})])
    with pytest.raises(MalformedError, match=r"'f0' -> 'f1' .*'f0'"):
        read_graphdef(library(*functions, last))


@pytest.mark.tensorflow
def test_what_tensorflow_traces() -> None:
    import tensorflow as tf

    @tf.function
    def step(x: Any, n: Any) -> Any:
        total = tf.zeros_like(x)
        for i in tf.range(n):
            if tf.reduce_sum(total) > 3.0:
                total = total * 2.0
            else:
                total = total + tf.cast(i, tf.float32)
        values, places = tf.nn.top_k(total, 2)
        parts = tf.split(total, 2)
        return values + tf.stack(parts)[0], places

    concrete = step.get_concrete_function(tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32))
    graph = concrete.graph.as_graph_def(add_shapes=True)
    graph.library.function.add().CopyFrom(concrete.function_def)
    model = read_graphdef(graph.SerializeToString())
    back = type(graph).FromString(graphdef_bytes(model))
    assert back == graph
    outputs = [(t.op.name, t.value_index) for t in concrete.outputs]
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(back, name="")
        feeds = {"x:0": np.arange(4, dtype=np.float32), "n:0": 5}
        with tf.compat.v1.Session(graph=imported) as session:
            got = session.run([f"{name}:{index}" for name, index in outputs], feeds)
    expected = step(tf.range(4.0), tf.constant(5))
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
