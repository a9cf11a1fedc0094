"""From the end of a chain up to the weighted operators that can take it in, through whatever lets it pass."""

from __future__ import annotations

from graphopt.ir.errors import printable
from graphopt.ir.value import Node, Value
from graphopt.passes.fold.batch_norm_affine import IDENTITY, Affine
from graphopt.passes.fold.batch_norm_forms import Step, read_step
from graphopt.passes.fold.batch_norm_passages import branches, passage
from graphopt.passes.fold.batch_norm_weights import LINEAR, Weighted, weighted

TREE_NODES = 1000  # bounds the work where chains end in the middle of others


def is_shared(value: Value) -> bool:
    """Something needs `value`, or its node, besides the one node that reads it."""
    return value.use_count != 1 or value.is_output or value.is_input or bool(value.node.control_users)


class Chain:
    """Steps that nothing else reads, from the one that yields `value` up to `base`, the first one's data."""

    __slots__ = ("base", "change", "is_norm", "steps", "value")

    def __init__(self, value: Value):
        self.value = self.base = value
        self.change: Affine = IDENTITY
        self.steps: list[Node] = []
        self.is_norm = False
        while not self.steps or not is_shared(self.base):
            step = read_step(self.base.node)
            change = self.change.after(step.change) if isinstance(step, Step) else None
            if not isinstance(step, Step) or change is None:
                return
            self.steps.append(self.base.node)
            self.is_norm = self.is_norm or step.is_norm
            self.base, self.change = step.data, change

    @property
    def is_of_channels(self) -> bool:
        """It treats channels differently, as batch norms do."""
        return self.is_norm or self.change.axis is not None


class Tree:
    """What lies between the end of a chain and the weights that take it in.

    `nodes` has readers before producers. `steps` vanish, `leaves` get other weights, the rest is rebuilt as it is.
    """

    __slots__ = ("is_norm", "is_of_channels", "leaves", "nodes", "reads", "steps")

    def __init__(self) -> None:
        self.nodes: dict[Node, None] = {}
        self.steps: dict[Node, Step] = {}
        self.leaves: dict[Node, tuple[Weighted, Affine]] = {}
        self.reads: list[Value] = []
        self.is_norm = self.is_of_channels = False

    @property
    def is_worthwhile(self) -> bool:
        """A norm or a scale goes away, or additions become fewer."""
        if self.is_norm or any(change.scales for _, change in self.leaves.values()):
            return True
        return sum(change.shifts for _, change in self.leaves.values()) < len(self.steps)


def find_tree(root: Node, limit: int) -> Tree | str | None:
    """The tree above `root`, the end of a chain; the reason where there is none; None if it is nothing like it.

    `limit` bounds the bytes of new weights.
    """
    tree = Tree()
    pending = [(root.output, IDENTITY)]
    while pending:
        value, change = pending.pop()
        node = value.node
        reason = _read_otherwise(tree, value) if tree.nodes else None  # the end itself may be read by any number
        if reason is not None:
            return reason if tree.is_norm or (tree.is_of_channels and node.op in LINEAR) else None
        further = _enter(tree, node, change, limit)
        if isinstance(further, str):
            return further if tree.is_of_channels else None
        if further is None:
            reason = f"'{printable(node.name)}' ({node.op_type}) has no weights that could take it in"
            return reason if tree.is_norm else None
        followed = dict.fromkeys(item for item, _ in further)
        tree.nodes[node] = None
        tree.reads.extend(item for item in node.inputs if item is not None and item not in followed)
        pending.extend(further)
    return tree


def _read_otherwise(tree: Tree, value: Value) -> str | None:
    """Why `value` cannot change: something outside the tree reads it."""
    name = printable(value.name)
    if value.is_output or value.is_input:
        return f"'{name}' is an input or output of the graph"
    if is_shared(value):
        users = [*value.users, *value.node.control_users]
        others = [user for user in users if user not in tree.nodes]
        return f"'{name}' is also read by '{printable(others[0].name)}'" if others else f"'{name}' is read twice"
    return f"more than {TREE_NODES} nodes lie in between" if len(tree.nodes) == TREE_NODES else None


def _enter(tree: Tree, node: Node, change: Affine, limit: int) -> list[tuple[Value, Affine]] | str | None:
    """Take `node` into the tree: values to go on with; the reason against; None if it is no part of any tree."""
    step = read_step(node)
    if isinstance(step, Step):
        inner = change.after(step.change)
        if inner is None:
            return "it scales or shifts along another axis than what comes before it"
        tree.steps[node] = step
        tree.is_norm = tree.is_norm or step.is_norm
        tree.is_of_channels = tree.is_of_channels or step.is_norm or inner.axis is not None
        return [(step.data, inner)]
    leaf = weighted(node)
    if isinstance(leaf, Weighted):
        tree.leaves[node] = leaf, change
        if change.axis not in (None, leaf.output_axis):
            return f"its channels are not those of '{printable(node.name)}'"
        return leaf.refusal(leaf.outputs, leaf.output_channels, change, limit) or []
    if leaf is not None:
        return leaf
    parts = branches(node, change)
    if parts is not None:
        return parts if isinstance(parts, str) else [(node.input(place), part) for place, part in parts]
    way = passage(node, change.axis)
    if way is None or isinstance(way, str):
        return way
    if way.fill is not None and not change.fixes(way.fill):
        return f"what '{printable(node.name)}' pads with would change"
    return [(node.input(0), Affine(change.scale, change.offset, way.axis))]
