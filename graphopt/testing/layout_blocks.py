"""Blocks of random models that move elements about and compute nothing."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.types import FLOAT32, INT32
from graphopt.testing.builder import Builder, Dims, Known


def _rest(known: Known) -> tuple[int, ...]:
    """The dimensions after the batch."""
    return tuple(dim for dim in known.dims[1:] if dim is not None)


def reshape(builder: Builder) -> Known | None:
    """Another shape for what follows the batch, now and then by way of a third shape."""
    source = builder.floats()
    if source is None:
        return None
    size = math.prod(_rest(source))
    halves = [(2, size // 2)] if size % 2 == 0 and size > 2 else []
    square = [(1, 1, size)] if len(source.dims) != 4 else []
    shapes: list[tuple[int, ...]] = [(size,), *halves, *square]
    known = source
    for _ in range(1 + builder.choices.below(2)):
        rest = builder.pick(shapes)
        shape = builder.constant(np.array([-1, *rest], np.int32), name="shape")
        attrs = {"T": FLOAT32, "Tshape": INT32}
        known = builder.node("Reshape", [known.value, shape], attrs, (source.dims[0], *rest))
    return builder.like(source, known)


def reshape_by_shape(builder: Builder) -> Known | None:
    """Flat by a shape that the graph computes from the value's own shape: what exporters write."""
    source = builder.floats()
    if source is None:
        return None
    attrs = {"T": FLOAT32, "out_type": INT32}
    shape = builder.node("Shape", [source.value], attrs, (len(source.dims),), INT32)._replace(varies=False)
    ends = [builder.constant(np.array([end], np.int32)) for end in (0, 1, 1)]
    sliced = builder.node(
        "StridedSlice",
        [shape.value, *ends],
        {
            "Index": INT32, "T": INT32, "begin_mask": 0, "ellipsis_mask": 0, "end_mask": 0, "new_axis_mask": 0,
            "shrink_axis_mask": 1,
        },
        (), INT32,
    )  # fmt: skip
    size = builder.constant(np.int32(math.prod(_rest(source))))
    packed = builder.node("Pack", [sliced.value, size], {"N": 2, "T": INT32, "axis": 0}, (2,), INT32)
    dims = (source.dims[0], math.prod(_rest(source)))
    result = builder.node("Reshape", [source.value, packed.value], {"T": FLOAT32, "Tshape": INT32}, dims)
    builder.keep(shape)
    return builder.like(source, result)


def transpose(builder: Builder) -> Known | None:
    """The axes after the batch in another order, now and then put back or turned again."""
    source = builder.floats()
    if source is None or len(source.dims) < 3:
        return None
    known = source
    for _ in range(1 + builder.choices.below(2)):
        rest = list(range(1, len(known.dims)))
        turn = 1 + builder.choices.below(len(rest) - 1)
        order = [0, *rest[turn:], *rest[:turn]]
        permutation = builder.constant(np.array(order, np.int32), name="perm")
        attrs = {"T": FLOAT32, "Tperm": INT32}
        dims = tuple(known.dims[axis] for axis in order)
        known = builder.node("Transpose", [known.value, permutation], attrs, dims)
    return builder.like(source, known)


def expand_and_squeeze(builder: Builder) -> Known | None:
    """An axis of size 1 put in, and now and then taken out again."""
    source = builder.floats()
    if source is None or len(source.dims) > 4:
        return None
    axis = builder.constant(np.int32(1))
    dims = (source.dims[0], 1, *source.dims[1:])
    known = builder.node("ExpandDims", [source.value, axis], {"T": FLOAT32, "Tdim": INT32}, dims)
    if len(dims) > 4 or builder.chance(2):
        known = builder.node("Squeeze", [known.value], {"T": FLOAT32, "squeeze_dims": (1,)}, source.dims)
    return builder.like(source, known)


def split(builder: Builder) -> Known | None:
    """Two halves along the last axis."""
    source = builder.floats()
    last = source.dims[-1] if source is not None else None
    if source is None or last is None or last % 2 or len(source.dims) < 2:
        return None
    dims: Dims = (*source.dims[:-1], last // 2)
    axis = builder.constant(np.int32(len(dims) - 1))
    halves = builder.nodes("Split", [axis, source.value], {"T": FLOAT32, "num_split": 2}, [(FLOAT32, dims)] * 2)
    builder.like(source, halves[1])
    return builder.like(source, halves[0])


def unpack(builder: Builder) -> Known | None:
    """One output for each place along the axis after the batch."""
    source = builder.floats()
    if source is None or len(source.dims) < 3:
        return None
    count = source.dims[1]
    if count is None or count > 4:
        return None
    dims: Dims = (source.dims[0], *source.dims[2:])
    attrs = {"T": FLOAT32, "axis": 1, "num": count}
    parts = builder.nodes("Unpack", [source.value], attrs, [(FLOAT32, dims)] * count)
    for part in parts[1:3]:
        builder.like(source, part)
    return builder.like(source, parts[0])


def concatenate(builder: Builder) -> Known | None:
    """Two or three values one after the other along the last axis."""
    first = builder.floats()
    if first is None or len(first.dims) < 2:
        return None
    fitting = [k for k in builder.pool if k.dtype is FLOAT32 and k.dims[:-1] == first.dims[:-1] and len(k.dims) > 1]
    chosen = [first, *(builder.pick(fitting) for _ in range(1 + builder.choices.below(2)))]
    total = sum(k.dims[-1] or 0 for k in chosen)
    if total > 32:
        return None
    axis = builder.constant(np.int32(builder.pick((-1, len(first.dims) - 1))))
    attrs = {"N": len(chosen), "T": FLOAT32, "Tidx": INT32}
    result = builder.node("ConcatV2", [*(k.value for k in chosen), axis], attrs, (*first.dims[:-1], total))
    low, high = min(k.low for k in chosen), max(k.high for k in chosen)
    return builder.keep(result._replace(low=low, high=high, exact=all(k.exact for k in chosen)))


def stack(builder: Builder) -> Known | None:
    """Two values of one shape along a new axis."""
    first = builder.floats()
    if first is None or len(first.dims) > 3:
        return None
    second = builder.operand(lambda known: known.dtype is FLOAT32 and known.dims == first.dims)
    if second is None:
        return None
    attrs = {"N": 2, "T": FLOAT32, "axis": 1}
    dims: Dims = (first.dims[0], 2, *first.dims[1:])
    result = builder.node("Pack", [first.value, second.value], attrs, dims)
    low, high = min(first.low, second.low), max(first.high, second.high)
    return builder.keep(result._replace(low=low, high=high, exact=first.exact and second.exact))


def pad(builder: Builder) -> Known | None:
    """Zeros around an image."""
    source = builder.floats(4)
    if source is None or any(dim is not None and dim > 10 for dim in source.dims[1:3]):
        return None
    batch, height, width, channels = source.dims
    assert height is not None
    assert width is not None
    amounts = np.array([[0, 0], [1, 1], [0, 1], [0, 0]], np.int32)
    attrs = {"T": FLOAT32, "Tpaddings": INT32}
    result = builder.node(
        "Pad",
        [source.value, builder.constant(amounts, name="paddings")],
        attrs,
        (batch, height + 2, width + 1, channels),
    )
    wide = source._replace(low=min(source.low, 0.0), high=max(source.high, 0.0))
    return builder.like(wide, result)


def duplicate(builder: Builder) -> Known | None:
    """A node over again: what merging duplicates is for."""
    source = builder.operand(lambda known: known.value.index == 0 and len(known.value.node.outputs) == 1)
    if source is None or not source.value.node.input_count:
        return None
    node = source.value.node
    inputs = [value for value in node.inputs if value is not None]
    result = builder.node(node.op_type, inputs, dict(node.attrs), source.dims, source.dtype)
    return builder.keep(source._replace(value=result.value))


def dead_branch(builder: Builder) -> Known | None:
    """A node whose value nobody ever reads."""
    source = builder.floats()
    if source is not None:
        builder.node("Exp", [source.value], {"T": FLOAT32}, source.dims)
    return None


def wait(builder: Builder) -> Known | None:
    """A value that waits for nodes without outputs."""
    source = builder.floats()
    if source is None:
        return None
    waited = builder.effect("NoOp", (), {}, [builder.pick(builder.pool).value.node])
    result = builder.node("Identity", [source.value], {"T": FLOAT32}, source.dims)
    result.value.node.add_control_input(waited)
    return builder.like(source, result)
