"""Random samples and samples from a file."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt
from graphopt.ir import MalformedError, UsageError, hold, tensor_type
from graphopt.ir.types import INT32, Shape


def test_the_same_seed_gives_the_same_samples_with_spread(affine) -> None:
    first, again = (graphopt.random_inputs(affine(), 2, seed=7) for _ in range(2))
    other = graphopt.random_inputs(affine(), 2, seed=8)
    assert first[0]["x"].shape == (2, 3)
    assert first[0]["x"].dtype == np.float32
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left["x"], right["x"])
    assert (first[0]["x"] != other[0]["x"]).any()
    assert (first[0]["x"] != first[1]["x"]).any()
    assert first[0]["x"].std() > 0.1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [([None, 3], (1, 3)), ([None, None], (1, 8)), ([None, None, None, 3], (1, 32, 32, 3)), ([], ()), ([0, 2], (0, 2))],
)
def test_unknown_dimensions_get_a_size(sketch, shape, expected) -> None:
    x = sketch.add("Placeholder", "x", shape=shape)
    sketch.model.set_signature({"x": x}, {"x": x})
    assert graphopt.random_inputs(sketch.model)[0]["x"].shape == expected


def test_named_dimensions_may_be_given(sketch) -> None:
    from graphopt.ir.dimensions import symbol

    x = sketch.add("Placeholder", "x", shape=[symbol("batch"), symbol("batch") * 2])
    sketch.model.set_signature({"x": x}, {"x": x})
    assert graphopt.random_inputs(sketch.model, dimensions={"batch": 3})[0]["x"].shape == (3, 6)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("int8", -128, 127), ("int32", 0, 9), ("int64", 0, 9), ("bool", 0, 1), ("qint8", -128, 127)],
)
def test_integers_stay_in_a_range_that_makes_sense(sketch, dtype: str, low: int, high: int) -> None:
    x = sketch.add("Placeholder", "x", shape=[4000], dtype=dtype)
    sketch.model.set_signature({"x": x}, {"x": x})
    drawn = graphopt.random_inputs(sketch.model)[0]["x"]
    assert (drawn.min(), drawn.max()) == (low, high)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64", "float8_e5m2", "int4"])
def test_every_numeric_type_can_be_drawn(sketch, dtype: str) -> None:
    x = sketch.add("Placeholder", "x", shape=[40], dtype=dtype)
    sketch.model.set_signature({"x": x}, {"x": x})
    drawn = graphopt.random_inputs(sketch.model)[0]["x"]
    assert drawn.dtype == x.dtype.numpy
    assert len(np.unique(drawn.astype(np.complex128))) > 2


def test_integers_that_index_a_table_stay_inside_it(sketch) -> None:
    ids = sketch.add("Placeholder", "ids", shape=[500], dtype="int32")
    sketch.add("Identity", "same", "ids", dtype="int32", shape=[500])
    hold(sketch.graph, np.zeros((1000, 3), np.float32), name="large")
    hold(sketch.graph, np.zeros((2, 40), np.float32), name="small")
    hold(sketch.graph, np.array(1, np.int32), name="axis")
    sketch.graph.value("axis").type = tensor_type(INT32, Shape(()))
    sketch.add("GatherV2", "y", "large", "ids", "axis")
    sketch.add("GatherV2", "z", "small", "same", "axis")
    sketch.model.set_signature({"ids": ids}, {"z": sketch.graph.value("z")})
    assert graphopt.random_inputs(sketch.model)[0]["ids"].max() == 2
    sketch.graph.node("y").replace_input(0, sketch.graph.value("small"))
    assert graphopt.random_inputs(sketch.model)[0]["ids"].max() == 39


def test_the_type_of_an_input_within_the_graph_is_inferred(example: str, affine) -> None:
    model = graphopt.load(example, inputs="pool", outputs="softmax")
    assert graphopt.random_inputs(model)[0]["pool"].shape == (1, 48)


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        ("string", [2], "nobody can draw input 'x' of type string"),
        ("resource", [], "nobody can draw input 'x' of type resource"),
        ("float32", None, "the shape of input 'x' is not known"),
        ("float32", [1 << 20, 1 << 20], "too large to draw"),
    ],
)
def test_what_nobody_can_draw_is_a_usage_error(sketch, dtype, shape, message: str) -> None:
    x = sketch.add("Placeholder", "x", shape=shape, dtype=dtype)
    sketch.model.set_signature({"x": x}, {"x": x})
    with pytest.raises(UsageError, match=message):
        graphopt.random_inputs(sketch.model)


def test_a_signature_is_needed(sketch) -> None:
    with pytest.raises(UsageError, match="no signature"):
        graphopt.random_inputs(sketch.model)
    sketch.model.set_signature({}, {}, "serve")
    with pytest.raises(UsageError, match="did you mean 'serve'"):
        graphopt.random_inputs(sketch.model, signature="srve")


# From a file --------------------------------------------------------------------------------------------------


def write(path, **arrays) -> str:
    np.savez(path / "d.npz", **arrays)
    return str(path / "d.npz")


def test_samples_are_split_along_the_first_axis(affine, tmp_path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    samples = graphopt.read_samples(write(tmp_path, x=x), affine())
    assert len(samples) == 2
    np.testing.assert_array_equal(samples[1]["x"], x[1])
    renamed = graphopt.read_samples(write(tmp_path, **{"x:0": x}), affine())
    np.testing.assert_array_equal(renamed[0]["x"], x[0])


def test_arrays_are_converted_where_nothing_is_lost(affine, tmp_path, sketch) -> None:
    (sample,) = graphopt.read_samples(write(tmp_path, x=np.ones((1, 2, 3), np.int64)), affine())
    assert sample["x"].dtype == np.float32
    x = sketch.add("Placeholder", "x", shape=[2], dtype="int32")
    sketch.model.set_signature({"x": x}, {"x": x})
    (sample,) = graphopt.read_samples(write(tmp_path, x=np.array([[1, 2]], np.int64)), sketch.model)
    assert sample["x"].dtype == np.int32
    with pytest.raises(UsageError, match="is int64, the input int32"):
        graphopt.read_samples(write(tmp_path, x=np.array([[1, 1 << 40]], np.int64)), sketch.model)
    with pytest.raises(UsageError, match="is float32, the input int32"):
        graphopt.read_samples(write(tmp_path, x=np.array([[1, 2]], np.float32)), sketch.model)


def test_strings_come_as_bytes(tmp_path, sketch) -> None:
    x = sketch.add("Placeholder", "x", shape=[2], dtype="string")
    sketch.model.set_signature({"x": x}, {"x": x})
    (sample,) = graphopt.read_samples(write(tmp_path, x=np.array([["ä", "b"]])), sketch.model)
    assert sample["x"].tolist() == ["ä".encode(), b"b"]
    with pytest.raises(UsageError, match="is float64, the input string"):
        graphopt.read_samples(write(tmp_path, x=np.zeros((1, 2))), sketch.model)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros((1, 2, 3))}, "no input 'y'; the inputs are: x"),
        ({"x1": np.zeros((1, 2, 3))}, "no input 'x1'; did you mean 'x'?"),
        ({}, "no array for input 'x'"),
        ({"x": np.zeros((2, 3))}, r"array 'x' of shape \[2, 3\] does not fit \(samples, \*\[2, 3\]\)"),
        ({"x": np.float32(1)}, "does not fit"),
        ({"x": np.zeros((0, 2, 3), np.float32)}, "there are no samples"),
        ({"x": np.zeros((1, 2, 3), "datetime64[s]")}, "no tensor element type corresponds"),
    ],
)
def test_arrays_that_do_not_fit_the_inputs(affine, tmp_path, arrays, message: str) -> None:
    with pytest.raises(UsageError, match=message) as failure:
        graphopt.read_samples(write(tmp_path, **arrays), affine())
    assert "d.npz" in str(failure.value)


def test_inputs_must_have_as_many_samples(tmp_path, sketch) -> None:
    values = {name: sketch.add("Placeholder", name) for name in ("a", "b")}
    sketch.model.set_signature(values, {"a": values["a"]})
    arrays = {"a": np.zeros((2, 2), np.float32), "b": np.zeros((3, 2), np.float32)}
    with pytest.raises(UsageError, match="different numbers of samples: 'a' 2, 'b' 3"):
        graphopt.read_samples(write(tmp_path, **arrays), sketch.model)


def test_what_is_no_npz_is_malformed(affine, tmp_path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    for name, message in (
        ("one.npy", "a single array"),
        ("objects.npz", "holds Python objects"),
        ("text.npz", "damaged or something else"),
        ("cut.npz", "cannot be read as an .npz"),
    ):
        with pytest.raises(MalformedError, match=message):
            graphopt.read_samples(tmp_path / name, affine())
    with pytest.raises(FileNotFoundError):
        graphopt.read_samples(tmp_path / "absent.npz", affine())
