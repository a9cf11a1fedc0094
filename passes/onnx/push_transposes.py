"""push-transposes: ONNX's transposes that take each other back go, whatever is between; weights take others in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.passes.base import Exactness, PassContext
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, Wildcard, known, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.rules.permuting import inverse, permutation_of
from graphopt.passes.rules.transposes import cancel_transposes


class TransposeOnce(Rule):
    """A transpose of a transpose is one."""

    def pattern(self, onnx: Dialect, x: Wildcard) -> Pattern:
        """Two transposes."""
        return onnx.Transpose(onnx.Transpose(x, attributes=ANY, name="first"), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """Both say by what."""
        if permutation_of(match.first) is None or permutation_of(match.root) is None:
            return "by what it is transposed is not said"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One transpose by both."""
        inner, outer = permutation_of(match.first) or (), permutation_of(match.root) or ()
        attrs = {"perm": tuple(inner[place] for place in outer)}
        return edit.node("onnx.Transpose", (match.x,), attrs, types=(match.root.output.type,)).output


class FlattenedIntoWeights(Rule):
    """A matrix that is multiplied with rows, which are transposed and flattened, may have its own rows in the order
    before the transpose."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, onnx: Dialect, x: Wildcard, weights: Wildcard) -> Pattern:
        """A product of something transposed and flattened, with a bias or without."""
        flat = onnx.Reshape(
            onnx.Transpose(x, attributes=ANY, name="moved"), Wildcard("shape"), attributes=ANY, name="flat"
        )
        return onnx.any_of("MatMul", "Gemm")(flat, known(weights), rest("bias"), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """All axes but the first, which stays, are flattened into one; their sizes are known."""
        order, dims, flat = permutation_of(match.moved), match.x.shape.dims, match.flat.output.shape.dims
        held = match.tensor("weights")
        if order is None or dims is None or order[0] != 0 or not all(isinstance(dim, int) for dim in dims[1:]):
            return "it moves the first axis, or sizes are not known"
        if flat is None or len(flat) != 2 or flat[0] != dims[0] or flat[0] is None or held is None:
            return "it does not flatten all axes but the first"
        if match.root.op_type == "Gemm" and any(match.root.attrs.get(name) for name in ("transA", "transB")):
            return "its weights are transposed"
        if len(held.shape) != 2 or held.shape[0] != int(np.prod([int(dim) for dim in dims[1:]])):
            return "the weights are no matrix with a row for each element"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The product of the flattened original with reordered rows."""
        order, array = permutation_of(match.moved) or (), match.array("weights")
        dims = [match.x.shape.dims[axis] for axis in order[1:]]
        apart = array.reshape(*dims, array.shape[1])
        back = [axis - 1 for axis in inverse(order)[1:]]
        laid_out = np.ascontiguousarray(apart.transpose(*back, len(dims)).reshape(array.shape))
        weights = edit.hold(laid_out, name=match.weights.node.name)
        flat = edit.node(
            "onnx.Reshape", (match.x, match.shape), like=match.flat, types=(match.flat.output.type,)
        ).output  # fmt: skip
        inputs = (flat, weights, *match.bias)
        return edit.node(match.root.op, inputs, like=match.root, types=(match.root.output.type,)).output


@dataclass(frozen=True)
class PushTransposes(RewritePass):
    """Drop transposes that take each other back, whatever computes element by element, joins or pads between them.

    *Given*

        %a = onnx.Transpose(%x) {perm = [0, 2, 3, 1]}
        %b = onnx.Relu(%a)
        %y = onnx.Transpose(%b) {perm = [0, 3, 1, 2]}

    *Result*

        %y = onnx.Relu(%x)

    It is cancel-transposes for ONNX's operators. Where what is transposed is flattened and multiplied with weights,
    their rows are reordered.

    Refuses transposes of unknown rank, and weights that are computed.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    rules: ClassVar[tuple[type[Rule], ...]] = (TransposeOnce, FlattenedIntoWeights)

    def run(self, model: Model, context: PassContext) -> None:
        """Merge neighbours and reorder weights, then flip regions."""
        super().run(model, context)
        for graph in model.graphs:
            self.run_graph(graph, context)

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Flip regions of one graph."""
        cancel_transposes(graph, context, "flip-region")
