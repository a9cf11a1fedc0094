"""The emitter: walks a prepared graph in topological order and builds the function `@main` of a StableHLO module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphopt.backends.base import Finding
from graphopt.backends.legalization import CannotLowerError
from graphopt.backends.xla.bindings import bindings, dense_attribute, has_element_type
from graphopt.backends.xla.builder import Builder
from graphopt.backends.xla.emission import Array, Emission
from graphopt.backends.xla.layer import Layer, dequantized
from graphopt.backends.xla.operand import SPECIALISE, Operand
from graphopt.backends.xla.options import NARROW, XlaOptions
from graphopt.backends.xla.table import all_rules
from graphopt.ir.dimensions import KnownDim
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model, Signature
from graphopt.ir.tensors import ArrayTensor, Tensor
from graphopt.ir.traversal import reachable
from graphopt.ir.types import DTYPES, FLOAT32, INT32, Shape, TensorType, dtype_of
from graphopt.ir.value import Node, Value

CONSTANT = "tf.Const"
WEIGHT_BYTES = 1024  # from which on a constant of floats is a weight, and may be an argument
PRODUCTS = frozenset(
    {"tf.Conv2D", "tf.Conv3D", "tf.MatMul", "tf.BatchMatMulV2", "tf.Einsum", "tf.Conv2DBackpropInput"}
)  # whose second operand may have the precision of products
DEPTH = 40  # of branches and loops within each other


class _BlockedError(Exception):
    """An input has no operand, because what computes it was refused."""


@dataclass
class Emitted:
    """A module, its weights in the order in which they follow the inputs, and what has no form."""

    module: Any
    weights: dict[str, Tensor] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    outputs: list[TensorType] = field(default_factory=list)


class Emitter:
    """Emits one signature. Use within a context of MLIR."""

    def __init__(self, model: Model, options: XlaOptions, layers: Mapping[Node, Layer] | None = None):
        self.model, self.options = model, options
        self.layers = layers or {}  # products with integer weights
        self.build = Builder(DTYPES[options.precision] if options.precision in NARROW else None)
        self.findings: list[Finding] = []
        self.weights: dict[str, Tensor] = {}
        self.operands: dict[Value, Operand | None] = {}
        self.bound: dict[Value, Value] = {}  # arguments of bodies -> what the call passes, where that is fixed
        self._derived: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}  # with the original, for its id
        self._weight_places: dict[int, Operand] = {}
        self._constants: dict[tuple[int, Any], Operand] = {}
        self.platform: Operand | None = None  # place of the platform that the program runs on, where it is for several
        self._body: Any = None
        self._anchor: Any = None
        self._depth = 0

    # The function ---------------------------------------------------------------------------------------------

    def emit(self, signature: Signature) -> Emitted:
        """The module with `@main(inputs…, weights…)`. What has no form is among the findings."""
        ir, func = self.build.ir, self.build.func
        inputs, outputs = signature.input_values(), signature.output_values()
        module = ir.Module.create()
        if not self._check_ends({**inputs, **outputs}, inputs):
            return Emitted(module, {}, self.findings)
        ends = [(value.dtype, _dims(value)) for value in inputs.values()]
        if len(self.options.platforms) > 1:
            ends.insert(0, (INT32, ()))
        with ir.InsertionPoint(module.body):
            function = func.FuncOp("main", ([self.build.type(*end) for end in ends], []))
        self._body = function.add_entry_block()
        arguments = [Operand(given, *end) for given, end in zip(self._body.arguments, ends, strict=True)]
        if len(self.options.platforms) > 1:
            self.platform = arguments.pop(0)
        with ir.InsertionPoint(self._body):
            self.build.sizes.begin(arguments)
            self._anchor = self.build.sizes.anchor
            for value, operand in zip(inputs.values(), arguments, strict=True):
                self.operands[value] = operand
            made = self.graph(signature.graph, list(outputs.values()))
            if not self.findings:
                found = [operand.value for operand in made if operand is not None]
                func.ReturnOp(found)
                given = [argument.type for argument in self._body.arguments]
                function.attributes["function_type"] = ir.TypeAttr.get(
                    ir.FunctionType.get(given, [value.type for value in found])
                )
        kinds = [TensorType(operand.dtype, Shape(operand.dims)) for operand in made if operand is not None]
        return Emitted(module, self.weights, self.findings, kinds)

    def _check_ends(self, ends: dict[str, Value], inputs: dict[str, Value]) -> bool:
        for name, value in ends.items():
            if not has_element_type(value.dtype):
                self._find(
                    value.node, f"'{name}' is a {value.dtype.name}, which XLA has not", "keep it outside the model"
                )
            elif name in inputs and (value.shape.dims is None or None in value.shape.dims):
                self._find(value.node, f"the rank of '{name}' is not known", "give the inputs shapes (set-shapes)")
        return not self.findings

    # Graphs ---------------------------------------------------------------------------------------------------

    def graph(self, graph: Graph, outputs: Sequence[Value]) -> list[Operand | None]:
        """Emit what `outputs` need; the graph's inputs have operands already."""
        needed = reachable((value.node for value in outputs), lambda node: self._is_given(node))
        for node in graph.topological_order():
            if node in needed and node.op != CONSTANT and not self._is_given(node):
                self._emit_node(node)
        return [self._output(value) for value in outputs]

    def _output(self, value: Value) -> Operand | None:
        try:
            return self.operand(value)
        except _BlockedError:
            return None

    def body(self, graph: Graph, arguments: Sequence[Operand], passed: Sequence[Value | None]) -> list[Operand]:
        """Emit a function's body here. `passed` are the values that stand for its arguments, where they are fixed."""
        self._depth += 1
        if self._depth > DEPTH:
            raise CannotLowerError(f"branches and loops lie more than {DEPTH} deep", "flatten the control flow")
        outer = {value: self.operands.pop(value, None) for node in graph for value in node.outputs}
        bound = dict(self.bound)
        try:
            for value, operand, source in zip(graph.inputs, arguments, passed, strict=True):
                self.operands[value] = operand
                self.bound.pop(value, None)
                if source is not None:
                    self.bound[value] = source
            made = self.graph(graph, graph.outputs)
        finally:
            self._depth -= 1
            self.bound = bound
            for node in graph:
                for value in node.outputs:
                    self.operands.pop(value, None)
            self.operands.update({value: operand for value, operand in outer.items() if operand is not None})
        if any(operand is None for operand in made):
            raise _BlockedError
        return [operand for operand in made if operand is not None]

    def _is_given(self, node: Node) -> bool:
        return any(value.is_input for value in node.outputs)

    def _emit_node(self, node: Node) -> None:
        rule = all_rules().functions.get(node.op)
        made: Any = None
        try:
            if rule is None:
                raise CannotLowerError("there is no rule for it", "let TensorFlow lower the whole model (fallback)")
            with self.build.ir.Location.name(node.name):
                made = rule(Emission(node, self))
        except CannotLowerError as refusal:
            self._find(node, refusal.reason, refusal.remedy)
        except _BlockedError:
            pass  # what it reads has a finding of its own
        except self.build.ir.MLIRError as error:
            reason = printable(" ".join(str(error).split()), 200)
            self._find(node, f"StableHLO does not accept it ({reason})", "report it, with the model")
        if made is None or isinstance(made, Operand):
            made = [made]
        for value in node.outputs:
            self.operands[value] = made[value.index] if value.index < len(made) else None

    def _find(self, node: Node, reason: str, remedy: str) -> None:
        graph = node.graph.name if node.graph is not None else "main"
        self.findings.append(Finding(node.name, node.op, node.source_names, reason, remedy, graph))

    # Operands -------------------------------------------------------------------------------------------------

    def input(self, node: Node, place: int) -> Operand:
        """What stands for an input of `node`: integer weights as the floats that they stand for."""
        layer = self.layers.get(node)
        if layer is None or layer.place != place:
            return self.operand(node.input(place))
        return dequantized(self.build, layer, self.stored(layer, node), layer.axis or 0)

    def stored(self, layer: Layer, node: Node) -> Operand:
        """The integer weights of `node`."""
        name = node.input(layer.place).node.name
        return self._held(layer.weights, name)

    def is_constant(self, value: Value) -> bool:
        """`value` is a constant, not what something computes."""
        return value.node.op == CONSTANT

    def derived(self, value: Value, kind: str, make: Callable[[Array], Array]) -> Operand:
        """What `make` computes of the constant `value` beforehand; `kind` names it."""
        made = self._made_of(value.node.attrs["value"], kind, make)
        return self._held(made, f"{value.node.name}/{kind}")

    def operand(self, value: Value) -> Operand:
        """What stands for `value`: a constant is made where it is first needed."""
        found = self.operands.get(value)
        if found is not None:
            return found
        if value.node.op != CONSTANT:
            raise _BlockedError
        return self._held(self._narrowed(value), value.node.name)

    def _held(self, held: Tensor, name: str) -> Operand:
        return self._weight(held, name) if self._is_weight(held) else self._constant(held)

    def bound_array(self, value: Value) -> np.ndarray[Any, Any] | None:
        """The constant that a body's argument always is, or None."""
        while value in self.bound:
            value = self.bound[value]
        held = known_tensor(value)
        return None if held is None or held.stored_bytes > WEIGHT_BYTES * 64 else held.numpy()

    def _narrowed(self, value: Value) -> Tensor:
        """The tensor of a constant, in the precision of products where it is an operand of nothing else."""
        held: Tensor = value.node.attrs["value"]
        narrow = self.build.narrow
        if narrow is None or held.dtype is not FLOAT32 or held.stored_bytes <= WEIGHT_BYTES:
            return held
        if not all(place == 1 and reader.op in PRODUCTS for reader, place in value.uses):
            return held
        return self._made_of(held, narrow.name, lambda array: array.astype(narrow.numpy))

    def _made_of(self, held: Tensor, kind: str, make: Callable[[Array], Array]) -> Tensor:
        found = self._derived.get((id(held), kind))
        if found is None:
            array = make(held.numpy())
            found = self._derived[id(held), kind] = held, ArrayTensor(array, dtype_of(array.dtype))
        return found[1]

    def _is_weight(self, held: Tensor) -> bool:
        is_large = held.stored_bytes > WEIGHT_BYTES and has_element_type(held.dtype)
        return is_large and self.options.weights == "arguments"

    def _weight(self, held: Tensor, name: str) -> Operand:
        found = self._weight_places.get(id(held))
        if found is None:
            kind = self.build.type(held.dtype, held.shape)
            found = Operand(self._body.add_argument(kind, self.build.ir.Location.name(name)), held.dtype, held.shape)
            self._weight_places[id(held)] = found
            key, count = name, 0
            while key in self.weights:
                count += 1
                key = f"{name}_{count}"
            self.weights[key] = held
        return found

    def _constant(self, held: Tensor) -> Operand:
        """A constant at the start of the function, so that bodies may read it; each tensor once."""
        key = (id(held), held.dtype)
        found = self._constants.get(key)
        if found is None:
            self.build.type(held.dtype, held.shape)
            with self.build.ir.InsertionPoint(self._anchor):
                splat = held.splat() if held.size > 1 else None
                if splat is not None:
                    found = self.build.full(splat, held.dtype, held.shape)
                else:
                    attribute = dense_attribute(held.numpy(), held.dtype)
                    found = Operand(bindings().stablehlo.constant(attribute), held.dtype, held.shape)
            self._constants[key] = found
        return found


def _dims(value: Value) -> tuple[KnownDim, ...]:
    dims = tuple(dim for dim in value.shape.dims or () if dim is not None)
    if value.shape.dims is None or len(dims) != len(value.shape.dims):
        raise CannotLowerError(f"the shape {value.shape} of '{value.name}' is not known", SPECIALISE)
    return dims
