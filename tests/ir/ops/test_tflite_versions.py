"""Lowest versions of TFLite's operators: by types, shapes and options, and against files that others wrote."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from graphopt.ir.formats.tflite import read_tflite
from graphopt.ir.graph import Graph
from graphopt.ir.ops.tflite import BUILTIN
from graphopt.ir.ops.tflite_versions import RULES, version_of
from graphopt.ir.types import Quantization, TensorType, tensor_type
from graphopt.ir.value import Node

SCALES = Quantization((0.5,), (0,))
PER_CHANNEL = Quantization((0.5, 0.25), (0, 0), 0)


def node_of(operator: str, inputs: list[TensorType | None], outputs: list[TensorType], **attrs: Any) -> Node:
    graph = Graph()
    operands = []
    for type in inputs:
        source = None if type is None else graph.create_node("tfl.INPUT", [], {}, name="x")
        if source is not None:
            source.outputs or source.add_output()
            source.outputs[0].type = type
        operands.append(None if source is None else source.outputs[0])
    node = graph.create_node(f"tfl.{operator}", operands, attrs, name="y")
    while len(node.outputs) < len(outputs):
        node.add_output()
    for value, type in zip(node.outputs, outputs, strict=True):
        value.type = type
    return node


def of(name: str, *dims: int, scales: Quantization | None = None) -> TensorType:
    return TensorType(tensor_type(name).dtype, tensor_type(name, dims).shape, scales)


F, B, S = of("float32", 2, 2), of("int8", 2, 2, scales=SCALES), of("int16", 2, 2, scales=SCALES)
WHOLE, LONG = of("int32", 2), of("int64", 2)
IMAGE, FILTER = of("float32", 1, 4, 4, 2), of("float32", 3, 1, 1, 2)


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "attrs", "version"),
    [
        ("ADD", [F, F], [F], {}, 1),
        ("ADD", [B, B], [B], {}, 2),
        ("ADD", [S, S], [S], {"pot_scale_int16": False}, 3),
        ("ADD", [S, S], [S], {}, 1),
        ("ADD", [LONG, LONG], [LONG], {}, 4),
        ("ADD", [of("int16", 2), of("int16", 2)], [of("int16", 2)], {}, 5),
        ("ABS", [S], [S], {}, 3),
        ("ABS", [of("int16", 2)], [of("int16", 2)], {}, 4),
        ("CONV_2D", [IMAGE, FILTER, F], [IMAGE], {}, 1),
        ("CONV_2D", [IMAGE, of("float32", 3, 1, 1, 1), F], [IMAGE], {}, 6),
        ("CONV_2D", [IMAGE, of("int8", 2, 1, 1, 2, scales=SCALES), F], [IMAGE], {}, 2),
        ("CONV_2D", [IMAGE, of("int8", 2, 1, 1, 2, scales=PER_CHANNEL), F], [IMAGE], {}, 5),
        ("DEPTHWISE_CONV_2D", [IMAGE, FILTER], [IMAGE], {"dilation_wfactor": 2}, 2),
        ("FULLY_CONNECTED", [F, F], [F], {}, 6),
        ("FULLY_CONNECTED", [F, F, None], [F], {}, 1),
        ("FULLY_CONNECTED", [F, F, WHOLE], [F], {"keep_num_dims": True}, 5),
        ("FULLY_CONNECTED", [F, B, WHOLE], [F], {"asymmetric_quantize_inputs": True}, 9),
        ("FULLY_CONNECTED", [F, F, WHOLE], [F], {"weights_format": b"SHUFFLED4x16INT8"}, 2),
        ("GATHER", [F, WHOLE], [F], {"batch_dims": 1}, 5),
        ("MAXIMUM", [of("float32", 1, 1, 1, 1, 2), F], [F], {}, 3),
        ("MAXIMUM", [of("float32", 1, 1, 1, 1, 2)] * 2, [F], {}, 1),
        ("MUL", [of("int16", 2)] * 2, [of("int16", 2)], {}, 7),
        ("MUL", [of("int8", 2, scales=Quantization((2.0,), (0,)))] * 2, [B], {}, 3),
        ("BROADCAST_TO", [F, WHOLE], [F], {}, 2),
        ("CAST", [F], [of("float64", 2)], {}, 5),
        ("TRANSPOSE", [of("float32", 1, 1, 1, 1, 1), WHOLE], [F], {}, 4),
        ("TRANSPOSE_CONV", [WHOLE, F, IMAGE], [IMAGE], {"fused_activation_function": b"NONE"}, 1),
        ("TRANSPOSE_CONV", [WHOLE, F, IMAGE, F], [IMAGE], {}, 3),
        ("TRANSPOSE_CONV", [WHOLE, F, IMAGE], [IMAGE], {"fused_activation_function": b"RELU"}, 4),
        ("STRIDED_SLICE", [F, WHOLE, WHOLE, WHOLE], [F], {"new_axis_mask": 2}, 6),
        ("SPACE_TO_BATCH_ND", [of("float32", 1, 2, 2), WHOLE, WHOLE], [F], {}, 3),
        ("QUANTIZE", [F], [of("int8", 2, scales=PER_CHANNEL)], {}, 3),
        ("RESIZE_NEAREST_NEIGHBOR", [IMAGE, WHOLE], [IMAGE], {"align_corners": True}, 3),
        ("WHERE", [F], [LONG], {}, 2),
        ("CUSTOM", [F], [F], {"custom_code": b"Mine"}, 1),
    ],
)  # fmt: skip
def test_version(
    operator: str, inputs: list[TensorType | None], outputs: list[TensorType], attrs: dict[str, Any], version: int
) -> None:
    assert version_of(node_of(operator, inputs, outputs, **attrs)) == version


def test_every_rule_is_of_an_operator_and_parses() -> None:
    assert set(RULES) <= set(BUILTIN)
    assert all(version_of(node_of(operator, [F] * 5, [F])) >= 1 for operator in RULES)


@pytest.mark.corpus("tflite/**/*.tflite")
def test_no_more_than_what_others_wrote(corpus_file: pathlib.Path) -> None:
    """One code serves all uses of an operator, so its version is that of the most demanding."""
    for graph in read_tflite(corpus_file).graphs:
        for node in graph:
            code = getattr(node.extras, "code", None)
            if code is None or node.op == "tfl.CUSTOM":
                continue
            # A few writers leave the version of the type that an operator had before it became an int16.
            types = {value.type.dtype.name for value in (*node.inputs, *node.outputs) if value is not None}
            assert version_of(node) <= code.version or "int16" in types, f"{node.op} {types}"
