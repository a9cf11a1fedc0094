"""What LiteRT's builtin kernels support, and what they do not: types, ranks, constants, activations.

The facts are in `tflite_kernel_table.py`; versions of operators in `tflite_versions.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from graphopt.ir.ops.tflite_kernel_table import ACTIVATIONS, KERNELS, RECURRENT, SETS
from graphopt.ir.ops.tflite_kernel_types import NAMES
from graphopt.ir.ops.tflite_versions import version_of
from graphopt.ir.types import TensorType
from graphopt.ir.value import Node

__all__ = ["has_kernel", "supports", "supports_node", "types_of", "version_of"]

_TOKEN = re.compile(r"(?:([A-Z])=)?([\w|]+)(?:\[(\d)-(\d)\])?(~?)(!?)([?*]?)")
_SHORT: Mapping[str, str] = {name: short for short, name in NAMES.items()}
_SCALED = frozenset({"i4", "i8", "i16", "u8"})  # of which a kernel for plain numbers is not one for quantized ones
_INTERNAL = frozenset({"qint8", "quint8", "qint16", "qint32"})
Types = Sequence[TensorType | None]


class Operand(NamedTuple):
    """One operand of a form: `names` are the types it may have (empty for all), `letter` what that type is called."""

    names: frozenset[str]
    letter: str
    ranks: tuple[int, int] | None
    is_alike: bool
    is_constant: bool
    is_optional: bool
    is_repeated: bool

    @property
    def spelled(self) -> str:
        """The types in words."""
        found = sorted(NAMES[name.removeprefix("q")] + " with scales" * name.startswith("q") for name in self.names)
        return " or ".join(found)


class Form(NamedTuple):
    """One way to use a kernel."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]


class _Refusal(NamedTuple):
    """Why a form does not fit, and how far it did."""

    progress: int
    reason: str


def has_kernel(operator: str) -> bool:
    """LiteRT has a kernel for the builtin operator, `CONV_2D` say."""
    return operator in KERNELS


def supports(
    operator: str,
    inputs: Types,
    outputs: Types,
    attrs: Mapping[str, Any] | None = None,
    *,
    constants: Sequence[bool] | None = None,
) -> str | None:
    """None if LiteRT's kernel of `operator` (`CONV_2D`) takes these types; otherwise the reason why it does not.

    `inputs` has None for operands left out. What is unknown of a type is not held against it. `constants` says
    which inputs are constants, where that is known. A reason names the operand, its type or rank, and what the kernel
    takes.
    """
    if operator not in KERNELS:
        return f"LiteRT has no kernel for {operator}"
    activation = (attrs or {}).get("fused_activation_function", b"NONE")
    if activation not in ACTIVATIONS and operator not in RECURRENT:
        name = activation.decode() if isinstance(activation, bytes) else activation
        return f"the kernel of {operator} computes no activation {name}"
    best: _Refusal | None = None
    for form in forms_of(operator):
        refusal = _refusal(form, inputs, outputs, constants)
        if refusal is None:
            return None
        if best is None or refusal.progress > best.progress:
            best = refusal
    assert best is not None
    return best.reason


def supports_node(node: Node) -> str | None:
    """`supports` of a `tfl` node as it stands."""
    types = [None if value is None else value.type for value in node.inputs]
    constants = [value is not None and value.node.op in ("tfl.CONSTANT", "tf.Const") for value in node.inputs]
    split = len(node.outputs) - node.attrs.get("_intermediates", 0)
    outputs = [value.type for value in node.outputs[:split]]
    return supports(node.op_type, types, outputs, node.attrs, constants=constants)


def types_of(operator: str, place: int) -> frozenset[str]:
    """Names of the element types that input `place` may have in some form; empty where all may be."""
    found: dict[str, None] = {}
    for form in forms_of(operator):
        operand = _at(form.inputs, place)
        if operand is None:
            continue
        if not operand.names:
            return frozenset()
        found.update((NAMES[name.removeprefix("q")], None) for name in operand.names)
    return frozenset(found)


@cache
def forms_of(operator: str) -> tuple[Form, ...]:
    """The forms of a kernel. Raises `KeyError` for an operator that has none."""
    return tuple(_form(text) for text in KERNELS[operator].split(";"))


def _form(text: str) -> Form:
    before, _, after = text.partition("->")
    letters: dict[str, frozenset[str]] = {}
    inputs = tuple(_operand(token, letters) for token in before.split())
    return Form(inputs, tuple(_operand(token, letters) for token in after.split()))


def _operand(token: str, letters: dict[str, frozenset[str]]) -> Operand:
    match = _TOKEN.fullmatch(token)
    assert match is not None, token
    letter, types, least, most, alike, constant, count = match.groups()
    if types in letters:
        letter, names = types, letters[types]
    else:
        listed = [name for part in types.split("|") for name in SETS.get(part, part).split("|") if name]
        names = frozenset(name for part in listed for name in SETS.get(part, part).split("|"))
        if letter:
            letters[letter] = names
    ranks = (int(least), int(most)) if least else None
    return Operand(names, letter or "", ranks, bool(alike), bool(constant), count == "?", count == "*")


# Matching -------------------------------------------------------------------------------------------------------


def _refusal(form: Form, inputs: Types, outputs: Types, constants: Sequence[bool] | None) -> _Refusal | None:
    bound: dict[str, str] = {}
    progress = 0
    for word, operands, types in (("input", form.inputs, inputs), ("output", form.outputs, outputs)):
        for place, type in enumerate(types):
            operand = _at(operands, place)
            if operand is None:
                return _Refusal(progress, f"{word} {place} is one more than the kernel takes")
            if type is None:
                if not operand.is_optional and not operand.is_repeated:
                    return _Refusal(progress, f"{word} {place} is missing")
                continue
            reason = _unfit(operand, type, bound)
            if reason is None and operand.is_alike and not _are_alike(inputs[0], type):
                reason = "has another shape than the first, and the kernel does not broadcast"
            if reason is None and operand.is_constant and word == "input" and constants and not constants[place]:
                reason = "is computed, and the kernel needs a constant"
            if reason is not None:
                return _Refusal(progress, f"{word} {place} {reason}")
            progress += 1
        needed = [operand for operand in operands if not operand.is_optional and not operand.is_repeated]
        if len(types) < len(needed):
            return _Refusal(progress, f"{word} {len(types)} is missing")
    return None


def _at(operands: Sequence[Operand], place: int) -> Operand | None:
    if place < len(operands):
        return operands[place]
    return operands[-1] if operands and operands[-1].is_repeated else None


def _unfit(operand: Operand, type: TensorType, bound: dict[str, str]) -> str | None:
    """Why `type` is not what the operand may be."""
    name = _name(type)
    if name:
        letter = operand.letter
        if letter and bound.setdefault(letter, name) != name:
            return f"is {_spelled(name)}, the kernel wants {_spelled(bound[letter])} as for the other operands"
        if operand.names and name not in operand.names:
            if letter and bound[letter] == name:
                del bound[letter]
            return f"is {_spelled(name)}; the kernel takes {operand.spelled}"
    rank = type.shape.rank
    if operand.ranks is not None and rank is not None and not operand.ranks[0] <= rank <= operand.ranks[1]:
        least, most = operand.ranks
        return f"has {rank} dimensions; the kernel takes {least if least == most else f'{least} to {most}'}"
    return None


def _name(type: TensorType) -> str:
    """Short name of a type, with `q` for one with scales; empty for the unknown type."""
    name = type.dtype.name
    is_scaled = type.quantization is not None or name in _INTERNAL
    short = _SHORT.get(name.removeprefix("q") if name in _INTERNAL else name, "" if name == "unknown" else name)
    return f"q{short}" if is_scaled and short in _SCALED else short


def _spelled(name: str) -> str:
    short = name.removeprefix("q")
    return NAMES.get(short, short) + (" with scales" if name.startswith("q") else "")


def _are_alike(first: TensorType | None, type: TensorType) -> bool:
    return first is None or first.shape.merged(type.shape) is not None
