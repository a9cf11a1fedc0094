"""A program as a `jax.export` blob, which runs wherever JAX does, without TensorFlow and without graphopt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from graphopt.backends.xla.bindings import import_jax
from graphopt.backends.xla.program import Program
from graphopt.ir.dimensions import KnownDim, SymbolicDim
from graphopt.ir.errors import UnsupportedError, printable
from graphopt.ir.types import TensorType


def exported(program: Program) -> Any:
    """A `jax.export.Exported` that computes the outputs, a tuple, from the inputs and then the weights, in order."""
    jax = import_jax()
    with wide_types(jax):
        scope = jax.export.SymbolicScope()
        symbols = _Symbols(jax, scope)
        inputs = [_struct(jax, kind, symbols.dims(kind)) for kind in program.inputs.values()]
        weights = [jax.ShapeDtypeStruct(held.shape, held.dtype.numpy) for held in program.weights.values()]

        def template(*arguments: Any) -> tuple[Any, ...]:
            sizes = symbols.of_arguments(arguments)
            return tuple(
                jax.numpy.zeros([_evaluated(dim, sizes, jax) for dim in kind.shape.dims or ()], kind.dtype.numpy)
                for kind in program.outputs.values()
            )

        made = jax.export.export(
            jax.jit(template, keep_unused=True),
            platforms=list(program.platforms),
            disabled_checks=[jax.export.DisabledSafetyCheck.platform()],
        )(*inputs, *weights)
    name = program.signatures[0] if program.signatures[0].isidentifier() else "main"
    return dataclasses.replace(made, fun_name=name, mlir_module_serialized=program.code)


def serialized_export(program: Program) -> bytes:
    """The blob that `jax.export.deserialize` reads."""
    return bytes(exported(program).serialize())


def wide_types(jax: Any) -> Any:
    """A context in which JAX keeps 64 bits where a program has them."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64(True)


def _struct(jax: Any, kind: TensorType, dims: Iterable[Any]) -> Any:
    return jax.ShapeDtypeStruct(tuple(dims), kind.dtype.numpy)


class _Symbols:
    """JAX's symbolic dimensions under the names that a program has for them."""

    def __init__(self, jax: Any, scope: Any) -> None:
        self.jax, self.scope = jax, scope
        self.places: dict[str, tuple[int, int]] = {}
        self._inputs = 0

    def dims(self, kind: TensorType) -> list[Any]:
        """The dimensions of the next input."""
        place, self._inputs = self._inputs, self._inputs + 1
        made: list[Any] = []
        for axis, dim in enumerate(kind.shape.dims or ()):
            if isinstance(dim, int):
                made.append(dim)
                continue
            if not isinstance(dim, SymbolicDim) or len(dim.names) != 1 or str(dim) not in dim.names:
                raise UnsupportedError(f"JAX cannot name the dimension {printable(str(dim))}: specialise the model")
            self.places.setdefault(str(dim), (place, axis))
            made.append(self.jax.export.symbolic_shape(str(dim), scope=self.scope)[0])
        return made

    def of_arguments(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """Name -> JAX's size, of what a template is traced with."""
        return {name: arguments[place].shape[axis] for name, (place, axis) in self.places.items()}


def _evaluated(dim: KnownDim | None, sizes: Mapping[str, Any], jax: Any) -> Any:
    """A dimension of an output in JAX's terms."""
    if isinstance(dim, int):
        return dim
    if dim is None:
        raise UnsupportedError("an output's shape is not known: specialise the model")
    total: Any = 0
    for monomial, factor in dim.terms:
        product: Any = factor
        for atom in monomial:
            product = product * _atom(atom, sizes, jax)
        total = total + product
    return total


def _atom(atom: tuple[Any, ...], sizes: Mapping[str, Any], jax: Any) -> Any:
    if atom[0] == "name":
        return sizes[atom[1]]
    left, right = (_evaluated(operand, sizes, jax) for operand in atom[1:])
    if atom[0] == "floordiv":
        return left // right
    return jax.core.max_dim(left, right) if atom[0] == "max" else jax.core.min_dim(left, right)
