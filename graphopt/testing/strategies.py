"""Hypothesis strategies for models; importing this module needs hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.testing.random_models import build_model


class _DrawnChoices:
    """Decisions that hypothesis takes, remembers and shrinks."""

    def __init__(self, draw: st.DrawFn):
        self._draw = draw

    def below(self, count: int) -> int:
        """A number from 0 to `count` - 1."""
        return self._draw(st.integers(0, count - 1)) if count > 1 else 0


@st.composite
def models(draw: st.DrawFn, max_size: int = 10, *, functions: bool = True) -> Model:
    """Valid models of up to `max_size` blocks, which TensorFlow accepts and runs; with calls, branches and loops.

    They have a signature `serving_default`, static or unknown batch sizes, shared constants, nodes with several
    outputs, control inputs, duplicates, dead branches and batch norms. Feed them with `random_feeds`.
    """
    return build_model(_DrawnChoices(draw), draw(st.integers(1, max_size)), functions=functions)


@st.composite
def graphs(draw: st.DrawFn, max_size: int = 10) -> Graph:
    """Main graphs of `models` without functions."""
    return draw(models(max_size, functions=False)).graph
