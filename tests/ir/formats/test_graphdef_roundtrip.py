"""Reading and writing a GraphDef keeps every field that it had."""

from __future__ import annotations

import gc
import pathlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.ir.attributes import FunctionRef, SingleFloat
from graphopt.ir.errors import MalformedError, UnsupportedError, UsageError
from graphopt.ir.formats import wire
from graphopt.ir.formats.graphdef import (
    graphdef_bytes,
    graphdef_chunks,
    load,
    read_graphdef,
    read_graphdef_text,
    write_graphdef,
)
from graphopt.ir.formats.protos import graph_pb2 as pb
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.tensors import ArrayTensor, FileTensor, Mapping, RepeatedTensor, pack, tensor
from graphopt.ir.types import DTYPES, FLOAT32, INT32, SCALAR, STRING, Shape, tensor_type
from graphopt.ir.value import WIDE

NOT_GRAPHS = {  # TensorFlow refuses these two as well
    "test_graph_tfadd.pbtxt": "there is no node for 'y_shape'",
    "function_error.pbtxt": "cycle: 'Add' -> 'Add'",
}


def with_canonical_inputs(graph: Any) -> Any:
    """`a:0` is written `a`, which is how TensorFlow writes it."""
    for node in graph.node:
        for place, text in enumerate(node.input):
            node.input[place] = text.removesuffix(":0")
    return graph


@pytest.mark.tensorflow
@pytest.mark.corpus("graphdef/**/*.pb", "graphdef/**/*.pbtxt")
def test_real_graphs_keep_every_field(corpus_file: pathlib.Path) -> None:
    from google.protobuf import text_format
    from tensorflow.core.framework.graph_pb2 import GraphDef

    if corpus_file.name in NOT_GRAPHS:
        with pytest.raises(MalformedError, match=NOT_GRAPHS[corpus_file.name]):
            load(corpus_file)
        return
    written = graphdef_bytes(load(corpus_file))
    before, after = GraphDef(), GraphDef.FromString(written)
    if corpus_file.suffix == ".pbtxt":
        text_format.Parse(corpus_file.read_text(), before)
    else:
        before.ParseFromString(corpus_file.read_bytes())
    with_canonical_inputs(before)
    # The second comparison is for NaN, which equals nothing, not even itself.
    assert before == after or before.SerializeToString(deterministic=True) == after.SerializeToString(
        deterministic=True
    )
    assert graphdef_bytes(read_graphdef(written)) == written


def entry(key: str, **value: Any) -> pb.AttrEntry:
    return pb.AttrEntry(key=key, value=pb.AttrValue(**value))


def listed(**items: Any) -> pb.AttrValue.ListValue:
    return pb.AttrValue.ListValue(**items)


def every_attribute() -> list[pb.AttrEntry]:
    shape = pb.TensorShapeProto(dim=[{"size": 2, "name": "rows"}, {"size": -1}])
    held = pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=pb.TensorShapeProto(dim=[{"size": 3}]), float_val=[1, 2])
    ref = pb.NameAttrList(name="g", attr=[entry("T", type=pb.DT_INT8), entry("inner", func=pb.NameAttrList(name="h"))])
    entries = [
        entry("a_string", s=b"\xff\0"),
        entry("empty_string", s=b""),
        entry("an_int", i=-(2**63)),
        entry("zero", i=0),
        entry("a_float", f=0.1),
        entry("minus_zero", f=-0.0),
        entry("yes", b=True),
        entry("no", b=False),
        entry("a_type", type=pb.DT_BFLOAT16),
        entry("no_type", type=0),
        entry("a_ref_type", type=pb.DT_FLOAT_REF),
        entry("a_shape", shape=shape),
        entry("scalar", shape=pb.TensorShapeProto()),
        entry("any_shape", shape=pb.TensorShapeProto(unknown_rank=True)),
        entry("a_tensor", tensor=held),
        entry("a_placeholder", placeholder="T"),
        entry("a_function", func=ref),
        entry("nothing"),
        entry("empty", list=listed()),
        entry("strings", list=listed(s=[b"", b"x"])),
        entry("ints", list=listed(i=[0, -1, 2**62])),
        entry("floats", list=listed(f=[0.5, -0.0, float("inf")])),
        entry("bools", list=listed(b=[True, False])),
        entry("types", list=listed(type=[pb.DT_FLOAT, pb.DT_STRING])),
        entry("shapes", list=listed(shape=[shape, pb.TensorShapeProto(unknown_rank=True)])),
        entry("tensors", list=listed(tensor=[held, pb.TensorProto(dtype=pb.DT_INT8)])),
        entry("functions", list=listed(func=[ref, pb.NameAttrList(name="k")])),
    ]
    return sorted(entries, key=lambda item: item.key)


def test_every_kind_of_attribute_and_field_is_kept() -> None:
    graph = pb.GraphDef(version=7)
    graph.versions.producer, graph.versions.min_consumer = 1882, -3
    graph.versions.bad_consumers.extend([3, -1])
    graph.debug_info.files.append("model.py")
    graph.node.add(name="all", op="Unheard", device="/cpu:0", attr=every_attribute())
    last = graph.node.add(name="last", op="NoOp", input=["^all"])
    last.experimental_debug_info.original_node_names.extend(["one", "two"])
    last.experimental_type.type_id = pb.TFT_TENSOR
    written = graphdef_bytes(read_graphdef(graph.SerializeToString()))
    assert pb.GraphDef.FromString(written) == graph
    # Fields of a later version are kept as they are.
    future = (
        graph.SerializeToString() + wire.tagged(1, b"\x0a\x01x\x12\x04NoOp" + wire.tagged(20, b"new")) + b"\x58\x01"
    )
    again = graphdef_bytes(read_graphdef(future))
    assert wire.tagged(20, b"new") in again
    assert again.endswith(b"\x58\x01")


def test_the_first_file_of_debug_info_is_not_none() -> None:
    text = b"debug_info { frames_by_id { key: 1 value { file_index: 0 line: 3 col: 0 } } }"
    frame = pb.GraphDef.FromString(graphdef_bytes(read_graphdef_text(text))).debug_info.frames_by_id[0].value
    assert frame.HasField("file_index")
    assert frame.HasField("col")
    assert not frame.HasField("func")


def test_attributes_have_the_python_types_of_the_ir() -> None:
    graph = pb.GraphDef(node=[pb.NodeDef(name="n", op="Unheard", attr=every_attribute())])
    attrs = read_graphdef(graph.SerializeToString()).graph.node("n").attrs
    assert attrs["an_int"] == -(2**63)
    assert attrs["no"] is False
    assert attrs["nothing"] is None
    assert attrs["empty"] == ()
    assert attrs["a_shape"] == Shape((2, None))
    assert attrs["any_shape"] == Shape(None)
    assert attrs["a_ref_type"] is DTYPES["float32_ref"]
    assert attrs["types"] == (FLOAT32, STRING)
    assert attrs["a_function"].attrs["inner"] == FunctionRef("h", {})
    assert attrs["a_tensor"].numpy().tolist() == [1, 2, 2]


@pytest.mark.parametrize(
    "bits", [b"\x01\0\x80\x7f", b"\xff\xff\xff\xff", b"\x01\0\0\0", b"\0\0\0\x80", b"\xcd\xcc\xcc\x3d"]
)
def test_float_attributes_keep_their_bits(bits: bytes) -> None:
    value = wire.tagged(2, b"\x25" + bits)
    listing = wire.tagged(2, wire.tagged(1, wire.tagged(4, bits + bits)))
    data = wire.tagged(
        1, b"\x0a\x01n\x12\x01X" + wire.tagged(5, b"\x0a\x01a" + value) + wire.tagged(5, b"\x0a\x01b" + listing)
    )
    model = read_graphdef(data)
    assert struct.pack("<f", model.graph.node("n").attrs["a"]) == bits or isinstance(
        model.graph.node("n").attrs["a"], SingleFloat
    )
    assert graphdef_bytes(model) == data


def test_nodes_come_in_any_order_and_keep_it() -> None:
    nodes = [
        pb.NodeDef(name="c", op="AddV2", input=["b", "a:0", "^e"]),
        pb.NodeDef(name="b", op="Split", input=["d", "a"], attr=[entry("num_split", i=2)]),
        pb.NodeDef(name="a", op="Placeholder"),
        pb.NodeDef(name="d", op="Const"),
        pb.NodeDef(name="e", op="Relu", input=["b:1"]),
    ]
    graph = read_graphdef(pb.GraphDef(node=nodes).SerializeToString()).graph
    assert [node.name for node in graph] == ["c", "b", "a", "d", "e"]
    assert [value.name for value in graph.node("c").inputs if value is not None] == ["b", "a"]
    assert graph.node("c").control_inputs == (graph.node("e"),)
    assert graph.node("e").input(0).index == 1
    assert len(graph.node("b").outputs) == 2
    graph.sort()
    assert [node.name for node in graph] == ["d", "a", "b", "e", "c"]


def test_fields_of_a_node_come_in_any_order() -> None:
    attrs = wire.tagged(5, b"\x0a\x01T" + wire.tagged(2, b"\x30\x01"))
    a = wire.tagged(1, b"\x12\x0bPlaceholder\x0a\x01a")
    b = wire.tagged(1, attrs + b"\x12\x04Relu\x1a\x01a\x0a\x01b")
    c = wire.tagged(1, b"\x0a\x01c\x12\x05AddV2\x1a\x01a" + attrs + b"\x1a\x01b")
    graph = read_graphdef(a + b + c).graph
    assert [value.name for value in graph.node("c").inputs if value is not None] == ["a", "b"]
    assert graph.node("b").attrs["T"] is FLOAT32
    assert graph.node("b").output.dtype is FLOAT32


def test_long_names_take_every_path() -> None:
    name = "block/" * 40 + "relu"
    longer = "deep/" * 5000 + "relu"
    nodes = [
        pb.NodeDef(name=name, op="Placeholder"),
        pb.NodeDef(name=longer, op="Relu", input=[name]),
        pb.NodeDef(name="z", op="Relu", input=[longer, "^" + name]),
    ]
    data = pb.GraphDef(node=nodes).SerializeToString()
    assert graphdef_bytes(read_graphdef(data)) == data


def test_version_1_loops_are_no_cycles() -> None:
    nodes = [
        pb.NodeDef(name="in", op="Placeholder"),
        pb.NodeDef(name="enter", op="Enter", input=["in"]),
        pb.NodeDef(name="merge", op="Merge", input=["enter", "next"], attr=[entry("N", i=2)]),
        pb.NodeDef(name="next", op="NextIteration", input=["merge"]),
    ]
    data = pb.GraphDef(node=nodes).SerializeToString()
    assert graphdef_bytes(read_graphdef(data)) == data


def test_unknown_operators_have_the_outputs_that_are_read() -> None:
    nodes = [pb.NodeDef(name="u", op="Unheard"), pb.NodeDef(name="r", op="Relu", input=["u:3"])]
    data = pb.GraphDef(node=nodes).SerializeToString()
    model = read_graphdef(data)
    assert len(model.graph.node("u").outputs) == 4
    assert graphdef_bytes(model) == data


def test_wide_nodes_are_connected() -> None:
    names = [f"x{place}" for place in range(WIDE + 8)]
    nodes = [pb.NodeDef(name=name, op="Placeholder") for name in names]
    nodes.append(pb.NodeDef(name="sum", op="AddN", input=names))
    data = pb.GraphDef(node=nodes).SerializeToString()
    model = read_graphdef(data)
    model.graph.node("sum").replace_input(3, model.graph.value("x0"))
    assert model.graph.value("x3").use_count == 0
    assert graphdef_bytes(read_graphdef(data)) == data


def test_constants_know_their_shape() -> None:
    graph = pb.GraphDef()
    held = pb.TensorProto(dtype=pb.DT_INT32, tensor_shape=pb.TensorShapeProto(dim=[{"size": 2}]), int_val=[7])
    graph.node.add(name="c", op="Const", attr=[entry("dtype", type=pb.DT_INT32), entry("value", tensor=held)])
    assert read_graphdef(graph.SerializeToString()).graph.value("c").type == tensor_type(INT32, [2])


# Writing ------------------------------------------------------------------------------------------------------


def constants(**tensors: Any) -> Model:
    graph = Graph()
    for name, held in tensors.items():
        graph.create_node("tf.Const", attrs={"value": held, "dtype": held.dtype}, name=name)
    return Model(graph)


def test_new_tensors_are_written_in_their_smallest_form(tmp_path: pathlib.Path) -> None:
    (tmp_path / "weights").write_bytes(np.arange(4, dtype="<f4").tobytes())
    model = constants(
        dense=tensor([[1.0, 2.0]]),
        big_endian=ArrayTensor(np.array([1, 2], ">i4"), INT32),
        strided=ArrayTensor(np.arange(6, dtype=np.int32)[::2]),
        scalar=tensor(3),
        text=tensor(["a", b"\xff"]),
        splat=RepeatedTensor(np.array([0.5], np.float32), FLOAT32, [1 << 40]),
        leading=RepeatedTensor(np.array([1, -1], np.int32), INT32, [3]),
        broadcast=ArrayTensor(np.broadcast_to(np.float32(2), (1 << 20, 1 << 20))),
        mapped=FileTensor(Mapping(tmp_path / "weights"), 4, FLOAT32, [3]),
        packed=pack(np.array([-8, 7, 1]), DTYPES["int4"]),
        half=RepeatedTensor(np.array([1.5], np.float16), DTYPES["float16"], [2]),
        eighth=RepeatedTensor(np.array([1.5], DTYPES["float8_e5m2"].numpy), DTYPES["float8_e5m2"], [2]),
        empty=tensor(np.zeros((0, 3), np.float32)),
        text_splat=RepeatedTensor(np.array([b"x"], object), STRING, [2]),
    )
    data = graphdef_bytes(model)
    assert len(data) < 2000
    back = read_graphdef(data).graph
    for name in ("dense", "big_endian", "strided", "scalar", "text", "leading", "mapped", "packed", "half", "eighth"):
        read, held = back.node(name).attrs["value"], model.graph.node(name).attrs["value"]
        assert (read.dtype, read.shape) == (held.dtype, held.shape)
        np.testing.assert_array_equal(read.numpy(), held.numpy())
    assert back.node("splat").attrs["value"].splat() == 0.5
    assert back.node("broadcast").attrs["value"].splat() == 2
    assert back.node("empty").attrs["value"].numpy().shape == (0, 3)
    assert back.node("text_splat").attrs["value"].numpy().tolist() == [b"x", b"x"]


def test_large_tensors_are_never_copied(tmp_path: pathlib.Path) -> None:
    weights = np.ones(1 << 16, np.float32)
    write_graphdef(constants(w=tensor(weights)), tmp_path / "m.pb")
    model = load(tmp_path / "m.pb")
    held = model.graph.node("w").attrs["value"]
    assert np.shares_memory(held.numpy(), np.frombuffer(held.mapping.buffer, np.uint8))
    assert any(isinstance(chunk, memoryview) and chunk.obj is held.mapping.buffer for chunk in graphdef_chunks(model))
    chunks = graphdef_chunks(constants(w=tensor(weights)))
    assert any(np.shares_memory(np.frombuffer(chunk, np.uint8), weights) for chunk in chunks if len(chunk) == 1 << 18)


def test_a_model_may_be_written_over_its_own_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.pb"
    write_graphdef(constants(w=tensor(np.arange(5000))), path)
    before = path.read_bytes()
    model = load(path)
    write_graphdef(model, path)
    assert path.read_bytes() == before
    assert model.graph.node("w").attrs["value"].numpy()[-1] == 4999
    with pytest.raises(UsageError, match="exists"):
        write_graphdef(model, path, overwrite=False)


def test_more_than_protobuf_allows_is_said_before_writing(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(3 << 29)  # a hole, not bytes
    mapping = Mapping(tmp_path / "weights")
    held = FileTensor(mapping, 0, DTYPES["uint8"], [3 << 29])
    with pytest.raises(UnsupportedError, match=r"2 GiB.*SavedModel.*\.tflite"):
        write_graphdef(constants(a=held, b=held), tmp_path / "m.pb")
    assert not (tmp_path / "m.pb").exists()


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "words"),
    [
        ("tfl.RELU", [], {}, r"'n'.*tfl\.RELU is no operator of TensorFlow"),
        ("tf.NoOp", [], {"x": {}}, r"'n'.*attribute 'x'.*dict"),
        ("tf.NoOp", [], {"x": 1 << 64}, r"'n'.*attribute 'x'.*64 bits"),
        ("tf.Relu", [None], {}, r"'n' leaves an input out"),
    ],
)
def test_what_a_graphdef_cannot_say_is_refused(op: str, inputs: list[None], attrs: dict[str, Any], words: str) -> None:
    graph = Graph()
    graph.create_node(op, inputs, attrs, name="n")
    with pytest.raises(UnsupportedError, match=words):
        graphdef_bytes(Model(graph))


SAVE_TWICE = """
import sys
from graphopt.ir.formats.graphdef import load, graphdef_bytes
import hashlib
print(hashlib.sha256(graphdef_bytes(load(sys.argv[1]))).hexdigest())
"""


def test_bytes_do_not_depend_on_the_order_of_attributes_or_hash_seeds(
    run_python: Callable[..., Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = every_attribute()
    paths = []
    for place, order in enumerate((entries, entries[::-1])):
        graph = pb.GraphDef(node=[pb.NodeDef(name="n", op="X", attr=order)])
        paths.append(tmp_path / f"{place}.pb")
        paths[-1].write_bytes(graph.SerializeToString())
    digests = set()
    for seed in ("0", "1"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        for path in paths:
            result = run_python(SAVE_TWICE, str(path))
            assert result.returncode == 0, result.stderr
            digests.add(result.stdout)
    assert len(digests) == 1


def test_dimensions_that_grappler_numbers_are_unknown_and_stay_as_written() -> None:
    from google.protobuf import text_format

    sizes = "shape { dim { size: -3 } dim { size: 4 } dim { size: -1 } }"
    text = f"""node {{ name: "x" op: "Unheard"
      attr {{ key: "_input_shape" value {{ {sizes} }} }}
      attr {{ key: "_output_shapes" value {{ list {{ {sizes} }} }} }}
    }}"""
    graph = text_format.Parse(text, pb.GraphDef())
    model = read_graphdef(graph.SerializeToString())
    assert model.graph.node("x").attrs["_input_shape"] == Shape((None, 4, None))
    assert pb.GraphDef.FromString(graphdef_bytes(model)) == graph


def test_a_shape_with_symbols_is_written_as_unknown() -> None:
    from graphopt.ir.dimensions import symbol

    graph = Graph()
    graph.create_node("tf.Placeholder", name="x", attrs={"shape": Shape((symbol("batch"), 3)), "s": SCALAR})
    attrs = read_graphdef(graphdef_bytes(Model(graph))).graph.node("x").attrs
    assert attrs["shape"] == Shape((None, 3))
    assert attrs["s"] == SCALAR


def test_the_garbage_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    with pytest.raises(MalformedError):
        read_graphdef(b"\x0a\x7f")
    assert gc.isenabled()


def test_a_hundred_thousand_nodes_in_a_row(tmp_path: pathlib.Path) -> None:
    data = wire.tagged(1, b"\x0a\x02n0\x12\x0bPlaceholder") + b"".join(
        wire.tagged(1, wire.tagged(1, f"n{i}".encode()) + b"\x12\x04Relu" + wire.tagged(3, f"n{i - 1}".encode()))
        for i in range(1, 100_000)
    )
    backwards = b"".join(
        wire.tagged(1, wire.tagged(1, f"n{i}".encode()) + b"\x12\x04Relu" + wire.tagged(3, f"n{i - 1}".encode()))
        for i in range(50_000, 0, -1)
    ) + wire.tagged(1, b"\x0a\x02n0\x12\x0bPlaceholder")
    assert graphdef_bytes(read_graphdef(data)) == data
    assert graphdef_bytes(read_graphdef(backwards)) == backwards
