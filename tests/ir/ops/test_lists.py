"""TensorArray, TensorList, stacks and optionals: shapes and state."""

from __future__ import annotations

import pytest

from graphopt.ir.infer import infer_node
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.text import parse_graph

HANDLES = """
    %size = tf.Const() {value = int32[] 5}
    %free = tf.Const() {value = int32[] -1}
    %element = tf.Const() {value = int32[2] [-1, 3]}
    %places = tf.Const() {value = int32[4] [0, 1, 2, 3]}
    %flow = tf.Const() {value = float32[] 0.0}
    %array = tf.TensorArrayV3(%size) {dtype = float32, element_shape = shape[2, 3]} : (resource[2], float32[])
    %inside = tf.Enter(%array) {frame_name = b"f"} : resource[2]
    %list = tf.TensorListReserve(%element, %size) {element_dtype = float32} : variant[]
"""


def types_of(node: str) -> list[str]:
    graph = parse_graph(f"graph @main(%x: float32[?, 3]) -> () {{ {HANDLES} %node = {node} }}")
    return [str(item) for item in infer_node(graph.node("node"))]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("tf.TensorArrayV3(%size) {dtype = float32}", ["resource[2]", "float32[]"]),
        ("tf.TensorArrayV2(%size) {dtype = float32}", ["string[2]"]),
        ("tf.TensorArrayWriteV3(%array, %size, %x, %flow)", ["float32[]"]),
        ("tf.TensorArrayReadV3(%array, %size, %flow) {dtype = float32}", ["float32[2, 3]"]),
        ("tf.TensorArrayReadV3(%inside, %size, %flow) {dtype = float32}", ["float32[2, 3]"]),
        ("tf.TensorArrayGatherV3(%array, %places, %flow) {dtype = float32}", ["float32[4, 2, 3]"]),
        (
            "tf.TensorArrayGatherV3(%array, %places, %flow) {dtype = float32, element_shape = shape[2, ?]}",
            ["float32[4, 2, 3]"],
        ),
        (
            "tf.TensorArrayConcatV3(%array, %flow) {dtype = float32, element_shape_except0 = shape[3]}",
            ["float32[?, 3]", "int64[?]"],
        ),
        ("tf.TensorArraySizeV3(%array, %flow)", ["int32[]"]),
        ("tf.TensorListFromTensor(%x, %element)", ["variant[]"]),
        ("tf.TensorListReserve(%free, %size) {element_dtype = float32}", ["variant[]"]),
        ("tf.TensorListGetItem(%list, %size, %element) {element_dtype = float32}", ["float32[?, 3]"]),
        ("tf.TensorListGetItem(%list, %size, %free) {element_dtype = float32}", ["float32[*]"]),
        ("tf.TensorListStack(%list, %element) {element_dtype = float32}", ["float32[?, ?, 3]"]),
        ("tf.TensorListStack(%list, %element) {element_dtype = float32, num_elements = 5}", ["float32[5, ?, 3]"]),
        ("tf.TensorListGather(%list, %places, %element) {element_dtype = float32}", ["float32[4, ?, 3]"]),
        ("tf.TensorListConcatV2(%list, %element, %free) {element_dtype = float32}", ["float32[?, 3]", "int64[?]"]),
        ("tf.TensorListPopBack(%list, %element) {element_dtype = float32}", ["variant[]", "float32[?, 3]"]),
        ("tf.TensorListLength(%list)", ["int32[]"]),
        ("tf.StackPushV2(%array, %x)", ["float32[?, 3]"]),
        ("tf.OptionalFromValue(%x)", ["variant[]"]),
        ("tf.OptionalGetValue(%list) {output_types = [float32], output_shapes = [shape[7]]}", ["float32[7]"]),
    ],
)
def test_shapes(node: str, expected: list[str]) -> None:
    assert types_of(node) == expected


@pytest.mark.parametrize(
    "op", ["TensorArrayWriteV2", "TensorArrayReadV2", "TensorArrayGather", "StackPush", "StackPop"]
)
def test_what_goes_through_a_handle_of_old_has_state_though_tensorflow_does_not_say_so(op: str) -> None:
    assert traits_of(f"tf.{op}") & Trait.STATEFUL


def test_tensor_lists_are_values() -> None:
    assert not traits_of("tf.TensorListSetItem") & Trait.STATEFUL
