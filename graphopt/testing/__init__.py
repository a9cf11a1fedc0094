"""For authors of passes: random models, an oracle for equivalence, and checks of a pass on an example.

`graphs` and `models` are hypothesis strategies (`pip install hypothesis`); nothing else here needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.testing.equivalence import assert_contract_kept, assert_equivalent, difference
    from graphopt.testing.lowering import assert_lowers, text_model
    from graphopt.testing.passes import check_pass
    from graphopt.testing.random_models import random_feeds, random_model
    from graphopt.testing.strategies import graphs, models
    from graphopt.testing.structure import Strictness, assert_same_structure, differences

__all__ = [
    "Strictness",
    "assert_contract_kept",
    "assert_equivalent",
    "assert_lowers",
    "assert_same_structure",
    "check_pass",
    "difference",
    "differences",
    "graphs",
    "models",
    "random_feeds",
    "random_model",
    "text_model",
]

_HOMES = {
    "equivalence": ("assert_contract_kept", "assert_equivalent", "difference"),
    "lowering": ("assert_lowers", "text_model"),
    "passes": ("check_pass",),
    "random_models": ("random_feeds", "random_model"),
    "strategies": ("graphs", "models"),
    "structure": ("Strictness", "assert_same_structure", "differences"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"graphopt.testing.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
