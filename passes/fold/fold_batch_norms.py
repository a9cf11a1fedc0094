"""fold-batch-norms: into the weights before or after them, else into one multiplication and one addition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.model import Model
from graphopt.passes.base import Exactness, Pass, PassContext
from graphopt.passes.fold.batch_norm_rules import (
    ExpandBatchNorm,
    FoldIntoNextWeights,
    FoldIntoWeights,
    MergeScalesAndOffsets,
)
from graphopt.passes.rewriter import apply_rules, rule_index
from graphopt.passes.rule import Rule


@dataclass(frozen=True)
class FoldBatchNorms(Pass):
    """Fold batch norms, and other scaling and shifting of channels, into the weights next to them.

    *Given*

        %weights = tf.Const() {value = float32[1, 1, 1, 2] [1.0, 2.0]}
        %scale = tf.Const() {value = float32[2] [3.0, 4.0]}
        %offset = tf.Const() {value = float32[2] [5.0, 6.0]}
        %conv = tf.Conv2D(%x, %weights) {strides = [1, 1, 1, 1], padding = "SAME"}
        %scaled = tf.Mul(%conv, %scale)
        %y = tf.AddV2(%scaled, %offset)

    *Result*

        %weights = tf.Const() {value = float32[1, 1, 1, 2] [3.0, 8.0]}
        %y/bias = tf.Const() {value = float32[2] [5.0, 6.0]}
        %conv = tf.Conv2D(%x, %weights) {strides = [1, 1, 1, 1], padding = "SAME"}
        %y = tf.BiasAdd(%conv, %y/bias)

    A batch norm is one of TensorFlow's operators or any chain of Mul, Add, Sub, RealDiv and BiasAdd with known
    numbers, one for each channel. It is folded into convolutions of every kind and matrix products: those before it,
    also through padding, space and batch, reshaping and concatenation, or the one after it. Elsewhere an operator
    becomes Mul and AddV2, and a chain becomes as short as that. Weights that others read too stay as they are.

    Refuses norms in training mode or with unknown parameters; a convolution whose result something else reads too;
    unknown weights; an offset where padding before or in the following convolution would have to be shifted too;
    scales or offsets that are not finite; a constant larger than allowed.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    after: ClassVar[tuple[str, ...]] = ("infer-shapes", "fold-constants")

    def make_rules(self) -> Sequence[Rule]:
        """All rules, with no bound on the size of constants."""
        limit = PassContext().max_constant_bytes
        return [FoldIntoWeights(limit), FoldIntoNextWeights(limit), ExpandBatchNorm(), MergeScalesAndOffsets()]

    def run(self, model: Model, context: PassContext) -> None:
        """In each graph, fold until nothing more can be; then write what is left in its shortest form."""
        limit = context.max_constant_bytes
        folding = rule_index((FoldIntoWeights(limit), FoldIntoNextWeights(limit)))
        shortening = rule_index((ExpandBatchNorm(), MergeScalesAndOffsets()))
        for graph in model.graphs:
            apply_rules(graph, folding, context)
            apply_rules(graph, shortening, context)
