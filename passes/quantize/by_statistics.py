"""Passes that change float models by what calibration has seen of their channels, before they are quantized."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.quantize.statistics import Statistics
from graphopt.passes.quantize.statistics_file import load_statistics

_DONE = "graphopt.by_statistics"  # of a model's metadata: what has been done already


@dataclass(frozen=True)
class ByStatistics(Pass):
    """Base of passes with statistics: a file of `graphopt calibrate --channels`, of the very model they change.

    What they change, the statistics no longer describe: the same pass with the same options does nothing again.
    """

    statistics: str = ""

    def run(self, model: Model, context: PassContext) -> None:
        """Change every graph in place. Raises `UsageError` for statistics that are not given, or lack channels."""
        if not self.statistics:
            raise UsageError(f"{self.name} needs statistics: the file that `graphopt calibrate --channels` writes")
        held = load_statistics(self.statistics)
        if not held.collected.channels:
            raise UsageError(
                f"{printable(self.statistics)} holds no channels, which {self.name} needs: calibrate with --channels"
            )
        done = model.metadata.get(_DONE, ())
        if str(self) in done or not context.allows(self.name, self.exactness):
            return
        count = sum(self.change(graph, held) for graph in model.graphs)
        if count:
            context.rewrote(self.name, count=count)
            model.metadata[_DONE] = (*done, str(self))

    def change(self, graph: Graph, statistics: Statistics) -> int:
        """Change one graph in place; returns how much was changed. `statistics` may change with it."""
        raise TypeError(f"{type(self).__name__} does not define change")
