"""XlaCallModule: SavedModels that JAX wrote are graphs, and what is lowered to XLA is written as one."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.backends.xla.savedmodel import called_model
from graphopt.cli.main import main
from graphopt.importers.stablehlo.call_modules import CALL_MODULE
from graphopt.ir.errors import MalformedError, UnsupportedError
from graphopt.lowering import lower
from graphopt.runtimes.base import get_runtime
from graphopt.sources import read
from graphopt.testing import text_model

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install 'graphopt[xla]'"),
    pytest.mark.tensorflow,
]
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 12


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a SavedModel that JAX wrote, of a batch that is not known, and what it computes."""
    import jax
    import jax.numpy as jnp
    import tensorflow as tf
    from jax.experimental import jax2tf

    def network(x: Any) -> Any:
        h = jax.nn.softmax(x @ WEIGHTS)
        return jax.lax.fori_loop(0, 3, lambda i, c: jnp.tanh(c + h), h)

    converted = jax2tf.convert(network, polymorphic_shapes=["(b, 4)"], with_gradient=False)
    module = tf.Module()
    module.f = tf.function(
        lambda x: converted(x), autograph=False, input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")]
    )
    folder = tmp_path_factory.mktemp("jax") / "saved"
    tf.saved_model.save(module, str(folder), signatures=module.f.get_concrete_function())
    return folder, network


def test_a_saved_model_of_jax_is_a_graph(saved: Any, tmp_path: pathlib.Path) -> None:
    folder, network = saved
    model = graphopt.load(folder)
    assert all(node.op != CALL_MODULE for graph in model.graphs for node in graph)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    wanted = np.asarray(network(x))
    optimised = graphopt.optimize(model).model
    for made, runtime in ((optimised, "reference"), (lower(model, "tflite").model, "litert")):
        (found,) = get_runtime(runtime).run(made, {"x": x}).values()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    import tensorflow as tf

    graphopt.save(optimised, f"{tmp_path}/optimised/")
    (found,) = tf.saved_model.load(str(tmp_path / "optimised")).signatures["serving_default"](x=tf.constant(x)).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_module_without_a_form_stays_and_is_told(tmp_path: pathlib.Path) -> None:
    code = b"func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> { %y = stablehlo.custom_call @mystery(%x) :"
    code += b" (tensor<2xf32>) -> tensor<2xf32>\nreturn %y : tensor<2xf32> }"
    model = module_model(code)
    found = read(model)
    assert [node.op for node in found.model.graph if node.op == CALL_MODULE] == [CALL_MODULE]
    assert "custom_call @mystery" in found.notes[0]


def module_model(code: bytes, result: str = "float32") -> Any:
    model = text_model(
        f"%y = tf.XlaCallModule(%x) {{Tin = [float32], Tout = [{result}], Sout = [shape[2]], version = 9,"
        ' module = "", platforms = ["CPU"]}',
        "%x: float32[2]",
    )
    model.graph.node("y").attrs["module"] = code
    return model


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (b"nothing", "float32"),
        (b"func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> { return %x : tensor<2xf32> }", "int32"),
    ],
)
def test_malformed_modules_are_refused(code: bytes, result: str) -> None:
    with pytest.raises(MalformedError, match=r"StableHLO module|other types"):
        read(module_model(code, result))


@pytest.mark.parametrize("weights", ["arguments", "constants"])
def test_programs_are_called_from_a_saved_model(saved: Any, tmp_path: pathlib.Path, weights: str) -> None:
    import tensorflow as tf

    folder, network = saved
    lowered = lower(folder, "xla", weights=weights, fallback=False)
    graphopt.save(called_model(lowered.model), f"{tmp_path}/called/")
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    (found,) = tf.saved_model.load(str(tmp_path / "called")).signatures["serving_default"](x=tf.constant(x)).values()
    np.testing.assert_allclose(found, network(x), rtol=1e-5, atol=1e-6)
    again = graphopt.load(tmp_path / "called")
    (found,) = get_runtime("reference").run(again, {"x": x}).values()
    np.testing.assert_allclose(found, network(x), rtol=1e-5, atol=1e-6)


def test_only_programs_are_called() -> None:
    with pytest.raises(UnsupportedError, match="lowered to XLA"):
        called_model(text_model("%y = tf.Relu(%x)"))


def test_the_command_line_writes_one(tmp_path: pathlib.Path, capsys: Any) -> None:
    graphopt.save(text_model("%y = tf.Relu(%x)"), tmp_path / "model.pb")
    target = tmp_path / "saved"
    assert main(["lower", str(tmp_path / "model.pb"), "--to", "xla", "--savedmodel", "-o", str(target)]) == 0
    assert (target / "saved_model.pb").is_file()
    assert (
        main(["lower", str(tmp_path / "model.pb"), "--to", "onnx", "--savedmodel", "-o", str(tmp_path / "x.onnx")]) == 2
    )
    assert "--savedmodel goes with" in capsys.readouterr().err
