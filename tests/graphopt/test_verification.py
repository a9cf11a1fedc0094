"""What two models compute, compared: tolerances, types, non-finite values, layers, warnings."""

from __future__ import annotations

import json
import sys

import ml_dtypes
import numpy as np
import pytest

import graphopt
from graphopt.accuracy import Tolerance, compare
from graphopt.ir import UsageError
from graphopt.passes import Exactness
from graphopt.verification import NumericComparison, engine_named, verify


def error(expected, actual, **options):
    return compare("y", [np.asarray(expected)], [np.asarray(actual)], Tolerance(**options))


def test_equal_models_hold_with_numbers_to_show(affine) -> None:
    report = verify(affine(), affine(), runtime="reference")
    assert report.holds
    assert report.difference is None
    (output,) = report.outputs
    assert (output.name, output.dtype, output.shape) == ("y", "float32", [2, 3])
    assert output.max_error == output.relative_error == 0
    assert output.snr_db is None
    assert output.scale > 1
    assert report.samples == 3


def test_a_difference_is_measured_against_the_scale_of_the_reference(affine) -> None:
    report = verify(affine(2.0), affine(2.002), runtime="reference")
    assert not report.holds
    (output,) = report.outputs
    assert 3e-4 < output.relative_error < 2e-3
    assert 55 < output.snr_db < 75
    assert report.difference == output.sentence
    assert "output 'y' is off by" in output.sentence
    assert verify(affine(2.0), affine(2.002), rtol=1e-2, runtime="reference").holds
    assert verify(affine(2.0), affine(2.002), rtol=0, atol=0.1, runtime="reference").holds
    assert json.loads(json.dumps(report.as_dict()))["schema"] == "graphopt/verify/v1"


def test_tolerances_by_type_are_absolute_or_relative_to_the_largest() -> None:
    assert error(np.float32([1000, 0]), np.float32([1000.09, 0.09])).holds
    assert not error(np.float32([1000, 0]), np.float32([1000, 0.11])).holds
    assert not error(np.float64([1000, 0]), np.float64([1000, 0.01])).holds
    assert error(np.float16([100]), np.float16([100.5])).holds
    assert error(ml_dtypes.bfloat16(100), ml_dtypes.bfloat16(104)).holds
    assert error(np.array(1, ml_dtypes.float8_e5m2), np.array(1.125, ml_dtypes.float8_e5m2)).holds
    assert error(np.complex64([1 + 1j]), np.complex64([1 + 1.00005j])).holds
    assert not error(np.complex64([1 + 1j]), np.complex64([1 + 1.001j])).holds
    assert not error(np.float32([0, 0]), np.float32([0, 1e-9])).holds
    assert error(np.float32([0, 0]), np.float32([0, 1e-9]), atol=1e-8).holds


def test_integers_strings_and_booleans_must_be_equal() -> None:
    assert error(np.int32([1, 2]), np.int32([1, 2])).holds
    wrong = error(np.int64([1, 2, 3]), np.int64([1, 0, 0]))
    assert not wrong.holds
    assert wrong.mismatches == 2
    assert wrong.sentence == "output 'y' differs in 2 of its elements"
    assert not error(np.array([True]), np.array([False])).holds
    assert error(np.array([b"a"], object), np.array([b"a"], object)).holds
    assert not error(np.array([b"a"], object), np.array([b"b"], object)).holds


def test_nan_and_infinity_must_be_in_the_same_places() -> None:
    values = np.float32([np.nan, np.inf, -np.inf, 1])
    assert error(values, values.copy()).holds
    for place, other in ((0, 1.0), (1, -np.inf), (2, np.nan), (3, np.nan)):
        changed = values.copy()
        changed[place] = other
        assert error(values, changed).mismatches == 1
    assert error(np.float32([np.nan]), np.float32([np.nan])).holds


def test_numbers_that_overflow_stay_numbers() -> None:
    huge = np.finfo(np.float64).max
    report = error([huge, 1.0], [-huge, 1.0])
    assert not report.holds
    json.dumps(report.__dict__, allow_nan=False)


def test_types_and_shapes_must_agree() -> None:
    assert error(np.zeros((1, 3)), np.zeros((3,))).sentence == "output 'y' has shape [3], not [1, 3]"
    assert error(np.zeros(3), np.zeros(3, np.float32)).sentence == "output 'y' is float32, not float64"


def test_flat_outputs_are_warned_of(affine) -> None:
    report = verify(affine(0.0), affine(0.0), runtime="reference")
    assert report.holds
    assert report.warnings == ["output 'y' has the same value everywhere: most errors would not show; give other data"]
    assert not verify(affine(), affine(), runtime="reference").warnings


def test_names_may_differ_where_places_correspond(affine) -> None:
    report = verify(affine(), affine(input_name="pictures"), runtime="reference")
    assert report.holds
    assert report.warnings == ["the inputs have different names and were matched by position"]
    with pytest.raises(UsageError, match=r"input 'x' .* and 'p' .* do not correspond"):
        verify(affine(), affine(input_name="p", dtype="float64"), runtime="reference")


def test_models_with_other_outputs_cannot_be_compared(affine) -> None:
    two = affine()
    two.set_signature({"x": two.graph.value("x")}, {"y": two.graph.value("y"), "z": two.graph.value("scaled")})
    with pytest.raises(UsageError, match="the models have different outputs: 'y' and 'y', 'z'"):
        verify(affine(), two, runtime="reference")
    none = affine()
    none.set_signature({"x": none.graph.value("x")}, {})
    with pytest.raises(UsageError, match="no outputs to compare"):
        verify(none, none, runtime="reference")


def test_an_input_that_the_second_model_lost_is_not_fed(affine) -> None:
    constant = affine()
    constant.set_signature({}, {"y": constant.graph.value("one")})
    whole = affine()
    whole.set_signature({"x": whole.graph.value("x")}, {"y": whole.graph.value("one")})
    report = verify(whole, constant, runtime="reference")
    assert report.holds
    assert report.warnings[0] == "the second model has no input 'x', which was not fed to it"


def test_the_first_diverging_tensor_is_where_the_wrong_part_begins(example: str) -> None:
    optimised = graphopt.optimize(example).model
    report = verify(example, optimised, per_layer=True, runtime="reference")
    assert report.holds
    assert report.first_divergence is None
    assert any(not layer.holds for layer in report.layers), "weights of folded layers differ, which is no harm"
    wrong = optimised.clone()
    node = wrong.graph.node("block_2/pointwise/relu")
    node.op = "tf.Relu"
    wrong.graph.node("block_2/pointwise/relu").op = "tf.Softplus"
    report = verify(example, wrong, per_layer=True, runtime="reference")
    assert not report.holds
    assert report.first_divergence == "block_2/pointwise/relu:0"


def test_data_without_samples_is_refused(affine) -> None:
    with pytest.raises(UsageError, match="the data hold no samples"):
        verify(affine(), affine(), data=[], runtime="reference")
    with pytest.raises(UsageError, match="no runtime 'abacus'"):
        verify(affine(), affine(), runtime="abacus")


def test_the_default_runtime_is_tensorflow_where_it_is_installed(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert engine_named(None).name == "reference"


class Refusing:
    """A finder as those have who forbid an import: it raises."""

    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise ModuleNotFoundError(name)


def test_the_default_runtime_is_the_reference_where_tensorflow_cannot_be_imported(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert engine_named(None).name == "reference"
    monkeypatch.delitem(sys.modules, "tensorflow")
    monkeypatch.setattr("sys.meta_path", [Refusing(), *sys.meta_path])
    assert engine_named(None).name == "reference"


def test_a_run_of_passes_is_compared_with_what_came_before(affine) -> None:
    model = affine()
    comparison = NumericComparison(model, runtime="reference")
    assert comparison(model.clone(), affine(2.0), Exactness.EXACT) is None
    assert comparison(model.clone(), affine(2.00004), Exactness.EXACT) is not None
    assert comparison(model.clone(), affine(2.00004), Exactness.REASSOCIATING) is None
    assert "is off by" in comparison(model.clone(), affine(2.1), Exactness.REASSOCIATING)
    report = comparison.report(affine(2.00004))
    assert report.holds
    assert report.outputs[0].max_error > 0


@pytest.mark.tensorflow
def test_both_runtimes_agree_on_the_example(example: str) -> None:
    optimised = graphopt.optimize(example).model
    for runtime in ("reference", "tensorflow"):
        report = verify(example, optimised, runtime=runtime)
        assert report.holds
        assert report.runtime == runtime
