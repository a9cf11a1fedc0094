"""Whether two models are the same, node by node: for round trips and for passes that must change nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef, SingleFloat
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model, Signature
from graphopt.ir.tensors import ArrayTensor, Tensor
from graphopt.ir.text.printer import print_node
from graphopt.ir.value import Node

LIMIT = 10
COMPARED_BYTES = 1 << 30  # beyond these two tensors must be stored in the same form to count as the same


class Strictness(NamedTuple):
    """What counts as a difference beyond operators, names, wiring, dtypes and attributes.

    Float tensors may differ by `rtol` of their largest element; 0 asks for the same bits.
    """

    order: bool = True
    origins: bool = True
    shapes: bool = True
    rtol: float = 0.0


STRICT = Strictness()


def assert_same_structure(before: Model | Graph, after: Model | Graph, strictness: Strictness = STRICT) -> None:
    """Raise `AssertionError` naming the first differences of two models, or of two graphs.

    Everything counts that the IR holds: nodes and their order, operators, inputs, control inputs, attributes bit for
    bit, types, devices, origins, inputs, outputs, targets, signatures and functions. Not counted: `metadata`, `extras`
    and the form that a tensor is stored in.
    """
    found = list(itertools.islice(differences(before, after, strictness), LIMIT))
    if found:
        raise AssertionError("the structure differs:\n  " + "\n  ".join(found))


def differences(before: Model | Graph, after: Model | Graph, strictness: Strictness = STRICT) -> Iterator[str]:
    """Sentences that say where `before` and `after` differ."""
    if isinstance(before, Model) and isinstance(after, Model):
        yield from _model_differences(before, after, strictness)
    elif isinstance(before, Graph) and isinstance(after, Graph):
        yield from _graph_differences(before, after, strictness)
    else:
        raise TypeError("a model is compared with a model, a graph with a graph")


def _model_differences(before: Model, after: Model, strictness: Strictness) -> Iterator[str]:
    yield from _unequal("versions", before.versions, after.versions)
    names = list(before.functions), list(after.functions)
    yield from _unequal("functions", *(names if strictness.order else map(sorted, names)))
    yield from _unequal("signatures", list(before.signatures), list(after.signatures))
    for name, signature in before.signatures.items():
        other = after.signatures.get(name)
        if other is not None:
            yield from _signature_differences(f"of signature '{name}'", signature, other)
    yield from _graph_differences(before.graph, after.graph, strictness)
    for name, function in before.functions.items():
        if name in after.functions:
            yield from _graph_differences(function, after.functions[name], strictness)


def _signature_differences(where: str, before: Signature, after: Signature) -> Iterator[str]:
    for field in ("inputs", "outputs"):
        yield from _unequal(f"{field} {where}", *(list(getattr(item, field).items()) for item in (before, after)))
    for field in ("method_name", "inferred", "reasons"):
        yield from _unequal(f"{field} {where}", getattr(before, field), getattr(after, field))
    yield from _unequal(f"graph {where}", before.graph.name, after.graph.name)
    yield from _attribute_differences(f"default {where}: ", before.defaults, after.defaults)


def _graph_differences(before: Graph, after: Graph, strictness: Strictness) -> Iterator[str]:
    where = f"graph '{before.name}': "
    yield from _unequal(where + "name", before.name, after.name)
    names = [node.name for node in before], [node.name for node in after]
    yield from _unequal(where + "nodes", *(names if strictness.order else map(sorted, names)))
    for what in ("inputs", "outputs", "targets"):
        listed = ([item.name for item in getattr(graph, what)] for graph in (before, after))
        yield from _unequal(where + what, *listed)
    if isinstance(before, Function) or isinstance(after, Function):
        yield from _function_differences(where, before, after)
    for node in before:
        other = after.find(node.name)
        if other is not None:
            yield from _node_differences(where, node, other, strictness)


def _function_differences(where: str, before: Graph, after: Graph) -> Iterator[str]:
    if not (isinstance(before, Function) and isinstance(after, Function)):
        yield f"{where}is a function in one of the two only"
        return
    for field in ("input_names", "output_names", "gradient"):
        yield from _unequal(where + field, getattr(before, field), getattr(after, field))
    outputs = [[(key, n.name) for key, n in graph.control_outputs.items()] for graph in (before, after)]
    yield from _unequal(where + "control outputs", *outputs)
    yield from _attribute_differences(where, before.attrs, after.attrs)


def _node_differences(where: str, before: Node, after: Node, strictness: Strictness) -> Iterator[str]:
    same = _plain_parts(before, strictness) == _plain_parts(after, strictness)
    attributes = list(_attribute_differences("", before.attrs, after.attrs, strictness.rtol))
    if not same or attributes:
        because = "" if not attributes or not same else f" ({attributes[0]})"
        yield f"{where}{print_node(before)}\n    became {print_node(after)}{because}"


def _plain_parts(node: Node, strictness: Strictness) -> tuple[Any, ...]:
    return (
        node.op,
        [None if v is None else (v.node.name, v.index) for v in node.inputs],
        [control.name for control in node.control_inputs],
        [(v.type if strictness.shapes else v.dtype, v.name) for v in node.outputs],
        node.device,
        node.origins if strictness.origins else (),
    )


def _unequal(what: str, before: Any, after: Any) -> Iterator[str]:
    if before != after:
        yield f"{what}: {before!r} became {after!r}"


def _attribute_differences(
    where: str, before: Mapping[str, Any], after: Mapping[str, Any], rtol: float = 0.0
) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        if name not in before or name not in after:
            yield f"{where}attribute '{name}' is {'gone' if name in before else 'new'}"
        elif not same_attribute(before[name], after[name], rtol):
            yield f"{where}attribute '{name}' differs"


def same_attribute(left: Any, right: Any, rtol: float = 0.0) -> bool:
    """Whether two attribute values are of one kind and equal; floats bit for bit, float tensors within `rtol`."""
    pending = [(left, right)]
    while pending:
        one, other = pending.pop()
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            if not same_tensor(one, other, rtol):
                return False
        elif isinstance(one, FunctionRef) and isinstance(other, FunctionRef):
            if one.name != other.name or dict.fromkeys(one.attrs) != dict.fromkeys(other.attrs):
                return False
            pending += ((value, other.attrs[key]) for key, value in one.attrs.items())
        elif _is_list(one) and _is_list(other):
            if len(one) != len(other):
                return False
            pending += zip(one, other, strict=True)
        elif isinstance(one, float) and isinstance(other, float):
            if not _same_float(one, other):
                return False
        elif type(one) is not type(other) or one != other:
            return False
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple) and not isinstance(value, (FunctionRef, AttributePlaceholder))


def _same_float(one: float, other: float) -> bool:
    if one != one and other != other:
        bits: Sequence[Any] = [value.bits if isinstance(value, SingleFloat) else None for value in (one, other)]
        return bits[0] == bits[1] or None in bits
    return repr(float(one)) == repr(float(other))


def same_tensor(one: Tensor, other: Tensor, rtol: float = 0.0) -> bool:
    """Whether two tensors have one dtype, one shape and the same bits, however they are stored.

    With `rtol`, elements of float tensors may differ by that part of the largest finite one.
    """
    if one is other:
        return True
    if one.dtype is not other.dtype or one.shape != other.shape or one.dtype.numpy is None:
        return False
    if one.fingerprint() == other.fingerprint():
        return True
    if max(one.nbytes, other.nbytes) > COMPARED_BYTES:
        return False
    if ArrayTensor(one.numpy(), one.dtype).fingerprint() == ArrayTensor(other.numpy(), one.dtype).fingerprint():
        return True
    if not rtol or not one.dtype.is_float:
        return False
    left, right = (held.numpy().astype(np.float64) for held in (one, other))
    largest = float(np.abs(left[np.isfinite(left)]).max(initial=0.0))
    return np.allclose(left, right, rtol=0.0, atol=rtol * largest, equal_nan=True)
