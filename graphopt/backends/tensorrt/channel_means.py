"""Means of the channels that layers read, gathered beside the statistics: errors of weights shift results by them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.tensorrt.layers import CONVOLUTIONS, LAYERS, channel_axis, input_axis
from graphopt.backends.tensorrt.rounding import Array
from graphopt.ir.model import Model
from graphopt.ir.value import Node, Value


class ChannelMeans:
    """What `calibrate` shows is averaged, sample by sample, for the inputs of layers of the main graph."""

    def __init__(self, model: Model):
        self._sums: dict[Value, Array | None] = {}
        self._axes: dict[Value, int] = {}
        self._counts: dict[Value, int] = {}
        for node in model.graph:
            if node.op_type in LAYERS:
                self._axes.setdefault(node.input(0), 1 if node.op_type in CONVOLUTIONS else -1)

    def sample(self, sample: Any) -> None:
        """Samples count alike, whatever is in them."""

    def see(self, value: Value, array: Array) -> None:
        """Add the means of one tensor. A number of channels that changes leaves none."""
        axis = self._axes.get(value)
        if axis is None or array.ndim < 2 or not array.size:
            return
        others = tuple(place for place in range(array.ndim) if place != axis % array.ndim)
        means = array.mean(others, dtype=np.float64)
        before = self._sums.get(value, np.zeros_like(means))
        self._sums[value] = None if before is None or before.shape != means.shape else before + means
        self._counts[value] = self._counts.get(value, 0) + 1

    def of(self, node: Node, shape: tuple[int, ...]) -> Array | None:
        """What each weight of a layer, of this `shape`, is multiplied by on the average, to be broadcast; or None."""
        sums = self._sums.get(node.input(0))
        axis = 1 if node.op_type in CONVOLUTIONS else -1
        if sums is None or self._axes[node.input(0)] != axis or not np.isfinite(sums).all():
            return None
        means = sums / self._counts[node.input(0)]
        groups = int(node.attrs.get("group", 1)) if node.op_type in CONVOLUTIONS else 1
        if node.op_type == "Conv" and means.size == shape[1] * groups and shape[0] % groups == 0:
            spread = np.repeat(means.reshape(groups, shape[1]), shape[0] // groups, axis=0)
            return spread.reshape(*spread.shape, *[1] * (len(shape) - 2))
        summed = 0 if node.op_type == "ConvTranspose" else input_axis(node, len(shape))
        if node.op_type == "Conv" or groups != 1 or means.size != shape[summed]:
            return None
        found: Array = means.reshape([-1 if place == summed else 1 for place in range(len(shape))])
        return found


def shift_of(node: Node, errors: Array, means: Array) -> Array:
    """What errors of a layer's weights shift each of its channels by, on the average."""
    channels = channel_axis(node, errors.ndim)
    others = tuple(place for place in range(errors.ndim) if place != channels)
    shift: Array = (errors * means).sum(others, dtype=np.float64)
    return shift
