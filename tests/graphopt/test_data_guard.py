"""The guard of calibration data: what it refuses, what it notes, and what it lets pass without a word."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.data_guard import DataGuard
from graphopt.ir.errors import CheckError
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model

PLAIN = "%y = tf.Neg(%x)"
SCALED = {
    "multiplies it by 0.00392": "%c = tf.Const() {dtype = float32, value = float32[] 0.003921569}\n%y = tf.Mul(%x, %c)",
    "divides it by 128": "%c = tf.Const() {dtype = float32, value = float32[] 127.5}\n%y = tf.RealDiv(%x, %c)",
    "shifts it by 124": "%c = tf.Const() {dtype = float32, value = float32[3] [103.9, 116.8, 123.7]}\n"
    "%p = tf.Identity(%x)\n%y = tf.Sub(%p, %c)",
}


def model_of(body: str) -> Model:
    model = parse_model(f"graph @main(%x: float32[2, 3]) -> (%y) {{\n{body}\n}}")
    model.set_signature({"x": model.graph.inputs[0]}, {"y": model.graph.outputs[0]})
    return model


def samples(count: int = 12, scale: float = 1.0, whole: bool = False) -> list[dict[str, np.ndarray]]:
    drawn = np.random.default_rng(2).uniform(0, scale, (count, 2, 3)).astype(np.float32)
    return [{"x": np.rint(array) if whole else array} for array in drawn]


def judged(body: str, given: list[dict[str, np.ndarray]], strict: bool = True) -> list[str]:
    guard = DataGuard(model_of(body), strict=strict)
    for sample in given:
        guard.check(sample)
    return guard.finish()


def test_good_samples_pass_without_a_word() -> None:
    assert judged(PLAIN, samples()) == []
    assert judged(PLAIN, samples(scale=255, whole=True)) == []
    for body in SCALED.values():
        assert judged(body, samples(scale=255)) == []


@pytest.mark.parametrize("evidence", SCALED)
def test_scaled_samples_for_a_model_that_scales_are_refused(evidence: str) -> None:
    for count in (3, 12):
        with pytest.raises(CheckError, match=f"{evidence}.* expects pixels from 0 to 255"):
            judged(SCALED[evidence], samples(count))
    assert evidence in judged(SCALED[evidence], samples(), strict=False)[0]


@pytest.mark.parametrize("constant", ["0.5", "2.0", "0.0"])
def test_other_products_are_no_evidence(constant: str) -> None:
    body = f"%c = tf.Const() {{dtype = float32, value = float32[] {constant}}}\n%y = tf.Mul(%x, %c)"
    assert judged(body, samples()) == []


def test_equal_samples_are_refused() -> None:
    with pytest.raises(CheckError, match=r"all 12 samples are equal.*--no-check"):
        judged(PLAIN, samples(1) * 12)
    assert "all 12 samples are equal" in judged(PLAIN, samples(1) * 12, strict=False)[0]


def test_duplicates_few_and_flat_samples_are_noted() -> None:
    assert judged(PLAIN, [*samples(), *samples(2)]) == ["2 of 14 samples equal another one"]
    assert "3 samples are few" in judged(PLAIN, samples(3))[0]
    assert "same value everywhere" in judged(PLAIN, [*samples(), {"x": np.zeros((2, 3), np.float32)}])[0]
    guard = DataGuard(model_of(PLAIN))
    guard.check(samples()[0])
    assert guard.finish(is_part=True) == []


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "Inf"), (-np.inf, "Inf")])
def test_samples_with_nan_or_inf_are_refused(value: float, kind: str) -> None:
    given = samples()
    given[5]["x"][1, 2] = value
    with pytest.raises(CheckError, match=f"sample 5: input 'x' holds {kind}"):
        judged(PLAIN, given)
    given[7]["x"][0, 0] = value
    assert judged(PLAIN, given, strict=False) == [f"sample 5: input 'x' holds {kind}", "1 more hold NaN or Inf"]


def test_pixels_for_a_model_that_does_not_scale_are_noted_where_its_outputs_saturate() -> None:
    given = samples(scale=255, whole=True)
    for probabilities, noted in (([0.0, 1.0], True), ([0.4, 0.6], False)):
        guard = DataGuard(model_of(PLAIN))
        for sample in given:
            guard.check(sample)
            assert guard.suspects_pixels
            guard.see_outputs({"y": np.float32(probabilities)})
        assert bool(guard.finish()) is noted
    guard = DataGuard(model_of(SCALED["divides it by 128"]))
    guard.check(given[0])
    assert not guard.suspects_pixels


def test_strings_and_integers_are_taken_as_they_are() -> None:
    model = parse_model("graph @main(%x: string[1], %i: int32[1]) -> (%y) {\n%y = tf.Identity(%i)\n}")
    model.set_signature(dict(zip("xi", model.graph.inputs, strict=True)), {"y": model.graph.outputs[0]})
    guard = DataGuard(model)
    for place in range(12):
        guard.check({"x": np.array([str(place).encode()], object), "i": np.array([0], np.int32)})
    assert guard.finish() == []
