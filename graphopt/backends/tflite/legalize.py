"""The pass that applies the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphopt.backends.legalization import Refusal
from graphopt.backends.tflite.options import TFLiteOptions
from graphopt.backends.tflite.table import all_rules
from graphopt.ir.value import Node
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Rule


@dataclass(frozen=True)
class Legalize(RewritePass):
    """Express operators of TensorFlow by builtin operators of TFLite; `refusals` says why a node was left."""

    settings: TFLiteOptions = field(default_factory=TFLiteOptions)
    refusals: dict[Node, Refusal] = field(default_factory=dict, compare=False)

    def make_rules(self) -> Sequence[Rule]:
        """Those of every family."""
        return all_rules().rules(self.settings, self.refusals)
