"""Recipes and statistics: what they say is done, what TensorRT cannot follow is said, before anything is written."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.cli.main import main
from graphopt.ir.errors import Error, UsageError
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.recipe import Recipe, Rule, save_recipe
from graphopt.runtimes.base import get_runtime
from graphopt.testing.lowering import text_model

INT8 = Rule(mode="int8", symmetric=True)
BLOCKS = Rule(mode="weight-only", weight_bits=4, granularity="block", block_size=64)


def layers(model: Model) -> dict[str, str]:
    """What each layer's weights are stored as."""
    found = {}
    for node in model.graph:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            made = node.input(1).node
            held = known_tensor(made.input(0) if made.op_type == "DequantizeLinear" else node.input(1))
            found[node.op_type] = held.dtype.name if held is not None else "computed"
    return found


@pytest.fixture
def wide() -> Model:
    """A product of 128 inputs and 8 outputs."""
    weights = np.random.default_rng(0).normal(size=(128, 8)).round(3).tolist()
    body = f"%w = tf.Const() {{value = float32[128, 8] {weights}}}\n%y = tf.MatMul(%x, %w)"
    return text_model(body, "%x: float32[4, 128]")


@pytest.mark.parametrize(
    ("recipe", "remedy"),
    [
        (Recipe((Rule(mode="int8"),)), '"symmetric": true'),
        (Recipe((INT8, Rule(mode="float16"))), "--precision fp16"),
        (Recipe((Rule(mode="dynamic"),)), "make its mode int8 or weight-only"),
        (Recipe((Rule(mode="int16x8"),)), "make its mode int8"),
        (Recipe((Rule(mode="int8", symmetric=True, weight_bits=4),)), "weight-only"),
        (Recipe((Rule(mode="weight-only", weight_bits=4),)), '"granularity": "block"'),
        (Recipe((INT8,), input_type="int8"), "leave input_type"),
    ],
)
def test_what_tensorrt_cannot_follow_says_what_to_write(
    network: Model, samples: Any, recipe: Recipe, remedy: str
) -> None:
    with pytest.raises(UsageError, match=remedy):
        graphopt.lower(network, "tensorrt", precision="int8", data=samples, recipe=recipe)


def test_layers_may_stay_float(network: Model, samples: Any, onnxruntime: Any) -> None:
    recipe = Recipe((INT8, Rule(layers="^c$", mode="float")))
    lowered = graphopt.lower(network, "tensorrt", recipe=recipe, data=samples)
    assert layers(lowered.model) == {"Conv": "float32", "MatMul": "int8"}
    assert any("1 of 2 layers" in note for note in lowered.notes)


@pytest.mark.parametrize("name", ["Conv2D", "tf.Conv2D", "CONV_2D", "Conv", "onnx.Conv"])
def test_operators_go_by_their_names_in_any_dialect(network: Model, samples: Any, onnxruntime: Any, name: str) -> None:
    recipe = Recipe((Rule(operators=(name,), mode="int8", symmetric=True),))
    found = layers(graphopt.lower(network, "tensorrt", recipe=recipe, data=samples).model)
    assert found == {"Conv": "int8", "MatMul": "float32"}


def test_int8_stands_for_fp8_where_that_is_the_precision(network: Model, samples: Any, onnxruntime: Any) -> None:
    found = layers(graphopt.lower(network, "tensorrt", recipe=Recipe((INT8,)), precision="fp8", data=samples).model)
    assert set(found.values()) == {"float8_e4m3fn"}


def test_one_scale_for_all_weights(network: Model, samples: Any, onnxruntime: Any) -> None:
    recipe = Recipe((Rule(mode="int8", symmetric=True, granularity="tensor"),))
    model = graphopt.lower(network, "tensorrt", recipe=recipe, data=samples).model
    conv = next(node for node in model.graph if node.op_type == "Conv")
    assert conv.input(1).node.input(1).shape.static == ()


def test_methods_of_a_recipe_are_used(network: Model, samples: Any, onnxruntime: Any) -> None:
    clipped = Recipe((Rule(mode="int8", symmetric=True, calibration=RangeMethod("percentile", percentile=60.0)),))
    scales = [
        graphopt.lower(network, "tensorrt", precision="int8", data=samples, effort="fast", **more)
        .model.metadata["tensorrt"]["outcome"].scales[0]["scale"]
        for more in ({"recipe": clipped}, {"method": "minmax"})
    ]  # fmt: skip
    assert scales[0] < 0.5 * scales[1]


def test_a_recipe_alone_says_the_precision(wide: Model) -> None:
    lowered = graphopt.lower(wide, "tensorrt", recipe=Recipe((BLOCKS,)))
    assert lowered.model.metadata["tensorrt"]["precision"] == "int4"
    assert layers(lowered.model) == {"MatMul": "int4"}


@pytest.mark.parametrize(("options", "size"), [({}, 128), ({"block_size": 32}, 32)])
def test_int4_weights_have_scales_by_block(wide: Model, options: Any, size: int, onnxruntime: Any) -> None:
    lowered = graphopt.lower(wide, "tensorrt", precision="int4", **options)
    product = next(node for node in lowered.model.graph if node.op_type == "MatMul")
    weights = product.input(1).node
    assert weights.attrs == {"axis": 0, "block_size": size}
    assert weights.input(1).shape.static == (128 // size, 8)
    feeds = {"x": np.random.default_rng(1).normal(size=(4, 128)).astype(np.float32)}
    wanted = get_runtime("reference").run(wide, feeds)["y"]
    got = get_runtime("onnxruntime").run(lowered.model, feeds)["y"]
    assert np.abs(got - wanted).max() <= 0.3 * np.abs(wanted).max()


def test_int4_leaves_what_blocks_do_not_divide(network: Model) -> None:
    lowered = graphopt.lower(network, "tensorrt", precision="int4")
    assert set(layers(lowered.model).values()) == {"float32"}
    reasons = lowered.model.metadata["tensorrt"]["outcome"].reasons
    assert any("no multiple of 64" in reason for reason in reasons.values())
    assert any("products with matrices only" in reason for reason in reasons.values())


@pytest.mark.parametrize("source", ["tensorflow", "onnx"])
def test_statistics_of_a_file(
    network: Model, samples: Any, tmp_path: pathlib.Path, onnxruntime: Any, source: str
) -> None:
    """Those of the TensorFlow model find the tensors of what it is lowered to; so do those of the ONNX model."""
    from graphopt.passes.quantize.statistics_file import save_statistics

    calibrated = network if source == "tensorflow" else graphopt.lower(network, "onnx").model
    runtime = "reference" if source == "tensorflow" else None
    statistics = graphopt.calibrate(calibrated, samples, method="minmax", runtime=runtime)
    save_statistics(statistics, tmp_path / "statistics.json")
    made = graphopt.lower(network, "tensorrt", precision="int8", statistics=tmp_path / "statistics.json").model
    direct = graphopt.lower(network, "tensorrt", precision="int8", data=samples, method="minmax").model
    scales = [[item["scale"] for item in model.metadata["tensorrt"]["outcome"].scales] for model in (made, direct)]
    assert np.allclose(*scales, rtol=1e-5)


def test_onnx_files_are_calibrated_and_quantized(
    network: Model, samples: Any, tmp_path: pathlib.Path, onnxruntime: Any
) -> None:
    """A file says no types of what is computed: they follow from its operators."""
    path = tmp_path / "model.onnx"
    graphopt.save(graphopt.lower(network, "onnx").model, path)
    statistics = graphopt.calibrate(path, samples)
    lowered = graphopt.lower(path, "tensorrt", precision="int8", statistics=statistics)
    assert layers(lowered.model) == {"Conv": "int8", "MatMul": "int8"}
    wanted = get_runtime("reference").run(network, samples[0])["y"]
    got = get_runtime("onnxruntime").run(lowered.model, samples[0])["y"]
    assert np.abs(got - wanted).max() <= 0.1 * np.abs(wanted).max()


def test_statistics_of_another_model_are_refused(network: Model, wide: Model) -> None:
    statistics = graphopt.calibrate(
        text_model("%other = tf.Relu(%fed)", "%fed: float32[3]", "%other"),
        [{"fed": np.arange(3, dtype=np.float32) + n} for n in range(3)], runtime="reference",
    )  # fmt: skip
    with pytest.raises(UsageError, match="know no tensor of this model"):
        graphopt.lower(network, "tensorrt", precision="int8", statistics=statistics)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"precision": "int8"}, "needs samples to calibrate with"),
        ({"precision": "fp8"}, "or statistics of them"),
        ({"precision": "int4", "block_size": 48}, "blocks have 32, 64, 128, 256 weights"),
        ({"precision": "int8", "data": [], "statistics": "s.json"}, "not both"),
        ({"precision": "int8", "data": [], "effort": "some"}, "no effort 'some'"),
    ],
)
def test_options_that_do_not_go_together(network: Model, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        graphopt.lower(network, "tensorrt", **options)


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        ("%y = tf.Relu(%x)", "%x: float32[?, 3]", "no profile"),
        ("%y = tf.Relu(%x)", "%x: float32[*]", "rank"),
        ("%y = tf.Relu(%x)", "%x: float64[3]", "float64"),
        ("%y = tf.Identity(%x)", "%x: string[3]", "string"),
        ("%y = tf.BitwiseAnd(%x, %x)", "%x: uint16[3]", "uint16"),
    ],
)
def test_what_has_no_form_is_an_error_before_anything_is_written(
    tmp_path: pathlib.Path, body: str, inputs: str, reason: str
) -> None:
    with pytest.raises(Error, match=reason):
        graphopt.lower(text_model(body, inputs), "tensorrt")
    path = str(tmp_path / "model.pb")
    graphopt.save(text_model(body, inputs), path)
    assert main(["lower", path, "--to", "tensorrt", "-o", str(tmp_path / "out"), "--outputs", "y"]) == 4
    assert not (tmp_path / "out").exists()


def test_the_command_line(network: Model, samples: Any, tmp_path: pathlib.Path, onnxruntime: Any, capsys: Any) -> None:
    source, folder = str(tmp_path / "model.pb"), str(tmp_path / "out")
    graphopt.save(network, source)
    np.savez(tmp_path / "samples.npz", x=np.stack([sample["x"] for sample in samples]))
    save_recipe(Recipe((INT8, Rule(layers="^c$", mode="float"))), tmp_path / "recipe.json")
    (tmp_path / "asymmetric.json").write_text('{"schema": "graphopt.recipe/1", "rules": [{"mode": "int8"}]}')
    base = ["lower", source, "--to", "tensorrt", "-o", folder, "--outputs", "y", "--precision", "int8"]
    data = ["--data", str(tmp_path / "samples.npz")]
    assert main([*base, *data, "--recipe", str(tmp_path / "asymmetric.json")]) == 2
    assert "symmetric" in capsys.readouterr().err
    assert main([*base]) == 2
    assert not pathlib.Path(folder).exists()
    assert main([*base, *data, "--recipe", str(tmp_path / "recipe.json")]) == 0
    assert "convolutions and products: 1 in float32, 1 in int8" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    computing = {layer["operator"]: layer for layer in report["layers"]}
    assert computing["MatMul"]["computes"] == computing["MatMul"]["weights"] == "int8"
    assert computing["MatMul"]["weight_bytes"] == 12
    assert computing["Conv"]["computes"] == "float32"
    assert "recipe" in computing["Conv"]["reason"]
    statistics = str(tmp_path / "statistics.json")
    calibrate = ["calibrate", source, *data, "-o", statistics, "--outputs", "y", "--runtime", "reference"]
    assert main(calibrate) == 0
    assert main([*base, "--statistics", statistics, "--force"]) == 0
    assert main([*base, *data, "--force", "--pin", "c"]) == 0
    assert "1 in float32, 1 in int8" in capsys.readouterr().out
