"""Uses of TFLite's builtin operators, one each, for `probe_litert_kernels.py`: what a model of one operator is made of.

A template has letters for the element types that are tried one after the other, with the types it starts from, and
makes a `Probe` for a rank, or None where the operator has no such use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

SIZES = (2, 3, 2, 2, 3, 2, 2, 2)


class Operand(NamedTuple):
    """A tensor: a letter of the template or a type's short name, its shape, and its values if they matter."""

    token: str
    shape: tuple[int, ...]
    values: Any = None
    is_constant: bool = False
    scale: tuple[float, int] | None = None  # and zero point, where it is quantized
    is_variable: bool = False


class Probe(NamedTuple):
    """One use: inputs (None for one left out), outputs, attributes; an attribute `"=T"` is the type of letter T."""

    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]
    attrs: Mapping[str, Any] = {}


Make = Callable[[int], Probe | None]


@dataclass(frozen=True)
class Template:
    """`rank` is that at which types are tried; `is_free`: outputs are not to be compared; `also`: further types to
    try at all ranks."""

    probe: Make
    letters: Mapping[str, str] = field(default_factory=lambda: {"T": "f32"})
    rank: int = 3
    is_free: bool = False
    also: tuple[Mapping[str, str], ...] = ()
    follows: Mapping[str, str] = field(default_factory=dict)


TEMPLATES: dict[str, Template] = {}


def sizes(rank: int) -> tuple[int, ...]:
    """A shape of `rank` dimensions."""
    return SIZES[:rank]


def tensor(token: str, *shape: int, **details: Any) -> Operand:
    return Operand(token, tuple(shape), **details)


def constant(token: str, values: Any) -> Operand:
    array = np.asarray(values)
    return Operand(token, array.shape, array, True)


def fed(token: str, values: Any) -> Operand:
    array = np.asarray(values)
    return Operand(token, array.shape, array)


def add(name: str, make: Make, **details: Any) -> None:
    TEMPLATES[name] = Template(make, **details)


def elementwise(*names: str, inputs: int = 1, output: str = "T", attrs: Mapping[str, Any] = {}, **details: Any) -> None:
    def make(rank: int) -> Probe:
        one = tensor("T", *sizes(rank))
        scale = details.get("scale")
        return Probe((one,) * inputs, (Operand(output, sizes(rank), scale=scale),), attrs)

    rest = {key: item for key, item in details.items() if key != "scale"}
    for name in names:
        add(name, make, **rest)


def broadcasting(*names: str, output: str = "T", attrs: Mapping[str, Any] = {}, **details: Any) -> None:
    """Two operands each of which is stretched along every other dimension, so that no dimensions can be merged."""

    def make(rank: int) -> Probe:
        shape = sizes(rank)
        left = tuple(1 if place % 2 else size for place, size in enumerate(shape))
        right = tuple(size if place % 2 else 1 for place, size in enumerate(shape))
        return Probe((tensor("T", *left), tensor("T", *right)), (tensor(output, *shape),), attrs)

    for name in names:
        add(name, make, **details)


NO_ACTIVATION = {"fused_activation_function": b"NONE"}
elementwise("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LOG", "NEG", "RELU", "RELU6")
elementwise(
    "RELU_N1_TO_1", "RELU_0_TO_1", "ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE", "LOGICAL_NOT", "ZEROS_LIKE"
)
elementwise("LOGISTIC", scale=(1 / 256, -128))
elementwise("TANH", scale=(1 / 128, 0))
elementwise("SOFTMAX", attrs={"beta": 1.0}, scale=(1 / 256, -128))
elementwise("LOG_SOFTMAX", scale=(16 / 256, 127))
elementwise("L2_NORMALIZATION", attrs=NO_ACTIVATION, scale=(1 / 128, 0), rank=4)
elementwise("LEAKY_RELU", attrs={"alpha": 0.5})
elementwise("LOCAL_RESPONSE_NORMALIZATION", attrs={"radius": 1, "bias": 1.0, "alpha": 1.0, "beta": 0.5}, rank=4)
elementwise("FAKE_QUANT", attrs={"min": -8.0, "max": 7.0, "num_bits": 8}, is_free=True)
elementwise("ADD_N", inputs=2)
broadcasting(
    "ADD",
    "SUB",
    "MUL",
    "DIV",
    attrs={"pot_scale_int16": False, **NO_ACTIVATION},
    also=({"T": "i32"}, {"T": "i64"}, {"T": "qi8"}, {"T": "qi16"}),
)
broadcasting("MAXIMUM", "MINIMUM", "POW", "FLOOR_DIV", "FLOOR_MOD", "SQUARED_DIFFERENCE", "ATAN2", "BITWISE_XOR")
broadcasting("RIGHT_SHIFT", "LOGICAL_AND", "LOGICAL_OR", letters={"T": "i32"})
for _name in ("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT"):
    TEMPLATES[_name] = Template(TEMPLATES[_name].probe, {"T": "bool"})
broadcasting(
    "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", output="bool", also=({"T": "i32"},)
)


def _cast(rank: int) -> Probe:
    shape = sizes(rank)
    return Probe((tensor("T", *shape),), (tensor("U", *shape),), {"in_data_type": "=T", "out_data_type": "=U"})


add("CAST", _cast, letters={"T": "f32", "U": "f32"})
add("RESHAPE", lambda r: Probe((tensor("T", *sizes(r)), constant("i32", [-1])), (tensor("T", int(np.prod(sizes(r)))),)))
add(
    "SHAPE",
    lambda r: Probe((tensor("T", *sizes(r)),), (tensor("U", r),), {"out_type": "=U"}),
    letters={"T": "f32", "U": "i32"},
)
add("RANK", lambda r: Probe((tensor("T", *sizes(r)),), (tensor("i32"),)))
add(
    "EXPAND_DIMS",
    lambda r: Probe((tensor("T", *sizes(r)), constant("U", 0)), (tensor("T", 1, *sizes(r)),)),
    letters={"T": "f32", "U": "i32"},
)
add(
    "SQUEEZE",
    lambda r: (
        Probe((tensor("T", 1, *sizes(r - 1)),), (tensor("T", *sizes(r - 1)),), {"squeeze_dims": (0,)}) if r else None
    ),
)


def _transpose(rank: int) -> Probe:
    order = tuple(reversed(range(rank)))
    shape = sizes(rank)
    return Probe((tensor("T", *shape), constant("i32", np.array(order, int))), (tensor("T", *shape[::-1]),))


add("TRANSPOSE", _transpose, also=({"T": "i32"}, {"T": "i8"}, {"T": "bool"}))


def _slice(rank: int) -> Probe:
    shape = sizes(rank)
    ones = np.ones(rank, int)
    return Probe((tensor("T", *shape), constant("U", 0 * ones), constant("U", ones)), (tensor("T", *ones.tolist()),))


add("SLICE", _slice, letters={"T": "f32", "U": "i32"})


def _strided_slice(rank: int) -> Probe:
    zeros = np.zeros(rank, int)
    parts = (constant("U", zeros), constant("U", zeros + 1), constant("U", zeros + 1))
    return Probe((tensor("T", *sizes(rank)), *parts), (tensor("T", *(zeros + 1).tolist()),))


add("STRIDED_SLICE", _strided_slice, letters={"T": "f32", "U": "i32"})


def _pad(*more: Operand) -> Make:
    def make(rank: int) -> Probe:
        shape = sizes(rank)
        amounts = np.ones((rank, 2), int)
        return Probe((tensor("T", *shape), constant("U", amounts), *more), (tensor("T", *(n + 2 for n in shape)),))

    return make


add("PAD", _pad(), letters={"T": "f32", "U": "i32"}, also=({"T": "qi8"},))
add("PADV2", _pad(constant("T", np.asarray(3))), letters={"T": "f32", "U": "i32"})


def _mirror_pad(rank: int) -> Probe:
    shape = tuple(max(n, 2) for n in sizes(rank))
    return Probe(
        (tensor("T", *shape), constant("U", np.ones((rank, 2), int))),
        (tensor("T", *(n + 2 for n in shape)),),
        {"mode": b"REFLECT"},
    )


add("MIRROR_PAD", _mirror_pad, letters={"T": "f32", "U": "i32"})


def _reduce(*names: str, **details: Any) -> None:
    def make(rank: int) -> Probe:
        axis = np.array([rank - 1] if rank else [], int)
        return Probe(
            (tensor("T", *sizes(rank)), constant("i32", axis)), (tensor("T", *sizes(rank)[:-1]),), {"keep_dims": False}
        )

    for name in names:
        add(name, make, **details)


_reduce("SUM", "MEAN", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", also=({"T": "i32"}, {"T": "qi8"}))
_reduce("REDUCE_ANY", "REDUCE_ALL", letters={"T": "bool"})


def _arg(rank: int) -> Probe | None:
    if not rank:
        return None
    return Probe((tensor("T", *sizes(rank)), constant("V", 0)), (tensor("U", *sizes(rank)[1:]),), {"output_type": "=U"})


for _name in ("ARG_MAX", "ARG_MIN"):
    add(_name, _arg, letters={"T": "f32", "V": "i32", "U": "i32"})


def _joined(rank: int) -> Probe | None:
    shape = sizes(rank)
    return (
        Probe((tensor("T", *shape),) * 2, (tensor("T", 2 * shape[0], *shape[1:]),), {"axis": 0, **NO_ACTIVATION})
        if rank
        else None
    )


add("CONCATENATION", _joined)
add(
    "PACK", lambda r: Probe((tensor("T", *sizes(r)),) * 2, (tensor("T", 2, *sizes(r)),), {"axis": 0, "values_count": 2})
)
add(
    "UNPACK",
    lambda r: Probe((tensor("T", *sizes(r)),), (tensor("T", *sizes(r)[1:]),) * 2, {"axis": 0, "num": 2}) if r else None,
)


def _split(rank: int) -> Probe | None:
    shape = sizes(rank)
    return (
        Probe((constant("i32", 0), tensor("T", *shape)), (tensor("T", 1, *shape[1:]),) * 2, {"num_splits": 2})
        if rank
        else None
    )


add("SPLIT", _split)


def _split_v(rank: int) -> Probe | None:
    shape = sizes(rank)
    inputs = (tensor("T", *shape), constant("U", [1, 1]), constant("i32", 0))
    return Probe(inputs, (tensor("T", 1, *shape[1:]),) * 2, {"num_splits": 2}) if rank else None


add("SPLIT_V", _split_v, letters={"T": "f32", "U": "i32"})


def _gather(rank: int) -> Probe | None:
    return (
        Probe((tensor("T", *sizes(rank)), fed("U", [0, 1, 0])), (tensor("T", 3, *sizes(rank)[1:]),), {"axis": 0})
        if rank
        else None
    )


add("GATHER", _gather, letters={"T": "f32", "U": "i32"})
add(
    "GATHER_ND",
    lambda r: Probe((tensor("T", *sizes(r)), fed("U", [[0], [1]])), (tensor("T", 2, *sizes(r)[1:]),)) if r else None,
    letters={"T": "f32", "U": "i32"},
)


def _scatter(rank: int) -> Probe | None:
    shape = (3, *sizes(rank)[1:])
    inputs = (fed("U", [[0], [2]]), tensor("T", 2, *shape[1:]), constant("U", np.array(shape, int)))
    return Probe(inputs, (tensor("T", *shape),)) if rank else None


add("SCATTER_ND", _scatter, letters={"T": "f32", "U": "i32"})


def _tile(rank: int) -> Probe:
    shape = sizes(rank)
    return Probe((tensor("T", *shape), constant("U", np.full(rank, 2, int))), (tensor("T", *(2 * n for n in shape)),))


add("TILE", _tile, letters={"T": "f32", "U": "i32"})


def _broadcast_to(rank: int) -> Probe:
    shape = sizes(rank)
    one = tuple(1 if place % 2 else size for place, size in enumerate(shape))
    return Probe((tensor("T", *one), constant("U", np.array(shape, int))), (tensor("T", *shape),))


add("BROADCAST_TO", _broadcast_to, letters={"T": "f32", "U": "i32"})
add(
    "BROADCAST_ARGS",
    lambda r: Probe((fed("T", [2, 1]), fed("T", [3])), (tensor("T", 2),)) if r == 1 else None,
    letters={"T": "i32"},
    rank=1,
)
add(
    "FILL",
    lambda r: Probe((constant("U", np.array(sizes(r), int)), tensor("T")), (tensor("T", *sizes(r)),)),
    letters={"T": "f32", "U": "i32"},
)
add("RANGE", lambda r: Probe((fed("T", 0), fed("T", 4), fed("T", 1)), (tensor("T", 4),)) if r == 0 else None, rank=0)
add(
    "REVERSE_V2",
    lambda r: Probe((tensor("T", *sizes(r)), constant("i32", [0])), (tensor("T", *sizes(r)),)) if r else None,
)
add(
    "REVERSE_SEQUENCE",
    lambda r: (
        Probe((tensor("T", *sizes(r)), fed("U", [1, 2])), (tensor("T", *sizes(r)),), {"seq_dim": 1, "batch_dim": 0})
        if r > 1
        else None
    ),
    letters={"T": "f32", "U": "i32"},
)
add("WHERE", lambda r: Probe((tensor("T", *sizes(r)),), (tensor("i64", 1, r),)), letters={"T": "bool"}, is_free=True)
add(
    "UNIQUE",
    lambda r: (
        Probe((fed("T", [1, 2, 1]),), (tensor("T", 2), tensor("U", 3)), {"idx_out_type": "=U"}) if r == 1 else None
    ),
    letters={"T": "f32", "U": "i32"},
    rank=1,
)
add(
    "TOPK_V2",
    lambda r: (
        Probe(
            (tensor("T", *sizes(r - 1), 4), constant("i32", 2)),
            (tensor("T", *sizes(r - 1), 2), tensor("U", *sizes(r - 1), 2)),
        )
        if r
        else None
    ),
    letters={"T": "f32", "U": "i32"},
)
add("CUMSUM", lambda r: Probe((tensor("T", *sizes(r)), constant("i32", 0)), (tensor("T", *sizes(r)),)) if r else None)
add(
    "ONE_HOT",
    lambda r: Probe(
        (tensor("U", *sizes(r)), constant("i32", 3), fed("T", 1), fed("T", 0)),
        (tensor("T", *sizes(r), 3),),
        {"axis": -1},
    ),
    letters={"T": "f32", "U": "i32"},
)


def _select(rank: int) -> Probe:
    shape = sizes(rank)
    return Probe((tensor("bool", *shape), tensor("T", *shape), tensor("T", *shape)), (tensor("T", *shape),))


def _select_v2(rank: int) -> Probe:
    shape = sizes(rank)
    left = tuple(1 if place % 2 else size for place, size in enumerate(shape))
    right = tuple(size if place % 2 else 1 for place, size in enumerate(shape))
    return Probe((tensor("bool", *left), tensor("T", *right), tensor("T", *left)), (tensor("T", *shape),))


add("SELECT", _select)
add("SELECT_V2", _select_v2)


def _prelu(rank: int) -> Probe:
    shape = sizes(rank)
    return Probe((tensor("T", *shape), tensor("T", *shape[1:])), (tensor("T", *shape),))


add("PRELU", _prelu)
