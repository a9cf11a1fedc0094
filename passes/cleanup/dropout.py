"""Dropout as TensorFlow and Keras write it, and its removal at inference.

Forms seen: TensorFlow 1's `x / keep * floor(keep + random)`; TensorFlow 2's `x * scale * cast(random >= rate)` and
`select(random >= rate, x * scale, 0)`.
"""

from __future__ import annotations

from graphopt.ir.known import known_scalar
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.value import Value
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known, where
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.rules.arithmetic import is_every

RANDOM_DEPTH = 8  # nodes between a dropout and the numbers it draws, at most


def is_random(value: Value) -> bool:
    """`value` is drawn at random, perhaps scaled and shifted: uniform numbers within a few nodes."""
    seen = {value.node}
    frontier = [value.node]
    for _ in range(RANDOM_DEPTH):
        if any(traits_of(node.op) & Trait.RANDOM for node in frontier):
            return True
        frontier = [p for node in frontier for p in node.predecessors() if p not in seen]
        seen.update(frontier)
        if len(seen) > RANDOM_DEPTH * 4:
            return False
    return False


class RemoveDropoutByFloor(Rule):
    """`(x / keep) * floor(keep + random)` is `x` at inference."""

    def pattern(self, tf: Dialect, x: Wildcard, keep: Wildcard, random: Wildcard) -> Pattern:
        mask = tf.Floor(tf.any_of("Add", "AddV2")(keep, where(random, is_random)))
        return tf.Mul(tf.any_of("RealDiv", "Div")(x, keep), mask)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        value: Value = match.x
        return value


class RemoveDropoutByCast(Rule):
    """`x * scale * cast(random >= rate)` is `x` at inference."""

    def pattern(self, tf: Dialect, x: Wildcard, scale: Wildcard, random: Wildcard, rate: Wildcard) -> Pattern:
        keeps = tf.GreaterEqual(where(random, is_random), rate)
        return tf.Mul(tf.Mul(x, known(scale, lambda held: held.size == 1)), tf.Cast(keeps, attributes=ANY))

    def check(self, match: Match) -> str | None:
        return _scale_is_inverse(match)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        value: Value = match.x
        return value


class RemoveDropoutBySelect(Rule):
    """`select(random >= rate, x * scale, 0)` is `x` at inference."""

    def pattern(
        self, tf: Dialect, x: Wildcard, scale: Wildcard, random: Wildcard, rate: Wildcard, zero: Wildcard
    ) -> Pattern:
        keeps = tf.GreaterEqual(where(random, is_random), rate)
        scaled = tf.Mul(x, known(scale, lambda held: held.size == 1))
        return tf.any_of("SelectV2", "Select")(keeps, scaled, known(zero, is_every(0)))

    def check(self, match: Match) -> str | None:
        return _scale_is_inverse(match)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        value: Value = match.x
        return value


def _scale_is_inverse(match: Match) -> str | None:
    """A dropout scales by 1 / (1 - rate); anything else that looks like one is left."""
    rate, scale = known_scalar(match.rate), match.scalar("scale")
    if rate is None:
        return None
    if rate >= 1 or abs(scale * (1 - rate) - 1) > 1e-3:
        return f"the kept values are scaled by {scale}, not by 1 / (1 - {rate})"
    return None


DROPOUT_RULES = (RemoveDropoutByFloor, RemoveDropoutByCast, RemoveDropoutBySelect)
