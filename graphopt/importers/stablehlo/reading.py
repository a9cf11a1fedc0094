"""Modules as models: the function `main` becomes the main graph, its arguments placeholders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.backends.xla.bindings import bindings, make_context
from graphopt.backends.xla.serialization import parse_module
from graphopt.importers.stablehlo.attributes import dims_of, dtype_of
from graphopt.importers.stablehlo.building import Builder
from graphopt.importers.stablehlo.guarding import vetted
from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.scope import Scope
from graphopt.importers.stablehlo.translation import ImportRefusal, Translator
from graphopt.ir.dimensions import symbol
from graphopt.ir.errors import MalformedError, UnsupportedError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.traversal import reachable
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value

SIGNATURE = "serving_default"
FORMAT, CPU = "stablehlo", "cpu"
VERSIONS = (1882, 12, ())  # of the GraphDef that it may be written as: TensorFlow 2.17's, and what reads it


def read_module(
    code: bytes,
    source: str,
    *,
    inputs: Sequence[tuple[str, TensorType]] | None = None,
    kept: Sequence[int] | None = None,
    platforms: Sequence[str] = (),
    trusted: bool = False,
) -> Model:
    """The model of a module: VHLO or MLIR bytecode, or text. Outputs are `y0`, `y1` and so on.

    `inputs` are names and types of what is fed, by default those of the module's arguments, `x0` and so on; `kept` says
    which of them the module takes, by default all. Where there are several `platforms` its first argument is the place
    of one of them. A module is `trusted` where this process made it.

    Raises `MalformedError` for what is no module, and `UnsupportedError` naming an operation that has no form.
    """
    model = Model()
    with opened(code, source, trusted) as module:
        translator = Translator(module, model, source)
        try:
            _fill(translator, inputs, kept, platforms)
        except CannotLowerError as refusal:
            raise ImportRefusal(f"{printable(source)}: {refusal.reason}") from refusal
    model.source, model.format, model.versions = source, FORMAT, VERSIONS
    return model


@contextmanager
def opened(code: bytes, source: str, trusted: bool = False) -> Iterator[Any]:
    """The module that bytes or text hold, within its context. Raises `MalformedError`."""
    context = make_context()
    if not trusted:
        code = vetted(code, context, source)
    with context, bindings().ir.Location.unknown():
        try:
            module = parse_module(code, context)
        except MalformedError as error:
            raise error.located(source) from error
        try:
            yield module
        except (UnicodeDecodeError, RuntimeError) as error:
            if not isinstance(error, UnicodeDecodeError) and "conversion" not in str(error):
                raise
            raise MalformedError("this is no StableHLO module: names in it are not text", source=source) from error


def _fill(
    translator: Translator,
    inputs: Sequence[tuple[str, TensorType]] | None,
    kept: Sequence[int] | None,
    platforms: Sequence[str],
) -> None:
    model = translator.model
    build, block = Builder(model.graph), translator.body(translator.main)
    arguments = list(block.arguments)
    leading = [platform_operand(build, arguments[0], platforms)] if len(platforms) > 1 and arguments else []
    given = inputs if inputs is not None else _declared(arguments[len(leading) :])
    fed = [placeholder(model.graph, name, kind) for name, kind in given]
    taken = [fed[place] for place in (range(len(fed)) if kept is None else kept)]
    operands = [*leading, *(build.operand(value, value.shape.dims) for value in taken)]
    found = translator.block(block, operands, Scope(build))
    if not found:
        raise UnsupportedError(f"{printable(translator.source)}: the exported function returns nothing")
    named = {f"y{place}": _end(build, operand, f"y{place}") for place, operand in enumerate(found)}
    strip(model.graph, [*named.values(), *fed])
    model.set_signature({name: value for (name, _), value in zip(given, fed, strict=True)}, named, SIGNATURE)


def _declared(arguments: Sequence[Any]) -> list[tuple[str, TensorType]]:
    """Names and types of a module's arguments; a size it leaves open is a symbol, the leading one the same in all."""
    found = []
    for place, argument in enumerate(arguments):
        dims = [
            dim if dim is not None else symbol("batch" if axis == 0 else f"x{place}_{axis}")
            for axis, dim in enumerate(dims_of(argument.type))
        ]
        found.append((f"x{place}", TensorType(dtype_of(argument.type), Shape(dims))))
    return found


def platform_operand(build: Builder, argument: Any, platforms: Sequence[str]) -> Operand:
    """The leading argument that chooses among several platforms: the CPU, or the first."""
    index = list(platforms).index(CPU) if CPU in platforms else 0
    return Operand(build.constant(np.asarray(index, dtype_of(argument.type).numpy)), ())


def placeholder(graph: Graph, name: str, kind: TensorType) -> Value:
    """An input of the graph."""
    attrs = {"dtype": kind.dtype, "shape": kind.shape}
    return graph.create_node("tf.Placeholder", attrs=attrs, name=name, types=(kind,)).output


def _end(build: Builder, operand: Operand, name: str) -> Value:
    """A result as a node of its own, called `name`."""
    value = build.full(operand)
    build.name, build.origins = name, value.node.origins
    return build.value("Identity", value)


def strip(graph: Graph, wanted: Sequence[Value]) -> None:
    """Take out what does not lead to any of `wanted`."""
    needed = reachable([value.node for value in wanted])
    graph.remove_all([node for node in graph if node not in needed])
