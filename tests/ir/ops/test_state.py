"""Variables, tables, queues, iterators: shapes and state."""

from __future__ import annotations

import pytest

from graphopt.ir.infer import infer_node
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.text import parse_graph

MAKERS = """
    %variable = tf.VarHandleOp() {dtype = float32, shape = shape[2, ?]} : resource[]
    %same = tf.Identity(%variable) : resource[]
    %reference = tf.VariableV2() {dtype = float32, shape = shape[2, ?]} : float32_ref[2, ?]
    %table = tf.HashTableV2() {key_dtype = string, value_dtype = int64} : resource[]
    %vectors = tf.MutableHashTableOfTensorsV2() {key_dtype = string, value_dtype = int64} : resource[]
    %default = tf.Const() {value = int64[] -1}
    %three = tf.Const() {value = int32[] 3}
    %queue = tf.FIFOQueueV2() {component_types = [float32, int32], shapes = [shape[7], shape[]]} : resource[]
"""


def types_of(node: str) -> list[str]:
    graph = parse_graph(f"graph @main(%x: float32[2, 5], %k: string[?, 4]) -> () {{ {MAKERS} %node = {node} }}")
    return [str(item) for item in infer_node(graph.node("node"))]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("tf.VarHandleOp() {dtype = float32, shape = shape[2]}", ["resource[]"]),
        ("tf.VariableV2() {dtype = float32, shape = shape[2]}", ["float32_ref[2]"]),
        ("tf.Variable() {dtype = float32, shape = shape[]}", ["float32_ref[*]"]),
        ("tf.ReadVariableOp(%variable) {dtype = float32}", ["float32[2, ?]"]),
        ("tf.ReadVariableOp(%same) {dtype = float32}", ["float32[2, ?]"]),
        ("tf.ReadVariableOp(%table) {dtype = float32}", ["float32[*]"]),
        ("tf.Assign(%reference, %x) {T = float32}", ["float32_ref[2, 5]"]),
        ("tf.Assign(%reference, %default) {T = float32, validate_shape = false}", ["float32_ref[]"]),
        ("tf.AssignAdd(%reference, %x) {T = float32}", ["float32_ref[2, 5]"]),
        ("tf.AssignVariableOp(%variable, %x)", []),
        ("tf.VarIsInitializedOp(%variable)", ["bool[]"]),
        ("tf.LookupTableFindV2(%table, %k, %default)", ["int64[?, 4]"]),
        ("tf.LookupTableFindV2(%vectors, %k, %default)", ["int64[*]"]),
        ("tf.LookupTableSizeV2(%table)", ["int64[]"]),
        ("tf.LookupTableExportV2(%table) {Tkeys = string, Tvalues = int64}", ["string[?]", "int64[?]"]),
        ("tf.QueueDequeueV2(%queue) {component_types = [float32, int32]}", ["float32[7]", "int32[]"]),
        ("tf.QueueDequeueManyV2(%queue, %three) {component_types = [float32, int32]}", ["float32[3, 7]", "int32[3]"]),
        ("tf.QueueDequeueUpToV2(%queue, %three) {component_types = [float32, int32]}", ["float32[?, 7]", "int32[?]"]),
        ("tf.IteratorGetNext(%table) {output_types = [float32], output_shapes = [shape[7]]}", ["float32[7]"]),
    ],
)
def test_shapes(node: str, expected: list[str]) -> None:
    assert types_of(node) == expected


@pytest.mark.parametrize(
    "op",
    [
        "Assign", "AssignAdd", "ScatterAdd", "ScatterNdUpdate", "IsVariableInitialized", "CountUpTo", "QueueEnqueue",
        "QueueDequeue", "LookupTableFind", "InitializeTable", "ReadVariableOp", "VarHandleOp",
        "AccumulatorTakeGradient",
    ],
)  # fmt: skip
def test_what_reads_or_writes_state_says_so_even_where_tensorflow_does_not(op: str) -> None:
    assert traits_of(f"tf.{op}") & Trait.STATEFUL


def test_an_argument_may_declare_what_its_handle_refers_to() -> None:
    graph = parse_graph(
        """graph @main() -> () {
          %h = tf._Arg() {T = resource, index = 0, _handle_shapes = [shape[4]]}
          %y = tf.ReadVariableOp(%h) {dtype = float32}
        }"""
    )
    assert [str(item) for item in infer_node(graph.node("y"))] == ["float32[4]"]
