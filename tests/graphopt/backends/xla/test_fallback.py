"""Graphs with an operator that has no rule: TensorFlow lowers them as a whole, or nothing does."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.backends.base import UnloweredError
from graphopt.backends.xla.backend import XlaBackend
from graphopt.backends.xla.table import RULES, all_rules
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import text_model


@pytest.fixture
def without_tanh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table in which an operator has no rule that TensorFlow's lowering knows."""
    all_rules()
    monkeypatch.delitem(RULES.functions, "tf.Tanh")


@pytest.mark.tensorflow
def test_tensorflow_lowers_the_whole_graph(without_tanh: None) -> None:
    model = text_model("%a = tf.Tanh(%x)\n%y = tf.AddV2(%a, %x)")
    lowered = XlaBackend().lower(model)
    (note,) = lowered.notes
    assert "lowered by TensorFlow as a whole, because of Tanh" in note
    feeds = {"x": np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)}
    expected = get_runtime("reference").run(model, feeds)["y"]
    np.testing.assert_allclose(get_runtime("xla").run(lowered.model, feeds)["y"], expected, rtol=1e-5)


def test_without_fallback_the_operators_are_named(without_tanh: None) -> None:
    with pytest.raises(UnloweredError, match=r"'y' \(tf.Tanh\): there is no rule"):
        XlaBackend().lower(text_model("%y = tf.Tanh(%x)"), fallback=False)


def test_unknown_sizes_have_no_fallback(without_tanh: None) -> None:
    with pytest.raises(UnloweredError) as caught:
        XlaBackend().lower(text_model("%y = tf.Tanh(%x)", "%x: float32[?, 3]"))
    assert "known shapes only" in str(caught.value.__cause__)
