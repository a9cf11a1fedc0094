"""correct-biases: what rounding the weights to 8 bits will shift the outputs of layers by is taken off their biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Graph
from graphopt.passes.base import Exactness
from graphopt.passes.quantize.by_statistics import ByStatistics
from graphopt.passes.quantize.correction import correct_biases
from graphopt.passes.quantize.statistics import Statistics


@dataclass(frozen=True)
class CorrectBiases(ByStatistics):
    """Take off biases what weights in 8 bits, with a scale for each channel, will shift outputs by on the average.

    *Given* `correct-biases{statistics="seen.json"}`, where %x is 1 on the average

        %w = tfl.CONSTANT() {value = float32[1, 2] [[127.0, 0.25]]} : float32[1, 2]
        %b = tfl.CONSTANT() {value = float32[1] [0.0]} : float32[1]
        %y = tfl.FULLY_CONNECTED(%x, %w, %b) : float32[1, 1]

    *Result*, since 0.25 will be rounded to 0

        %w = tfl.CONSTANT() {value = float32[1, 2] [[127.0, 0.25]]} : float32[1, 2]
        %b = tfl.CONSTANT() {value = float32[1] [0.25]} : float32[1]
        %y = tfl.FULLY_CONNECTED(%x, %w, %b) : float32[1, 1]

    `statistics` is the file that `graphopt calibrate --channels` writes for this very model. The result is meant to be
    quantized in mode `int8`. As a float model it is off: each layer by at most half a step of its weights times the sum
    of what it reads.

    Refuses statistics without channels, and anything unless approximate rewrites are allowed. Layers whose weights are
    computed, and layers of whose input no means are known, stay as they are.
    """

    exactness: ClassVar[Exactness] = Exactness.APPROXIMATE
    after: ClassVar[tuple[str, ...]] = ("equalize-channels",)

    def change(self, graph: Graph, statistics: Statistics) -> int:
        """See `ByStatistics.change`: layers whose bias was changed."""
        return correct_biases(graph, statistics)
