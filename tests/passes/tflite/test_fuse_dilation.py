"""fuse-dilation: a convolution of interleaved parts of an image is one with dilated weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.passes.tflite.fuse_dilation import FuseDilation
from graphopt.testing import assert_equivalent, check_pass

Net = Callable[..., str]
Pairs = list[list[int]]
OPTIONS = "padding=VALID, stride_h = 1, stride_w = 1, dilation_hfactor = 1, dilation_wfactor = 1, act=NONE"


def parts(
    net: Net, block: int, paddings: Pairs, crops: Pairs, *, size: int = 6, back: int = 0, options: str = OPTIONS
) -> str:
    """An image of 6 by 6, in parts, convolved with 3 by 3 weights."""
    inner = [(size + sum(pair)) // block for pair in paddings]
    made = [extent - 2 for extent in inner]
    whole = [extent * block - sum(crop) for extent, crop in zip(made, crops, strict=True)]
    weights = np.linspace(-1, 1, 18).reshape(1, 3, 3, 2).astype(np.float32)
    held = {
        "w": weights, "b": np.array([0.5], np.float32), "block": np.array([block, block], np.int32),
        "pads": np.array(paddings, np.int32), "crops": np.array(crops, np.int32),
    }  # fmt: skip
    if back:
        held["back"] = np.array([back, back], np.int32)
    count = block * block
    return net(
        f"%s = SPACE_TO_BATCH_ND(%x, %block, %pads) : float32[{count}, {inner[0]}, {inner[1]}, 2]",
        f"%c = CONV_2D(%s, %w, %b) {{{options}}} : float32[{count}, {made[0]}, {made[1]}, 1]",
        f"%y = BATCH_TO_SPACE_ND(%c, %{'back' if back else 'block'}, %crops) : float32[1, {whole[0]}, {whole[1]}, 1]",
        inputs=[f"x: float32[1, {size}, {size}, 2]"], constants=held,
    )  # fmt: skip


def only(model: Any, op: str) -> Any:
    (node,) = [node for node in model.graph if node.op == f"tfl.{op}"]
    return node


@pytest.mark.parametrize(
    ("paddings", "crops", "padding", "padded"),
    [
        ([[2, 2], [2, 2]], [[0, 0], [0, 0]], b"SAME", False),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], b"VALID", False),
        ([[2, 4], [2, 4]], [[0, 2], [0, 2]], b"SAME", False),
        ([[4, 2], [4, 0]], [[0, 0], [0, 0]], b"VALID", True),
    ],
)
def test_parts_of_an_image(net: Net, paddings: Pairs, crops: Pairs, padding: bytes, padded: bool) -> None:
    text = parts(net, 2, paddings, crops)
    before = parse_model(text)
    after = before.clone()
    report = run_pass(after, FuseDilation())
    assert report.rules == {"dilation-of-parts": 1}
    node = only(after, "CONV_2D")
    assert (node.name, node.attrs["padding"]) == ("y", padding)
    assert (node.attrs["dilation_hfactor"], node.attrs["dilation_wfactor"]) == (2, 2)
    assert [other.op for other in after.graph].count("tfl.PAD") == padded
    assert_equivalent(before, after, runtime="litert", exactness="reassociating")


def test_the_text_of_it(net: Net) -> None:
    before = parts(net, 2, [[2, 2], [2, 2]], [[0, 0], [0, 0]])
    lines = [line for line in before.splitlines() if not line.strip().startswith(("%s ", "%block", "%pads", "%crops",
                                                                                "%y ="))]  # fmt: skip
    after = "\n".join(lines).replace("%c = tfl.CONV_2D(%s,", "%y = tfl.CONV_2D(%x,").replace("VALID", "SAME")
    after = after.replace("dilation_hfactor = 1, dilation_wfactor = 1", "dilation_hfactor = 2, dilation_wfactor = 2")
    check_pass(FuseDilation(), before, after.replace("float32[4, 3, 3, 1]", "float32[1, 6, 6, 1]"), runtime="litert")


@pytest.mark.parametrize("place", [1, 2])
def test_lines(net: Net, place: int) -> None:
    def image(count: int, length: int, depth: int) -> str:
        return f"float32[{count}, {length}, 1, {depth}]" if place == 1 else f"float32[{count}, 1, {length}, {depth}]"

    shape = (1, 3, 1, 2) if place == 1 else (1, 1, 3, 2)
    held = {
        "w": np.linspace(-1, 1, 6).reshape(shape).astype(np.float32), "b": np.array([0.5], np.float32),
        "block": np.array([2], np.int32), "pads": np.array([[2, 2]], np.int32), "crops": np.array([[0, 0]], np.int32),
        "wide": np.array([2, 5, 1, 2] if place == 1 else [2, 1, 5, 2], np.int32), "flat": np.array([2, 3, 1], np.int32),
    }  # fmt: skip
    text = net(
        "%s = SPACE_TO_BATCH_ND(%x, %block, %pads) : float32[2, 5, 2]",
        f"%i = RESHAPE(%s, %wide) : {image(2, 5, 2)}",
        f"%c = CONV_2D(%i, %w, %b) {{{OPTIONS}}} : {image(2, 3, 1)}",
        "%n = RESHAPE(%c, %flat) : float32[2, 3, 1]",
        "%y = BATCH_TO_SPACE_ND(%n, %block, %crops) : float32[1, 6, 1]",
        inputs=["x: float32[1, 6, 2]"], constants=held,
    )  # fmt: skip
    before = parse_model(text)
    after = before.clone()
    assert run_pass(after, FuseDilation()).rules == {"dilation-of-lines": 1}
    assert only(after, "CONV_2D").attrs["padding"] == b"SAME"
    assert_equivalent(before, after, runtime="litert", exactness="reassociating")
    assert not run_pass(after, FuseDilation()).rules

    odd = text.replace("%block, %crops", "%pads, %crops")
    assert "the blocks are not the same" in run_pass(parse_model(odd), FuseDilation()).refusals[0]["reason"]
    vague = text.replace("%x = tfl.INPUT() : float32[1, 6, 2]", "%x = tfl.INPUT() : float32[?, ?, 2]")
    assert "too little is known" in run_pass(parse_model(vague), FuseDilation()).refusals[0]["reason"]
    other = text.replace(image(2, 5, 2), "float32[2, ?, ?, 2]")
    assert "which dimension" in run_pass(parse_model(other), FuseDilation()).refusals[0]["reason"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"back": 3}, "the blocks are not the same"),
        ({"options": OPTIONS.replace("stride_h = 1", "stride_h = 2")}, "has strides or is dilated"),
        ({"crops": [[0, 3], [0, 0]]}, "cut off the result"),
    ],
)
def test_it_refuses(net: Net, options: dict[str, Any], reason: str) -> None:
    crops = options.pop("crops", [[0, 0], [0, 0]])
    _, report = check_pass(FuseDilation(), parts(net, 2, [[2, 2], [2, 2]], crops, **options), runtime=None)
    assert reason in report.refusals[0]["reason"]


def test_other_scales_are_a_reason(net: Net) -> None:
    from graphopt.ir.types import Quantization, TensorType

    for name in ("s", "y"):
        model = parse_model(parts(net, 2, [[2, 2], [2, 2]], [[0, 0], [0, 0]]))
        value = model.graph.value(name)
        value.type = TensorType(value.dtype, value.shape, Quantization((0.5,), (0,)))
        assert "scaled otherwise" in run_pass(model, FuseDilation()).refusals[0]["reason"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_keeps_what_parts_compute(net: Net, data: st.DataObject) -> None:
    paddings, crops = [], []
    for _ in range(2):
        before, after = data.draw(st.integers(0, 4)), 0
        after = data.draw(st.sampled_from([count for count in range(5) if (before + count) % 2 == 0]))
        paddings.append([before, after])
        crops.append([data.draw(st.integers(0, min(before, 1))), data.draw(st.integers(0, min(after, 1)))])
    before_model = parse_model(parts(net, 2, paddings, crops))
    after_model = before_model.clone()
    run_pass(after_model, FuseDilation())
    assert_equivalent(before_model, after_model, runtime="litert", exactness="reassociating", allow_flat=True)
