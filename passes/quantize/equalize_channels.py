"""equalize-channels: ranges of a tensor's channels become more alike, for one scale to serve them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.errors import UsageError
from graphopt.ir.graph import Graph
from graphopt.passes.base import Exactness
from graphopt.passes.quantize.by_statistics import ByStatistics
from graphopt.passes.quantize.equalization import equalize
from graphopt.passes.quantize.statistics import Statistics


@dataclass(frozen=True)
class EqualizeChannels(ByStatistics):
    """Make channels larger where they are computed and smaller where they are read, so that one scale serves them all.

    *Given* `equalize-channels{statistics="seen.json",strength=1.0}`, where the channels of %h reach up to 20 and 4

        %w = tfl.CONSTANT() {value = float32[2, 1] [[20.0], [4.0]]} : float32[2, 1]
        %v = tfl.CONSTANT() {value = float32[1, 2] [[1.0, 1.0]]} : float32[1, 2]
        %h = tfl.FULLY_CONNECTED(%x, %w, none) : float32[1, 2]
        %y = tfl.FULLY_CONNECTED(%h, %v, none) : float32[1, 1]

    *Result*

        %w = tfl.CONSTANT() {value = float32[2, 1] [[20.0], [16.0]]} : float32[2, 1]
        %v = tfl.CONSTANT() {value = float32[1, 2] [[1.0, 0.25]]} : float32[1, 2]
        %h = tfl.FULLY_CONNECTED(%x, %w, none) : float32[1, 2]
        %y = tfl.FULLY_CONNECTED(%h, %v, none) : float32[1, 1]

    Layers on TFLite's operators, what is homogeneous in each channel between them, and the scale and offset of layer
    normalizations, as SmoothQuant has it, take factors. `statistics` is the file that `graphopt calibrate --channels`
    writes for this very model. A channel is made to fill 0.8 of its tensor's range at most, since others than the
    samples may go further; `strength` is the exponent of what it lacks: 1 is all of it. Statistics from before do not
    describe the result: calibrate it anew.

    Refuses statistics without channels. Channels that reach an input or an output, an operator that is not homogeneous
    (RELU6 among them: no operator cuts each channel off elsewhere), or weights that are computed stay as they are.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    strength: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"strength is from 0 to 1, not {self.strength}")

    def change(self, graph: Graph, statistics: Statistics) -> int:
        """See `ByStatistics.change`: tensors whose channels were scaled."""
        return len(equalize(graph, statistics, self.strength))
