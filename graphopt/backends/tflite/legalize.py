"""The pass that applies the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphopt.backends.legalization import Refusal
from graphopt.backends.tflite.options import TFLiteOptions
from graphopt.backends.tflite.table import all_rules, first_rules
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


# What the rules that come first are for: parts of complex numbers, and what has no kernel but by them.
COMPLEX = frozenset({"tf.Real", "tf.Imag", "tf.ComplexAbs", "tf.IRFFT"})


@dataclass(frozen=True)
class LegalizeFirst(RewritePass):
    """Express parts of complex numbers by real ones, as far as TFLite computes no complex ones."""

    settings: TFLiteOptions = field(default_factory=TFLiteOptions)

    def make_rules(self) -> Sequence[Rule]:
        """Those that come before all others."""
        return first_rules().rules(self.settings, {})
