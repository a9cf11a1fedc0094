"""Random numbers: of ONNX Runtime's or TensorRT's own generator, seeds kept; sequences are not TensorFlow's."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import as_int64, cast
from graphopt.backends.onnx.table import RULES
from graphopt.ir.tensors import tensor
from graphopt.ir.types import FLOAT32, INT32, INT64, TensorType
from graphopt.ir.value import Value

DRAWS = {"tf.RandomUniform": "RandomUniform", "tf.RandomStandardNormal": "RandomNormal"}


@RULES.legalize(*DRAWS)
def random_numbers(op: Lowering) -> Value:
    """Numbers between zero and one, or of a normal distribution."""
    return _drawn(op, DRAWS[op.node.op], op.type, None)


def _drawn(op: Lowering, kind: str, wanted: TensorType, name: str | None) -> Value:
    held = op.known(0)
    attrs: dict[str, Any] = {"dtype": wanted.dtype, **_seed(op)}
    if held is not None and held.size and held.all():
        shape = tuple(int(size) for size in held.reshape(-1))
        return op.emit(kind, type=wanted, name=name, shape=shape, **attrs)
    zeros = op.emit(
        "ConstantOfShape", as_int64(op, op.input(0)), value=tensor(np.zeros(1, wanted.dtype.numpy)), type=wanted,
        name=f"{op.node.name}/shaped",
    )  # fmt: skip
    return op.emit(f"{kind}Like", zeros, type=wanted, name=name, **attrs)


def _seed(op: Lowering) -> dict[str, Any]:
    seed = int(op.attr("seed2") or op.attr("seed") or 0)
    return {"seed": float(seed)} if seed else {}


@RULES.legalize("tf.RandomUniformInt")
def random_integers(op: Lowering) -> Value:
    """Integers from one bound up to another: the floor of random numbers stretched over them."""
    low, high = op.input(1), op.input(2)
    kind = TensorType(FLOAT32, op.type.shape)
    drawn = _drawn(op, "RandomUniform", kind, f"{op.node.name}/drawn")
    width = op.step("Cast", op.step("Sub", high, low), SrcT=low.dtype, DstT=FLOAT32)
    places = op.step("Floor", op.step("Mul", drawn, width))
    return op.step("AddV2", op.step("Cast", places, SrcT=FLOAT32, DstT=low.dtype), low)


@RULES.legalize("tf.Multinomial")
def multinomial(op: Lowering) -> Value:
    """Classes drawn by their log-probabilities."""
    many = op.whole(1, "how many it draws")
    dtype = op.type.dtype if op.type.dtype in (INT32, INT64) else INT64
    kind = TensorType(dtype, op.type.shape)
    made = op.emit("Multinomial", op.input(0), type=kind, dtype=dtype, sample_size=many, **_seed(op))
    return cast(op, made, op.type.dtype)
