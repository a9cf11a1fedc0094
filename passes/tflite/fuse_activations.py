"""fuse-activations: rectifiers become part of the operator before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, rest
from graphopt.passes.rewriter import RewritePass
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.tflite.layers import ACTIVATION, NO_ACTIVATION, activation, maybe_reshaped, reshaped_again

ACTIVATIONS = {"RELU": b"RELU", "RELU6": b"RELU6", "RELU_N1_TO_1": b"RELU_N1_TO_1"}
# Operators whose kernels apply an activation to what they computed.
HOSTS = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D", "ADD", "SUB", "MUL", "DIV",
    "AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D",
)  # fmt: skip
_HOSTS = frozenset(f"tfl.{name}" for name in HOSTS)


def _takes(node: Node, value: Value) -> bool:
    """Only this one reads `node`, which has no activation yet and computes what is scaled as `value` is."""
    output = node.output
    return (
        node.op in _HOSTS
        and activation(node) == NO_ACTIVATION
        and output.use_count == 1
        and not output.is_output
        and output.dtype is value.dtype
        and output.type.quantization == value.type.quantization
    )


def _fused(edit: Editor, node: Node, chosen: bytes, like: Value, name: str | None = None) -> Value:
    return edit.node(node.op, node.inputs, {ACTIVATION: chosen}, like=node, types=(like.type,), name=name).output


class ActivationOfHost(Rule):
    """A rectifier is part of the one operator whose result it reads."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tfl: Dialect) -> Pattern:
        """A rectifier of what a host computes."""
        host = tfl.any_of(*HOSTS)(rest("operands"), attributes=ANY, name="host", **{ACTIVATION: "NONE"})
        return tfl.any_of(*ACTIVATIONS)(maybe_reshaped(tfl, host), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """Both have the same scale, if any."""
        if not _takes(match.host, match.root.output):
            return f"it is scaled otherwise than '{match.host.name}'"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The host, with the activation."""
        chosen = ACTIVATIONS[match.root.op_type]
        if "between" not in match:
            return _fused(edit, match.host, chosen, match.root.output)
        made = _fused(edit, match.host, chosen, match.host.output, match.host.name)
        return reshaped_again(match, edit, made)


class ActivationOfJoined(Rule):
    """A rectifier of a concatenation is part of each operand, where all of them can take it."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def pattern(self, tfl: Dialect) -> Pattern:
        """A rectifier of a concatenation."""
        joined = tfl.CONCATENATION(rest("operands"), attributes=ANY, name="joined", **{ACTIVATION: "NONE"})
        return tfl.any_of(*ACTIVATIONS)(joined, attributes=ANY)

    def grow(self, match: Match) -> Match | str | None:
        """The operators that compute the operands."""
        for value in match.operands:
            if value is None or not _takes(value.node, value):
                return "not every operand of the concatenation can take the activation"
        if match.joined.output.type.quantization != match.root.output.type.quantization:
            return f"it is scaled otherwise than '{match.joined.name}'"
        return match.grown(value.node for value in match.operands)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The concatenation of operands that have the activation."""
        chosen = ACTIVATIONS[match.root.op_type]
        parts = [_fused(edit, value.node, chosen, value, value.node.name) for value in match.operands]
        return edit.node(match.joined.op, parts, like=match.joined, types=(match.root.output.type,)).output


@dataclass(frozen=True)
class FuseActivations(RewritePass):
    """Let operators rectify their own results.

    *Given*

        %c = tfl.CONV_2D(%x, %weights, %bias) {fused_activation_function = b"NONE"}
        %y = tfl.RELU6(%c)

    *Result*

        %y = tfl.CONV_2D(%x, %weights, %bias) {fused_activation_function = b"RELU6"}

    `RELU`, `RELU6` and `RELU_N1_TO_1` are taken by convolutions, fully connected layers, sums, differences, products,
    quotients and pools, also before a reshape, and by each operand of a concatenation, where all of them are such.

    Refuses a host that has an activation or another reader, and one whose result is scaled otherwise than the
    rectifier's.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    after: ClassVar[tuple[str, ...]] = ("fuse-bias",)
    rules: ClassVar[tuple[type[Rule], ...]] = (ActivationOfHost, ActivationOfJoined)
