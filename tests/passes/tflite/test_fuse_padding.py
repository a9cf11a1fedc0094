"""fuse-padding: zeros around an image become the padding of the convolution that reads it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.passes.tflite.fuse_padding import FusePadding
from graphopt.testing import assert_equivalent, check_pass

Net = Callable[..., str]
BIAS = np.array([0.5], np.float32)


def convolution(net: Net, pads: list[list[int]], *, size: int = 6, width: int = 3, stride: int = 1, dilation: int = 1,
                made: str = "?") -> str:  # fmt: skip
    """A padded square image, convolved without padding."""
    whole = size + sum(pads[0])
    options = (
        f"padding=VALID, stride_h = {stride}, stride_w = {stride}, dilation_hfactor = {dilation}, "
        f"dilation_wfactor = {dilation}, act=NONE"
    )
    weights = np.linspace(-1, 1, 2 * width * width).reshape(1, width, width, 2).astype(np.float32)
    every = np.array([[0, 0], *pads, [0, 0]], np.int32)
    return net(
        f"%p = PAD(%x, %pads) : float32[1, {whole}, {size + sum(pads[1])}, 2]",
        f"%y = CONV_2D(%p, %w, %b) {{{options}}} : float32[1, {made}, {made}, 1]",
        inputs=[f"x: float32[1, {size}, {size}, 2]"], constants={"w": weights, "b": BIAS, "pads": every},
    )  # fmt: skip


def fused(text: str) -> str:
    lines = [line for line in text.splitlines() if "%pads = " not in line and "%p = " not in line]
    return "\n".join(lines).replace("(%p, ", "(%x, ").replace("VALID", "SAME")


@pytest.mark.parametrize(
    ("pads", "options"),
    [
        ([[1, 1], [1, 1]], {}),
        ([[0, 1], [0, 1]], {"stride": 2}),
        ([[2, 2], [2, 2]], {"dilation": 2}),
        ([[1, 2], [1, 2]], {"stride": 2, "size": 5, "width": 3}),
    ],
)
def test_zeros_as_same_puts_them_are_left_to_the_convolution(
    net: Net, pads: list[list[int]], options: dict[str, int]
) -> None:
    text = convolution(net, pads, **options)
    check_pass(FusePadding(), text, fused(text), runtime="litert")


def test_each_of_several_readers_is_relieved(net: Net) -> None:
    text = convolution(net, [[1, 1], [1, 1]])
    both = text.replace("-> (%y)", "-> (%y, %z)").replace("\n}", "\n  %z = tfl.NEG(%p) : float32[1, 8, 8, 2]\n}")
    before = parse_model(both)
    after = before.clone()
    assert run_pass(after, FusePadding()).rules == {"padding-of-convolution": 1}
    assert after.graph.node("y").input(0).name == "x"
    assert_equivalent(before, after, runtime="litert", exactness="reassociating")


@pytest.mark.parametrize(
    ("pads", "options", "reason"),
    [
        ([[1, 1], [1, 1]], {"stride": 2}, "zeros [1, 1] around 6 elements are not those of SAME"),
        ([[3, 3], [3, 3]], {}, "are not those of SAME"),
        ([[0, 0], [0, 0]], {"width": 9}, "are not those of SAME"),
    ],
)
def test_other_zeros_stay(net: Net, pads: list[list[int]], options: dict[str, int], reason: str) -> None:
    _, report = check_pass(FusePadding(), convolution(net, pads, **options), runtime=None)
    assert reason in report.refusals[0]["reason"]


def test_images_of_unknown_size_and_padded_channels_stay(net: Net) -> None:
    text = convolution(net, [[1, 1], [1, 1]])
    _, report = check_pass(FusePadding(), text.replace("float32[1, 6, 6, 2]", "float32[1, ?, 6, 2]"), runtime=None)
    assert "the size of the image is not known" in report.refusals[0]["reason"]
    _, report = check_pass(FusePadding(), text.replace("[0, 0, 1, 1, 1, 1, 0, 0]", "[0, 0, 1, 1, 1, 1, 0, 1]"),
                           runtime=None)  # fmt: skip
    assert "the channels are padded" in report.refusals[0]["reason"]


def test_unknown_weights_and_scales_are_reasons(net: Net) -> None:
    text = convolution(net, [[1, 1], [1, 1]])
    computed = text.replace("%x) -> ", "%x, %v) -> ").replace("%x = tfl", "%v = tfl.INPUT() : float32[*]\n  %x = tfl")
    _, report = check_pass(FusePadding(), computed.replace("%p, %w", "%p, %v"), runtime=None)
    assert "of the weights, is not known" in report.refusals[0]["reason"]
    from graphopt.ir.types import Quantization, TensorType

    model = parse_model(text)
    value = model.graph.value("p")
    value.type = TensorType(value.dtype, value.shape, Quantization((0.5,), (0,)))
    assert "rescales" in run_pass(model, FusePadding()).refusals[0]["reason"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_keeps_what_convolutions_compute(net: Net, data: st.DataObject) -> None:
    pads = [[data.draw(st.integers(0, 2)), data.draw(st.integers(0, 3))] for _ in range(2)]
    size, width = data.draw(st.integers(4, 7)), data.draw(st.integers(1, 3))
    stride = data.draw(st.integers(1, 2))
    before = parse_model(convolution(net, pads, size=size, width=width, stride=stride))
    after = before.clone()
    run_pass(after, FusePadding())
    assert_equivalent(before, after, runtime="litert", allow_flat=True, exactness="reassociating")
