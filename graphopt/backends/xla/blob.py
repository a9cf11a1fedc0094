"""A function that JAX exported, as a model: what `jax.export.Exported.serialize` gives."""

from __future__ import annotations

from typing import Any

from graphopt.backends.xla.bindings import import_jax
from graphopt.backends.xla.program import Program, model_of
from graphopt.ir.dimensions import Dim, symbol
from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.ir.model import Model
from graphopt.ir.types import Shape, TensorType, dtype_of

SIGNATURE = "serving_default"


def deserialized(data: bytes, source: str) -> Any:
    """The `jax.export.Exported` of a blob. Raises `MalformedError`, and `UsageError` where JAX is not installed."""
    jax = import_jax()
    try:
        found = jax.export.deserialize(bytearray(data))
    except Exception as error:  # whatever FlatBuffers and JAX raise on bytes that are none
        shown = printable(" ".join(str(error).split()), 200)
        raise MalformedError(f"this is no jax.export blob: {shown}", source=source) from error
    if not found.out_avals:
        raise UnsupportedError(f"{printable(source)}: the exported function returns nothing")
    return found


def program_model(found: Any, data: bytes, source: str) -> Model:
    """A model of the `xla` dialect, one whole program: inputs `x0`, `x1` and so on, outputs `y0` and so on."""
    program = Program(
        (SIGNATURE,),
        {f"x{place}": type_of(aval, source) for place, aval in enumerate(found.in_avals)},
        {f"y{place}": type_of(aval, source) for place, aval in enumerate(found.out_avals)},
        bytes(found.mlir_module_serialized), {}, tuple(found.platforms), "", "jax", data,
    )  # fmt: skip
    model = model_of([program])
    model.source = source
    return model


def type_of(aval: Any, source: str) -> TensorType:
    """The type of an argument or result of JAX."""
    try:
        dtype = dtype_of(aval.dtype)
    except TypeError as error:
        raise UnsupportedError(f"{printable(source)}: {error}") from error
    return TensorType(dtype, Shape(_dim(dim) for dim in aval.shape))


def _dim(dim: Any) -> Dim:
    if isinstance(dim, int):
        return dim
    name = str(dim)
    return symbol(name) if name.isidentifier() else None
