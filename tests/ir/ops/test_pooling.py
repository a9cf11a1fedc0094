"""Pools and their gradients against TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import arrays, check_operator

from graphopt.ir import ops
from graphopt.ir.ops import Trait
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.types import DTYPES

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=15)


@st.composite
def pools(draw: Any, spatial: int = 2, explicit: bool = False) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The images' shape, and window, strides and padding."""
    window = tuple(draw(st.integers(1, 3)) for _ in range(spatial))
    strides = tuple(draw(st.integers(1, 3)) for _ in range(spatial))
    sizes = tuple(draw(st.integers(size, size + 4)) for size in window)
    padding = draw(st.sampled_from([b"SAME", b"VALID", *([b"EXPLICIT"] if explicit else [])]))
    attrs: dict[str, Any] = {"ksize": (1, *window, 1), "strides": (1, *strides, 1), "padding": padding}
    if padding == b"EXPLICIT":
        pads = [draw(st.integers(0, size - 1)) for size in window for _ in range(2)]
        attrs["explicit_paddings"] = (0, 0, *pads, 0, 0)
    return (draw(st.integers(1, 2)), *sizes, draw(st.integers(1, 3))), attrs


def values(seed: int, *shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).uniform(-9, 9, shape).astype(dtype)


@tensorflow
@FEW
@given(
    pools(explicit=True), st.integers(0, 99), st.sampled_from([np.float32, np.float64, np.int32, np.uint8, np.float16])
)
def test_max_pool(pool: Any, seed: int, dtype: Any) -> None:
    shape, attrs = pool
    check_operator("MaxPool", [values(seed, *shape).astype(dtype)], attrs, exact=True)


@tensorflow
@FEW
@given(pools(), st.integers(0, 99))
def test_max_pool_with_window_as_input(pool: Any, seed: int) -> None:
    shape, attrs = pool
    window, strides = (np.array(attrs[name], np.int32) for name in ("ksize", "strides"))
    check_operator("MaxPoolV2", [values(seed, *shape), window, strides], {"padding": attrs["padding"]}, exact=True)


@tensorflow
@FEW
@given(pools(), st.integers(0, 99), st.sampled_from([np.float32, np.float64]))
def test_average_pool(pool: Any, seed: int, dtype: Any) -> None:
    shape, attrs = pool
    check_operator("AvgPool", [values(seed, *shape, dtype=dtype)], attrs, rtol=1e-4, atol=1e-5)
    check_operator("AvgPool", [values(seed, *shape, dtype=np.float16)], attrs, rtol=1e-2, atol=2e-2)


@tensorflow
@settings(max_examples=8)
@given(pools(3), st.integers(0, 99))
def test_pools_of_volumes(pool: Any, seed: int) -> None:
    shape, attrs = pool
    images = values(seed, *shape)
    check_operator("MaxPool3D", [images], attrs, exact=True)
    check_operator("AvgPool3D", [images], attrs, rtol=1e-4, atol=1e-5)


@tensorflow
@FEW
@given(pools(), st.integers(0, 99), st.booleans(), st.sampled_from(["int32", "int64"]))
def test_max_pool_with_positions(pool: Any, seed: int, batched: bool, kind: str) -> None:
    shape, attrs = pool
    images = np.random.RandomState(seed).randint(0, 3, shape).astype(np.float32)  # ties: the first one counts
    attrs = {**attrs, "include_batch_in_index": batched, "Targmax": DTYPES[kind]}
    check_operator("MaxPoolWithArgmax", [images], attrs, exact=True)


@FEW
@given(pools(explicit=True), st.integers(0, 99))
def test_channels_first_is_the_same_pool_transposed(pool: Any, seed: int) -> None:
    shape, attrs = pool
    images = values(seed, *shape)
    turned = {**attrs, "data_format": b"NCHW"}
    for name in ("ksize", "strides"):
        turned[name] = (1, 1, *attrs[name][1:-1])
    if "explicit_paddings" in attrs:
        turned["explicit_paddings"] = (0, 0, 0, 0, *attrs["explicit_paddings"][2:-2])
    for op in ("MaxPool", "AvgPool"):
        expected = oracle.evaluate(op, [images], attrs)[0]
        result = oracle.evaluate(op, [np.moveaxis(images, -1, 1)], turned)[0]
        assert np.array_equal(np.moveaxis(result, 1, -1), expected)


@tensorflow
def test_pool_over_channels() -> None:
    attrs = {"ksize": (1, 1, 1, 2), "strides": (1, 1, 1, 2), "padding": b"SAME"}
    check_operator("MaxPool", [values(0, 2, 3, 3, 4)], attrs, exact=True)


@tensorflow
@FEW
@given(arrays(np.float32, (1, 4, 4, 2), edges=True).filter(lambda a: not np.isnan(a).any()))
def test_extremes(images: Any) -> None:
    check_operator("MaxPool", [images], {"ksize": (1, 2, 2, 1), "strides": (1, 2, 2, 1), "padding": b"VALID"})


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ((1, 4, 4), {}),
        ((1, 1, 4, 2), {"ksize": (1, 4, 2, 1), "padding": b"VALID"}),
        ((1, 4, 4, 2), {"ksize": (1, 0, 2, 1)}),
        ((1, 4, 4, 2), {"strides": (1, 1, 0, 1)}),
        ((2, 4, 4, 2), {"ksize": (2, 1, 1, 1)}),
        ((1, 4, 4, 2), {"ksize": (1, 2, 2)}),
    ],
)
def test_refused(shape: tuple[int, ...], changes: dict[str, Any]) -> None:
    attrs = {"ksize": (1, 2, 2, 1), "strides": (1, 1, 1, 1), "padding": b"SAME", **changes}
    for op in ("MaxPool", "AvgPool"):
        with pytest.raises(InferenceError):
            oracle.infer(op, [values(0, *shape)], {**attrs, "T": DTYPES["float32"]}, [None])
        with pytest.raises(ValueError, match=r"\w"):
            oracle.evaluate(op, [values(0, *shape)], attrs)


@tensorflow
@FEW
@given(pools(), st.integers(0, 99))
def test_gradients(pool: Any, seed: int) -> None:
    shape, attrs = pool
    images = values(seed, *shape)
    pooled = oracle.evaluate("MaxPool", [images], attrs)[0]
    gradients = values(seed + 1, *pooled.shape)
    check_operator("MaxPoolGrad", [images, pooled, gradients], attrs, rtol=1e-4, atol=1e-4)
    sizes = np.array(shape, np.int32)
    check_operator("AvgPoolGrad", [sizes, gradients], attrs, rtol=1e-4, atol=1e-4)
    window, strides = (np.array(attrs[name], np.int32) for name in ("ksize", "strides"))
    inputs = [images, pooled, gradients, window, strides]
    check_operator("MaxPoolGradV2", inputs, {"padding": attrs["padding"]}, rtol=1e-4, atol=1e-4)


@tensorflow
@settings(max_examples=6)
@given(pools(3), st.integers(0, 99))
def test_gradients_of_volumes(pool: Any, seed: int) -> None:
    shape, attrs = pool
    images = values(seed, *shape)
    pooled = oracle.evaluate("MaxPool3D", [images], attrs)[0]
    gradients = values(seed + 1, *pooled.shape)
    check_operator("MaxPool3DGrad", [images, pooled, gradients], attrs, rtol=1e-4, atol=1e-4)
    check_operator("AvgPool3DGrad", [np.array(shape, np.int32), gradients], attrs, rtol=1e-4, atol=1e-4)


@tensorflow
@pytest.mark.parametrize("op", ["FractionalMaxPool", "FractionalAvgPool"])
def test_fractional_pools(op: str) -> None:
    attrs = {"pooling_ratio": (1.0, 1.44, 1.73, 1.0), "deterministic": True, "seed": 1, "seed2": 2}
    check_operator(op, [values(0, 2, 17, 12, 3)], attrs, evaluates=False)
    found = ops.find(f"tf.{op}")
    assert found is not None
    assert found.has(Trait.RANDOM)
