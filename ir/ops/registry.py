"""The operator table: what is known of each operator beyond its interface.

A family module (`tf_elementwise`, `tf_array`, …) declares its operators, one or several that behave alike, with

    register("tf.Relu", traits=ELEMENTWISE, shape=same_as(0), evaluate=lambda attrs, x: np.maximum(x, 0))

and every consumer (constant folding, shape inference, the reference runtime, rules) reads this one table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from graphopt.ir.ops.interfaces import Interface, interface
from graphopt.ir.ops.traits import Trait
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
    "graphopt.ir.ops.tf_decompositions",
    "graphopt.ir.ops.tf_einsum",
    "graphopt.ir.ops.tf_diagonal",
    "graphopt.ir.ops.tf_fourier",
    "graphopt.ir.ops.tf_control",
    "graphopt.ir.ops.tf_lists",
    "graphopt.ir.ops.tf_state",
    "graphopt.ir.ops.tf_dataset",
    "graphopt.ir.ops.tf_string",
    "graphopt.ir.ops.tf_parsing",
    "graphopt.ir.ops.tf_random",
    "graphopt.ir.ops.tf_quantization",
    "graphopt.ir.ops.tf_quantized",
    "graphopt.ir.ops.tf_rnn",
    "graphopt.ir.ops.tf_sparse",
    "graphopt.ir.ops.tf_gradients",
    "graphopt.ir.ops.tf_training",
    "graphopt.ir.ops.tflite",
    "graphopt.ir.ops.onnx",
)


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


class _Declaration(NamedTuple):
    """What a family module said; the interface is looked up when the operator is first asked for."""

    traits: Trait
    shape: ShapeFunction | None
    evaluate: Evaluation | None


_DECLARED: dict[str, _Declaration] = {}
_UNDECLARED = _Declaration(Trait.NONE, None, None)


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
    declaration = _Declaration(traits, shape, evaluate)
    for name in (names,) if isinstance(names, str) else names:
        if name in _DECLARED:
            raise ValueError(f"operator {name} is declared twice")
        _DECLARED[name] = declaration


@lru_cache(maxsize=1)
def _load_families() -> None:
    for module in FAMILIES:
        import_module(module)


@cache
def find(name: str) -> Operator | None:
    """The operator `name` (`tf.Conv2D`): declared, or with an interface alone; None if quite unknown."""
    _load_families()
    dialect, _, op_type = name.partition(".")
    known = interface(op_type) if dialect == "tf" else None
    if known is None and name not in _DECLARED:
        return None
    traits, shape, evaluate = _DECLARED.get(name, _UNDECLARED)
    writes = known is not None and name not in _DECLARED and any(argument.is_ref for argument in known.inputs)
    if known is not None and (known.is_stateful or writes):
        traits |= Trait.STATEFUL
    if known is not None and known.is_commutative:
        traits |= Trait.COMMUTATIVE
    return Operator(name, known, Trait(traits), shape, evaluate)


def declared_operators() -> Mapping[str, Operator]:
    """Every operator that a family declares, by name."""
    _load_families()
    return {name: operator for name in _DECLARED if (operator := find(name)) is not None}


def declared_with(trait: Trait) -> tuple[str, ...]:
    """Names of operators that a family declares with all of `trait`, sorted."""
    _load_families()
    return tuple(sorted(name for name, found in _DECLARED.items() if (found.traits & trait) == trait))


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
