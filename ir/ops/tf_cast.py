"""Operators of TensorFlow that change the element type: casts, bit casts, parts of complex numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.ir.ops.inference import InferenceContext, InferenceError, broadcast, same_as
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.tf_elementwise import ELEMENTWISE, Array, evaluation, integer_limits
from graphopt.ir.ops.tf_windows import settled
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, DType, Shape, dereferenced

# Cast ---------------------------------------------------------------------------------------------------------


def cast(array: Array, target: DType, truncate: bool = False) -> Array:
    """`array` as `target`, which is no string: integers wrap, complex numbers lose their imaginary part.

    Raises `ValueError` where a float does not fit into an integer type, for which C++ promises nothing, and for
    types without an array form.
    """
    kind = target.numpy
    if kind is None or array.dtype == object or kind == np.dtype(object):
        raise ValueError(f"cannot cast {array.dtype} to {target.name}")
    if array.dtype == kind:
        return array
    with np.errstate(all="ignore"):
        if array.dtype.kind == "c" and kind.kind != "c":
            array = array.real
        if _is_float(array.dtype):
            if target.kind in ("int", "uint", "quantized"):
                return _to_integer(array, kind)
            if truncate and target.is_float:
                return _toward_zero(array, kind)
        return array.astype(kind)


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or (dtype.kind == "V" and not dtype.name.startswith(("int", "uint")))


def _to_integer(array: Array, kind: np.dtype[Any]) -> Array:
    limits = integer_limits(kind)
    whole = np.trunc(array.astype(np.float64))
    if not np.all((whole >= float(limits.min)) & (whole < float(limits.max) + 1)):
        raise ValueError(f"a value is outside the range of {kind.name}; what it becomes depends on the machine")
    return whole.astype(kind)


def _toward_zero(array: Array, kind: np.dtype[Any]) -> Array:
    result = array.astype(kind)
    if kind.itemsize >= array.dtype.itemsize or (array.dtype == np.float64 and kind == ml_dtypes.bfloat16):
        return result  # TensorFlow does not heed `Truncate` from float64 to bfloat16
    grown = np.abs(result.astype(np.float64)) > np.abs(array.astype(np.float64))
    return np.where(grown, np.nextafter(result, np.zeros((), kind)), result)


def _cast(attrs: Any, array: Array) -> Array:
    return cast(array, dereferenced(attrs["DstT"]), attrs["Truncate"])


# Bitcast ------------------------------------------------------------------------------------------------------


def _bitcast(attrs: Any, array: Array) -> Array:
    """The same bytes as another type; the last dimension appears or disappears with the ratio of the widths."""
    kind = attrs["type"].numpy
    if kind is None or kind == np.dtype(object) or array.dtype == object:
        raise ValueError(f"cannot reinterpret {array.dtype} as {attrs['type'].name}")
    old, new = array.dtype.itemsize, kind.itemsize
    source = np.ascontiguousarray(array)
    if old == new:
        return np.asarray(source.view(kind)).reshape(array.shape)
    octets = source.reshape(-1).view(np.uint8)
    if old > new:
        return np.asarray(octets.view(kind)).reshape(*array.shape, old // new)
    if array.ndim == 0 or array.shape[-1] * old != new:
        raise ValueError(f"cannot reinterpret an array of shape {array.shape} as {attrs['type'].name}")
    return np.asarray(octets.view(kind)).reshape(array.shape[:-1])


@settled("T", "type")
def _bitcast_shape(context: InferenceContext) -> Sequence[Shape]:
    source, target, shape = context.attrs["T"], context.attrs["type"], context.shape(0)
    if not source.itemsize or not target.itemsize:
        return [UNKNOWN_SHAPE]
    if shape.dims is None or source.itemsize == target.itemsize:
        return [shape]
    if source.itemsize > target.itemsize:
        return [Shape((*shape.dims, source.itemsize // target.itemsize))]
    ratio = target.itemsize // source.itemsize
    if not shape.dims or (isinstance(shape.dims[-1], int) and shape.dims[-1] != ratio):
        raise InferenceError(f"the last dimension of {shape} must be {ratio} to make up one {target.name}")
    return [Shape(shape.dims[:-1])]


# Complex numbers ----------------------------------------------------------------------------------------------


def _typed(function: Callable[..., Any]) -> Callable[..., Array]:
    """`function` of the inputs, cast to the type that the attribute `Tout` says."""

    def evaluate(attrs: Any, *inputs: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(*inputs)).astype(attrs["Tout"].numpy)

    return evaluate


def _complex(x: Array, y: Array) -> Array:
    """`x + iy`, built from its parts: arithmetic would turn an infinity next to a zero into NaN."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    result = np.empty(shape, np.complex64 if x.dtype == np.float32 else np.complex128)
    result.real, result.imag = x, y
    return result


def _register() -> None:
    register("tf.Cast", traits=ELEMENTWISE, shape=same_as(), evaluate=_cast)
    register("tf.Bitcast", shape=_bitcast_shape, evaluate=_bitcast)
    register("tf.Complex", traits=ELEMENTWISE, shape=broadcast, evaluate=_typed(_complex))
    parts: dict[str, Callable[..., Any]] = {
        "Real": np.real,
        "Imag": np.imag,
        "Angle": np.angle,
        "ComplexAbs": np.abs,
    }
    for name, function in parts.items():
        register(f"tf.{name}", traits=ELEMENTWISE, shape=same_as(), evaluate=_typed(function))
    register("tf.Conj", traits=ELEMENTWISE | Trait.INVOLUTION, shape=same_as(), evaluate=evaluation(np.conj))


_register()
