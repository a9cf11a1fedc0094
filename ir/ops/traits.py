"""Traits of operators: what rules may rely on.

Combined with `|` and tested with `&`. Plain integers rather than `enum.Flag`, whose every `&` costs ten times as
much: passes test traits of every node.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar


class Trait(int):
    """A set of traits; `Trait.NONE` is the empty one."""

    if TYPE_CHECKING:

        def __or__(self, other: int) -> Trait: ...
        def __and__(self, other: int) -> Trait: ...

    def __contains__(self, traits: int) -> bool:
        return (int(self) & traits) == traits

    NONE: ClassVar[Trait]
    ELEMENTWISE: ClassVar[Trait]  # output element i depends on input elements i alone (after broadcasting)
    COMMUTATIVE: ClassVar[Trait]  # the first two inputs may be swapped
    STATEFUL: ClassVar[Trait]  # has effects or reads state: never merged, folded or removed for being unused
    RANDOM: ClassVar[Trait]  # draws numbers
    PASS_THROUGH: ClassVar[Trait]  # the first output is the first input
    CONTROL_FLOW: ClassVar[Trait]  # v1 Switch, Merge, Enter, Exit, NextIteration, LoopCond
    CALL: ClassVar[Trait]  # runs functions of the library
    SOURCE: ClassVar[Trait]  # a placeholder or argument: its value comes from outside
    SHAPE_ONLY: ClassVar[Trait]  # the outputs depend on the shapes of the inputs, not on their values
    DECOMPRESS: ClassVar[Trait]  # expands compact weights (dequantize, sparse to dense): not to be folded
    ASSERTION: ClassVar[Trait]  # checks or reports and yields nothing
    IDEMPOTENT: ClassVar[Trait]  # f(f(x)) == f(x)
    INVOLUTION: ClassVar[Trait]  # f(f(x)) == x
    TRAINING: ClassVar[Trait]  # gradients, optimisers, savers, summaries: never part of inference


TRAIT_NAMES = tuple(name for name in Trait.__annotations__ if name != "NONE")

Trait.NONE = Trait(0)
for _place, _name in enumerate(TRAIT_NAMES):
    setattr(Trait, _name, Trait(1 << _place))


def trait_names(traits: int) -> Iterator[str]:
    """Names of all traits in a set, in lower case."""
    for place, name in enumerate(TRAIT_NAMES):
        if traits >> place & 1:
            yield name.lower()
