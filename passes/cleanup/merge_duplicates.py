"""merge-duplicates: compute equal things once."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.graph import Graph
from graphopt.ir.known import CONSTANTS
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import STRING, DType, Shape
from graphopt.ir.value import Node
from graphopt.passes.base import Pass, PassContext

NEVER = Trait.STATEFUL | Trait.RANDOM | Trait.SOURCE | Trait.CONTROL_FLOW
SAMPLE = 64  # bytes at each end of a tensor that are compared before all of it is


@dataclass(frozen=True)
class MergeDuplicates(Pass):
    """Let one node stand for all that have the same operator, inputs, attributes, device and control inputs.

    *Given*

        %a = tf.Add(%x, %w)
        %b = tf.Add(%w, %x)
        %y = tf.Mul(%a, %b)

    *Result*

        %a = tf.Add(%x, %w)
        %y = tf.Mul(%a, %a)

    The operands of commutative operators may come in either order, and constants are equal when their bytes are.
    `constants` off leaves constants alone. An input of the graph is never merged, an output stays under its own name;
    with `outputs` off, outputs and targets take no part at all.

    Refuses stateful and random operators, v1 control flow, and nodes that read references.
    """

    constants: bool = True
    outputs: bool = True

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Merge within one graph, in one sweep in topological order."""
        seen: dict[Any, Node] = {}
        origins: dict[Node, dict[str, None]] = {}  # gathered, for a node may stand for any number of others
        constants = Constants(graph) if self.constants else None
        for node in graph.topological_order():
            key = self._key(node, constants)
            if key is None or not (self.outputs or is_internal(node)):
                continue
            first = seen.setdefault(key, node)
            if first is node or not context.allows(self.name):
                continue
            if self._merge(graph, node, first, context):
                origins.setdefault(first, dict.fromkeys(first.source_names)).update(dict.fromkeys(node.source_names))
        for first, names in origins.items():
            first.origins = tuple(names)

    def _merge(self, graph: Graph, node: Node, first: Node, context: PassContext) -> bool:
        """Let `first` stand for `node`; whether nothing is left of that."""
        used = node.control_users or any(value.use_count for value in node.outputs)
        for value, other in zip(node.outputs, first.outputs, strict=True):
            value.replace_all_uses_with(other)
        for user in node.control_users:
            user.remove_control_input(node)
            if user is not first:
                user.add_control_input(first)
        if node.has_uses:
            if used:
                context.refused(self.name, node, "it is an output or target of the graph and keeps its name")
                context.rewrote(self.name)
            return False
        context.rewrote(self.name, removed=(node,))
        graph.remove(node)
        return True

    def _key(self, node: Node, constants: Constants | None) -> Any | None:
        traits = traits_of(node.op)
        if traits & NEVER:
            return None
        for value in node.outputs:
            if value.is_input:
                return None
        if node.op in CONSTANTS:
            held = None if constants is None else constants.key(node)
            return None if held is None else (node.op, held, node.device, control_key(node), quantization_key(node))
        for source in node._inputs:
            if source is not None and source.type.dtype.code > 100:
                return None  # reads a reference at a moment of its own
        inputs = tuple([id(value) for value in node._inputs])
        if len(inputs) == 2 and inputs[0] > inputs[1] and commutes(node, traits):
            inputs = (inputs[1], inputs[0])
        if not node.outputs:
            return None
        results = quantization_key(node) if node.op.startswith("tfl.") else len(node.outputs)
        return (node.op, inputs, attribute_key(node.attrs), node.device, control_key(node), results)


def is_internal(node: Node) -> bool:
    """`node` is neither an output nor a target of its graph."""
    if node.graph is not None and node in node.graph._targets:
        return False
    return not any(value.is_output for value in node.outputs)


def commutes(node: Node, traits: Trait) -> bool:
    """The two operands may be swapped; a sum of strings, which joins them, does not."""
    first = node._inputs[0]
    return bool(traits & Trait.COMMUTATIVE) and first is not None and first.type.dtype is not STRING


def control_key(node: Node) -> frozenset[int] | None:
    """Control inputs, in no order."""
    return frozenset(id(control) for control in node._control_inputs) if node._control_inputs else None


def quantization_key(node: Node) -> tuple[Any, ...]:
    """What the integers of each output stand for, which TFLite says of tensors and not of operators."""
    return tuple((value.type.dtype.code, value.type.quantization) for value in node.outputs)


_REMARKS = frozenset({"_output_shapes", "_class"})  # what is known of a result, and next to which node to compute it
_PLAIN = frozenset({DType, bytes, int, bool, Shape})


def attribute_key(attrs: dict[str, Any]) -> Any:
    """A key equal for equal attributes of one operator, whose attributes have the same kinds everywhere."""
    if not _REMARKS.isdisjoint(attrs):
        attrs = {name: value for name, value in attrs.items() if name not in _REMARKS}
    if _PLAIN.issuperset(map(type, attrs.values())):
        return frozenset(attrs.items())
    return frozenset((name, value_key(value)) for name, value in attrs.items())


def value_key(value: Any) -> Any:
    """A key that tells apart attribute values which Python takes for equal: 1, 1.0 and True; 0.0 and -0.0."""
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, (bool, int)):
        return (type(value).__name__, value)
    if isinstance(value, Tensor):
        return value.fingerprint() if value.dtype.numpy is not None else id(value)
    if isinstance(value, FunctionRef):
        return (value.name, tuple((key, value_key(item)) for key, item in sorted(value.attrs.items())))
    if type(value) is tuple:
        return tuple(value_key(item) for item in value)
    return value


class Constants:
    """Keys of a graph's constants. A tensor is read whole only if another has its type, shape and sample of bytes."""

    def __init__(self, graph: Graph) -> None:
        self._samples: dict[Node, Any] = {}
        counts: dict[Any, int] = {}
        for node in graph:
            held = node.attrs.get("value") if node.op in CONSTANTS else None
            if isinstance(held, Tensor) and held.dtype.numpy is not None:
                sample = self._samples[node] = sample_of(held)
                counts[sample] = counts.get(sample, 0) + 1
        self._repeated = {sample for sample, count in counts.items() if count > 1}

    def key(self, node: Node) -> Any | None:
        """A key equal for constants of equal bytes, None where there is no equal one."""
        sample = self._samples.get(node)
        if sample is None or sample not in self._repeated:
            return None
        held = node.attrs["value"]
        return sample if is_whole(sample) else (sample, held.fingerprint())


def sample_of(held: Tensor) -> tuple[Any, ...]:
    """Type, shape and the bytes at both ends of a tensor, without reading what lies between."""
    kind = (held.dtype.code, held.shape)
    if held.size == 0:
        return (*kind, b"")
    if held.dtype is STRING or held.nbytes > max(held.stored_bytes, 2 * SAMPLE):
        return kind
    flat = held.numpy().reshape(-1)
    count = max(1, SAMPLE // max(1, flat.itemsize))
    if flat.size <= 2 * count:
        return (*kind, np.ascontiguousarray(flat).tobytes())
    return (*kind, flat[:count].tobytes(), flat[-count:].tobytes())


def is_whole(sample: tuple[Any, ...]) -> bool:
    """The sample holds all bytes of its tensor."""
    return len(sample) == 3
