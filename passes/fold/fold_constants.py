"""fold-constants: compute once what never changes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from graphopt.ir.errors import Error
from graphopt.ir.graph import Graph
from graphopt.ir.infer import infer_node
from graphopt.ir.infer_nodes import NONSENSE
from graphopt.ir.known import CONSTANT, constant_tensor, constant_type, hold
from graphopt.ir.model import Model
from graphopt.ir.ops import Operator, Trait, attributes, find
from graphopt.ir.shape_values import ShapeValues
from graphopt.ir.tensors import ArrayTensor, RepeatedTensor, Tensor, total_bytes
from graphopt.ir.types import STRING, DType, TensorType, dereferenced, dtype_of
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness, Pass, PassContext
from graphopt.passes.frames import frame_anchors, has_v1_control_flow
from graphopt.passes.removal import remove_dead

SMALL = 1 << 16  # bytes up to which a result may be larger than what it is computed from
EXPANDED = 1 << 20  # bytes up to which a compact operand may be expanded to compute with
GROWTH = 1 << 24  # bytes by which all results together may outgrow the constants of the model
NEVER = Trait.STATEFUL | Trait.RANDOM | Trait.CONTROL_FLOW | Trait.CALL | Trait.SOURCE | Trait.DECOMPRESS
# Operators whose float results are the same bits on every conforming machine.
ROUNDED_ALIKE = frozenset(
    """
    Abs Add AddV2 Ceil ClipByValue Floor Maximum Minimum Mul Neg OnesLike RealDiv Reciprocal Relu Relu6 Rint Round
    Select SelectV2 Sign Sqrt Square Sub ZerosLike BatchToSpaceND BroadcastTo Cast Concat ConcatV2 DepthToSpace
    Diag ExpandDims Fill Gather GatherNd GatherV2 Identity MatrixDiag Max Min MirrorPad OneHot Pack Pad PadV2
    Reshape ReverseV2 Slice SpaceToBatchND SpaceToDepth Split SplitV Squeeze StridedSlice Tile Transpose Unpack
    """.split()  # noqa: SIM905
)
NARROW_ELEMENTS = 64  # elements beyond which a cast to a wider type counts as un-compressing weights


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace every node whose value never changes by a constant of the same name.

    *Given*

        %a = tf.Const() {value = float32[2] [1.0, 2.0]}
        %b = tf.Const() {value = float32[2] [3.0, 4.0]}
        %sum = tf.Add(%a, %b)
        %y = tf.Mul(%x, %sum)

    *Result*

        %sum = tf.Const() {value = float32[2] [4.0, 6.0]}
        %y = tf.Mul(%x, %sum)

    Shapes that are known, and integers computed from them, are constants too. A node whose output is the same in
    every element becomes a compact constant.

    `max_bytes` bounds each result that is larger than its operands, with `bound_all` every one. A result larger than
    its operands is refused beyond 64 KiB, unless `grow` is set, and all results together may outgrow the model's
    constants by no more than their size and 16 MiB.
    `exclude_operators` and `exclude_nodes` are left alone. With `shapes` off, nothing is concluded from shapes. A
    `suffix` is put after the names of the nodes folded, outputs of the graph excepted.

    Refuses stateful and random operators, control flow and calls, and whatever un-compresses weights: dequantization,
    sparse to dense, casts of many elements to a wider type. In a v1 loop or branch, a result that could not be tied
    to it. What TensorFlow would refuse to compute is left for it to refuse.
    """

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING
    max_bytes: int = 10 << 20
    bound_all: bool = False
    grow: bool = False
    shapes: bool = True
    exclude_operators: tuple[str, ...] = ()
    exclude_nodes: tuple[str, ...] = ()
    suffix: str = ""

    def run(self, model: Model, context: PassContext) -> None:
        """Fold in all graphs, under one budget for growth."""
        held = {
            id(tensor): tensor.stored_bytes
            for graph in model.graphs
            for node in graph
            if node.op == CONSTANT and isinstance(tensor := node.attrs.get("value"), Tensor)
        }
        budget = Budget(GROWTH + sum(held.values()))
        for graph in model.graphs:
            Folding(self, graph, context, budget).run()


@dataclass
class Budget:
    """Bytes by which results may still outgrow their operands."""

    growth: int


def exactness_of(node: Node) -> Exactness:
    """Exact for integers and for operators that are rounded alike everywhere; others may differ in the last bits."""
    if node.op_type in ROUNDED_ALIKE or not any(value.dtype.is_float for value in node.outputs):
        return Exactness.EXACT
    return Exactness.REASSOCIATING


class Refused(Exception):
    """Why a node is not folded. Never leaves this module."""


@dataclass
class Folding:
    """The work on one graph."""

    options: FoldConstants
    graph: Graph
    context: PassContext
    budget: Budget
    shape_values: ShapeValues = field(default_factory=ShapeValues)

    def run(self) -> None:
        """Fold until nothing more is constant: each node is tried when one of its operands became known."""
        excluded = {f"tf.{name}" for name in self.options.exclude_operators}
        excluded_nodes = dict.fromkeys(self.options.exclude_nodes)
        queue = deque(node for node in self.graph if self._is_candidate(node))
        while queue:
            node = queue.popleft()
            if node.graph is not self.graph or node.op == CONSTANT:
                continue
            if node.op in excluded or node.name in excluded_nodes:
                self.context.refused(self.options.name, node, "it is excluded")
                continue
            queue.extend(self._fold(node))

    def _is_candidate(self, node: Node) -> bool:
        inputs = node._inputs
        for value in inputs:
            if value is None or (value.node.op != CONSTANT and constant_tensor(value) is None):
                return self.options.shapes and self._follows_from_shapes(node)
        return bool(inputs)

    def _follows_from_shapes(self, node: Node) -> bool:
        operator = find(node.op)
        if operator is None or not node.outputs:
            return False
        if operator.traits & Trait.SHAPE_ONLY:
            return True
        output = node.outputs[0]
        return output.dtype.is_integer and output.shape.rank in (0, 1) and len(node.outputs) == 1

    def _fold(self, node: Node) -> list[Node]:
        """Fold one node if it can be; returns the nodes to look at again."""
        operator = find(node.op)
        if operator is None or operator.traits & NEVER or any(value.is_input for value in node.outputs):
            return []
        if any(dereferenced(value.dtype) is not value.dtype for value in node.outputs):
            return []  # no constant is a reference
        if not any(value.use_count or _may_become(value) for value in node.outputs):
            return []
        try:
            results = self._results(node, operator)
            if results is None or not self.context.allows(self.options.name, exactness_of(node)):
                return []
            anchors = self._anchors(node)
        except Refused as refusal:
            self.context.refused(self.options.name, node, str(refusal))
            return []
        users = [user for value in node.outputs for user in value.users]
        self._replace(node, results, anchors)
        return [user for user in users if user.graph is self.graph and self._is_candidate(user)]

    # Values ---------------------------------------------------------------------------------------------------

    def _results(self, node: Node, operator: Operator) -> list[Tensor] | None:
        """A tensor for each output, or None if it is not constant. Raises `Refused`."""
        operands = [constant_tensor(value) for value in node._inputs]
        known = [operand for operand in operands if operand is not None]
        if operands and len(known) == len(operands):
            self._check_operands(node, known)
            if operator.evaluate is None:
                return None
            return self._evaluate(node, operator, known)
        return self._from_shapes(node, operator) if self.options.shapes else None

    def _from_shapes(self, node: Node, operator: Operator) -> list[Tensor] | None:
        """What follows from known shapes alone."""
        if node.op in ("tf.ZerosLike", "tf.OnesLike"):
            shape, dtype = node.outputs[0].shape.static, node.outputs[0].dtype
            if shape is None or dtype.numpy is None or not dtype.is_numeric:
                return None
            one = np.full(1, int(node.op == "tf.OnesLike")).astype(dtype.numpy)
            return (
                [RepeatedTensor(one, dtype, shape)] if math.prod(shape) else [ArrayTensor(np.zeros(shape, dtype.numpy))]
            )
        results: list[Tensor] = []
        for value in node.outputs:
            numbers = self._known_integers(value)
            if numbers is None:
                return None
            results.append(numbers)
        return results

    def _known_integers(self, value: Value) -> Tensor | None:
        if not value.dtype.is_integer or value.shape.rank not in (0, 1):
            return None
        array = self.shape_values.array(value)
        return None if array is None else ArrayTensor(np.array(array), value.dtype)

    def _check_operands(self, node: Node, operands: Sequence[Tensor]) -> None:
        stored = total_bytes(operands)  # each counted once, however often it is read
        for operand in operands:
            if operand.dtype.numpy is None:
                raise Refused(f"an operand is {operand.dtype.name}, which has no values")
            if operand.nbytes > max(operand.stored_bytes, EXPANDED):
                raise Refused("an operand is compact and would take too much memory to compute with")
        expected = self._expected_bytes(node)
        if any(size is None for size in expected):
            if stored > EXPANDED or not all(operand.nbytes <= EXPANDED for operand in operands):
                raise Refused("the size of its result is not known beforehand")
            return
        total = max(sum(size or 0 for size in expected), string_bytes(node, operands))
        limit = min(self.options.max_bytes, self.context.max_constant_bytes)
        if total > limit and (total > stored or self.options.bound_all):
            raise Refused(f"its result takes {total} bytes, more than the limit of {limit}")
        if total > stored and not self.options.grow and not self._is_splat(node, operands):
            if total > SMALL:
                raise Refused(f"its result takes {total} bytes, its operands {stored}")
            if total - stored > self.budget.growth:
                raise Refused("the model would grow too much")
            self._check_compression(node, operands)
            self.budget.growth -= total - stored

    def _expected_bytes(self, node: Node) -> list[int | None]:
        """Bytes of each result in use, None where its shape does not follow from the operands."""
        needed = [value for value in node.outputs if value.use_count or value.is_output]
        if all(value.shape.static is not None for value in needed):
            return [output_bytes(value.type) for value in needed]
        inferred = infer_node(node, self.shape_values)
        return [output_bytes(inferred[value.index]) for value in needed]

    @staticmethod
    def _is_splat(node: Node, operands: Sequence[Tensor]) -> bool:
        """The result will be one repeated value, which is stored compactly."""
        return node.op in ("tf.Fill", "tf.ZerosLike", "tf.OnesLike")

    @staticmethod
    def _check_compression(node: Node, operands: Sequence[Tensor]) -> None:
        if node.op == "tf.Cast" and operands[0].size > NARROW_ELEMENTS:
            raise Refused("it would un-compress its operand")

    def _evaluate(self, node: Node, operator: Operator, operands: Sequence[Tensor]) -> list[Tensor]:
        assert operator.evaluate is not None
        try:
            with np.errstate(all="ignore"):
                computed = operator.evaluate(attributes(node), *(operand.numpy() for operand in operands))
        except (Error, MemoryError, *NONSENSE) as error:
            raise Refused(f"it cannot be computed: {error}") from None
        arrays = list(computed) if isinstance(computed, (list, tuple)) else [computed]
        if len(arrays) != len(node.outputs):
            raise Refused(f"it yields {len(arrays)} results for {len(node.outputs)} outputs")
        return [as_tensor(array, value) for array, value in zip(arrays, node.outputs, strict=True)]

    # Edits ----------------------------------------------------------------------------------------------------

    def _anchors(self, node: Node) -> list[Node]:
        if not has_v1_control_flow(self.graph):
            return []
        anchors = frame_anchors(value for value in node.inputs if value is not None)
        if anchors is None:
            raise Refused("a constant in its place would leave its v1 branch")
        return anchors

    def _replace(self, node: Node, results: Sequence[Tensor], anchors: Sequence[Node]) -> None:
        producers = list(dict.fromkeys(node.predecessors()))
        if len(results) == 1:
            become_constant(node, results[0])
            for anchor in anchors:
                node.add_control_input(anchor)
            if self.options.suffix and not node.output.is_output and node not in self.graph._targets:
                self.graph.rename(node, self.graph.unique_name(node.name + self.options.suffix))
            self.context.rewrote(self.options.name, removed=(node,), added=(node,))
        else:
            self._replace_outputs(node, results, anchors)
        remove_dead(self.graph, producers)

    def _replace_outputs(self, node: Node, results: Sequence[Tensor], anchors: Sequence[Node]) -> None:
        added, first, name = [], node.outputs[0], node.name
        for value, result in zip(node.outputs, results, strict=True):
            if not value.use_count and not (value is first and _may_become(value)):
                continue
            held = hold(self.graph, result, name=f"{name}/{value.index}", before=node, origins=node.source_names)
            held.node.device = node.device
            for control in (*node.control_inputs, *anchors):
                held.node.add_control_input(control)
            value.replace_all_uses_with(held)
            added.append(held.node)
        becomes = added[0] if _may_become(first) else None
        if becomes is not None:
            self.graph.outputs = [becomes.output if value is first else value for value in self.graph.outputs]
        self.context.rewrote(self.options.name, removed=(node,), added=tuple(added))
        if not node.has_uses:
            self.graph.remove(node)
            if becomes is not None:
                self.graph.rename(becomes, name)


def _may_become(value: Value) -> bool:
    """An output of the graph that a constant can take the place of: one that has the name of its node, which goes."""
    node = value.node
    if not value.is_output or value.index or any(other.is_output for other in node.outputs[1:]):
        return False
    return len(node.outputs) == 1 or not (node.control_users or (node.graph is not None and node in node.graph.targets))


def string_bytes(node: Node, operands: Sequence[Tensor]) -> int:
    """Bytes that the strings of a node's outputs may take, at most; 0 where none is a string."""
    elements = sum(math.prod(value.shape.static or ()) for value in node.outputs if value.dtype is STRING)
    if not elements:
        return 0
    if node.op_type in ROUNDED_ALIKE:  # strings are moved as they are
        strings = [operand.numpy() for operand in operands if operand.dtype is STRING and operand.size]
        return elements * max((max(map(len, array.flat)) for array in strings), default=0)
    padding = sum(abs(item) for key in ("width", "precision") if type(item := node.attrs.get(key)) is int)
    joined = sum(operand.nbytes for operand in operands) + padding
    return elements * joined * (joined if "Regex" in node.op_type else 1)


def output_bytes(type: TensorType) -> int | None:
    """Bytes of a tensor of `type`, None where its shape is not static."""
    shape = type.shape.static
    return None if shape is None else math.prod(shape) * (type.dtype.itemsize or 8)


def become_constant(node: Node, held: Tensor) -> None:
    """Turn `node`, which has one output, into a constant; control inputs, name and readers stay."""
    node.origins = node.source_names
    node.op, node.attrs, node.extras = CONSTANT, {"dtype": held.dtype, "value": held}, None
    node.set_inputs(())
    node.outputs[0].type = constant_type(held)


def as_tensor(array: Any, value: Value) -> Tensor:
    """A computed array as the tensor of `value`. Raises `Refused` where type or shape contradict what is known."""
    result = np.asarray(array)
    dtype: DType = value.dtype
    if dtype.numpy is None or (result.dtype != dtype.numpy and dtype_of(result) is not dtype):
        raise Refused(f"it computes {result.dtype}, but is {dtype.name}")
    static = value.shape.static
    if static is not None and static != result.shape:
        raise Refused(f"it computes shape {list(result.shape)}, but has {value.shape}")
    if dtype.kind != "string" and is_uniform(result):
        return RepeatedTensor(np.array(result.flat[0], result.dtype).reshape(1), dtype, result.shape)
    return ArrayTensor(np.asarray(result, order="C"), dtype)


def is_uniform(array: np.ndarray[Any, Any]) -> bool:
    """There are several elements, and all of them have the same bytes."""
    if array.size < 2 or not any(array.strides):
        return array.size > 1
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat[:1].tobytes() != flat[-1:].tobytes():
        return False
    octets = flat.view(np.uint8).reshape(flat.size, -1)
    return bool((octets == octets[0]).all())
