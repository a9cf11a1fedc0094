"""The pass that applies the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphopt.backends.legalization import Refusal
from graphopt.backends.onnx.options import OnnxOptions
from graphopt.backends.onnx.table import all_rules, first_rules
from graphopt.ir.value import Node
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Rule


@dataclass(frozen=True)
class Legalize(RewritePass):
    """Express operators of TensorFlow by operators of ONNX; `refusals` says why a node was left."""

    settings: OnnxOptions = field(default_factory=OnnxOptions)
    refusals: dict[Node, Refusal] = field(default_factory=dict, compare=False)

    def make_rules(self) -> Sequence[Rule]:
        """Those of every family."""
        return all_rules().rules(self.settings, self.refusals)


@dataclass(frozen=True)
class LegalizeFirst(RewritePass):
    """Express parts of complex numbers by real ones."""

    settings: OnnxOptions = field(default_factory=OnnxOptions)

    def make_rules(self) -> Sequence[Rule]:
        """Those that come before all others."""
        return first_rules().rules(self.settings, {})
