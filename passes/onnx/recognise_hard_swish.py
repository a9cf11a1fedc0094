"""recognise-hard-swish: hard sigmoids and hard swishes that are written out become ONNX's operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from graphopt.ir.known import known_scalar
from graphopt.ir.types import FLOAT16, FLOAT32
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Either, Pattern, Wildcard, either, known
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule

ALPHA, BETA = 1.0 / 6.0, 0.5
CLOSE = 1e-6


class _Hard(Rule):
    """What both share: three is added, the sum is cut off at zero and six, and divided by six."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def _gate(self, onnx: Dialect, x: Any) -> Pattern:
        """`relu6(x + 3)`."""
        raised = onnx.Add(x, known(Wildcard("three")))
        return onnx.Clip(raised, known(Wildcard("zero")), known(Wildcard("top")))

    def _divided(self, onnx: Dialect, value: Any) -> Either:
        """A sixth of something."""
        return either(onnx.Mul(value, known(Wildcard("sixth"))), onnx.Div(value, known(Wildcard("six"))))

    def check(self, match: Match) -> str | None:
        """The constants are those, and the numbers are ones that ONNX's operators take."""
        if match.root.output.dtype not in (FLOAT32, FLOAT16):
            return f"it is computed in {match.root.output.dtype.name}"
        wanted = {"three": 3.0, "zero": 0.0, "top": 6.0, "sixth": ALPHA, "six": 6.0}
        for name, number in wanted.items():
            if name not in match:
                continue
            held = known_scalar(getattr(match, name))
            if held is None or abs(held - number) > CLOSE * max(number, 1.0):
                return f"a constant is not {number:g}"
        return None


class HardSigmoid(_Hard):
    """`relu6(x + 3) / 6` is a hard sigmoid; so is `relu6(x) / 6`, where the sum is part of a layer before."""

    def pattern(self, onnx: Dialect, x: Wildcard) -> Pattern:
        """A sixth of the gate, or of what is cut off."""
        cut = onnx.Clip(x, known(Wildcard("zero")), known(Wildcard("top")))
        return either(*self._divided(onnx, self._gate(onnx, x)).alternatives, *self._divided(onnx, cut).alternatives)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A hard sigmoid, whose numbers are attributes."""
        attrs = {"alpha": ALPHA, "beta": BETA if "three" in match else 0.0}
        return edit.node("onnx.HardSigmoid", (match.x,), attrs, types=(match.root.output.type,)).output


class HardSwish(_Hard):
    """`x * relu6(x + 3) / 6`, in whatever order, is a hard swish."""

    def pattern(self, onnx: Dialect, x: Wildcard) -> Pattern:
        """The ways of writing it."""
        gate = self._gate(onnx, x)
        return either(
            onnx.Mul(x, onnx.HardSigmoid(x, attributes=ANY, name="gate")),
            onnx.Mul(self._divided(onnx, x), gate),
            *self._divided(onnx, onnx.Mul(x, gate)).alternatives,
        )

    def check(self, match: Match) -> str | None:
        """A hard sigmoid that is there has that slope."""
        if "gate" in match:
            found = match.gate.attrs.get("alpha", 0.2), match.gate.attrs.get("beta", 0.5)
            if any(abs(have - want) > CLOSE for have, want in zip(found, (ALPHA, BETA), strict=True)):
                return "the hard sigmoid has another slope"
        return super().check(match)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """A hard swish."""
        return edit.node("onnx.HardSwish", (match.x,), {}, types=(match.root.output.type,)).output


@dataclass(frozen=True)
class RecogniseHardSwish(RewritePass):
    """Express hard sigmoids and hard swishes by ONNX's operators, in which their sixth is exact in any type.

    *Given*

        %a = onnx.Add(%x, %three)
        %c = onnx.Clip(%a, %zero, %six)
        %d = onnx.Mul(%c, %sixth)
        %y = onnx.Mul(%x, %d)

    *Result*

        %y = onnx.HardSwish(%x)

    Refuses other constants, other types than float32 and float16, and parts that something else reads.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (HardSwish, HardSigmoid)
