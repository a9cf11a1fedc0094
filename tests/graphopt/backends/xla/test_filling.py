"""Constants of every element type, ranges, fills."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir.tensors import tensor
from graphopt.ir.types import dtype_named
from graphopt.testing.lowering import assert_lowers, text_model

TYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16", "float32",
    "float64", "complex64", "complex128",
)  # fmt: skip


@pytest.mark.parametrize("weights", ["arguments", "constants"])
@pytest.mark.parametrize("count", [1, 11, 2000])
def test_constants_of_every_type(count: int, weights: str) -> None:
    """One, some, and so many that they may be weights."""
    body = "\n".join(
        f"%x{place} = tf.Const() {{value = float32[] 0.0}}\n%y{place} = tf.Select(%c, %x{place}, %x{place})"
        for place in range(len(TYPES))
    )
    model = text_model(body, "%c: bool[]", ", ".join(f"%y{place}" for place in range(len(TYPES))))
    rng = np.random.default_rng(0)
    for place, name in enumerate(TYPES):
        dtype = dtype_named(name)
        held = tensor(rng.integers(0, 2 if name == "bool" else 100, count).astype(dtype.numpy), dtype)
        node = model.graph.node(f"x{place}")
        node.attrs["value"], node.attrs["dtype"] = held, dtype
        model.graph.node(f"y{place}").attrs["T"] = dtype
    from graphopt.ir.infer import forget_shapes, infer_model
    from graphopt.ir.types import UNKNOWN_TYPE

    for node in model.graph:
        for value in node.outputs:
            if not value.is_input:
                value.type = UNKNOWN_TYPE
    forget_shapes(model.graph)
    infer_model(model)
    data = {"c": np.array([True])}
    assert_lowers(
        model, target="xla", reference="reference", data=data, rtol=None, fallback=False, weights=weights
    )  # fmt: skip


def test_ranges_and_fills() -> None:
    body = (
        "%a = tf.Const() {value = int32[] 2}\n%b = tf.Const() {value = int32[] 11}\n"
        "%c = tf.Const() {value = int32[] 3}\n%r = tf.Range(%a, %b, %c)\n%s = tf.Cast(%r) {DstT = float32}\n"
        "%y = tf.Mul(%s, %x)\n"
        "%d = tf.Const() {value = int32[2] [2, 2]}\n%f = tf.Fill(%d, %x)"
    )
    model = text_model(body, "%x: float32[]", "%y, %f")
    assert_lowers(model, target="xla", reference="reference", random=1, fallback=False)
