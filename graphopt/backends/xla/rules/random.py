"""Random numbers, of XLA's own generator: the distributions are TensorFlow's, the numbers are not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.operand import Operand
from graphopt.backends.xla.rules.indexing import take
from graphopt.backends.xla.table import RULES
from graphopt.ir.types import DTYPES, FLOAT32, INT32, INT64

UINT32, UINT64 = DTYPES["uint32"], DTYPES["uint64"]
DRAWN = {
    "tf.RandomUniform": "uniform", "tf.RandomStandardNormal": "normal", "tf.TruncatedNormal": "truncated",
}  # fmt: skip
SEEDED = {
    "tf.StatelessRandomUniform": "uniform", "tf.StatelessRandomNormal": "normal",
    "tf.StatelessTruncatedNormal": "truncated", "tf.StatelessRandomUniformV2": "uniform",
    "tf.StatelessRandomNormalV2": "normal", "tf.StatelessTruncatedNormalV2": "truncated",
}  # fmt: skip
LARGEST = float(np.nextafter(np.float32(1), np.float32(0)))
WITHIN_TWO = math.erf(math.sqrt(2))  # part of a normal distribution within two deviations


def _uniform(op: Emission, dims: Sequence[int]) -> Operand:
    """Numbers from zero up to one."""
    b = op.build
    distribution = b.hlo.RngDistributionAttr.get("UNIFORM")
    ends = b.full(0, FLOAT32).value, b.full(1, FLOAT32).value
    value = b.hlo.rng(*ends, b.constant(list(dims), INT64).value, distribution)
    return b.made(value, FLOAT32, dims)


def _seeded(op: Emission, dims: Sequence[int]) -> Operand:
    """Numbers from zero up to one that follow from the seed alone, or from key and counter."""
    b, state = op.build, _state(op)
    algorithm = b.hlo.RngAlgorithmAttr.get("THREE_FRY")
    kinds = [b.type(UINT64, (2,)), b.type(UINT32, dims)]
    _, bits = b.hlo.rng_bit_generator(*kinds, algorithm, state.value)
    drawn = b.binary("shift_right_logical", b.made(bits, UINT32, dims), b.full(8, UINT32))
    return b.mul(b.convert(drawn, FLOAT32), 2.0**-24)


def _state(op: Emission) -> Operand:
    """Two numbers for the generator: the seed, or the key and the end of the counter."""
    b = op.build
    if not op.node.op.endswith("V2"):
        return b.convert(op.input(1), UINT64)
    key, counter = b.convert(op.input(1), UINT64), b.convert(op.input(2), UINT64)
    return b.concatenate([key, b.slice(counter, [0], [1])], 0)


def _distributed(op: Emission, kind: str, uniform: Operand) -> Operand:
    """Numbers of a distribution, made of numbers between zero and one."""
    b = op.build
    if kind == "uniform":
        return uniform
    part = WITHIN_TWO if kind == "truncated" else 1.0
    centred = b.mul(b.sub(b.mul(uniform, 2), 1), part)
    centred = b.min(b.max(centred, -LARGEST), LARGEST)
    made = b.chlo.erf_inv(centred.value, results=[b.type(FLOAT32, centred.dims)])
    return b.mul(b.made(made, FLOAT32, centred.dims), math.sqrt(2))


@RULES.lower(*DRAWN)
def drawn(op: Emission) -> Operand:
    """Numbers between zero and one, normal ones, and normal ones within two deviations."""
    return op.build.convert(_distributed(op, DRAWN[op.node.op], _uniform(op, op.static())), op.dtype)


@RULES.lower(*SEEDED)
def seeded(op: Emission) -> Operand:
    """The same from a seed: equal seeds give equal numbers."""
    return op.build.convert(_distributed(op, SEEDED[op.node.op], _seeded(op, op.static())), op.dtype)


@RULES.lower("tf.RandomUniformInt", "tf.StatelessRandomUniformInt", "tf.StatelessRandomUniformIntV2")
def integers(op: Emission) -> Operand:
    """Whole numbers between two bounds, the upper one left out."""
    b = op.build
    is_seeded = op.node.op != "tf.RandomUniformInt"
    low, high = op.input(-2), op.input(-1)
    uniform = _seeded(op, op.static()) if is_seeded else _uniform(op, op.static())
    span = b.convert(b.sub(high, low), FLOAT32)
    steps = b.convert(b.unary("floor", b.mul(uniform, span)), op.dtype)
    return b.add(b.min(steps, b.sub(b.sub(high, low), 1)), low)


@RULES.lower("tf.StatelessRandomGetKeyCounter")
def key_and_counter(op: Emission) -> list[Operand | None]:
    """A key and a counter made of a seed."""
    b, seed = op.build, op.build.convert(op.input(0), UINT64)
    return [b.slice(seed, [0], [1]), b.concatenate([b.slice(seed, [1], [2]), b.full(0, UINT64, (1,))], 0)]


@RULES.lower("tf.StatelessRandomGetAlg")
def algorithm(op: Emission) -> Operand:
    """The number of the generator."""
    return op.build.constant(2, op.dtype)


@RULES.lower("tf.RandomShuffle")
def shuffle(op: Emission) -> Operand:
    """Rows in the order of random numbers."""
    b, x = op.build, op.input(0)
    (count,) = x.static[:1]
    _, order = b.sort("LT", _uniform(op, (count,)), [b.iota(INT32, (count,), 0)], 0)
    return take(op, x, order, 0)


@RULES.lower("tf.Multinomial")
def multinomial(op: Emission) -> Operand:
    """Samples by their logarithmic chances: the place of the largest after noise."""
    b, logits = op.build, op.build.convert(op.input(0), FLOAT32)
    batch, count = op.static()
    dims = (batch, count, logits.static[1])
    uniform = b.max(_uniform(op, dims), float(np.finfo(np.float32).tiny))
    noise = b.unary("negate", b.unary("log", b.unary("negate", b.unary("log", uniform))))
    _, place, _ = b.first_largest(b.add(b.broadcast(logits, dims, (0, 2)), noise), 2)
    return b.convert(b.reshape(place, (batch, count)), op.dtype)
