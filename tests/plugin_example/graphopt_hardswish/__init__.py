"""A pass that graphopt does not have: hard swish written without a division."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.passes import Editor, Exactness, Match, RewritePass, Rule, known
from graphopt.passes.patterns import Dialect, Pattern, Wildcard
from graphopt.passes.rule import Replacement


class FuseDivision(Rule):
    """`x * relu6(x + 3) / 6` is `x * (relu6(x + 3) * (1 / 6))`."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def __init__(self, number: float) -> None:
        self.number = number

    def pattern(self, tf: Dialect, x: Wildcard, three: Wildcard, six: Wildcard) -> Pattern:
        """The form that Keras writes, in any operand order."""
        gate = tf.Relu6(tf.any_of("Add", "AddV2")(x, known(three)))
        return tf.RealDiv(tf.Mul(x, gate), known(six))

    def check(self, match: Match) -> str | None:
        """Only the numbers that make it a hard swish."""
        if match.scalar("three") != 3 or match.scalar("six") != self.number:
            return f"its numbers are {match.scalar('three')} and {match.scalar('six')}, not 3 and {self.number:g}"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The gate scaled, so that a following product can take the scale in."""
        gate = edit.value("tf.Relu6", edit.value("tf.AddV2", match.x, match.three))
        scale = edit.hold(np.array(1 / self.number, np.float32), f"{match.root.name}/scale")
        return edit.value("tf.Mul", match.x, edit.value("tf.Mul", gate, scale))


@dataclass(frozen=True)
class FuseHardSwish(RewritePass):
    """Write hard swish without a division.

    *Given*

        %a = tf.AddV2(%x, %three)
        %g = tf.Relu6(%a)
        %m = tf.Mul(%x, %g)
        %y = tf.RealDiv(%m, %six)

    *Result*

        %a = tf.AddV2(%x, %three)
        %g = tf.Relu6(%a)
        %s = tf.Mul(%g, %sixth)
        %y = tf.Mul(%x, %s)

    `number` is what the form divides by. Refuses other numbers than those.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    number: float = 6.0

    def make_rules(self) -> list[Rule]:
        """The one rule, with the option."""
        return [FuseDivision(self.number)]
