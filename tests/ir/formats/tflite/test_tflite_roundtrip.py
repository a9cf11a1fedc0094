"""What is read from a `.tflite` file and written again is the same file, field for field and output for output."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from graphopt.ir import FunctionRef, UnsupportedError, known_tensor
from graphopt.ir.formats.tflite import control, read_tflite, tflite_bytes, write_tflite
from graphopt.ir.formats.tflite.records import KEY, MetadataRecord
from graphopt.ir.tensors import ArrayTensor, FileTensor, PackedTensor, RepeatedTensor
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.types import FLOAT32, INT8, STRING, Quantization, TensorType
from graphopt.ir.verifier import verify


@pytest.mark.corpus("tflite/**/*.tflite")
def test_every_field_comes_back(corpus_file, objects) -> None:
    data = corpus_file.read_bytes()
    model = read_tflite(corpus_file)
    verify(model)
    written = tflite_bytes(model)
    assert objects(written) == objects(data)
    assert tflite_bytes(model) == written
    assert tflite_bytes(read_tflite(written).clone()) == written


@pytest.mark.corpus("tflite/**/*.tflite")
def test_outputs_come_back_and_so_does_the_text(corpus_file, run_litert) -> None:
    data = corpus_file.read_bytes()
    model = read_tflite(data)
    expected = run_litert(data)
    assert run_litert(tflite_bytes(model)) == expected
    text = print_model(model, elide=None)
    parsed = parse_model(text)
    assert print_model(parsed, elide=None) == text
    assert run_litert(tflite_bytes(parsed)) == expected


def test_the_ir_says_what_the_file_does(fields, packed) -> None:
    model = read_tflite(packed(fields), source="small.tflite")
    assert print_model(model).splitlines() == [
        "model {",
        "  graph @main(%x: float32[1, 4]) -> (%y) {",
        "    %x = tfl.INPUT() : float32[1, 4]",
        "    %w = tfl.CONSTANT() {value = float32[4] [0.0, 1.0, 2.0, 3.0]} : float32[4]",
        '    %y = tfl.ADD(%x, %w) {fused_activation_function = b"NONE", pot_scale_int16 = true} : float32[1, 4]',
        "  }",
        '  signature "serving_default"(x = %x) -> (y = %y) inferred reasons(x = "listed by the file", '
        'y = "listed by the file")',
        "}",
    ]
    assert (model.format, model.source) == ("tflite", "small.tflite")


def test_weights_are_views_of_the_file(fields, packed, tmp_path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(packed(fields))
    held = known_tensor(read_tflite(path).graph.value("w"))
    assert isinstance(held, FileTensor)
    assert held.mapping.path == str(path)
    assert not held.numpy().flags.owndata


# Types of tensors ---------------------------------------------------------------------------------------------


def with_tensor(fields, data: bytes, **tensor) -> dict:
    """The model with another constant that nothing reads."""
    fields["buffers"].append({"data": data})
    fields["subgraphs"][0]["tensors"].append({"name": b"c", "buffer": 2, **tensor})
    return fields


def test_strings(fields, packed, objects) -> None:
    items = [b"ab", b"", b"\xff\0c"]
    places = [20, 22, 22, 25]
    data = packed(with_tensor(fields, struct.pack("<5i", 3, *places) + b"".join(items), type=5, shape=[3]))
    model = read_tflite(data)
    held = known_tensor(model.graph.value("c"))
    assert held.dtype is STRING
    assert held.numpy().tolist() == items
    assert objects(tflite_bytes(model)) == objects(data)
    assert (
        objects(tflite_bytes(parse_model(print_model(model, elide=None))))[1]["buffers"][2]
        == objects(data)[1]["buffers"][2]
    )


def test_four_bits(fields, packed) -> None:
    model = read_tflite(packed(with_tensor(fields, b"\x21\x0f", type=17, shape=[3])))
    held = known_tensor(model.graph.value("c"))
    assert isinstance(held, PackedTensor)
    assert held.numpy().astype(int).tolist() == [1, 2, -1]


def test_sparse_and_ill_sized_constants_are_carried_as_bytes(fields, packed, objects) -> None:
    sparsity = {
        "traversal_order": [0],
        "dim_metadata": [{"format": 1, "array_segments_type": 3, "array_segments": {"values": b"\0\1"}}],
    }
    data = packed(with_tensor(fields, bytes(4), shape=[9], sparsity=sparsity))
    model = read_tflite(data)
    assert known_tensor(model.graph.value("c")) is None
    assert model.graph.node("c").attrs["data"].size == 4
    assert objects(tflite_bytes(model)) == objects(data)


def test_quantization_is_part_of_the_type(fields, packed, objects) -> None:
    quantization = {
        "scale": [0.5, 0.25],
        "zero_point": [3, -(1 << 40)],
        "quantized_dimension": 1,
        "min": [0.0],
        "max": [1.0],
    }
    data = packed(with_tensor(fields, bytes(4), type=9, shape=[2, 2], quantization=quantization))
    model = read_tflite(data)
    assert model.graph.value("c").type.quantization == Quantization((0.5, 0.25), (3, -(1 << 40)), 1)
    assert objects(tflite_bytes(model)) == objects(data)
    value = model.graph.value("c")
    value.type = type(value.type)(INT8, value.shape, Quantization((2.0,), (1,)))
    again = read_tflite(tflite_bytes(model)).graph.value("c").type.quantization
    assert again == Quantization((2.0,), (1,))


def test_scales_of_blocks_are_inputs_of_what_they_scale(fields, packed, objects) -> None:
    details = {"scales": 4, "block_size": 2}
    with_tensor(fields, bytes(4), type=9, shape=[4], quantization={"details_type": 2, "details": details})
    with_tensor(fields, bytes(8), shape=[2])
    fields["subgraphs"][0]["tensors"][-1].update(buffer=3, name=b"scales")
    data = packed(fields)
    model = read_tflite(data)
    assert model.graph.node("c").inputs == (model.graph.value("scales"),)
    assert objects(tflite_bytes(model)) == objects(data)
    model.graph.rename(model.graph.node("scales"), "other")
    spare = model.graph.node("x")  # an extra tensor in front changes every number
    model.graph.create_node("tfl.TENSOR", types=(spare.output.type,), before=spare)
    again = read_tflite(tflite_bytes(model))
    assert again.graph.node("c").inputs == (again.graph.value("other"),)


def test_unknown_dimensions_are_kept_and_written(fields, packed, objects) -> None:
    fields["subgraphs"][0]["tensors"][0]["shape_signature"] = [-1, 4]
    data = packed(fields)
    model = read_tflite(data)
    assert str(model.graph.value("x").shape) == "[?, 4]"
    assert objects(tflite_bytes(model)) == objects(data)
    parsed = parse_model(print_model(model, elide=None))
    tensor = objects(tflite_bytes(parsed))[1]["subgraphs"][0][1]["tensors"][0][1]
    assert tensor["shapeSignature"][1] == struct.pack("<2i", -1, 4)
    assert tensor["shape"][1] == struct.pack("<2i", 1, 4)


# Operators and subgraphs --------------------------------------------------------------------------------------


def test_custom_operators_optional_inputs_and_versions(fields, packed, objects) -> None:
    fields["operator_codes"] = [{"builtin_code": 32, "custom_code": b"Mine", "version": 2}, {"builtin_code": 250}]
    operator = {
        "inputs": [0, -1, 1],
        "outputs": [2],
        "custom_options": b"\1\2",
        "mutating_variable_inputs": [False, True, False],
    }
    fields["subgraphs"][0]["operators"] = [operator]
    data = packed(fields)
    model = read_tflite(data)
    node = model.graph.node("y")
    assert node.op == "tfl.CUSTOM"
    assert node.inputs[1] is None
    assert node.attrs == {
        "custom_code": b"Mine", "custom_options": b"\1\2", "_version": 2,
        "_mutating_variable_inputs": (False, True, False),
    }  # fmt: skip
    assert objects(tflite_bytes(model)) == objects(data)


def test_subgraphs_are_functions(fields, packed, objects) -> None:
    main = fields["subgraphs"][0]
    body = {**main, "name": b"main", "operators": []}
    fields["subgraphs"].append(body)
    fields["operator_codes"] = [{"builtin_code": 119, "deprecated_builtin_code": 119}]
    options = {"cond_subgraph_index": 1, "body_subgraph_index": 1}
    main["operators"] = [{"inputs": [0], "outputs": [2], "builtin_options_type": 93, "builtin_options": options}]
    body["outputs"] = [0]
    data = packed(fields)
    model = read_tflite(data)
    verify(model)
    assert model.graph.node("y").attrs["cond_subgraph_index"] == FunctionRef("main_1")
    assert list(model.functions) == ["main_1"]
    assert objects(tflite_bytes(model)) == objects(data)


def test_control_dependencies_are_control_inputs(fields, packed, objects) -> None:
    main = fields["subgraphs"][0]
    main["tensors"].append({"name": b"z", "shape": [1, 4]})
    main["operators"].append({"inputs": [0, 0], "outputs": [3]})
    fields["buffers"].append({"data": control.serialize([[(0, 1)]])})
    fields["metadata"] = [{"name": control.NAME, "buffer": 2}]
    data = packed(fields)
    model = read_tflite(data)
    z, y = model.graph.node("z"), model.graph.node("y")
    assert z.control_inputs == (y,)
    assert objects(tflite_bytes(model)) == objects(data)
    z.set_control_inputs([])
    assert read_tflite(tflite_bytes(model)).metadata[KEY].metadata == ()
    y.replace_input(1, None)
    model.graph.move(z, y)
    y.add_control_input(z)
    again = read_tflite(tflite_bytes(model)).graph
    assert again.node("y").control_inputs == (again.node("z"),)


def test_control_dependencies_are_coded_as_tflite_codes_them() -> None:
    assert control.serialize([[(0, 1), (-1, 300)], []]) == bytes([1, 2, 2, 0, 2, 1, 0xD8, 4, 0])
    assert control.parse(bytes([1, 2, 2, 0, 2, 1, 0xD8, 4, 0])) == (((0, 1), (-1, 300)), ())
    assert control.parse(bytes([2, 0])) is None
    assert control.parse(bytes([1, 1, 0xFF])) is None


def test_signatures(fields, packed, objects) -> None:
    maps = {"inputs": [{"name": b"a", "tensor_index": 0}], "outputs": [{"name": b"b", "tensor_index": 2}]}
    fields["signature_defs"] = [{**maps, "signature_key": b"f"}, {**maps, "signature_key": b"g"}]
    data = packed(fields)
    model = read_tflite(data)
    assert {name: value.name for name, value in model.signatures["g"].output_values().items()} == {"b": "y"}
    assert objects(tflite_bytes(model)) == objects(data)


# Writing what was changed -------------------------------------------------------------------------------------


def test_equal_contents_share_a_buffer(fields, packed, objects) -> None:
    model = read_tflite(packed(fields))
    graph = model.graph
    for name, value in (("a", np.arange(4)), ("b", np.ones(4)), ("c", np.ones(4))):
        graph.create_node(
            "tf.Const",
            attrs={"value": ArrayTensor(value.astype(np.float32))},
            name=name,
            types=(graph.value("w").type,),
        )
    tensors = objects(tflite_bytes(model))[1]["subgraphs"][0][1]["tensors"]
    assert [tensor[1]["buffer"] for tensor in tensors] == [0, 1, 0, 1, 2, 2]


def test_equal_vectors_of_numbers_are_written_once() -> None:
    channels = 512
    constants = "".join(
        f"%w{n} = tfl.CONSTANT() {{value = float32[512] {[float(n)] * channels}}} : float32[512]\n"
        f'%y{n} = tfl.ADD(%x, %w{n}) {{fused_activation_function = b"NONE"}} : float32[512]\n'
        for n in range(2)
    )
    model = parse_model(f"graph @main(%x) -> (%y0, %y1) {{\n%x = tfl.INPUT() : float32[512]\n{constants}}}")
    plain = len(tflite_bytes(model))
    scales = Quantization(tuple([0.5] * channels), tuple([0] * channels), 0)
    for node in [node for node in model.graph if node.op == "tfl.CONSTANT"]:
        node.output.type = TensorType(FLOAT32, node.output.shape, scales)
    written = tflite_bytes(model)
    assert len(written) - plain < 1.1 * channels * (4 + 8)  # of two constants
    again = read_tflite(written)
    assert [node.output.type.quantization for node in again.graph if node.op == "tfl.CONSTANT"] == [scales, scales]


def test_buffers_and_codes_that_nothing_uses_any_more_go(fields, packed, objects) -> None:
    model = read_tflite(packed(fields))
    y = model.graph.node("y")
    model.graph.node("w").attrs["value"] = RepeatedTensor(np.float32([7]), FLOAT32, (4,))
    y.op, y.attrs = "tfl.MUL", {"fused_activation_function": b"RELU6"}
    found = objects(tflite_bytes(model))[1]
    assert found["buffers"][1][1]["data"][1] == np.full(4, 7, np.float32).tobytes()
    assert len(found["buffers"]) == 2
    assert [code[1]["builtinCode"] for code in found["operatorCodes"]] == [18]
    assert found["subgraphs"][0][1]["operators"][0][1]["builtinOptions"] == (
        "MulOptionsT",
        {"fusedActivationFunction": 3},
    )


def test_metadata_can_be_added(fields, packed, objects) -> None:
    model = read_tflite(packed(fields))
    record = model.metadata[KEY]
    model.metadata[KEY] = record._replace(metadata=(*record.metadata, MetadataRecord(b"labels", b"cat\ndog")))
    again = read_tflite(tflite_bytes(model))
    assert [(item.name, bytes(item.data)) for item in again.metadata[KEY].metadata] == [(b"labels", b"cat\ndog")]


@pytest.mark.corpus("tflite/tiny/pretrainedResnet.tflite")
def test_buffers_may_lie_behind_the_flatbuffer(corpus_file, run_litert) -> None:
    model = read_tflite(corpus_file)
    apart = tflite_bytes(model, apart=True)
    assert run_litert(apart) == run_litert(corpus_file.read_bytes())
    again = read_tflite(apart)
    assert tflite_bytes(again) == apart
    assert tflite_bytes(again, apart=False) == tflite_bytes(model)


def test_options_behind_the_flatbuffer_stay_there(fields, packed) -> None:
    fields["operator_codes"] = [{"builtin_code": 32, "custom_code": b"Mine"}]
    operator = fields["subgraphs"][0]["operators"][0] = {"inputs": [0], "outputs": [2]}
    operator |= {"large_custom_options_offset": 1 << 40, "large_custom_options_size": 5}
    size = len(packed(fields))
    operator["large_custom_options_offset"] = size
    model = read_tflite(packed(fields) + b"hello")
    assert model.graph.node("y").attrs["custom_options"].numpy().tobytes() == b"hello"
    again = read_tflite(tflite_bytes(model))
    assert again.graph.node("y").attrs["custom_options"].numpy().tobytes() == b"hello"


@pytest.mark.parametrize(
    ("op", "attrs", "reason"),
    [
        ("tf.Relu", {}, "no operator of TFLite: lower"),
        ("tfl.FOO", {}, "no operator of TFLite"),
        ("tfl.CUSTOM", {}, "custom_code"),
        ("tfl.ADD", {"fused_activation_function": b"FOO"}, "fused_activation_function"),
        ("tfl.ADD", {"dilation_w_factor": 2}, "an attribute 'dilation_w_factor' that its options in TFLite do not"),
        ("tfl.MAXIMUM", {"fused_activation_function": b"RELU"}, "an attribute 'fused_activation_function' that"),
        ("tfl.CALL", {"subgraph": FunctionRef("f")}, "no function 'f'"),
        ("tfl.CONSTANT", {}, "without a value"),
    ],
)
def test_what_cannot_be_written_is_named(fields, packed, tmp_path, op, attrs, reason) -> None:
    model = read_tflite(packed(fields))
    model.graph.create_node(op, attrs=attrs, name="odd", types=(model.graph.value("x").type,))
    with pytest.raises(UnsupportedError, match=rf"'odd'.*{reason}"):
        write_tflite(model, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_attributes_that_no_option_holds_are_written_if_they_are_absent_or_our_own(fields, packed) -> None:
    model = read_tflite(packed(fields))
    expected = tflite_bytes(model)
    model.graph.node("y").attrs |= {"_note": 1, "dilation_w_factor": None}
    assert tflite_bytes(model) == expected


def test_what_a_newer_schema_has_is_not_dropped_silently(fields, packed) -> None:
    data = packed(fields).replace(b"\x0b", b"\xc8")  # options of type 200 instead of 11
    model = read_tflite(data)
    assert "fused_activation_function" not in model.graph.node("y").attrs
    with pytest.raises(UnsupportedError, match="builtin_options of type 200"):
        tflite_bytes(model)


def test_the_same_bytes_in_any_process(fields, packed, run_python) -> None:
    source = (
        "import sys, hashlib; from graphopt.ir.formats.tflite import read_tflite, tflite_bytes;"
        "print(hashlib.sha256(tflite_bytes(read_tflite(bytes.fromhex(sys.argv[1])))).hexdigest(), "
        "'ai_edge_litert' in sys.modules)"
    )
    data = packed(fields)
    done = run_python(source, data.hex())
    assert done.stdout.split() == [hashlib.sha256(tflite_bytes(read_tflite(data))).hexdigest(), "False"]
