"""What has no builtin form: as Flex and custom operators, byte for byte what tf.lite writes; and as findings."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import pytest

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.backends.tflite.flex import is_flex_operator
from graphopt.ir.formats.protos.graph_pb2 import NodeDef
from graphopt.ir.formats.tflite import read_tflite
from graphopt.ir.model import Signature
from graphopt.lowering import check, lower
from graphopt.testing.lowering import operators, text_model

ROOT = pathlib.Path(__file__).parents[4]

STRINGS = "%x: string[2]"
NGRAMS = """
%splits = tf.Const() {value = int64[2] [0, 2], dtype = int64}
%y = tf.StringNGrams(%x, %splits) {separator = b" ", ngram_widths = [1, 2], left_pad = b"", right_pad = b"",
  pad_width = 0, preserve_short_sequences = false}
"""


def found(model: Any) -> list[tuple[bytes, bytes]]:
    return [(n.attrs["custom_code"], n.attrs["custom_options"]) for n in model.graph if n.op == "tfl.CUSTOM"]


def node_def(options: bytes) -> NodeDef:
    """What a Flex operator holds; equal ones have their attributes in any order."""
    from flatbuffers import flexbuffers

    name, held = flexbuffers.GetRoot(bytearray(options)).AsVector
    parsed = NodeDef.FromString(bytes(held.AsStringBytes))
    assert name.AsString == parsed.op
    return parsed


def described(node: NodeDef) -> Any:
    rest = NodeDef.FromString(node.SerializeToString())
    del rest.attr[:]
    return {item.key: item.value.SerializeToString() for item in node.attr}, rest.SerializeToString()


# What tf.lite writes ---------------------------------------------------------------------------------------------


def functions(tf: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    raw, spec = tf.raw_ops, tf.TensorSpec
    picture = spec([2, 3], tf.float32)
    return {
        "types and flags": (lambda x: tf.linalg.svd(x, compute_uv=False), (picture,)),
        "text": (lambda x: tf.strings.regex_replace(x, "a", "b"), (spec([2], tf.string),)),
        "an empty text": (lambda x: tf.strings.join([x, "abc"]), (spec([2], tf.string),)),
        "complex": (lambda x: tf.signal.fft(x), (spec([2, 9], tf.complex64),)),
        "lists": (
            lambda x: raw.StringNGrams(
                data=x, data_splits=tf.constant([0, 2], tf.int64), separator=b" ", ngram_widths=[1, 2], left_pad=b"",
                right_pad=b"", pad_width=0, preserve_short_sequences=False,
            ),
            (spec([2], tf.string),),
        ),
        "floats": (
            lambda x: raw.FractionalAvgPool(value=x, pooling_ratio=[1.0, 1.3, 1.7, 1.0]),
            (spec([1, 8, 8, 2], tf.float32),),
        ),
    }  # fmt: skip


@pytest.mark.tensorflow
@pytest.mark.parametrize("flex", [False, True], ids=["custom", "flex"])
def test_operators_are_those_of_tf_lite(flex: bool) -> None:
    import tensorflow as tf

    for label, (function, specs) in functions(tf).items():
        traced = tf.function(function).get_concrete_function(*specs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module())
        ops = tf.lite.OpsSet
        converter.target_spec.supported_ops = (
            [ops.TFLITE_BUILTINS, ops.SELECT_TF_OPS] if flex else [ops.TFLITE_BUILTINS]
        )
        converter.allow_custom_ops = True
        theirs = read_tflite(converter.convert())
        ours = lower(traced, "tflite", allow_flex=flex, allow_custom_ops=True).model
        assert found(theirs), label
        for (code, options), (our_code, our_options) in zip(found(theirs), found(ours), strict=True):
            assert our_code == code, label
            if code.startswith(b"Flex"):  # whose attributes stand in no order that means anything
                assert len(options) == len(our_options)
                assert described(node_def(options)) == described(node_def(our_options)), label
            else:
                assert options == our_options, label


@pytest.mark.tensorflow
def test_list_of_flex_operators_is_tensorflows(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "generate_flex_operators.py"), "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# What is allowed -------------------------------------------------------------------------------------------------


def test_flex_comes_before_custom_where_the_delegate_has_the_operator() -> None:
    model = text_model("%y = tf.StringLower(%x)\n%z = tf.Erfinv(%w)", f"{STRINGS}, %w: float32[3]", "%y, %z")
    lowered = lower(model, "tflite", allow_flex=True, allow_custom_ops=True)
    assert [code for code, _ in found(lowered.model)] == [b"FlexStringLower", b"Erfinv"]
    assert lowered.notes == [
        "the model needs TensorFlow's kernels (the Flex delegate): FlexStringLower (1)",
        "the application has to register kernels: Erfinv (1)",
    ]
    with pytest.raises(UnloweredError, match=r"'z' \(tf.Erfinv\): .*custom operator"):
        lower(model, "tflite", allow_flex=True)


def test_flex_operators_have_no_inputs_names_but_their_number() -> None:
    lowered = lower(text_model(NGRAMS, STRINGS, "%y, %y:1"), "tflite", allow_custom_ops=True).model
    assert operators(lowered) == {"CUSTOM": 1}
    substr = "%p = tf.Const() {value = int32[] 0, dtype = int32}\n%y = tf.Substr(%x, %p, %p)"
    lowered = lower(text_model(substr, STRINGS), "tflite", allow_flex=True).model
    parsed = node_def(found(lowered)[0][1])
    assert (parsed.name, list(parsed.input)) == ("", ["", "", ""])
    assert {item.key: item.value.WhichOneof("value") for item in parsed.attr} == {"T": "type", "unit": "s"}


def test_operators_of_no_table_keep_all_their_attributes() -> None:
    from flatbuffers import flexbuffers

    model = text_model('%y = tf.MyThing(%x) {scale = 2.5, _mode = "fast", sizes = [1, 2]} : float32[2, 3]')
    ((code, options),) = found(lower(model, "tflite", allow_custom_ops=True).model)
    assert code == b"MyThing"
    assert flexbuffers.Loads(bytearray(options)) == {"scale": 2.5, "_mode": "fast", "sizes": [1, 2]}


def test_the_list_is_data() -> None:
    assert is_flex_operator("FFT")
    assert not is_flex_operator("Svd")
    assert not is_flex_operator("PartitionedCall")


# What is not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "inputs", "reason", "remedy"),
    [
        ("%y = tf.Erfinv(%x)", "%x: float32[2]", "no builtin operator", "--allow-custom-ops"),
        ("%y = tf.StringLower(%x)", "%x: string[2]", "no builtin operator", "--allow-flex"),
        ("%y = tf.Sin(%x)", "%x: float64[2]", "float64", "float32"),
        ("%y = tf.LRNGrad(%x, %x, %x)", "%x: float32[1, 2, 2, 4]", "training", "--outputs"),
        ("%y = tf.DecodeBmp(%x)", "%x: string[]", "pipeline of inputs", "--inputs"),
        ("%y = tf.MyThing(%x) : float32[2]", "%x: float32[2]", "no operator of this name", "--allow-custom-ops"),
        ("%y = tf.MyThing(%x)", "%x: float32[2]", "no operator of this name", ""),
    ],
)  # fmt: skip
def test_findings_say_why_and_what_helps(body: str, inputs: str, reason: str, remedy: str) -> None:
    (finding,) = check(text_model(body, inputs), "tflite")
    assert finding.node == "y"
    assert finding.operator == body.split()[2].partition("(")[0]
    assert reason in finding.reason
    assert remedy in finding.remedy


def test_findings_name_origins() -> None:
    model = text_model("%y = tf.Erfinv(%x)", "%x: float32[2]")
    model.graph.node("y").origins = ("layer/erfinv",)
    (finding,) = check(model, "tflite")
    assert finding.origins == ("layer/erfinv",)
    assert "from 'layer/erfinv'" in finding.sentence


def test_what_several_signatures_need_is_listed_once() -> None:
    model = text_model("%y = tf.Erfinv(%x)\n%z = tf.Neg(%y)", "%x: float32[2]", "%y, %z")
    graph = model.graph
    model.signatures = {"one": Signature(graph, {"x": 0}, {"y": 0}), "two": Signature(graph, {"x": 0}, {"z": 1})}
    assert [finding.node for finding in check(model, "tflite")] == ["y"]


def test_nothing_is_written_where_something_does_not_fit(run_cli: Any, tmp_path: pathlib.Path) -> None:
    graphopt.save(text_model("%y = tf.Erfinv(%x)", "%x: float32[2]"), tmp_path / "model.pb")
    done = run_cli("lower", "model.pb", "--to", "tflite", "-o", "model.tflite")
    assert done.status == 4
    assert "Erfinv" in done.err
    assert not (tmp_path / "model.tflite").exists()
    assert run_cli("check", "model.pb", "--target", "tflite").status == 1
    done = run_cli("check", "model.pb", "--target", "tflite", "--json")
    assert (done.status, [item["node"] for item in done.json["findings"]]) == (1, ["y"])
    assert run_cli("check", "model.pb", "--target", "tflite", "--allow-custom-ops").status == 0
    assert run_cli("lower", "model.pb", "--to", "tflite", "-o", "model.tflite", "--allow-custom-ops").status == 0
    assert found(graphopt.load(tmp_path / "model.tflite"))
