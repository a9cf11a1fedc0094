"""widen-types: operators of ONNX for whose element type ONNX Runtime has no kernel compute in one that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_array
from graphopt.ir.ops.onnxruntime_kernels import Kernels, kernels_of
from graphopt.ir.types import DTYPES, DType, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness, Pass, PassContext

# Types to compute in instead, in the order in which they are tried. Integers wrap alike once they are narrowed again.
WIDER: Mapping[str, tuple[str, ...]] = {
    "float16": ("float32",), "bfloat16": ("float32",), "float64": ("float32",), "int8": ("int32", "int64", "float32"),
    "uint8": ("int32", "int64", "float32"), "int16": ("int32", "int64", "float32"),
    "uint16": ("int32", "int64", "float32"), "int32": ("int64", "float32"), "uint32": ("int64", "float32"),
    "int64": ("float32",), "bool": ("uint8", "int32", "int64", "float32"),
}  # fmt: skip
# Operators of integers that keep whole numbers whole in float32 too: they move or compare elements.
MOVING = frozenset({"MaxPool", "Resize", "DepthToSpace", "SpaceToDepth", "ConstantOfShape", "Conv", "Trilu", "EyeLike"})
SMALL = 1 << 16  # bytes of constants that are cast here and now


@dataclass(frozen=True)
class WidenTypes(Pass):
    """Let operators without a kernel for their element type in ONNX Runtime compute in a wider one, between casts.

    *Given*

        %y = onnx.ReduceSum(%x, %axes) {keepdims = 0}

    *Result*

        %w = onnx.Cast(%x) {to = dtype int32}
        %s = onnx.ReduceSum(%w, %axes) {keepdims = 0}
        %y = onnx.Cast(%s) {to = dtype int16}

    Types of 16 bits become float32 or int32, those of 64 bits float32 where nothing else has a kernel.

    Refuses operators that have a kernel in no type.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Widen one graph."""
        for node in list(graph):
            kernels = kernels_of(node.op_type) if node.dialect == "onnx" else None
            if kernels is None:
                continue
            types = kernels.types(node)
            if kernels.takes(types):
                continue
            wider = _wider(kernels, types, node.op_type)
            if wider is None:
                names = ", ".join(dtype.name for dtype in types.values())
                context.refused(self.name, node, f"ONNX Runtime has no kernel of {node.op_type} for {names}")
            elif context.allows(self.name, self.exactness):
                _widen(graph, node, kernels, {letter: new for letter, new in wider.items() if new is not types[letter]})
                context.rewrote(self.name, removed=(node,), added=(node,))


def _wider(kernels: Kernels, types: Mapping[str, DType], op_type: str) -> dict[str, DType] | None:
    """The first types, as near as can be to those given, for which there is a kernel."""
    choices = [(dtype, *(DTYPES[name] for name in _candidates(dtype, op_type))) for dtype in types.values()]
    ranked = sorted(product(*map(range, map(len, choices))), key=sum)
    for places in ranked:
        made = {letter: choice[at] for letter, choice, at in zip(types, choices, places, strict=True)}
        if kernels.takes(made):
            return made
    return None


def _candidates(dtype: DType, op_type: str) -> tuple[str, ...]:
    """Wider types; integers of 32 bits and more become floats only where they are moved."""
    names = WIDER.get(dtype.name, ())
    if dtype.name in ("int32", "int64", "uint32") and op_type not in MOVING:
        return tuple(name for name in names if name != "float32")
    return names


def _widen(graph: Graph, node: Node, kernels: Kernels, wider: Mapping[str, DType]) -> None:
    inputs, outputs = kernels.letters(node)
    for place, letter in enumerate(inputs):
        value = node.inputs[place]
        if value is not None and letter in wider:
            node.replace_input(place, _cast(graph, value, wider[letter], node))
    following = node._next
    for value, letter in zip(node.outputs, outputs, strict=False):
        if letter in wider:
            _narrow(graph, value, wider[letter], following)


def _cast(graph: Graph, value: Value, dtype: DType, before: Node) -> Value:
    held = known_array(value, limit=SMALL)
    name = f"{value.node.name}/{dtype.name}"
    if held is not None:
        return hold(graph, held.astype(dtype.numpy), name=name, before=before)
    kind = TensorType(dtype, value.shape)
    return graph.create_node(
        "onnx.Cast", (value,), {"to": dtype}, name=name, types=(kind,), before=before, origins=before.source_names
    ).output


def _narrow(graph: Graph, value: Value, dtype: DType, before: Node | None) -> None:
    """Whatever reads `value`, which is of another type now, reads it cast back; so does the outside, by its name."""
    own, node = value.type, value.node
    made = graph.create_node(
        "onnx.Cast", (value,), {"to": own.dtype}, name=f"{node.name}/{own.dtype.name}", types=(own,), before=before,
        origins=node.source_names,
    )  # fmt: skip
    for user, place in list(value.uses):
        if user is not made:
            user.replace_input(place, made.output)
    value.type = TensorType(dtype, value.shape)
    if value.is_output:
        name = value.name
        graph.outputs = [made.output if each is value else each for each in graph.outputs]
        value.name = f"{name}/{dtype.name}"
        made.output.name = name
