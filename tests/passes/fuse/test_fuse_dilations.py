"""fuse-dilations: convolutions of interleaved parts; what is refused; the reference computes the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.model import Model
from graphopt.ir.text import print_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import text_model

NAME = "fuse-dilations"
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 2, 2)).round(2).tolist()


def parts(
    block: int = 2, before: int = 2, after: int = 2, cut: tuple[int, int] = (0, 0), stride: int = 1, back: int = 0,
    bias: bool = False, op: str = "Conv2D", size: int = 8,
) -> Model:  # fmt: skip
    body = f"""
    %w = tf.Const() {{value = float32[3, 3, 2, 2] {KERNEL}}}
    %block = tf.Const() {{value = int32[2] [{block}, {block}]}}
    %back = tf.Const() {{value = int32[2] [{back or block}, {back or block}]}}
    %pads = tf.Const() {{value = int32[2, 2] [[{before}, {after}], [{before}, {after}]]}}
    %crops = tf.Const() {{value = int32[2, 2] [[{cut[0]}, {cut[1]}], [{cut[0]}, {cut[1]}]]}}
    %b = tf.Const() {{value = float32[{4 if op != "Conv2D" else 2}] repeat [1.0, -1.0]}}
    %p = tf.SpaceToBatchND(%x, %block, %pads)
    %c = tf.{op}(%p, %w) {{strides = [1, {stride}, {stride}, 1], padding = b"VALID"}}
    {"%d = tf.BiasAdd(%c, %b)" if bias else ""}
    %y = tf.BatchToSpaceND({"%d" if bias else "%c"}, %back, %crops)
    """
    return text_model(body, f"%x: float32[1, {size}, {size}, 2]")


def ops(model: Model) -> list[str]:
    return [node.op_type for node in model.graph if node.op_type not in ("Const", "Placeholder", "_Arg")]


@given(
    block=st.integers(2, 3), before=st.integers(0, 4), cut=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    bias=st.booleans(), op=st.sampled_from(["Conv2D", "DepthwiseConv2dNative"]),
)  # fmt: skip
def test_parts_are_dilated(block: int, before: int, cut: tuple[int, int], bias: bool, op: str) -> None:
    size = 12
    after = -(size + before) % block + block
    model = parts(block, before, after, (min(cut[0], before), cut[1]), bias=bias, op=op, size=size)
    feeds = {"x": np.random.default_rng(block).normal(size=(1, size, size, 2)).astype(np.float32)}
    wanted = get_runtime("reference").run(model, feeds)["y"]
    run_pass(model, NAME)
    verify(model)
    assert ops(model) == [op, "BiasAdd"] if bias else [op]
    np.testing.assert_allclose(get_runtime("reference").run(model, feeds)["y"], wanted, rtol=1e-5, atol=1e-5)
    text = print_model(model)
    run_pass(model, NAME)
    assert print_model(model) == text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"before": 0, "after": 0, "cut": (1, 0)}, "more is cut off"),
        ({"stride": 2, "size": 12}, "strides or dilations"),
    ],
)
def test_what_does_not_fit_stays(options: dict[str, int], reason: str) -> None:
    model = parts(**options)  # type: ignore[arg-type]
    report = run_pass(model, NAME)
    assert any(reason in entry["reason"] for entry in report.refusals), report.refusals
    assert "SpaceToBatchND" in ops(model)
