"""What becomes of operators whose operands' axes are permuted: of their axes, paddings and constants.

An operator is *permutable* where `op(T(x))` is `T(op(x))` for a permutation `T` of the axes, once its own axes are
renumbered, and *absorbing* where its result does not depend on the order of axes that it reduces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.known import hold, known_tensor
from graphopt.ir.ops import Trait, attributes, traits_of
from graphopt.ir.value import Node

Permutation = tuple[int, ...]
SMALL = 1 << 24  # bytes of a constant that is permuted with what it is combined with
_JOINS = {"tf.ConcatV2": -1, "tfl.CONCATENATION": None}  # where the axis is an input; None: an attribute
_PADS = frozenset({"tf.Pad", "tf.PadV2", "tf.MirrorPad", "tfl.PAD", "tfl.PADV2", "tfl.MIRROR_PAD"})
_SLICES = frozenset({"tf.Slice", "tfl.SLICE"})
_TILES = frozenset({"tf.Tile", "tfl.TILE"})
_SPLITS = frozenset({"tf.Split", "tfl.SPLIT"})
_REDUCTIONS = frozenset(
    {
        "tf.Mean",
        "tf.Sum",
        "tf.Max",
        "tf.Min",
        "tf.Prod",
        "tf.All",
        "tf.Any",
        "tfl.MEAN",
        "tfl.SUM",
        "tfl.REDUCE_MAX",
        "tfl.REDUCE_MIN",
        "tfl.REDUCE_PROD",
        "tfl.REDUCE_ALL",
        "tfl.REDUCE_ANY",
    }
)
_SHAPED = frozenset({"tf.AccumulateNV2"})  # with a shape among the attributes
_ALSO_ELEMENTWISE = frozenset({"tfl.PRELU", "tfl.QUANTIZE", "tfl.DEQUANTIZE", "tfl.CAST", "tf.AddN", "tfl.ADD_N"})


def inverse(permutation: Permutation) -> Permutation:
    """The permutation that takes this one back."""
    return tuple(int(place) for place in np.argsort(permutation))


def permutation_of(node: Node) -> Permutation | None:
    """The permutation of a transpose, None where it is not known."""
    if node.op == "onnx.Transpose":
        return tuple(node.attrs["perm"]) if node.attrs.get("perm") else None
    held = known_tensor(node.input(1)) if node.input_count == 2 else None
    if held is None or len(held.shape) != 1:
        return None
    found = tuple(int(place) for place in held.numpy())
    return found if sorted(found) == list(range(len(found))) else None


class Plan(NamedTuple):
    """What to do to a node: inputs that are permuted with it, and how its other inputs and attributes change."""

    data: Sequence[int]
    change: Callable[[Node, Permutation], None]


def _nothing(node: Node, order: Permutation) -> None:
    """Nothing of the node itself depends on the order of axes."""


def plan_for(node: Node, rank: int) -> Plan | None:
    """How to permute a node whose results are of `rank`, or None where it is not permutable."""
    if node.control_inputs or node.control_users or any(value.is_input for value in node.outputs):
        return None
    if any(value.shape.rank != rank for value in node.outputs):
        return None
    if node.op in _SHAPED:
        return None
    if node.op in _ALSO_ELEMENTWISE or traits_of(node.op) & Trait.ELEMENTWISE:
        return elementwise(node, rank)
    if node.op in _JOINS:
        return _join(node, rank)
    if node.op in _PADS or node.op in _SLICES or node.op in _TILES:
        return _by_rows(node, rank)
    if node.op in _SPLITS and constant_vector(node, 0) is not None:
        return Plan((1,), lambda one, order: _renumber_input(one, 0, order))
    if node.op in _REDUCTIONS and keeps_dimensions(node) and constant_vector(node, 1) is not None:
        return Plan((0,), lambda one, order: _renumber_input(one, 1, order))
    return None


def keeps_dimensions(node: Node) -> bool:
    """A reduction keeps what it reduces as dimensions of one."""
    return bool(attributes(node).get("keep_dims"))


def absorbs(node: Node, order: Permutation) -> bool:
    """A reduction of all the axes that `order` moves: what is left is in the order it was."""
    axes = constant_vector(node, 1) if node.op in _REDUCTIONS and not keeps_dimensions(node) else None
    if axes is None or node.control_inputs:
        return False
    reduced = {int(axis) % len(order) for axis in axes.reshape(-1)}
    left = [order[place] for place in range(len(order)) if place not in reduced]
    return left == sorted(left)


def absorb(node: Node, order: Permutation) -> None:
    """Renumber the axes of an absorbing reduction for what it reads before the permutation."""
    _renumber_input(node, 1, order)


def constant_vector(node: Node, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]] | None:
    """The integers of a small constant input, None where it is none."""
    value = node.inputs[index] if -node.input_count <= index < node.input_count else None
    held = known_tensor(value)
    if held is None or not held.dtype.is_integer or held.nbytes > 4096:
        return None
    return held.numpy().astype(np.int64)


def elementwise(node: Node, rank: int) -> Plan | None:
    """How to permute a node that computes each element by itself, with broadcasting."""
    data = []
    for place, value in enumerate(node.inputs):
        if value is None:
            return None
        held = known_tensor(value)
        if held is not None:
            if held.nbytes > SMALL or len(held.shape) > rank or value.type.quantization is not None:
                return None
        elif value.shape.rank == rank:
            data.append(place)
        elif value.shape.rank != 0:
            return None
    return Plan(data, _permute_constants) if data else None


def _permute_constants(node: Node, order: Permutation) -> None:
    """Constants that are broadcast get all axes, and these are permuted."""
    for place, value in enumerate(node.inputs):
        held = known_tensor(value)
        if held is None or held.size == 1 or value is None:
            continue
        array = held.numpy().reshape((1,) * (len(order) - len(held.shape)) + held.shape)
        assert node.graph is not None
        made = hold(node.graph, array.transpose(inverse(order)), name=value.node.name, before=node)
        node.replace_input(place, made)


def _join(node: Node, rank: int) -> Plan | None:
    place = _JOINS[node.op]
    if any(held.nbytes > SMALL for held in map(known_tensor, node.inputs) if held is not None):
        return None
    if place is None:
        return Plan(range(node.input_count), _renumber_attribute) if "axis" in node.attrs else None
    if constant_vector(node, place) is None:
        return None
    last = node.input_count - 1
    return Plan(range(last), lambda one, order: _renumber_input(one, last, order))


def _by_rows(node: Node, rank: int) -> Plan | None:
    """Paddings, begins, sizes, multiples: a number or a pair for each axis, all of them constant."""
    count = 3 if node.op in _SLICES else 2
    for place in range(1, count):
        held = constant_vector(node, place)
        if held is None or len(held) != rank:
            return None

    def change(one: Node, order: Permutation) -> None:
        for place in range(1, count):
            replace_constant(one, place, lambda array: array[list(inverse(order))])

    return Plan((0,), change)


def _renumber_input(node: Node, index: int, order: Permutation) -> None:
    """Axes in the constant input `index`, counted in the result of the permutation, as axes before it."""
    rank = len(order)
    replace_constant(node, index, lambda array: np.array([order[int(axis) % rank] for axis in array.reshape(-1)]))


def _renumber_attribute(node: Node, order: Permutation) -> None:
    node.attrs = {**node.attrs, "axis": order[int(node.attrs["axis"]) % len(order)]}


def replace_constant(node: Node, index: int, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
    """Give a node another constant for its input `index`: what `change` makes of the one it has."""
    value = node.input(index)
    held = known_tensor(value)
    assert held is not None
    assert node.graph is not None
    array = held.numpy()
    made = np.asarray(change(array), array.dtype)
    if array.ndim == 0:
        made = made.reshape(())
    node.replace_input(index, hold(node.graph, made, name=value.node.name, before=node))
