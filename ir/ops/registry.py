"""The operator table: what is known of each operator beyond its interface.

A family module (`tf_math`, `tf_array`, …) declares its operators with

    @operator("Conv2D", traits=...)          # or several names at once
    def _(op: Operator) ...                  # not needed: `shape` and `evaluate` are given as keywords

    register("tf.Relu", traits=ELEMENTWISE, shape=same_as_input, evaluate=lambda attrs, x: np.maximum(x, 0))

and every consumer (constant folding, shape inference, the reference runtime, rules) reads this one table.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphopt.ir.ops.interfaces import Interface, interface
from graphopt.ir.types import Shape
from graphopt.ir.value import Node

if TYPE_CHECKING:
    from graphopt.ir.ops.inference import InferenceContext

ShapeFunction = Callable[["InferenceContext"], Sequence[Shape]]
Evaluation = Callable[..., Any]  # (attributes with defaults, *input arrays) -> array or sequence of arrays

FAMILIES = (
    "graphopt.ir.ops.tf_elementwise",
    "graphopt.ir.ops.tf_comparison",
    "graphopt.ir.ops.tf_cast",
    "graphopt.ir.ops.tf_special",
    "graphopt.ir.ops.tf_reduction",
    "graphopt.ir.ops.tf_ordering",
    "graphopt.ir.ops.tf_segment",
    "graphopt.ir.ops.tf_array",
    "graphopt.ir.ops.tf_fill",
    "graphopt.ir.ops.tf_concat",
    "graphopt.ir.ops.tf_stridedslice",
    "graphopt.ir.ops.tf_pad",
    "graphopt.ir.ops.tf_space",
    "graphopt.ir.ops.tf_indexing",
    "graphopt.ir.ops.tf_scatter",
    "graphopt.ir.ops.tf_set",
    "graphopt.ir.ops.tf_convolution",
    "graphopt.ir.ops.tf_pooling",
    "graphopt.ir.ops.tf_normalization",
    "graphopt.ir.ops.tf_nn",
    "graphopt.ir.ops.tf_image",
    "graphopt.ir.ops.tf_fused",
    "graphopt.ir.ops.tf_color",
    "graphopt.ir.ops.tf_detection",
    "graphopt.ir.ops.tf_audio",
    "graphopt.ir.ops.tf_linalg",
    "graphopt.ir.ops.tf_einsum",
    "graphopt.ir.ops.tf_diagonal",
    "graphopt.ir.ops.tf_fourier",
    "graphopt.ir.ops.tf_control",
    "graphopt.ir.ops.tf_lists",
    "graphopt.ir.ops.tf_state",
    "graphopt.ir.ops.tf_string",
    "graphopt.ir.ops.tf_parsing",
    "graphopt.ir.ops.tf_random",
    "graphopt.ir.ops.tf_quantization",
    "graphopt.ir.ops.tf_rnn",
    "graphopt.ir.ops.tf_sparse",
    "graphopt.ir.ops.tf_gradients",
    "graphopt.ir.ops.tf_training",
)


class Trait(enum.Flag):
    """What rules may rely on."""

    NONE = 0
    ELEMENTWISE = enum.auto()  # output element i depends on input elements i alone (after broadcasting)
    COMMUTATIVE = enum.auto()  # the first two inputs may be swapped
    STATEFUL = enum.auto()  # has effects or reads state: never merged, folded or removed for being unused by value
    RANDOM = enum.auto()  # draws numbers
    PASS_THROUGH = enum.auto()  # the first output is the first input
    CONTROL_FLOW = enum.auto()  # v1 Switch, Merge, Enter, Exit, NextIteration, LoopCond
    CALL = enum.auto()  # runs functions of the library
    SOURCE = enum.auto()  # a placeholder or argument: its value comes from outside
    SHAPE_ONLY = enum.auto()  # the outputs depend on the shapes of the inputs, not on their values
    DECOMPRESS = enum.auto()  # expands compact weights (dequantize, sparse to dense): not to be folded
    ASSERTION = enum.auto()  # checks or reports and yields nothing
    IDEMPOTENT = enum.auto()  # f(f(x)) == f(x)
    INVOLUTION = enum.auto()  # f(f(x)) == x
    TRAINING = enum.auto()  # gradients, optimisers, savers, summaries: never part of inference


@dataclass(frozen=True)
class Operator:
    """One operator: interface, traits, shape inference and, where it is sensible, evaluation with NumPy.

    `shape` gets an `InferenceContext` and returns one `Shape` an output. `evaluate` gets the attributes with
    defaults filled in and the input arrays, and returns an array, or a sequence of arrays for several outputs.
    """

    name: str
    interface: Interface | None
    traits: Trait = Trait.NONE
    shape: ShapeFunction | None = None
    evaluate: Evaluation | None = None

    def has(self, trait: Trait) -> bool:
        """All of `trait` hold."""
        return (self.traits & trait) == trait


_OPERATORS: dict[str, Operator] = {}


def register(
    names: str | Iterable[str],
    *,
    traits: Trait = Trait.NONE,
    shape: ShapeFunction | None = None,
    evaluate: Evaluation | None = None,
) -> None:
    """Declare one operator, or several that behave alike, by full name (`tf.Relu`).

    Raises `ValueError` for a name declared before. What the interface says of state and commutativity is added.
    """
    for name in (names,) if isinstance(names, str) else names:
        if name in _OPERATORS:
            raise ValueError(f"operator {name} is declared twice")
        declared = interface(name.partition(".")[2]) if name.startswith("tf.") else None
        if declared is not None:
            traits_here = traits | (Trait.STATEFUL if declared.is_stateful else Trait.NONE)
            if declared.is_commutative:
                traits_here |= Trait.COMMUTATIVE
        else:
            traits_here = traits
        _OPERATORS[name] = Operator(name, declared, traits_here, shape, evaluate)


@lru_cache(maxsize=1)
def _load_families() -> None:
    for module in FAMILIES:
        import_module(module)


@cache
def find(name: str) -> Operator | None:
    """The operator `name` (`tf.Conv2D`): declared, or with an interface alone; None if quite unknown."""
    _load_families()
    declared = _OPERATORS.get(name)
    if declared is not None:
        return declared
    dialect, _, op_type = name.partition(".")
    known = interface(op_type) if dialect == "tf" else None
    if known is None:
        return None
    traits = Trait.STATEFUL if known.is_stateful else Trait.NONE
    return Operator(name, known, traits | (Trait.COMMUTATIVE if known.is_commutative else Trait.NONE))


def declared_operators() -> Mapping[str, Operator]:
    """Every operator that a family declares, by name."""
    _load_families()
    return dict(_OPERATORS)


@cache
def traits_of(name: str) -> Trait:
    """Traits of an operator; one that is quite unknown counts as stateful."""
    found = find(name)
    return Trait.STATEFUL if found is None else found.traits


def attributes(node: Node) -> Mapping[str, Any]:
    """The attributes of `node` with the operator's defaults filled in."""
    found = find(node.op)
    if found is None or found.interface is None:
        return node.attrs
    return found.interface.with_defaults(node.attrs)


def has_trait(node: Node, trait: Trait) -> bool:
    """The operator of `node` has all of `trait`."""
    return (traits_of(node.op) & trait) == trait
