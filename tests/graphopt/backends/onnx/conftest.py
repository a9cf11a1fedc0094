"""What the tests of ONNX's rules share: ONNX Runtime is the oracle, and skips them where it is not installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from graphopt.backends.base import Lowered, UnloweredError, find_backend
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
        tolerance: float = 1e-5,
    ) -> Lowered:
        model = text_model(body, inputs, outputs)
        lowered = find_backend("onnx").lower(model)
        if expected is not None:
            found = operators(lowered.model)
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
            if array.dtype == object:
                assert after[name].tolist() == array.tolist()
                continue
            assert array.dtype == after[name].dtype
            assert array.shape == after[name].shape
            np.testing.assert_allclose(after[name], array, rtol=tolerance, atol=tolerance)
        return lowered

    return check


@pytest.fixture(scope="session")
def refuses() -> Callable[..., None]:
    """A text model has no form in ONNX, for a reason that the error says."""

    def check(body: str, reason: str, inputs: str = "%x: float32[2, 3]") -> None:
        with pytest.raises(UnloweredError, match=reason):
            find_backend("onnx").lower(text_model(body, inputs))

    return check


@pytest.fixture(scope="session")
def constant() -> Callable[..., str]:
    """The text of a constant: of int32 unless it holds fractions, or another element type is named."""

    def text(name: str, data: Any, dtype: str = "") -> str:
        array = np.asarray(data)
        kind = dtype or ("float32" if array.dtype.kind == "f" else "int32")
        values = array.astype(bool).tolist() if kind == "bool" else array.tolist()
        shown = str(values).replace("True", "true").replace("False", "false")
        shape = ", ".join(map(str, array.shape))
        return f"%{name} = tf.Const() {{value = {kind}[{shape}] {shown}}}\n"

    return text
