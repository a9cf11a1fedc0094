"""Choosing how to quantize, sensitivity and search, on a small network in LiteRT."""

from __future__ import annotations

import json

import numpy as np
import pytest

import graphopt
from graphopt.cli.main import main
from graphopt.ir.errors import MalformedError, UsageError
from graphopt.ir.formats.tflite import tflite_bytes
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model, print_model
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.recipe import Recipe, Rule, load_recipe
from graphopt.runtimes.litert import LiteRTRuntime
from graphopt.testing.lowering import text_model
from graphopt.tuning.measuring import PERFECT, Accuracy, Bench, Compared
from graphopt.tuning.search import Point, cheapest, search
from graphopt.tuning.sensitivity import sensitivity

LAYERS, WIDTH = 6, 32
FULLY = 'weights_format = b"DEFAULT", keep_num_dims = false, asymmetric_quantize_inputs = false'


def constant(name: str, array: np.ndarray) -> str:
    shape = f"float32[{', '.join(map(str, array.shape))}]"
    rows = [array] if array.ndim == 1 else array
    texts = ["[" + ", ".join(repr(float(x)) for x in row) + "]" for row in rows]
    held = texts[0] if array.ndim == 1 else f"[{', '.join(texts)}]"
    return f"%{name} = tfl.CONSTANT() {{value = {shape} {held}}} : {shape}"


def network() -> Model:
    """A chain of layers; the third has one output a thousand times larger than the others, which int8 cannot hold."""
    rng = np.random.default_rng(0)
    lines = ["graph @main(%x) -> (%y) {", f"%x = tfl.INPUT() : float32[1, {WIDTH}]"]
    before = "x"
    for place in range(LAYERS):
        name = "y" if place == LAYERS - 1 else f"layer{place}"
        weights = rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)
        if place == 2:
            weights[5] *= 1000
        if place == 3:
            weights[:, 5] /= 1000
        kind = "NONE" if place == LAYERS - 1 else "RELU"
        lines += [
            constant(f"w{place}", weights),
            constant(f"b{place}", rng.normal(size=WIDTH)),
            f"%{name} = tfl.FULLY_CONNECTED(%{before}, %w{place}, %b{place}) "
            f'{{{FULLY}, fused_activation_function = b"{kind}"}} : float32[1, {WIDTH}]',
        ]
        before = name
    model = parse_model("\n".join([*lines, "}"]))
    model.format = "tflite"
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    return model


@pytest.fixture(scope="module")
def model() -> Model:
    return network()


DATA = {"x": np.random.default_rng(1).normal(size=(16, 1, WIDTH)).astype(np.float32)}


def snr(model: Model, quantized: Model) -> float:
    runtime = LiteRTRuntime()
    compared = Compared()
    for sample in DATA["x"]:
        compared.add(runtime.run(model, {"x": sample})["y"], runtime.run(quantized, {"x": sample})["y"])
    return compared.accuracy.snr


def test_measures() -> None:
    compared = Compared()
    compared.add(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    compared.add(np.array([-3.0, 4.0]), np.array([-3.0, 4.5]))
    found = compared.accuracy
    assert found.snr == pytest.approx(20.0)
    assert found.centred == PERFECT
    assert found.max_error == 0.5
    assert found.cosine == pytest.approx(0.9990, abs=1e-3)


def test_a_mean_error_counts_as_far_as_it_is_no_chance() -> None:
    always, chance = Compared(), Compared()
    for sign in (1, -1, 1, -1):
        always.add(np.zeros((2, 3)), np.full((2, 3), [0.5, 0.0, -0.25]))
        chance.add(np.zeros((2, 3)), np.full((2, 3), 0.5 * sign))
    assert always.shift is not None
    assert always.shift.tolist() == [0.5, 0.0, -0.25]
    assert chance.shift is not None
    assert not chance.shift.any()
    once = Compared()
    once.add(np.zeros(2), np.ones(2))
    assert once.shift is None


def test_an_offset_of_the_outputs_is_taken_off(model: Model) -> None:
    bench = Bench(model, [{"x": sample} for sample in DATA["x"]])
    found = graphopt.quantize(model, data=DATA)
    assert found.chosen is not None
    errors = bench.measure(found.model)
    assert max(abs(shift).max() for shift in errors.shifts.values()) < errors.accuracy.max_error / 4


def test_the_plan_is_of_what_is_made_where_an_offset_is_taken_off() -> None:
    rng = np.random.default_rng(3)
    first, second, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((16, 16), (16, 3), 3))
    body = f"""
    %w = tf.Const() {{dtype = float32, value = float32[16, 16] {first.tolist()}}} : float32[16, 16]
    %v = tf.Const() {{dtype = float32, value = float32[16, 3] {second.tolist()}}} : float32[16, 3]
    %b = tf.Const() {{dtype = float32, value = float32[3] {bias.tolist()}}} : float32[3]
    %h = tf.MatMul(%x, %w) {{T = float32, transpose_a = false, transpose_b = false}} : float32[1, 16]
    %r = tf.Relu(%h) {{T = float32}} : float32[1, 16]
    %s = tf.MatMul(%r, %v) {{T = float32, transpose_a = false, transpose_b = false}} : float32[1, 3]
    %y = tf.BiasAdd(%s, %b) {{T = float32, data_format = b"NHWC"}} : float32[1, 3]
    """
    samples = np.abs(rng.normal(size=(20, 1, 16))).astype(np.float32) + 1
    found = graphopt.quantize(text_model(body, "%x: float32[1, 16]"), data={"x": samples})
    assert [row["compute"] for row in found.plan.rows()] == ["int8", "int8 on the fly"]


def test_outputs_that_are_not_finite_are_infinitely_wrong() -> None:
    compared = Compared()
    compared.add(np.array([1.0, np.inf]), np.array([np.nan, 0.0]))
    assert compared.accuracy.snr < -100


def test_more_effort_is_never_worse(model: Model) -> None:
    found = {effort: graphopt.quantize(model, data=DATA, effort=effort) for effort in ("fast", "default", "high")}
    ratios = {effort: snr(model, item.model) for effort, item in found.items()}
    assert ratios["fast"] <= ratios["default"]
    assert ratios["fast"] <= ratios["high"]
    assert ratios["default"] > ratios["fast"] + 3  # equalization takes the outlier back
    assert found["fast"].chosen is None
    chosen = found["default"].chosen
    assert chosen is not None
    assert chosen.measured.noise < chosen.plain.noise
    assert dict(chosen.trials)[chosen.way] == min(noise for _, noise in chosen.trials)
    assert "equalization" in str(chosen.way)
    assert any("is the best" in note for note in found["default"].notes)


def test_what_was_measured_is_what_is_made(model: Model) -> None:
    found = graphopt.quantize(model, data=DATA)
    assert found.chosen is not None
    assert snr(model, found.model) == pytest.approx(found.chosen.measured.accuracy.snr, abs=0.3)  # kernels differ


def test_the_same_again_and_the_model_stays(model: Model) -> None:
    before = print_model(model)
    texts = [print_model(graphopt.quantize(model, data=DATA).model) for _ in range(2)]
    assert texts[0] == texts[1]
    assert print_model(model) == before


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("int16x8", "no rule computes in int8"),
        (Recipe((Rule(mode="int8", calibration=RangeMethod("mse")),)), "the recipe says how to choose ranges"),
    ],
)
def test_where_nothing_is_to_be_chosen_nothing_is_tried(model: Model, recipe: object, reason: str) -> None:
    found = graphopt.quantize(model, recipe, data=DATA)
    assert found.chosen is None
    assert any(reason in note for note in found.notes)


def test_an_unknown_effort_is_refused(model: Model) -> None:
    with pytest.raises(UsageError, match="there is no effort 'most'"):
        graphopt.quantize(model, data=DATA, effort="most")


def test_samples_and_outputs_can_be_given_to_a_bench(model: Model) -> None:
    samples = [{"x": sample} for sample in DATA["x"]]
    runtime = LiteRTRuntime()
    given = Bench(model, samples, [runtime.run(model, sample) for sample in samples])
    assert given.measure(model).accuracy.snr > 100
    with pytest.raises(UsageError, match="no samples"):
        Bench(model, [])


# Sensitivity --------------------------------------------------------------------------------------------------


def test_the_layer_that_hurts_comes_first(model: Model) -> None:
    found = sensitivity(model, DATA)
    assert [item.operator for item in found.layers] == ["FULLY_CONNECTED"] * LAYERS
    assert {item.name for item in found.ranking[:2]} == {"layer2", "layer3"}  # both hold the wide tensor
    assert sum(item.share or 0 for item in found.layers) == pytest.approx(1)
    assert all(item.accumulated is not None for item in found.layers)
    assert found.is_complete
    assert found.accuracy.snr < min(item.alone.snr for item in found.layers if item.alone is not None) + 1


def test_when_the_time_is_up_the_rest_is_left_out(model: Model) -> None:
    found = sensitivity(model, DATA, seconds=0)
    assert not found.is_complete
    assert found.ranking == []
    assert any("the time was up" in note for note in found.notes)


# Search -------------------------------------------------------------------------------------------------------


def test_a_budget_is_met_with_the_fewest_bytes(model: Model) -> None:
    low = graphopt.quantize(model, data=DATA, effort="fast")
    found = search(model, DATA, snr=snr(model, low.model) + 6, effort="fast", precisions=("float16",))
    assert found.meets
    assert 0 < len(found.best.kept) < LAYERS
    assert {"layer2", "layer3"} & set(found.best.kept)
    sizes, ratios = zip(*((point.bytes, point.accuracy.snr) for point in found.points), strict=True)
    assert list(sizes) == sorted(sizes)
    assert list(ratios) == sorted(ratios)
    modes = {node.name: decision.mode for node, decision in found.plan.decisions.items()}
    assert {name for name, mode in modes.items() if mode == "float16"} == set(found.best.kept)
    assert snr(model, found.model) == pytest.approx(found.best.accuracy.snr, abs=0.5)


def test_time_counts_where_bytes_are_about_the_same() -> None:
    def point(size: int, kept: int, rest: str = "int8") -> Point:
        names = tuple(map(str, range(kept)))
        return Point(Accuracy(40.0, 40.0, 0.1, 1.0), size, "weight-only", names, rest, Recipe(()))

    everything, most, larger, mixed = point(1000, 9), point(1015, 5), point(1100, 1), point(1001, 1, "weight-only")
    assert cheapest([everything, most, larger, mixed], 9) is most
    assert cheapest([everything, larger, mixed], 9) is everything


def test_a_budget_met_by_int8_keeps_nothing(model: Model) -> None:
    found = search(model, DATA, snr=1.0)
    assert found.meets
    assert found.best.kept == ()


def test_a_budget_out_of_reach_gives_the_most_accurate(model: Model) -> None:
    found = search(model, DATA, snr=150.0, effort="fast")
    assert not found.meets
    assert found.best.accuracy.snr == max(point.accuracy.snr for point in found.points)
    assert any("the budget is not met" in note for note in found.notes)


def test_a_search_goes_on_where_it_was(model: Model, tmp_path) -> None:
    state = tmp_path / "state.json"
    found = search(model, DATA, centred=45.0, effort="fast", state=state)
    kept = json.loads(state.read_bytes())["trials"]
    again = search(model, DATA, centred=45.0, effort="fast", state=state)
    assert json.loads(state.read_bytes())["trials"] == kept
    assert again.best == found.best
    with pytest.raises(UsageError, match="of another model, other samples or another recipe"):
        search(model, {"x": DATA["x"][:8]}, centred=45.0, effort="fast", state=state)
    state.write_text("{}")
    with pytest.raises(MalformedError, match="no file of trials"):
        search(model, DATA, centred=45.0, effort="fast", state=state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a budget"),
        ({"snr": 3.0, "precisions": ("int3",)}, "no precision 'int3'"),
        ({"snr": 3.0, "recipe": "float16"}, "no rule of the recipe computes in int8"),
    ],
)
def test_what_a_search_refuses(model: Model, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        search(model, DATA, **options)


def test_models_without_float_outputs_are_refused() -> None:
    text = """graph @main(%x) -> (%y) {
    %x = tfl.INPUT() : float32[1, 4]
    %d = tfl.CONSTANT() {value = int32[] 1} : int32[]
    %y = tfl.ARG_MAX(%x, %d) {output_type = 2} : int32[1]
    }
    signature "main"(x = %x) -> (y = %y)"""
    model = parse_model(text)
    model.format = "tflite"
    with pytest.raises(UsageError, match="accuracy is measured on float outputs"):
        sensitivity(model, {"x": np.ones((2, 1, 4), np.float32)})


# Commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(model: Model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.tflite").write_bytes(tflite_bytes(model))
    np.savez("data.npz", **DATA)
    return tmp_path


def test_sensitivity_as_a_command(folder, capsys) -> None:
    assert main(["sensitivity", "model.tflite", "--data", "data.npz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "graphopt/sensitivity/v1"
    assert len(found["layers"]) == LAYERS
    assert main(["sensitivity", "model.tflite", "--data", "data.npz", "--top", "2"]) == 0
    assert "layer2" in capsys.readouterr().out


def test_search_as_a_command(folder, capsys) -> None:
    given = ["search", "model.tflite", "--data", "data.npz", "-o", "q.tflite", "--effort", "fast"]
    assert main([*given, "--snr", "38", "--save-recipe", "r.json"]) == 0
    assert "SNR" in capsys.readouterr().out
    recipe = load_recipe("r.json")
    assert recipe.rules[0].mode == "int8"
    assert recipe.rules[-1].mode in ("weight-only", "float16")
    assert main(["quantize", "model.tflite", "--recipe", "r.json", "--data", "data.npz", "-o", "again.tflite"]) == 0
    assert main([*given, "--force", "--snr", "180", "--json"]) == 1
    captured = capsys.readouterr()
    assert not json.loads(captured.out[captured.out.index("{") :])["meets"]
    assert "the budget is not met" in captured.err
    assert main([*given, "--force"]) == 2
