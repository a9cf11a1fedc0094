"""Operators with a data format get the other one, between transposes: what channels-last and channels-first share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from graphopt.ir.known import known_array
from graphopt.ir.model import Model
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness, PassContext
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.rules.permuting import inverse
from graphopt.passes.rules.transposes import cancel_transposes

# Operators with a data format -> the inputs laid out so, and those with a number for each dimension.
LAID_OUT: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    **dict.fromkeys(
        (
            "Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "BiasAdd", "FusedBatchNorm", "FusedBatchNormV2",
            "FusedBatchNormV3", "DepthToSpace", "SpaceToDepth", "Conv3D", "MaxPool3D", "AvgPool3D",
        ),
        ((0,), ()),
    ),
    **dict.fromkeys(
        ("Conv2DBackpropInput", "DepthwiseConv2dNativeBackpropInput", "Conv3DBackpropInputV2"), ((2,), (0,))
    ),
    "MaxPoolV2": ((0,), (1, 2)),
}  # fmt: skip
PER_DIMENSION = ("strides", "dilations", "ksize")
PLAIN = b"NHWC"  # what an operator without the attribute has


class ChannelsMoved(Rule):
    """An operator of one data format, between transposes, has another."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    formats: ClassVar[Mapping[bytes, bytes]] = {}
    word: ClassVar[str] = ""

    def order(self, rank: int) -> tuple[int, ...]:
        """Where each dimension of the new format comes from."""
        raise TypeError(f"{type(self).__name__} has no order")

    def pattern(self, tf: Dialect) -> Pattern:
        """Any operator with a data format."""
        return tf.any_of(*LAID_OUT)(rest("operands"), attributes=ANY)

    def grow(self, match: Match) -> Match | str | None:
        """Its data format is one to be changed, and it is known how many dimensions there are."""
        node = match.root
        given = _format(node)
        if given not in self.formats:
            return f"its data format is {given!r}" if given == b"NCHW_VECT_C" else None
        rank = _rank(node)
        if rank is None:
            return "how many dimensions it has is not known"
        return match.grown((), rank=rank)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The operator in the other format."""
        node, order = match.root, self.order(match.rank)
        laid_out, by_dimension = LAID_OUT[node.op_type]
        inputs: list[Value | None] = list(match.operands)
        for place in laid_out:
            inputs[place] = _transposed(edit, match.operands[place], order, f"{node.name}/{self.word}")
        for place in by_dimension:
            inputs[place] = _reordered(edit, match.operands[place], order)
        attrs = _attributes(node, order) | {"data_format": self.formats[_format(node)]}
        made = edit.node(node.op, inputs, attrs, like=node, name=f"{node.name}/computed")
        return [_transposed(edit, made.output, inverse(order), node.name), *made.outputs[1:]]


def _format(node: Node) -> Any:
    """The data format; an operator of volumes has channels last where it does not say."""
    plain = b"NDHWC" if "3D" in node.op_type else PLAIN
    return node.attrs.get("data_format", plain)


def _rank(node: Node) -> int | None:
    """Dimensions of the data: what its shapes or the data format say."""
    place = LAID_OUT[node.op_type][0][0]
    found = node.input(place).shape.rank or node.output.shape.rank
    if found is None and node.op_type != "BiasAdd":
        found = 5 if len(_format(node)) == 5 else 4
    return found


def _attributes(node: Node, last: tuple[int, ...]) -> dict[str, Any]:
    """The attributes with a number for each dimension in the new order."""
    attrs: dict[str, Any] = {}
    for name in PER_DIMENSION:
        given = node.attrs.get(name)
        if given and len(given) == len(last):
            attrs[name] = tuple(given[place] for place in last)
    pads = node.attrs.get("explicit_paddings")
    if pads and len(pads) == 2 * len(last):
        attrs["explicit_paddings"] = tuple(item for place in last for item in pads[2 * place : 2 * place + 2])
    return attrs


def _transposed(edit: Editor, value: Value, order: tuple[int, ...], name: str) -> Value:
    permutation = edit.hold(np.array(order, np.int32), name=f"{name}/perm")
    return edit.value("tf.Transpose", value, permutation, name=name)


def _reordered(edit: Editor, value: Value, last: tuple[int, ...]) -> Value:
    """A number for each dimension in the new order; numbers for spatial ones alone stay."""
    held = known_array(value)
    if held is not None:
        return edit.hold(held[list(last)], name=value.node.name) if len(held) == len(last) else value
    if value.shape.dims != (len(last),):
        return value
    places = edit.hold(np.array(last, np.int32), name=f"{value.node.name}/places")
    axis = edit.hold(np.array(0, np.int32), name=f"{value.node.name}/axis")
    return edit.value("tf.GatherV2", value, places, axis, name=f"{value.node.name}/reordered")


class MoveChannels(RewritePass):
    """What channels-last and channels-first do: the rules, then transposes cancel."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def run(self, model: Model, context: PassContext) -> None:
        """Give each operator the other data format, then let transposes cancel."""
        before = context.log.total
        super().run(model, context)
        if context.log.total != before:
            for graph in model.graphs:
                cancel_transposes(graph, context, "cancel-transposes")
