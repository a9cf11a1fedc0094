"""Calibration: every kind of data, shards, states, and what is gathered for each method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.calibration import calibrate
from graphopt.ir.errors import CheckError, MalformedError, UnsupportedError, UsageError
from graphopt.ir.formats.tflite import read_tflite, tflite_bytes
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.passes.quantize.methods import RangeMethod
from graphopt.passes.quantize.statistics import Collected, Statistics, merge
from graphopt.passes.quantize.statistics_file import statistics_bytes
from graphopt.testing.lowering import text_model

TEXT = """
graph @main(%x, %s) -> (%y, %t) {
  %x = tfl.INPUT() : float32[1, 4]
  %s = tfl.INPUT() : float32[1, 2]
  %w = tfl.CONSTANT() {value = float32[2, 4] [1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0]} : float32[2, 4]
  %h = tfl.FULLY_CONNECTED(%x, %w, none) {fused_activation_function = "RELU"} : float32[1, 2]
  %t = tfl.ADD(%h, %s) : float32[1, 2]
  %y = tfl.SOFTMAX(%h) {beta = 1.0} : float32[1, 2]
}
function @f(%a) -> (%b) {
  %a = tfl.INPUT() : float32[2]
  %b = tfl.NEG(%a) : float32[2]
}
signature "main"(x = %x, s = %s) -> (y = %y, t = %t)
signature "other" of @f(a = %a) -> (b = %b)
"""
STATES = {"s": "t"}


@pytest.fixture
def model() -> Model:
    return read_tflite(tflite_bytes(parse_model(TEXT)))


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    return {"x": generator.normal(size=(12, 1, 4)).astype(np.float32), "s": np.zeros((12, 1, 2), np.float32)}


def test_ranges_are_those_of_the_tensors(model: Model, data: dict[str, np.ndarray]) -> None:
    found = calibrate(model, data)
    weights = np.array([[1, 2, 3, 4], [-5, 6, 7, 8]], np.float32)
    hidden = np.maximum(data["x"] @ weights.T, 0)
    assert found.samples == 12
    assert found.collected == Collected()
    statistics = found.find("h")
    assert statistics is not None
    assert (statistics.count, statistics.samples) == (24, 12)
    np.testing.assert_allclose([statistics.minimum, statistics.maximum], [hidden.min(), hidden.max()], rtol=1e-6)
    assert found.find("x").maximum == data["x"].max()
    assert set(map(str, found.tensors)) == {"x:0", "s:0", "h:0", "t:0", "y:0"}
    assert found.of(model.graph.node("w").output) is None


def lists(data: dict[str, np.ndarray]) -> Any:
    return [[data["x"][place], data["s"][place]] for place in range(12)]


def dicts(data: dict[str, np.ndarray]) -> Any:
    return ({"s": data["s"][place], "x:0": data["x"][place].astype(np.float64)} for place in range(12))


def function(data: dict[str, np.ndarray]) -> Any:
    return lambda: iter(lists(data))


@pytest.mark.parametrize("form", [lists, dicts, function])
def test_samples_come_in_many_forms(model: Model, data: dict[str, np.ndarray], form: Callable) -> None:
    assert statistics_bytes(calibrate(model, form(data))) == statistics_bytes(calibrate(model, data))


def test_files_are_read(model: Model, data: dict[str, np.ndarray], tmp_path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "data.npz", **data)
        found = calibrate(model, tmp_path / "data.npz")
        assert statistics_bytes(found) == statistics_bytes(calibrate(model, data))


@pytest.mark.tensorflow
def test_tensorflow_datasets_are_read(model: Model, data: dict[str, np.ndarray]) -> None:
    import tensorflow as tf

    found = calibrate(model, tf.data.Dataset.from_tensor_slices(data))
    assert statistics_bytes(found) == statistics_bytes(calibrate(model, data))


def test_signatures_have_data_of_their_own(model: Model, data: dict[str, np.ndarray]) -> None:
    other = {"a": np.float32([[1, 2], [3, -9]])}
    found = calibrate(model, {"main": data, "other": other}, check=False)
    assert found.samples == 14
    assert found.find("b", "f").maximum == 9
    assert found.find("h").samples == 12
    assert calibrate(model, other, signature="other", check=False).find("a", "f").minimum == -9


def test_shards_of_several_signatures_merge_to_one_run(model: Model, data: dict[str, np.ndarray]) -> None:
    other = {"a": np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32)}
    given = {"main": data, "other": other}
    shards = [calibrate(model, given, method="ema", shard=(place, 2)) for place in (2, 1)]
    assert statistics_bytes(merge(shards)) == statistics_bytes(calibrate(model, given, method="ema"))


METHODS = {
    "minmax": Collected(),
    "ema": Collected(recent=True),
    "percentile": Collected(histogram=True),
    "mse": Collected(histogram=True),
    "entropy": Collected(histogram=True),
}


@pytest.mark.parametrize("method", METHODS)
def test_shards_merge_to_one_run(model: Model, data: dict[str, np.ndarray], method: str) -> None:
    whole = calibrate(model, data, method=method)
    assert whole.method == RangeMethod(method)
    assert whole.collected == METHODS[method]
    shards = [calibrate(model, data, method=method, shard=(place, 4)) for place in (3, 1, 4, 2)]
    assert [shard.samples for shard in shards] == [3, 3, 3, 3]
    assert statistics_bytes(merge(shards)) == statistics_bytes(whole)
    later = calibrate(model, {name: array[6:] for name, array in data.items()}, method=method, first_sample=6)
    earlier = calibrate(model, {name: array[:6] for name, array in data.items()}, method=method)
    assert statistics_bytes(merge([later, earlier])) == statistics_bytes(whole)


def test_more_can_be_gathered_than_the_method_needs(model: Model, data: dict[str, np.ndarray]) -> None:
    found = calibrate(model, data, method=RangeMethod("ema", decay=0.5), also=["mse"], channels=True)
    assert found.collected == Collected(histogram=True, recent=True, channels=True)
    assert found.find("x").channel_magnitude.tolist() == np.abs(data["x"]).max((0, 1)).tolist()


def test_states_are_threaded_from_output_to_input(model: Model) -> None:
    ones = {"x": np.ones((3, 1, 4), np.float32)}
    found = calibrate(model, ones, states=STATES, check=False)
    assert found.find("s").maximum == 2 * 16
    assert found.find("t").maximum == 3 * 16
    with pytest.raises(UsageError, match="no input 'z'"):
        calibrate(model, ones, states={"z": "t"})
    with pytest.raises(UsageError, match="no output 'z'"):
        calibrate(model, ones, states={"s": "z"})


def test_progress_is_told(model: Model, data: dict[str, np.ndarray]) -> None:
    told: list[tuple[int, int, str]] = []
    calibrate(model, data, shard=(2, 4), progress=lambda *step: told.append(step))
    assert told == [(0, 3, "sample 3"), (1, 3, "sample 4"), (2, 3, "sample 5")]


def test_models_of_tensorflow_are_calibrated() -> None:
    text = """
    graph @main(%x: float32[1, 2]) -> (%y) {
      %two = tf.Const() {dtype = float32, value = float32[] 2.0}
      %h = tf.Mul(%x, %two)
      %y = tf.Neg(%h)
    }
    """
    model = parse_model(text)
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    found = calibrate(model, {"x": np.arange(24, dtype=np.float32).reshape(12, 1, 2)}, runtime="reference")
    assert {str(key): item.maximum for key, item in found.tensors.items()} == {"x:0": 23, "h:0": 46, "y:0": 0}


@pytest.mark.tensorflow
def test_weights_that_stay_variables_are_known(tmp_path) -> None:
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self) -> None:
            self.weights = tf.Variable([[2.0], [-1.0]])

        @tf.function(input_signature=[tf.TensorSpec([1, 2], tf.float32, name="x")])
        def __call__(self, x: Any) -> Any:
            return {"y": tf.nn.relu(x @ self.weights)}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "saved"))
    data = {"x": np.eye(2, dtype=np.float32)[:, None]}
    found = calibrate(str(tmp_path / "saved"), data, runtime="reference", check=False)
    ends = {(item.minimum, item.maximum) for item in found.tensors.values()}
    assert {(0.0, 1.0), (-1.0, 2.0), (0.0, 2.0)} <= ends


def test_v1_loops_are_seen_into() -> None:
    text = """
    graph @main(%x: float32[]) -> (%out) {
      %enter = tf.Enter(%x) {frame_name = b"loop"}
      %merge = tf.Merge(%enter, %next)
      %limit = tf.Const() {dtype = float32, value = float32[] 50.0}
      %limited = tf.Enter(%limit) {frame_name = b"loop", is_constant = true}
      %go = tf.Less(%merge, %limited)
      %cond = tf.LoopCond(%go)
      %switch = tf.Switch(%merge, %cond)
      %double = tf.AddV2(%switch:1, %switch:1)
      %next = tf.NextIteration(%double)
      %out = tf.Exit(%switch)
    }
    """
    model = parse_model(text)
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    found = calibrate(model, [np.float32(1), np.float32(3)], runtime="reference", check=False)
    double = found.find("double")
    assert (double.minimum, double.maximum, double.count) == (2, 96, 11)


def test_calibrate_is_public(model: Model, data: dict[str, np.ndarray], tmp_path) -> None:
    (tmp_path / "model.tflite").write_bytes(tflite_bytes(model))
    assert isinstance(graphopt.calibrate(str(tmp_path / "model.tflite"), data), Statistics)


# What is wrong with data --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "no array for input 'x'"),
        ({"y": np.zeros((12, 1, 2))}, "no input 'y'"),
        ({"s": np.zeros((12, 2))}, r"does not fit \(samples, \*\[1, 2\]\)"),
        ({"s": np.zeros((11, 1, 2))}, "different numbers"),
        ({"s": np.full((12, 1, 2), "a")}, "is string"),
        ({"x": np.zeros((0, 1, 4)), "s": np.zeros((0, 1, 2))}, "no samples"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(model: Model, data: dict, change: dict, message: str, tmp_path) -> None:
    given = {name: array for name, array in {**data, **change}.items() if array is not None}
    with pytest.raises(UsageError, match=message):
        calibrate(model, given)
    np.savez(tmp_path / "data.npz", **given)
    with pytest.raises(UsageError, match=message.replace(r"does not fit \(samples, \*\[1, 2\]\)", r"takes shape")):
        calibrate(model, tmp_path / "data.npz")


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([np.zeros((1, 4), np.float32)], "1 arrays for 2 inputs"),
        ([[np.zeros((1, 4)), np.zeros((1, 3))]], "sample 0: input 's' takes shape"),
        ([[np.zeros(4), np.zeros((1, 2))]], "the input's batch dimension is missing"),
        ([{"x": np.zeros((1, 4)), "z": np.zeros((1, 2))}], "no input 'z'"),
        ([{"x": np.zeros((1, 4))}], "no array for input 's'"),
        ([], "no samples"),
        (7, "cannot be read from a int"),
    ],
)
def test_samples_that_do_not_fit_are_refused(model: Model, samples: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        calibrate(model, samples)


def test_files_that_are_none_are_refused(model: Model, tmp_path) -> None:
    path = tmp_path / "data.npz"
    with pytest.raises(MalformedError, match="no such file"):
        calibrate(model, path)
    path.write_bytes(b"nothing")
    with pytest.raises(MalformedError, match=r"cannot be read as an \.npz"):
        calibrate(model, path)
    np.savez(path, x=np.array([{}], object), s=np.zeros((1, 1, 2)))
    with pytest.raises(MalformedError, match="Python objects"):
        calibrate(model, path)


def test_parts_must_be_parts(model: Model, data: dict[str, np.ndarray]) -> None:
    for shard in ((0, 4), (5, 4)):
        with pytest.raises(UsageError, match="no part"):
            calibrate(model, data, shard=shard)
    with pytest.raises(UsageError, match="without a known number"):
        calibrate(model, iter(lists(data)), shard=(1, 2))


def test_bad_samples_are_refused_or_noted(model: Model, data: dict[str, np.ndarray]) -> None:
    data["x"][7, 0, 1] = np.nan
    with pytest.raises(CheckError, match="sample 7: input 'x' holds NaN"):
        calibrate(model, data)
    found = calibrate(model, data, check=False)
    assert "sample 7: input 'x' holds NaN" in found.notes
    assert found.find("x").nans == 1


def dense() -> Model:
    weights = np.random.default_rng(1).normal(size=(8, 12)).astype(np.float32).tolist()
    body = f"""
    %w = tf.Const() {{dtype = float32, value = float32[8, 12] {weights}}} : float32[8, 12]
    %h = tf.MatMul(%x, %w) {{T = float32, transpose_a = false, transpose_b = false}} : float32[2, 12]
    %r = tf.Relu(%h) {{T = float32}} : float32[2, 12]
    %y = tf.Tanh(%r) {{T = float32}} : float32[2, 12]
    """
    return text_model(body, "%x: float32[2, 8]")


@pytest.mark.parametrize("runtime", [None, "litert", "reference"])
def test_statistics_of_a_model_of_tensorflow_serve_the_one_it_is_lowered_to(runtime: str | None) -> None:
    data = {"x": np.random.default_rng(0).normal(size=(12, 2, 8)).astype(np.float32)}
    statistics = calibrate(dense(), data, runtime=runtime)
    assert (statistics.find("h") is None) is (runtime != "reference")  # in TFLite, r comes of the layer itself
    for given in (dense(), graphopt.lower(dense(), "tflite").model):
        quantized = graphopt.quantize(given, "int8", calibration=statistics)
        assert {row["compute"] for row in quantized.plan.rows()} == {"int8"}
        assert quantized.notes == []


def test_statistics_that_know_too_little() -> None:
    statistics = calibrate(dense(), {"x": np.random.default_rng(0).normal(size=(12, 2, 8)).astype(np.float32)})
    del statistics.tensors[next(key for key in statistics.tensors if key.tensor == "r:0")]
    (note,) = graphopt.quantize(dense(), "int8", calibration=statistics).notes
    assert note == "2 operators stay float after all, 'r' first: no range of 'r' is known"
    statistics.tensors.clear()
    with pytest.raises(UsageError, match="the statistics know no tensor of this model"):
        graphopt.quantize(dense(), "int8", calibration=statistics)
    assert graphopt.quantize(dense(), "dynamic", calibration=statistics).notes == []


def test_what_cannot_be_lowered_runs_elsewhere() -> None:
    model = text_model("%y = tf.Erfinv(%x) {T = float32}", "%x: float32[2]")
    data = {"x": np.random.default_rng(0).uniform(-0.9, 0.9, (12, 2)).astype(np.float32)}
    assert calibrate(model, data, runtime=None).find("y").samples == 12
    with pytest.raises(UnsupportedError, match="Erfinv"):
        calibrate(model, data, runtime="litert")


@pytest.mark.parametrize("ask", [calibrate, lambda model, data: graphopt.quantize(model, "int8", data=data)])
def test_what_a_model_does_with_pixels_is_seen_before_lowering_folds_it(ask: Callable[[Model, Any], Any]) -> None:
    body = """
    %scale = tf.Const() {dtype = float32, value = float32[] 0.00392157} : float32[]
    %scaled = tf.Mul(%x, %scale) {T = float32} : float32[1, 4]
    %w = tf.Const() {dtype = float32, value = float32[4, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]} : float32[4, 2]
    %y = tf.MatMul(%scaled, %w) {T = float32, transpose_a = false, transpose_b = false} : float32[1, 2]
    """
    samples = {"x": np.random.default_rng(0).uniform(0, 1, (12, 1, 4)).astype(np.float32)}
    with pytest.raises(CheckError, match="expects pixels from 0 to 255"):
        ask(text_model(body, "%x: float32[1, 4]"), samples)


def test_a_model_of_integers_needs_no_statistics_and_may_be_given_some() -> None:
    data = {"x": np.random.default_rng(0).normal(size=(12, 2, 8)).astype(np.float32)}
    made = graphopt.quantize(graphopt.quantize(dense(), "int8", data=data, input_type="int8").model, "int8")
    again = graphopt.quantize(made.model, "int8", calibration=Statistics())
    assert tflite_bytes(again.model) == tflite_bytes(made.model)
