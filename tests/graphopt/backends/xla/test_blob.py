"""Functions that JAX exported, read as models."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

import graphopt
from graphopt.ir.errors import MalformedError
from graphopt.runtimes.base import get_runtime


def test_nested_arguments_and_symbolic_sizes(tmp_path: pathlib.Path) -> None:
    import jax
    import jax.export

    def function(weights: dict[str, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x @ weights["w"] + weights["b"], x.sum()

    (rows,) = jax.export.symbolic_shape("rows")
    structs = {"w": jax.ShapeDtypeStruct((3, 2), np.float32), "b": jax.ShapeDtypeStruct((2,), np.float32)}
    made = jax.export.export(jax.jit(function))(structs, jax.ShapeDtypeStruct((rows, 3), np.float32))
    (tmp_path / "dense.jax").write_bytes(made.serialize())
    model = graphopt.load(tmp_path / "dense.jax")
    assert {name: str(value.type) for name, value in model.signatures["serving_default"].input_values().items()} == {
        "x0": "float32[2]", "x1": "float32[3, 2]", "x2": "float32[rows, 3]",
    }  # fmt: skip
    feeds = {"x0": np.ones(2, np.float32), "x1": np.ones((3, 2), np.float32), "x2": np.ones((4, 3), np.float32)}
    found = get_runtime("xla").run(model, feeds)
    np.testing.assert_allclose(found["y0"], np.full((4, 2), 4.0))
    assert found["y1"] == 12
    graphopt.save(model, tmp_path / "folder")
    assert get_runtime("xla").run(graphopt.load(tmp_path / "folder"), feeds)["y1"] == 12


@pytest.mark.parametrize("data", [b"nothing of the kind", b"\x08\x00\x00\x00\x04\x00\x06\x00" * 9])
def test_what_is_none_is_refused(tmp_path: pathlib.Path, data: bytes) -> None:
    (tmp_path / "broken.jax").write_bytes(data)
    with pytest.raises(MalformedError, match=r"no jax\.export blob"):
        graphopt.load(tmp_path / "broken.jax")
