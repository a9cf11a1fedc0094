"""Operators that pass on what they get."""

from __future__ import annotations

from graphopt.backends.legalization import Lowering
from graphopt.ir.value import Value

PASSING = (
    "tf.Identity", "tf.Snapshot", "tf.StopGradient", "tf.PreventGradient", "tf.GuaranteeConst", "tf.CheckNumerics",
    "tf.CheckNumericsV2", "tf.EnsureShape", "tf.Print", "tf.DebugIdentity", "tf.PlaceholderWithDefault",
)  # fmt: skip


def passed_on(op: Lowering) -> Value | None:
    """What only names, checks or prints a value, or stops gradients, is the value; an input with a default stays."""
    return None if op.node.output.is_input else op.input(0)


def all_passed_on(op: Lowering) -> list[Value]:
    """Several values passed on."""
    return list(op.inputs)
