"""The short form: what a node's text may leave out because its operands and its operator say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.model import Function
from graphopt.ir.ops.interfaces import Argument, Interface, interface
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import UNKNOWN_TYPE, DType, Shape, TensorType, dereferenced, unshaped

# Calls: the attribute that lists the result types, and the one that names the function which says them.
_RESULTS = {
    "tf.PartitionedCall": ("Tout", "f"),
    "tf.StatefulPartitionedCall": ("Tout", "f"),
    "tf.If": ("Tout", "then_branch"),
    "tf.StatelessIf": ("Tout", "then_branch"),
    "tf.Case": ("Tout", "branches"),
    "tf.StatelessCase": ("Tout", "branches"),
}


def completed(
    op: str, attrs: Mapping[str, Any], operands: Sequence[DType], functions: Mapping[str, Function]
) -> dict[str, Any]:
    """`attrs` with those that the types and the number of operands give put before them, where they are missing."""
    if op == "tf.Const":
        held = attrs.get("value")
        return {"dtype": held.dtype, **attrs} if isinstance(held, Tensor) and "dtype" not in attrs else dict(attrs)
    known = interface(op[3:]) if op.startswith("tf.") else None
    filled = _from_operands(known, attrs, operands) if known is not None else {}
    if op in _RESULTS and _RESULTS[op][0] not in attrs:
        called = attrs.get(_RESULTS[op][1])
        reference = called[0] if type(called) is tuple and called else called
        function = functions.get(reference.name) if isinstance(reference, FunctionRef) else None
        if function is not None:
            filled[_RESULTS[op][0]] = tuple(value.dtype for value in function.outputs)
    return {**filled, **attrs}


def result_types(
    op: str, attrs: Mapping[str, Any], functions: Mapping[str, Function], referenced: int
) -> list[TensorType]:
    """Types of the outputs; as many of unknown type as are `referenced`, at least one, where nothing says more."""
    dialect, _, op_type = op.partition(".")
    if op_type in functions:
        return [unshaped(value.dtype) for value in functions[op_type].outputs]
    known = interface(op_type) if dialect == "tf" else None
    held, shape = attrs.get("value"), attrs.get("shape")
    if op == "tf.Const" and isinstance(held, Tensor):
        return [TensorType(held.dtype, Shape(held.shape))]
    try:
        types = list(known.output_types(attrs)) if known is not None else None
    except (KeyError, ValueError):
        types = None
    if types is None:
        return [UNKNOWN_TYPE] * max(referenced, 1)
    if op == "tf.Placeholder" and isinstance(shape, Shape):
        return [types[0].with_shape(shape)]
    return types


def _from_operands(known: Interface, attrs: Mapping[str, Any], operands: Sequence[DType]) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    counts = _counts(known.inputs, attrs, len(operands))
    if counts is None:
        return filled
    place = 0
    for argument, count in zip(known.inputs, counts, strict=True):
        dtypes = [dereferenced(dtype) for dtype in operands[place : place + count]]
        place += count
        if argument.number_attr and argument.number_attr not in attrs:
            filled[argument.number_attr] = count
        if argument.list_attr and argument.list_attr not in attrs and all(dtype.code for dtype in dtypes):
            filled.setdefault(argument.list_attr, tuple(dtypes))
        elif argument.type_attr and argument.type_attr not in attrs:
            known_dtype = next((dtype for dtype in dtypes if dtype.code), None)
            if known_dtype is not None:
                filled.setdefault(argument.type_attr, known_dtype)
    return filled


def _counts(arguments: Sequence[Argument], attrs: Mapping[str, Any], total: int) -> list[int] | None:
    """How many operands each argument stands for; None where that cannot be told."""
    counts: list[int | None] = []
    for argument in arguments:
        attr = argument.number_attr or argument.list_attr
        given = attrs.get(attr) if attr else 1
        counts.append(len(given) if type(given) is tuple else given if type(given) is int else None)
    rest = total - sum(count for count in counts if count is not None)
    unsettled = [a.number_attr or a.list_attr for a, count in zip(arguments, counts, strict=True) if count is None]
    if rest < 0 or len(set(unsettled)) > 1 or (unsettled and rest % len(unsettled)):
        return None
    return [rest // len(unsettled) if count is None else count for count in counts]
