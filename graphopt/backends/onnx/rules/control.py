"""Loops and branches that could not be restructured."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.loops import refusal
from graphopt.backends.onnx.table import RULES
from graphopt.ir.value import Value


@RULES.legalize("tf.While", "tf.StatelessWhile", "tf.If", "tf.StatelessIf")
def control(op: Lowering) -> Value:
    """Loops and branches, whose bodies are lowered as graphs of their own; those over handles are refused."""
    op.refuse(refusal(op.node), "let lists of tensors become tensors, or freeze the model")
