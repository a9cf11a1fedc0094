"""Random models to run passes over."""

from __future__ import annotations

import pytest

from graphopt.ir.model import Model
from graphopt.testing import random_model


@pytest.fixture
def sample_models() -> list[Model]:
    """A few models with functions, control inputs and shared constants."""
    return [random_model(seed) for seed in range(12)]
