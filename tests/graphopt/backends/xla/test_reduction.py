"""Sums, extremes and their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.testing.lowering import int_scalar, int_vector


def test_reductions(agrees: Callable[..., Any]) -> None:
    body = (
        int_vector("ax", 0, 2) + int_scalar("one", 1)
        + "\n".join(f"%{op} = tf.{op}(%x, %ax) {{keep_dims = true}}" for op in ("Sum", "Mean", "Max", "Min", "Prod"))
        + "\n%a = tf.ArgMax(%x, %one)\n%i = tf.ArgMin(%x, %one)\n%c = tf.Cumsum(%x, %one) {exclusive = true}\n"
        "%r = tf.Cumsum(%x, %one) {reverse = true}\n" + int_scalar("k", 2) + "%v = tf.TopKV2(%x, %k)"
    )  # fmt: skip
    agrees(body, "%x: float32[2, 4, 3]", "%Sum, %Mean, %Max, %Min, %Prod, %a, %i, %c, %r, %v, %v:1")


@settings(max_examples=5)
@given(st.data())
def test_running_results(agrees: Callable[..., Any], data: st.DataObject) -> None:
    """Sums, products and sums of exponentials, forwards and back, with and without the element itself."""
    flags = [f"{name} = {str(data.draw(st.booleans())).lower()}" for name in ("exclusive", "reverse")]
    axis = data.draw(st.integers(-2, 1))
    kinds = ("Cumsum", "Cumprod", "CumulativeLogsumexp")
    body = f"%a = tf.Const() {{value = int32[] {axis}}}\n" + "\n".join(
        f"%{kind} = tf.{kind}(%x, %a) {{{', '.join(flags)}}}" for kind in kinds
    )
    x = np.array([[-200.0, 3.0, 0.5, 90.0], [1.0, -0.5, 2.0, 0.25]], np.float32)
    agrees(body, "%x: float32[2, 4]", ", ".join(f"%{kind}" for kind in kinds), {"x": x})
