"""Modules from files and bytes: text, bytecode and blobs; names; what is no module; what has no form."""

from __future__ import annotations

import importlib.util
import io
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.cli.main import main
from graphopt.importers.stablehlo.exports import REASON
from graphopt.importers.stablehlo.reading import read_module
from graphopt.importers.stablehlo.table import all_rules
from graphopt.ir.errors import MalformedError, ResourceError, UnsupportedError
from graphopt.lowering import lower
from graphopt.runtimes.base import get_runtime

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"),
    pytest.mark.xdist_group("xla"),
]


def function(body: str, arguments: str = "%x: tensor<2x3xf32>", result: str = "tensor<2x3xf32>") -> bytes:
    return f"func.func @main({arguments}) -> {result} {{\n{body}\n}}".encode()


ABS = function("%y = stablehlo.abs %x : tensor<2x3xf32>\nreturn %y : tensor<2x3xf32>")


def run(code: bytes, **feeds: Any) -> dict[str, Any]:
    return get_runtime("reference").run(read_module(code, "test"), feeds)


def test_text_and_bytecode_by_name_and_by_content(tmp_path: pathlib.Path) -> None:
    from graphopt.backends.xla.bindings import make_context
    from graphopt.backends.xla.serialization import parse_module, serialized

    context = make_context()
    buffer = io.BytesIO()
    module = parse_module(ABS, context)
    module.operation.write_bytecode(buffer)
    portable = serialized(module, "1.0.0")
    x = np.array([[-1, 2, -3], [4, -5, 6]], np.float32)
    for name, content in (("a.mlir", ABS), ("a.mlirbc", buffer.getvalue()), ("a.stablehlo", portable), ("a", portable)):
        (tmp_path / name).write_bytes(content)
        model = graphopt.load(tmp_path / name)
        assert (model.format, model.source) == ("stablehlo", str(tmp_path / name))
        np.testing.assert_array_equal(get_runtime("reference").run(model, {"x0": x})["y0"], np.abs(x))
    assert graphopt.load(portable).graph.find("y0") is not None


def test_names_come_from_locations_and_lead_back_to_them() -> None:
    body = '%a = stablehlo.abs %x : tensor<2x3xf32> loc("jit(f)/block/abs")\nreturn %a : tensor<2x3xf32>'
    node = read_module(function(body), "test").graph.node("block/abs")
    assert (node.op, node.origins) == ("tf.Abs", ("jit(f)/block/abs",))


def test_sizes_that_are_left_open_are_symbols() -> None:
    body = "%a = stablehlo.abs %x : tensor<?x3xf32>\nreturn %a : tensor<?x3xf32>"
    model = read_module(function(body, "%x: tensor<?x3xf32>", "tensor<?x3xf32>"), "test")
    assert [str(value.type) for value in model.graph.inputs] == ["float32[batch, 3]"]


@pytest.mark.parametrize(
    ("body", "arguments", "result"),
    [
        ("%y = stablehlo.cholesky %x, lower = true : tensor<2x2xf32>", "%x: tensor<2x2xf32>", "tensor<2x2xf32>"),
        (
            '%y = "stablehlo.triangular_solve"(%x, %x) {left_side = true, lower = true, unit_diagonal = false,'
            " transpose_a = #stablehlo<transpose NO_TRANSPOSE>} : (tensor<2x2xf32>, tensor<2x2xf32>)"
            " -> tensor<2x2xf32>", "%x: tensor<2x2xf32>", "tensor<2x2xf32>",
        ),
        (
            '%y = "stablehlo.batch_norm_inference"(%x, %s, %s, %s, %s) {epsilon = 0.5 : f32, feature_index = 1 : i64} :'
            " (tensor<2x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<2x2xf32>",
            "%x: tensor<2x2xf32>, %s: tensor<2xf32>", "tensor<2x2xf32>",
        ),
        (
            '%y = stablehlo.custom_call @Sharding(%x) : (tensor<2x2xf32>) -> tensor<2x2xf32>', "%x: tensor<2x2xf32>",
            "tensor<2x2xf32>",
        ),
        ('%y = stablehlo.custom_call @mhlo.erf(%x) : (tensor<2x2xf32>) -> tensor<2x2xf32>', "%x: tensor<2x2xf32>",
         "tensor<2x2xf32>"),
        ("%y = chlo.is_pos_inf %x : tensor<2x2xf32> -> tensor<2x2xi1>", "%x: tensor<2x2xf32>", "tensor<2x2xi1>"),
        ('%y = "stablehlo.einsum"(%x, %x) {einsum_config = "ij,kj->ik"} : (tensor<2x2xf32>, tensor<2x2xf32>)'
         " -> tensor<2x2xf32>", "%x: tensor<2x2xf32>", "tensor<2x2xf32>"),
        ("%y = stablehlo.dot %x, %x : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>", "%x: tensor<2x2xf32>",
         "tensor<2x2xf32>"),
    ],
)  # fmt: skip
def test_operators_that_jax_does_not_write(body: str, arguments: str, result: str) -> None:
    x = np.array([[4, 1], [1, 9]], np.float32)
    code = function(f"{body}\nreturn %y : {result}", arguments, result)
    feeds = {"x0": x, "x1": np.array([2, 3], np.float32)} if "%s" in arguments else {"x0": x}
    (found,) = run(code, **feeds).values()
    scale = np.array([2, 3], np.float32)
    wanted = {
        "cholesky": lambda: np.linalg.cholesky(x),
        "triangular_solve": lambda: np.linalg.solve(np.tril(x), x),
        "batch_norm": lambda: (x - scale) / np.sqrt(scale + 0.5) * scale + scale,
        "Sharding": lambda: x,
        "erf": lambda: np.ones_like(x) - np.array([[1.5e-8, 0.1572992], [0.1572992, 0]], np.float32),
        "pos_inf": lambda: np.isposinf(x),
        "einsum": lambda: x @ x.T,
        "dot": lambda: x @ x,
    }
    np.testing.assert_allclose(found, next(make() for key, make in wanted.items() if key in body), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("%y = stablehlo.custom_call @mystery(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>", "custom call 'mystery'"),
        ("%y = stablehlo.rng %a, %a, %s, distribution = UNIFORM : (tensor<f32>, tensor<f32>, tensor<2xi64>)"
         " -> tensor<2x3xf32>", "stablehlo.rng.*no rule"),
        ('%y = "stablehlo.cholesky"(%q) {lower = false} : (tensor<2x2xf32>) -> tensor<2x2xf32>', "upper triangle"),
    ],
)  # fmt: skip
def test_what_has_no_form_is_named(body: str, message: str) -> None:
    lead = "%a = stablehlo.constant dense<1.0> : tensor<f32>\n%s = stablehlo.constant dense<[2, 3]> : tensor<2xi64>\n"
    lead += "%q = stablehlo.constant dense<1.0> : tensor<2x2xf32>\n"
    result = "tensor<2x2xf32>" if "%q" in body else "tensor<2x3xf32>"
    with pytest.raises(UnsupportedError, match=message):
        read_module(function(f"{lead}{body}\nreturn %y : {result}", result=result), "test")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"nothing of the kind", "no StableHLO module"),
        (b"ML\xefR\rStableHLO_v1.15.0\x00\x01+\x07", "no StableHLO module"),
        (b"", "no function 'main'"),
        (b"\x00\xff\xfe\x80", "no StableHLO module"),
        (function('%y = "other.abs"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>\nreturn %y : tensor<2x3xf32>'),
         "no StableHLO module"),
        (function("return %x : tensor<3xf32>"), "no StableHLO module"),
    ],
)  # fmt: skip
def test_what_is_no_module_is_refused(code: bytes, message: str, tmp_path: pathlib.Path, capfd: Any) -> None:
    with pytest.raises(MalformedError, match=message) as found:
        read_module(code, "broken.mlir")
    assert found.value.source == "broken.mlir"
    (tmp_path / "broken.mlir").write_bytes(code)
    capfd.readouterr()
    if code:
        assert main(["inspect", str(tmp_path / "broken.mlir")]) == 3
        assert capfd.readouterr().err.count("\n") == 1, "MLIR printed something of its own"


def test_bytecode_that_ends_the_readers_process_is_refused(run_python: Callable[..., Any]) -> None:
    """Single bits of a module in turn: each is read or refused, and this process lives on."""
    source = f"""
from graphopt.backends.xla.bindings import make_context
from graphopt.backends.xla.serialization import parse_module, serialized
from graphopt.importers.stablehlo.reading import read_module
from graphopt.ir.errors import Error
from graphopt.importers.stablehlo import guarding
guarding.SECONDS = 1
code = serialized(parse_module({ABS!r}, make_context()), "1.0.0")
outcomes = set()
for place in range(0, 8 * len(code), 8 * len(code) // 40):
    changed = bytearray(code)
    changed[place // 8] ^= 1 << place % 8
    try:
        read_module(bytes(changed), "mutant")
        outcomes.add("read")
    except Error as error:
        outcomes.add(type(error).__name__)
assert "MalformedError" in outcomes and outcomes <= {{"read", "MalformedError", "ImportRefusal", "ResourceError"}}
"""
    done = run_python(source)
    assert (done.returncode, done.stderr) == (0, "")


def test_calls_that_would_grow_without_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.importers.stablehlo import translation

    functions = [f"func.func private @f{n}(%x: tensor<f32>) -> tensor<f32> {{ %a = call @f{n + 1}(%x) : (tensor<f32>)"
                 f" -> tensor<f32>\n%b = call @f{n + 1}(%a) : (tensor<f32>) -> tensor<f32>\nreturn %b : tensor<f32> }}"
                 for n in range(20)]  # fmt: skip
    functions.append("func.func private @f20(%x: tensor<f32>) -> tensor<f32> { return %x : tensor<f32> }")
    main_function = function(
        "%a = call @f0(%x) : (tensor<f32>) -> tensor<f32>\nreturn %a : tensor<f32>", "%x: tensor<f32>", "tensor<f32>"
    ).decode()
    monkeypatch.setattr(translation, "OPERATION_LIMIT", 1000)
    with pytest.raises(ResourceError, match="more than 1000 operations"):
        read_module("\n".join([main_function, *functions]).encode(), "test")
    endless = "func.func private @f0(%x: tensor<f32>) -> tensor<f32> { %a = call @f0(%x) : (tensor<f32>) ->"
    endless += " tensor<f32>\nreturn %a : tensor<f32> }"
    with pytest.raises(ResourceError, match="nested deeper"):
        read_module("\n".join([main_function, endless]).encode(), "test")


def test_a_blob_without_a_form_stays_a_program(tmp_path: pathlib.Path) -> None:
    import jax
    import jax.export
    from jax import lax

    made = jax.export.export(jax.jit(lambda x: lax.cumlogsumexp(x)))(np.ones(3, np.float32))
    (tmp_path / "program.jax").write_bytes(made.serialize())
    model = graphopt.load(tmp_path / "program.jax")
    assert model.format == "xla"
    assert "reduce_window" in model.metadata[REASON]
    assert lower(model, "xla").model.format == "xla"
    with pytest.raises(UnsupportedError, match=r"program of XLA.*reduce_window"):
        lower(model, "tflite")
    x = np.array([1, 2, 3], np.float32)
    np.testing.assert_allclose(get_runtime("xla").run(model, {"x0": x})["y0"], np.logaddexp.accumulate(x), rtol=1e-5)


def test_arguments_that_are_not_used_and_several_platforms(tmp_path: pathlib.Path) -> None:
    import jax
    import jax.export
    from jax import lax

    def choose(x: Any, y: Any) -> Any:
        return lax.platform_dependent(y, cpu=lambda y: y + 1, cuda=lambda y: y - 1)

    made = jax.export.export(jax.jit(choose), platforms=("cuda", "cpu"))(np.ones(3, np.float32), np.ones(2, np.float32))
    (tmp_path / "both.jax").write_bytes(made.serialize())
    model = graphopt.load(tmp_path / "both.jax")
    feeds = {"x0": np.ones(3, np.float32), "x1": np.ones(2, np.float32)}
    np.testing.assert_array_equal(get_runtime("reference").run(model, feeds)["y0"], [2, 2])


def test_every_rule_is_documented() -> None:
    assert all(rule.__doc__ for rule in all_rules().functions.values())
