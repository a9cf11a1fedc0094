"""Suppression of overlapping boxes, compared with the operator table's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def constants(limit: int = 4, threshold: float = 0.4, least: float = 0.1, sigma: float = 0.5) -> str:
    return (
        f"%n = tf.Const() {{value = int32[] {limit}}}\n%t = tf.Const() {{value = float32[] {threshold}}}\n"
        f"%l = tf.Const() {{value = float32[] {least}}}\n%g = tf.Const() {{value = float32[] {sigma}}}\n"
        "%m = tf.Const() {value = int32[] 5}\n"
    )


def boxes(seed: int, *dims: int) -> np.ndarray[Any, Any]:
    """Boxes of random corners, in any order."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(size=(*dims, 2))
    half = rng.uniform(-0.3, 0.3, size=(*dims, 2))
    return np.concatenate([centre - half, centre + half], -1).astype(np.float32)


@settings(max_examples=4)
@given(st.data())
def test_padded_results(agrees: Callable[..., Any], data: st.DataObject) -> None:
    """More boxes asked for than there are, equal scores, scores too low; with sigma, scores fall instead."""
    limit, sigma = data.draw(st.sampled_from((3, 12))), data.draw(st.sampled_from((0.0, 0.5)))
    scores = np.array(data.draw(st.lists(st.sampled_from((0.05, 0.3, 0.5, 0.9)), min_size=9, max_size=9)), np.float32)
    body = constants(limit, sigma=sigma) + (
        "%y = tf.NonMaxSuppressionV4(%b, %s, %n, %t, %l) {pad_to_max_output_size = true}\n"
        "%z = tf.NonMaxSuppressionV5(%b, %s, %n, %t, %l, %g) {pad_to_max_output_size = true}"
    )
    fed = {"b": boxes(data.draw(st.integers(0, 9)), 9), "s": scores}
    agrees(body, "%b: float32[9, 4], %s: float32[9]", "%y, %y:1, %z, %z:1, %z:2", fed)


@pytest.mark.parametrize("attributes", ["pad_per_class = true", "pad_per_class = false, clip_boxes = false"])
@pytest.mark.parametrize("kinds", [1, 3])
def test_all_classes(agrees: Callable[..., Any], attributes: str, kinds: int) -> None:
    body = constants(2) + f"%y = tf.CombinedNonMaxSuppression(%b, %s, %n, %m, %t, %l) {{{attributes}}}"
    scores = np.random.default_rng(3).permutation(2 * 8 * 3).reshape(2, 8, 3).astype(np.float32) / 48
    fed = {"b": boxes(5, 2, 8, kinds) * 1.5, "s": scores}
    agrees(body, f"%b: float32[2, 8, {kinds}, 4], %s: float32[2, 8, 3]", "%y, %y:1, %y:2, %y:3", fed)


def test_results_of_any_length_are_refused(refusal: Callable[..., Any]) -> None:
    inputs = "%b: float32[9, 4], %s: float32[9]"
    finding = refusal(constants() + "%y = tf.NonMaxSuppressionV3(%b, %s, %n, %t, %l)", inputs)
    assert "depends on data" in finding.reason
    assert "pad_to_max_output_size" in finding.remedy
    assert refusal(constants() + "%y = tf.NonMaxSuppressionV4(%b, %s, %n, %t, %l)", inputs).node == "y"
