"""What the tests of ONNX's rules share: ONNX Runtime is the oracle, and skips them where it is not installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from graphopt.backends.base import Lowered, find_backend
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import operators, text_model


@pytest.fixture(scope="session")
def lowers() -> Callable[..., Lowered]:
    """Lower a text model to ONNX, compare its outputs in ONNX Runtime with the reference, and its operators."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle: pip install 'graphopt[tensorrt]'")
    right, runtime = get_runtime("reference"), get_runtime("onnxruntime")

    def check(
        body: str,
        expected: Mapping[str, int] | Sequence[str] | None = None,
        *,
        inputs: str = "%x: float32[2, 3]",
        outputs: str = "%y",
        feeds: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> Lowered:
        model = text_model(body, inputs, outputs)
        lowered = find_backend("onnx").lower(model)
        if expected is not None:
            found = {op: count for op, count in operators(lowered.model).items() if op not in ("Input", "Initializer")}
            wanted = expected if isinstance(expected, Mapping) else {op: list(expected).count(op) for op in expected}
            assert found == dict(wanted), found
        generator = np.random.default_rng(seed)
        given = dict(feeds or {})
        for name, value in next(iter(model.signatures.values())).input_values().items():
            if name not in given:
                shape = tuple(dim if isinstance(dim, int) else 2 for dim in value.shape.dims or ())
                is_float = value.dtype.is_float
                drawn = generator.normal(size=shape) if is_float else generator.integers(0, 5, shape)
                given[name] = drawn.astype(value.dtype.numpy)
        before, after = right.run(model, given), runtime.run(lowered.model, given)
        assert list(before) == list(after)
        for name, array in before.items():
            assert array.dtype == after[name].dtype
            np.testing.assert_allclose(after[name], array, rtol=1e-5, atol=1e-5)
        return lowered

    return check
