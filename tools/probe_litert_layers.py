"""Uses of TFLite's matrix products, convolutions and other layers, for `probe_litert_kernels.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from probe_litert_templates import NO_ACTIVATION, TEMPLATES, Make, Probe, add, constant, fed, sizes, tensor


def _batch_matmul(rank: int) -> Probe | None:
    outer = sizes(rank - 2)
    return (
        Probe((tensor("T", *outer, 2, 3), tensor("U", *outer, 3, 4)), (tensor("V", *outer, 2, 4),))
        if rank > 1
        else None
    )


add(
    "BATCH_MATMUL",
    _batch_matmul,
    letters={"T": "f32", "U": "f32", "V": "f32"},
    also=tuple({"T": n, "U": n, "V": n} for n in ("qi8", "qi16", "i8", "i16", "i32", "i64", "f16", "bf16")),
)


def _fully_connected(rank: int) -> Probe | None:
    if not rank:
        return None
    outer = sizes(rank - 1)
    rows = int(np.prod(outer))
    return Probe(
        (tensor("T", *outer, 3), tensor("U", 4, 3, is_constant=True), None), (tensor("V", rows, 4),), NO_ACTIVATION
    )


_ALL = ("f16", "bf16", "f64", "i32", "i16", "qi8", "qu8", "qi16", "qi4")
add(
    "FULLY_CONNECTED",
    _fully_connected,
    letters={"T": "f32", "U": "f32", "V": "f32"},
    rank=2,
    also=(
        *({"T": n, "U": n, "V": n} for n in _ALL),
        {"T": "qi8", "U": "qi4", "V": "qi8"},
        {"T": "qi16", "U": "qi8", "V": "qi16"},
    ),
)
_CONVOLVED = {
    "padding": b"SAME",
    "stride_w": 1,
    "stride_h": 1,
    "dilation_wfactor": 1,
    "dilation_hfactor": 1,
    **NO_ACTIVATION,
}


def _convolution(*filter: int, out: int, more: Mapping[str, Any] = {}) -> Make:
    def make(rank: int) -> Probe | None:
        if rank != 4:
            return None
        inputs = (
            tensor("T", 1, 4, 4, 2),
            tensor("U", *filter, is_constant=True),
            tensor("B", out, is_constant=True, scale=(0.25, 0)),
        )
        return Probe(inputs, (tensor("V", 1, 4, 4, out),), {**_CONVOLVED, **more})

    return make


_CONV = {"T": "f32", "U": "f32", "B": "f32", "V": "f32"}
_CONV_ALSO = tuple(
    dict(zip("TUBV", names.split(), strict=True))
    for names in (
        "qi8 qi8 qi32 qi8",
        "qu8 qu8 qi32 qu8",
        "qi16 qi8 i64 qi16",
        "qi16 qi8 qi32 qi16",
        "qi16 qi16 qi32 qi16",
        "qi8 qi4 qi32 qi8",
        "f32 qi8 f32 f32",
        "f32 qi4 f32 f32",
        "f32 f16 f32 f32",
        "f16 f16 f16 f16",
        "f64 f64 f64 f64",
        "i32 i32 i32 i32",
        "i8 i8 i32 i8",
    )
)
add("CONV_2D", _convolution(3, 2, 2, 2, out=3), letters=_CONV, rank=4, also=_CONV_ALSO)
add(
    "DEPTHWISE_CONV_2D",
    _convolution(1, 2, 2, 2, out=2, more={"depth_multiplier": 1}),
    letters=_CONV,
    rank=4,
    also=_CONV_ALSO,
)


def _transposed(rank: int) -> Probe | None:
    inputs = (
        constant("i32", [1, 4, 4, 3]),
        tensor("U", 3, 2, 2, 2, is_constant=True),
        tensor("T", 1, 4, 4, 2),
        tensor("B", 3, is_constant=True, scale=(0.25, 0)),
    )
    return (
        Probe(inputs, (tensor("V", 1, 4, 4, 3),), {"padding": b"SAME", "stride_w": 1, "stride_h": 1})
        if rank == 4
        else None
    )


add("TRANSPOSE_CONV", _transposed, letters=_CONV, rank=4, also=_CONV_ALSO)
_VOLUME = {"padding": b"SAME", "stride_w": 1, "stride_h": 1, "stride_d": 1, **NO_ACTIVATION}
_VOLUME = {**_VOLUME, "dilation_wfactor": 1, "dilation_hfactor": 1, "dilation_dfactor": 1}
add(
    "CONV_3D",
    lambda r: (
        Probe(
            (tensor("T", 1, 3, 3, 3, 2), tensor("T", 2, 2, 2, 2, 3, is_constant=True)),
            (tensor("T", 1, 3, 3, 3, 3),),
            _VOLUME,
        )
        if r == 5
        else None
    ),
    rank=5,
)
add(
    "CONV_3D_TRANSPOSE",
    lambda r: (
        Probe(
            (
                constant("i32", [1, 3, 3, 3, 3]),
                tensor("T", 2, 2, 2, 3, 2, is_constant=True),
                tensor("T", 1, 3, 3, 3, 2),
            ),
            (tensor("T", 1, 3, 3, 3, 3),),
            _VOLUME,
        )
        if r == 5
        else None
    ),
    rank=5,
)
_POOL = {"padding": b"VALID", "stride_w": 1, "stride_h": 1, "filter_width": 2, "filter_height": 2, **NO_ACTIVATION}
for _name in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"):
    add(
        _name,
        lambda r: Probe((tensor("T", 1, 3, 3, 2),), (tensor("T", 1, 2, 2, 2),), _POOL) if r == 4 else None,
        rank=4,
    )
for _name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
    add(
        _name,
        lambda r: (
            Probe((tensor("T", 1, 2, 2, 2), constant("U", [4, 4])), (tensor("T", 1, 4, 4, 2),)) if r == 4 else None
        ),
        rank=4,
        letters={"T": "f32", "U": "i32"},
    )
add(
    "SPACE_TO_DEPTH",
    lambda r: Probe((tensor("T", 1, 2, 2, 2),), (tensor("T", 1, 1, 1, 8),), {"block_size": 2}) if r == 4 else None,
    rank=4,
)
add(
    "DEPTH_TO_SPACE",
    lambda r: Probe((tensor("T", 1, 1, 1, 8),), (tensor("T", 1, 2, 2, 2),), {"block_size": 2}) if r == 4 else None,
    rank=4,
)


def _space_to_batch(rank: int) -> Probe | None:
    if rank < 3:
        return None
    many = rank - 2
    shape = (1, *([2] * many), 2)
    return Probe(
        (tensor("T", *shape), constant("i32", [2] * many), constant("i32", np.zeros((many, 2), int))),
        (tensor("T", 2**many, *([1] * many), 2),),
    )


def _batch_to_space(rank: int) -> Probe | None:
    if rank < 3:
        return None
    many = rank - 2
    shape = (2**many, *([1] * many), 2)
    return Probe(
        (tensor("T", *shape), constant("i32", [2] * many), constant("i32", np.zeros((many, 2), int))),
        (tensor("T", 1, *([2] * many), 2),),
    )


add("SPACE_TO_BATCH_ND", _space_to_batch)
add("BATCH_TO_SPACE_ND", _batch_to_space)
add(
    "DEQUANTIZE",
    lambda r: Probe((tensor("T", *sizes(r)),), (tensor("U", *sizes(r)),)),
    letters={"T": "qi8", "U": "f32"},
    is_free=True,
)
add(
    "QUANTIZE",
    lambda r: Probe((tensor("T", *sizes(r)),), (tensor("U", *sizes(r)),)),
    letters={"T": "f32", "U": "qi8"},
    is_free=True,
    also=(
        {"T": "qi16"},
        {"T": "qi8"},
        {"T": "qu8"},
        {"T": "qi32"},
        {"U": "qu8"},
        {"U": "qi16"},
        {"T": "qi16", "U": "qi16"},
        {"T": "qi16", "U": "qi32"},
        {"T": "qu8", "U": "qu8"},
        {"T": "qi32", "U": "qi16"},
        {"T": "qi8", "U": "qi16"},
    ),
)
add(
    "EMBEDDING_LOOKUP",
    lambda r: (
        Probe((fed("U", [0, 1]), tensor("T", *sizes(r), is_constant=True)), (tensor("V", *sizes(r)),))
        if r > 1
        else None
    ),
    letters={"T": "f32", "U": "i32", "V": "f32"},
    rank=2,
)
add("MATRIX_DIAG", lambda r: Probe((tensor("T", *sizes(r)),), (tensor("T", *sizes(r), *sizes(r)[-1:]),)) if r else None)
add(
    "MATRIX_SET_DIAG",
    lambda r: (
        Probe((tensor("T", *sizes(r - 2), 2, 2), tensor("T", *sizes(r - 2), 2)), (tensor("T", *sizes(r - 2), 2, 2),))
        if r > 1
        else None
    ),
)
add(
    "SPARSE_TO_DENSE",
    lambda r: (
        Probe((fed("U", [[0], [2]]), constant("U", [3]), fed("T", [1, 2]), fed("T", 0)), (tensor("T", 3),))
        if r == 1
        else None
    ),
    rank=1,
    letters={"T": "f32", "U": "i32"},
)
add(
    "SEGMENT_SUM",
    lambda r: Probe((tensor("T", *sizes(r)), fed("i32", [0, 1])), (tensor("T", *sizes(r)),)) if r else None,
)
for _name in ("UNSORTED_SEGMENT_SUM", "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_MIN"):
    add(
        _name,
        lambda r: (
            Probe((tensor("T", *sizes(r)), fed("i32", [0, 1]), constant("i32", 2)), (tensor("T", *sizes(r)),))
            if r
            else None
        ),
    )
add(
    "DYNAMIC_UPDATE_SLICE",
    lambda r: Probe(
        (tensor("T", *sizes(r)), tensor("T", *[1] * r), fed("U", np.zeros(r, int))), (tensor("T", *sizes(r)),)
    ),
    letters={"T": "f32", "U": "i32"},
)
add("BITCAST", lambda r: Probe((tensor("T", *sizes(r)),), (tensor("T", *sizes(r)),)))
add("BUCKETIZE", lambda r: Probe((tensor("T", *sizes(r)),), (tensor("i32", *sizes(r)),), {"boundaries": (1.0, 3.0)}))
add(
    "COMPLEX_ABS",
    lambda r: Probe((tensor("T", *sizes(r)),), (tensor("U", *sizes(r)),)),
    letters={"T": "c64", "U": "f32"},
    is_free=True,
    also=({"T": "c128", "U": "f64"},),
)
for _name in ("REAL", "IMAG"):
    add(
        _name,
        TEMPLATES["COMPLEX_ABS"].probe,
        letters={"T": "c64", "U": "f32"},
        is_free=True,
        also=({"T": "c128", "U": "f64"},),
    )
add(
    "RFFT2D",
    lambda r: (
        Probe((tensor("T", *sizes(r - 2), 4, 4), constant("i32", [4, 4])), (tensor("U", *sizes(r - 2), 4, 3),))
        if r > 1
        else None
    ),
    letters={"T": "f32", "U": "c64"},
    is_free=True,
)
add(
    "MULTINOMIAL",
    lambda r: (
        Probe((tensor("T", *sizes(r)), constant("i32", 3)), (tensor("U", *sizes(r)[:1], 3),), {"seed": 1, "seed2": 2})
        if r == 2
        else None
    ),
    rank=2,
    letters={"T": "f32", "U": "i32"},
    is_free=True,
)
for _name in ("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL"):
    add(
        _name,
        lambda r: (
            Probe((constant("U", np.array(sizes(r), int)),), (tensor("T", *sizes(r)),), {"seed": 1, "seed2": 2})
            if r
            else None
        ),
        letters={"T": "f32", "U": "i32"},
        is_free=True,
    )
add(
    "NON_MAX_SUPPRESSION_V4",
    lambda r: (
        Probe(
            (tensor("T", 3, 4), tensor("T", 3), constant("i32", 2), constant("T", 0.5), constant("T", 0.1)),
            (tensor("i32", 2), tensor("i32")),
        )
        if r == 2
        else None
    ),
    rank=2,
    is_free=True,
)
add(
    "NON_MAX_SUPPRESSION_V5",
    lambda r: (
        Probe(
            (
                tensor("T", 3, 4),
                tensor("T", 3),
                constant("i32", 2),
                constant("T", 0.5),
                constant("T", 0.1),
                constant("T", 0.0),
            ),
            (tensor("i32", 2), tensor("T", 2), tensor("i32")),
        )
        if r == 2
        else None
    ),
    rank=2,
    is_free=True,
)
add(
    "DILATE",
    lambda r: (
        Probe(
            (tensor("T", *sizes(r)), constant("i32", np.full(r, 2, int)), constant("T", np.asarray(0))),
            (tensor("T", *(2 * n - 1 for n in sizes(r))),),
        )
        if r
        else None
    ),
)
