"""Lookup tables of known contents."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from graphopt.ir.formats.tflite import tflite_bytes
from graphopt.ir.known import hold
from graphopt.ir.model import Model, Signature
from graphopt.lowering import check, lower
from graphopt.testing.lowering import operators, text_model

TABLE = """
%keys = tf.Const() {{value = {keys}, dtype = {kind}}}
%values = tf.Const() {{value = {values}, dtype = {held}}}
%default = tf.Const() {{value = {default}, dtype = {held}}}
%table = tf.HashTableV2() {{key_dtype = {kind}, value_dtype = {held}}}
%fill = tf.{filler}(%table, %keys, %values)
%size = tf.LookupTableSizeV2(%table)
%y = tf.LookupTableFindV2(%table, %x, %default)
"""
NATIVE = {"HASHTABLE": 2, "HASHTABLE_FIND": 1, "HASHTABLE_IMPORT": 1, "CALL_ONCE": 1}
WORDS = 'string[3] [b"a", b"bc", b""]'


def table(keys: str, values: str, default: str, filler: str = "LookupTableImportV2", shape: str = "[?]") -> Model:
    kind, held = keys.partition("[")[0], values.partition("[")[0]
    text = TABLE.format(keys=keys, values=values, default=default, kind=kind, held=held, filler=filler)
    model = text_model(text, f"%x: {kind}{shape}", "%y, %size")
    model.graph.targets = [model.graph.node("fill")]
    return model


def interpreter(model: Model) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=tflite_bytes(model))


def run(model: Model, asked: Any) -> list[Any]:
    found = interpreter(model).get_signature_runner()(x=np.asarray(asked))
    assert int(found["size"]) == 3
    return list(found["y"].tolist())


TEXTS = np.array([b"bc", b"?", b"", b"a"], object)


@pytest.mark.parametrize("filler", ["LookupTableImportV2", "InitializeTableV2"])
def test_numbers_of_text_and_text_of_numbers_are_tables(filler: str) -> None:
    lowered = lower(table(WORDS, "int64[3] [10, 20, 30]", "int64[] -1", filler), "tflite").model
    assert operators(lowered) == NATIVE
    assert run(lowered, TEXTS) == [20, -1, 30, 10]
    lowered = lower(table("int64[3] [5, 6, 7]", WORDS, 'string[] b"none"', filler), "tflite").model
    assert operators(lowered) == NATIVE
    assert run(lowered, np.array([6, 8, 5], np.int64)) == [b"bc", b"none", b"a"]
    lowered = lower(table("int32[3] [5, 6, 7]", WORDS, 'string[] b"none"', filler), "tflite").model
    assert operators(lowered) == {**NATIVE, "CAST": 1}
    assert run(lowered, np.array([6, 8, 5], np.int32)) == [b"bc", b"none", b"a"]


@pytest.mark.parametrize(
    ("values", "default", "expected"),
    [
        ("int32[3] [10, 20, 30]", "int32[] -1", [20, -1, 30, 10]),
        ("float32[3] [0.5, 1.5, 2.5]", "float32[] -1.0", [1.5, -1.0, 2.5, 0.5]),
        ('string[3] [b"x", b"y", b"zz"]', 'string[] b"none"', [b"y", b"none", b"zz", b"x"]),
    ],
)
def test_text_has_places_among_values_of_other_types(values: str, default: str, expected: list[Any]) -> None:
    lowered = lower(table(WORDS, values, default), "tflite").model
    assert operators(lowered) == {**NATIVE, "CAST": 1, "GATHER": 1}
    assert run(lowered, TEXTS) == expected


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_numbers_of_numbers_are_found_by_comparing(kind: str) -> None:
    lowered = lower(table(f"{kind}[3] [5, 6, 7]", "float32[3] [0.5, 1.5, 2.5]", "float32[] -1.0"), "tflite").model
    assert "HASHTABLE" not in operators(lowered)
    assert run(lowered, np.array([6, 8, 5], kind)) == [1.5, -1.0, 0.5]
    square = lower(table(f"{kind}[3] [5, 6, 7]", "int32[3] [1, 2, 3]", "int32[] 0", shape="[2, 2]"), "tflite").model
    assert run(square, np.array([[6, 8], [5, 7]], kind)) == [[2, 0], [1, 3]]


def test_a_table_is_filled_once_for_all_signatures() -> None:
    model = table(WORDS, "int64[3] [10, 20, 30]", "int64[] -1")
    graph = model.graph
    model.signatures = {
        "serving_default": Signature(graph, {"x": 0}, {"y": 0, "size": 1}),
        "other": Signature(graph, {"x": 0}, {"y": 0}),
    }
    lowered = lower(model, "tflite").model
    counts = Counter(node.op for graph in lowered.graphs for node in graph)
    assert counts["tfl.HASHTABLE_IMPORT"] == 1
    assert counts["tfl.CALL_ONCE"] == 2
    made = interpreter(lowered)
    for key in ("other", "serving_default"):
        assert made.get_signature_runner(key)(x=TEXTS)["y"].tolist() == [20, -1, 30, 10]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: table("float32[3] [5.0, 6.0, 7.0]", "int32[3] [1, 2, 3]", "int32[] 0"), "keys are float32"),
        (lambda: table("int32[2000] splat 1", "int32[2000] splat 1", "int32[] 0"), "2000 numbers as keys"),
        (lambda: table("int8[3] [5, 6, 7]", WORDS, 'string[] b""'), "from int8 to text"),
    ],
)
def test_tables_that_litert_has_not_are_left(model: Any, reason: str) -> None:
    findings = {finding.node: finding.reason for finding in check(model(), "tflite")}
    assert reason in findings["y"]
    assert "size" not in findings


def test_tables_that_somebody_else_fills_are_left() -> None:
    model = table(WORDS, "int64[3] [10, 20, 30]", "int64[] -1")
    node = model.graph.node("fill")
    hold(model.graph, np.array([1, 2, 3], np.int64), name="more", before=node)
    keys, values = node.input(1), model.graph.value("more")
    inputs = [node.input(0), keys, values]
    model.graph.create_node("tf.LookupTableImportV2", inputs, dict(node.attrs), name="again", types=())
    model.graph.targets = [node, model.graph.node("again")]
    findings = {finding.node: finding for finding in check(model, "tflite")}
    assert "is not known" in findings["y"].reason
    assert "fill the table once" in findings["y"].remedy


def test_handles_may_be_passed_on_and_the_same_be_filled_in_twice() -> None:
    model = table(WORDS, "int64[3] [10, 20, 30]", "int64[] -1")
    graph = model.graph
    handle = graph.value("table")
    one = graph.create_node("tf.Identity", [handle], {"T": handle.dtype}, name="one", types=[handle.type]).output
    both = graph.create_node("tf.IdentityN", [one], {"T": (handle.dtype,)}, name="both", types=[handle.type]).output
    graph.node("y").replace_input(0, both)
    inputs = [both, *graph.node("fill").inputs[1:]]
    again = graph.create_node("tf.InitializeTableV2", inputs, dict(graph.node("fill").attrs), name="again", types=())
    graph.targets = [graph.node("fill"), again]
    lowered = lower(model, "tflite").model
    assert operators(lowered) == NATIVE
    assert run(lowered, TEXTS) == [20, -1, 30, 10]


@pytest.mark.tensorflow
def test_tables_of_a_saved_model_from_a_file(tmp_path: Any) -> None:
    import tensorflow as tf

    (tmp_path / "words.txt").write_text("one\ntwo\nthree\n")
    module = tf.Module()
    reader = tf.lookup.TextFileInitializer(
        str(tmp_path / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )  # fmt: skip
    module.table = tf.lookup.StaticHashTable(reader, -1)
    module.find = tf.function(module.table.lookup, input_signature=[tf.TensorSpec([None], tf.string, "x")])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.find)
    lowered = lower(str(tmp_path / "model"), "tflite").model
    assert operators(lowered) == NATIVE
    found = interpreter(lowered).get_signature_runner()(x=np.array([b"three", b"four"], object))
    assert found["output_0"].tolist() == [2, -1]
