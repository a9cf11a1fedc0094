"""channels-last: convolutions, pools and the like whose channels come first get them last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.passes.layout.data_format import ChannelsMoved, MoveChannels
from graphopt.passes.rule import Rule


class ChannelsToTheEnd(ChannelsMoved):
    """An operator whose channels come first, between transposes, has them last."""

    formats: ClassVar[Mapping[bytes, bytes]] = {b"NCHW": b"NHWC", b"NCDHW": b"NDHWC"}
    word: ClassVar[str] = "channels_last"

    def order(self, rank: int) -> tuple[int, ...]:
        """Channels, the second dimension, come last."""
        return (0, *range(2, rank), 1)


@dataclass(frozen=True)
class ChannelsLast(MoveChannels):
    """Lay tensors out with channels last where convolutions, pools and the like have them first.

    *Given*

        %c = tf.Conv2D(%x, %weights) {strides = [1, 1, 1, 1], padding = b"SAME", data_format = b"NCHW"}
        %r = tf.Relu(%c)
        %y = tf.MaxPool(%r) {ksize = [1, 1, 2, 2], strides = [1, 1, 2, 2], padding = b"SAME", data_format = b"NCHW"}

    *Result*

        %t = tf.Transpose(%x, %to_last)
        %c = tf.Conv2D(%t, %weights) {strides = [1, 1, 1, 1], padding = b"SAME"}
        %r = tf.Relu(%c)
        %p = tf.MaxPool(%r) {ksize = [1, 2, 2, 1], strides = [1, 2, 2, 1], padding = b"SAME"}
        %y = tf.Transpose(%p, %to_first)

    Transposes stay where the graph begins and ends, and where something reads the order of dimensions. Between them
    they cancel, across whatever computes element by element, joins, pads, slices or reduces; axes, paddings and
    constants follow.

    Refuses operators of unknown rank, and vectors of channels; graphs with v1 control flow keep every transpose.
    """

    rules: ClassVar[tuple[type[Rule], ...]] = (ChannelsToTheEnd,)
