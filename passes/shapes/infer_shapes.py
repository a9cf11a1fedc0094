"""infer-shapes: fill in what can be known of every value's type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.infer import infer_model
from graphopt.ir.model import Model
from graphopt.passes.base import Pass, PassContext


@dataclass(frozen=True)
class InferShapes(Pass):
    """Infer the element type and shape of every value, function bodies included.

    *Given*

        %shape = tf.Const() {value = int32[2] [-1, 4]}
        %y = tf.Reshape(%x, %shape) : float32[*]

    *Result*

        %y = tf.Reshape(%x, %shape) : float32[?, 4]

    Unknown dimensions stay symbolic, so that a batch dimension is recognised as the same one throughout. Nothing
    but types changes. Refuses nothing: where inputs contradict an operator, the value's type stays as it was.
    """

    edits: ClassVar[bool] = False

    def run(self, model: Model, context: PassContext) -> None:
        """Refine the types of all values in place."""
        outcome = infer_model(model, fresh_symbols=True, oracle=context.oracle)
        for note in outcome.notes:
            context.log.note(note)
        if outcome.changed:
            context.rewrote(self.name, count=outcome.changed)
