"""Operators that draw numbers: their shapes against TensorFlow, and that nothing evaluates them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracle import check_operator, words

from graphopt.ir import ops
from graphopt.ir.graph import Graph
from graphopt.ir.ops import Trait
from graphopt.ir.ops.inference import InferenceContext
from graphopt.ir.types import DTYPES, Shape, tensor_type

SHAPE, SEED = np.int32([2, 0, 3]), np.int32([1, 2])
KEY, COUNTER, ALGORITHM = np.uint64([1]), np.uint64([1, 2]), np.int32(1)
FLOAT, INTEGER = {"dtype": DTYPES["float32"]}, {"dtype": DTYPES["int32"]}
f, i = np.float32, np.int32

CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("RandomUniform", [SHAPE], FLOAT),
    ("RandomStandardNormal", [SHAPE], FLOAT),
    ("TruncatedNormal", [SHAPE], FLOAT),
    ("RandomUniformInt", [SHAPE, i(0), i(5)], {}),
    ("ParameterizedTruncatedNormal", [i([4]), f(0), f(1), f(-1), f(1)], {}),
    ("RandomGamma", [i([2]), f([1, 2, 3])], {}),
    ("RandomPoissonV2", [i([2]), f([1, 2, 3])], {}),
    ("RandomShuffle", [f([[1, 2], [3, 4]])], {}),
    ("Multinomial", [np.ones((2, 3), f), i(4)], {}),
    ("StatelessMultinomial", [np.ones((2, 3), f), i(4), SEED], {}),
    ("StatelessRandomUniform", [SHAPE, SEED], FLOAT),
    ("StatelessRandomNormal", [SHAPE, SEED], FLOAT),
    ("StatelessTruncatedNormal", [SHAPE, SEED], FLOAT),
    ("StatelessRandomUniformInt", [SHAPE, SEED, i(0), i(5)], {}),
    ("StatelessRandomUniformFullInt", [SHAPE, SEED], INTEGER),
    ("StatelessRandomGammaV2", [i([4, 3]), SEED, f([1, 2, 3])], {}),
    ("StatelessRandomPoisson", [i([4, 3]), SEED, f([1, 2, 3])], FLOAT),
    ("StatelessRandomBinomial", [i([4, 3]), SEED, f([1, 2, 3]), f(0.5)], FLOAT),
    ("StatelessRandomUniformV2", [SHAPE, KEY, COUNTER, ALGORITHM], FLOAT),
    ("StatelessRandomNormalV2", [SHAPE, KEY, COUNTER, ALGORITHM], FLOAT),
    ("StatelessTruncatedNormalV2", [SHAPE, KEY, COUNTER, ALGORITHM], FLOAT),
    ("StatelessRandomUniformIntV2", [SHAPE, KEY, COUNTER, ALGORITHM, i(0), i(5)], {}),
    ("StatelessRandomUniformFullIntV2", [SHAPE, KEY, COUNTER, ALGORITHM], INTEGER),
    ("StatelessRandomGetAlg", [], {}),
    ("RandomIndexShuffle", [i(3), np.int32([1, 2, 3]), i(9)], {}),
    ("SobolSample", [i(2), i(3), i(0)], {}),
    ("StochasticCastToInt", [f([1.5, 2.5]), KEY, COUNTER, ALGORITHM], {"Tout": DTYPES["int32"]}),
]


@pytest.mark.tensorflow
@pytest.mark.parametrize(("name", "inputs", "attrs"), CASES, ids=[case[0] for case in CASES])
def test_shapes(name: str, inputs: list[Any], attrs: dict[str, Any]) -> None:
    check_operator(name, inputs, attrs, evaluates=False)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["RandomUniform", "StatelessRandomUniform"])
def test_shapes_that_are_no_vectors(name: str) -> None:
    inputs = [i([[2]])] if name == "RandomUniform" else [i([[2]]), SEED]
    assert check_operator(name, inputs, FLOAT, evaluates=False) is None


@pytest.mark.tensorflow
def test_keys_and_counters() -> None:
    check_operator("StatelessRandomGetKeyCounter", [SEED], evaluates=False, inferable=False)
    check_operator("StatelessRandomGetKeyCounterAlg", [SEED], evaluates=False, inferable=False)


def test_generators_with_state() -> None:
    """Their first input is a handle; the shape comes third."""
    operator = ops.find("tf.StatefulUniform")
    assert operator is not None
    assert operator.shape is not None
    graph = Graph()
    handle = graph.create_node("tf.Placeholder", types=[tensor_type("resource", [])]).output
    algorithm = graph.create_node("tf.Placeholder", types=[tensor_type("int64", [])]).output
    wanted = graph.create_node("tf.Placeholder", types=[tensor_type("int64", [2])]).output
    node = graph.create_node("tf.StatefulUniform", [handle, algorithm, wanted], {"dtype": DTYPES["float32"]})
    assert operator.shape(InferenceContext(node)) == [Shape([None, None])]


def test_traits() -> None:
    declared = ops.declared_operators()
    for name in words("RandomUniform RandomStandardNormal Multinomial StatefulUniform RandomShuffle RandomGamma"):
        assert declared[f"tf.{name}"].has(Trait.RANDOM | Trait.STATEFUL)
    for name in words("StatelessRandomUniform StatelessTruncatedNormalV2 StatelessShuffle"):
        assert declared[f"tf.{name}"].traits == Trait.RANDOM
    for name, operator in declared.items():
        assert not (operator.has(Trait.RANDOM) and operator.evaluate), f"{name} must not be evaluated"
