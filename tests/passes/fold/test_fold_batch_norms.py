"""fold-batch-norms on graphs as text: what it makes, what it refuses and why, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from batch_norm_texts import CONV, INFERENCE, NORM, PARAMETERS, WEIGHTS, graph, inferred, reasons, refuse

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.passes.fold.fold_batch_norms import FoldBatchNorms
from graphopt.testing import assert_equivalent, check_pass


def test_keras_batch_norm_of_a_convolution() -> None:
    before = f"""
        {WEIGHTS}
        %scale = tf.Const() {{value = float32[2] [3.0, 4.0]}}
        %offset = tf.Const() {{value = float32[1, 1, 1, 2] [5.0, 6.0]}}
        {CONV}
        %scaled = tf.Mul(%conv, %scale)
        %y = tf.AddV2(%offset, %scaled)
    """
    after = """
        %w = tf.Const() {value = float32[1, 1, 2, 2] [3.0, 8.0, -9.0, 2.0]}
        %conv = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}
        %y/bias = tf.Const() {value = float32[2] [5.0, 6.0]}
        %y = tf.BiasAdd(%conv, %y/bias) {data_format = b"NHWC"}
    """
    model, report = check_pass("fold-batch-norms", graph(before), graph(after))
    assert report.rules == {"fold-into-weights": 1}
    assert model.graph.node("conv").origins == ("y", "scaled", "conv")


def test_a_fused_batch_norm_takes_in_the_bias_before_it() -> None:
    before = f"""
        {WEIGHTS}{NORM}
        %b = tf.Const() {{value = float32[2] [2.0, 4.0]}}
        {CONV}
        %biased = tf.BiasAdd(%conv, %b)
        %y = tf.FusedBatchNormV3(%biased, {PARAMETERS}) {{{INFERENCE}}}
    """
    after = """
        %w = tf.Const() {value = float32[1, 1, 2, 2] [1.5, 2.0, -4.5, 0.5]}
        %conv = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}
        %y/bias = tf.Const() {value = float32[2] [6.5, 12.0]}
        %y = tf.BiasAdd(%conv, %y/bias) {data_format = b"NHWC"}
    """
    check_pass("fold-batch-norms", graph(before), graph(after))


def test_a_scale_alone_leaves_no_bias_and_its_name_to_the_convolution() -> None:
    before = f"""
        {WEIGHTS}
        %s = tf.Const() {{value = float32[2] [2.0, 4.0]}}
        {CONV}
        %y = tf.RealDiv(%conv, %s)
    """
    after = """
        %w = tf.Const() {value = float32[1, 1, 2, 2] [0.5, 0.5, -1.5, 0.125]}
        %y = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}
    """
    check_pass("fold-batch-norms", graph(before), graph(after))


def test_an_offset_of_zero_leaves_no_bias() -> None:
    norm = "\n".join(line for line in NORM.splitlines() if "%beta" not in line)
    before = f"""
        {WEIGHTS}{norm}
        %shift = tf.Const() {{value = float32[2] [1.5, -2.0]}}
        {CONV}
        %y = tf.FusedBatchNorm(%conv, %gamma, %shift, %mean, %variance) {{{INFERENCE}}}
    """
    after = """
        %w = tf.Const() {value = float32[1, 1, 2, 2] [1.5, 2.0, -4.5, 0.5]}
        %y = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}
    """
    check_pass("fold-batch-norms", graph(before), graph(after))


def test_a_batch_norm_without_weights_becomes_mul_and_add() -> None:
    before = f"""
        {NORM}
        %r = tf.Relu(%x)
        %y = tf.FusedBatchNormV3(%r, {PARAMETERS}) {{{INFERENCE}}}
    """
    after = """
        %r = tf.Relu(%x)
        %y/scale = tf.Const() {value = float32[2] [1.5, 1.0]}
        %y/scaled = tf.Mul(%r, %y/scale)
        %y/offset = tf.Const() {value = float32[2] [3.5, 8.0]}
        %y = tf.AddV2(%y/scaled, %y/offset)
    """
    _, report = check_pass("fold-batch-norms", graph(before), graph(after))
    assert report.rules == {"expand-batch-norm": 1}
    assert reasons(report) == ["'r' (Relu) has no weights that could take it in"]


def test_chains_without_weights_become_as_short_as_can_be() -> None:
    before = """
        %r = tf.Relu(%x)
        %a = tf.Const() {value = float32[2] [2.0, 4.0]}
        %b = tf.Const() {value = float32[] 0.5}
        %c = tf.Const() {value = float32[1, 1, 1, 2] [1.0, -1.0]}
        %one = tf.Sub(%r, %c)
        %two = tf.RealDiv(%one, %b)
        %three = tf.Mul(%a, %two)
        %y = tf.AddV2(%three, %c)
    """
    after = """
        %r = tf.Relu(%x)
        %y/scale = tf.Const() {value = float32[2] [4.0, 8.0]}
        %y/scaled = tf.Mul(%r, %y/scale)
        %y/offset = tf.Const() {value = float32[2] [-3.0, 7.0]}
        %y = tf.AddV2(%y/scaled, %y/offset)
    """
    _, report = check_pass("fold-batch-norms", graph(before), graph(after))
    assert report.rules == {"merge-scales-and-offsets": 1}


def test_channels_first_keep_their_layout() -> None:
    before = f"""
        {NORM}
        %r = tf.Relu(%x)
        %y = tf.FusedBatchNormV2(%r, {PARAMETERS}) {{{INFERENCE}, data_format = b"NCHW"}}
    """
    after = """
        %r = tf.Relu(%x)
        %y/scale = tf.Const() {value = float32[2, 1, 1] [1.5, 1.0]}
        %y/scaled = tf.Mul(%r, %y/scale)
        %y/offset = tf.Const() {value = float32[2, 1, 1] [3.5, 8.0]}
        %y = tf.AddV2(%y/scaled, %y/offset)
    """
    shape = "2, 2, 3, 3"
    check_pass("fold-batch-norms", graph(before, shape=shape), graph(after, shape=shape))


def test_before_weights_an_offset_becomes_a_bias() -> None:
    before = f"""
        {WEIGHTS}
        %r = tf.Relu(%x)
        %s = tf.Const() {{value = float32[2] [2.0, 10.0]}}
        %o = tf.Const() {{value = float32[2] [1.0, 3.0]}}
        %scaled = tf.Mul(%r, %s)
        %shifted = tf.AddV2(%scaled, %o)
        %y = tf.Conv2D(%shifted, %w) {{strides = [1, 1, 1, 1], padding = b"VALID"}}
    """
    after = """
        %r = tf.Relu(%x)
        %w = tf.Const() {value = float32[1, 1, 2, 2] [2.0, 4.0, -30.0, 5.0]}
        %y_1 = tf.Conv2D(%r, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}
        %y/bias = tf.Const() {value = float32[2] [-8.0, 3.5]}
        %y = tf.BiasAdd(%y_1, %y/bias) {data_format = b"NHWC"}
    """
    _, report = check_pass("fold-batch-norms", graph(before), graph(after))
    assert report.rules == {"fold-into-next-weights": 1}


@pytest.mark.parametrize(
    "body",
    [
        f"{WEIGHTS}\n{CONV}\n%b = tf.Const() {{value = float32[2] [2.0, 4.0]}}\n%y = tf.BiasAdd(%conv, %b)",
        f"{WEIGHTS}\n{CONV}\n%b = tf.Const() {{value = float32[2] [2.0, 4.0]}}\n%y = tf.AddV2(%conv, %b)",
        "%b = tf.Const() {value = float32[2] [2.0, 4.0]}\n%m = tf.Mul(%x, %b)\n%y = tf.AddV2(%m, %b)",
        "%b = tf.Const() {value = float32[3, 2] [2.0, 4, 1, 3, 5, 7]}\n%m = tf.Mul(%x, %b)\n%y = tf.Mul(%m, %b)",
        f"{WEIGHTS}\n{CONV}\n%m = tf.Mul(%conv, %conv)\n%y = tf.RealDiv(%m, %x)",
    ],
    ids=["a bias", "an added bias", "mul and add", "not one number for each channel", "unknown factors"],
)
def test_what_is_no_batch_norm_is_left_alone(body: str) -> None:
    assert refuse(body) == []


# Surroundings --------------------------------------------------------------------------------------------------


def fold(text: str) -> tuple[Model, Model]:
    before = parse_model(inferred(text))
    after = before.clone()
    run_pass(after, FoldBatchNorms())
    verify(after)
    return before, after


def test_inside_a_function_body() -> None:
    text = f"""
    graph @main(%x: float32[2, 3, 3, 2]) -> (%y) {{
        %y = tf.PartitionedCall(%x) {{Tin = [float32], Tout = [float32], f = @block}}
    }}
    function @block(x = %x: float32[2, 3, 3, 2]) -> (y = %scaled) {{
        {WEIGHTS}
        {CONV}
        %s = tf.Const() {{value = float32[2] [2.0, 4.0]}}
        %scaled = tf.Mul(%conv, %s)
    }}
    """
    before, after = fold(text)
    body = after.functions["block"]
    assert [node.op for node in body if node.op != "tf.Const"] == ["tf._Arg", "tf.Conv2D"]
    assert body.output_names == ["y"]
    assert_equivalent(before, after, runtime="reference", exactness="reassociating")


def test_control_dependencies_pass_to_what_takes_the_place() -> None:
    text = graph(f"""
        {WEIGHTS}
        %gate = tf.NoOp()
        %conv = tf.Conv2D(%x, %w) {{strides = [1, 1, 1, 1], padding = b"VALID"}} after(%gate)
        %s = tf.Const() {{value = float32[2] [2.0, 4.0]}}
        %y = tf.Mul(%conv, %s)
        %late = tf.NoOp() after(%y)
    """)
    _, after = fold(text)
    y = after.graph.node("y")
    assert y.op == "tf.Conv2D"
    assert [node.name for node in y.control_inputs] == ["gate"]
    assert [node.name for node in after.graph.node("late").control_inputs] == ["y"]


def test_in_a_branch_of_v1_control_flow_constants_stay_in_the_branch() -> None:
    text = graph(
        """
        %p = tf.Placeholder() {dtype = bool, shape = shape[]}
        %switch = tf.Switch(%x, %p)
        %inside = tf.Identity(%switch:1)
        %w = tf.Const() {value = float32[1, 1, 2, 2] [1.0, 2.0, -3.0, 0.5]} after(%inside)
        %s = tf.Const() {value = float32[2] [2.0, 4.0]} after(%inside)
        %conv = tf.Conv2D(%inside, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}
        %scaled = tf.Mul(%conv, %s)
        %y = tf.Merge(%switch, %scaled) {N = 2}
        """
    )
    _, after = fold(text)
    scaled = after.graph.node("scaled")
    assert scaled.op == "tf.Conv2D"
    assert [node.name for node in scaled.input(1).node.control_inputs] == ["inside"]
    assert after.graph.find("conv") is None


def test_folding_does_not_write_into_the_old_weights() -> None:
    text = graph(f"{WEIGHTS}{CONV}\n%s = tf.Const() {{value = float32[2] [2.0, 4.0]}}\n%y = tf.Mul(%conv, %s)")
    before, after = fold(text)
    assert before.graph.node("w").attrs["value"].numpy().tolist() == [[[[1.0, 2.0], [-3.0, 0.5]]]]
    assert np.array_equal(after.graph.node("w").attrs["value"].numpy(), [[[[2.0, 8.0], [-6.0, 2.0]]]])


def test_a_constant_that_is_fed_is_not_known() -> None:
    body = f"{WEIGHTS}{CONV}\n%s = tf.Const() {{value = float32[2] [2.0, 4.0]}}\n%y = tf.Mul(%conv, %s)"
    model = parse_model(graph(body))
    model.graph.inputs = (*model.graph.inputs, model.graph.node("s").output)
    assert not run_pass(model, "fold-batch-norms").rules


def test_what_is_kept_apart_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of a thousand steps is read a bounded number of times for each step."""
    from graphopt.passes.fold import batch_norm_forms

    reads: list[str] = []
    form = batch_norm_forms.FORMS["tf.Mul"]
    monkeypatch.setitem(batch_norm_forms.FORMS, "tf.Mul", lambda node: (reads.append(node.name), form(node))[1])
    lines = ["%s = tf.Const() {value = float32[2] [0.5, 2.0]}", "%m0 = tf.Relu(%x)"]
    for place in range(1000):
        lines.append(f"%m{place + 1} = tf.Mul(%m{place}, %s)")
        lines.append(f"%r{place} = tf.Relu(%m{place})" if place % 2 else "")
    model = parse_model(graph("\n".join(lines), "%m1000"))
    run_pass(model, "fold-batch-norms")
    assert 1000 <= len(reads) < 20_000
