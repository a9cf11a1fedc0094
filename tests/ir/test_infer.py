"""Shape and dtype inference: nodes, shape values, contradictions and what it may not change."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from infer_helpers import inferred, types_of

from graphopt.ir.infer import forget_shapes, infer_graph, infer_model, infer_node
from graphopt.ir.shape_values import ShapeValues
from graphopt.ir.tensors import RepeatedTensor
from graphopt.ir.text import parse_graph, parse_model
from graphopt.ir.types import FLOAT32, INT32, Shape, tensor_type, unshaped

# Nodes ---------------------------------------------------------------------------------------------------------


def test_one_node_is_inferred_and_nothing_changes() -> None:
    graph = parse_graph("graph @main(%x: float32[?, 4]) -> (%y) { %y = tf.Relu(%x) }")
    graph.value("y").type = unshaped(FLOAT32)
    assert [str(item) for item in infer_node(graph.node("y"))] == ["float32[?, 4]"]
    assert str(graph.value("y").type) == "float32[*]"


def test_one_node_looks_at_the_producers_of_a_shape() -> None:
    graph = parse_graph("""graph @main(%x: float32[2, 3, 4]) -> (%y) {
        %shape = tf.Shape(%x)
        %begin = tf.Const() {value = int32[1] [0]}
        %end = tf.Const() {value = int32[1] [1]}
        %step = tf.Const() {value = int32[1] [1]}
        %rows = tf.StridedSlice(%shape, %begin, %end, %step) {shrink_axis_mask = 1}
        %rest = tf.Const() {value = int32[] -1}
        %target = tf.Pack(%rows, %rest)
        %y = tf.Reshape(%x, %target)
      }""")
    assert [str(item) for item in infer_node(graph.node("y"))] == ["float32[2, 12]"]


def test_dtype_comes_from_attributes_where_they_say_it_and_stays_where_not() -> None:
    graph = parse_graph("""graph @main(%x: float32[3]) -> (%y, %z) {
        %y = tf.Cast(%x) {DstT = int64}
        %z = tf.NobodyKnowsThis(%x) : uint8[*]
      }""")
    assert str(infer_node(graph.node("y"))[0]) == "int64[3]"
    assert str(infer_node(graph.node("z"))[0]) == "uint8[*]"


def test_an_oracle_answers_for_operators_outside_the_table() -> None:
    graph = parse_graph("graph @main(%x: float32[3]) -> (%z) { %z = tf.NobodyKnowsThis(%x) : float32[*] }")
    asked = []

    def oracle(node: Any) -> Any:
        asked.append(node.name)
        return [tensor_type("float32", [3, 3])]

    infer_graph(graph, oracle=oracle)
    assert asked == ["z"]
    assert types_of(graph, "z") == ["float32[3, 3]"]


def test_output_shapes_are_believed_only_where_inference_is_silent() -> None:
    graph = inferred("""graph @main(%x: float32[3]) -> (%y, %z) {
        %y = tf.Relu(%x) {_output_shapes = [shape[7]]}
        %z = tf.NobodyKnowsThis(%x) {_output_shapes = [shape[7]]} : float32[*]
      }""")
    assert types_of(graph, "y", "z") == ["float32[3]", "float32[7]"]


def test_old_graphs_cannot_tell_a_scalar_placeholder_from_an_unknown_one() -> None:
    model = parse_model(
        """model producer=20 {
          graph @main() -> (%x) { %x = tf.Placeholder() {dtype = float32, shape = shape[]} : float32[*] }
        }"""
    )
    model.format = "graphdef"
    infer_model(model)
    assert types_of(model.graph, "x") == ["float32[*]"]
    model.versions = (22, 0, ())
    infer_model(model)
    assert types_of(model.graph, "x") == ["float32[]"]


def test_what_was_known_is_kept_and_merged() -> None:
    graph = parse_graph("graph @main(%x: float32[?, 4]) -> (%y) { %y = tf.Relu(%x) : float32[8, ?] }")
    assert infer_graph(graph) == 1
    assert types_of(graph, "y") == ["float32[8, 4]"]
    assert infer_graph(graph) == 0


def test_on_a_contradiction_the_inferred_shape_wins_and_a_note_says_so() -> None:
    notes: list[str] = []
    graph = parse_graph("graph @main(%x: float32[3, 4]) -> (%y) { %y = tf.Relu(%x) : float32[9, 9] }")
    infer_graph(graph, notes=notes)
    assert types_of(graph, "y") == ["float32[3, 4]"]
    assert notes == ["'y' (Relu): its shape is [3, 4], not [9, 9] as claimed"]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("%y = tf.MatMul(%x, %x)", "'y' (MatMul)"),
        ("%y = tf.Transpose(%x, %axis)", "'y' (Transpose)"),
        ("%y = tf.ExpandDims(%x, %far)", "'y' (ExpandDims)"),
    ],
)
def test_nonsense_gives_a_note_and_an_unknown_shape(node: str, words: str) -> None:
    notes: list[str] = []
    graph = inferred(
        f"""graph @main(%x: float32[3, 4]) -> (%y) {{
        %axis = tf.Const() {{value = int32[3] [0, 0, 5]}}
        %far = tf.Const() {{value = int32[] 99}}
        {node}
      }}""",
        notes=notes,
    )
    assert graph.value("y").type.shape.dims is None
    assert len(notes) == 1
    assert notes[0].startswith(words)


def test_a_fed_value_keeps_its_own_shape() -> None:
    graph = parse_graph("graph @main(%x: float32[3, 4]) -> (%z) { %y = tf.Relu(%x)  %z = tf.Neg(%y) }")
    forget_shapes(graph)
    graph.inputs = [graph.value("y")]
    infer_graph(graph)
    assert types_of(graph, "y", "z") == ["float32[*]", "float32[*]"]


def test_a_constant_of_a_false_dtype_attribute_is_not_believed() -> None:
    graph = parse_graph("graph @main() -> (%c) { %c = tf.Const() {value = int32[2] [1, 2]} }")
    graph.node("c").attrs["dtype"] = FLOAT32
    graph.value("c").type = unshaped(FLOAT32)
    infer_graph(graph)
    assert types_of(graph, "c") == ["float32[2]"]


def test_nodes_in_any_order() -> None:
    graph = inferred("graph @main(%x: float32[3]) -> (%z) { %z = tf.Neg(%y)  %y = tf.Relu(%x) }")
    assert types_of(graph, "y", "z") == ["float32[3]", "float32[3]"]
    assert [node.name for node in graph] == ["x", "z", "y"]


def test_a_cycle_is_noted_and_changes_nothing() -> None:
    graph = parse_graph(
        "graph @main(%x: float32[3]) -> (%z) { %y = tf.AddV2(%x, %z) : float32[*]  %z = tf.Relu(%y) : float32[*] }"
    )
    notes: list[str] = []
    assert infer_graph(graph, notes=notes) == 0
    assert "cycle" in notes[0]


# Shape values --------------------------------------------------------------------------------------------------

SHAPES = """graph @main(%x: float32[n, 8, 3]) -> (%y) {{
    %shape = tf.Shape(%x)
    %zero = tf.Const() {{value = int32[1] [0]}}
    %one = tf.Const() {{value = int32[1] [1]}}
    %three = tf.Const() {{value = int32[1] [3]}}
    %i0 = tf.Const() {{value = int32[] 0}}
    %i2 = tf.Const() {{value = int32[] 2}}
    %flags = tf.Const() {{value = bool[3] [true, false, true]}}
    %order = tf.Const() {{value = int32[3] [2, 0, 1]}}
    %n = tf.StridedSlice(%shape, %zero, %one, %one) {{shrink_axis_mask = 1}}
    %first = tf.StridedSlice(%shape, %zero, %one, %one)
    {node}
  }}"""


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("%y = tf.Identity(%shape)", ["n", 8, 3]),
        ("%y = tf.Size(%x)", ["24*n"]),
        ("%y = tf.Rank(%x)", [3]),
        ("%y = tf.Mul(%n, %i2)", ["2*n"]),
        ("%y = tf.FloorDiv(%n, %i2)", ["floordiv(n, 2)"]),
        ("%y = tf.Sub(%n, %n)", [0]),
        ("%y = tf.Maximum(%n, %i2)", ["max(2, n)"]),
        ("%y = tf.Neg(%n)", ["-n"]),
        ("%y = tf.Pack(%n, %i2)", ["n", 2]),
        ("%y = tf.ConcatV2(%first, %three, %i0)", ["n", 3]),
        ("%y = tf.GatherV2(%shape, %order, %i0)", [3, "n", 8]),
        ("%y = tf.GatherV2(%shape, %i0, %i0)", ["n"]),
        ("%y = tf.Slice(%shape, %one, %one)", [8]),
        ("%y = tf.StridedSlice(%shape, %one, %zero, %one) {end_mask = 1}", [8, 3]),
        ("%y = tf.Prod(%shape, %i0)", ["24*n"]),
        ("%y = tf.Sum(%shape, %i0)", ["n+11"]),
        ("%y = tf.ExpandDims(%n, %i0)", ["n"]),
        ("%y = tf.Squeeze(%first)", ["n"]),
        ("%y = tf.Tile(%first, %three)", ["n", "n", "n"]),
        ("%y = tf.Fill(%three, %n)", ["n", "n", "n"]),
        ("%y = tf.Cast(%shape) {DstT = int64}", ["n", 8, 3]),
        ("%y = tf.SelectV2(%flags, %shape, %order)", ["n", 0, 3]),
        ("%y = tf.BroadcastArgs(%shape, %one)", ["n", 8, 3]),
        ("%y = tf.ReverseV2(%shape, %zero)", [3, 8, "n"]),
        ("%y = tf.Range(%i0, %i2, %i2)", [0]),
        ("%y = tf.Reshape(%shape, %three)", ["n", 8, 3]),
    ],
)
def test_integers_computed_from_shapes(node: str, expected: list[Any]) -> None:
    graph = inferred(SHAPES.format(node=node))
    found = ShapeValues()(graph.value("y"))
    assert found is not None
    assert [item if isinstance(item, int) else str(item) for item in found] == expected


def test_several_outputs() -> None:
    graph = inferred(SHAPES.format(node="%y = tf.Unpack(%shape) {num = 3}"))
    values = ShapeValues()
    assert [str(next(iter(values(value) or ()))) for value in graph.node("y").outputs] == ["n", "8", "3"]


def test_what_is_wholly_known_comes_as_an_array_of_its_own_type() -> None:
    graph = parse_graph(
        "graph @main(%x: float32[2, 8]) -> (%y) { %shape = tf.Shape(%x)  %y = tf.Cast(%shape) {DstT = float32} }"
    )
    array = ShapeValues().array(graph.value("y"))
    assert array is not None
    assert array.dtype == np.float32
    assert array.tolist() == [2.0, 8.0]
    assert ShapeValues().array(inferred(SHAPES.format(node="%y = tf.Identity(%n)")).value("y")) is None


def test_overflow_is_unknown_not_wrong() -> None:
    graph = inferred("""graph @main(%x: float32[65536, 65536]) -> (%y) {
        %shape = tf.Shape(%x)
        %axis = tf.Const() {value = int32[] 0}
        %y = tf.Prod(%shape, %axis)
      }""")
    found = ShapeValues()(graph.value("y"))
    assert found in ([None], [0])  # 0 is what 32 bits hold of it


def test_absurd_sizes_cost_nothing() -> None:
    graph = parse_graph("""graph @main() -> (%y) {
        %dims = tf.Const() {value = int32[2] [1000000, 1000000]}
        %one = tf.Const() {value = int32[] 1}
        %y = tf.Fill(%dims, %one)
      }""")
    assert ShapeValues().partial(graph.value("y")) is None
    node = graph.create_node("tf.Const", attrs={"dtype": INT32}, types=(unshaped(INT32),), name="big")
    node.attrs["value"] = RepeatedTensor(np.array([1], np.int32), INT32, (1 << 40,))
    assert ShapeValues()(node.output) is None


def test_a_fed_value_is_never_taken_for_what_computes_it() -> None:
    graph = inferred(SHAPES.format(node="%y = tf.Mul(%n, %i2)"))
    graph.inputs = [graph.value("x"), graph.value("n")]
    assert ShapeValues()(graph.value("n")) == [None]
    assert ShapeValues()(graph.value("y")) == [None]


def test_a_question_outside_a_pass_has_a_limit() -> None:
    graph = parse_graph("graph @main() -> (%c) { %c = tf.Const() {value = int32[] 1} }")
    value = graph.value("c")
    for _ in range(1000):
        value = graph.create_node(
            "tf.AddV2", [value, graph.value("c")], {"T": INT32}, types=(tensor_type("int32", []),)
        ).output
    assert ShapeValues(limit=10)(value) == [None]
    assert ShapeValues()(value) == [1001]


def test_named_dimensions_stay_recognisable() -> None:
    graph = inferred(
        """graph @main(%in/x: float32[?, 6]) -> (%y) {
        %shape = tf.Shape(%in/x)
        %y = tf.Reshape(%z, %shape)
        %z = tf.ConcatV2(%in/x, %in/x, %i0)
        %i0 = tf.Const() {value = int32[] 0}
      }""".replace("%in/x", '%"in/x"'),
        fresh_symbols=True,
    )
    assert types_of(graph, "z", "y") == ["float32[2*in_x_0, 6]", "float32[in_x_0, 6]"]


# Against TensorFlow --------------------------------------------------------------------------------------------


@pytest.mark.tensorflow
@pytest.mark.corpus(
    "graphdef/tract/**/*.pb",
    "graphdef/tensorflow-1.15/*while[-_]loop.pbtxt",
    "graphdef/tensorflow-1.15/ophint_lstm.pbtxt",
    "graphdef/tf-mtcnn/*.pb",
)
def test_agrees_with_tensorflow_on_real_graphs(corpus_file: pathlib.Path) -> None:
    import tensorflow as tf

    from graphopt.ir.formats.graphdef import graphdef_bytes, load

    model = load(corpus_file)
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(graphdef_bytes(model))
    infer_model(model)
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.import_graph_def(definition, name="")
    for node in model.graph:
        for value, tensor in zip(node.outputs, graph.get_operation_by_name(node.name).outputs, strict=True):
            assert value.dtype.code == tensor.dtype.as_datatype_enum, node
            if tensor.shape.rank is not None and value.shape.dims is not None:
                told = Shape(tensor.shape.as_list())
                assert value.shape.merged(told) is not None, f"{node}: {value.shape}, TensorFlow says {told}"
