"""Small networks of JAX: as TFLite, in ONNX's operators, and as StableHLO again, against what JAX computes."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphopt
from graphopt.compat.tflite import TFLiteConverter
from graphopt.lowering import lower
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import operators

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"),
    pytest.mark.xdist_group("xla"),
]
FEATURES, HEADS = 32, 4


class Network(NamedTuple):
    """A function of one input, that input's shape, and operators that TFLite is to have."""

    function: Callable[..., Any]
    shape: tuple[int, ...]
    expected: dict[str, int]


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    random = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)

    first, second, bias = weights(16, 32), weights(32, 10), weights(32)
    kernels = weights(3, 3, 3, 8), weights(3, 3, 8, 16), weights(3, 3, 1, 16)
    scale, offset, head = np.abs(weights(8)) + np.float32(0.5), weights(8), weights(16, 5)
    query, key, value, out = (weights(FEATURES, FEATURES) for _ in range(4))
    wide, narrow = weights(FEATURES, 64), weights(64, FEATURES)
    into, again = weights(6, 12), weights(12, 12)

    def dense(x: Any) -> Any:
        return jax.nn.softmax(jax.nn.relu(x @ first + bias) @ second)

    def convolved(x: Any, kernel: Any, strides: tuple[int, int] = (1, 1), groups: int = 1) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, strides, "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    def pooled(x: Any, start: float, function: Any) -> Any:
        return lax.reduce_window(x, np.float32(start), function, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def convolutions(x: Any) -> Any:
        h = pooled(jax.nn.relu(convolved(x, kernels[0]) * scale + offset), -np.inf, lax.max)
        h = jax.nn.silu(convolved(jax.nn.relu6(convolved(h, kernels[1], (2, 2))), kernels[2], groups=16))
        return (pooled(h, 0.0, lax.add) / 4).mean((1, 2)) @ head

    def normalised(x: Any) -> Any:
        mean = x.mean(-1, keepdims=True)
        return (x - mean) * lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)

    def attention(x: Any) -> Any:
        batch, length = x.shape[:2]
        h = normalised(x)
        q, k, v = ((h @ w).reshape(batch, length, HEADS, FEATURES // HEADS) for w in (query, key, value))
        share = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / np.float32(np.sqrt(FEATURES // HEADS)))
        x = x + jnp.einsum("bhts,bshd->bthd", share, v).reshape(batch, length, FEATURES) @ out
        return x + jax.nn.gelu(normalised(x) @ wide) @ narrow

    def recurrent(x: Any) -> Any:
        def step(state: Any, now: Any) -> Any:
            state = jnp.tanh(now @ into + state @ again)
            return state, state

        last, states = lax.scan(step, jnp.zeros((x.shape[0], 12)), jnp.moveaxis(x, 1, 0))
        return last, jnp.moveaxis(states, 0, 1)

    return {
        "dense": Network(dense, (3, 16), {"FULLY_CONNECTED": 2, "SOFTMAX": 1}),
        "convolutions": Network(convolutions, (2, 16, 16, 3), {
            "CONV_2D": 2, "MAX_POOL_2D": 1, "DEPTHWISE_CONV_2D": 1, "LOGISTIC": 1, "MUL": 1, "AVERAGE_POOL_2D": 1,
            "MEAN": 1, "FULLY_CONNECTED": 1,
        }),
        "attention": Network(attention, (2, 7, FEATURES), {"SOFTMAX": 1, "GELU": 1, "FULLY_CONNECTED": 6, "MEAN": 4}),
        "recurrent": Network(recurrent, (2, 9, 6), {"WHILE": 1, "FULLY_CONNECTED": 2}),
    }  # fmt: skip


def struct(network: Network, is_dynamic: bool) -> Any:
    import jax
    import jax.export

    leading = jax.export.symbolic_shape("b")[0] if is_dynamic else network.shape[0]
    return jax.ShapeDtypeStruct((leading, *network.shape[1:]), np.float32)


def assert_right(network: Network, model: Any, runtime: str) -> None:
    import jax

    x = np.random.default_rng(2).standard_normal(network.shape).astype(np.float32)
    (name,) = next(iter(model.signatures.values())).inputs
    found = get_runtime(runtime).run(model, {name: x})
    wanted = jax.tree_util.tree_leaves(jax.jit(network.function)(x))
    for mine, right in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_dynamic", [False, True])
@pytest.mark.parametrize("name", ["dense", "convolutions", "attention", "recurrent"])
def test_through_the_converter_to_tflite(name: str, is_dynamic: bool, networks: dict[str, Network]) -> None:
    network = networks[name]
    converter = TFLiteConverter.experimental_from_jax([network.function], [[("x", struct(network, is_dynamic))]])
    model = graphopt.load(converter.convert())
    assert_right(network, model, "litert")
    assert dict(operators(model)) | network.expected == operators(model)


@pytest.mark.parametrize("name", ["dense", "convolutions", "attention", "recurrent"])
def test_a_blob_lowers_to_every_target(name: str, networks: dict[str, Network], tmp_path: pathlib.Path) -> None:
    import jax
    import jax.export

    network = networks[name]
    made = jax.export.export(jax.jit(network.function))(struct(network, True))
    (tmp_path / "network.jax").write_bytes(made.serialize())
    model = graphopt.load(tmp_path / "network.jax")
    assert str(model.graph.inputs[0].type) == f"float32{['b', *network.shape[1:]]}".replace("'", "")
    assert_right(network, graphopt.optimize(model).model, "reference")
    assert_right(network, lower(model, "onnx").model, "onnxruntime")
    assert_right(network, lower(model, "xla", fallback=False).model, "xla")
