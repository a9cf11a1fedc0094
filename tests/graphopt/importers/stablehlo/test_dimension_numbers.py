"""Products, gathers, scatters, pads and slices of any dimension numbers, against what JAX computes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"),
    pytest.mark.xdist_group("xla"),
]
EXAMPLES = settings(max_examples=6, deadline=None)


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


@EXAMPLES
@given(data=st.data())
def test_products(data: st.DataObject, agrees: Callable[..., Any]) -> None:
    from jax import lax

    batch, inner = (data.draw(st.lists(st.sampled_from([1, 2, 3]), max_size=2)) for _ in range(2))
    shapes, places = [], []
    for free in (data.draw(st.lists(st.sampled_from([2, 4]), max_size=2)) for _ in range(2)):
        kinds = [("batch", k) for k in range(len(batch))] + [("inner", k) for k in range(len(inner))]
        order = data.draw(st.permutations(kinds + [("free", k) for k in range(len(free))]))
        sizes = {"batch": batch, "inner": inner, "free": free}
        shapes.append([sizes[kind][k] for kind, k in order])
        places.append({item: place for place, item in enumerate(order)})
    axes = [tuple(tuple(held[kind, k] for k in range(len(sizes))) for held in places)
            for kind, sizes in (("inner", inner), ("batch", batch))]  # fmt: skip
    agrees(
        lambda x, y: lax.dot_general(x, y, tuple(axes)), *(numbers(*shape) for shape in shapes), rtol=1e-4, atol=1e-5
    )


@EXAMPLES
@given(data=st.data())
def test_gathers_and_scatters(data: st.DataObject, agrees: Callable[..., Any]) -> None:
    from jax import lax

    shape = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    mapped = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(1, len(shape)))]
    sizes = [data.draw(st.integers(1, size)) if axis in mapped else size for axis, size in enumerate(shape)]
    collapsed = [axis for axis in range(len(shape)) if sizes[axis] == 1 and data.draw(st.booleans())]
    batch = data.draw(st.lists(st.integers(1, 3), max_size=2))
    kept = len(shape) - len(collapsed)
    offsets = sorted(data.draw(st.permutations(range(kept + len(batch))))[:kept])
    indices = data.draw(
        st.lists(st.integers(-1, 4), min_size=int(np.prod(batch)) * len(mapped), max_size=99).map(
            lambda found: np.array(found[: int(np.prod(batch)) * len(mapped)], np.int32)
        )
    ).reshape(*batch, len(mapped))
    gathering = lax.GatherDimensionNumbers(tuple(offsets), tuple(collapsed), tuple(mapped))
    agrees(lambda x, i: lax.gather(x, i, gathering, tuple(sizes), mode="clip"), numbers(*shape), indices)
    scattering = lax.ScatterDimensionNumbers(tuple(offsets), tuple(collapsed), tuple(mapped))
    windows = iter([sizes[axis] for axis in range(len(shape)) if axis not in collapsed])
    outer = iter(batch)
    updates = numbers(*(next(windows) if place in offsets else next(outer) for place in range(kept + len(batch))))
    agrees(
        lambda x, i, u: (lax.scatter_add(x, i, u, scattering), lax.scatter_max(x, i, u, scattering)),
        numbers(*shape), indices, updates, rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@EXAMPLES
@given(data=st.data())
def test_pads_slices_and_broadcasts(data: st.DataObject, agrees: Callable[..., Any]) -> None:
    from jax import lax

    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    amounts = [(data.draw(st.integers(-1, 2)), data.draw(st.integers(-1, 2)), data.draw(st.integers(0, 2)))
               for _ in shape]  # fmt: skip
    amounts = [
        (low, high if low + high + size + (size - 1) * between >= 0 else 1, between)
        for (low, high, between), size in zip(amounts, shape, strict=True)
    ]
    agrees(lambda x: lax.pad(x, np.float32(0.5), amounts), numbers(*shape))
    starts = [data.draw(st.integers(0, size)) for size in shape]
    limits = [data.draw(st.integers(start, size)) for start, size in zip(starts, shape, strict=True)]
    steps = [data.draw(st.integers(1, 2)) for _ in shape]
    agrees(lambda x: lax.slice(x, starts, limits, steps), numbers(*shape))
    rank = len(shape) + data.draw(st.integers(0, 2))
    places = data.draw(st.permutations(range(rank)))[: len(shape)]
    places = sorted(places)
    wide = [2] * rank
    for place, size in zip(places, shape, strict=True):
        wide[place] = size if size > 1 else data.draw(st.integers(1, 3))
    agrees(lambda x: lax.broadcast_in_dim(x, wide, places) * 2, numbers(*shape))
