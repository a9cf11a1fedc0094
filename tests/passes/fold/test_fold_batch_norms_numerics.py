"""fold-batch-norms against TensorFlow: every operator, form, layout and passage, with parameters that have spread."""

from __future__ import annotations

import pytest
from batch_norm_nets import ARITHMETIC, CONV, NORMS, Net
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.types import dtype_named
from graphopt.ir.value import Value

pytestmark = pytest.mark.tensorflow


def linear_output(net: Net, kind: str) -> tuple[Value, int, str]:
    """A result of each linear operator, its number of channels, and the operator's name."""
    if kind == "conv":
        return net("Conv2D", net.input(None, 5, 6, 3), net.weights(3, 2, 3, 4), **CONV), 4, "Conv2D"
    if kind == "dilated":
        attrs = {**CONV, "dilations": (1, 2, 2, 1)}
        return net("Conv2D", net.input(2, 7, 7, 3), net.weights(3, 3, 3, 4), **attrs), 4, "Conv2D"
    if kind == "grouped":
        return net("Conv2D", net.input(2, 5, 5, 6), net.weights(3, 3, 2, 9), **CONV), 9, "Conv2D"
    if kind == "depthwise":
        x, weights = net.input(2, 5, 5, 3), net.weights(3, 3, 3, 2)
        return net("DepthwiseConv2dNative", x, weights, **CONV), 6, "DepthwiseConv2dNative"
    if kind == "transposed conv":
        sizes, attrs = net.ints(2, 10, 10, 4), {"strides": (1, 2, 2, 1), "padding": b"SAME"}
        x, weights = net.input(2, 5, 5, 3), net.weights(3, 3, 4, 3)
        return net("Conv2DBackpropInput", sizes, weights, x, **attrs), 4, "Conv2DBackpropInput"
    if kind == "conv3d":
        attrs = {"strides": (1, 1, 1, 1, 1), "padding": b"VALID"}
        return net("Conv3D", net.input(2, 4, 5, 5, 3), net.weights(2, 3, 3, 3, 4), **attrs), 4, "Conv3D"
    if kind == "transposed conv3d":
        sizes, attrs = net.ints(2, 8, 8, 8, 4), {"strides": (1, 2, 2, 2, 1), "padding": b"SAME"}
        x, weights = net.input(2, 4, 4, 4, 3), net.weights(2, 2, 2, 4, 3)
        return net("Conv3DBackpropInputV2", sizes, weights, x, **attrs), 4, "Conv3DBackpropInputV2"
    if kind == "matmul":
        return net("MatMul", net.input(None, 5), net.weights(5, 4)), 4, "MatMul"
    if kind == "matmul transposed":
        x, weights = net.input(5, None), net.weights(4, 5)
        return net("MatMul", x, weights, transpose_a=True, transpose_b=True), 4, "MatMul"
    if kind == "batch matmul":
        return net("BatchMatMulV2", net.input(3, None, 5), net.weights(3, 5, 4)), 4, "BatchMatMulV2"
    x, weights = net.input(None, 2, 7, 5), net.weights(4, 5)
    attrs = {"adj_y": True, "Tout": net.dtype}
    return net("BatchMatMulV3", x, weights, **attrs), 4, "BatchMatMulV3"


KINDS = (
    "conv", "dilated", "grouped", "depthwise", "transposed conv", "conv3d", "transposed conv3d", "matmul",
    "matmul transposed", "batch matmul", "batch matmul transposed",
)  # fmt: skip


@pytest.mark.parametrize("form", ARITHMETIC)
@pytest.mark.parametrize("kind", KINDS)
def test_decomposed_norms_go_into_every_linear_operator(kind: str, form: str) -> None:
    net = Net()
    x, channels, operator = linear_output(net, kind)
    net.check(net.norm(form, x, channels)).assert_absorbed(operator)


@pytest.mark.parametrize("form", NORMS)
@pytest.mark.parametrize("kind", ["conv", "dilated", "grouped", "depthwise", "transposed conv"])
def test_whole_norms_go_into_every_convolution(kind: str, form: str) -> None:
    net = Net()
    x, channels, operator = linear_output(net, kind)
    net.check(net.norm(form, x, channels)).assert_absorbed(operator)
    assert net.graph.outputs[0].name == "bn"
    assert net.graph.node("bn").op == "tf.BiasAdd"


@pytest.mark.parametrize("form", ["keras", "FusedBatchNormV3"])
@pytest.mark.parametrize("bias", ["BiasAdd", "AddV2", "Sub"])
def test_a_bias_is_merged(bias: str, form: str) -> None:
    net = Net()
    x, channels, operator = linear_output(net, "conv")
    x = net(bias, x, net.constant(net.random.normal(0, 2, channels)))
    net.check(net.norm(form, x, channels)).assert_absorbed(operator)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("kind", ["conv", "matmul", "depthwise"])
def test_other_floats(kind: str, dtype: str) -> None:
    net = Net(dtype=dtype)
    x, channels, operator = linear_output(net, kind)
    mild = {"mean": net.random.normal(0, 1, channels), "variance": net.random.uniform(0.8, 1.5, channels)}
    y = net.norm("keras", x, channels, **mild)
    net.check(y, rtol={"float16": 1e-2, "bfloat16": 6e-2}.get(dtype)).assert_absorbed(operator)


def test_half_data_with_single_parameters() -> None:
    net = Net(dtype="float16")
    x, channels, operator = linear_output(net, "conv")
    net.dtype = dtype_named("float32")
    y = net.norm("FusedBatchNormV3", x, channels, variance=net.random.uniform(0.8, 1.5, channels))
    net.check(y, rtol=1e-2).assert_absorbed(operator)


# Channels before the last axes: TensorFlow has no such convolutions on a CPU, the reference runtime does.


@pytest.mark.parametrize("form", ["keras", "reversed", "textbook", "FusedBatchNormV3"])
@pytest.mark.parametrize("operator", ["Conv2D", "DepthwiseConv2dNative"])
def test_channels_first(operator: str, form: str) -> None:
    net = Net()
    attrs = {"strides": (1, 1, 2, 2), "padding": b"SAME", "data_format": b"NCHW"}
    x = net(operator, net.input(2, 3, 7, 7), net.weights(3, 3, 3, 2), **attrs)
    x = net("BiasAdd", x, net.weights(2 if operator == "Conv2D" else 6), data_format=b"NCHW")
    channels = 2 if operator == "Conv2D" else 6
    net.check(net.norm(form, x, channels, trailing=2), runtime="reference").assert_absorbed(operator)
    assert net.graph.node("bn").attrs["data_format"] == b"NCHW"


def test_channels_first_in_three_dimensions() -> None:
    net = Net()
    attrs = {"strides": (1, 1, 1, 1, 1), "padding": b"VALID", "data_format": b"NCDHW"}
    x = net("Conv3D", net.input(2, 3, 4, 4, 4), net.weights(2, 2, 2, 3, 5), **attrs)
    net.check(net.norm("keras", x, 5, trailing=3), runtime="reference").assert_absorbed("Conv3D")


def test_bias_along_the_second_axis_of_five() -> None:
    """What the fold relies on: BiasAdd's NCHW means the second axis, whatever the rank."""
    net = Net()
    y = net("BiasAdd", net.input(2, 3, 4, 4, 4), net.weights(3), data_format=b"NCHW")
    net.check(net("Mul", net("Relu", y), net.constant(2.0)))


@pytest.mark.parametrize("trailing", [0, 2])
@pytest.mark.parametrize("form", NORMS[:3])
def test_where_there_are_no_weights_a_norm_becomes_mul_and_add(form: str, trailing: int) -> None:
    net = Net()
    x = net("Relu", net.input(None, 3, 5, 3))
    folded = net.check(net.norm(form, x, 3, trailing=trailing), runtime="reference" if trailing else "tensorflow")
    assert (folded.operators["Mul"], folded.operators["AddV2"]) == (1, 1)
    assert folded.report.rules == {"expand-batch-norm": 1}
    assert net.graph.node("bn").input(1).shape.static == (3,) + (1,) * trailing


# Through other operators ---------------------------------------------------------------------------------------


def through(net: Net, passage: str, x: Value) -> Value:
    if passage == "identity":
        return net("Identity", x)
    if passage == "batch to space":
        return net("BatchToSpaceND", x, net.ints(1, 2), net.ints((0, 0), (0, 1)))
    if passage == "old batch to space":
        return net("BatchToSpace", x, net.ints((0, 0), (1, 0)), block_size=2)
    if passage == "mirror":
        return net("MirrorPad", x, net.ints((0, 0), (1, 1), (0, 2), (0, 0)), mode=b"REFLECT")
    if passage == "transpose":
        return net("Transpose", x, net.ints(2, 0, 1, 3))
    assert passage == "reshape"
    return net("Reshape", x, net.ints(-1, 4))


@pytest.mark.parametrize("form", ["keras", "textbook"])
@pytest.mark.parametrize(
    "passage", ["identity", "batch to space", "old batch to space", "mirror", "transpose", "reshape"]
)
def test_a_norm_passes_what_only_moves_elements(passage: str, form: str) -> None:
    net = Net()
    x = net("Conv2D", net.input(4, 5, 6, 3), net.weights(3, 2, 3, 4), **CONV)
    net.check(net.norm(form, through(net, passage, x), 4)).assert_absorbed("Conv2D")


def test_a_norm_passes_a_transposition_that_moves_its_channels() -> None:
    net = Net()
    x = net("Conv2D", net.input(2, 5, 6, 3), net.weights(3, 2, 3, 4), **CONV)
    net.check(net.norm("keras", net("Transpose", x, net.ints(0, 3, 1, 2)), 4, trailing=2)).assert_absorbed("Conv2D")


def test_a_one_dimensional_convolution() -> None:
    net = Net()
    x = net("ExpandDims", net.input(2, 9, 3), net.constant(1, dtype=dtype_named("int32")))
    y = net("Squeeze", net("Conv2D", x, net.weights(1, 3, 3, 4), **CONV), squeeze_dims=(1,))
    net.check(net.norm("keras", net("BiasAdd", y, net.weights(4)), 4)).assert_absorbed("Conv2D")


def test_a_scale_passes_padding_with_zeros_and_an_offset_does_not() -> None:
    net = Net()
    x = net("Conv2D", net.input(2, 5, 6, 3), net.weights(3, 2, 3, 4), **CONV)
    padded = net("Pad", x, net.ints((0, 0), (1, 1), (0, 2), (0, 0)))
    folded = net.check(net("Mul", padded, net.weights(4), name="y"))
    assert (folded.operators["Mul"], folded.operators["Pad"]) == (0, 1)
    net = Net()
    x = net("Conv2D", net.input(2, 5, 6, 3), net.weights(3, 2, 3, 4), **CONV)
    folded = net.check(net.norm("FusedBatchNormV3", net("Pad", x, net.ints((0, 0), (1, 1), (0, 2), (0, 0))), 4))
    assert folded.operators["Mul"] == 1
    assert [entry["reason"] for entry in folded.report.refusals] == ["what 'Pad' pads with would change"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("form", ["keras", "FusedBatchNormV3"])
@pytest.mark.parametrize("axis", [3, -1, 1])
def test_concatenation(axis: int, form: str, old: bool) -> None:
    net = Net()
    along = axis == 1
    left = net("Conv2D", net.input(2, 5, 6, 3), net.weights(3, 2, 3, 4), **CONV)
    right = net("Conv2D", net.input(2, 5, 6, 2, name="z"), net.weights(3, 3, 2, 4 if along else 2), **CONV)
    right = net("BiasAdd", right, net.weights(4 if along else 2))
    selector = net.constant(axis, dtype=dtype_named("int32"))
    joined = net("Concat", selector, left, right) if old else net("ConcatV2", left, right, selector)
    net.check(net.norm(form, joined, 4 if along else 6)).assert_absorbed("Conv2D", biases=2)


# Before the weights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [*ARITHMETIC, "FusedBatchNormV3"])
@pytest.mark.parametrize(
    "kind", ["valid", "one by one", "explicit", "grouped", "depthwise", "conv3d", "matmul", "batch"]
)
def test_a_norm_before_the_weights(kind: str, form: str) -> None:
    net = Net()
    shape = {"matmul": (None, 6), "batch": (2, 7, 6), "conv3d": (2, 4, 4, 4, 6)}.get(kind, (2, 7, 7, 6))
    if form.startswith("Fused") and len(shape) != 4:
        form = "keras"
    x = net.norm(form, net("Relu", net.input(*shape)), 6)
    valid = {"strides": (1, 2, 2, 1), "padding": b"VALID"}
    if kind == "valid":
        y = net("Conv2D", x, net.weights(3, 2, 6, 4), **valid)
    elif kind == "one by one":
        y = net("Conv2D", x, net.weights(1, 1, 6, 4), **CONV)
    elif kind == "explicit":
        attrs = {**CONV, "padding": b"EXPLICIT", "explicit_paddings": (0,) * 8}
        y = net("Conv2D", x, net.weights(3, 3, 6, 4), **attrs)
    elif kind == "grouped":
        y = net("Conv2D", x, net.weights(3, 3, 2, 9), **valid)
    elif kind == "depthwise":
        y = net("DepthwiseConv2dNative", x, net.weights(3, 3, 6, 2), **valid)
    elif kind == "conv3d":
        y = net("Conv3D", x, net.weights(2, 2, 2, 6, 4), strides=(1, 1, 1, 1, 1), padding=b"VALID")
    elif kind == "matmul":
        y = net("MatMul", x, net.weights(4, 6), transpose_b=True)
    else:
        y = net("BatchMatMulV2", x, net.weights(1, 6, 4))
    folded = net.check(y)
    folded.assert_absorbed(net.graph.outputs[0].node.input(0).node.op_type)
    assert folded.report.rules == {"fold-into-next-weights": 1}


@pytest.mark.parametrize("kind", ["padded", "pad", "transposed conv", "space to batch"])
def test_before_padding_a_scale_goes_in_and_an_offset_stays(kind: str) -> None:
    for form, multiplications in (("scale", 0), ("FusedBatchNormV3", 1)):
        net = Net()
        x = net("Relu", net.input(2, 6, 6, 3))
        x = net("Mul", net.weights(3), x) if form == "scale" else net.norm(form, x, 3)
        valid = {"strides": (1, 1, 1, 1), "padding": b"VALID"}
        if kind == "padded":
            y = net("Conv2D", x, net.weights(3, 3, 3, 4), **CONV)
        elif kind == "transposed conv":
            y = net("Conv2DBackpropInput", net.ints(2, 6, 6, 4), net.weights(3, 3, 4, 3), x, **CONV)
        elif kind == "pad":
            y = net("Conv2D", net("Pad", x, net.ints((0, 0), (1, 1), (1, 1), (0, 0))), net.weights(3, 3, 3, 4), **valid)
        else:
            blocks = net("SpaceToBatchND", x, net.ints(2, 2), net.ints((2, 2), (2, 2)))
            y = net("Conv2D", blocks, net.weights(3, 3, 3, 4), **valid)
        assert net.check(y).operators["Mul"] == multiplications


def test_dilation_by_blocks() -> None:
    net = Net()
    x = net.norm("FusedBatchNormV3", net("Relu", net.input(2, 8, 8, 3)), 3)
    blocks = net("SpaceToBatchND", x, net.ints(2, 2), net.ints((0, 0), (0, 0)))
    y = net("Conv2D", blocks, net.weights(3, 3, 3, 4), strides=(1, 1, 1, 1), padding=b"VALID")
    y = net("BatchToSpaceND", y, net.ints(2, 2), net.ints((0, 0), (0, 0)))
    net.check(net.norm("FusedBatchNorm", y, 4, name="second")).assert_absorbed("Conv2D")


# Several at once -----------------------------------------------------------------------------------------------


def test_chains_of_norms_and_scales_fold_to_the_end() -> None:
    net = Net()
    x, channels, operator = linear_output(net, "conv")
    for place, form in enumerate(("FusedBatchNormV3", "keras", "textbook")):
        x = net.norm(form, x, channels, name=f"bn{place}")
    x = net("Mul", net("Mul", x, net.weights(channels)), net.constant(0.37))
    folded = net.check(net("Identity", x, name="y"))
    folded.assert_absorbed(operator)
    assert folded.report.rules == {"fold-into-weights": 1}


def test_weights_that_two_convolutions_share_stay_as_they_are_for_the_other() -> None:
    net = Net()
    shared = net.weights(3, 3, 3, 4)
    one = net("Conv2D", net.input(2, 5, 5, 3), shared, **CONV)
    other = net("Conv2D", net.input(2, 5, 5, 3, name="z"), shared, name="other", **CONV)
    net.check(net.norm("keras", one, 4), other).assert_absorbed("Conv2D")
    assert net.graph.node("other").input(1) is shared


@given(data=st.data())
def test_random_chains(data: st.DataObject) -> None:
    """Any chain of scales, offsets and passages between any two linear operators."""
    net = Net(seed=data.draw(st.integers(0, 1000)))
    x = net.input(2, 6, 6, 3)
    if data.draw(st.booleans()):
        x = net("Conv2D", x, net.weights(3, 3, 3, 3), **CONV)
    for _ in range(data.draw(st.integers(1, 5))):
        vector = net.constant(net.random.uniform(0.3, 2, data.draw(st.sampled_from([(), (1,), (3,), (1, 1, 3)]))))
        op = data.draw(st.sampled_from(["Mul", "AddV2", "Sub", "RealDiv", "swapped Sub", "swapped Mul", "norm", "Pad"]))
        if op == "norm":
            x = net.norm(data.draw(st.sampled_from([*NORMS, *ARITHMETIC])), x, 3)
        elif op == "Pad":
            x = net("Pad", x, net.ints((0, 0), (1, 0), (0, 1), (0, 0)))
        else:
            operands = (vector, x) if op.startswith("swapped") else (x, vector)
            x = net(op.removeprefix("swapped "), *operands)
        if data.draw(st.integers(0, 5)) == 0:
            net.graph.outputs = (*net.graph.outputs, x)
    last = data.draw(st.sampled_from(["none", "SAME", "VALID"]))
    if last != "none":
        x = net("Conv2D", x, net.weights(2, 2, 3, 4), strides=(1, 1, 1, 1), padding=last.encode())
    net.check(*net.graph.outputs, net("Identity", x))
