"""Precision by types: bodies in float16 or bfloat16, float32 where that matters, casts where the two meet.

TensorRT 11 computes in the types that the file has. Softmax, norms, reductions and powers stay in float32, so do nodes
that read or make numbers outside float16's range, and inputs and outputs keep their types.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.backends.tensorrt.element_types import Types, element_types
from graphopt.backends.tensorrt.options import TensorRTOptions
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_tensor
from graphopt.ir.model import Model
from graphopt.ir.tensors import Tensor, tensor
from graphopt.ir.types import DTYPES, FLOAT32, DType, TensorType
from graphopt.ir.value import Node, Value

if TYPE_CHECKING:
    from graphopt.passes.quantize.statistics import Statistics

BODIES = {"fp16": DTYPES["float16"], "bf16": DTYPES["bfloat16"]}
LARGEST = 65504.0 / 2  # of float16, half of it kept for samples that were not seen
SMALL = 64  # elements up to which a constant must not become zero
PINNED = frozenset({
    "Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
    "LpNormalization", "MeanVarianceNormalization", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "CumSum", "Mod",
    "Sin", "Cos", "Softplus", "NonMaxSuppression", "GridSample", "RoiAlign", "Range", "If", "Loop", "Scan",
    "QuantizeLinear", "DequantizeLinear",
})  # fmt: skip
# What moves, chooses or compares elements: done in the type that they are in.
FOLLOWING = frozenset({
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Concat", "Split", "Gather", "GatherND", "GatherElements",
    "Pad", "Tile", "Expand", "Flatten", "Identity", "DepthToSpace", "SpaceToDepth", "Where", "ScatterND",
    "ScatterElements", "ReverseSequence", "Trilu", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "IsNaN", "IsInf", "ArgMax", "ArgMin", "TopK", "Cast", "Shape", "Size", "ReduceMax", "ReduceMin",
})  # fmt: skip
# What stays in float32 between nodes that do: a small number added to a variance, say.
BETWEEN = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Abs", "Max", "Min", "Clip"})
NO_BFLOAT16 = frozenset({"Einsum", "ConvTranspose"})  # not in ONNX, and not in TensorRT-RTX's builder
PARTS = frozenset({"Input", "Initializer"})
SOURCES = frozenset({"Input", "Initializer", "ConstantOfShape"})


def narrow(model: Model, options: TensorRTOptions) -> list[str]:
    """Let `model` compute in the precision that is asked for; what the user should know of it."""
    body = BODIES.get(options.precision)
    if options.precision in ("int8", "fp8"):
        from graphopt.backends.tensorrt.integers import quantize

        return quantize(model, options)
    if body is None:
        return []
    notes = []
    wide: dict[Value, None] = {}
    if options.precision == "fp16" and options.data is not None:
        from graphopt.backends.tensorrt.observing import observe

        wide = _leaving(model, observe(model, options))
        notes.append(f"{len(wide)} tensors leave float16's range on the samples; what makes or reads them is float32")
    elif options.precision == "fp16":
        notes.append("no samples were given: no scan for tensors that leave float16's range was made")
    types = element_types(model)
    counts = [0, 0]
    for graph in list(model.graphs):
        narrowing = _Narrowing(graph, body, types, wide, options.pinned)
        narrowing.run()
        counts = [counts[0] + narrowing.narrowed, counts[1] + narrowing.kept]
    notes.append(f"{counts[0]} nodes compute in {body.name}, {counts[1]} stay in float32")
    return notes


def _leaving(model: Model, statistics: Statistics) -> dict[Value, None]:
    """Values whose numbers come near the end of float16's range, or beyond."""
    found: dict[Value, None] = {}
    for node in model.graph:
        for value in node.outputs:
            seen = statistics.of(value)
            if seen is not None and not seen.is_empty and max(-seen.minimum, seen.maximum) > LARGEST:
                found[value] = None
    return found


class _Narrowing:
    """One graph. `narrow` and `full` say under which value a float32 value of the old graph is to be had."""

    def __init__(
        self, graph: Graph, body: DType, types: Types, wide: Collection[Value], pinned: Collection[str] = ()
    ) -> None:
        self.graph, self.body, self.types, self.wide, self.pinned = graph, body, types, wide, frozenset(pinned)
        self.narrow: dict[Value, Value] = {}
        self.full: dict[Value, Value] = {}
        self.narrowed = self.kept = 0

    def run(self) -> None:
        """Change the types of all nodes, and put casts between."""
        outputs = self.graph.outputs
        for node in self.graph.topological_order():
            if node.op_type not in PARTS:
                self._node(node)
        self.graph.outputs = [self._output(value) for value in outputs]
        for node in list(self.graph):
            if node.op_type == "Initializer" and not node.has_uses:
                self.graph.remove(node)

    def _is_float(self, value: Value | None) -> bool:
        return value is not None and self.types.get(value) is FLOAT32

    def _node(self, node: Node) -> None:
        read = [place for place in self._places(node) if self._is_float(node.inputs[place])]
        made = [value for value in node.outputs if self._is_float(value)]
        if not read and not made:
            return
        is_narrow = self._is_narrow(node, read, made)
        if node.op_type == "Cast":
            for place in read:
                value = node.input(place)
                node.replace_input(place, self.full.get(value) or self.narrow.get(value) or value)
        else:
            for place in read:
                node.replace_input(place, self._as(node.input(place), is_narrow, node))
        for value in made:
            (self.narrow if is_narrow else self.full)[value] = value
            if is_narrow:
                value.type = TensorType(self.body, value.shape)
        if is_narrow and node.op_type == "ConstantOfShape":
            held = node.attrs.get("value")
            array = held.numpy() if isinstance(held, Tensor) else np.zeros(1, np.float32)
            node.attrs["value"] = tensor(array.astype(self.body.numpy))
        if made:
            self.narrowed += is_narrow
            self.kept += not is_narrow

    def _places(self, node: Node) -> range:
        """Inputs whose type goes with the node's; scales and regions of a Resize stay what they are."""
        return range(1 if node.op_type == "Resize" else node.input_count)

    def _is_narrow(self, node: Node, read: list[int], made: list[Value]) -> bool:
        kind = node.op_type
        if kind in PINNED or not self.pinned.isdisjoint((node.name, *node.source_names)):
            return False
        if kind in NO_BFLOAT16 and self.body is BODIES["bf16"]:
            return False
        values = [node.input(place) for place in read]
        if any(value in self.wide for value in (*values, *made)):
            return False
        if any(not self._survives(value) for value in values):
            return False
        if kind == "Cast":
            return False
        computed = [value for value in values if known_tensor(value) is None]
        if kind in FOLLOWING:
            return not computed or any(value in self.narrow for value in computed)
        if kind == "Mul" and len(computed) == 2 and computed[0] is computed[1]:
            return False  # a square soon leaves the range
        if kind not in BETWEEN:
            return True
        is_full = computed and all(value in self.full and value.node.op_type in PINNED for value in computed)
        users = [user for value in made for user in value.users]
        return not (is_full and users and all(user.op_type in PINNED for user in users))

    def _survives(self, value: Value) -> bool:
        """A constant stays finite in the narrow type, and a small one what is not zero."""
        held = known_tensor(value)
        if held is None or self.body is BODIES["bf16"] or value in self.narrow:
            return True
        array = held.numpy()
        if array.size and float(np.max(np.abs(array))) > 2 * LARGEST:
            return False
        return array.size > SMALL or not bool(((array != 0) & (array.astype(np.float16) == 0)).any())

    def _as(self, value: Value, is_narrow: bool, user: Node) -> Value:
        """The value in the type that is wanted: what there is, a constant anew, or a cast of it."""
        known = (self.narrow if is_narrow else self.full).get(value)
        if known is not None:
            return known
        held = known_tensor(value)
        if held is not None and is_narrow:
            made = hold(self.graph, held.numpy().astype(self.body.numpy), name=f"{value.node.name}/{self.body.name}")
            self.narrow[value] = made
            return made
        if not is_narrow and value not in self.narrow:
            return value
        made = self._cast(self.full.get(value) or self.narrow.get(value) or value, is_narrow, user)
        (self.narrow if is_narrow else self.full)[value] = made
        return made

    def _cast(self, value: Value, is_narrow: bool, user: Node | None) -> Value:
        dtype = self.body if is_narrow else FLOAT32
        return self.graph.create_node(
            "onnx.Cast", (value,), {"to": dtype}, name=f"{value.node.name}/{dtype.name}", before=user,
            types=(TensorType(dtype, value.shape),), origins=value.node.source_names,
        ).output  # fmt: skip

    def _output(self, value: Value) -> Value:
        """An output keeps type and name."""
        if value not in self.narrow:
            return value
        name = value.name
        made = self.full.get(value) or self._cast(value, False, None)
        value.name = self.graph.unique_name(f"{name}/{self.body.name}")
        made.name = name
        return made


def casts(model: Model) -> int:
    """How many casts between floats the model has."""
    return sum(_is_float_cast(node) for graph in model.graphs for node in graph)


def _is_float_cast(node: Node) -> bool:
    to: Any = node.attrs.get("to")
    return node.op == "onnx.Cast" and isinstance(to, DType) and to.is_float and node.input(0).dtype.is_float
