"""The MLIR bindings that come with jaxlib, without importing JAX, which takes many times longer."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import UsageError
from graphopt.ir.types import DType

INSTALL = 'pip install "graphopt[xla]"'


class Bindings(NamedTuple):
    """The modules that rules build with."""

    ir: Any
    stablehlo: Any
    chlo: Any
    func: Any


@cache
def bindings() -> Bindings:
    """The MLIR modules of jaxlib. Raises `UsageError` where it is not installed."""
    try:
        from jaxlib.mlir import ir
        from jaxlib.mlir.dialects import chlo, func, stablehlo
    except ImportError as error:
        raise UsageError(f"this needs JAX ({error}): {INSTALL}") from error
    return Bindings(ir, stablehlo, chlo, func)


def import_jax() -> Any:
    """JAX. Raises `UsageError` where it is not installed."""
    try:
        import jax
        import jax.export
    except ImportError as error:
        raise UsageError(f"this needs JAX ({error}): {INSTALL}") from error
    return jax


def make_context() -> Any:
    """An MLIR context that knows StableHLO, CHLO and functions."""
    mlir = bindings()
    context = mlir.ir.Context()
    try:
        from jaxlib.mlir._mlir_libs._jax_mlir_ext import register_dialects
    except ImportError:  # an older or newer jaxlib keeps it elsewhere; JAX itself knows where
        import_jax()
        from jax.interpreters.mlir import make_ir_context

        return make_ir_context()
    registry = mlir.ir.DialectRegistry()
    register_dialects(registry)
    context.append_dialect_registry(registry)
    context.load_all_available_dialects()
    context.enable_multithreading(False)
    mlir.chlo.register_dialect(context)
    mlir.stablehlo.register_dialect(context)
    _register_sharding(context)
    return context


def _register_sharding(context: Any) -> None:
    """Let the context read how a program is spread over devices, where this jaxlib has a dialect for it."""
    try:
        from jaxlib.mlir.dialects import sdy
    except ImportError:
        return
    sdy.register_dialect(context)


def element_type(dtype: DType) -> Any:
    """The MLIR type of one element, within a context; None where XLA has none."""
    make = _ELEMENTS.get(dtype.name)
    return None if make is None else make(bindings().ir)


def has_element_type(dtype: DType) -> bool:
    """XLA computes with this element type."""
    return dtype.name in _ELEMENTS


def _integer(make: str, bits: int, ir: Any) -> Any:
    return getattr(ir.IntegerType, make)(bits)


_ELEMENTS: dict[str, Any] = {
    "float32": lambda ir: ir.F32Type.get(),
    "float64": lambda ir: ir.F64Type.get(),
    "float16": lambda ir: ir.F16Type.get(),
    "bfloat16": lambda ir: ir.BF16Type.get(),
    "bool": lambda ir: ir.IntegerType.get_signless(1),
    **{f"int{bits}": partial(_integer, "get_signless", bits) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": partial(_integer, "get_unsigned", bits) for bits in (8, 16, 32, 64)},
    "complex64": lambda ir: ir.ComplexType.get(ir.F32Type.get()),
    "complex128": lambda ir: ir.ComplexType.get(ir.F64Type.get()),
}


def dense_attribute(array: np.ndarray[Any, Any], dtype: DType) -> Any:
    """The values of `array` as an attribute of MLIR."""
    ir = bindings().ir
    kind, shape = element_type(dtype), array.shape
    if array.dtype == np.bool_:
        return _booleans(np.asarray(array, order="C"), kind)
    if dtype.name == "bfloat16":
        array = array.view(np.uint16)
    # ascontiguousarray would make a vector of a scalar
    return ir.DenseElementsAttr.get(np.asarray(array, order="C"), type=kind, shape=list(shape))


def _booleans(array: np.ndarray[Any, Any], kind: Any) -> Any:
    """A byte each, as newer releases of jaxlib have it, or a bit each."""
    ir, shape = bindings().ir, list(array.shape)
    if array.size and array.all() == array.any():
        ranked = ir.RankedTensorType.get(shape, kind)
        return ir.DenseElementsAttr.get_splat(ranked, ir.BoolAttr.get(bool(array.reshape(-1)[0])))
    try:
        return ir.DenseElementsAttr.get(array, type=kind, shape=shape)
    except ValueError:
        return ir.DenseElementsAttr.get(np.packbits(array, bitorder="little"), type=kind, shape=shape)
