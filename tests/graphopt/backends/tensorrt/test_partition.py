"""What TensorRT would take of a model that it cannot take as a whole; its plugin for heads of detectors."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.backends.tensorrt.artifact import write_artifact
from graphopt.cli.main import main
from graphopt.ir.model import Model
from graphopt.testing.lowering import text_model

SPLIT = "%a = tf.Relu(%x)\n%b = tf.Where(%a)\n%c = tf.Cast(%b) {DstT = float32}\n%y = tf.Neg(%c)"


def partition(model: Model) -> Any:
    return graphopt.check(model, "tensorrt").partition


def test_a_node_that_is_refused_divides_the_model() -> None:
    found = partition(text_model(SPLIT, "%x: float32[2, 3]"))
    assert found.outside == {"onnx.NonZero": 1}
    before, behind = sorted(found.parts, key=lambda part: part.nodes)
    assert (before.inputs, before.outputs, before.operators) == (["x"], ["a"], {"onnx.Relu": 1})
    assert behind.inputs == ["b/columns"]
    assert behind.outputs == ["y"]
    assert "2 engines; 1 stay in TensorFlow: 1 onnx.NonZero" in found.lines()[0]


def test_what_goes_around_a_refused_node_is_no_part_with_what_is_behind_it() -> None:
    body = "%a = tf.Relu(%x)\n%f = tf.FFT(%z)\n%r = tf.Real(%f)\n%b = tf.Add(%a, %r)\n%y = tf.Tanh(%b)"
    found = partition(text_model(body, "%x: float32[4], %z: complex64[4]"))
    assert all("onnx.Relu" not in part.operators or "onnx.Tanh" not in part.operators for part in found.parts)


def test_a_model_without_findings_is_one_part(network: Model) -> None:
    found = partition(network)
    assert len(found.parts) == 1
    assert found.outside == {}
    assert found.parts[0].inputs == ["x"]
    assert found.parts[0].outputs == ["y"]


@settings(max_examples=15)
@given(st.lists(st.sampled_from(("Relu", "Where")), min_size=1, max_size=5))
def test_chains_have_an_engine_more_than_refused_nodes_between(kinds: list[str]) -> None:
    """Every node is in one part or outside, and no part waits for itself."""
    lines, last = [], "x"
    for place, kind in enumerate(kinds):
        lines.append(f"%n{place} = tf.{kind}(%{last})")
        last = f"n{place}"
        if kind == "Where":
            lines.append(f"%f{place} = tf.Cast(%{last}) {{DstT = float32}}")
            last = f"f{place}"
    model = text_model("\n".join([*lines, f"%y = tf.Neg(%{last})"]), "%x: float32[2, 3]")
    found = partition(model)
    assert sum(found.outside.values()) == kinds.count("Where")
    if len(found.parts) > 1:
        assert len(found.parts) <= kinds.count("Where") + 1


def test_the_command_line_prints_it(tmp_path: pathlib.Path, capsys: Any) -> None:
    path = str(tmp_path / "model.pb")
    graphopt.save(text_model(SPLIT, "%x: float32[2, 3]"), path)
    assert main(["check", path, "--target", "tensorrt", "--outputs", "y"]) == 1
    printed = capsys.readouterr().out
    assert "how many elements it yields follows from data" in printed
    assert "TensorRT would take 4 nodes in 2 engines" in printed
    assert main(["check", path, "--target", "tensorrt", "--outputs", "y", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["partition"]["taken"] == 4


def detector(each: int, clip: str = "true") -> Model:
    body = f"""
    %each = tf.Const() {{value = int32[] {each}}}
    %total = tf.Const() {{value = int32[] 10}}
    %overlap = tf.Const() {{value = float32[] 0.5}}
    %least = tf.Const() {{value = float32[] 0.25}}
    %y = tf.CombinedNonMaxSuppression(%boxes, %scores, %each, %total, %overlap, %least) {{clip_boxes = {clip}}}
    """
    return text_model(body, "%boxes: float32[2, 20, 1, 4], %scores: float32[2, 20, 3]", "%y, %y:1, %y:2, %y:3")


@pytest.mark.parametrize("clip", ["true", "false"])
def test_heads_of_detectors_become_the_plugin_on_request(tmp_path: pathlib.Path, clip: str) -> None:
    lowered = graphopt.lower(detector(10, clip), "tensorrt", efficient_nms=True)
    (plugin,) = [node for node in lowered.model.graph if node.op == "TRT.EfficientNMS_TRT"]
    assert plugin.attrs["max_output_boxes"] == 10
    assert plugin.attrs["iou_threshold"] == 0.5
    assert plugin.attrs["score_threshold"] == 0.25
    shapes = [(str(value.type), value.name) for value in lowered.model.graph.outputs]
    assert [text for text, _ in shapes] == [
        "float32[2, 10, 4]", "float32[2, 10]", "float32[2, 10]", "int32[2]",
    ]  # fmt: skip
    assert any(node.op_type == "Min" for node in lowered.model.graph) == (clip == "true")
    manifest = write_artifact(lowered, tmp_path / "engine", gates=("checker", "onnxruntime", "tensorrt-rtx"))
    assert manifest["plugins"] == ["EfficientNMS_TRT"]
    assert "TensorRT's plugin" in manifest["gates"][2]["detail"]
    plain = graphopt.lower(detector(10, clip), "tensorrt").model
    assert any(node.op_type == "NonMaxSuppression" for node in plain.graph)


def test_the_plugin_knows_no_most_of_a_class() -> None:
    with pytest.raises(UnloweredError, match="leave --efficient-nms out"):
        graphopt.lower(detector(5), "tensorrt", efficient_nms=True)
