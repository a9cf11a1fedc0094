"""nest-cases: a choice of several branches becomes choices of two."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model
from graphopt.ir.types import BOOL, INT32, SCALAR, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.bodies import BodyBuilder
from graphopt.passes.control.plain_variables import small_constant

CASES = {"tf.Case": "tf.If", "tf.StatelessCase": "tf.StatelessIf"}


@dataclass(frozen=True)
class NestCases(Pass):
    """Replace every `Case` by an `If` for its first branch, whose other branch is an `If` for the second, and so on.

    *Given*

        %y = tf.StatelessCase(%i, %x) {branches = [@a, @b, @c]}

    *Result*

        function @y_1(%index: int32, %x: float32) -> (%z) {
          %one = tf.Const() {value = int32[] 1}
          %is = tf.Equal(%index, %one)
          %z = tf.StatelessIf(%is, %x) {then_branch = @b, else_branch = @c}
        }
        %zero = tf.Const() {value = int32[] 0}
        %is = tf.Equal(%i, %zero)
        %y = tf.StatelessIf(%is, %i, %x) {then_branch = @y_0, else_branch = @y_1}

    where `@y_0` is `@a` with an argument more. An index that is out of range takes the last branch, as in a `Case`.

    Refuses a `Case` whose branches are not known functions.
    """

    def run(self, model: Model, context: PassContext) -> None:
        """Replace in all graphs; functions that are made contain none."""
        for graph in model.graphs:
            for node in graph:
                if node.op not in CASES:
                    continue
                reason = _problem(model, node)
                if reason is not None:
                    context.refused(self.name, node, reason)
                elif context.allows(self.name):
                    _nest(model, graph, node)
                    context.rewrote(self.name, removed=(node,), added=(node,))


def _branches(node: Node) -> tuple[FunctionRef, ...]:
    held = node.attrs.get("branches")
    return held if isinstance(held, tuple) and all(isinstance(item, FunctionRef) for item in held) else ()


def _problem(model: Model, node: Node) -> str | None:
    """Why `node` must stay."""
    branches = _branches(node)
    if not branches:
        return "its branches are not known"
    for branch in branches:
        if branch.name not in model.functions or branch.attrs:
            return f"'{printable(branch.name)}' is no function of the model, or a generic one"
    return None


def _nest(model: Model, graph: Graph, node: Node) -> None:
    """Make of `node`, a `Case`, an `If` or, for one branch, a call."""
    branches = _branches(node)
    operands = [value for value in node.inputs[1:] if value is not None]
    results = [value.type for value in node.outputs]
    stateless = node.op == "tf.StatelessCase"
    index, conditional = node.input(0), CASES[node.op]
    node.origins = node.source_names
    lists = {"Tin": tuple(v.dtype for v in operands), "Tout": tuple(type.dtype for type in results)}
    if len(branches) == 1:
        node.op = "tf.PartitionedCall" if stateless else "tf.StatefulPartitionedCall"
        node.attrs = {"f": branches[0], **lists}
        node.set_inputs(operands)
        return
    last = branches[-1]
    for place in range(len(branches) - 2, 0, -1):
        last = _level(model, node, conditional, place, branches[place], last, place == len(branches) - 2)
    direct = len(branches) == 2
    first = branches[0] if direct else _with_index(model, node, branches[0])
    passed = operands if direct else [index, *operands]
    node.op, node.extras = conditional, None
    node.attrs = {
        "Tcond": BOOL, "Tin": tuple(value.dtype for value in passed), "Tout": lists["Tout"],
        "then_branch": first, "else_branch": last, "output_shapes": tuple(type.shape for type in results),
    }  # fmt: skip
    zero = small_constant(node, 0, "index")
    node.set_inputs([_equal(graph, node.name, index, zero, node), *passed])


def _equal(graph: Graph, name: str, left: Value, right: Value, before: Node | None) -> Value:
    made = graph.create_node(
        "tf.Equal", [left, right], {"T": INT32, "incompatible_shape_error": True}, name=f"{name}/is",
        types=[TensorType(BOOL, SCALAR)], before=before,
    )  # fmt: skip
    return made.output


def _begun(model: Model, node: Node, with_index: bool) -> tuple[BodyBuilder, list[Value]]:
    """A new function with the arguments of the branches of `node`, after the index if that is passed on."""
    builder = BodyBuilder(model, node.name)
    values = [value for value in node.inputs if value is not None]
    arguments = [builder.argument(value.type, value.node.name) for value in (values if with_index else values[1:])]
    return builder, arguments


def _level(
    model: Model, node: Node, conditional: str, place: int, then: FunctionRef, other: FunctionRef, is_last: bool
) -> FunctionRef:
    """A function that takes the branch `place`, or leaves it to `other`, which is a branch if it is the last."""
    inner = then if is_last else _with_index(model, node, then)
    builder, arguments = _begun(model, node, True)
    function = builder.function
    number = builder.constant(place, "index")
    condition = _equal(function, node.name, arguments[0], number, None)
    passed = arguments[1:] if is_last else arguments
    attrs = {
        "Tcond": BOOL, "Tin": tuple(value.dtype for value in passed),
        "Tout": tuple(value.dtype for value in node.outputs), "then_branch": inner, "else_branch": other,
        "output_shapes": tuple(value.shape for value in node.outputs),
    }  # fmt: skip
    types = [value.type for value in node.outputs]
    made = function.create_node(
        conditional, [condition, *passed], attrs, name=node.name, types=types, origins=node.source_names
    )
    return _finished(model, builder, made)


def _with_index(model: Model, node: Node, branch: FunctionRef) -> FunctionRef:
    """A function that calls `branch` and takes the index before its arguments."""
    builder, arguments = _begun(model, node, True)
    attrs = {
        "f": branch, "Tin": tuple(value.dtype for value in arguments[1:]),
        "Tout": tuple(value.dtype for value in node.outputs),
    }  # fmt: skip
    op = "tf.PartitionedCall" if node.op == "tf.StatelessCase" else "tf.StatefulPartitionedCall"
    types = [value.type for value in node.outputs]
    made = builder.function.create_node(
        op, arguments[1:], attrs, name=node.name, types=types, origins=node.source_names
    )
    return _finished(model, builder, made)


def _finished(model: Model, builder: BodyBuilder, made: Node) -> FunctionRef:
    function: Function = builder.finish(model, made.outputs, ())
    if made.op in ("tf.StatefulPartitionedCall", "tf.If"):
        function.control_outputs, function.targets = {made.name: made}, (made,)
    return FunctionRef(function.name, {})
