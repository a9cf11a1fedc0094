"""Walks a module's operations and builds a graph, a rule an operation; calls are inlined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from graphopt.backends.legalization import CannotLowerError
from graphopt.importers.stablehlo.attributes import dims_of, dtype_of, location_name, plain_name
from graphopt.importers.stablehlo.building import Builder
from graphopt.importers.stablehlo.expansions import Expansion, find_expansion
from graphopt.importers.stablehlo.operand import Operand
from graphopt.importers.stablehlo.operation import Operation
from graphopt.importers.stablehlo.scope import Scope
from graphopt.importers.stablehlo.table import all_rules
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import MalformedError, ResourceError, UnsupportedError, printable
from graphopt.ir.model import Model

DEPTH_LIMIT = 64  # of calls and regions within one another
OPERATION_LIMIT = 1 << 20  # translated in all: calls are inlined, so a small module may ask for many
RETURNS = frozenset({"func.return", "stablehlo.return", "mhlo.return"})


class ImportRefusal(UnsupportedError):
    """An operation has no form in TensorFlow's operators."""


class Translator:
    """One module on its way into one model."""

    def __init__(self, module: Any, model: Model, source: str):
        self.model, self.source = model, source
        self.rules = all_rules().functions
        self.functions: dict[str, Any] = {}
        self.callees: tuple[FunctionRef, ...] = ()  # of the model's library, which the module may call by their places
        self._count = 0
        for item in module.body.operations:
            if item.operation.name == "func.func":
                self.functions[item.attributes["sym_name"].value] = item

    @property
    def main(self) -> Any:
        """The function that is called from outside."""
        if "main" in self.functions:
            return self.functions["main"]
        if len(self.functions) == 1:
            return next(iter(self.functions.values()))
        raise MalformedError("the module has no function 'main'", source=self.source)

    def body(self, function: Any) -> Any:
        """The one block of a function."""
        blocks = list(function.regions[0].blocks)
        if len(blocks) != 1:
            raise CannotLowerError("a function has no body, or branches without structure")
        return blocks[0]

    def call(self, name: str, operands: Sequence[Operand], scope: Scope) -> list[Operand]:
        """The results of a function of the module, inlined."""
        function = self.functions.get(name)
        if function is None:
            raise CannotLowerError(f"there is no function '{printable(name)}'")
        return self.block(self.body(function), operands, Scope(scope.build, _Detached(scope)))

    def block(self, block: Any, operands: Sequence[Operand], scope: Scope) -> list[Operand]:
        """What a block returns, its arguments being `operands`."""
        if scope.depth > DEPTH_LIMIT:
            raise ResourceError(f"calls and regions are nested deeper than {DEPTH_LIMIT}", source=self.source)
        arguments = list(block.arguments)
        if len(arguments) != len(operands):
            raise MalformedError(f"{len(operands)} arguments for {len(arguments)} parameters", source=self.source)
        for argument, operand in zip(arguments, operands, strict=True):
            scope.values[argument] = _refined(operand, argument.type)
        operations = [item.operation for item in block.operations]
        place = 0
        while place < len(operations):
            operation = operations[place]
            if operation.name in RETURNS:
                return [scope.find(value) for value in operation.operands]
            expansion = find_expansion(operations, place, scope, self)
            if expansion is not None:
                self._contract(expansion, scope)
                place += len(expansion.operations)
                continue
            self.translate(operation, scope)
            place += 1
        raise CannotLowerError("a block does not return")

    def _contract(self, expansion: Expansion, scope: Scope) -> None:
        """One operator for all that a function was written out as."""
        last = expansion.operations[-1]
        with self._named(last, scope):
            (made,) = self.apply(f"chlo.{expansion.name}", last, {}, [scope.find(expansion.input)], scope)
            scope.values[expansion.output] = _checked(made, expansion.output.type)
            _take_name(scope.build, [made])

    @contextmanager
    def _named(self, operation: Any, scope: Scope) -> Iterator[None]:
        """Nodes made meanwhile are called as the operation is, and come from it."""
        build = scope.build
        outer, created = (build.name, build.origins), build.created
        location = location_name(operation.location)
        name = plain_name(location)
        if name:
            build.name, build.origins = name, (location,)
        elif operation.name == "stablehlo.constant":
            build.name, build.origins = "", ()
        build.created = []
        yield
        (build.name, build.origins), build.created = outer, created

    def translate(self, operation: Any, scope: Scope) -> None:
        """Put what an operation yields into the scope. Raises `ImportRefusal` naming it where it has no form."""
        self._count += 1
        if self._count > OPERATION_LIMIT:
            raise ResourceError(f"it has more than {OPERATION_LIMIT} operations, calls inlined", source=self.source)
        try:
            with self._named(operation, scope):
                operands = [scope.find(value) for value in operation.operands]
                made = self.apply(operation.name, operation, operation.attributes, operands, scope)
                results = list(operation.results)
                if len(made) != len(results):
                    raise CannotLowerError(f"it has {len(results)} results where {len(made)} were made")
                for result, operand in zip(results, made, strict=True):
                    scope.values[result] = _checked(operand, result.type)
                _take_name(scope.build, made)
        except CannotLowerError as refusal:
            location = location_name(operation.location)
            where = f" at '{printable(location)}'" if location else ""
            remedy = f"; {refusal.remedy}" if refusal.remedy else ""
            raise ImportRefusal(
                f"{printable(self.source)}: {printable(_shown(operation))}{where}: {refusal.reason}{remedy}"
            ) from refusal

    def apply(self, name: str, mlir: Any, given: Any, operands: Sequence[Operand], scope: Scope) -> list[Operand]:
        """The results of an operation by the rule of its name."""
        rule = self.rules.get(name)
        if rule is None:
            raise CannotLowerError("there is no rule for it")
        made = rule(Operation(name, mlir, given, operands, scope, self))
        return [made] if isinstance(made, Operand) else list(made)


class _Detached(Scope):
    """Around the body of a function that is called: its depth counts, its names do not hold."""

    def __init__(self, caller: Scope):
        super().__init__(caller.build)
        self.depth = caller.depth


def _shown(operation: Any) -> str:
    if operation.name == "stablehlo.custom_call":
        return f"custom_call @{operation.attributes['call_target_name'].value}"
    return str(operation.name)


def _refined(operand: Operand, kind: Any) -> Operand:
    """An operand where a block's argument of the type `kind` stands; another operand keeps what it knows."""
    dims = dims_of(kind)
    if operand.dtype is not dtype_of(kind) or len(dims) != operand.rank:
        raise CannotLowerError(f"an argument of type {kind} is given {operand.dtype.name} of rank {operand.rank}")
    return operand


def _checked(operand: Operand, kind: Any) -> Operand:
    """The operand with the sizes that the module declares. Refuses one that the rule made otherwise."""
    dims, dtype = dims_of(kind), dtype_of(kind)
    if operand.dtype is not dtype or len(dims) != operand.rank:
        raise CannotLowerError(f"it yields {kind}, where {operand.dtype.name} of rank {operand.rank} was made")
    for mine, declared in zip(operand.dims, dims, strict=True):
        if isinstance(mine, int) and isinstance(declared, int) and mine != declared:
            raise CannotLowerError(f"it yields {kind}, where a size of {mine} was made")
    operand.dims = tuple(
        mine if declared is None else declared for mine, declared in zip(operand.dims, dims, strict=True)
    )
    return operand


def _take_name(build: Builder, made: Sequence[Operand]) -> None:
    """The node that an operation's first result comes from is called as the operation is."""
    if not made or not build.name:
        return
    node, graph = made[0].value.node, build.graph
    if node not in build.created or node.name == build.name:
        return
    holder = graph.find(build.name)
    if holder is None or holder not in build.created:
        return
    graph.rename(holder, graph.unique_name(f"{build.name}/{holder.op_type}"))
    graph.rename(node, build.name)
