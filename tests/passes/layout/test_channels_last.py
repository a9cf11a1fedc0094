"""channels-last: convolutions, pools and the like whose channels come first get them last."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.infer import infer_model
from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.passes.layout.channels_last import ChannelsLast
from graphopt.testing import assert_equivalent, check_pass

WEIGHTS = "%w = tf.Const() {value = float32[3, 3, 2, 4] repeat [0.5, -0.25, 1.0, 0.125, -1.0, 0.75, 0.3]}"
CONV = '%c = tf.Conv2D(%x, %w) {strides = [1, 1, 2, 1], padding = b"SAME", data_format = b"NCHW"}'


def text(*lines: str, x: str = "float32[2, 2, 6, 5]", outputs: str = "%y") -> str:
    return f"graph @main(%x: {x}) -> ({outputs}) {{\n  " + "\n  ".join(lines) + "\n}\n"


GIVEN = text(
    WEIGHTS,
    CONV,
    "%r = tf.Relu(%c)",
    '%y = tf.MaxPool(%r) {ksize = [1, 1, 2, 2], strides = [1, 1, 2, 2], padding = b"SAME", data_format = b"NCHW"}',
)
RESULT = text(
    WEIGHTS,
    "%last = tf.Const() {value = int32[4] [0, 2, 3, 1]}",
    "%first = tf.Const() {value = int32[4] [0, 3, 1, 2]}",
    "%c/channels_last = tf.Transpose(%x, %last)",
    '%c/computed = tf.Conv2D(%c/channels_last, %w) {strides = [1, 2, 1, 1], padding = b"SAME"}',
    "%r = tf.Relu(%c/computed)",
    '%y/computed = tf.MaxPool(%r) {ksize = [1, 2, 2, 1], strides = [1, 2, 2, 1], padding = b"SAME"}',
    "%y = tf.Transpose(%y/computed, %first)",
)


def test_transposes_stay_at_both_ends() -> None:
    before = parse_model(GIVEN)
    infer_model(before)
    after = before.clone()
    run_pass(after, ChannelsLast())
    verify(after)
    expected = parse_model(RESULT)
    infer_model(expected)
    assert [node.op for node in after.graph].count("tf.Transpose") == 2
    assert operators(after) == operators(expected)
    for name in ("c/computed", "y/computed"):
        for attribute in ("strides", "ksize", "data_format"):
            assert after.graph.node(name).attrs.get(attribute, b"NHWC") == expected.graph.node(name).attrs.get(
                attribute, b"NHWC"
            )
    assert_equivalent(before, after, runtime="reference", exactness="reassociating")
    report = run_pass(after, ChannelsLast())
    assert not report.rules


def operators(model: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in model.graph:
        if node.op != "tf.Const":
            counts[node.op] = counts.get(node.op, 0) + 1
    return counts


def converted(body: str, transposes: int, **options: Any) -> Any:
    """The model with channels last, which computes the same, with so many transposes."""
    before = parse_model(body)
    infer_model(before)
    after = before.clone()
    run_pass(after, ChannelsLast())
    verify(after)
    assert operators(after).get("tf.Transpose", 0) == transposes, operators(after)
    assert not any(node.attrs.get("data_format", b"").startswith(b"NC") for node in after.graph)
    assert_equivalent(before, after, runtime="reference", exactness="reassociating", **options)
    return after


SINGLE = {
    "convolution": CONV.replace("%c", "%y"),
    "dilated": '%y = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], dilations = [1, 1, 2, 1], padding = b"VALID", '
    'data_format = b"NCHW"}',
    "explicit": '%y = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"EXPLICIT", '
    'explicit_paddings = [0, 0, 0, 0, 1, 2, 0, 1], data_format = b"NCHW"}',
    "depthwise": '%y = tf.DepthwiseConv2dNative(%x, %w) {strides = [1, 1, 1, 1], padding = b"SAME", '
    'data_format = b"NCHW"}',
    "average": '%y = tf.AvgPool(%x) {ksize = [1, 1, 3, 2], strides = [1, 1, 1, 2], padding = b"VALID", '
    'data_format = b"NCHW"}',
    "bias": '%y = tf.BiasAdd(%x, %v) {data_format = b"NCHW"}',
    "norm": '%y = tf.FusedBatchNormV3(%x, %v, %v, %v, %v) {is_training = false, data_format = b"NCHW"}',
    "blocks": '%y = tf.DepthToSpace(%x) {block_size = 2, data_format = b"NCHW"}',
    "inputs": '%y = tf.MaxPoolV2(%x, %k, %k) {padding = b"VALID", data_format = b"NCHW"}',
}


@pytest.mark.parametrize("name", SINGLE)
def test_every_operator(name: str) -> None:
    x = "float32[2, 4, 6, 5]" if name == "blocks" else "float32[2, 2, 6, 5]"
    held = ["%v = tf.Const() {value = float32[2] [1.5, 0.5]}", "%k = tf.Const() {value = int32[4] [1, 1, 2, 1]}"]
    converted(text(WEIGHTS, *held, SINGLE[name], x=x), 2)


def test_transposed_convolutions_reorder_their_sizes() -> None:
    body = text(
        "%f = tf.Const() {value = float32[3, 3, 4, 2] repeat [0.5, -0.25, 1.0, 0.125, -1.0]}",
        "%s = tf.Const() {value = int32[4] [2, 4, 12, 10]}",
        '%y = tf.Conv2DBackpropInput(%s, %f, %x) {strides = [1, 1, 2, 2], padding = b"SAME", data_format = b"NCHW"}',
    )
    converted(body, 2)
    computed = body.replace("%s = tf.Const() {value = int32[4] [2, 4, 12, 10]}",
                            "%n = tf.Shape(%x) {out_type = int32}\n  %q = tf.Const() {value = int32[4] [1, 2, 2, 2]}\n"
                            "  %s = tf.Mul(%n, %q)")  # fmt: skip
    after = converted(computed, 2)
    assert operators(after)["tf.GatherV2"] == 1


def test_three_dimensions() -> None:
    body = text(
        '%y = tf.MaxPool3D(%x) {ksize = [1, 1, 2, 2, 1], strides = [1, 1, 1, 2, 1], padding = b"SAME", '
        'data_format = b"NCDHW"}',
        x="float32[1, 2, 3, 4, 5]",
    )
    converted(body, 2)


def test_a_residual_block_has_transposes_at_its_ends_alone() -> None:
    body = text(
        "%w = tf.Const() {value = float32[3, 3, 2, 2] repeat [0.5, -0.25, 1.0, 0.125, -1.0, 0.75, 0.3]}",
        '%c = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"SAME", data_format = b"NCHW"}',
        "%v = tf.Const() {value = float32[2] [1.5, 0.5]}",
        '%b = tf.BiasAdd(%c, %v) {data_format = b"NCHW"}',
        "%r = tf.Relu(%b)",
        '%d = tf.Conv2D(%r, %w) {strides = [1, 1, 1, 1], padding = b"SAME", data_format = b"NCHW"}',
        "%k = tf.Const() {value = float32[2, 1, 1] [2.0, 3.0]}",
        "%e = tf.Mul(%d, %k)",
        "%s = tf.AddV2(%e, %r)",
        "%axis = tf.Const() {value = int32[] 1}",
        "%j = tf.ConcatV2(%s, %r, %axis)",
        "%pads = tf.Const() {value = int32[4, 2] [0, 0, 0, 0, 1, 0, 0, 2]}",
        "%p = tf.Pad(%j, %pads)",
        '%q = tf.AvgPool(%p) {ksize = [1, 1, 2, 2], strides = [1, 1, 2, 2], padding = b"SAME", data_format = b"NCHW"}',
        "%axes = tf.Const() {value = int32[2] [2, 3]}",
        "%y = tf.Mean(%q, %axes)",
        x="float32[?, 2, 6, 5]",
    )
    converted(body, 1)


def test_what_is_read_in_order_is_transposed() -> None:
    body = text(
        WEIGHTS, CONV, "%s = tf.Const() {value = int32[2] [2, -1]}", "%r = tf.Relu(%c)", "%y = tf.Reshape(%r, %s)",
        outputs="%y, %r",
    )  # fmt: skip
    converted(body, 2)


def test_channels_last_are_left_alone() -> None:
    check_pass(ChannelsLast(), text(
        "%w = tf.Const() {value = float32[1, 1, 5, 1] splat 1.0}",
        '%y = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"SAME"}',
    ))  # fmt: skip


def test_it_refuses() -> None:
    unknown = text('%v = tf.Const() {value = float32[2] [1.0, 2.0]}', '%y = tf.BiasAdd(%x, %v) {data_format = b"NCHW"}',
                   x="float32[*]")  # fmt: skip
    _, report = check_pass(ChannelsLast(), unknown, runtime=None)
    assert "how many dimensions it has is not known" in report.refusals[0]["reason"]
    vectors = GIVEN.replace('padding = b"SAME", data_format = b"NCHW"}\n}', 'padding = b"SAME", '
                            'data_format = b"NCHW_VECT_C"}\n}')  # fmt: skip
    model = parse_model(vectors)
    report = run_pass(model, ChannelsLast())
    assert any("NCHW_VECT_C" in entry["reason"] for entry in report.refusals)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_it_keeps_what_models_compute(data: st.DataObject) -> None:
    """Chains and joins of convolutions, pools, sums and functions."""
    options = 'strides = [1, 1, 1, 1], padding = b"SAME", data_format = b"NCHW"'
    lines = ["%w = tf.Const() {value = float32[3, 3, 2, 2] repeat [0.5, -0.25, 1.0, 0.125, -1.0, 0.75, 0.3]}",
             "%v = tf.Const() {value = float32[2] [1.5, 0.5]}"]  # fmt: skip
    names = ["x"]
    for place in range(data.draw(st.integers(2, 8))):
        name, source = f"n{place}", data.draw(st.sampled_from(names[-3:]))
        other = data.draw(st.sampled_from(names))
        calls = (
            f"tf.Conv2D(%{source}, %w) {{{options}}}", f"tf.MaxPool(%{source}) {{ksize = [1, 1, 2, 2], {options}}}",
            f'tf.BiasAdd(%{source}, %v) {{data_format = b"NCHW"}}', f"tf.AddV2(%{source}, %{other})",
            f"tf.Tanh(%{source})",
        )  # fmt: skip
        lines.append(f"%{name} = {data.draw(st.sampled_from(calls))}")
        names.append(name)
    outputs = dict.fromkeys([f"%{names[-1]}", f"%{data.draw(st.sampled_from(names[1:]))}"])
    before = parse_model(text(*lines, outputs=", ".join(outputs)))
    infer_model(before)
    after = before.clone()
    run_pass(after, ChannelsLast())
    verify(after)
    assert_equivalent(before, after, runtime="reference", exactness="reassociating", allow_flat=True)
