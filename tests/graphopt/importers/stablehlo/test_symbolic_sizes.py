"""Functions exported for a size that is a symbol, run for a number."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"),
    pytest.mark.xdist_group("xla"),
]


def functions() -> dict[str, Callable[..., Any]]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    kernel = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    numbers = ("NWC", "WIO", "NWC")
    return {
        "reductions": lambda x: (x.mean(), x.sum(0), jax.nn.softmax(x, 0), x.argmax(0), x.max((0, 1)), x.var(0)),
        "broadcasts": lambda x: (jnp.broadcast_to(x[:, None], (x.shape[0], 2, *x.shape[1:])), jnp.zeros_like(x) + 1,
                                 jnp.ones((x.shape[0], 3))),
        "reshapes": lambda x: (x.reshape(-1), x.reshape(x.shape[0] * 2, -1),
                               x.reshape(x.shape[0], -1) @ np.ones((24, 2), np.float32),
                               jnp.moveaxis(x, 0, 1), x.swapaxes(0, 2)),
        "slices": lambda x: (x[:, 1:, ::2], x[1:], x[:-1], x[0], x[-1], x[::-1], lax.dynamic_slice_in_dim(x, 1, 2, 1)),
        "joins": lambda x: (jnp.concatenate([x, x * 2], 0), jnp.concatenate([x, x], -1), jnp.stack([x, x], 1),
                            jnp.pad(x, ((0, 0), (1, 1), (0, 0)))),
        "places": lambda x: (x + jnp.arange(x.shape[0])[:, None, None], jnp.take(x, np.array([1, 0]), axis=1),
                             jnp.take_along_axis(x, np.zeros((1, 1, 4), np.int32), 1), x.at[:, 0].set(1.0),
                             x.at[:, :, 1].add(2.0), jax.nn.one_hot(x.argmax(1)[:, 0], 6)),
        "masks": lambda x: jnp.where(jnp.tril(jnp.ones((6, 6)))[None] > 0, jnp.einsum("btd,bsd->bts", x, x), -1e9),
        "sorts": lambda x: (jnp.sort(x, -1), jnp.argsort(x, 1), lax.top_k(x, 2), jnp.cumsum(x, 1)),
        "convolution": lambda x: (lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=numbers),
                                  lax.conv_general_dilated(x, kernel, (2,), "VALID", dimension_numbers=numbers)),
        "pooling": lambda x: (lax.reduce_window(x, -np.inf, lax.max, (1, 2, 1), (1, 2, 1), "VALID"),
                              lax.reduce_window(x, np.float32(0), lax.add, (1, 2, 1), (1, 1, 1), "SAME") / 2),
        "loops": lambda x: (lax.scan(lambda c, t: (jnp.tanh(c + t), c), x[:, 0], jnp.moveaxis(x, 1, 0)),
                            lax.fori_loop(0, 3, lambda i, c: c * 2 + i, x)),
        "branches": lambda x: lax.cond(x.sum() > 0, lambda y: y + 1, lambda y: y[::1] * 2, x),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["reductions", "broadcasts", "reshapes", "slices", "joins", "places", "masks", "sorts",
                                  "convolution", "pooling", "loops", "branches"])  # fmt: skip
def test_a_batch_of_any_size(name: str, agrees: Callable[..., Any]) -> None:
    import jax
    import jax.export

    (batch,) = jax.export.symbolic_shape("b", constraints=["b >= 2"])
    struct = jax.ShapeDtypeStruct((batch, 6, 4), np.float32)
    x = np.random.default_rng(1).standard_normal((3, 6, 4)).astype(np.float32)
    agrees(functions()[name], x, structs=[struct], rtol=1e-4, atol=1e-5)
