"""Reshapes, transposes, casts, slices and the like that cancel, combine or do nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from graphopt.ir.known import known_array
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import DType
from graphopt.ir.value import Value
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Either, Operation, Pattern, Wildcard, known, rest
from graphopt.passes.rule import Editor, Replacement, Rule
from graphopt.passes.rules.arithmetic import same_shape

RANK_LIMIT = 255  # dimensions beyond which TensorFlow has no tensors


def _reshaping(tf: Dialect, x: Pattern) -> tuple[Operation, ...]:
    """Patterns of every operator that keeps the elements and their order."""
    return (
        tf.Reshape(x, rest("_shape"), attributes=ANY),
        tf.ExpandDims(x, rest("_axis"), attributes=ANY),
        tf.Squeeze(x, attributes=ANY),
    )


class _Unwrap(Rule):
    """What does nothing is dropped."""

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The operand."""
        value: Value = match.x
        return value


class ReshapeToSame(_Unwrap):
    """A reshape to the shape that the operand has is dropped."""

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Any reshaping operator."""
        return Either(_reshaping(tf, x))

    def check(self, match: Match) -> str | None:
        """Both shapes must be known to be equal."""
        if not same_shape(match.x.shape, match.root.output.shape):
            return f"{match.x.shape} is not known to be {match.root.output.shape}"
        return None


class ReshapeBack(_Unwrap):
    """Reshapes that end where they began are dropped."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Two reshaping operators in a row."""
        inner = Either(
            (
                tf.Reshape(x, rest("_inner_shape"), attributes=ANY),
                tf.ExpandDims(x, rest("_inner_axis"), attributes=ANY),
                tf.Squeeze(x, attributes=ANY),
            )
        )
        return Either(_reshaping(tf, inner))

    def check(self, match: Match) -> str | None:
        """Both shapes must be known to be equal."""
        if not same_shape(match.x.shape, match.root.output.shape):
            return f"{match.x.shape} is not known to be {match.root.output.shape}"
        return None


class ReshapeOnce(Rule):
    """A reshape of a reshaped value reshapes the original."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard, shape: Wildcard) -> Pattern:
        """A reshape over any reshaping operator."""
        return tf.Reshape(Either(_reshaping(tf, x)), shape, attributes=ANY)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One reshape."""
        return edit.value("tf.Reshape", match.x, match.shape, like=match.root)


def _is_short(held: Tensor) -> bool:
    return held.size < RANK_LIMIT


class TransposeNothing(_Unwrap):
    """A transpose that leaves every axis where it is is dropped."""

    def pattern(self, tf: Dialect, x: Wildcard, perm: Wildcard) -> Pattern:
        """A known permutation."""
        return tf.Transpose(x, known(perm, _is_short), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """The permutation must be the identity."""
        perm = match.array("perm")
        return None if np.array_equal(perm, np.arange(perm.size)) else f"it permutes by {perm.tolist()}"


class TransposeOnce(Rule):
    """Two transposes in a row become one."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard, first: Wildcard, second: Wildcard) -> Pattern:
        """Known permutations."""
        inner = tf.Transpose(x, known(first, _is_short), attributes=ANY)
        return tf.Transpose(inner, known(second, _is_short), attributes=ANY)

    def check(self, match: Match) -> str | None:
        """Both must be permutations of the same rank."""
        first, second = match.array("first"), match.array("second")
        rank = list(range(first.size))
        if sorted(first.tolist()) != rank or sorted(second.tolist()) != rank:
            return f"{first.tolist()} and {second.tolist()} are not permutations of one rank"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One transpose by the composed permutation, or none."""
        composed = match.array("first")[match.array("second")]
        if np.array_equal(composed, np.arange(composed.size)):
            value: Value = match.x
            return value
        perm = edit.hold(composed.astype(match.array("second").dtype), f"{match.root.name}/perm")
        return edit.value("tf.Transpose", match.x, perm)


class CastToSame(_Unwrap):
    """A cast to the type that the operand has is dropped."""

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Any cast."""
        return tf.Cast(x, attributes=ANY)

    def check(self, match: Match) -> str | None:
        """The types must be known to be equal."""
        if match.x.dtype is not match.root.output.dtype or not match.x.dtype.code:
            return f"it casts {match.x.dtype.name} to {match.root.output.dtype.name}"
        return None


class CastOnce(Rule):
    """A cast to a type that holds every value, and on from there, is one cast."""

    keeps_interior: ClassVar[bool] = True

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Two casts in a row, neither of which truncates."""
        return tf.Cast(tf.Cast(x, Truncate=False, SrcT=_any, DstT=_any), Truncate=False, SrcT=_any, DstT=_any)

    def check(self, match: Match) -> str | None:
        """The type between must hold every value of the first."""
        source, between = match.x.dtype, match.root.input(0).dtype
        if not holds_every(source, between):
            return f"{between.name} does not hold every {source.name}"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """One cast, or none."""
        source, target = match.x.dtype, match.root.output.dtype
        if source is target:
            value: Value = match.x
            return value
        return edit.value("tf.Cast", match.x, SrcT=source, DstT=target)


def _any(attribute: Any) -> bool:
    return True


def holds_every(narrow: DType, wide: DType) -> bool:
    """Every value of `narrow`, NaN included, survives a cast to `wide` and back."""
    if narrow is wide or (narrow.kind == "bool" and wide.is_numeric):
        return True
    if not narrow.is_numeric or not wide.is_numeric or "float8" in narrow.name or "float8" in wide.name:
        return False
    digits = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
    if narrow.is_float:
        range_kept = wide.bits > narrow.bits and not (narrow.name == "bfloat16" and wide.name == "float16")
        return wide.is_float and range_kept
    significant = narrow.bits - (narrow.kind == "int")
    if wide.is_float:
        return digits.get(wide.name, 0) >= significant and wide.name != "float16"
    if (narrow.kind == "int" and wide.kind == "uint") or (wide.kind == "complex" and narrow.kind != "complex"):
        return False
    return wide.bits > narrow.bits if narrow.kind != wide.kind else wide.bits >= narrow.bits


class PadNothing(_Unwrap):
    """Padding by nothing is dropped."""

    def pattern(self, tf: Dialect, x: Wildcard, paddings: Wildcard) -> Pattern:
        """Known paddings, all zero."""
        zero = known(paddings, lambda held: held.nbytes <= 1024 and not held.numpy().any())
        return Either((tf.any_of("Pad", "MirrorPad")(x, zero, attributes=ANY), tf.PadV2(x, zero, rest("_value"))))


class KeepAll(_Unwrap):
    """A slice of everything, a tiling by one, a broadcast to the same shape is dropped."""

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """Operators that may yield their operand unchanged."""
        return Either(
            (
                tf.Slice(x, known(Wildcard()), rest("_size"), attributes=ANY),
                tf.StridedSlice(x, rest("_bounds"), attributes=ANY),
                tf.BroadcastTo(x, rest("_shape"), attributes=ANY),
                tf.Tile(x, known(Wildcard(), _is_ones), attributes=ANY),
            )
        )

    def check(self, match: Match) -> str | None:
        """The shape must stay, and the elements their order."""
        root = match.root
        if root.op == "tf.Tile":
            return None
        if not same_shape(match.x.shape, root.output.shape):
            return f"{match.x.shape} is not known to be {root.output.shape}"
        if root.op == "tf.StridedSlice":
            strides = known_array(root.input(3), 1024)
            if strides is None or not (strides > 0).all():
                return "its strides are not known to be positive"
        return None


def _is_ones(held: Any) -> bool:
    return held.nbytes <= 1024 and bool((held.numpy() == 1).all())


class JoinOne(_Unwrap):
    """A concatenation or sum of one value is that value."""

    def pattern(self, tf: Dialect, x: Wildcard, axis: Wildcard) -> Pattern:
        """One operand."""
        return Either((tf.ConcatV2(x, axis), tf.AddN(x)))


class SplitIntoOne(_Unwrap):
    """A split into one part is the operand."""

    def pattern(self, tf: Dialect, axis: Wildcard, x: Wildcard) -> Pattern:
        """One part."""
        return tf.Split(axis, x, num_split=1)


class PackOne(Rule):
    """A stack of one value adds a dimension."""

    def pattern(self, tf: Dialect, x: Wildcard) -> Pattern:
        """One operand."""
        return tf.Pack(x, axis=_any)

    def check(self, match: Match) -> str | None:
        """The axis fits the type that axes have."""
        axis = match.root.attr("axis", 0)
        return None if type(axis) is int and -RANK_LIMIT <= axis < RANK_LIMIT else f"no tensor has an axis {axis}"

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """An `ExpandDims`."""
        axis = edit.hold(np.array(match.root.attr("axis", 0), np.int32), f"{match.root.name}/axis")
        return edit.value("tf.ExpandDims", match.x, axis)


class SelectKnown(_Unwrap):
    """A selection by a condition that is always the same yields one side."""

    def pattern(self, tf: Dialect, condition: Wildcard, left: Wildcard, right: Wildcard) -> Pattern:
        """A known condition."""
        uniform = known(condition, lambda held: 0 < held.nbytes <= 1024 and held.numpy().min() == held.numpy().max())
        return tf.any_of("Select", "SelectV2")(uniform, left, right)

    def check(self, match: Match) -> str | None:
        """The side taken must have the shape of the result."""
        side = self._side(match)
        if not same_shape(side.shape, match.root.output.shape):
            return f"'{side.name}' of {side.shape} may be widened to {match.root.output.shape}"
        return None

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """The side that the condition takes."""
        return self._side(match)

    @staticmethod
    def _side(match: Match) -> Value:
        side: Value = match.left if bool(match.array("condition").reshape(-1)[0]) else match.right
        return side


RESHAPING_RULES: tuple[type[Rule], ...] = (
    ReshapeToSame,
    ReshapeBack,
    ReshapeOnce,
    TransposeNothing,
    TransposeOnce,
    CastToSame,
    CastOnce,
    PadNothing,
    KeepAll,
    JoinOne,
    SplitIntoOne,
    PackOne,
    SelectKnown,
)
