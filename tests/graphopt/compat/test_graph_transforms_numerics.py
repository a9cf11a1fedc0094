"""The Graph Transform Tool's own cases on graphs with numbers: TensorFlow runs them before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.compat.graph_transforms import TransformGraph

pytestmark = pytest.mark.tensorflow

I12 = [1, 4, 2, 5, 3, 6, -1, -4, -2, -5, -3, -6]
W8 = [1, 2, 3, 4, 0.1, 0.2, 0.3, 0.4]
NORMS = {
    2: {"mean": [10, 20], "variance": [0.25, 0.5], "beta": [0.1, 0.6], "gamma": [1, 2]},
    4: {
        "mean": [10, 20, 30, 40],
        "variance": [0.25, 0.5, 0.75, 1],
        "beta": [0.1, 0.6, 1.1, 1.6],
        "gamma": [1, 2, 3, 4],
    },
}
REMOVED, REMAINS = "_expect_removed", "_expect_remains"


def iota(count: int, start: int) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.float32)


def check_expectations(bench: Any, found: Any) -> None:
    """Nodes say in their names what is to become of them."""
    before = [node.name for node in bench.before.node]
    assert sorted(set(before) & set(found.names)) == sorted(name for name in before if name.endswith(REMAINS))


# fold_batch_norms


def conv(bench: Any, tf: Any, depthwise: bool = False) -> Any:
    data = bench.constant("input_op", I12, [1, 1, 6, 2])
    weights = bench.constant("weights_op", W8, [1, 2, 2, 2])
    make = tf.raw_ops.DepthwiseConv2dNative if depthwise else tf.raw_ops.Conv2D
    return make(input=data, filter=weights, strides=[1, 1, 1, 1], padding="VALID", name="conv_op")


def matrix_product(bench: Any, tf: Any) -> Any:
    data = bench.constant("input_op", I12, [6, 2])
    return tf.raw_ops.MatMul(a=data, b=bench.constant("weights_op", [1, 2, 0.3, 0.4], [2, 2]), name="matmul_op")


PRODUCTS = {
    "Conv2D": (lambda bench, tf: conv(bench, tf), [2, 3]),
    "DepthwiseConv2dNative": (lambda bench, tf: conv(bench, tf, depthwise=True), [2, 3, 4, 5]),
    "MatMul": (matrix_product, [2, 3]),
}


@pytest.mark.parametrize("operator", PRODUCTS)
def test_fold_batch_norms(bench: Any, operator: str) -> None:
    make, factors = PRODUCTS[operator]
    with bench as tf:
        tf.raw_ops.Mul(x=make(bench, tf), y=bench.constant("mul_values_op", factors), name="output")
    found = bench.transform("fold_batch_norms", [], ["output"])
    assert "Mul" not in found.operators()
    assert found.nodes["output"].op == operator
    bench.check(1e-5)


def test_fold_batch_norms_of_a_shared_convolution(bench: Any) -> None:
    with bench as tf:
        shared = conv(bench, tf)
        for name in ("output", "output_2"):
            tf.raw_ops.Mul(x=shared, y=bench.constant(f"{name}_values", [2, 3]), name=name)
    bench.transform("fold_batch_norms", [], ["output", "output_2"])
    bench.check(1e-5)


# fold_old_batch_norms


def norm_constants(bench: Any, channels: int) -> dict[str, Any]:
    return {name: bench.constant(f"{name}_op", values) for name, values in NORMS[channels].items()}


def fused_norm(bench: Any, tf: Any, value: Any, channels: int) -> Any:
    named = norm_constants(bench, channels)
    return tf.raw_ops.FusedBatchNorm(
        x=value, scale=named["gamma"], offset=named["beta"], mean=named["mean"], variance=named["variance"],
        epsilon=1e-5, is_training=False, name="output",
    )  # fmt: skip


def without_norms(found: Any) -> bool:
    return not [op for op in found.operators() if "BatchNorm" in op]


@pytest.mark.parametrize(("depthwise", "channels"), [(False, 2), (True, 4)])
def test_fold_old_batch_norms(bench: Any, depthwise: bool, channels: int) -> None:
    bench.producer = 8
    with bench as tf:
        value = conv(bench, tf, depthwise)
        named = norm_constants(bench, channels)
        # The operator is deprecated and refuses to be made in a graph of today's version.
        node = tf.raw_ops.Identity(input=value, name="output")
    graph_def = bench.graph.as_graph_def()
    output = next(item for item in graph_def.node if item.name == "output")
    output.op = "BatchNormWithGlobalNormalization"
    output.input[:] = ["conv_op", *(f"{name}_op" for name in ("mean", "variance", "beta", "gamma"))]
    output.attr["variance_epsilon"].f = 1e-5
    output.attr["scale_after_normalization"].b = False
    graph_def.versions.producer = 8
    bench.graph.as_graph_def = lambda: graph_def
    assert node.name == "output:0"
    assert len(named) == 4
    found = bench.transform("fold_old_batch_norms", [], ["output"])
    assert without_norms(found)
    assert found.nodes["output"].op == "BiasAdd"
    bench.check(1e-5)


@pytest.mark.parametrize(("depthwise", "channels"), [(False, 2), (True, 4)])
def test_fold_fused_batch_norms(bench: Any, depthwise: bool, channels: int) -> None:
    with bench as tf:
        fused_norm(bench, tf, conv(bench, tf, depthwise), channels)
    found = bench.transform("fold_old_batch_norms", [], ["output"])
    assert without_norms(found)
    assert found.nodes["output"].op == "BiasAdd"
    bench.check(2e-5, rtol=2e-5)


@pytest.mark.parametrize("split", [True, False])
def test_fold_fused_batch_norms_through_concat(bench: Any, split: bool) -> None:
    shape, kernel, axis = ([1, 1, 6, 2], [1, 2, 2, 1], 3) if split else ([1, 1, 12, 1], [1, 2, 1, 2], 2)
    with bench as tf:
        branches = [
            tf.raw_ops.Conv2D(
                input=bench.constant(f"input{i}_op", I12, shape),
                filter=bench.constant(f"weights{i}_op", [1, 2, 3, 4], kernel),
                strides=[1, 1, 1, 1], padding="VALID", name=f"conv{i}_op",
            )
            for i in (0, 1)
        ]  # fmt: skip
        joined = tf.raw_ops.Concat(concat_dim=bench.constant("axis", axis, dtype=np.int32), values=branches)
        fused_norm(bench, tf, joined, 2)
    found = bench.transform("fold_old_batch_norms", [], ["output"])
    assert without_norms(found)
    bench.check(1e-5, rtol=2e-5)


def test_fold_fused_batch_norms_through_batch_to_space(bench: Any) -> None:
    with bench as tf:
        data = bench.constant("input_op", I12, [2, 1, 3, 2])
        weights = bench.constant("weights_op", W8, [1, 2, 2, 2])
        value = tf.raw_ops.Conv2D(input=data, filter=weights, strides=[1, 1, 1, 1], padding="VALID", name="conv_op")
        moved = tf.raw_ops.BatchToSpaceND(
            input=value,
            block_shape=bench.constant("block_shape", [1, 2], dtype=np.int32),
            crops=bench.constant("crops", [[0, 0], [0, 1]], dtype=np.int32),
            name="batch_to_space",
        )
        fused_norm(bench, tf, moved, 2)
    found = bench.transform("fold_old_batch_norms", [], ["output"])
    assert without_norms(found)
    assert found.operators().count("BiasAdd") == 1
    bench.check(1e-5, rtol=2e-5)


# fold_constants


def simple_addition(bench: Any, tf: Any, suffixes: tuple[str, str]) -> None:
    """`(a + b) * placeholder`; the suffixes are for what may fold and for what may not."""
    folded, kept = suffixes
    a, b = bench.constant(f"a{folded}", iota(100, 1)), bench.constant(f"b{folded}", iota(100, 1))
    added = tf.raw_ops.Add(x=a, y=b, name=f"add{folded}")
    placeholder = tf.compat.v1.placeholder(tf.float32, name=f"placeholder{kept}")
    tf.raw_ops.Mul(x=added, y=placeholder, name=f"output{kept}")


@pytest.mark.parametrize("port", ["", ":0"])
def test_fold_an_addition(bench: Any, port: str) -> None:
    with bench as tf:
        simple_addition(bench, tf, (REMOVED, REMAINS))
    found = bench.transform("fold_constants", [f"placeholder{REMAINS}{port}"], [f"output{REMAINS}{port}"])
    check_expectations(bench, found)
    assert sorted(found.operators()) == ["Const", "Mul", "Placeholder"]
    bench.check(1e-5, {f"placeholder{REMAINS}": iota(100, 1)})


@pytest.mark.parametrize("arguments", ["exclude_op=Add", f"exclude_node=add{REMAINS}", "max_constant_size_in_bytes=10"])
def test_fold_nothing(bench: Any, arguments: str) -> None:
    with bench as tf:
        simple_addition(bench, tf, (REMAINS, REMAINS))
    found = bench.transform(f"fold_constants({arguments})", [f"placeholder{REMAINS}"], [f"output{REMAINS}"])
    check_expectations(bench, found)
    assert found.nodes[f"add{REMAINS}"].op == "Add"
    bench.check(1e-5, {f"placeholder{REMAINS}": iota(100, 1)})


def test_fold_from_shapes(bench: Any) -> None:
    with bench as tf:
        placeholder = tf.compat.v1.placeholder(tf.float32, name=f"placeholder{REMAINS}")
        shape = tf.raw_ops.Shape(input=bench.constant(f"a{REMOVED}", [1, 1, 1], [1, 1, 3]), name=f"shape{REMOVED}")
        cast = tf.raw_ops.Cast(x=shape, DstT=tf.float32, name=f"cast{REMOVED}")
        tf.raw_ops.Mul(x=cast, y=placeholder, name=f"mul{REMAINS}")
    found = bench.transform("fold_constants", [f"placeholder{REMAINS}"], [f"mul{REMAINS}"])
    check_expectations(bench, found)
    assert sorted(found.operators()) == ["Const", "Mul", "Placeholder"]
    bench.check(1e-5, {f"placeholder{REMAINS}": np.array([2, 3, 5], np.float32)})


@pytest.mark.parametrize("clear", [True, False])
def test_fold_from_stored_shapes(bench: Any, clear: bool) -> None:
    with bench as tf:
        placeholder = tf.compat.v1.placeholder(tf.float32, name="placeholder")
        shape = tf.raw_ops.Shape(input=placeholder, name="shape")
        tf.raw_ops.Mul(x=tf.raw_ops.Cast(x=shape, DstT=tf.float32, name="cast"), y=placeholder, name="mul")
    graph_def = bench.graph.as_graph_def()
    stored = graph_def.node[0].attr["_output_shapes"].list.shape.add()
    for size in (1, 1, 3):
        stored.dim.add(size=size)
    graph_def.node[0].attr.pop("shape")
    bench.graph.as_graph_def = lambda: graph_def
    arguments = "" if clear else "(clear_output_shapes=false)"
    found = bench.transform(f"fold_constants{arguments}", ["placeholder"], ["mul"])
    operators = ["Cast", "Mul", "Placeholder", "Shape"] if clear else ["Const", "Mul", "Placeholder"]
    assert sorted(found.operators()) == operators
    assert ("_output_shapes" in found.nodes["placeholder"].attr) is not clear
    bench.check(1e-5, {"placeholder": np.array([[[2, 3, 5]]], np.float32)})


def test_fold_keeps_inputs_whose_names_begin_alike(bench: Any) -> None:
    with bench as tf:
        first, second = (tf.compat.v1.placeholder(tf.float32, name=name) for name in ("placeholder", "placeholder_1"))
        tf.raw_ops.Add(x=first, y=second, name="add")
    found = bench.transform("fold_constants", ["placeholder", "placeholder_1"], ["add"])
    assert found.names == ["placeholder", "placeholder_1", "add"]


def test_fold_drops_what_is_unused(bench: Any) -> None:
    with bench as tf:
        simple_addition(bench, tf, ("", ""))
        bench.constant("unused", 1.0)
    found = bench.transform("fold_constants(exclude_op=Add)", ["placeholder"], ["output"])
    assert sorted(found.names) == ["a", "add", "b", "output", "placeholder"]


def test_fold_makes_placeholders_of_inputs_with_defaults(bench: Any) -> None:
    with bench as tf:
        default = tf.raw_ops.PlaceholderWithDefault(input=bench.constant("default", iota(3, 1)), shape=[3], name="x")
        tf.raw_ops.Mul(x=default, y=default, name="y")
    found = bench.transform("fold_constants", ["x"], ["y"])
    assert sorted(found.names) == ["x", "y"]
    assert found.nodes["x"].op == "Placeholder"
    bench.check(1e-5, {"x": iota(3, 2)})


def test_fold_with_an_input_that_is_computed(bench: Any) -> None:
    with bench as tf:
        simple_addition(bench, tf, ("", ""))
    with pytest.raises(graphopt.UsageError, match="'add' is Add; strip_unused_nodes makes placeholders"):
        TransformGraph(bench.graph.as_graph_def(), ["add", "placeholder"], ["output"], ["fold_constants"])


def test_send_and_receive_of_the_graph_itself_stay(bench: Any) -> None:
    """Folding never splits a graph for a device, so there are no nodes of its own to take out again."""
    with bench as tf:
        arguments = {"tensor_name": "t", "send_device": "d", "send_device_incarnation": 1, "recv_device": "d"}
        tf.raw_ops.Recv(tensor_type=tf.float32, **arguments, name="original_recv")
        a_const = bench.constant("a_const", iota(100, 1))
        tf.compat.v1.placeholder(tf.float32, name="placeholder")
        tf.raw_ops.Send(tensor=a_const, **arguments, name="original_send")
    outputs = ["a_const", "original_recv", "original_send"]
    found = bench.transform("fold_constants", ["placeholder"], outputs)
    assert sorted(found.names) == ["a_const", "original_recv", "original_send", "placeholder"]


# merge_duplicate_nodes


def duplicates(bench: Any, tf: Any, nested: bool) -> tuple[Any, Any]:
    operands = [bench.constant(f"{name}_op", iota(10, 1)) for name in "ab"]
    if nested:
        operands = [tf.raw_ops.Relu(features=x, name=f"{n}_relu_op") for n, x in zip("ab", operands, strict=True)]
    added = tf.raw_ops.Add(x=operands[0], y=operands[1], name="add_op")
    return added, bench.constant("c_op", iota(10, 2))


def check_one_of(found: Any, *names: str) -> str:
    (kept,) = [name for name in names if name in found.names]
    return kept


@pytest.mark.parametrize("nested", [False, True])
def test_merge_constants(bench: Any, nested: bool) -> None:
    with bench as tf:
        added, c = duplicates(bench, tf, nested)
        tf.raw_ops.Mul(x=added, y=c, name="mul_op")
    found = bench.transform("merge_duplicate_nodes", [], ["mul_op"])
    constant = check_one_of(found, "a_op", "b_op")
    operand = check_one_of(found, "a_relu_op", "b_relu_op") if nested else constant
    assert found.inputs("add_op") == [operand, operand]
    assert found.inputs("mul_op") == ["add_op", "c_op"]
    bench.check(1e-5)


def test_merge_neither_inputs_nor_outputs(bench: Any) -> None:
    with bench as tf:
        added, c = duplicates(bench, tf, nested=True)
        products = [tf.raw_ops.Mul(x=added, y=c, name=f"mul_op{i}") for i in (1, 2, 3)]
        tf.raw_ops.Mul(x=products[1], y=products[2], name="final_mul_op")
    found = bench.transform("merge_duplicate_nodes", ["a_op"], ["mul_op1", "final_mul_op"])
    assert {"a_op", "b_op", "a_relu_op", "b_relu_op", "mul_op1", "final_mul_op"} <= set(found.names)
    kept = check_one_of(found, "mul_op2", "mul_op3")
    assert found.inputs("final_mul_op") == [kept, kept]
    bench.check(1e-5, {"a_op": iota(10, 3)})


def test_merge_quantizations(bench: Any) -> None:
    with bench as tf:
        low, high = bench.constant("min", 2.0), bench.constant("max", 2.0)
        data = tf.raw_ops.Bitcast(input=bench.constant("bytes", 0, dtype=np.uint8), type=tf.quint8)
        value = tf.raw_ops.Dequantize(input=data, min_range=low, max_range=high, name="dequantize_op")
        results = []
        for side in "ab":
            flat = tf.raw_ops.Reshape(tensor=value, shape=bench.constant(f"{side}_shape", [-1], dtype=np.int32))
            axis = bench.constant(f"{side}_axis", [0], dtype=np.int32)
            ends = [op(input=flat, axis=axis, keep_dims=False) for op in (tf.raw_ops.Min, tf.raw_ops.Max)]
            quantized = tf.raw_ops.QuantizeV2(
                input=value, min_range=ends[0], max_range=ends[1], T=tf.quint8, mode="MIN_FIRST"
            )
            results.append(tf.raw_ops.Dequantize(input=quantized[0], min_range=quantized[1], max_range=quantized[2]))
        tf.raw_ops.Add(x=results[0], y=results[1], name="add_op")
    found = bench.transform("merge_duplicate_nodes", [], ["add_op"])
    assert found.operators().count("QuantizeV2") == 1


# inline_partitionedcall


def test_inline_a_call(bench: Any) -> None:
    with bench as tf:

        @tf.function(input_signature=[tf.TensorSpec([2], tf.float32)] * 2, autograph=False)
        def simple_add(x: Any, y: Any) -> Any:
            return tf.raw_ops.AddV2(x=tf.raw_ops.Mul(x=x, y=y), y=tf.constant([1.0, 5.0]))  # tf adds an Identity

        y = tf.compat.v1.placeholder(tf.float32, [2], name="y")
        called = tf.raw_ops.PartitionedCall(
            args=[y, bench.constant("sub/y", [2, 3])], Tout=[tf.float32], f=simple_add.get_concrete_function(),
            name="PartitionedCall",
        )[0]  # fmt: skip
        added = tf.raw_ops.AddV2(x=called, y=bench.constant("add/y", [3, 4]), name="add")
        tf.raw_ops.Identity(input=added, name="Identity")
    assert "PartitionedCall" in [node.op for node in bench.graph.as_graph_def().node]
    found = bench.transform("inline_partitionedcall", ["y"], ["Identity"])
    assert "PartitionedCall" not in found.operators()
    assert len(found.names) == 9
    assert len([name for name in found.names if name.startswith("PartitionedCall/")]) == 4
    bench.check(1e-5, {"y": np.array([7.0, -2.0], np.float32)})
