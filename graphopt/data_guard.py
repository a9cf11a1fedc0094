"""Looks at samples before anybody relies on them, and says what is wrong: most bad quantized models had bad samples.

What cannot be right raises `CheckError`; what may be is noted. Names, shapes and element types are checked where
samples are read (`graphopt.sample_streams`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphopt.ir.errors import CheckError, printable
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model
from graphopt.ir.value import Node, Value
from graphopt.samples import signature_of

if TYPE_CHECKING:
    import numpy as np

Sample = Mapping[str, "np.ndarray[Any, Any]"]
FEW = 10  # samples below which ranges are a matter of luck
LOOKED_AT = 8  # samples after which the range of an input is judged
_DIGESTS = 1 << 16  # samples among which duplicates are found
_REMEDY = "; check=False (--no-check) calibrates all the same"
_SAME_VALUES = frozenset(
    {
        "Identity",
        "Cast",
        "CAST",
        "Reshape",
        "RESHAPE",
        "Transpose",
        "TRANSPOSE",
        "ExpandDims",
        "EXPAND_DIMS",
        "Pad",
        "PAD",
    }
)
_PRODUCTS, _QUOTIENTS = frozenset({"Mul", "MUL"}), frozenset({"RealDiv", "Div", "DIV"})
_SHIFTS = frozenset({"Sub", "SUB", "Add", "AddV2", "ADD", "BiasAdd"})
_PIXEL_SCALE = (100.0, 300.0)  # what 8-bit pixels are divided by: 127.5, 128, 255, 256
_PIXEL_MEAN = (90.0, 160.0)  # what is subtracted from them
_SATURATED = 1e-3  # from 0 or 1


class DataGuard:
    """Judges the samples of one signature. `strict` raises where it would otherwise note."""

    def __init__(self, model: Model, signature: str | None = None, *, strict: bool = True):
        self._strict = strict
        inputs = signature_of(model, signature).input_values()
        self._floats = {name: value for name, value in inputs.items() if value.dtype.is_float}
        self._pixels = {name: _pixel_evidence(value) for name, value in self._floats.items()}
        self._ranges: dict[str, tuple[float, float]] = {}
        self._whole = dict.fromkeys(self._floats, True)
        self._digests: dict[bytes, None] = {}
        self._count = self._saturated = self._flat = self._holes = 0
        self.notes: list[str] = []

    def check(self, sample: Sample) -> None:
        """Look at the next sample. Raises `CheckError`."""
        import numpy as np

        number = self._count
        self._count += 1
        digest = hashlib.blake2b(digest_size=16)
        for name, array in sample.items():
            if array.dtype.kind == "O":
                digest.update(repr(array.tolist()).encode())
                continue
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            if name in self._floats and array.size:
                self._look(name, array, number)
        if len(self._digests) < _DIGESTS:
            self._digests[digest.digest()] = None
        if self._count == LOOKED_AT:
            self._judge_ranges()

    def _look(self, name: str, array: Any, number: int) -> None:
        import numpy as np

        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            kind = "NaN" if np.isnan(array).any() else "Inf"
            if not self._holes:
                self._find(f"sample {number}: input '{printable(name)}' holds {kind}")
            self._holes += 1
            return
        known = self._ranges.get(name, (low, high))
        self._ranges[name] = min(low, known[0]), max(high, known[1])
        self._flat += low == high and array.size > 1
        if self._whole[name] and number < LOOKED_AT:
            self._whole[name] = bool((array == np.rint(array)).all())

    @property
    def suspects_pixels(self) -> bool:
        """Some input looks like unscaled pixels that the model does not scale: its outputs will tell."""
        return any(self._looks_unscaled(name) for name in self._ranges)

    def _looks_unscaled(self, name: str) -> bool:
        low, high = self._ranges[name]
        return self._whole[name] and low >= 0 and 100 <= high <= 255 and not self._pixels[name]

    def see_outputs(self, outputs: Sample) -> None:
        """Look at the outputs for the last sample."""
        import numpy as np

        floats = [array for array in outputs.values() if array.dtype.kind == "f" and array.size > 1]
        ends = [np.minimum(np.abs(array), np.abs(array - 1)).max() < _SATURATED for array in floats]
        self._saturated += bool(ends) and all(ends)

    def finish(self, *, is_part: bool = False) -> list[str]:
        """What there is to say about the samples as a whole, or about one part of them. Raises `CheckError`."""
        if self._count < LOOKED_AT:
            self._judge_ranges()
        if self._count > 1 and len(self._digests) == 1:
            self._find(
                f"all {self._count} samples are equal: what yields them starts anew each time, or has only one to give"
            )
        elif self._count <= _DIGESTS and len(self._digests) < self._count:
            self.notes.append(f"{self._count - len(self._digests)} of {self._count} samples equal another one")
        if self._holes > 1:
            self.notes.append(f"{self._holes - 1} more hold NaN or Inf")
        if self._flat:
            self.notes.append(f"{self._flat} samples have an input with the same value everywhere")
        if self._count < FEW and not is_part:
            self.notes.append(
                f"{self._count} samples are few: ranges may be too narrow for other data; give {FEW} or more"
            )
        if self.suspects_pixels and self._saturated == self._count:
            name = next(name for name in self._ranges if self._looks_unscaled(name))
            self.notes.append(
                f"input '{printable(name)}' is given whole numbers up to {self._ranges[name][1]:g}, the model does not "
                "scale them, and every output is 0 or 1: it may expect pixels scaled to [0, 1] or [-1, 1]"
            )
        return self.notes

    def _judge_ranges(self) -> None:
        for name, (low, high) in self._ranges.items():
            evidence = self._pixels[name]
            if evidence and max(-low, high) <= 1.5:
                self._find(
                    f"input '{printable(name)}' has values from {low:.3g} to {high:.3g}, and the model {evidence}: "
                    "it expects pixels from 0 to 255 and scales them itself"
                )

    def _find(self, problem: str) -> None:
        if self._strict:
            raise CheckError(f"the samples cannot be right: {problem}{_REMEDY}")
        self.notes.append(problem)


def _pixel_evidence(value: Value) -> str:
    """What the model does to an input first that only pixels from 0 to 255 make sense for; empty if nothing."""
    for _ in range(8):
        users = value.users
        if not users:
            return ""
        node = users[0]
        if node.op_type in _SAME_VALUES:
            value = node.output
            continue
        operand = _operand(node, value)
        low, high = (0.0, 0.0) if operand is None else (float(abs(operand).min()), float(abs(operand).max()))
        if node.op_type in _PRODUCTS and 1 / _PIXEL_SCALE[1] <= low <= high <= 1 / _PIXEL_SCALE[0]:
            return f"multiplies it by {high:.3g} ('{printable(node.name)}')"
        if node.op_type in _QUOTIENTS and _PIXEL_SCALE[0] <= low <= high <= _PIXEL_SCALE[1]:
            return f"divides it by {high:.3g} ('{printable(node.name)}')"
        if node.op_type in _SHIFTS and _PIXEL_MEAN[0] <= low <= high <= _PIXEL_MEAN[1]:
            return f"shifts it by {high:.3g} ('{printable(node.name)}')"
        return ""
    return ""


def _operand(node: Node, value: Value) -> Any | None:
    """The other input of a binary operator, if it is a known float of few elements."""
    others = [item for item in node.inputs if item is not value]
    held = known_tensor(others[0]) if len(others) == 1 else None
    if held is None or not held.dtype.is_float or not 0 < held.size <= 64:
        return None
    array = held.numpy()
    return array if node.op_type not in _QUOTIENTS or node.input(0) is value else None
