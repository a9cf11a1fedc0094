"""Patterns: a Python function that reads like the graph it matches.

    def pattern(self, tf, x, weights, scale):
        convolution = tf.Conv2D(x, known(weights), attributes=ANY, name="convolution")
        return tf.Mul(convolution, known(scale))

The parameters after `tf` are wildcards: each captures one value, the same one wherever it is used. `tf.Mul` tries
both operand orders because the operator table says that it is commutative. Attributes match strictly: one that is
not mentioned must have its default (types and counts, which follow from the inputs, aside); `attributes=ANY` leaves
the others free, a callable is a predicate.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from graphopt.ir.errors import UsageError
from graphopt.ir.ops import Trait, find, traits_of
from graphopt.ir.ops.derive import derived_names
from graphopt.ir.tensors import Tensor

DIALECTS = ("tf", "tfl", "onnx")  # parameters of pattern functions that are dialects


class _Any:
    """Marks attributes that may have any value."""

    def __repr__(self) -> str:
        return "ANY"


ANY = _Any()


@dataclass(frozen=True, eq=False)
class Wildcard:
    """Any value; captured under `name`, if it has one. `predicate` gets the value."""

    name: str | None = None
    predicate: Callable[[Any], bool] | None = None
    known: bool = False
    tensor_predicate: Callable[[Tensor], bool] | None = None


@dataclass(frozen=True, eq=False)
class Operation:
    """A node of one of `ops`, with input and attribute patterns, whose output `index` is the value matched."""

    ops: tuple[str, ...]
    inputs: tuple[Operand, ...]
    attrs: Mapping[str, Any]
    strict: frozenset[str]  # attributes not mentioned, which must have their defaults
    commutative: bool
    name: str | None
    index: int = 0

    def output(self, index: int) -> Operation:
        """The same node matched through its output `index`."""
        return Operation(self.ops, self.inputs, self.attrs, self.strict, self.commutative, self.name, index)


@dataclass(frozen=True, eq=False)
class Either:
    """The first of several patterns that matches."""

    alternatives: tuple[Pattern, ...]


@dataclass(frozen=True, eq=False)
class Rest:
    """A run of inputs of any length; captured as a tuple. At most one among the inputs of an operation."""

    name: str


Pattern = Union[Wildcard, Operation, Either]  # noqa: UP007 (evaluated at run time on Python 3.10 as well)
Operand = Union[Wildcard, Operation, Either, Rest]  # noqa: UP007 (evaluated at run time on Python 3.10 as well)


def known(wildcard: Wildcard, predicate: Callable[[Tensor], bool] | None = None) -> Wildcard:
    """A value whose tensor is known (see `graphopt.ir.known`); `predicate` gets the tensor."""
    return Wildcard(wildcard.name, wildcard.predicate, True, predicate)


def where(wildcard: Wildcard, predicate: Callable[[Any], bool]) -> Wildcard:
    """A value for which `predicate` holds."""
    return Wildcard(wildcard.name, predicate, wildcard.known, wildcard.tensor_predicate)


def either(*alternatives: Pattern) -> Either:
    """One of several patterns, tried in order."""
    return Either(alternatives)


def maybe(wrap: Callable[[Pattern], Pattern], inner: Pattern) -> Either:
    """`wrap(inner)` if it is there, or `inner` alone: an optional node."""
    return Either((wrap(inner), inner))


def rest(name: str) -> Rest:
    """The remaining inputs, however many."""
    return Rest(name)


class Dialect:
    """Makes operation patterns: `tf.Conv2D(x, w)`, `tf.any_of("Add", "AddV2")(a, b)`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, op_type: str) -> Callable[..., Operation]:
        if op_type.startswith("__"):
            raise AttributeError(op_type)
        return self.any_of(op_type)

    def any_of(self, *op_types: str) -> Callable[..., Operation]:
        """A node of any of these operators, which share inputs and attributes."""
        ops = tuple(f"{self._name}.{op_type}" for op_type in op_types)

        def make(*inputs: Operand, attributes: Any = None, name: str | None = None, **attrs: Any) -> Operation:
            strict = frozenset() if attributes is ANY else _strict_attributes(ops, attrs)
            commutative = len(inputs) == 2 and all(traits_of(op) & Trait.COMMUTATIVE for op in ops)
            return Operation(ops, inputs, attrs, strict, commutative, name)

        return make


def _strict_attributes(ops: Sequence[str], mentioned: Iterable[str]) -> frozenset[str]:
    """Attributes that must have their defaults. Raises `UsageError` for one that has none and is not mentioned."""
    strict: set[str] = set()
    for op in ops:
        operator = find(op)
        if operator is None or operator.interface is None:
            continue
        derived = derived_names(operator.interface)
        for name in operator.interface.attr_kinds:
            if name in mentioned or name in derived:
                continue
            if name not in operator.interface.defaults:
                raise UsageError(
                    f"pattern of {op}: attribute '{name}' has no default; mention it or say attributes=ANY"
                )
            strict.add(name)
    return frozenset(strict)


@functools.lru_cache(maxsize=4096)
def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def build_pattern(function: Callable[..., Pattern]) -> Pattern:
    """Call a pattern function with its dialects and wildcards, named after its parameters."""
    arguments: list[Any] = []
    method = getattr(function, "__func__", None)
    names = _parameters(method)[1:] if method is not None else _parameters(function)
    for name in names:
        arguments.append(Dialect(name) if name in DIALECTS else Wildcard(name))
    return function(*arguments)


def root_operators(pattern: Pattern) -> tuple[str, ...]:
    """Operators that a node must have for `pattern` to match there."""
    if isinstance(pattern, Operation):
        return pattern.ops
    if isinstance(pattern, Either):
        return tuple(op for alternative in pattern.alternatives for op in root_operators(alternative))
    raise UsageError("a pattern must be rooted at an operation, not at a wildcard")
