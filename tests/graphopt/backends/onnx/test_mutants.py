"""Mutants of ONNX files: each is read or refused by name, and what is read is verified and written again."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from graphopt.backends.base import find_backend
from graphopt.ir.errors import Error, MalformedError, UnsupportedError
from graphopt.ir.formats.onnx import onnx_pieces, read_onnx
from graphopt.ir.tensors import Mapping
from graphopt.ir.verifier import problems
from graphopt.testing.lowering import text_model

LAYERS = """
%w = tf.Const() {value = float32[3, 4] repeat [0.5, -1.0, 0.25]}
%k = tf.Const() {value = int32[] 2}
%p = tf.MatMul(%x, %w)
%v = tf.TopKV2(%p, %k)
%y = tf.Softmax(%v)
"""
EDGES = (0x00, 0x01, 0x7F, 0x80, 0xFF)


def seeds() -> list[bytes]:
    """Files of the backend: layers and constants, and text."""
    models = [
        text_model(LAYERS, "%x: float32[?, 3]", "%y, %v:1"),
        text_model('%y = tf.StringJoin(%x, %x) {N = 2, separator = b"-"}', "%x: string[2]"),
        text_model("%y = tf.Where(%x)", "%x: bool[2, 3]"),
    ]
    return [b"".join(map(bytes, onnx_pieces(find_backend("onnx").lower(model).model))) for model in models]


def mutant(seed: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, taken out, put in or copied, or the end cut off."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) or 1)
        kind = chance.randrange(6)
        if kind == 0:
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            data[place : place + 1] = bytes([chance.choice(EDGES)])
        elif kind == 2:
            del data[place : place + chance.randint(1, 8)]
        elif kind == 3:
            data[place:place] = bytes(chance.choice(EDGES) for _ in range(chance.randint(1, 8)))
        elif kind == 4:
            start = chance.randrange(len(data) or 1)
            data[place:place] = data[start : start + chance.randint(1, 40)]
        else:
            del data[place:]
    return bytes(data)


def examine(data: bytes) -> str:
    """What becomes of a mutant. Any other exception than the named ones is the test's failure."""
    try:
        model = read_onnx(Mapping("mutant.onnx", data))
    except (MalformedError, UnsupportedError) as error:
        return type(error).__name__ if str(error) else "a silent error"
    found = problems(model, 3)
    assert not found, found[0]
    try:
        again = b"".join(map(bytes, onnx_pieces(model)))
    except Error:
        return "not written"
    read_onnx(Mapping("again.onnx", again))
    return "read"


@pytest.mark.parametrize("count", [1500, pytest.param(100_000, marks=pytest.mark.deep)], ids=["brief", "deep"])
def test_mutants_are_read_or_refused(count: int) -> None:
    chance, held = random.Random(7), seeds()
    ends = Counter(examine(mutant(held[case % len(held)], chance)) for case in range(count))
    assert not ends["a silent error"]
    assert ends["MalformedError"] > count // 10
    assert ends["read"] > count // 100
