"""Suppression of overlapping boxes, and detection heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphopt
from graphopt.backends.base import UnloweredError
from graphopt.compat import TFLiteConverter
from graphopt.ir.formats.tflite import read_tflite
from graphopt.lowering import check, lower
from graphopt.testing.lowering import assert_lowers, operators, text_model

THRESHOLDS = """
%size = tf.Const() {{value = int32[] {size}, dtype = int32}}
%overlap = tf.Const() {{value = float32[] {overlap}, dtype = float32}}
%least = tf.Const() {{value = float32[] {least}, dtype = float32}}
%sigma = tf.Const() {{value = float32[] {sigma}, dtype = float32}}
"""
INPUTS = "%boxes: float32[{many}, 4], %scores: float32[{many}]"


def constants(size: int = 4, overlap: float = 0.4, least: float = 0.2, sigma: float = 0.0) -> str:
    return THRESHOLDS.format(size=size, overlap=overlap, least=least, sigma=sigma)


def boxes_and_scores(seed: int, shape: tuple[int, ...], classes: tuple[int, ...]) -> dict[str, Any]:
    """One sample: boxes whose corners are in order, and scores of which no two are alike."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 0.8, (*shape, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0.1, 0.5, (*shape, 2))], -1).astype(np.float32)
    count = int(np.prod(classes))
    scores = (random.permutation(count) / count).astype(np.float32).reshape(classes)
    return {"boxes": boxes[None], "scores": scores[None]}


BOXES = boxes_and_scores(0, (12,), (12,))
V3 = "%y = tf.NonMaxSuppressionV3(%boxes, %scores, %size, %overlap, %least)"
V4 = "%y = tf.NonMaxSuppressionV4(%boxes, %scores, %size, %overlap, %least) {pad_to_max_output_size = PAD}"
V5 = "%y = tf.NonMaxSuppressionV5(%boxes, %scores, %size, %overlap, %least, %sigma) {pad_to_max_output_size = PAD}"
COMBINED = """
%each = tf.Const() {{value = int32[] {each}, dtype = int32}}
%total = tf.Const() {{value = int32[] {total}, dtype = int32}}
%y = tf.CombinedNonMaxSuppression(%boxes, %scores, %each, %total, %overlap, %least)
  {{pad_per_class = {pad}, clip_boxes = {clip}}}
"""


@pytest.mark.tensorflow
class TestSuppression:
    @pytest.mark.parametrize("body", ["%y = tf.NonMaxSuppressionV2(%boxes, %scores, %size, %overlap)", V3])
    def test_indices_are_as_many_as_are_kept(self, body: str) -> None:
        model = text_model(constants() + body, INPUTS.format(many=12))
        lowered = assert_lowers(model, {"NON_MAX_SUPPRESSION_V4": 1, "RESHAPE": 1, "SLICE": 1}, data=BOXES)
        assert lowered.model.graph.outputs[0].shape.static is None

    def test_the_first_version_has_its_threshold_as_an_attribute(self) -> None:
        body = "%y = tf.NonMaxSuppression(%boxes, %scores, %size) {iou_threshold = 0.3}"
        assert_lowers(text_model(constants() + body, INPUTS.format(many=12)), data=BOXES)

    @pytest.mark.parametrize("size", [1, 4, 40])
    @pytest.mark.parametrize("pad", ["true", "false"])
    def test_padded_or_not(self, pad: str, size: int) -> None:
        for body, outputs in ((V4, "%y, %y:1"), (V5, "%y, %y:1, %y:2")):
            text = constants(size, sigma=0.0) + body.replace("PAD", pad)
            assert_lowers(text_model(text, INPUTS.format(many=12), outputs), data=BOXES)

    def test_soft(self) -> None:
        text = constants(6, sigma=0.5) + V5.replace("PAD", "true")
        assert_lowers(text_model(text, INPUTS.format(many=12), "%y, %y:1, %y:2"), data=BOXES)

    def test_any_number_of_boxes(self) -> None:
        model = text_model(constants() + V3, INPUTS.format(many="?"))
        assert_lowers(model, data=BOXES)

    @given(st.integers(1, 30), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.7]), st.integers(0, 99))
    def test_boxes_at_random(self, many: int, size: int, overlap: float, seed: int) -> None:
        model = text_model(constants(size, overlap, least=-1.0) + V3, INPUTS.format(many=many))
        assert_lowers(model, data=boxes_and_scores(seed, (many,), (many,)))


def combined(
    pictures: int | str = 1, many: int = 10, shared: int = 1, classes: int = 3, each: int = 4, total: int = 6,
    pad: str = "false", clip: str = "true",
) -> Any:  # fmt: skip
    text = constants() + COMBINED.format(each=each, total=total, pad=pad, clip=clip)
    inputs = f"%boxes: float32[{pictures}, {many}, {shared}, 4], %scores: float32[{pictures}, {many}, {classes}]"
    return text_model(text.replace("\n  {", " {"), inputs, "%y, %y:1, %y:2, %y:3")


@pytest.mark.tensorflow
class TestCombined:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"pictures": 2},
            {"shared": 3},
            {"classes": 1},
            {"total": 40},
            {"total": 40, "pad": "true"},
            {"clip": "false"},
            {"each": 20, "many": 7, "total": 30},
        ],
        ids=str,
    )
    def test_as_tensorflow_computes_it(self, options: dict[str, Any]) -> None:
        model = combined(**options)
        boxes, scores = (value.shape.static for value in model.graph.inputs)
        lowered = assert_lowers(model, data=boxes_and_scores(1, boxes[:-1], scores))
        assert operators(lowered.model)["NON_MAX_SUPPRESSION_V4"] == scores[0] * scores[2]

    @given(
        st.integers(1, 2), st.integers(1, 12), st.integers(1, 4), st.integers(1, 6), st.integers(1, 9), st.booleans()
    )
    def test_sizes_at_random(self, pictures: int, many: int, classes: int, each: int, total: int, pad: bool) -> None:
        model = combined(pictures, many, 1, classes, each, total, "true" if pad else "false")
        boxes, scores = (value.shape.static for value in model.graph.inputs)
        assert_lowers(model, data=boxes_and_scores(each, boxes[:-1], scores))

    @pytest.mark.parametrize("shared", [1, 2])
    @pytest.mark.parametrize("pad", ["true", "false"])
    def test_any_number_of_pictures(self, shared: int, pad: str) -> None:
        """A loop, of which LiteRT runs as many steps as there are pictures."""
        dynamic = combined("?", 8, shared, 2, 3, 5, pad)
        samples = [boxes_and_scores(seed, (many, 8, shared), (many, 8, 2)) for seed, many in ((0, 1), (1, 3))]
        data = [{name: value[0] for name, value in sample.items()} for sample in samples]
        counts = operators(assert_lowers(dynamic, data=data).model)
        assert (counts["WHILE"], counts["NON_MAX_SUPPRESSION_V4"]) == (1, 2)

    def test_many_pictures(self) -> None:
        model = combined(20, 5, 1, 30, 2, 4)
        sample = boxes_and_scores(0, (20, 5, 1), (20, 5, 30))
        counts = operators(assert_lowers(model, data=sample).model)
        assert (counts["WHILE"], counts["NON_MAX_SUPPRESSION_V4"]) == (1, 30)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ("%boxes: float32[?, ?, 1, 4], %scores: float32[?, ?, 3]", "not wholly known"),
        ("%boxes: float32[2, 5, 1, 4], %scores: float32[2, 5, 600]", "600 classes"),
    ],
)
def test_what_is_combined_of_too_much_or_too_little_known_is_left(inputs: str, reason: str) -> None:
    text = constants() + COMBINED.format(each=2, total=2, pad="false", clip="true")
    (finding,) = check(text_model(text.replace("\n  {", " {"), inputs, "%y"), "tflite")
    assert reason in finding.reason
    assert "--allow-flex" in finding.remedy


def test_types_that_the_kernel_has_not_are_left() -> None:
    halves = "%boxes: float16[5, 4], %scores: float16[5]"
    text = constants().replace("least = tf.Const() {value = float32[]", "least = tf.Const() {value = float32[]")
    with pytest.raises(UnloweredError, match="float16"):
        lower(text_model(text + V3, halves), "tflite")


# The detection models of TensorFlow's research repository ---------------------------------------------------------

ATTRIBUTES: dict[str, Any] = {
    "max_detections": 10, "max_classes_per_detection": 1, "num_classes": 3, "nms_score_threshold": 0.1,
    "nms_iou_threshold": 0.5, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
    "use_regular_nms": False,
}  # fmt: skip


def custom(model: Any) -> tuple[bytes, bytes]:
    (node,) = (node for node in model.graph if node.op == "tfl.CUSTOM")
    return node.attrs["custom_code"], node.attrs["custom_options"]


def postprocess_graph(tf: Any) -> Any:
    """A GraphDef as the exporter of those models writes it, attributes of older converters among the others."""
    graph = tf.compat.v1.GraphDef()
    for name in ("boxes", "scores"):
        node = graph.node.add(name=name, op="Placeholder")
        node.attr["dtype"].type = 1
        for size in (1, 20, 4):
            node.attr["shape"].shape.dim.add(size=size)
    anchors = graph.node.add(name="anchors", op="Const")
    anchors.attr["dtype"].type = 1
    held = np.random.default_rng(0).uniform(0.1, 0.9, (20, 4)).astype(np.float32)
    anchors.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(held))
    node = graph.node.add(name="found", op="TFLite_Detection_PostProcess", input=["boxes", "scores", "anchors"])
    node.attr["_output_quantized"].b = True
    node.attr["_output_types"].list.type.extend([1, 1, 1, 1])
    for key, value in {**ATTRIBUTES, "detections_per_class": 100}.items():
        field = "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f"
        setattr(node.attr[key], field, value)
    return graph


@pytest.mark.tensorflow
class TestPostProcess:
    def test_the_operator_of_graphs_is_tf_lites(self, tmp_path: Any) -> None:
        import tensorflow as tf

        path = tmp_path / "detector.pb"
        path.write_bytes(postprocess_graph(tf).SerializeToString())
        outputs = ["found", "found:1", "found:2", "found:3"]
        shapes = {"boxes": [1, 20, 4], "scores": [1, 20, 4]}
        converter = tf.compat.v1.lite.TFLiteConverter.from_frozen_graph(str(path), list(shapes), outputs, shapes)
        converter.allow_custom_ops = True
        theirs = read_tflite(converter.convert())
        ours = lower(path, "tflite", inputs=["boxes", "scores"], outputs=outputs).model
        assert custom(ours) == custom(theirs)
        assert [value.shape.static for value in ours.graph.outputs] == [(1, 10, 4), (1, 10), (1, 10), (1,)]
        report = graphopt.verify(theirs, ours, random=2)
        assert report.holds

    def test_functions_that_stand_for_it_are_tf_lites(self) -> None:
        import tensorflow as tf

        parts = ['name: "TFLite_Detection_PostProcess"']
        for key, value in ATTRIBUTES.items():
            field = "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f"
            parts.append(f'attr {{ key: "{key}" value {{ {field}: {str(value).lower()} }} }}')

        @tf.function(experimental_implements=" ".join(parts))
        def found(boxes: Any, scores: Any, anchors: Any) -> Any:
            del boxes, scores, anchors
            return tf.zeros([1, 10, 4]), tf.zeros([1, 10]), tf.zeros([1, 10]), tf.zeros([1])

        anchors = np.random.default_rng(0).uniform(0.1, 0.9, (20, 4)).astype(np.float32)
        self.compare(lambda boxes, scores: found(boxes, scores, tf.constant(anchors)), ([1, 20, 4], [1, 20, 4]))

    def test_functions_that_say_they_can_be_fused_are(self) -> None:
        import tensorflow as tf

        fusable = 'name: "mine" attr { key: "tfl_fusable_op" value { b: true } }'
        attrs = ' attr { key: "alpha" value { f: 0.3 } } attr { key: "mode" value { s: "fast" } }'

        @tf.function(experimental_implements=fusable + attrs)
        def mine(x: Any) -> Any:
            return tf.sin(x) * 2.0

        self.compare(lambda x: mine(tf.abs(x)), ([2, 3],))

    def compare(self, function: Any, shapes: Any) -> None:
        import tensorflow as tf

        traced = tf.function(function).get_concrete_function(*(tf.TensorSpec(shape, tf.float32) for shape in shapes))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module())
        converter.allow_custom_ops = True
        theirs = read_tflite(converter.convert())
        ours = read_tflite(TFLiteConverter.from_concrete_functions([traced], tf.Module()).convert())
        assert custom(ours) == custom(theirs)
        assert operators(ours) == operators(theirs)

    def test_functions_that_merely_have_a_name_are_inlined(self) -> None:
        import tensorflow as tf

        @tf.function(experimental_implements="anything")
        def inner(x: Any) -> Any:
            return tf.sin(x)

        traced = tf.function(lambda x: inner(x)).get_concrete_function(tf.TensorSpec([2], tf.float32))
        assert_lowers(traced, ["SIN"])
