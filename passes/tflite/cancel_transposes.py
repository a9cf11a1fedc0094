"""cancel-transposes: transposes that take each other back go, whatever lies between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.passes.base import Exactness, PassContext
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.rules.permuting import permutation_of
from graphopt.passes.rules.transposes import cancel_transposes


class TransposeOnce(Rule):
    """A transpose of a transpose is one."""

    def pattern(self, tfl: Dialect, x: Wildcard, inner: Wildcard, outer: Wildcard) -> Pattern:
        """Two transposes by constant permutations."""
        first = tfl.TRANSPOSE(x, known(inner), attributes=ANY, name="first")
        return tfl.TRANSPOSE(first, known(outer), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """Both are permutations."""
        if permutation_of(match.first) is None or permutation_of(match.root) is None:
            return "what it is transposed by is no permutation"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One transpose by both."""
        order = match.array("inner")[match.array("outer")].astype(np.int32)
        held = edit.hold(order, name=f"{match.root.name}/perm")
        return edit.node(match.root.op, [match.x, held], like=match.root, types=[match.root.output.type]).output


class TransposeOfOnes(Rule):
    """A transpose that moves nothing but dimensions of one is a reshape."""

    def pattern(self, tfl: Dialect, x: Wildcard, order: Wildcard) -> Pattern:
        """A transpose by a constant permutation."""
        return tfl.TRANSPOSE(x, known(order), attributes=ANY)

    def grow(self, match: Match) -> Match | str | None:
        """The other dimensions stay in order, and at most one of them is not known."""
        order, dims = permutation_of(match.root), match.x.shape.dims
        if order is None or order == tuple(sorted(order)) or dims is None or len(dims) != len(order) or 0 in dims:
            return None
        moved = [place for place in order if dims[place] != 1]
        if moved != sorted(moved) or sum(not isinstance(dim, int) for dim in dims) > 1:
            return None
        return match.grown((), shape=tuple(dims[place] if isinstance(dims[place], int) else -1 for place in order))

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The reshape."""
        held = edit.hold(np.array(match.shape, np.int32), name=f"{match.root.name}/shape")
        return edit.node("tfl.RESHAPE", [match.x, held], types=[match.root.output.type]).output


@dataclass(frozen=True)
class CancelTransposes(RewritePass):
    """Drop transposes that take each other back, whatever computes element by element, joins or pads between them.

    *Given*

        %a = tfl.TRANSPOSE(%x, %to_first)
        %b = tfl.RELU(%a)
        %y = tfl.TRANSPOSE(%b, %to_last)

    *Result*

        %y = tfl.RELU(%x)

    One transpose is left of two in a row, and a reshape of one that moves nothing but dimensions of one. A region of
    operators that do not mind the order of axes is computed in the other order where that leaves fewer transposes;
    reductions then sum in another order.

    Refuses permutations that are not constant.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (TransposeOnce, TransposeOfOnes)

    def run(self, model: Model, context: PassContext) -> None:
        """Merge neighbours, then flip regions."""
        super().run(model, context)
        for graph in model.graphs:
            self.run_graph(graph, context)

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Flip regions of one graph."""
        cancel_transposes(graph, context, "flip-region")
