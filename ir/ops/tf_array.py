"""Operators of TensorFlow that make, describe and rearrange arrays: constants, placeholders, shapes, transposition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.attributes import Attributes
from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError, normalized_axis, same_as, scalar
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.shapes import merged, unknown_of_rank, vector_length
from graphopt.ir.ops.traits import Trait
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
SCALAR_PLACEHOLDERS_SINCE = 22  # GraphDef producer before which a scalar placeholder's shape means an unknown one


def taken(value: Array, index: Sequence[Any]) -> Array:
    """`value` at `index`, which names the leading dimensions: an array even where nothing but one element is left."""
    whole: tuple[Any, ...] = (*index, ...)
    view: Array = value[whole]
    return view


# Sources ------------------------------------------------------------------------------------------------------


def _constant_shape(context: InferenceContext) -> Sequence[Shape]:
    held = context.attrs.get("value")
    return [Shape(held.shape) if isinstance(held, Tensor) else UNKNOWN_SHAPE]


def _constant(attrs: Attributes) -> Array:
    held = attrs["value"]
    if not isinstance(held, Tensor):
        raise ValueError("attribute 'value' must be a tensor")
    return held.numpy()


def declared_shape(context: InferenceContext) -> Shape:
    """The attribute `shape`, unknown where the node does not carry one."""
    declared = context.attrs.get("shape")
    return declared if isinstance(declared, Shape) else UNKNOWN_SHAPE


def _declared(context: InferenceContext) -> Sequence[Shape]:
    return [declared_shape(context)]


def _placeholder(context: InferenceContext) -> Sequence[Shape]:
    declared = declared_shape(context)
    graph = context.node.graph
    model = graph.model if graph is not None else None
    if declared == SCALAR and model is not None and model.versions[0] < SCALAR_PLACEHOLDERS_SINCE:
        return [UNKNOWN_SHAPE]
    return [declared]


def _placeholder_with_default(context: InferenceContext) -> Sequence[Shape]:
    declared = declared_shape(context)
    if declared.merged(context.shape(0)) is None:
        raise InferenceError(f"the default of shape {context.shape(0)} does not fit the declared {declared}")
    return [declared]


register("tf.Const", shape=_constant_shape, evaluate=_constant)
register(("tf.ImmutableConst", "tf.HostConst"), shape=_declared)
register("tf.Placeholder", traits=Trait.SOURCE, shape=_placeholder)
register("tf.PlaceholderV2", traits=Trait.SOURCE, shape=_declared)
register("tf.PlaceholderWithDefault", traits=Trait.SOURCE, shape=_placeholder_with_default)


# Copies -------------------------------------------------------------------------------------------------------


def _first(attrs: Attributes, value: Array) -> Array:
    return value


register(("tf.Copy", "tf.CopyHost"), traits=Trait.PASS_THROUGH, shape=same_as(), evaluate=_first)
register("tf.DeepCopy", traits=Trait.PASS_THROUGH, shape=same_as(), evaluate=_first)
register("tf.GuaranteeConst", traits=Trait.PASS_THROUGH, shape=same_as(), evaluate=_first)


# Shapes as values ---------------------------------------------------------------------------------------------


def _integers(values: Sequence[int], attrs: Attributes) -> Array:
    dtype = attrs["out_type"].numpy
    if any(value > np.iinfo(dtype).max for value in values):
        raise ValueError(f"a size of {max(values)} does not fit {attrs['out_type'].name}")
    return np.array(values, dtype)


def _shape_of_shapes(context: InferenceContext) -> Sequence[Shape]:
    return [Shape((shape.rank,)) for shape in context.shapes()]


def _shape(attrs: Attributes, value: Array) -> Array:
    return _integers(value.shape, attrs)


def _shape_n(attrs: Attributes, *values: Array) -> list[Array]:
    return [_integers(value.shape, attrs) for value in values]


def _size(attrs: Attributes, value: Array) -> Array:
    return _integers([value.size], attrs).reshape(())


def _rank(attrs: Attributes, value: Array) -> Array:
    return np.array(value.ndim, np.int32)


def _vector_of_unknown_length(context: InferenceContext) -> Sequence[Shape]:
    return [Shape((None,))]


register("tf.Shape", traits=Trait.SHAPE_ONLY, shape=_shape_of_shapes, evaluate=_shape)
register("tf.ShapeN", traits=Trait.SHAPE_ONLY, shape=_shape_of_shapes, evaluate=_shape_n)
register("tf.Size", traits=Trait.SHAPE_ONLY, shape=scalar, evaluate=_size)
register("tf.Rank", traits=Trait.SHAPE_ONLY, shape=scalar, evaluate=_rank)
register("tf.VariableShape", traits=Trait.SHAPE_ONLY, shape=_vector_of_unknown_length)


# Reshape, Squeeze, ExpandDims, EnsureShape --------------------------------------------------------------------


def _reshape_shape(context: InferenceContext) -> Sequence[Shape]:
    wanted = context.partial(1)
    if wanted is None:
        return [unknown_of_rank(vector_length(context, 1))]
    return [reshaped(context.shape(0), wanted)]


def reshaped(source: Shape, wanted: Sequence[Dim]) -> Shape:
    """The shape that `Reshape` gives an array of shape `source`; -1 stands for the dimension to work out.

    Raises `InferenceError` where no array of `source` can be reshaped so.
    """
    if any(isinstance(dim, int) and dim < -1 for dim in wanted):
        raise InferenceError(f"sizes {list(wanted)} cannot be negative")
    inferred = [place for place, dim in enumerate(wanted) if dim == -1]
    unknown = [place for place, dim in enumerate(wanted) if dim is None]
    if len(inferred) > 1:
        raise InferenceError("only one dimension may be -1")
    dims: list[Dim] = [None if dim == -1 else dim for dim in wanted]
    open_places = inferred + unknown
    rest = [dim for dim in dims if dim is not None]
    numbers = [dim for dim in rest if isinstance(dim, int)]
    static = source.static
    if 0 in numbers and static is not None and 0 not in static:
        raise InferenceError(f"{math.prod(static)} elements cannot be reshaped to {list(wanted)}")
    if not open_places:
        if static is not None and len(numbers) == len(dims) and math.prod(numbers) != math.prod(static):
            raise InferenceError(f"{math.prod(static)} elements cannot be reshaped to {list(wanted)}")
    elif 0 in numbers:
        if inferred and not unknown:
            dims[inferred[0]] = _quotient_beside_zero(source, dims)
    # An unknown size over a symbolic rest could be anything when the rest is zero; for -1 that is refused.
    elif len(open_places) == 1 and source.dims is not None and (inferred or len(numbers) == len(rest)):
        dims[open_places[0]] = _quotient(source.dims, rest, wanted)
    return Shape(dims)


def _quotient(dims: Sequence[Dim], rest: Sequence[Dim], wanted: Sequence[Dim]) -> Dim:
    """Product of `dims` over that of `rest`, which holds no zero; what both name is left out before multiplying."""
    number = math.prod(dim for dim in dims if isinstance(dim, int))
    divisor = math.prod(dim for dim in rest if isinstance(dim, int))
    symbols: list[Dim] = [dim for dim in dims if not isinstance(dim, int)]
    over: list[Dim] = []
    for dim in rest:
        if dim in symbols:
            symbols.remove(dim)
        elif not isinstance(dim, int):
            over.append(dim)
    if number == 0 and over:
        return None
    if number % divisor == 0:
        number, divisor = number // divisor, 1
    elif len(symbols) == len(over) == 0:
        raise InferenceError(f"{number} elements cannot be reshaped to {list(wanted)}")
    numerator = dimensions.product((*symbols, number)) if number != 1 else dimensions.product(symbols)
    return dimensions.divide(numerator, dimensions.product((divisor, *over)))


def _quotient_beside_zero(source: Shape, dims: Sequence[Dim]) -> Dim:
    """What -1 means beside a zero: TensorFlow leaves the zeros of both shapes out and rounds down."""
    if source.static is None or 0 not in source.static:
        return None
    rest = dimensions.product(dim for dim in dims if dim)
    return dimensions.divide(math.prod(size for size in source.static if size), rest)


def _reshape(attrs: Attributes, value: Array, shape: Array) -> Array:
    wanted = reshaped(Shape(value.shape), [int(size) for size in shape.reshape(-1)]).static
    if wanted is None:
        raise ValueError(f"an array of shape {list(value.shape)} cannot be reshaped to {shape.tolist()}")
    return value.reshape(wanted)


def _squeeze_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    if dims is None:
        return [UNKNOWN_SHAPE]
    axes = {normalized_axis(axis, len(dims)) for axis in context.attrs.get("squeeze_dims") or ()}
    if not axes:
        if not all(isinstance(dim, int) for dim in dims):
            return [UNKNOWN_SHAPE]
        return [Shape(dim for dim in dims if dim != 1)]
    for axis in sorted(axes):
        if isinstance(dims[axis], int) and dims[axis] != 1:
            raise InferenceError(f"dimension {axis} of shape {context.shape(0)} is not 1")
    return [Shape(dim for axis, dim in enumerate(dims) if axis not in axes)]


def _squeeze(attrs: Attributes, value: Array) -> Array:
    axes = {normalized_axis(axis, value.ndim) for axis in attrs.get("squeeze_dims") or ()}
    return np.squeeze(value, tuple(sorted(axes)) if axes else None)


def _expand_dims_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    if dims is None:
        return [UNKNOWN_SHAPE]
    axis = context.constant_int(1)
    if axis is None:
        return [unknown_of_rank(len(dims) + 1)]
    place = normalized_axis(axis, len(dims) + 1)
    return [Shape((*dims[:place], 1, *dims[place:]))]


def _expand_dims(attrs: Attributes, value: Array, axis: Array) -> Array:
    if axis.size != 1:
        raise ValueError("the axis must be one number")
    return np.expand_dims(value, normalized_axis(int(axis.reshape(())), value.ndim + 1))


def _ensure_shape_shape(context: InferenceContext) -> Sequence[Shape]:
    return [merged((context.shape(0), declared_shape(context)))]


def _ensure_shape(attrs: Attributes, value: Array) -> Array:
    if attrs["shape"].merged(Shape(value.shape)) is None:
        raise ValueError(f"an array of shape {list(value.shape)} is not {attrs['shape']}")
    return value


register("tf.Reshape", shape=_reshape_shape, evaluate=_reshape)
register("tf.Squeeze", shape=_squeeze_shape, evaluate=_squeeze)
register("tf.ExpandDims", shape=_expand_dims_shape, evaluate=_expand_dims)
register("tf.EnsureShape", shape=_ensure_shape_shape, evaluate=_ensure_shape)


# Permutations -------------------------------------------------------------------------------------------------


def _transpose_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    order = context.constant_ints(1)
    if order is None:
        length = vector_length(context, 1)
        if dims is not None and length is not None and length != len(dims):
            raise InferenceError(f"a permutation of {length} axes does not fit rank {len(dims)}")
        return [unknown_of_rank(length if dims is None else len(dims))]
    axes = permutation(order, len(order) if dims is None else len(dims))
    return [unknown_of_rank(len(axes)) if dims is None else Shape(dims[axis] for axis in axes)]


def permutation(order: Sequence[int], rank: int) -> list[int]:
    """`order` with axes counted from the front. Raises `InferenceError` unless it permutes `rank` axes."""
    axes = [normalized_axis(int(axis), rank) for axis in order]
    if sorted(axes) != list(range(rank)):
        raise InferenceError(f"{list(order)} is no permutation of {rank} axes")
    return axes


def _transpose(attrs: Attributes, value: Array, order: Array) -> Array:
    return value.transpose(permutation(order.reshape(-1).tolist(), value.ndim))


def _conjugate_transpose(attrs: Attributes, value: Array, order: Array) -> Array:
    moved = _transpose(attrs, value, order)
    return np.conjugate(moved) if moved.dtype.kind == "c" else moved


def _invert_permutation(attrs: Attributes, order: Array) -> Array:
    if order.ndim != 1:
        raise ValueError("a permutation must be a vector")
    if not np.array_equal(np.sort(order), np.arange(order.size)):
        raise ValueError("the values are no permutation")
    inverse = np.empty_like(order)
    inverse[order] = np.arange(order.size, dtype=order.dtype)
    return inverse


def _same_vector(context: InferenceContext) -> Sequence[Shape]:
    return [merged((context.shape(0), Shape((None,))))]


register("tf.Transpose", shape=_transpose_shape, evaluate=_transpose)
register("tf.ConjugateTranspose", shape=_transpose_shape, evaluate=_conjugate_transpose)
register("tf.InvertPermutation", shape=_same_vector, evaluate=_invert_permutation)
