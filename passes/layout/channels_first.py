"""channels-first: convolutions, pools and the like whose channels come last get them first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.passes.layout.data_format import ChannelsMoved, MoveChannels
from graphopt.passes.matcher import Match
from graphopt.passes.rule import Rule


class ChannelsToTheFront(ChannelsMoved):
    """An operator whose channels come last, between transposes, has them first."""

    formats: ClassVar[Mapping[bytes, bytes]] = {b"NHWC": b"NCHW", b"NDHWC": b"NCDHW"}
    word: ClassVar[str] = "channels_first"

    def grow(self, match: Match) -> Match | str | None:
        """A bias is moved where it is a layer's over images or volumes; elsewhere channels last are as good."""
        grown = super().grow(match)
        if isinstance(grown, Match) and match.root.op == "tf.BiasAdd" and grown.rank < 4:
            return None
        return grown

    def order(self, rank: int) -> tuple[int, ...]:
        """Channels, the last dimension, come second."""
        return (0, rank - 1, *range(1, rank - 1))


@dataclass(frozen=True)
class ChannelsFirst(MoveChannels):
    """Lay tensors out with channels first where convolutions, pools and the like have them last.

    *Given*

        %c = tf.Conv2D(%x, %weights) {strides = [1, 1, 1, 1], padding = b"SAME"}
        %r = tf.Relu(%c)
        %y = tf.MaxPool(%r) {ksize = [1, 2, 2, 1], strides = [1, 2, 2, 1], padding = b"SAME"}

    *Result*

        %t = tf.Transpose(%x, %to_first)
        %c = tf.Conv2D(%t, %weights) {strides = [1, 1, 1, 1], padding = b"SAME", data_format = b"NCHW"}
        %r = tf.Relu(%c)
        %p = tf.MaxPool(%r) {ksize = [1, 1, 2, 2], strides = [1, 1, 2, 2], padding = b"SAME", data_format = b"NCHW"}
        %y = tf.Transpose(%p, %to_last)

    It is channels-last the other way, for targets that compute so; what is said there of transposes holds here.

    Refuses operators of unknown rank, and vectors of channels; graphs with v1 control flow keep every transpose.
    """

    rules: ClassVar[tuple[type[Rule], ...]] = (ChannelsToTheFront,)
