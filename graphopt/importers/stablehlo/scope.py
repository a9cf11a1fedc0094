"""Where names of values hold: a graph under construction, within others that it may take values from."""

from __future__ import annotations

import re
from typing import Any

from graphopt.backends.legalization import CannotLowerError
from graphopt.importers.stablehlo.building import Builder
from graphopt.importers.stablehlo.operand import Operand
from graphopt.ir.known import known_tensor
from graphopt.ir.model import ARGUMENT, Function
from graphopt.ir.types import TensorType
from graphopt.ir.value import Value


class Captures:
    """Values from outside that the functions of one loop or conditional take as further arguments, in order."""

    def __init__(self) -> None:
        self.operands: list[Operand] = []
        self.places: dict[Any, int] = {}

    def place(self, key: Any, operand: Operand) -> int:
        """The position of an operand among the captured ones."""
        found = self.places.get(key)
        if found is None:
            found = self.places[key] = len(self.operands)
            self.operands.append(operand)
        return found


class Scope:
    """The values of one block, those around it, and the graph that is built.

    Within a function's body `captures` are what it takes from outside, after its `declared` arguments.
    """

    def __init__(
        self, build: Builder, parent: Scope | None = None, captures: Captures | None = None, declared: int = 0
    ):
        self.build, self.parent, self.captures, self.declared = build, parent, captures, declared
        self.values: dict[Any, Operand] = {}
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._captured: dict[int, Operand] = {}

    def find(self, value: Any) -> Operand:
        """What a value of the module is here; taken in from outside where need be."""
        found = self.values.get(value)
        if found is not None:
            return found
        if self.parent is None:
            raise CannotLowerError("it reads a value that is not there")
        outside = self.parent.find(value)
        found = outside if self.captures is None else self._capture(value, outside)
        self.values[value] = found
        return found

    def _capture(self, key: Any, outside: Operand) -> Operand:
        assert self.captures is not None
        held = known_tensor(outside.value)
        if held is not None:
            inside = Operand(self.build.constant(held), outside.dims)
        else:
            place = self.captures.place(key, outside)
            inside = self._captured[place] = Operand(
                self.argument(self.declared + place, outside.value.type, f"captured_{place}"), outside.dims
            )
            self._remember(outside.value, inside.value)
        if not inside.is_full and outside.size_source is not None:
            place = self.captures.place(
                (key, "sizes"), Operand(outside.size_source, outside.size_source.shape.dims or ())
            )
            inside.size_source = self.argument(self.declared + place, outside.size_source.type, f"captured_{place}")
            self._captured[place] = Operand(inside.size_source, ())
            self._remember(outside.size_source, inside.size_source)
        inside.iota_axis = outside.iota_axis
        return inside

    def _remember(self, outside: Value, inside: Value) -> None:
        """What is known of sizes outside is known of the argument that they come in by."""
        assert self.parent is not None
        known = self.parent.build.partial.partial(outside)
        if known is not None:
            self.build.partial.assume(inside, known)

    def argument(self, place: int, kind: TensorType, name: str) -> Any:
        """The argument at a position of the function that is built."""
        function = self.build.graph
        assert isinstance(function, Function)
        base = re.sub(r"\W", "_", name).strip("_").lower() or "argument"
        return function.create_node(ARGUMENT, attrs={"T": kind.dtype, "index": place}, name=base, types=(kind,)).output

    def close(self) -> None:
        """Give the function all arguments, those that only its siblings read too, in order."""
        function = self.build.graph
        assert isinstance(function, Function)
        assert self.captures is not None
        for place, outside in enumerate(self.captures.operands):
            if place not in self._captured:
                kind = outside.value.type
                self._captured[place] = Operand(
                    self.argument(self.declared + place, kind, f"captured_{place}"), outside.dims
                )
        arguments = sorted(
            (node for node in function if node.op == ARGUMENT), key=lambda node: int(node.attrs["index"])
        )
        function.inputs = [node.output for node in arguments]
        function.input_names = [node.name for node in arguments]

    def captured(self, place: int) -> Operand:
        """The argument for a captured operand, once closed."""
        return self._captured[place]
