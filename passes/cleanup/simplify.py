"""simplify: drop what changes nothing, combine what follows one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.passes.base import Exactness
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Rule
from graphopt.passes.rules.arithmetic import ARITHMETIC_RULES
from graphopt.passes.rules.chains import CHAIN_RULES
from graphopt.passes.rules.joining import JOINING_RULES
from graphopt.passes.rules.products import PRODUCT_RULES
from graphopt.passes.rules.reshaping import RESHAPING_RULES


@dataclass(frozen=True)
class Simplify(RewritePass):
    """Drop neutral operations, and combine chains of reshapes, transposes, casts and constants.

    *Given*

        %a = tf.Mul(%x, %one)
        %b = tf.Transpose(%a, %p)
        %c = tf.Transpose(%b, %inverse_of_p)
        %d = tf.Add(%c, %two)
        %y = tf.Add(%d, %three)

    *Result*

        %y = tf.Add(%x, %five)

    NaN and Inf come out as before: `x * 0` and `x - x` stay, unless fast math is asked for. Exact rules drop `x * 1`,
    `x - 0`, double negation, and reshapes, transposes, casts, pads, slices and selections that change nothing, and
    make one of nested concatenations.
    Reassociating ones combine constants that meet in a chain of sums or products, divide by multiplying with an
    inverse, drop `x + 0`, write squares and roots with their own operators instead of powers, put a transpose into the
    matrix product that reads it, and apply a function of all operands of a concatenation to the concatenation.

    Refuses to drop an operand that may widen the shape, to drop a reshape whose shapes are not known to be equal,
    and to pass through a type that does not hold every value.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (
        *ARITHMETIC_RULES,
        *CHAIN_RULES,
        *PRODUCT_RULES,
        *RESHAPING_RULES,
        *JOINING_RULES,
    )
