"""Tensors made of several, and several of one: concatenation, packing, splitting."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.backends.legalization import Lowering
from graphopt.backends.tflite.rules.common import NO_ACTIVATION
from graphopt.backends.tflite.rules.kernels import MOVEMENT, compute, compute_all, move, supported
from graphopt.backends.tflite.table import RULES
from graphopt.ir.types import STRING
from graphopt.ir.value import Value


@RULES.legalize("tf.ConcatV2", "tf.Concat")
def concatenation(op: Lowering) -> Value:
    """Tensors joined along a constant axis; what is known to be empty is left out."""
    place = 0 if op.node.op == "tf.Concat" else len(op.inputs) - 1
    values = [value for number, value in enumerate(op.inputs) if number != place]
    return joined(op, values, op.whole(place, "its axis"))


def joined(op: Lowering, values: Sequence[Value], axis: int) -> Value:
    """`values` joined along `axis`."""
    filled = [value for value in values if value.shape.dims is None or value.shape.static is None or value.shape.size]
    if len(filled) == 1 and filled[0].shape.merged(op.type.shape) is not None:
        return filled[0]
    return move(op, "CONCATENATION", *(filled or values), axis=axis, fused_activation_function=NO_ACTIVATION)


@RULES.legalize("tf.ParallelConcat")
def parallel_concatenation(op: Lowering) -> Value:
    """Tensors joined along the first axis."""
    return joined(op, op.inputs, 0)


@RULES.legalize("tf.Pack")
def pack(op: Lowering) -> Value:
    """Tensors of one shape joined along a new axis; types that PACK lacks are given that axis and concatenated."""
    values, axis = op.inputs, int(op.attr("axis") or 0)
    if len(values) > 1 and supported("PACK", values, [op.type]):
        return compute(op, "PACK", *values, axis=axis, values_count=len(values))
    if len(values) > 1 and op.type.dtype is STRING:
        op.refuse("LiteRT does not join tensors of strings")
    place = op.integers(axis, name=f"{op.node.name}/axis")
    expanded = [op.step("ExpandDims", value, place) for value in values]
    return expanded[0] if len(values) == 1 else op.step("ConcatV2", *expanded, place, N=len(values))


@RULES.legalize("tf.Unpack")
def unpack(op: Lowering) -> list[Value]:
    """Parts along an axis, which they lose; types that UNPACK lacks are split and reshaped."""
    value, axis = op.input(0), int(op.attr("axis") or 0)
    types = [output.type for output in op.node.outputs]
    if len(types) == 1:
        return [op.step("Squeeze", value, squeeze_dims=(axis,))]
    if supported("UNPACK", [value], types):
        return compute_all(op, "UNPACK", [value], types, attrs={"axis": axis, "num": len(types)})
    parts = op.edit.node(
        "tf.Split", [op.integers(axis, name=f"{op.node.name}/axis"), value], {"num_split": len(types)},
        name=f"{op.node.name}/Split",
    )  # fmt: skip
    return [op.step("Squeeze", part, squeeze_dims=(axis,)) for part in parts.outputs]


@RULES.legalize("tf.Split")
def split(op: Lowering) -> list[Value]:
    """Equal parts along a constant axis."""
    axis = op.whole(0, "its axis")
    value, types = op.input(1), [output.type for output in op.node.outputs]
    if len(types) == 1:
        return [value]
    place = op.integers(axis, name=f"{op.node.name}/axis")
    return compute_all(op, "SPLIT", [place, value], types, wider=MOVEMENT, attrs={"num_splits": len(types)})


@RULES.legalize("tf.SplitV")
def split_by_sizes(op: Lowering) -> list[Value]:
    """Parts of given sizes along a constant axis."""
    axis = op.whole(2, "its axis")
    types = [output.type for output in op.node.outputs]
    if len(types) == 1:
        return [op.input(0)]
    held = op.known(1)
    sizes = op.input(1) if held is None else op.integers(held.reshape(-1), name=f"{op.node.name}/sizes")
    place = op.integers(axis, name=f"{op.node.name}/axis")
    attrs = {"num_splits": len(types)}
    return compute_all(op, "SPLIT_V", [op.input(0), sizes, place], types, wider=MOVEMENT, attrs=attrs)


@RULES.legalize("tf.Split", "tf.SplitV")
def parts_by_slices(op: Lowering) -> list[Value]:
    """Parts along a constant axis of types that are not split: a slice for each."""
    is_equal = op.node.op == "tf.Split"
    value = op.input(1 if is_equal else 0)
    rank = op.rank(value)
    axis = op.whole(0 if is_equal else 2, "its axis") % rank
    parts, start = [], 0
    for place, output in enumerate(op.node.outputs):
        size = output.shape[axis]
        if not isinstance(size, int):
            op.refuse("the size of its parts is not known", "give the inputs shapes (set-shapes)")
        begin = [start if axis == other else 0 for other in range(rank)]
        sizes = [size if axis == other else -1 for other in range(rank)]
        name = f"{op.node.name}/{place}"
        corner, extent = op.integers(begin, name=f"{name}/begin"), op.integers(sizes, name=f"{name}/size")
        parts.append(move(op, "SLICE", value, corner, extent, type=output.type, name=name))
        start += size
    return parts


@RULES.legalize("tf.ReverseV2")
def reverse(op: Lowering) -> Value:
    """Backwards along constant axes; LiteRT takes axes that follow one another, so that others take turns."""
    held = op.constant_input(1, "its axes").reshape(-1)
    value = op.input(0)
    rank = op.rank(value)
    runs: list[list[int]] = []
    for axis in sorted({int(axis) % rank for axis in held} if rank else ()):
        if runs and runs[-1][-1] + 1 == axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    for place, run in enumerate(runs):
        axes = op.integers(run, name=f"{op.node.name}/axes")
        name = None if place == len(runs) - 1 else f"{op.node.name}/{place}"
        value = move(op, "REVERSE_V2", value, axes, name=name)
    return value


@RULES.legalize("tf.ReverseSequence")
def reverse_sequence(op: Lowering) -> Value:
    """Backwards along an axis, up to a length for each member of the batch."""
    rank = op.rank(op.input(0))
    sequence, batch = (int(op.attr(name) or 0) % rank for name in ("seq_dim", "batch_dim"))
    return move(op, "REVERSE_SEQUENCE", op.input(0), op.input(1), seq_dim=sequence, batch_dim=batch)
