"""What fold-batch-norms refuses, and the reasons it gives."""

from __future__ import annotations

import pytest
from batch_norm_texts import CONV, INFERENCE, NORM, PARAMETERS, WEIGHTS, graph, reasons, refuse

from graphopt.passes import Exactness
from graphopt.testing import check_pass


def test_training_mode_is_refused() -> None:
    body = f"{WEIGHTS}{NORM}{CONV}\n%y = tf.FusedBatchNormV3(%conv, {PARAMETERS}) {{is_training = true}}"
    assert refuse(body) == ["it normalises with the statistics of the batch (is_training is true)"]


def test_unknown_parameters_are_refused() -> None:
    names = "%gamma, %beta, %computed, %variance"
    body = f"""{WEIGHTS}{NORM}{CONV}
        %axes = tf.Const() {{value = int32[3] [0, 1, 2]}}
        %computed = tf.Mean(%x, %axes)
        %y = tf.FusedBatchNormV3(%conv, {names}) {{{INFERENCE}}}
    """
    assert refuse(body) == ["its mean is not known"]


def test_statistics_that_are_read_are_refused() -> None:
    body = f"{WEIGHTS}{NORM}{CONV}\n%y = tf.FusedBatchNorm(%conv, {PARAMETERS}) {{{INFERENCE}}}"
    assert refuse(body, "%y, %y:1") == ["its statistics are read as well"]


def test_parameters_that_give_no_finite_scale_are_refused() -> None:
    body = f"""{WEIGHTS}{NORM}{CONV}
        %bad = tf.Const() {{value = float32[2] [1.0, -1.0]}}
        %y = tf.FusedBatchNorm(%conv, %gamma, %beta, %mean, %bad) {{{INFERENCE}}}
    """
    assert refuse(body, runtime=None) == ["its scale or offset would not be finite"]


@pytest.mark.parametrize(
    ("outputs", "extra", "reason"),
    [
        ("%y, %conv", "", "'conv' is an input or output of the graph"),
        ("%y, %z", "%z = tf.Relu(%conv)", "'conv' is also read by 'z'"),
        ("%y, %z", "%z = tf.Relu(%x) after(%conv)", "'conv' is also read by 'z'"),
    ],
)
def test_a_convolution_that_something_else_reads_is_refused(outputs: str, extra: str, reason: str) -> None:
    body = f"""{WEIGHTS}{CONV}
        %s = tf.Const() {{value = float32[2] [2.0, 4.0]}}
        {extra}
        %y = tf.Mul(%conv, %s)
    """
    assert refuse(body, outputs) == [reason]


def test_unknown_weights_are_refused() -> None:
    body = """
        %s = tf.Const() {value = float32[3] [2.0, 4.0, 0.5]}
        %square = tf.MatMul(%x, %x) {transpose_b = true}
        %y = tf.Mul(%square, %s)
    """
    _, report = check_pass("fold-batch-norms", graph(body, shape="3, 3"))
    assert reasons(report) == ["the weights of 'square' are not known"]


def test_channels_that_the_convolution_does_not_have_are_refused() -> None:
    body = """
        %w = tf.Const() {value = float32[1, 1, 2, 1] [1.0, 2.0]}
        %s = tf.Const() {value = float32[3] [2.0, 4.0, 0.5]}
        %conv = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}
        %y = tf.Mul(%conv, %s)
    """
    assert refuse(body) == ["'conv' has not 3 channels"]


def test_another_axis_is_refused() -> None:
    body = f"""{WEIGHTS}{CONV}
        %s = tf.Const() {{value = float32[3, 1] [2.0, 4.0, 0.5]}}
        %y = tf.Mul(%conv, %s)
    """
    assert refuse(body) == ["its channels are not those of 'conv'"]


def test_an_offset_before_padding_is_refused() -> None:
    body = """
        %w = tf.Const() {value = float32[2, 1, 2, 1] [1.0, 2.0, 3.0, 4.0]}
        %s = tf.Const() {value = float32[2] [2.0, 4.0]}
        %r = tf.Relu(%x)
        %m = tf.Mul(%r, %s)
        %a = tf.AddV2(%m, %s)
        %y = tf.Conv2D(%a, %w) {strides = [1, 1, 1, 1], padding = b"SAME"}
    """
    assert refuse(body) == ["its offset does not add the same to every output of the following operator"]


def test_a_scale_that_makes_one_channel_two_is_refused() -> None:
    body = f"""{WEIGHTS}
        %s = tf.Const() {{value = float32[2] [2.0, 4.0]}}
        %r = tf.Relu(%x)
        %m = tf.Mul(%r, %s)
        %y = tf.Conv2D(%m, %w) {{strides = [1, 1, 1, 1], padding = b"VALID"}}
    """
    _, report = check_pass("fold-batch-norms", graph(body, shape="2, 3, 3, 1"))
    assert reasons(report) == ["whether 'r' has 2 channels is not known"]


def test_a_bias_for_each_matrix_of_a_batch_is_refused() -> None:
    body = """
        %w = tf.Const() {value = float32[2, 2, 1] [1.0, 2.0, 3.0, 4.0]}
        %s = tf.Const() {value = float32[2] [2.0, 4.0]}
        %r = tf.Relu(%x)
        %m = tf.Mul(%r, %s)
        %a = tf.AddV2(%m, %s)
        %y = tf.BatchMatMulV2(%a, %w)
    """
    _, report = check_pass("fold-batch-norms", graph(body, shape="2, 3, 2"))
    assert reasons(report) == ["its offset does not add the same to every output of the following operator"]


def test_constant_expressions_are_left_to_constant_folding() -> None:
    body = """
        %s = tf.Const() {value = float32[2] [2.0, 4.0]}
        %root = tf.Rsqrt(%s)
        %two = tf.Mul(%root, %s)
        %three = tf.Mul(%two, %s)
        %y = tf.MatMul(%x, %x)
    """
    _, report = check_pass("fold-batch-norms", graph(body, "%y, %three", shape="3, 3"))
    assert not report.rules


def test_a_constant_larger_than_allowed_is_refused() -> None:
    body = f"""{WEIGHTS}{CONV}
        %s = tf.Const() {{value = float32[2] [2.0, 4.0]}}
        %y = tf.Mul(%conv, %s)
    """
    assert refuse(body, max_constant_bytes=15) == ["the weights of 'conv' take 16 bytes, more than a constant may"]
    _, report = check_pass(
        "fold-batch-norms", graph(body), max_constant_bytes=16, after=graph(_scaled()), runtime="reference"
    )
    assert report.rewrites == 1


def _scaled() -> str:
    return """
        %w = tf.Const() {value = float32[1, 1, 2, 2] [2.0, 8.0, -6.0, 2.0]}
        %y = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}
    """


def test_compact_weights_count_with_the_size_they_would_take() -> None:
    body = """
        %w = tf.Const() {value = float32[100, 100, 2, 2] splat 1.0}
        %s = tf.Const() {value = float32[2] [2.0, 4.0]}
        %conv = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"SAME"}
        %y = tf.Mul(%conv, %s)
    """
    found = refuse(body, max_constant_bytes=100_000, runtime=None)
    assert found == ["the weights of 'conv' take 160000 bytes, more than a constant may"]


def test_scaled_half_weights_must_be_in_range() -> None:
    body = """
        %w = tf.Const() {value = float16[2, 2] [1000.0, 2.0, 3.0, 4.0]}
        %s = tf.Const() {value = float16[2] [100.0, 4.0]}
        %product = tf.MatMul(%x, %w)
        %y = tf.Mul(%product, %s)
    """
    _, report = check_pass("fold-batch-norms", graph(body, shape="3, 2", dtype="float16"), runtime=None)
    assert reasons(report) == ["the scaled weights of 'product' would be out of float16's range"]


def test_only_where_rounding_may_change() -> None:
    body = f"""{WEIGHTS}{CONV}
        %s = tf.Const() {{value = float32[2] [2.0, 4.0]}}
        %y = tf.Mul(%conv, %s)
    """
    found = refuse(body, exactness=Exactness.EXACT)
    assert found == ["it is reassociating, beyond what was allowed"]
