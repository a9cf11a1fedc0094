"""Legalisation: rules that express one operator of a source dialect by operators of a target, run by the engine.

A rule is a function that gets a `Lowering`, the node and what to build with, and returns a value for each output:

    @RULES.legalize("tf.Relu", "tf.Relu6")
    def rectified(op: Lowering) -> Value:
        \"\"\"Rectified linear units.\"\"\"
        return op.emit("RELU" if op.node.op == "tf.Relu" else "RELU6", op.input(0))

Where a node does not fit, `op.refuse(reason, remedy)` ends the rule; the next one of the same operator is tried. A rule
may as well yield source operators that other rules lower (`op.source(…)`). Nothing is left half done: what a rule made
before it refused is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np

from graphopt.ir.known import known_array, known_tensor
from graphopt.ir.ops import attributes
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import DType, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Exactness
from graphopt.passes.matcher import Match
from graphopt.passes.patterns import ANY, Dialect, Pattern, rest
from graphopt.passes.rule import Editor, Replacement, Rule

Array = np.ndarray[Any, Any]
RuleFunction = Callable[["Lowering"], Replacement]


class CannotLowerError(Exception):
    """Ends a rule: why it does not apply to its node, and what would help."""

    def __init__(self, reason: str, remedy: str = ""):
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


class Refusal(NamedTuple):
    """Why a rule did not apply, and what would help."""

    reason: str
    remedy: str


class Lowering:
    """A node to be lowered, and what its replacement is built with. Types of results are those of the node itself
    unless a type is given."""

    __slots__ = ("_attrs", "dialect", "edit", "node", "options")

    def __init__(self, node: Node, edit: Editor, dialect: str, options: Any):
        self.node, self.edit, self.dialect, self.options = node, edit, dialect, options
        self._attrs = attributes(node)

    # The node -------------------------------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[Value, ...]:
        """All data inputs."""
        return tuple(value for value in self.node.inputs if value is not None)

    def input(self, index: int) -> Value:
        """The data input `index`, negative from the end."""
        return self.node.input(index)

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute `name`, with the operator's own default."""
        return self._attrs.get(name, default)

    @property
    def attrs(self) -> Mapping[str, Any]:
        """All attributes, with the operator's own defaults."""
        return self._attrs

    def text(self, name: str, default: str = "") -> str:
        """A string attribute as text."""
        value = self._attrs.get(name)
        return value.decode(errors="replace") if isinstance(value, bytes) else default

    @property
    def type(self) -> TensorType:
        """Type of the first output."""
        return self.node.output.type

    def known(self, index: int) -> Array | None:
        """The value of an input that is constant, or None."""
        return known_array(self.node.input(index))

    def constant_input(self, index: int, what: str) -> Array:
        """The value of an input that must be constant. Refuses, calling it `what`, where it is not."""
        array = self.known(index)
        if array is None:
            self.refuse(f"{what} is computed at run time", "make it a constant (freeze or specialise the model)")
        return array

    def tensor(self, index: int) -> Tensor | None:
        """The tensor of an input that is constant, unread, or None."""
        return known_tensor(self.node.input(index))

    def rank(self, value: Value) -> int:
        """The rank of `value`. Refuses where it is not known."""
        if value.shape.dims is None:
            self.refuse(f"the rank of '{value.name}' is not known", "give the inputs shapes (set-shapes)")
        return len(value.shape.dims)

    def static(self, value: Value) -> tuple[int, ...]:
        """The shape of `value`. Refuses where it is not wholly known."""
        shape = value.shape.static
        if shape is None:
            self.refuse(
                f"the shape {value.shape} of '{value.name}' is not wholly known", "give the inputs shapes (set-shapes)"
            )
        return shape

    def refuse(self, reason: str, remedy: str = "") -> NoReturn:
        """End the rule: the node stays as it is, for this reason; `remedy` is what helps."""
        raise CannotLowerError(reason, remedy)

    # Building -------------------------------------------------------------------------------------------------

    def emit(
        self, op: str, *inputs: Value | None, type: TensorType | None = None, name: str | None = None, **attrs: Any
    ) -> Value:
        """The one output of a new node of the target dialect."""
        return self.emit_node(op, inputs, [type if type is not None else self.node.output.type], name, attrs).output

    def emit_node(
        self,
        op: str,
        inputs: Iterable[Value | None],
        types: Sequence[TensorType] | None = None,
        name: str | None = None,
        attrs: dict[str, Any] | None = None,
    ) -> Node:
        """A new node of the target dialect; its outputs have the types of the node's own unless given."""
        made = types if types is not None else [value.type for value in self.node.outputs]
        return self.edit.node(f"{self.dialect}.{op}", inputs, attrs, types=made, name=name)

    def source(self, op: str, *inputs: Value, name: str | None = None, **attrs: Any) -> Value:
        """The first output of a new node of the source dialect, which another rule lowers."""
        return self.edit.value(op, *inputs, name=name, **attrs)

    def constant(self, data: Tensor | Array, name: str | None = None) -> Value:
        """A constant."""
        return self.edit.hold(data, name=name or f"{self.node.name}/constant")

    def step(self, kind: str, *inputs: Value, **attrs: Any) -> Value:
        """A TensorFlow operator on the way to the result, named after it; the rules for it follow."""
        return self.source(f"tf.{kind}", *inputs, name=f"{self.node.name}/{kind}", **attrs)

    def scalar(self, number: float, like: Value) -> Value:
        """A constant of no dimensions, of the element type of `like`."""
        dtype = like.dtype.numpy
        if dtype is None:
            self.refuse(f"the element type of '{like.name}' is not known")
        return self.constant(np.asarray(number, dtype), name=f"{self.node.name}/{number:g}")

    def whole(self, index: int, what: str) -> int:
        """The one number of an input that must be constant, called `what`. Refuses where it is not, or is none."""
        held = self.constant_input(index, what)
        if held.size != 1:
            self.refuse(f"{what} is not one number, but {held.size}")
        return int(held.reshape(()))

    def integers(self, numbers: Any, name: str | None = None) -> Value:
        """A constant of int32: a vector, or a scalar for a number."""
        return self.constant(np.asarray(numbers, np.int32), name=name)


class Legalization(Rule):
    """A rule made of a function, for one run."""

    exactness: ClassVar[Exactness] = Exactness.REASSOCIATING

    def __init__(self, entry: Entry, table: RuleTable, options: Any, refusals: dict[Node, Refusal]):
        self.entry, self.table, self.options, self.refusals = entry, table, options, refusals
        self.name = entry.name  # type: ignore[misc]
        self.exactness = entry.exactness  # type: ignore[misc]

    def pattern(self, tf: Dialect) -> Pattern:
        """Any node of the operators, whatever its inputs and attributes."""
        return tf.any_of(*(op.partition(".")[2] for op in self.entry.ops))(rest("operands"), attributes=ANY)

    def rewrite(self, match: Match, edit: Editor) -> Replacement:
        """What the function makes of the node, where the target's kernels take that."""
        try:
            made = self.entry.function(Lowering(match.root, edit, self.table.dialect, self.options))
            self.table.check(edit.created)
            return made
        except CannotLowerError as refusal:
            self.refusals.setdefault(match.root, Refusal(refusal.reason, refusal.remedy))
            return None


class Entry(NamedTuple):
    """One rule of a table: its operators, its function, and how exact it is."""

    name: str
    ops: tuple[str, ...]
    function: RuleFunction
    exactness: Exactness


class RuleTable:
    """The rules of one target, in the order in which they are tried.

    `supports` says why the target's kernels do not take a node, None where they do.
    """

    def __init__(self, dialect: str, supports: Callable[[Node], str | None] | None = None):
        self.dialect, self.supports = dialect, supports
        self.entries: list[Entry] = []

    def legalize(
        self, *ops: str, exactness: Exactness = Exactness.REASSOCIATING
    ) -> Callable[[RuleFunction], RuleFunction]:
        """Register a function as the rule of `ops` (`tf.Relu`); its docstring is its documentation."""

        def register(function: RuleFunction) -> RuleFunction:
            name = f"{self.dialect}-{function.__name__.strip('_').replace('_', '-')}"
            self.entries.append(Entry(name, ops, function, exactness))
            return function

        return register

    def rules(self, options: Any, refusals: dict[Node, Refusal]) -> list[Legalization]:
        """The rules for one run; why nodes were left is put into `refusals`."""
        return [Legalization(entry, self, options, refusals) for entry in self.entries]

    def check(self, nodes: Iterable[Node]) -> None:
        """Raise `CannotLowerError` for the first of `nodes` that the target has no kernel for."""
        if self.supports is None:
            return
        for node in nodes:
            reason = self.supports(node) if node.dialect == self.dialect else None
            if reason is not None:
                raise CannotLowerError(f"as {node.op_type}, its {reason}")

    def operators(self) -> dict[str, None]:
        """Source operators for which there is a rule."""
        return {op: None for entry in self.entries for op in entry.ops}


def shaped(dtype: DType, dims: Iterable[Any]) -> TensorType:
    """A type of this shape."""
    return TensorType(dtype, Shape(dims))
