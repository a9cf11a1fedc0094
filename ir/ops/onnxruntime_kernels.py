"""Element types that ONNX Runtime's kernels on the CPU take: the facts are in `onnxruntime_kernels.txt`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from graphopt.ir.types import DType
from graphopt.ir.value import Node

REPEATED = "..."


class Kernels(NamedTuple):
    """The kernels of one operator: letters of its inputs and outputs, and for each kernel the types of letters."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    forms: tuple[Mapping[str, frozenset[str]], ...]

    def types(self, node: Node) -> dict[str, DType]:
        """The element type of each letter in use; None of them is unknown."""
        found: dict[str, DType] = {}
        sides = ((self.inputs, node.inputs), (self.outputs, node.outputs))
        for letters, values in sides:
            for letter, value in zip(_spread(letters, len(values)), values, strict=False):
                if value is not None:
                    found.setdefault(letter, value.dtype)
        return found

    def takes(self, types: Mapping[str, DType]) -> bool:
        """There is a kernel for these types."""
        return any(
            all(types[letter].name in names for letter, names in form.items() if letter in types) for form in self.forms
        )

    def letters(self, node: Node) -> tuple[list[str], list[str]]:
        """The letter of each input and of each output."""
        return list(_spread(self.inputs, node.input_count)), list(_spread(self.outputs, len(node.outputs)))


def kernels_of(op_type: str) -> Kernels | None:
    """The kernels of an operator; None where types do not matter, or the operator is not known."""
    return _table().get(op_type)


def _spread(letters: tuple[str, ...], count: int) -> Iterator[str]:
    """A letter for each of `count` operands: one that repeats stands for all that follow."""
    for place in range(count):
        letter = letters[min(place, len(letters) - 1)] if letters else ""
        yield letter.removesuffix(REPEATED)


@cache
def _table() -> Mapping[str, Kernels]:
    found: dict[str, Kernels] = {}
    text = files("graphopt.ir.ops").joinpath("onnxruntime_kernels.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        name, operands, *forms = line.split(" ")
        inputs, outputs = (tuple(filter(None, side.split(","))) for side in operands.split(">"))
        found[name] = Kernels(inputs, outputs, tuple(map(_form, forms)))
    return found


def _form(text: str) -> Mapping[str, frozenset[str]]:
    pairs = (item.split("=") for item in text.split(","))
    return {letter: frozenset(names.split("|")) for letter, names in pairs}
