"""factor-sums: what is multiplied by one factor twice, and added, is added first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from graphopt.ir.value import Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, either
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.tflite.layers import ACTIVATION, activation, is_plain_float

PLAIN = {ACTIVATION: "NONE"}


class _Factored(Rule):
    """Rules that take a common factor out of a sum."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def check(self, match: Match) -> str | None:
        """Only float32 that is not quantized."""
        for value in (match.x, match.mean, match.factor, match.root.output):
            if not is_plain_float(value):
                return f"'{value.name}' is {value.dtype.name}, or quantized"
        if not _fits(match.mean, match.x):
            return f"what is taken away, of shape {match.mean.shape}, may widen {match.x.shape}"
        return None

    def centred(self, match: Match, edit: Editor) -> Any:
        """`(x - mean) * factor`, of the type of the sum, with its activation unless something is added yet."""
        plain = {ACTIVATION: b"NONE"}
        root = match.root
        moved = edit.node("tfl.SUB", [match.x, match.mean], plain, types=[match.x.type], name=f"{root.name}/centred")
        attrs = plain if "offset" in match else {ACTIVATION: activation(root)}
        name = f"{root.name}/scaled" if "offset" in match else None
        return edit.node("tfl.MUL", [moved.output, match.factor], attrs, types=[root.output.type], name=name).output


def _fits(small: Value, large: Value) -> bool:
    """`small` broadcasts to the shape of `large`."""
    if small.shape.dims is None or large.shape.dims is None or len(small.shape.dims) > len(large.shape.dims):
        return False
    pairs = zip(reversed(small.shape.dims), reversed(large.shape.dims), strict=False)
    return all(dim == 1 or (dim is not None and dim == other) for dim, other in pairs)


def _scaled(tfl: Dialect, x: Any, factor: Wildcard) -> Pattern:
    return tfl.MUL(x, factor, attributes=ANY, **PLAIN)


class CentredAndScaled(_Factored):
    """`x * factor + -mean * factor` is `(x - mean) * factor`."""

    def pattern(self, tfl: Dialect, x: Wildcard, mean: Wildcard, factor: Wildcard) -> Pattern:
        """A sum with the negated product, or a difference."""
        own = _scaled(tfl, x, factor)
        return either(
            tfl.ADD(own, _scaled(tfl, tfl.NEG(mean), factor), attributes=ANY),
            tfl.ADD(own, tfl.NEG(_scaled(tfl, mean, factor)), attributes=ANY),
            tfl.SUB(own, _scaled(tfl, mean, factor), attributes=ANY),
        )

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A difference and a product."""
        value: Replacement = self.centred(match, edit)
        return value


class CentredScaledAndMoved(_Factored):
    """`x * factor + (offset - mean * factor)` is `(x - mean) * factor + offset`."""

    def pattern(self, tfl: Dialect, x: Wildcard, mean: Wildcard, factor: Wildcard, offset: Wildcard) -> Pattern:
        """As the moments of layers and batches are applied."""
        own = _scaled(tfl, x, factor)
        shift = either(
            tfl.SUB(offset, _scaled(tfl, mean, factor), attributes=ANY, name="shift", **PLAIN),
            tfl.ADD(offset, _scaled(tfl, tfl.NEG(mean), factor), attributes=ANY, name="shift", **PLAIN),
            tfl.ADD(offset, tfl.NEG(_scaled(tfl, mean, factor)), attributes=ANY, name="shift", **PLAIN),
        )
        return tfl.ADD(own, shift, attributes=ANY)

    def check(self, match: Match) -> str | None:
        """Worth it only where the offset less the product is as large as the result."""
        if match.shift.output.shape != match.root.output.shape or match.root.output.shape.dims is None:
            return "what is added to the product is small, so that adding it last would take longer"
        return super().check(match)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A difference, a product and a sum."""
        inner = self.centred(match, edit)
        attrs = {ACTIVATION: activation(match.root)}
        return edit.node("tfl.ADD", [inner, match.offset], attrs, types=[match.root.output.type]).output


@dataclass(frozen=True)
class FactorSums(RewritePass):
    """Take a factor out of a sum of products with it, as normalisations by moments have them.

    *Given*

        %a = tfl.MUL(%x, %factor)
        %n = tfl.NEG(%mean)
        %b = tfl.MUL(%n, %factor)
        %y = tfl.ADD(%a, %b)

    *Result*

        %d = tfl.SUB(%x, %mean)
        %y = tfl.MUL(%d, %factor)

    With an offset (`x * factor + (offset - mean * factor)`) it is added last. Two operators less, and no difference of
    large products.

    Refuses offsets that are smaller than the result, as those of batches, where that would take longer; quantized
    tensors, types other than float32, products with an activation, and parts that something else reads.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (CentredScaledAndMoved, CentredAndScaled)
