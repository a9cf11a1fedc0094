"""XlaCallModule nodes, by which JAX's exports to TensorFlow hold a StableHLO module, become calls of functions."""

from __future__ import annotations

import re

import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.importers.stablehlo.attributes import dims_of, dtype_of
from graphopt.importers.stablehlo.building import Builder
from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.reading import opened, platform_operand, strip
from graphopt.importers.stablehlo.scope import Captures, Scope
from graphopt.importers.stablehlo.translation import ImportRefusal, Translator
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.dimensions import symbol
from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.model import Function, Model
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Node, Value

CALL_MODULE = "tf.XlaCallModule"


def expand_call_modules(model: Model) -> list[str]:
    """Make every XlaCallModule a call of a function with the module's operations; returns why some stayed as they are.

    Raises `MalformedError` for a module that cannot be read.
    """
    notes = []
    for graph in list(model.graphs):
        for node in [node for node in graph if node.op == CALL_MODULE]:
            try:
                _expand(model, node)
            except (ImportRefusal, UsageError) as refusal:
                notes.append(f"'{printable(node.name)}' stays XlaCallModule: {refusal}")
    return notes


def _expand(model: Model, node: Node) -> None:
    function = _function(model, node)
    model.add_function(function)
    node.attrs = {
        "Tin": tuple(value.dtype for value in node.inputs if value is not None),
        "Tout": tuple(value.dtype for value in node.outputs), "f": FunctionRef(function.name),
    }  # fmt: skip
    node.op = "tf.StatefulPartitionedCall" if _is_stateful(function) else "tf.PartitionedCall"
    for value, result in zip(node.outputs, function.outputs, strict=True):
        merged = value.shape.merged(Shape(dim if isinstance(dim, int) else None for dim in result.shape.dims or ()))
        value.type = result.type.with_shape(merged if merged is not None else value.shape)


def _is_stateful(function: Function) -> bool:
    """It calls a function of TensorFlow's, which may do anything."""
    return any(node.op == "tf.StatefulPartitionedCall" for node in function)


def _function(model: Model, node: Node) -> Function:
    code, source = node.attrs.get("module"), f"{model.source}: {node.name}" if model.source else node.name
    if not isinstance(code, bytes):
        raise MalformedError("it has no module", source=model.source, node=node.name, field="module")
    function = Function(model.unique_function_name(re.sub(r"\W", "_", node.name) + "_module"))
    with opened(code, source) as module:
        translator = Translator(module, model, source)
        translator.callees = tuple(ref for ref in node.attrs.get("function_list", ()) if isinstance(ref, FunctionRef))
        try:
            results = _fill(function, translator, node)
        except CannotLowerError as refusal:
            raise ImportRefusal(f"{printable(source)}: {refusal.reason}") from refusal
    if [value.dtype for value in results] != [value.dtype for value in node.outputs]:
        raise MalformedError("its module returns other types than it says", source=model.source, node=node.name)
    function.outputs = results
    function.output_names = [f"result_{place}" for place in range(len(results))]
    strip(function, [*results, *function.inputs])
    return function


def _fill(function: Function, translator: Translator, node: Node) -> list[Value]:
    """Build the body; returns its results."""
    build = Builder(function)
    scope = Scope(build, None, Captures())
    block = translator.body(translator.main)
    parameters = list(block.arguments)
    platforms = [name.decode(errors="replace").lower() for name in node.attrs.get("platforms", ())]
    leading = [platform_operand(build, parameters[0], platforms)] if len(platforms) > 1 else []
    specs = [spec.decode(errors="replace") for spec in node.attrs.get("dim_args_spec", ())]
    own = parameters[len(leading) + len(specs) :]
    if len(own) != node.input_count:
        raise CannotLowerError(f"its module takes {len(own)} arguments, and {node.input_count} are given")
    arguments = [
        scope.argument(place, _kind(function, place, parameter, node.input(place)), f"argument_{place}")
        for place, parameter in enumerate(own)
    ]
    function.inputs, function.input_names = arguments, [value.node.name for value in arguments]
    operands = [build.operand(value) for value in arguments]
    sizes = [_size(build, spec, operands, parameters[len(leading) + place]) for place, spec in enumerate(specs)]
    found = translator.block(block, [*leading, *sizes, *operands], Scope(build))
    return [build.full(operand) for operand in found]


def _kind(function: Function, place: int, parameter: object, given: Value) -> TensorType:
    """The type of an argument: as the module declares it, and a symbol for each size that it leaves open."""
    dtype, declared = dtype_of(parameter.type), dims_of(parameter.type)  # type: ignore[attr-defined]
    if given.dtype is not dtype and given.dtype.code:
        raise CannotLowerError(f"its argument {place} is {dtype.name}, and {given.dtype.name} is given")
    held = given.shape.dims if given.shape.rank == len(declared) else None
    dims = []
    for axis, dim in enumerate(declared):
        known = None if held is None else held[axis]
        if dim is None:
            dim = known if isinstance(known, int) else symbol(f"{function.name}_{place}_{axis}")
        dims.append(dim)
    return TensorType(dtype, Shape(dims))


def _size(build: Builder, spec: str, operands: list[Operand], parameter: object) -> Operand:
    """The size that a leading argument stands for: `0.1` is the second one of the first argument."""
    place, _, axis = spec.partition(".")
    if not (place.isdecimal() and axis.isdecimal() and int(place) < len(operands)):
        raise CannotLowerError(f"'{printable(spec)}' names no size of an argument")
    operand = operands[int(place)]
    if int(axis) >= operand.rank:
        raise CannotLowerError(f"'{printable(spec)}' names no size of an argument")
    dtype = dtype_of(parameter.type)  # type: ignore[attr-defined]
    value = build.size(operand, int(axis))
    if isinstance(operand.dims[int(axis)], int):
        return Operand(build.constant(np.asarray(operand.dims[int(axis)], dtype.numpy)), ())
    return Operand(build.cast(value, dtype), ())
