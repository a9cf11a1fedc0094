"""Loops, conditionals, calls: regions become functions of the library, calls are inlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphopt.importers.stablehlo.building import Builder
from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.scope import Captures, Scope
from graphopt.importers.stablehlo.table import RULES
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Function
from graphopt.ir.types import BOOL, Shape, TensorType
from graphopt.ir.value import Value

IDENTITIES = frozenset(
    {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "LayoutConstraint", "xla.sdy.FuncResultSharding"}
)
WITHOUT_RESULT = frozenset({"shape_assertion"})


@RULES.translate("stablehlo.while")
def loop(op: Operation) -> list[Operand]:
    """`StatelessWhile`; what its regions read from outside is carried along."""
    captures = Captures()
    cond, body = (_Body(op, captures, len(op.operands), kind) for kind in ("cond", "body"))
    starts = [op.build.full(operand) for operand in op.operands]
    (test,) = cond.run(op.mlir.regions[0], starts)
    results = body.run(op.mlir.regions[1], starts, _unchanged(op.mlir.regions[1]))
    for function in (cond, body):
        function.scope.close()
    carried = [body.arguments.get(place) or body.build.full(result) for place, result in enumerate(results)]
    for value, start in zip(carried, starts, strict=True):
        if value.dtype is not start.dtype:
            op.refuse("a value changes its type from turn to turn")
    cond.finish([cond.build.full(test)])
    body.finish([*carried, *(body.scope.captured(place).value for place in range(len(captures.operands)))])
    operands = [*starts, *(operand.value for operand in captures.operands)]
    types = [value.type for value in operands]
    attrs = {
        "T": tuple(kind.dtype for kind in types), "cond": FunctionRef(cond.function.name),
        "body": FunctionRef(body.function.name), "output_shapes": tuple(kind.shape for kind in types),
        "parallel_iterations": 10,
    }  # fmt: skip
    made = op.build.node("StatelessWhile", operands, attrs, types)
    return [op.build.operand(value, operand.dims) for value, operand in zip(made.outputs, op.operands, strict=False)]


@RULES.translate("stablehlo.if", "stablehlo.case")
def conditional(op: Operation) -> list[Operand]:
    """`StatelessIf` for two branches, `StatelessCase` for more; an index that there is not means the last one."""
    regions, build = list(op.mlir.regions), op.build
    choice = op.full(0)
    if op.name == "stablehlo.case" and len(regions) == 1:
        return op.translator.block(next(iter(regions[0].blocks)), [], Scope(build, op.scope))
    if op.name == "stablehlo.case" and len(regions) == 2:
        regions.reverse()  # the second one is for all indices but zero
        choice = _truth(build, choice)
    captures = Captures()
    branches = [_Body(op, captures, 0, f"branch_{place}") for place in range(len(regions))]
    results = [branch.run(region, []) for branch, region in zip(branches, regions, strict=True)]
    for branch, made in zip(branches, results, strict=True):
        branch.scope.close()
        branch.finish([branch.build.full(result) for result in made])
    operands = [operand.value for operand in captures.operands]
    types = [_joined(values) for values in zip(*(branch.function.outputs for branch in branches), strict=True)]
    references = tuple(FunctionRef(branch.function.name) for branch in branches)
    attrs: dict[str, Any] = {
        "Tin": tuple(value.dtype for value in operands), "Tout": tuple(kind.dtype for kind in types),
        "output_shapes": tuple(kind.shape for kind in types),
    }  # fmt: skip
    if len(branches) == 2:
        attrs |= {"then_branch": references[0], "else_branch": references[1], "Tcond": BOOL}
    else:
        attrs["branches"] = references
    node = build.node("StatelessIf" if len(branches) == 2 else "StatelessCase", [choice, *operands], attrs, types)
    return [build.operand(value, op.dims(place)) for place, value in enumerate(node.outputs)]


def _unchanged(region: Any) -> list[int]:
    """Positions of arguments that a loop's body hands on as they are."""
    block = next(iter(region.blocks))
    returned = list(list(block.operations)[-1].operation.operands)
    return [
        place for place, argument in enumerate(block.arguments) if place < len(returned) and returned[place] == argument
    ]


def _joined(values: Sequence[Value]) -> Any:
    """The type of a conditional's result: what the branches agree on."""
    from graphopt.ir.joins import join_types

    kind = values[0].type
    for value in values[1:]:
        kind = join_types(kind, value.type)
    return kind


def _truth(build: Builder, index: Value) -> Value:
    """Whether an index is not zero: the truth value itself where it was made of one."""
    node = index.node
    if node.op == "tf.Cast" and node.input(0).dtype is BOOL:
        return node.input(0)
    return build.value("NotEqual", index, build.scalar(0, index.dtype))


class _Body:
    """One function of the library under construction."""

    def __init__(self, op: Operation, captures: Captures, declared: int, kind: str):
        self.op, self.declared = op, declared
        base = (op.build.name or op.name.partition(".")[2]).replace("/", "_").replace(".", "_").replace("-", "_")
        self.function = Function(op.translator.model.unique_function_name(f"{base}_{kind}"))
        op.translator.model.add_function(self.function)
        self.build = Builder(self.function)
        self.build.name, self.build.origins = op.build.name, op.build.origins
        self.scope = Scope(self.build, op.scope, captures, declared)
        self.arguments: dict[int, Value] = {}  # in whose place a constant is read

    def run(self, region: Any, starts: Sequence[Value], unchanged: Sequence[int] = ()) -> list[Operand]:
        """Translate a region whose arguments are like `starts`; returns its results.

        Of those that are `unchanged` all the time, the constants are constants within.
        """
        arguments = []
        for place, start in enumerate(starts):
            value = self.scope.argument(place, start.type, f"argument_{place}")
            held = known_tensor(start) if place in unchanged else None
            if held is not None:
                self.arguments[place] = value
            arguments.append(self.build.operand(value if held is None else self.build.constant(held)))
        return self.op.translator.block(next(iter(region.blocks)), arguments, self.scope)

    def finish(self, outputs: Sequence[Value]) -> None:
        """Set the results, and name them."""
        outputs = list(outputs)
        self.function.outputs = outputs
        self.function.output_names = [f"result_{place}" for place in range(len(outputs))]


# Calls ----------------------------------------------------------------------------------------------------------


@RULES.translate("func.call")
def call(op: Operation) -> list[Operand]:
    """The function's own operations."""
    return op.translator.call(op.text("callee"), op.operands, op.scope)


@RULES.translate("stablehlo.composite")
def composite(op: Operation) -> list[Operand]:
    """By the rule of its name, where there is one, otherwise what it is composed of."""
    name = op.text("name")
    if name in op.translator.rules:
        given = op.attribute("composite_attributes") if op.has("composite_attributes") else {}
        return op.translator.apply(name, op.mlir, given, op.operands, op.scope)
    return op.translator.call(op.text("decomposition"), op.operands, op.scope)


@RULES.translate("stablehlo.custom_call")
def custom_call(op: Operation) -> list[Operand]:
    """Those that are known: annotations, and what has a rule of its own."""
    target = op.text("call_target_name")
    if target in WITHOUT_RESULT:
        return []
    if target in IDENTITIES:
        return list(op.operands)
    name = f"chlo.{target.removeprefix('mhlo.')}" if target.startswith("mhlo.") else f"custom_call.{target}"
    if name not in op.translator.rules:
        op.refuse(
            f"nothing is known of the custom call '{printable(target)}'",
            "export the function for other platforms, or without it",
        )
    given = op.attribute("mhlo.attributes") if op.has("mhlo.attributes") else {}
    return op.translator.apply(name, op.mlir, given, op.operands, op.scope)


@RULES.translate("custom_call.tf.call_tf_function")
def call_of_library(op: Operation) -> list[Operand]:
    """A function of TensorFlow's that JAX calls: by its place in the list that the node holds."""
    given = op.attribute("tf.backend_config")
    place = int(given["called_index"].value) if "called_index" in given else -1
    if not 0 <= place < len(op.translator.callees):
        op.refuse("the function it calls is not there")
    values = [op.full(index) for index in range(len(op.operands))]
    kinds = [op.dtype(index) for index in range(len(op.mlir.results))]
    attrs = {"Tin": tuple(value.dtype for value in values), "Tout": tuple(kinds), "f": op.translator.callees[place]}
    types = [TensorType(kind, Shape(op.dims(index))) for index, kind in enumerate(kinds)]
    made = op.build.node("StatefulPartitionedCall", values, attrs, types)
    return [op.build.operand(value) for value in made.outputs]
