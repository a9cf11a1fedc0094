"""What tests of the rules share: does a graph lower to what computes the same, to which operations, or why not?"""

from __future__ import annotations

import importlib.util
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

HERE = pathlib.Path(__file__).parent
MISSING = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here need JAX, and share a process that has it."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(MISSING)
            item.add_marker(pytest.mark.xdist_group("xla"))


@pytest.fixture(scope="session")
def agrees() -> Callable[..., Any]:
    """`agrees(body, inputs, outputs, data)`: rules alone lower it, and JAX computes what the operator table does."""
    from graphopt.testing.lowering import assert_lowers, text_model

    def check(
        body: str,
        inputs: str = "%x: float32[2, 3]",
        outputs: str = "%y",
        data: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        given = None if data is None else {name: array[None] for name, array in data.items()}
        options = {"target": "xla", "reference": "reference", "fallback": False, "random": 1} | options
        return assert_lowers(text_model(body, inputs, outputs), data=given, **options)

    return check


@pytest.fixture(scope="session")
def operations() -> Callable[..., dict[str, int]]:
    """`operations(body, inputs, outputs)`: what of StableHLO a graph becomes, constants left out."""
    from graphopt.backends.xla.backend import XlaBackend
    from graphopt.backends.xla.options import XlaOptions
    from graphopt.passes.report import RunReport
    from graphopt.testing.lowering import text_model

    def found(body: str, inputs: str = "%x: float32[2, 3]", outputs: str = "%y", **options: Any) -> dict[str, int]:
        model = text_model(body, inputs, outputs)
        name = next(iter(model.signatures))
        _, emitted = XlaBackend()._emit(model, name, XlaOptions(**options), RunReport())
        assert emitted.findings == []
        assert emitted.module.operation.verify()
        names = re.findall(r"= \"?(?:stablehlo|chlo)\.(\w+)", str(emitted.module))
        return {name: count for name, count in Counter(names).items() if name not in ("constant", "return")}

    return found


@pytest.fixture(scope="session")
def refusal() -> Callable[..., Any]:
    """`refusal(body, inputs, outputs)`: the one finding of a graph that does not lower."""
    from graphopt.backends.xla.backend import XlaBackend
    from graphopt.testing.lowering import text_model

    def found(body: str, inputs: str = "%x: float32[2, 3]", outputs: str = "%y", **options: Any) -> Any:
        (finding,) = XlaBackend().check(text_model(body, inputs, outputs), **options)
        assert finding.reason
        return finding

    return found
