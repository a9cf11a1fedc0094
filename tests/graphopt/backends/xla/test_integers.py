"""Weights and activations of 8 bits: what is stored, what is computed, how far that is from floats."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model
from graphopt.ir.tensors import tensor
from graphopt.passes.quantize.recipe import Recipe, Rule, save_recipe
from graphopt.testing import text_model

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(1, 1, size=(4, 2, 8, 8, 4)).astype(np.float32)


def network() -> Model:
    """A convolution with padding, a depthwise and a transposed one, a product, an einsum."""
    shapes = {"w": (3, 3, 4, 8), "d": (3, 3, 8, 1), "t": (2, 2, 4, 8), "v": (256, 16), "u": (16, 4, 24)}
    body = "\n".join(
        f"%{name} = tf.Const() {{value = float32{list(shape)} splat 0.5}}" for name, shape in shapes.items()
    ) + (
        '\n%c = tf.Conv2D(%x, %w) {strides = [1, 2, 2, 1], padding = "SAME"}\n%r = tf.Relu(%c)\n'
        '%dw = tf.DepthwiseConv2dNative(%r, %d) {strides = [1, 1, 1, 1], padding = "SAME"}\n'
        "%big = tf.Const() {value = int32[4] [2, 8, 8, 4]}\n"
        '%tr = tf.Conv2DBackpropInput(%big, %t, %dw) {strides = [1, 2, 2, 1], padding = "SAME"}\n'
        "%s = tf.Const() {value = int32[2] [-1, 256]}\n%f = tf.Reshape(%tr, %s)\n%m = tf.MatMul(%f, %v)\n"
        '%e = tf.Einsum(%m, %u) {equation = "ab,bcd->acd"}'
    )
    model = text_model(body, "%x: float32[2, 8, 8, 4]", "%c, %dw, %tr, %m, %e")
    for name, shape in shapes.items():
        scale = np.geomspace(0.01, 1, shape[-1])  # channels of different size
        model.graph.node(name).attrs["value"] = tensor((RNG.normal(size=shape) * scale).astype(np.float32))
    return model


def decibels(model: Model, **options: Any) -> tuple[dict[str, float], list[str], Any]:
    """Signal to noise of each output, the notes, and the lowered model."""
    from graphopt.backends.xla.backend import XlaBackend
    from graphopt.runtimes.base import get_runtime

    lowered = XlaBackend().lower(model, fallback=False, **options)
    expected = get_runtime("reference").run(model, {"x": SAMPLES[0]})
    found = get_runtime("xla").run(lowered.model, {"x": SAMPLES[0]})
    noise = {name: np.square(found[name] - array).mean() for name, array in expected.items()}
    ratios = {name: np.square(array).mean() / max(noise[name], 1e-20) for name, array in expected.items()}
    return {name: float(10 * np.log10(ratio)) for name, ratio in ratios.items()}, lowered.notes, lowered.model


def stored(model: Model) -> dict[str, str]:
    """Element types of the weights by name."""
    return {node.name: node.attrs["value"].dtype.name for node in model.graph if node.op == "xla.WEIGHT"}


def test_weights_alone() -> None:
    found, notes, lowered = decibels(network(), precision="int8-weights")
    assert min(found.values()) > 36
    assert "0 of 5 products compute with int8 weights and activations, 2 with int8 weights alone" in notes[0]
    assert stored(lowered) == {"v": "int8", "u": "int8", "w": "float32"}  # small ones stay, and lie in the program


def observed(model: Model) -> Any:
    """Statistics of the samples, without TensorFlow."""
    from graphopt.calibration import calibrate

    return calibrate(model, {"x": SAMPLES}, method="minmax", runtime="reference")


@pytest.mark.tensorflow
def test_samples_give_activations_their_ranges() -> None:
    found, notes, _ = decibels(network(), precision="int8", data={"x": SAMPLES})
    assert min(found.values()) > 28
    assert "3 of 5 products compute with int8 weights and activations, 2 with int8 weights alone" in notes[0]
    assert any("depthwise" in note for note in notes)


def test_operations_are_of_integers() -> None:
    """Products of int8 with sums of int32, in the program itself."""
    from graphopt.backends.xla.bindings import bindings, make_context
    from graphopt.backends.xla.emitter import Emitter
    from graphopt.backends.xla.integers import plan_integers
    from graphopt.backends.xla.options import XlaOptions

    model = network()
    options = XlaOptions(precision="int8", statistics=observed(model))
    with make_context(), bindings().ir.Location.unknown():
        layers = plan_integers(model, options).layers
        text = str(Emitter(model, options, layers).emit(next(iter(model.signatures.values()))).module)
    products = [line for line in text.splitlines() if "stablehlo.convolution" in line or "dot_general" in line]
    integer = [line for line in products if "xi8>" in line and "xi32>" in line]
    assert len(integer) == 3
    assert "stablehlo.pad" in text  # by the zero point


def test_statistics_from_a_file(tmp_path: pathlib.Path) -> None:
    from graphopt.passes.quantize.statistics_file import save_statistics

    model = network()
    path = tmp_path / "statistics.json"
    save_statistics(observed(model), path)
    found, notes, _ = decibels(model, precision="int8", statistics=str(path))
    assert min(found.values()) > 28
    assert "3 of 5" in notes[0]


def test_a_recipe_says_which_layers(tmp_path: pathlib.Path) -> None:
    recipe = Recipe(
        (Rule(mode="dynamic"), Rule(mode="float", operators=("tf.Einsum",)), Rule(mode="float", layers="^c$"))
    )
    save_recipe(recipe, tmp_path / "recipe.json")
    found, notes, _ = decibels(network(), precision="int8", recipe=str(tmp_path / "recipe.json"))
    assert found["c"] > 100
    assert min(found.values()) > 28
    assert "1 of 5 products compute with int8 weights and activations, 2 with int8 weights alone" in notes[0]


def test_tables_are_looked_up_in_as_integers() -> None:
    from graphopt.backends.xla.backend import XlaBackend
    from graphopt.runtimes.base import get_runtime

    body = (
        "%a = tf.Const() {value = int32[] 0}\n%t = tf.Const() {value = float32[100, 16] splat 0.5}\n"
        "%y = tf.GatherV2(%t, %i, %a)"
    )
    model = text_model(body, "%i: int32[5]")
    table = RNG.normal(size=(100, 16)).astype(np.float32)
    model.graph.node("t").attrs["value"] = tensor(table)
    lowered = XlaBackend().lower(model, precision="int8-weights", fallback=False).model
    assert stored(lowered) == {"t": "int8"}
    places = np.array([3, 99, 0, 7, 3], np.int32)
    half_a_step = np.abs(table).max() / 127 / 2
    found = get_runtime("xla").run(lowered, {"i": places})["y"]
    np.testing.assert_allclose(found, table[places], rtol=0, atol=half_a_step * 1.001)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int8"}, "give samples"),
        ({"precision": "int8", "recipe": Recipe((Rule(mode="int16x8"),))}, "mode 'int16x8' is not for XLA"),
        ({"precision": "int8", "recipe": Recipe((Rule(mode="weight-only", weight_bits=4),))}, "no 4 bits"),
        ({"precision": "int8", "recipe": Recipe((Rule(mode="int8"),), input_type="int8")}, "borders"),
        ({"data": {"x": SAMPLES}}, "data goes with precision int8"),
        ({"precision": "int8", "data": {}, "statistics": "s.json"}, "not both"),
        ({"precision": "int4"}, "not one of"),
    ],
)
def test_what_does_not_fit_is_said(options: dict[str, Any], said: str) -> None:
    from graphopt.backends.xla.backend import XlaBackend

    with pytest.raises(UsageError, match=said):
        XlaBackend().lower(network(), fallback=False, **options)


def test_on_the_command_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe and statistics in files; without them it says what is missing, and writes nothing."""
    import graphopt
    from graphopt.cli.main import main
    from graphopt.passes.quantize.statistics_file import save_statistics

    model = network()
    graphopt.save(model, tmp_path / "model.pb")
    save_statistics(observed(model), tmp_path / "statistics.json")
    save_recipe(Recipe((Rule(mode="int8"), Rule(mode="float", layers="^e$"))), tmp_path / "recipe.json")
    command = ["lower", str(tmp_path / "model.pb"), "--to", "xla", "-o", str(tmp_path / "out"), "--precision", "int8"]
    command += ["--outputs", "c,dw,tr,m,e"]
    assert main(command) != 0
    assert "give samples" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    given = ["--calibration", str(tmp_path / "statistics.json"), "--recipe", str(tmp_path / "recipe.json")]
    assert main(command + given) == 0
    assert "2 of 5 products compute with int8 weights and activations" in capsys.readouterr().err
    assert (tmp_path / "out" / "manifest.json").exists()
