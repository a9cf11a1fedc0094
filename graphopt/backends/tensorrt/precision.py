"""Precision by types: bodies in float16 or bfloat16, float32 where that matters, casts where the two meet.

TensorRT 11 computes in the types that the file has. Softmax, norms, reductions and powers stay in float32, so do nodes
that read or make numbers outside float16's range, and inputs and outputs keep their types.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from graphopt.backends.observed import Observed
from graphopt.backends.tensorrt.channel_means import ChannelMeans
from graphopt.backends.tensorrt.element_types import Types, element_types
from graphopt.backends.tensorrt.layers import LAYERS, channel_axis
from graphopt.backends.tensorrt.observing import Calibrated
from graphopt.backends.tensorrt.options import TensorRTOptions
from graphopt.backends.tensorrt.outcome import Outcome
from graphopt.backends.tensorrt.rounding import Array, round_to_floats
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold, known_array, known_tensor
from graphopt.ir.model import Function, Model
from graphopt.ir.tensors import Tensor, tensor
from graphopt.ir.types import DTYPES, FLOAT32, DType, TensorType
from graphopt.ir.value import Node, Value

BODIES = {"fp16": DTYPES["float16"], "bf16": DTYPES["bfloat16"]}
LARGEST = 65504.0 / 2  # of float16, half of it kept for samples that were not seen
SHOWN = 5  # tensors that leave the range, in notes; the report has them all
SMALL = 64  # elements up to which a constant must not become zero
PINNED = frozenset({
    "Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
    "LpNormalization", "MeanVarianceNormalization", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "CumSum", "Mod",
    "Sin", "Cos", "Softplus", "NonMaxSuppression", "GridSample", "RoiAlign", "Range", "If", "Loop", "Scan",
})  # fmt: skip
# What moves, chooses, cuts off or compares elements: done in the type that they are in.
FOLLOWING = frozenset({
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Concat", "Split", "Gather", "GatherND", "GatherElements",
    "Pad", "Tile", "Expand", "Flatten", "Identity", "DepthToSpace", "SpaceToDepth", "Where", "ScatterND",
    "ScatterElements", "ReverseSequence", "Trilu", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "IsNaN", "IsInf", "ArgMax", "ArgMin", "TopK", "Cast", "Shape", "Size", "ReduceMax", "ReduceMin",
    "Relu", "Clip", "LeakyRelu", "MaxPool", "GlobalMaxPool",
})  # fmt: skip
# What stays in float32 between nodes that do: a small number added to a variance, say.
BETWEEN = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Abs", "Max", "Min", "Clip"})
MOST_COLORS = 4  # channels of images
NO_BFLOAT16 = frozenset({"Einsum", "ConvTranspose"})  # not in ONNX, and not in TensorRT-RTX's builder
PARTS = frozenset({"Input", "Initializer"})
SOURCES = frozenset({"Input", "Initializer", "ConstantOfShape"})


def narrow(model: Model, options: TensorRTOptions, known: Calibrated, early: Collection[str] = ()) -> Outcome:
    """Let `model` compute in the body that is asked for, in place; nodes called as in `early` stay in float32."""
    body = BODIES[options.body]
    outcome = Outcome()
    wide: dict[Value, float] = {}
    if options.body == "fp16" and known.observed is not None:
        wide = _leaving(model, known.observed)
        outcome.overflow = [_described(value, largest) for value, largest in wide.items()]
        outcome.notes += _overflow_notes(outcome.overflow)
    elif options.body == "fp16":
        outcome.notes.append("no samples were given: no scan for tensors that leave float16's range was made")
    types = element_types(model)
    narrowed = 0
    for graph in list(model.graphs):
        narrowing = _Narrowing(graph, body, types, wide, options.pinned, early, known.means)
        narrowing.run()
        narrowed += narrowing.narrowed
        outcome.reasons |= narrowing.reasons
    outcome.notes.append(f"{narrowed} nodes compute in {body.name}, {len(outcome.reasons)} stay in float32")
    return outcome


def _leaving(model: Model, seen: Observed) -> dict[Value, float]:
    """Values whose numbers come near the end of float16's range, or beyond, with the largest."""
    found: dict[Value, float] = {}
    for node in model.graph:
        for value in node.outputs:
            held = seen.of(value)
            if held is None:
                continue
            largest = max(-held.minimum, held.maximum) if not held.is_empty else 0.0
            if largest > LARGEST or held.infinities:
                found[value] = math.inf if held.infinities else largest
    return found


def _described(value: Value, largest: float) -> dict[str, Any]:
    shown = largest if math.isfinite(largest) else "infinite"
    return {"tensor": value.name, "origins": list(value.node.source_names), "largest": shown}


def _overflow_notes(overflow: list[dict[str, Any]]) -> list[str]:
    what = "what makes or reads them stays in float32"
    notes = [f"{len(overflow)} tensors leave float16's range on the samples; {what}"]
    worst = sorted(overflow, key=lambda item: math.inf if isinstance(item["largest"], str) else item["largest"])
    for item in worst[: -1 - SHOWN : -1]:
        largest = item["largest"] if isinstance(item["largest"], str) else f"{item['largest']:.4g}"
        notes.append(f"'{printable(item['tensor'])}' reaches {largest}; float16 ends at 65504, half of it is kept free")
    return notes


class _Narrowing:
    """One graph. `narrow` and `full` say under which value a float32 value of the old graph is to be had."""

    def __init__(
        self, graph: Graph, body: DType, types: Types, wide: Collection[Value], pinned: Collection[str],
        early: Collection[str], means: ChannelMeans | None,
    ) -> None:  # fmt: skip
        self.early, self.means = early, means
        self.graph, self.body, self.types, self.wide, self.pinned = graph, body, types, wide, frozenset(pinned)
        self.narrow: dict[Value, Value] = {}
        self.full: dict[Value, Value] = {}
        self.fed: dict[Value, None] = {}
        self.first: dict[Value, None] = {}
        self.ranked: dict[Node, None] = {}
        self.reasons: dict[str, str] = {}
        self.narrowed = 0

    def run(self) -> None:
        """Change the types of all nodes, and put casts between."""
        outputs = self.graph.outputs
        self.ranked = _ranked(self.graph)
        self.fed = dict.fromkeys(() if isinstance(self.graph, Function) else self.graph.inputs)
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
        reason = self._reason(node, read, made)
        is_narrow = reason is None
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
            if reason is not None:
                self.reasons[node.name] = reason

    def _places(self, node: Node) -> range:
        """Inputs whose type goes with the node's; scales and regions of a Resize stay what they are."""
        return range(1 if node.op_type == "Resize" else node.input_count)

    def _reason(self, node: Node, read: list[int], made: list[Value]) -> str | None:
        """Why the node stays in float32; None where it does not."""
        kind = node.op_type
        values = [node.input(place) for place in read]
        if kind in PINNED:
            return "what it computes needs float32's range or precision"
        if not self.pinned.isdisjoint((node.name, *node.source_names)):
            return "it is pinned by its name"
        if node in self.ranked:
            return "boxes are suppressed by what it computes, and float16 makes equals of scores that are not"
        if node.name in self.early:
            return "errors made here grow on the way: on the samples they would leave the bound"
        if kind in NO_BFLOAT16 and self.body is BODIES["bf16"]:
            return "there is no such operator in bfloat16"
        if any(value in self.wide for value in (*values, *made)):
            return "it reads or makes numbers that leave float16's range on the samples"
        if any(not self._survives(value) for value in values):
            return f"a constant of it has no form in {self.body.name}"
        if kind == "Cast":
            return "it goes to or from another type"
        computed = [value for value in values if known_tensor(value) is None]
        if (kind in FOLLOWING or kind in BETWEEN) and computed and all(value in self.fed for value in computed):
            self.fed.update(dict.fromkeys(made))
            return "it prepares what is fed, and errors made there are in all that follows"
        if kind == "Conv" and computed and self._is_first(node, computed[0]):
            self.first.update(dict.fromkeys(made))
            return "it reads images as they are fed, and errors made there are in all that follows"
        if kind in FOLLOWING:
            if computed and computed[0] in self.first:
                self.first.update(dict.fromkeys(made))
            follows = not computed or any(value in self.narrow for value in computed)
            return None if follows else "what it moves is float32"
        if kind == "Mul" and len(computed) == 2 and computed[0] is computed[1]:
            return "a square soon leaves the range"
        return self._between(made, computed) if kind in BETWEEN else None

    def _is_first(self, node: Node, value: Value) -> bool:
        """The first convolution on images, or a depthwise one directly behind it: little to compute, much to lose."""
        if value in self.first:
            return int(node.attrs.get("group", 1)) > 1
        return value in self.fed and _reads_images(node)

    def _between(self, made: list[Value], computed: list[Value]) -> str | None:
        is_full = computed and all(value in self.full and value.node.op_type in PINNED for value in computed)
        users = [user for value in made for user in value.users]
        if is_full and users and all(user.op_type in PINNED for user in users):
            return "it stands between nodes in float32"
        return None

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
            made = hold(self.graph, self._constant(held, user), name=f"{value.node.name}/{self.body.name}")
            self.narrow[value] = made
            return made
        if not is_narrow and value not in self.narrow:
            return value
        made = self._cast(self.full.get(value) or self.narrow.get(value) or value, is_narrow, user)
        (self.narrow if is_narrow else self.full)[value] = made
        return made

    def _constant(self, held: Tensor, user: Node) -> Array:
        array = held.numpy()
        if user.op_type not in LAYERS or array.ndim < 2:
            return array.astype(self.body.numpy)
        means = None if self.means is None else self.means.of(user, array.shape)
        axis, missing = channel_axis(user, array.ndim), None
        bias = known_array(user.inputs[2]) if means is not None and user.input_count > 2 else None
        if bias is not None and bias.shape == (array.shape[axis],):
            missing = bias - bias.astype(self.body.numpy).astype(np.float32)
        return round_to_floats(array, np.dtype(self.body.numpy), axis, means, missing)

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


def _ranked(graph: Graph) -> dict[Node, None]:
    """What boxes are suppressed by, from the last layers on."""
    found: dict[Node, None] = {}
    pending = [value.node for node in graph if node.op_type == "NonMaxSuppression" for value in node.inputs if value]
    while pending:
        node = pending.pop()
        if node in found or node.op_type in PARTS:
            continue
        found[node] = None
        if node.op_type not in LAYERS:
            pending += [value.node for value in node.inputs if value is not None]
    return found


def _reads_images(node: Node) -> bool:
    dims = node.input(0).shape.dims
    return dims is not None and len(dims) == 4 and isinstance(dims[1], int) and dims[1] <= MOST_COLORS


def casts(model: Model) -> int:
    """How many casts between floats the model has."""
    return sum(_is_float_cast(node) for graph in model.graphs for node in graph)


def _is_float_cast(node: Node) -> bool:
    to: Any = node.attrs.get("to")
    return node.op == "onnx.Cast" and isinstance(to, DType) and to.is_float and node.input(0).dtype.is_float
