"""The rules of fold-batch-norms: into the weights before, into the weights after, or shorter where neither can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.types import DType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness
from graphopt.passes.fold.batch_norm_affine import Affine, Array, rounded
from graphopt.passes.fold.batch_norm_forms import FORMS, Step, composed, read_step
from graphopt.passes.fold.batch_norm_passages import passage
from graphopt.passes.fold.batch_norm_trees import Chain, Tree, find_tree, is_shared
from graphopt.passes.fold.batch_norm_weights import LINEAR, Weighted, weighted
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, rest
from graphopt.passes.rule import Editor, Replacement, Rule


class FoldIntoWeights(Rule):
    """A batch norm, or any scaling and shifting of channels, goes into the weights it follows and their bias."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def __init__(self, limit: int = 1 << 30):
        self.limit = limit

    def pattern(self, tf: Dialect) -> Pattern:
        """The last node of a chain; the rest of it is found from there."""
        return _any_of(tf, FORMS)

    def grow(self, match: Match) -> Match | str | None:
        """Everything from the weighted operators down to the end of the chain."""
        step = read_step(match.root)
        if not isinstance(step, Step):
            return step
        if composed(match.root, step) is not None:
            return None  # the chain goes on
        tree = find_tree(match.root, self.limit)
        if isinstance(tree, Tree):
            return match.grown(tree.nodes, operands=tuple(tree.reads), tree=tree) if tree.is_worthwhile else None
        return tree

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The same tree with other weights, and a bias at each of them."""
        tree: Tree = match.tree
        made: dict[Node, Value] = {}
        for node in reversed(tree.nodes):
            if node in tree.leaves:
                leaf, change = tree.leaves[node]
                result = _scaled(leaf, leaf.outputs, change.scale, leaf.data, edit) if change.scales else node.output
                owner = match.root if len(tree.leaves) == 1 else node
                made[node] = _shifted(leaf, result, change.offset, owner.name, edit) if change.shifts else result
            elif node in tree.steps:
                made[node] = made[tree.steps[node].data.node]
            else:
                made[node] = _rebuilt(node, made, edit)
        return made[match.root]


class FoldIntoNextWeights(Rule):
    """A batch norm, or any scaling and shifting of channels, goes into the weights that multiply its result."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def __init__(self, limit: int = 1 << 30):
        self.limit = limit

    def pattern(self, tf: Dialect) -> Pattern:
        """The operator with weights; the chain before it is found from there."""
        return _any_of(tf, LINEAR)

    def grow(self, match: Match) -> Match | str | None:
        """The operator, what lies before it that a map passes through, and the chain before that."""
        leaf = weighted(match.root)
        if not isinstance(leaf, Weighted):
            return None
        axis: int | None = leaf.data_axis
        value, between = leaf.data, list[Node]()
        fills: list[float] = []
        while not isinstance(read_step(value.node), Step):
            way = passage(value.node, axis)
            if isinstance(way, str) or way is None or is_shared(value):
                return None
            between.append(value.node)
            fills.extend([] if way.fill is None else [way.fill])
            value, axis = value.node.input(0), way.axis
        chain = Chain(value)
        if not chain.is_norm and not chain.change.scales:
            return None  # a bias is no worse before the weights than after them
        before = find_tree(value.node, self.limit)
        if isinstance(before, Tree) and before.is_worthwhile:
            return None  # it goes into the weights before it
        reason = self._refusal(leaf, chain, axis, fills)
        if reason is not None:
            return reason if chain.is_of_channels else None
        reads = tuple(value for value in match.root.inputs if value is not leaf.data)
        nodes = (*between, *chain.steps)
        return match.grown(nodes, operands=(chain.base, *reads), leaf=leaf, chain=chain, between=between)

    def _refusal(self, leaf: Weighted, chain: Chain, axis: int | None, fills: list[float]) -> str | None:
        change = chain.change
        if change.axis is not None and change.axis != axis:
            return "its channels are not those of the weights"
        if change.axis is not None and chain.base.shape[change.axis] != change.channels:
            return f"whether '{printable(chain.base.name)}' has {change.channels} channels is not known"
        if not all(change.fixes(fill) for fill in fills):
            return "its offset would have to be padded too"
        if change.shifts and not leaf.adds_no_elements:
            return "its offset does not add the same to every output of the following operator"
        return leaf.refusal(leaf.inputs, None if change.axis is None else change.channels, change, self.limit)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The operator on the data before the chain, with other weights and a bias."""
        leaf: Weighted = match.leaf
        chain: Chain = match.chain
        made = {chain.value.node: chain.base}
        for node in reversed(match.between):
            made[node] = _rebuilt(node, made, edit)
        data, change = made[leaf.data.node], chain.change
        value = _scaled(leaf, leaf.inputs, change.scale, data, edit)
        if change.shifts:
            value = _shifted(leaf, value, leaf.contributed(change.offset), match.root.name, edit)
        return value


class _Shorten(Rule):
    """A chain becomes at most one multiplication and one addition."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    of_norms: ClassVar[bool]

    def pattern(self, tf: Dialect) -> Pattern:
        """The last node of a chain."""
        return _any_of(tf, FORMS)

    def grow(self, match: Match) -> Match | str | None:
        """The chain up to the first value that something else reads."""
        step = read_step(match.root)
        if not isinstance(step, Step) or composed(match.root, step) is not None:
            return None
        chain = Chain(match.root.output)
        needed = max(1, chain.change.scales + chain.change.shifts)
        if chain.is_norm is not self.of_norms or (needed >= len(chain.steps) and not chain.is_norm):
            return None
        return match.grown(chain.steps, operands=(chain.base,), chain=chain)

    def check(self, match: Match) -> str | None:
        """Finite in the element type, and as wide as the data by itself or by what is left."""
        if not match.chain.change.is_finite_in(match.root.output.dtype):
            return "its scale or offset would not be finite"
        change: Affine = match.chain.change
        kept = max(change.scale.size if change.scales or not change.shifts else 1, change.shifts * change.offset.size)
        shape = match.chain.base.shape
        if (
            change.axis is not None
            and kept < change.channels
            and (shape.rank is None or -change.axis > shape.rank or shape[change.axis] != change.channels)
        ):
            return f"its {change.channels} channels may be more than its data has, and none would be left"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """Mul and AddV2, or the one of them that is needed."""
        chain: Chain = match.chain
        value, name, dtype = chain.base, match.root.name, match.root.output.dtype
        if chain.change.scales or not chain.change.shifts:
            scale = edit.hold(_aligned(chain.change, chain.change.scale, dtype), name=f"{name}/scale")
            value = edit.value("tf.Mul", value, scale, name=f"{name}/scaled")
        if chain.change.shifts:
            offset = edit.hold(_aligned(chain.change, chain.change.offset, dtype), name=f"{name}/offset")
            value = edit.value("tf.AddV2", value, offset)
        return value


class ExpandBatchNorm(_Shorten):
    """A batch norm that no weights can take in becomes Mul and AddV2."""

    of_norms = True


class MergeScalesAndOffsets(_Shorten):
    """Multiplications and additions of known numbers in a row become one of each."""

    of_norms = False


def _any_of(tf: Dialect, table: Iterable[str]) -> Pattern:
    """A node of any operator in `table`."""
    return tf.any_of(*(op.removeprefix("tf.") for op in table))(rest("operands"), attributes=ANY)


def _scaled(leaf: Weighted, axes: tuple[int, ...], scale: Array, data: Value, edit: Editor) -> Value:
    """The operator on `data`, its weights multiplied by `scale` along `axes`."""
    node = leaf.node
    weights = node.input(leaf.linear.weights)
    if (scale != 1.0).any():
        weights = edit.hold(leaf.scaled(axes, scale), name=weights.node.name)
    inputs = list(node.inputs)
    inputs[leaf.linear.data], inputs[leaf.linear.weights] = data, weights
    return edit.node(node.op, inputs, like=node, name=node.name).output


def _shifted(leaf: Weighted, value: Value, offset: Array, owner: str, edit: Editor) -> Value:
    """`value`, a result of the operator, plus `offset` for each of its channels."""
    assert leaf.output_channels is not None
    vector = rounded(np.broadcast_to(offset, leaf.output_channels), leaf.weights.dtype)
    bias = edit.hold(vector, name=f"{owner}/bias")
    layout = b"NHWC" if leaf.output_axis == -1 else b"NCHW"
    name = f"{leaf.node.name}/bias_add"
    return edit.value("tf.BiasAdd", value, bias, name=name, data_format=layout)


def _rebuilt(node: Node, made: Mapping[Node, Value], edit: Editor) -> Value:
    """A copy of `node` that reads what was made instead of its old data."""
    inputs = [made.get(value.node, value) if value is not None else None for value in node.inputs]
    return edit.node(node.op, inputs, like=node, name=node.name).output


def _aligned(change: Affine, vector: Array, dtype: DType) -> Array:
    """`vector` in `dtype`, shaped to broadcast along the channels."""
    trailing = 0 if change.axis is None else -change.axis - 1
    return rounded(vector if vector.ndim == 0 else vector.reshape(-1, *[1] * trailing), dtype)
