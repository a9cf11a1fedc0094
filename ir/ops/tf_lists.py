"""Operators of TensorFlow that hold sequences of tensors: TensorArray, TensorList, Stack, maps and optionals."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.handles import declared_shape, listed_shapes
from graphopt.ir.ops.inference import InferenceContext, same_as, scalar, unknown
from graphopt.ir.ops.registry import register
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import SCALAR, UNKNOWN_SHAPE, Shape

PAIR = Shape((2,))  # of the handles of old, a container's name and the resource's
VECTOR = Shape((None,))


def _first_dim(shape: Shape) -> Dim:
    return None if shape.dims is None or not shape.dims else shape.dims[0]


def _rows(count: Dim, element: Shape) -> Shape:
    """The shape of `count` stacked elements."""
    return UNKNOWN_SHAPE if element.dims is None else Shape((count, *element.dims))


def _without_first(shape: Shape) -> Shape:
    return UNKNOWN_SHAPE if not shape.dims else Shape(shape.dims[1:])


def _attribute(context: InferenceContext, name: str) -> Shape:
    shape = context.attrs.get(name)
    return shape if isinstance(shape, Shape) else UNKNOWN_SHAPE


# TensorArray -----------------------------------------------------------------------------------------------------


def _array_element(context: InferenceContext) -> Shape:
    """The shape of an element as the node, or the maker of its array, declares it."""
    own = _attribute(context, "element_shape")
    merged = own.merged(declared_shape(context.node._inputs[0], "element_shape"))
    return own if merged is None else merged


def _array(context: InferenceContext) -> Sequence[Shape]:
    return [PAIR, SCALAR][: context.output_count]


def _array_read(context: InferenceContext) -> Sequence[Shape]:
    return [_array_element(context)]


def _array_gather(context: InferenceContext) -> Sequence[Shape]:
    return [_rows(_first_dim(context.shape(1)), _array_element(context))]


def _array_pack(context: InferenceContext) -> Sequence[Shape]:
    return [_rows(None, _array_element(context))]


def _array_concat(context: InferenceContext) -> Sequence[Shape]:
    return [_rows(None, _attribute(context, "element_shape_except0")), VECTOR]


def _versions(name: str, *suffixes: str) -> list[str]:
    return [f"tf.TensorArray{name}{suffix}" for suffix in suffixes]


_STATE = Trait.STATEFUL  # also where TensorFlow does not say so: operators on handles of old write through them

register(_versions("", "", "V2", "V3"), traits=_STATE, shape=_array)
register(_versions("Grad", "", "V2", "V3", "WithShape"), traits=_STATE | Trait.TRAINING, shape=_array)
for _name in ("Write", "Scatter", "Split"):
    register(_versions(_name, "", "V2", "V3"), traits=_STATE, shape=scalar)
register("tf.TensorArrayUnpack", traits=_STATE, shape=scalar)
register(_versions("Size", "", "V2", "V3"), traits=_STATE, shape=scalar)
register(_versions("Read", "", "V2", "V3"), traits=_STATE, shape=_array_read)
register(_versions("Gather", "", "V2", "V3"), traits=_STATE, shape=_array_gather)
register("tf.TensorArrayPack", traits=_STATE, shape=_array_pack)
register(_versions("Concat", "", "V2", "V3"), traits=_STATE, shape=_array_concat)
register(_versions("Close", "", "V2", "V3"), traits=_STATE, shape=unknown)

# TensorList ------------------------------------------------------------------------------------------------------


def _given_element(context: InferenceContext, index: int) -> Shape:
    """Input `index` as the shape of an element; the scalar -1 says that it is unknown."""
    return context.as_shape(index) if context.shape(index).rank == 1 else UNKNOWN_SHAPE


def _list_pop(context: InferenceContext) -> Sequence[Shape]:
    return [SCALAR, _given_element(context, 1)]


def _list_item(context: InferenceContext) -> Sequence[Shape]:
    return [_given_element(context, 2)]


def _list_stack(context: InferenceContext) -> Sequence[Shape]:
    count = context.attrs["num_elements"]
    return [_rows(count if type(count) is int and count >= 0 else None, _given_element(context, 1))]


def _list_gather(context: InferenceContext) -> Sequence[Shape]:
    return [_rows(_first_dim(context.shape(1)), _given_element(context, 2))]


def _list_concat(context: InferenceContext) -> Sequence[Shape]:
    element = _attribute(context, "element_shape") if context.input_count == 1 else _given_element(context, 1)
    rest = _without_first(element)
    return [_rows(None, rest), VECTOR]


_LIST_MAKERS = (
    "EmptyTensorList", "TensorListReserve", "TensorListFromTensor", "TensorListPushBack", "TensorListSetItem",
    "TensorListResize", "TensorListScatter", "TensorListScatterV2", "TensorListScatterIntoExistingList",
    "TensorListSplit", "TensorListLength",
)  # fmt: skip

register([f"tf.{name}" for name in _LIST_MAKERS], shape=scalar)
register("tf.TensorListPopBack", shape=_list_pop)
register("tf.TensorListGetItem", shape=_list_item)
register("tf.TensorListStack", shape=_list_stack)
register("tf.TensorListGather", shape=_list_gather)
register(("tf.TensorListConcat", "tf.TensorListConcatV2"), shape=_list_concat)
register(("tf.TensorListPushBackBatch", "tf.TensorListConcatLists"), shape=same_as())
register("tf.TensorListElementShape", shape=unknown)

# Stacks, maps, optionals -----------------------------------------------------------------------------------------


def _declared_components(context: InferenceContext) -> Sequence[Shape]:
    return listed_shapes(context.attrs.get("output_shapes"), context.output_count)


register("tf.Stack", traits=_STATE, shape=lambda context: [PAIR])
register("tf.StackV2", traits=_STATE, shape=scalar)
register(("tf.StackPush", "tf.StackPushV2"), traits=_STATE, shape=same_as(1))
register(("tf.StackPop", "tf.StackPopV2"), traits=_STATE, shape=unknown)
register(("tf.StackClose", "tf.StackCloseV2"), traits=_STATE, shape=unknown)
register(
    ("tf.EmptyTensorMap", "tf.TensorMapSize", "tf.TensorMapInsert", "tf.TensorMapErase", "tf.TensorMapHasKey"),
    shape=scalar,
)
register(("tf.TensorMapLookup", "tf.TensorMapStackKeys"), shape=unknown)
register(("tf.OptionalFromValue", "tf.OptionalNone", "tf.OptionalHasValue"), shape=scalar)
register("tf.OptionalGetValue", shape=_declared_components)
