"""The plan: how each operator will compute and store its weights, and why, before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graphopt.ir.graph import Graph
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model, callees
from graphopt.ir.types import FLOAT16, FLOAT32, INT8, INT16, INT32, INT64, DType, Quantization, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.delegates import Delegate
from graphopt.passes.quantize.islands import islands
from graphopt.passes.quantize.kernels import HYBRID, KERNELS, PER_TENSOR, RECURRENT, STORED
from graphopt.passes.quantize.matching import RecipeMatcher
from graphopt.passes.quantize.recipe import OperatorRecipe, Recipe
from graphopt.passes.quantize.scales import activations
from graphopt.passes.quantize.schemes import INT4_WEIGHT, INT8_ACTIVATION, INT8_WEIGHT, INT16_ACTIVATION, Scheme
from graphopt.passes.quantize.weights import WeightSpec

Types = tuple[TensorType | None, ...]
Supports = Callable[[str, Types, Types, Mapping[str, Any]], str | None]
"""What a target's kernel (`CONV_2D`) says of types: None if it takes them, the reason otherwise."""
PASSIVE = frozenset({"tfl.CONSTANT", "tfl.INPUT", "tfl.VARIABLE", "tfl.TENSOR", "tfl.QUANTIZE", "tfl.DEQUANTIZE"})
_SOME = Quantization((1.0,), (0,))  # kernels ask whether there is one
_SOME_CHANNELS = Quantization((1.0, 1.0), (0, 0), 0)
TABLES = frozenset({"tfl.GATHER"})  # operators that only look things up in their weights
ROWS = TABLES | {"tfl.EMBEDDING_LOOKUP"}
SYMMETRIC_INT8 = Scheme(INT8, symmetric=True, narrow=False)


class Decision(NamedTuple):
    """What becomes of one operator: the mode that applies, how weights are stored by input, and why."""

    mode: str
    reason: str
    recipe: OperatorRecipe
    activation: Scheme | None = None
    weights: Mapping[int, WeightSpec] = {}

    @property
    def compute(self) -> str:
        """The type the operator computes in."""
        if self.activation is not None:
            return self.activation.dtype.name
        return "int8 on the fly" if self.mode == "dynamic" else "float32"

    @property
    def storage(self) -> str:
        """The types of stored weights, empty where there are none."""
        if self.mode == "float16":
            return "float16"
        return ", ".join(dict.fromkeys(spec.scheme.dtype.name for spec in self.weights.values()))


@dataclass
class Plan:
    """A decision for each operator of a model, in order."""

    decisions: dict[Node, Decision] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def rows(self) -> Iterator[dict[str, str]]:
        """For people: one row an operator."""
        for node, decision in self.decisions.items():
            yield {
                "node": node.name, "operator": node.op_type, "graph": node.graph.name if node.graph else "",
                "compute": decision.compute, "storage": decision.storage, "reason": decision.reason,
            }  # fmt: skip

    def demote(self, node: Node, reason: str) -> None:
        """Leave `node` a float operator after all."""
        self.decisions[node] = Decision("float", reason, self.decisions[node].recipe)


def make_plan(model: Model, recipe: Recipe, supports: Supports, delegate: Delegate | None = None) -> Plan:
    """Decide for every operator of a TFLite model. What a kernel cannot do is left float, and the reason says so.

    `delegate` is what the target computes most with: unless the recipe says otherwise, what it takes with floats alone
    computes in floats. Raises `UsageError` where the recipe names a signature that the model does not have.
    """
    matcher = RecipeMatcher(recipe, model)
    plan = Plan()
    chosen = delegate if recipe.islands else None
    loops = {name for graph in model.graphs for node in graph if node.op == "tfl.WHILE" for name in callees(node)}
    ends = [model.graph, *(signature.graph for signature in model.signatures.values())]
    for graph in model.graphs:
        decisions = {node: decide(node, matcher.for_node(node), supports, chosen) for node in graph if _acts(node)}
        if chosen is not None and graph.name in loops:
            _keep_steps(decisions)
        plan.decisions.update(decisions)
        if chosen is not None:
            for node, reason in _islands(recipe, decisions, chosen).items():
                stored = _stored(node, decisions[node].recipe) if node.op in TABLES else None
                if stored is not None and stored.weights:
                    plan.decisions[node] = stored
                else:
                    plan.demote(node, reason)
            if recipe.output_type == "float32" and graph in ends:
                _yield_floats(graph, plan.decisions)
    return plan


def _acts(node: Node) -> bool:
    return node.op not in PASSIVE


def _keep_steps(decisions: dict[Node, Decision]) -> None:
    """Steps of a recurrent layer: its dense layers alone are worth converting for, and they do so themselves."""
    static = {node: item for node, item in decisions.items() if item.activation is INT8_ACTIVATION}
    if any(item.weights and node.op != "tfl.FULLY_CONNECTED" for node, item in static.items()):
        return
    for node, item in static.items():
        if item.weights:
            reason = "integer weights, activations quantized on the fly: a loop would convert them at every step"
            decisions[node] = Decision("dynamic", reason, item.recipe, None, item.weights)
        else:
            decisions[node] = Decision("float", "in a loop, where converting at every step costs more", item.recipe)


def _yield_floats(graph: Graph, decisions: dict[Node, Decision]) -> None:
    """Dense layers at the end of a model yield floats: one scale for all outputs would round them once more."""
    for node in dict.fromkeys(value.node for value in graph.outputs):
        item = decisions.get(node)
        if item is None or item.activation is not INT8_ACTIVATION or node.op != "tfl.FULLY_CONNECTED":
            continue
        before = decisions.get(node.input(0).node)
        if not node.output.use_count and before is not None and before.activation is INT8_ACTIVATION:
            reason = "integer weights, activations quantized on the fly: what it yields are the model's floats"
            decisions[node] = Decision("dynamic", reason, item.recipe, None, item.weights)


def _islands(recipe: Recipe, decisions: Mapping[Node, Decision], delegate: Delegate) -> dict[Node, str]:
    candidates = {node: bool(item.weights) for node, item in decisions.items() if item.activation is INT8_ACTIVATION}
    ends = recipe.input_type != "float32", recipe.output_type != "float32"
    return islands(candidates, delegate, ends)


def decide(node: Node, recipe: OperatorRecipe, supports: Supports, delegate: Delegate | None = None) -> Decision:
    """What becomes of one operator."""
    if recipe.mode == "float":
        return Decision("float", "the recipe keeps it float", recipe)
    if recipe.mode == "float16":
        found = _half(node, recipe)
    elif recipe.is_static:
        found = _static(node, recipe, supports)
    else:
        found = _stored(node, recipe, delegate)
    reason = None if found.activation is not None else _refusal(node, found, supports)
    return found if reason is None else Decision("float", reason, recipe)


def _refusal(node: Node, decision: Decision, supports: Supports) -> str | None:
    """Why no kernel of the target takes weights that are stored so."""
    stored: dict[int, TensorType] = {}
    for index, spec in decision.weights.items():
        shape, axis = node.input(index).shape, None if spec.axis == PER_TENSOR else spec.axis
        stored[index] = TensorType(
            spec.scheme.dtype, shape, _SOME if axis is None else _SOME_CHANNELS._replace(axis=axis)
        )
    if decision.mode == "float16":
        stored[0] = TensorType(FLOAT16, Shape(()))
    if decision.mode == "dynamic" or (node.op in TABLES and decision.weights):
        held, outputs = types_around(node)
        inputs = tuple(stored.get(index, type) for index, type in enumerate(held))
        if node.op in TABLES:
            outputs = (TensorType(stored[0].dtype, node.output.shape, _SOME),)
        return supports(node.op_type, inputs, outputs, node.attrs)
    for type in stored.values():
        reason = supports("DEQUANTIZE", (type,), (TensorType(FLOAT32, type.shape),), {})
        if reason is not None:
            return reason
    return None


def _half(node: Node, recipe: OperatorRecipe) -> Decision:
    if any(value is not None and value.type.quantization is not None for value in node.inputs):
        return Decision("float", "it is quantized already", recipe)
    if any(_is_weight(node, index, recipe.minimum_elements) for index in range(node.input_count)):
        return Decision("float16", "weights in half precision, computed in float", recipe)
    return Decision("float", "it has no weights", recipe)


def _stored(node: Node, recipe: OperatorRecipe, delegate: Delegate | None = None) -> Decision:
    """Integer weights beside float activations."""
    is_dynamic = recipe.mode != "weight-only"
    reason = "integer weights, computed in float"
    if is_dynamic and node.op not in HYBRID:
        reason, is_dynamic = f"{reason}: no kernel takes them beside float activations", False
    places = HYBRID[node.op] if is_dynamic else _weight_places(node)
    if not places:
        return Decision("float", "it has no weights", recipe)
    specs = {
        index: _weight_spec(node, index, axis, recipe)
        for index, axis in places.items()
        if index < node.input_count and _is_weight(node, index, recipe.minimum_elements)
    }
    if not specs:
        least = f" of at least {recipe.minimum_elements} elements" if recipe.minimum_elements else ""
        return Decision("float", f"it has no constant weights{least}", recipe)
    if node.op in RECURRENT:  # whose weights are of one type
        specs = {index: _weight_spec(node, index, axis, recipe) for index, axis in places.items() if _has(node, index)}
        if any(not _is_weight(node, index, 0) for index in specs):
            return Decision("float", "some of its weights are no constants", recipe)
    if node.op in TABLES:
        return Decision(
            "weight-only", "an integer table, of which what is looked up becomes floats", recipe, None, specs
        )
    if any(spec.block_size for spec in specs.values()):  # DEQUANTIZE knows no blocks
        return Decision("dynamic", "blocks of integer weights, activations quantized on the fly", recipe, None, specs)
    if not is_dynamic:
        return Decision("weight-only", reason, recipe, None, specs)
    if delegate is not None and delegate.leaves_hybrid(node):
        reason += f": {delegate.name} takes no {node.op_type} with int8 weights alone"
        return Decision("weight-only", reason, recipe, None, specs)
    return Decision("dynamic", "integer weights, activations quantized on the fly", recipe, None, specs)


def types_around(node: Node) -> tuple[Types, Types]:
    """Types of what a node reads and yields."""
    inputs = tuple(None if value is None else value.type for value in node.inputs)
    return inputs, tuple(value.type for value in node.outputs)


def _has(node: Node, index: int) -> bool:
    return index < node.input_count and node.inputs[index] is not None


def _weight_places(node: Node) -> Mapping[int, int]:
    kernel = KERNELS.get(node.op)
    return (kernel.weights if kernel is not None else {}) or HYBRID.get(node.op) or STORED.get(node.op, {})


def _static(node: Node, recipe: OperatorRecipe, supports: Supports) -> Decision:
    kernel = KERNELS.get(node.op)
    if not any(value.dtype is FLOAT32 for value in (*node.outputs, *node.inputs) if value is not None):
        return Decision("float", "it computes no floats", recipe)
    if kernel is None:
        stored = _stored(node, recipe) if node.op in HYBRID or node.op in STORED else None
        if stored is not None and stored.weights:
            return stored
        return Decision("float", f"{node.op_type} has no integer kernel", recipe)
    wide = recipe.mode == "int16x8"
    scheme = INT16_ACTIVATION if wide else SYMMETRIC_INT8 if recipe.symmetric else INT8_ACTIVATION
    if scheme.dtype in kernel.lacks:
        return Decision("float", kernel.lacks[scheme.dtype], recipe)
    specs = {}
    for index, axis in kernel.weights.items():
        value = node.inputs[index] if index < node.input_count else None
        if value is None or known_tensor(value) is None:
            if kernel.bias is not None:
                return Decision("float", f"its weights '{value.name if value else index}' are no constant", recipe)
            continue
        if value.dtype is not FLOAT32:
            return Decision("float", f"its weights '{value.name}' are quantized already", recipe)
        specs[index] = _weight_spec(node, index, axis, recipe)
    bias = node.inputs[kernel.bias] if kernel.bias is not None and kernel.bias < node.input_count else None
    if bias is not None and known_tensor(bias) is None:
        return Decision("float", f"its bias '{bias.name}' is no constant", recipe)
    reason = supports(node.op_type, *_types(node, scheme, specs), node.attrs)
    if reason is not None:
        return Decision("float", reason, recipe)
    return Decision(recipe.mode, f"a kernel for {scheme.dtype.name}", recipe, scheme, specs)


def _types(node: Node, scheme: Scheme, specs: Mapping[int, WeightSpec]) -> tuple[Types, Types]:
    """Types of inputs and outputs once the node computes with integers."""
    kernel = KERNELS[node.op]
    read = dict.fromkeys(activations(node), scheme.dtype)
    read.update((index, spec.scheme.dtype) for index, spec in specs.items())
    if kernel.bias is not None:
        read[kernel.bias] = INT64 if scheme.dtype is INT16 else INT32
    inputs = tuple(
        None if value is None else _integer(value, read[index]) if index in read else value.type
        for index, value in enumerate(node.inputs)
    )
    outputs = (_integer(value, scheme.dtype) if value.dtype is FLOAT32 else value.type for value in node.outputs)
    return inputs, tuple(outputs)


def _integer(value: Value, dtype: DType) -> TensorType:
    return TensorType(dtype, value.shape, _SOME)


def _weight_spec(node: Node, index: int, axis: int, recipe: OperatorRecipe) -> WeightSpec:
    scheme = INT4_WEIGHT if recipe.weight_bits == 4 and not _has_wide_weights(node, index) else INT8_WEIGHT
    if _has_blocks(node, index, recipe):
        return WeightSpec(scheme, 1, recipe.block_size, recipe.clip_weights)
    if recipe.granularity == "tensor" or axis == PER_TENSOR:
        return WeightSpec(scheme, PER_TENSOR, clip=recipe.clip_weights)
    return WeightSpec(scheme, axis, clip=recipe.clip_weights)


def _has_wide_weights(node: Node, index: int) -> bool:
    """Kernels take its weights in 8 bits alone; of tables, those whose rows end within a byte."""
    if node.op in ROWS:
        held = known_tensor(node.inputs[index])
        is_plain = held is not None and len(held.shape) > 1 and not any(map(node.attrs.get, ("axis", "batch_dims")))
        return held is None or not is_plain or held.size // held.shape[0] % 2 == 1
    return node.op in RECURRENT or node.op == "tfl.BATCH_MATMUL"


def _has_blocks(node: Node, index: int, recipe: OperatorRecipe) -> bool:
    """The recipe asks for blocks of weights, there is a kernel for them, and they divide the rows."""
    if recipe.granularity != "block" or recipe.weight_bits != 4 or node.op != "tfl.FULLY_CONNECTED":
        return False
    held = known_tensor(node.inputs[index])
    return held is not None and len(held.shape) == 2 and held.shape[1] % recipe.block_size == 0


def _is_weight(node: Node, index: int, minimum: int) -> bool:
    """A constant of floats that is worth storing in fewer bits."""
    value = node.inputs[index]
    held = known_tensor(value)
    return value is not None and held is not None and held.dtype in (FLOAT32, FLOAT16) and held.size >= max(minimum, 1)
