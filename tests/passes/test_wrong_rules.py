"""Rules that are wrong on purpose, run by the real engine: the oracle, the verifier or the engine must notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.types import INT32
from graphopt.ir.verifier import verify
from graphopt.passes import ANY, Editor, Match, PassContext, PassError, Rule, apply_rules, known, rest
from graphopt.passes.cleanup.dropout import RemoveDropoutBySelect
from graphopt.passes.cleanup.simplify import Simplify
from graphopt.passes.rules.arithmetic import MultiplyByOne
from graphopt.passes.rules.chains import MultiplyConstants, SubtractConstant
from graphopt.passes.rules.reshaping import CastOnce, KeepAll, ReshapeBack, SelectKnown, TransposeOnce
from graphopt.testing import assert_contract_kept, assert_equivalent, random_feeds

NETWORK = """
graph @main(%x: float32[2, 4, 4, 3], %n: float32[?, 3], %z: float32[2, 3]) -> (%y, %m, %named, %flags) {
  %w = tf.Const() {value = float32[1, 1, 3, 2] [1.0, -2.0, 0.5, 3.0, -1.5, 2.5]}
  %gamma = tf.Const() {value = float32[2] [1.5, 0.5]}
  %beta = tf.Const() {value = float32[2] [0.1, -0.7]}
  %mean = tf.Const() {value = float32[2] [0.3, -0.2]}
  %variance = tf.Const() {value = float32[2] [0.01, 2.0]}
  %conv = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"SAME"}
  %norm = tf.FusedBatchNormV3(%conv, %gamma, %beta, %mean, %variance) {is_training = false, epsilon = 0.5}
  %relu6 = tf.Relu6(%norm)
  %p = tf.Const() {value = int32[4] [0, 3, 1, 2]}
  %q = tf.Const() {value = int32[4] [1, 0, 3, 2]}
  %turn = tf.Transpose(%relu6, %p)
  %again = tf.Transpose(%turn, %q)
  %begin = tf.Const() {value = int32[4] [0, 0, 1, 0]}
  %size = tf.Const() {value = int32[4] [-1, -1, 2, -1]}
  %part = tf.Slice(%again, %begin, %size)
  %axis = tf.Const() {value = int32[1] [3]}
  %sum = tf.Sum(%part, %axis)
  %shape = tf.Const() {value = int32[2] [2, 4]}
  %flat = tf.Reshape(%sum, %shape)
  %two = tf.Const() {value = float32[4] [2.0, 3.0, 4.0, 5.0]}
  %difference = tf.Sub(%flat, %two)
  %scaled = tf.Mul(%difference, %two)
  %y = tf.Mul(%scaled, %two)
  %ones = tf.Const() {value = float32[5, 1, 3] splat 1.0}
  %zero = tf.Const() {value = float32[] 0.0}
  %nothing = tf.Mul(%n, %zero)
  %root = tf.Sqrt(%n)
  %lost = tf.Mul(%root, %zero)
  %wide = tf.Mul(%z, %ones)
  %total = tf.Sum(%wide, %axes)
  %axes = tf.Const() {value = int32[3] [0, 1, 2]}
  %m = tf.AddV2(%lost, %total)
  %whole = tf.Cast(%z) {DstT = int32}
  %back = tf.Cast(%whole) {DstT = float32}
  %named = tf.Identity(%back)
  %yes = tf.Const() {value = bool[2, 3] [true, true, false, true, true, true]}
  %choice = tf.SelectV2(%yes, %z, %named)
  %flags = tf.Greater(%choice, %zero)
}
signature "serving_default"(x = %x, n = %n, z = %z) -> (y = %y, m = %m, named = %named, flags = %flags)
"""


class Swap(Rule):
    """`x - c` is `c - x`."""

    def pattern(self, tf: Any, x: Any, c: Any) -> Any:
        return tf.Sub(x, known(c))

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.Mul", edit.value("tf.Neg", match.c), edit.value("tf.Neg", match.x))


class StaleConstant(MultiplyConstants):
    """`(x * c) * d` is `x * c`."""

    def _combined(self, match: Match) -> np.ndarray[Any, Any]:
        return match.array("first")


class WrongSign(SubtractConstant):
    """`x - c` is `x + c`."""

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.AddV2", match.x, match.constant)


class WrongAxis(Rule):
    """A sum over the axis before the one it was."""

    def pattern(self, tf: Any, x: Any, axis: Any) -> Any:
        return tf.Sum(x, known(axis, lambda held: held.numpy().tolist() == [3]), name="sum")

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.Sum", match.x, edit.hold(np.array([2], np.int32)), like=match.sum)


class WrongDtype(Rule):
    """A comparison yields numbers."""

    def pattern(self, tf: Any, x: Any, y: Any) -> Any:
        return tf.Greater(x, y)

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.Cast", match.x, SrcT=match.x.dtype, DstT=INT32)


class FoldNorm(Rule):
    """A batch norm behind a convolution, into its weights and a bias."""

    epsilon: ClassVar[float | None] = None
    sign: ClassVar[float] = 1.0

    def pattern(self, tf: Any, x: Any, w: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
        conv = tf.Conv2D(x, known(w), attributes=ANY, name="conv")
        return tf.FusedBatchNormV3(
            conv, known(gamma), known(beta), known(mean), known(variance), attributes=ANY, name="norm"
        )

    def rewrite(self, match: Match, edit: Editor) -> Any:
        epsilon = match.norm.attrs["epsilon"] if self.epsilon is None else self.epsilon
        scale = match.array("gamma") / np.sqrt(match.array("variance") + np.float32(epsilon))
        weights = edit.hold(match.array("w") * scale, "weights")
        bias = edit.hold(match.array("beta") - np.float32(self.sign) * match.array("mean") * scale, "bias")
        return edit.value("tf.BiasAdd", edit.value("tf.Conv2D", match.x, weights, like=match.conv), bias)


class WrongEpsilon(FoldNorm):
    """The same with the epsilon that most have."""

    epsilon = 1e-3


class WrongOffset(FoldNorm):
    """The same with the mean added."""

    sign = -1.0


class ReversedComposition(TransposeOnce):
    """Two transposes by permutations composed the other way round."""

    def rewrite(self, match: Match, edit: Editor) -> Any:
        composed = match.array("second")[match.array("first")]
        return edit.value("tf.Transpose", match.x, edit.hold(composed.astype(np.int32), "perm"))


class ReshapeIgnoringShape(ReshapeBack):
    """Any reshape is dropped that keeps the rank."""

    keeps_interior = False

    def pattern(self, tf: Any, x: Any) -> Any:
        return tf.Reshape(x, rest("_shape"), attributes=ANY)

    def check(self, match: Match) -> str | None:
        return None


class ZeroTimesAnything(Rule):
    """`x * 0` is zero, whatever `x` is."""

    def pattern(self, tf: Any, x: Any, zero: Any) -> Any:
        return tf.Mul(x, known(zero, lambda held: not held.numpy().any()))

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.ZerosLike", match.x)


class DropNamedIdentity(Rule):
    """An identity is its operand, also where callers know it by its name."""

    def pattern(self, tf: Any, x: Any) -> Any:
        return tf.Identity(x, name="node")

    def rewrite(self, match: Match, edit: Editor) -> Any:
        match.graph.replace_value(match.node.output, match.x)
        return None


class OffByOne(Rule):
    """A slice that begins one element early."""

    def pattern(self, tf: Any, x: Any, begin: Any, size: Any) -> Any:
        return tf.Slice(x, known(begin, lambda held: held.numpy().any()), size, attributes=ANY, name="slice")

    def rewrite(self, match: Match, edit: Editor) -> Any:
        early = np.maximum(match.array("begin") - 1, 0)
        return edit.value("tf.Slice", match.x, edit.hold(early), match.size, like=match.slice)


class Relu6AsRelu(Rule):
    """`relu6(x)` is `relu(x)`."""

    def pattern(self, tf: Any, x: Any) -> Any:
        return tf.Relu6(x)

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.Relu", match.x)


class OneWithoutCheck(MultiplyByOne):
    """`x * 1` is `x`, also where it widens the shape."""

    def check(self, match: Match) -> str | None:
        return None


class CastWithoutCheck(CastOnce):
    """Casts there and back are none, whatever the type between."""

    def check(self, match: Match) -> str | None:
        return None


class SelectLoosely(SelectKnown):
    """A selection by a condition that is mostly true takes that side."""

    def pattern(self, tf: Any, condition: Any, left: Any, right: Any) -> Any:
        return tf.SelectV2(known(condition), left, right)


class KeepPart(KeepAll):
    """A slice is its operand."""

    def check(self, match: Match) -> str | None:
        return None


WRONG: Mapping[str, Callable[[], Rule]] = {
    rule.name: rule
    for rule in (
        Swap, StaleConstant, WrongSign, WrongAxis, WrongDtype, WrongEpsilon, WrongOffset, ReversedComposition,
        ReshapeIgnoringShape, ZeroTimesAnything, DropNamedIdentity, OffByOne, Relu6AsRelu, OneWithoutCheck,
        CastWithoutCheck, SelectLoosely, KeepPart,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Model:
    from graphopt.ir.infer import infer_model

    model = parse_model(NETWORK)
    infer_model(model)
    verify(model)
    return model


def feeds(model: Model) -> list[dict[str, Any]]:
    found = [random_feeds(model, seed) for seed in range(2)]
    for feed in found:  # NaN from the square root, and noise that is large enough to reach both bounds of relu6
        feed["n"] = -np.abs(feed["n"])
        feed["x"] = feed["x"] * np.float32(4)
    return found


def check(rules: list[Rule], network: Model) -> int:
    """Run `rules` on the network and check what they made of it; returns how often they rewrote."""
    model = network.clone()
    done = apply_rules(model.graph, rules, PassContext())
    verify(model)
    assert_contract_kept(network, model)
    assert_equivalent(network, model, feeds(network), runtime="reference", exactness="reassociating")
    return done


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_noticed(name: str, network: Model) -> None:
    with pytest.raises((AssertionError, PassError)) as caught:
        check([WRONG[name]()], network)
    assert "proves nothing" not in str(caught.value)


@pytest.mark.parametrize(
    "rules", [[FoldNorm()], Simplify().make_rules(), [RemoveDropoutBySelect()]], ids=["norm", "simplify", "dropout"]
)
def test_right_rules_pass_the_same_check(rules: list[Rule], network: Model) -> None:
    assert bool(check(rules, network)) == (not isinstance(rules[0], RemoveDropoutBySelect))


def test_at_least_ten() -> None:
    assert len(WRONG) >= 10
