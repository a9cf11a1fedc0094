"""Tensors put together."""

from __future__ import annotations

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.table import RULES


@RULES.lower("tf.ConcatV2", "tf.Concat")
def concat(op: Emission) -> Operand:
    """One after the other along an axis."""
    is_second = op.node.op == "tf.ConcatV2"
    parts = op.inputs[:-1] if is_second else op.inputs[1:]
    axis = op.axis(-1 if is_second else 0, parts[0].rank)
    return op.build.concatenate(parts, axis)


@RULES.lower("tf.Pack", "tf.ParallelConcat")
def pack(op: Emission) -> Operand:
    """Along a new axis."""
    b, parts = op.build, op.inputs
    if op.node.op == "tf.ParallelConcat":
        return b.concatenate(parts, 0)
    axis = int(op.attr("axis", 0)) % (parts[0].rank + 1)
    widened = [b.reshape(part, (*part.dims[:axis], 1, *part.dims[axis:])) for part in parts]
    return b.concatenate(widened, axis)
