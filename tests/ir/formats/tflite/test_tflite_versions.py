"""Versions of operators that the writer gives: what was read stays, what is new or changed gets what it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphopt.ir.formats.tflite import read_tflite, tflite_bytes
from graphopt.ir.model import Model
from graphopt.ir.tensors import tensor
from graphopt.ir.types import tensor_type


def codes(model: Model) -> list[tuple[str, int]]:
    return [(node.op, node.attrs.get("_version", 1)) for node in node_list(model) if node.op.startswith("tfl.")]


def node_list(model: Model) -> list[Any]:
    return [node for node in model.graph if node.op not in ("tfl.INPUT", "tfl.CONSTANT")]


def fresh() -> Model:
    model = Model()
    for name, dims in (("x", (1, 2)), ("wide", (1, 1, 1, 1, 2))):
        node = model.graph.create_node("tfl.INPUT", [], {}, name=name)
        if not node.outputs:
            node.add_output()
        node.outputs[0].type = tensor_type("float32", dims)
    values = [model.graph.value("x"), model.graph.value("wide")]
    for name, operands in (("a", [values[0]] * 2), ("b", [values[1], values[0]]), ("c", [values[0], values[0]])):
        node = model.graph.create_node("tfl.SUB" if name != "c" else "tfl.ADD", operands, {}, name=name)
        if not node.outputs:
            node.add_output()
        node.outputs[0].type = operands[0].type
    model.set_signature({"x": values[0], "wide": values[1]}, {name: model.graph.value(name) for name in "abc"})
    return model


def test_new_operators_share_a_code_with_the_highest_version_that_one_needs() -> None:
    written = read_tflite(tflite_bytes(fresh()))
    assert codes(written) == [("tfl.SUB", 3), ("tfl.SUB", 3), ("tfl.ADD", 1)]
    assert len(written.metadata["tflite"].codes) == 2


def test_a_version_that_a_node_states_is_kept() -> None:
    model = fresh()
    model.graph.node("c").attrs["_version"] = 4
    assert ("tfl.ADD", 4) in codes(read_tflite(tflite_bytes(model)))


def test_what_was_read_stays_however_high_or_low(
    fields: dict[str, Any], packed: Callable[..., bytes], objects: Callable[[bytes], Any]
) -> None:
    for version in (1, 7):
        fields["operator_codes"][0]["version"] = version
        data = packed(fields)
        assert objects(tflite_bytes(read_tflite(data))) == objects(data)
        assert codes(read_tflite(data)) == [("tfl.ADD", version)]


def test_a_changed_type_raises_the_version(fields: dict[str, Any], packed: Callable[..., bytes]) -> None:
    model = read_tflite(packed(fields))
    for node in model.graph:
        for value in node.outputs:
            value.type = tensor_type("int64", value.type.shape)
        if node.op == "tfl.CONSTANT":
            node.attrs["value"] = tensor(np.arange(4))
    assert codes(read_tflite(tflite_bytes(model))) == [("tfl.ADD", 4)]


def test_a_changed_option_raises_the_version(fields: dict[str, Any], packed: Callable[..., bytes]) -> None:
    scaled = {"type": 7, "quantization": {"scale": [1.0], "zero_point": [0]}}
    for item in fields["subgraphs"][0]["tensors"]:
        item.update(scaled)
    fields["buffers"][1]["data"] = np.arange(4, dtype=np.int16).tobytes()
    fields["subgraphs"][0]["operators"][0]["builtin_options"] = {"pot_scale_int16": True}
    model = read_tflite(packed(fields))
    assert codes(read_tflite(tflite_bytes(model))) == [("tfl.ADD", 1)]
    model.graph.node("y").attrs["pot_scale_int16"] = False
    assert codes(read_tflite(tflite_bytes(model))) == [("tfl.ADD", 3)]


def test_an_unchanged_operator_beside_a_new_one_keeps_its_code(
    fields: dict[str, Any], packed: Callable[..., bytes]
) -> None:
    fields["operator_codes"][0]["version"] = 2
    model = read_tflite(packed(fields))
    output = model.graph.outputs[0]
    node = model.graph.create_node("tfl.ADD", [output, output], {}, name="again")
    if not node.outputs:
        node.add_output()
    node.outputs[0].type = output.type
    model.graph.outputs = [node.outputs[0]]
    assert codes(read_tflite(tflite_bytes(model))) == [("tfl.ADD", 2), ("tfl.ADD", 1)]
    assert tflite_bytes(model) == tflite_bytes(model)
