"""What is looked at beside the statistics: the first samples, and the means of the channels that layers read.

Errors of weights shift results by these means.
"""

from __future__ import annotations

import numpy as np

from graphopt.backends.tensorrt.layers import CONVOLUTIONS, LAYERS, input_axis
from graphopt.backends.tensorrt.rounding import Array
from graphopt.ir.model import Model
from graphopt.ir.value import Node, Value
from graphopt.names import tensor_name

FEW = 8  # samples kept


class ChannelMeans:
    """What `calibrate` shows is averaged, sample by sample, for the inputs of layers of the main graph; `samples` are
    the first ones. Values are known by name, so that a copy of the model may be asked about."""

    def __init__(self, model: Model):
        self.samples: list[dict[str, Array]] = []
        self._sums: dict[str, Array | None] = {}
        self._axes: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        for node in model.graph:
            if node.op_type in LAYERS:
                self._axes.setdefault(tensor_name(node.input(0)), _axis(node))

    def sample(self, sample: dict[str, Array]) -> None:
        """Keep the first few."""
        if len(self.samples) < FEW:
            self.samples.append(dict(sample))

    def see(self, value: Value, array: Array) -> None:
        """Add the means of one tensor. A number of channels that changes leaves none."""
        name = tensor_name(value)
        axis = self._axes.get(name)
        if axis is None or array.ndim < 2 or not array.size:
            return
        others = tuple(place for place in range(array.ndim) if place != axis % array.ndim)
        means = array.mean(others, dtype=np.float64)
        before = self._sums.get(name, np.zeros_like(means))
        self._sums[name] = None if before is None or before.shape != means.shape else before + means
        self._counts[name] = self._counts.get(name, 0) + 1

    def of(self, node: Node, shape: tuple[int, ...]) -> Array | None:
        """What each weight of a layer, of this `shape`, is multiplied by on the average, to be broadcast; or None."""
        name = tensor_name(node.input(0))
        sums = self._sums.get(name)
        if sums is None or self._axes[name] != _axis(node) or not np.isfinite(sums).all():
            return None
        means = sums / self._counts[name]
        groups = int(node.attrs.get("group", 1)) if node.op_type in CONVOLUTIONS else 1
        if node.op_type == "Conv" and means.size == shape[1] * groups and shape[0] % groups == 0:
            spread = np.repeat(means.reshape(groups, shape[1]), shape[0] // groups, axis=0)
            return spread.reshape(*spread.shape, *[1] * (len(shape) - 2))
        summed = 0 if node.op_type == "ConvTranspose" else input_axis(node, len(shape))
        if node.op_type == "Conv" or groups != 1 or means.size != shape[summed]:
            return None
        found: Array = means.reshape([-1 if place == summed else 1 for place in range(len(shape))])
        return found


def _axis(node: Node) -> int:
    """Where the channels of what a layer reads lie."""
    return 1 if node.op_type in CONVOLUTIONS else -1
