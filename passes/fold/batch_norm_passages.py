"""Operators that an affine map of channels passes through: what it becomes on the other side.

`op(scale * x + offset)` equals `scale * op(x) + offset` where the operator only moves elements, and where the
elements it adds (padding) are ones that the map leaves as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import GraphError, printable
from graphopt.ir.infer_nodes import NONSENSE
from graphopt.ir.known import PASS_THROUGH, known_array, known_scalar
from graphopt.ir.ops import attributes
from graphopt.ir.value import Node
from graphopt.passes.fold.batch_norm_affine import Affine
from graphopt.passes.fold.batch_norm_weights import rank_of
from graphopt.passes.soundness import refused

SMALL = 1 << 10  # bytes of a list of paddings, an axis, a permutation


class Passage(NamedTuple):
    """The channel axis on the side of the data, and the value of elements added on the way, None if there are none."""

    axis: int | None
    fill: float | None = None


def passage(node: Node, axis: int | None) -> Passage | str | None:
    """The way through `node` for a map along `axis` (None: all channels alike) of its result.

    The reason where there is none; None for an operator that no map passes through.
    """
    through = PASSAGES.get(node.op)
    if through is None or not node.input_count:
        return None
    try:
        return through(node, axis)
    except (GraphError, *NONSENSE) as error:
        return refused(error, node)


def _straight(node: Node, axis: int | None) -> Passage | str:
    return Passage(axis)


def _padded(node: Node, axis: int | None) -> Passage | str:
    paddings = known_array(node.input(1), SMALL)
    if paddings is None or paddings.ndim != 2 or paddings.shape[1] != 2:
        return f"the paddings of '{printable(node.name)}' are not known"
    if axis is not None and (len(paddings) < -axis or paddings[axis].any()):
        return f"'{printable(node.name)}' pads the channels"
    if node.op == "tf.MirrorPad" or not paddings.any():
        return Passage(axis)
    fill = known_scalar(node.input(2)) if node.op == "tf.PadV2" else 0.0
    return (
        f"the value that '{printable(node.name)}' pads with is not known"
        if fill is None
        else Passage(axis, float(fill))
    )


def _blocked(node: Node, axis: int | None) -> Passage | str:
    """Space to batch and back, which leaves axes behind the blocked ones alone; zeros are padded on the way there."""
    is_old = node.op in ("tf.SpaceToBatch", "tf.BatchToSpace")
    block = np.empty(2) if is_old else known_array(node.input(1), SMALL)
    rank = 4 if is_old else rank_of(node.input(0))
    if axis is not None and (block is None or rank is None or rank + axis <= block.size):
        return f"'{printable(node.name)}' does not leave the channels alone"
    if "BatchToSpace" in node.op:
        return Passage(axis)
    paddings = known_array(node.input(1 if is_old else 2), SMALL)
    return Passage(axis, 0.0 if paddings is None or paddings.any() else None)


def _squeezed(node: Node, axis: int | None) -> Passage | str:
    shape = node.input(0).shape
    dims: Any = attributes(node).get("squeeze_dims") or ()
    if axis is None:
        return Passage(None)
    if shape.dims is None or (not dims and shape.static is None):
        return f"the shape of '{printable(node.input(0).name)}' is not known"
    rank = len(shape.dims)
    removed = {d % rank for d in dims} if dims else {place for place, dim in enumerate(shape.dims) if dim == 1}
    kept = [place for place in range(rank) if place not in removed]
    return Passage(kept[axis] - rank) if -axis <= len(kept) else f"'{printable(node.name)}' removes the channels"


def _expanded(node: Node, axis: int | None) -> Passage | str:
    rank, place = rank_of(node.input(0)), known_scalar(node.input(1))
    if axis is None:
        return Passage(None)
    if rank is None or place is None:
        return f"where '{printable(node.name)}' puts its new axis is not known"
    new = int(place) if place < 0 else int(place) - rank - 1
    if new == axis or -axis > rank + 1:
        return f"'{printable(node.name)}' adds the channels"
    return Passage(axis if axis > new else axis + 1)


def _transposed(node: Node, axis: int | None) -> Passage | str:
    order = known_array(node.input(1), SMALL)
    if axis is None:
        return Passage(None)
    if order is None or order.ndim != 1 or len(order) < -axis:
        return f"the permutation of '{printable(node.name)}' is not known"
    return Passage(int(order[axis]) % len(order) - len(order))


def _reshaped(node: Node, axis: int | None) -> Passage | str:
    before, after = node.input(0).shape, node.output.shape
    if axis is None:
        return Passage(None)
    if axis == -1 and before.dims and after.dims and before.dims[-1] == after.dims[-1] is not None:
        return Passage(axis)
    return f"'{printable(node.name)}' does not leave the channels alone"


PASSAGES: Mapping[str, Callable[[Node, int | None], Passage | str]] = {
    **dict.fromkeys(sorted(PASS_THROUGH), _straight),
    "tf.Pad": _padded,
    "tf.PadV2": _padded,
    "tf.MirrorPad": _padded,
    "tf.BatchToSpaceND": _blocked,
    "tf.SpaceToBatchND": _blocked,
    "tf.BatchToSpace": _blocked,
    "tf.SpaceToBatch": _blocked,
    "tf.Squeeze": _squeezed,
    "tf.ExpandDims": _expanded,
    "tf.Transpose": _transposed,
    "tf.Reshape": _reshaped,
}


def branches(node: Node, change: Affine) -> list[tuple[int, Affine]] | str | None:
    """For a concatenation: its data inputs, each with its part of `change`; or the reason; None for other operators."""
    if node.op not in ("tf.Concat", "tf.ConcatV2"):
        return None
    last = node.input_count - 1
    places, selector = (range(last), last) if node.op == "tf.ConcatV2" else (range(1, last + 1), 0)
    axis = known_scalar(node.input(selector))
    ranks = {rank for place in places if (rank := rank_of(node.input(place))) is not None}
    if axis is None or len(ranks) != 1:
        return f"the axis of '{printable(node.name)}' is not known"
    rank = ranks.pop()
    if change.axis is None or change.axis != (axis if axis < 0 else axis - rank):
        return [(place, change) for place in places]
    parts: list[tuple[int, Affine]] = []
    start = 0
    for place in places:
        length = node.input(place).shape[change.axis]
        if not isinstance(length, int):
            return f"how many channels '{printable(node.input(place).name)}' has is not known"
        parts.append((place, change.part(start, start + length)))
        start += length
    return (
        parts if start == change.channels else f"'{printable(node.name)}' has {start} channels, not {change.channels}"
    )
