"""What tests of imported programs share: a function of JAX, what it computes, and what its graph computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def is_wide(arguments: Any) -> bool:
    """Some argument has elements of 64 bits, which JAX narrows unless it is told not to."""
    return any(np.dtype(argument.dtype).name in ("float64", "int64", "uint64") for argument in arguments)


def quickly_compiled(function: Any, arrays: Any) -> Any:
    """The function compiled without what makes it fast."""
    import jax

    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*arrays).compile(compiler_options=options)


@pytest.fixture(scope="session")
def imported() -> Callable[..., Any]:
    """`imported(function, *arguments)`: the model of a function of JAX, exported for arguments or their structs."""

    def load(function: Any, *arguments: Any) -> Any:
        import jax
        import jax.export

        from graphopt.importers.stablehlo.reading import read_module

        with jax.enable_x64(is_wide(arguments)):
            made = jax.export.export(jax.jit(function, keep_unused=True))(*arguments)
        return read_module(bytes(made.mlir_module_serialized), "test", trusted=True)

    return load


@pytest.fixture(scope="session")
def agrees(imported: Callable[..., Any]) -> Callable[..., Any]:
    """`agrees(function, *arrays)`: its graph gives what JAX computes, in the reference runtime. Returns the model.

    `structs` export it for other types, of symbolic sizes say. Operators that are to be there are `expected`.
    """

    def check(
        function: Any, *arrays: Any, structs: Any = None, expected: Any = (), rtol: float = 2e-5, atol: float = 1e-6,
    ) -> Any:  # fmt: skip
        import jax

        from graphopt.ir.verifier import verify
        from graphopt.runtimes.base import get_runtime

        model = imported(function, *(structs if structs is not None else arrays))
        verify(model)
        feeds = {
            name: np.asarray(array)
            for name, array in zip(next(iter(model.signatures.values())).inputs, arrays, strict=True)
        }
        found = get_runtime("reference").run(model, feeds)
        with jax.enable_x64(is_wide(arrays)):
            wanted = [
                np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(quickly_compiled(function, arrays)(*arrays))
            ]
        assert len(found) == len(wanted)
        for (name, mine), right in zip(found.items(), wanted, strict=True):
            assert (mine.dtype, mine.shape) == (right.dtype, right.shape), name
            exact = right.dtype.kind in "biu"
            wide = np.complex128 if right.dtype.kind == "c" else np.float64
            np.testing.assert_allclose(
                mine.astype(wide),
                right.astype(wide),
                rtol=0 if exact else rtol,
                atol=0 if exact else atol,
                err_msg=name,
            )
        operators = [node.op_type for graph in model.graphs for node in graph]
        for name in [expected] if isinstance(expected, str) else expected:
            assert name in operators, f"{name} is not among {sorted(set(operators))}"
        return model

    return check
