"""What the function of a reduction, a scatter or a sort does, found from its form or by trying it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.importers.stablehlo.attributes import dtype_of
from graphopt.importers.stablehlo.building import Builder
from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.scope import Captures, Scope
from graphopt.ir.dimensions import Dim
from graphopt.ir.infer_nodes import NONSENSE
from graphopt.ir.known import CONSTANT
from graphopt.ir.model import Function
from graphopt.ir.ops import attributes, find
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value

if TYPE_CHECKING:
    from graphopt.importers.stablehlo.operation import Operation

Array = np.ndarray[Any, Any]
MONOIDS = frozenset({"add", "multiply", "maximum", "minimum", "and", "or", "xor"})


def monoid(region: Any) -> str:
    """`add`, `maximum` and the like where that is all that a function of two scalars does, `update` where it returns
    the second; empty for anything else."""
    (block,) = list(region.blocks)
    operations = [item.operation for item in block.operations]
    arguments = list(block.arguments)
    if len(arguments) != 2:
        return ""
    results = list(operations[-1].operands)
    if len(operations) == 1:
        return "update" if len(results) == 1 and results[0] == arguments[1] else ""
    if len(operations) != 2 or list(operations[0].results) != results:
        return ""
    name = operations[0].name.partition(".")[2]
    operands = list(operations[0].operands)
    return name if name in MONOIDS and operands in (arguments, arguments[::-1]) else ""


def tried(op: Operation, region: Any, samples: Sequence[Array]) -> list[Array]:
    """What a function of scalars returns for samples, one array of them for each argument."""
    (block,) = list(region.blocks)
    scope, known = scratch(op.scope, list(block.arguments), samples, ())
    operands = [scope.find(argument) for argument in block.arguments]
    results = op.translator.block(block, operands, scope)
    return [np.broadcast_to(array, samples[0].shape) for array in evaluated(scope, results, known)]


def scratch(
    outside: Scope, values: Sequence[Any], samples: Sequence[Array], dims: Sequence[Dim]
) -> tuple[Scope, dict[Value, Array]]:
    """A scope to translate operations in that are then evaluated, and what `values`, of shape `dims`, are in it."""
    build = Builder(Function("body"))
    scope = Scope(build, outside, Captures(), len(samples))
    known = dict[Value, Array]()
    for place, (value, array) in enumerate(zip(values, samples, strict=True)):
        dtype = dtype_of(value.type)
        node = build.graph.create_node(
            "tf.Placeholder", attrs={"dtype": dtype, "shape": Shape(dims)}, name=f"x{place}",
            types=(TensorType(dtype, Shape(dims)),),
        )  # fmt: skip
        known[node.output] = array.astype(dtype.numpy)
        scope.values[value] = Operand(node.output, dims)
    return scope, known


def evaluated(scope: Scope, results: Sequence[Operand], known: dict[Value, Array]) -> list[Array]:
    """What `results` are where values are `known`. Refuses where something cannot be evaluated."""
    for node in scope.build.graph:
        if node.op == CONSTANT:
            known[node.output] = node.attrs["value"].numpy()
        elif node.output not in known:
            operator = find(node.op)
            inputs = [known.get(value) for value in node.inputs if value is not None]
            if operator is None or operator.evaluate is None or any(array is None for array in inputs):
                raise CannotLowerError(f"its function computes {node.op_type}")
            known[node.output] = _evaluated(operator, node, inputs)
    found = [known.get(result.value) for result in results]
    if any(array is None for array in found):
        raise CannotLowerError("its function returns what is computed outside of it")
    return [array for array in found if array is not None]


def _evaluated(operator: Any, node: Any, inputs: Sequence[Array | None]) -> Array:
    try:
        with np.errstate(all="ignore"):
            found = operator.evaluate(attributes(node), *inputs)
    except NONSENSE as error:
        raise CannotLowerError(f"its function computes {node.op_type} in a way that is not known") from error
    return np.asarray(found[0] if isinstance(found, (list, tuple)) else found)
