"""ONNX files: what is read is written back, weights stay mapped, and damaged files are refused."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.errors import Error, MalformedError, UnsupportedError
from graphopt.ir.formats.onnx import onnx_pieces, read_onnx, write_onnx
from graphopt.ir.model import Model
from graphopt.ir.tensors import FileTensor, Mapping
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify

onnx = pytest.importorskip("onnx", reason="the onnx package makes the files: pip install 'graphopt[tensorrt]'")
helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto


def value(name: str, dims: list[Any], kind: int = kinds.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, dims)


def file(nodes: list[Any], inputs: list[Any], outputs: list[Any], held: list[Any] = (), **options: Any) -> Any:  # type: ignore[assignment]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(held))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, **options)
    onnx.checker.check_model(made)
    return made


def branches() -> Any:
    then = helper.make_graph([helper.make_node("Add", ["m", "m"], ["t"])], "then", [], [value("t", [None, 4])])
    other = helper.make_graph([helper.make_node("Sub", ["m", "b"], ["e"])], "other", [], [value("e", [None, 4])])
    weights = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "w")
    bias = numpy_helper.from_array(np.array([1.0], np.float32), "b")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    return file(nodes, [value("x", ["n", 3]), value("c", [], kinds.BOOL)], [value("y", ["n", 4])], [weights, bias])


def read(data: bytes) -> Model:
    return read_onnx(Mapping("model.onnx", data))


def joined(model: Model) -> bytes:
    return b"".join(bytes(piece) for piece in onnx_pieces(model))


def test_a_model_is_read_with_names_types_and_bodies() -> None:
    model = read(branches().SerializeToString())
    verify(model)
    graph = model.graph
    assert [item.name for item in graph.inputs] == ["x", "c"]
    assert str(graph.inputs[0].type) == "float32[n, 3]"
    assert graph.node("product").output.name == "m"
    assert isinstance(graph.node("w").attrs["value"], FileTensor)
    bodies = [model.functions[reference.name] for key, reference in graph.node("y").attrs.items() if "branch" in key]
    assert [[item.name for item in body.inputs] for body in bodies] == [["m", "b"], ["m", "b"]]
    assert print_model(parse_model(print_model(model))) == print_model(model)


def test_what_is_written_is_valid_and_reads_the_same() -> None:
    model = read(branches().SerializeToString())
    data = joined(model)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    again = read(data)
    assert joined(again) == joined(read(joined(again)))
    assert [node.op for node in again.graph if node.inputs] == [node.op for node in model.graph if node.inputs]
    runtime = pytest.importorskip("onnxruntime")
    feeds = {"x": np.ones((2, 3), np.float32), "c": np.array(False)}
    results = [
        runtime.InferenceSession(source).run(None, feeds)[0] for source in (branches().SerializeToString(), data)
    ]
    assert np.array_equal(*results)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([1.5, -2], np.float32), kinds.FLOAT), (np.array([1, -2], np.int64), kinds.INT64),
        (np.array([1, -2], np.int8), kinds.INT8), (np.array([True, False]), kinds.BOOL),
        (np.array([1.5, -2], np.float64), kinds.DOUBLE), (np.array([3, 4], np.uint64), kinds.UINT64),
        (np.array([1.5, -2], np.float16), kinds.FLOAT16),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_raw", [True, False])
def test_tensors_in_every_field(array: Any, kind: int, is_raw: bool) -> None:
    given = array.tobytes() if is_raw else array.tolist()
    held = helper.make_tensor("w", kind, [2], given, raw=is_raw)
    made = file([helper.make_node("Identity", ["w"], ["y"])], [], [value("y", [2], kind)], [held])
    model = read(made.SerializeToString())
    assert np.array_equal(model.graph.node("w").attrs["value"].numpy(), array)
    again = onnx.load_from_string(joined(model))
    assert np.array_equal(numpy_helper.to_array(again.graph.initializer[0]), array)


def test_strings_and_four_bit_integers() -> None:
    words = helper.make_tensor("s", kinds.STRING, [2], [b"one", b"two"])
    small = helper.make_tensor("i", kinds.INT4, [3], [1, -8, 7])
    nodes = [helper.make_node("Identity", ["s"], ["y"]), helper.make_node("Identity", ["i"], ["z"])]
    made = file(nodes, [], [value("y", [2], kinds.STRING), value("z", [3], kinds.INT4)], [words, small])
    model = read(made.SerializeToString())
    assert model.graph.node("s").attrs["value"].numpy().tolist() == [b"one", b"two"]
    assert model.graph.node("i").attrs["value"].numpy().astype(int).tolist() == [1, -8, 7]
    again = onnx.load_from_string(joined(model))
    assert numpy_helper.to_array(again.graph.initializer[1]).astype(int).tolist() == [1, -8, 7]


def test_weights_beside_the_model(tmp_path: pathlib.Path) -> None:
    weights = numpy_helper.from_array(np.arange(4096, dtype=np.float32).reshape(64, 64), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    made = file(nodes, [value("x", ["n", 64])], [value("y", ["n", 64])], [weights])
    model = read(made.SerializeToString())
    path = tmp_path / "model.onnx"
    write_onnx(model, path, external=True)
    assert (tmp_path / "model.onnx.data").stat().st_size == 4096 * 4
    onnx.checker.check_model(str(path), full_check=True)
    again = read_onnx(path)
    held = again.graph.node("w").attrs["value"]
    assert isinstance(held, FileTensor)
    assert held.mapping.path.endswith(".data")
    (tmp_path / "model.onnx.data").write_bytes(b"short")
    with pytest.raises(MalformedError, match="which has 5"):
        read_onnx(path)


def test_files_outside_the_model_s_folder_are_not_opened(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    held = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    made = file([helper.make_node("Identity", ["w"], ["y"])], [], [value("y", [4])], [held])
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(MalformedError, match="leaves the model's folder"):
        read_onnx(folder / "model.onnx")


@pytest.mark.parametrize("operator", ["tf.Relu", "tfl.RELU"])
def test_operators_of_other_dialects_are_not_written(operator: str) -> None:
    model = parse_model(
        f"graph @main(%x: float32[2]) -> (%y) {{\n%x = onnx.Input() : float32[2]\n%y = {operator}(%x)\n}}"
    )
    with pytest.raises(UnsupportedError, match="'y'"):
        onnx_pieces(model)


def test_functions_of_the_model_are_refused() -> None:
    body = helper.make_function("mine", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                                [helper.make_opsetid("", 21)])  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("F", ["x"], ["y"], domain="mine")], "g", [value("x", [2])], [value("y", [2])]
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)]
    made = helper.make_model(graph, functions=[body], opset_imports=opsets, ir_version=10)
    with pytest.raises(UnsupportedError, match="functions of its own"):
        read(made.SerializeToString())


def test_a_cut_or_foreign_file_is_refused() -> None:
    data = branches().SerializeToString()
    for end in range(0, len(data), 7):
        with pytest.raises(MalformedError):
            read(data[:end])
    for junk in (b"", b"hello", b"\x00" * 64):
        with pytest.raises(MalformedError):
            read(junk)


SEED = branches().SerializeToString()


@given(place=st.integers(0, len(SEED) - 1), octet=st.integers(0, 255), cut=st.integers(0, 40))
def test_a_damaged_file_is_read_or_refused(place: int, octet: int, cut: int) -> None:
    data = SEED[:place] + bytes([octet]) + SEED[place + 1 + cut :]
    try:
        model = read(data)
    except Error:
        return
    verify(model)
