"""What graphopt offers for testing: random models that run, and an oracle that cannot be fooled."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import graphopt.testing
from graphopt.ir import Graph, Model, Node, UsageError, tensor, tensor_type
from graphopt.ir.model import Signature
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.types import DTYPES
from graphopt.ir.verifier import verify
from graphopt.runtimes.base import get_runtime
from graphopt.testing import (
    Strictness,
    assert_contract_kept,
    assert_equivalent,
    assert_same_structure,
    check_pass,
    difference,
    differences,
    graphs,
    models,
    random_feeds,
    random_model,
)
from graphopt.testing.structure import same_attribute

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


# Random models ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_model() -> None:
    for seed in range(5):
        assert print_model(random_model(seed), elide=None) == print_model(random_model(seed), elide=None)
    assert print_model(random_model(1)) != print_model(random_model(2))


def test_random_models_hold_what_they_promise() -> None:
    wanted = {
        "functions", "shared constant", "shared function", "several outputs", "control input", "unknown batch",
        "static batch", "duplicate", "dead branch", "norm after convolution", "target-free", "without shapes",
    }  # fmt: skip
    operators: set[str] = set()
    for seed in range(150):
        model = random_model(seed)
        verify(model)
        operators |= {node.op_type for graph in model.graphs for node in graph}
        wanted -= set(_features(model))
    assert wanted == set()
    assert {
        "PartitionedCall", "StatelessIf", "StatelessWhile", "Split", "Unpack", "TopKV2", "Conv2D", "MatMul", "Reshape",
        "DepthwiseConv2dNative", "FusedBatchNormV3", "Transpose", "Cast", "SelectV2", "Shape", "NoOp", "ArgMax",
    } <= operators  # fmt: skip


def _features(model: Model) -> Sequence[str]:
    nodes = [node for graph in model.graphs for node in graph]
    calls = [node.attrs["f"].name for node in nodes if node.op.endswith("PartitionedCall")]
    batches = {value.shape[0] for value in model.graph.inputs}
    alike = [(n.op, n.inputs, str(n.attrs)) for n in nodes if n.input_count]
    facts = {
        "functions": bool(model.functions),
        "shared constant": any(n.op == "tf.Const" and n.output.use_count > 1 for n in nodes),
        "shared function": len(set(calls)) < len(calls),
        "several outputs": any(len(n.outputs) > 1 for n in nodes),
        "control input": any(n.control_inputs for n in nodes),
        "unknown batch": None in batches,
        "static batch": bool(batches - {None}),
        "duplicate": len(set(alike)) < len(alike),
        "dead branch": any(n.input_count and not n.has_uses for n in nodes),
        "norm after convolution": any(
            n.op == "tf.FusedBatchNormV3" and n.input(0).node.op == "tf.Conv2D" for n in nodes
        ),
        "target-free": not model.graph.targets,
        "without shapes": any(v.shape.dims is None for n in nodes for v in n.outputs),
    }
    return [name for name, holds in facts.items() if holds]


def test_size_is_about_what_is_asked_for() -> None:
    assert random_model(0, 0).node_count < 15
    assert random_model(0, 300).node_count > 500
    assert not random_model(3, 40, functions=False).functions


@given(models(8))
def test_drawn_models_are_valid(model: Model) -> None:
    verify(model)
    assert model.signatures["serving_default"].outputs


@given(graphs(5))
def test_drawn_graphs_are_valid(graph: Graph) -> None:
    verify(graph)
    assert graph.outputs


@settings(max_examples=1)
@given(models(1))
def test_hypothesis_shrinks_to_a_small_model(model: Model) -> None:
    assert model.node_count < 12  # the first example drawn is the simplest


@pytest.mark.tensorflow
def test_tensorflow_runs_every_random_model_and_the_outputs_vary() -> None:
    runtime = get_runtime("tensorflow")
    for seed in range(100):
        model = random_model(seed)
        assert_equivalent(model, model.clone(), runtime=runtime, seed=seed)
        for array in runtime.run(model, random_feeds(model, seed)).values():
            assert np.isfinite(np.asarray(array).astype(np.float64)).all(), seed


# Feeds --------------------------------------------------------------------------------------------------------


def test_feeds_fit_the_signature() -> None:
    model = parse_model("""
    graph @main(%a: float32[batch, 2], %b: float16[batch, 2*batch], %c: int32[?], %d: string[2], %e: bool[*],
                %f: complex64[1], %g: uint2[3]) -> () {}
    signature s(one = %a, two = %b, three = %c, four = %d, five = %e, six = %f, seven = %g) -> ()
    """)
    feeds = random_feeds(model, 7, unknown=3)
    assert {name: array.shape for name, array in feeds.items()} == {
        "one": (3, 2), "two": (3, 6), "three": (3,), "four": (2,), "five": (3,), "six": (1,), "seven": (3,),
    }  # fmt: skip
    for place, array in enumerate(feeds.values()):
        assert array.dtype == model.graph.inputs[place].dtype.numpy
    again = random_feeds(model, 7, unknown=3)
    assert all(np.array_equal(array, again[name]) for name, array in feeds.items())
    assert not np.array_equal(feeds["one"], random_feeds(model, 8, unknown=3)["one"])


def test_feeds_without_a_signature_go_by_tensor_names() -> None:
    model = parse_model("graph @main(%a: float32[2], %b: int64[]) -> () {}")
    assert list(random_feeds(model)) == ["a", "b"]


def test_feeds_that_cannot_be_made_are_refused() -> None:
    model = parse_model("graph @main(%a: resource[]) -> () {}")
    with pytest.raises(UsageError, match="no random array can stand for input 'a' of type resource"):
        random_feeds(model)
    with pytest.raises(UsageError, match="there is no signature 'x'"):
        random_feeds(model, signature="x")


# The oracle on models -----------------------------------------------------------------------------------------

LAYERS = parse_model("""
graph @main(%x: float32[?, 4]) -> (%y, %top:1) {
  %w = tf.Const() {value = float32[] 1.0}
  %b = tf.Const() {value = float32[4] [0.1, -0.2, 0.3, 9.0]}
  %product = tf.Mul(%x, %b)
  %shifted = tf.Sub(%product, %x)
  %relu = tf.Relu(%shifted)
  %perm = tf.Const() {value = int32[2] [1, 0]}
  %turned = tf.Transpose(%relu, %perm)
  %axis = tf.Const() {value = int32[] 0}
  %sum = tf.Sum(%turned, %axis) {keep_dims = true}
  %cat = tf.ConcatV2(%turned, %sum, %axis)
  %back = tf.Transpose(%cat, %perm)
  %scale = tf.Const() {value = float32[] 3.0}
  %y = tf.RealDiv(%back, %scale)
  %k = tf.Const() {value = int32[] 2}
  %top = tf.TopKV2(%relu, %k) {index_type = int32}
}
signature "serving_default"(x = %x) -> (y = %y, places = %top:1)
""")  # fmt: skip


def _set(model: Model, name: str, **attrs: Any) -> None:
    model.graph.node(name).attrs.update(attrs)


def _constant(model: Model, name: str, change: Callable[[Any], Any]) -> None:
    held = model.graph.node(name).attrs["value"].numpy()
    changed = tensor(np.asarray(change(held.copy()), held.dtype))
    _set(model, name, value=changed)
    model.graph.node(name).output.type = tensor_type(changed.dtype, changed.shape)


def _swap(node: Node) -> None:
    node.set_inputs(reversed(node.inputs))


def _bypass(model: Model, name: str) -> None:
    node = model.graph.node(name)
    model.graph.replace_value(node.output, node.input(0))


# Deliberately wrong rewrites: what a rule with a bug makes of a model.
WRONG: Mapping[str, Callable[[Model], Any]] = {
    "a weight off by a ten-thousandth": lambda m: _constant(m, "b", lambda a: a * np.float32(1.0001)),
    "one element of a weight wrong": lambda m: _constant(m, "b", lambda a: np.r_[a[:3], a[3] + 1e-3]),
    "weights in another order": lambda m: _constant(m, "b", lambda a: a[::-1]),
    "a sign lost": lambda m: _constant(m, "scale", lambda a: -a),
    "operands of a subtraction swapped": lambda m: _swap(m.graph.node("shifted")),
    "an activation dropped": lambda m: _bypass(m, "relu"),
    "another activation": lambda m: setattr(m.graph.node("relu"), "op", "tf.Relu6"),
    "a division folded away": lambda m: _set(m, "scale", value=tensor(np.float32(1))),
    "a maximum for a sum": lambda m: setattr(m.graph.node("sum"), "op", "tf.Max"),
    "a mean for a sum": lambda m: setattr(m.graph.node("sum"), "op", "tf.Mean"),
    "parts concatenated in another order": lambda m: m.graph.node("cat").set_inputs(
        [m.graph.value("sum"), m.graph.value("turned"), m.graph.value("axis")]
    ),
    "a product for a difference": lambda m: setattr(m.graph.node("shifted"), "op", "tf.Mul"),
    "the wrong output of a node": lambda m: m.graph.node("product").replace_input(0, m.graph.value("b")),
    "an input read in place of another": lambda m: m.graph.node("shifted").replace_input(1, m.graph.value("product")),
    "a sum over another axis": lambda m: setattr(m.graph, "outputs", (m.graph.value("cat"), m.graph.value("top:1"))),
    "a transposition cancelled that was none": lambda m: _constant(m, "perm", lambda a: a[::-1]),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_oracle_fails_on_a_wrong_rewrite(name: str) -> None:
    wrong = LAYERS.clone()
    WRONG[name](wrong)
    with pytest.raises(AssertionError):
        assert_equivalent(LAYERS, wrong, runtime="reference", exactness="reassociating")


def test_the_oracle_passes_what_is_right() -> None:
    assert_equivalent(LAYERS, LAYERS.clone(), runtime="reference")
    right = LAYERS.clone()
    product = right.graph.node("product")
    _swap(product)
    assert_equivalent(LAYERS, right, runtime="reference")
    feeds = [random_feeds(LAYERS, seed) for seed in range(2)]
    assert_equivalent(LAYERS, right, feeds, runtime=get_runtime("reference"), exactness="approximate")
    assert_equivalent(LAYERS, right, feeds[0], runtime="reference")


def test_the_message_names_output_place_and_values() -> None:
    wrong = LAYERS.clone()
    _constant(wrong, "b", lambda a: np.r_[a[:3], a[3] + 1])
    feeds = {"x": np.full((1, 4), 2, np.float32)}
    pattern = (
        r"output 'y' differs at \[0, \d\]: \S+ before, \S+ after, an error of \S+ where \S+ is allowed; "
        r"\d of 5 elements differ \(feed 1 of 1\)"
    )
    with pytest.raises(AssertionError, match=pattern):
        assert_equivalent(LAYERS, wrong, feeds, runtime="reference", exactness="approximate")


def test_outputs_that_never_vary_prove_nothing() -> None:
    flat = parse_model("""
    graph @main(%x: float32[2]) -> (%y) {
      %c = tf.Const() {value = float32[2] [1000.0, 2000.0]}
      %tiny = tf.Const() {value = float32[] 1e-6}
      %noise = tf.Mul(%x, %tiny)
      %y = tf.AddV2(%noise, %c)
    }""")
    with pytest.raises(AssertionError, match=r"the comparison proves nothing: no output \('y'\) varies"):
        assert_equivalent(flat, flat.clone(), runtime="reference")
    assert_equivalent(flat, flat.clone(), runtime="reference", allow_flat=True)
    without_inputs = parse_model("graph @main() -> (%c) { %c = tf.Const() {value = float32[2] [1.0, 2.0]} }")
    assert_equivalent(without_inputs, without_inputs.clone(), runtime="reference")


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="there are none of them"):
        assert_equivalent(LAYERS, LAYERS, [], runtime="reference")
    with pytest.raises(ValueError, match="exactness is one of exact, reassociating, approximate, not 'close'"):
        assert_equivalent(LAYERS, LAYERS, runtime="reference", exactness="close")


# The oracle on values -----------------------------------------------------------------------------------------


def values(*items: float, dtype: str = "float32") -> dict[str, Any]:
    return {"y": np.array(items, DTYPES[dtype].numpy)}


@pytest.mark.parametrize(
    ("before", "after", "exactness", "equal"),
    [
        (values(1.0, 2.0), values(1.0, 2.0), "exact", True),
        (values(1.0, 2.0), values(1.0, np.nextafter(np.float32(2), np.float32(3))), "exact", False),
        (values(1.0, 2.0), values(1.0, np.nextafter(np.float32(2), np.float32(3))), "reassociating", True),
        (values(0.0), values(-0.0), "exact", False),
        (values(0.0), values(-0.0), "reassociating", True),
        (values(100.0, 0.001), values(100.0, 0.0015), "reassociating", True),  # small beside the scale
        (values(100.0, 0.001), values(100.0, 0.005), "reassociating", False),
        (values(1.0), values(1.0005), "reassociating", False),
        (values(1.0), values(1.0005), "approximate", True),
        (values(1.0), values(1.01), "approximate", False),
        (values(1.0, dtype="float64"), values(1.0 + 1e-11, dtype="float64"), "reassociating", False),
        (values(1.0, dtype="float64"), values(1.0 + 1e-13, dtype="float64"), "reassociating", True),
        (values(1.0, dtype="bfloat16"), values(1.0078125, dtype="bfloat16"), "reassociating", True),
        (values(1.0, dtype="float16"), values(1.0078125, dtype="float16"), "reassociating", False),
        (values(1.0, dtype="float8_e5m2"), values(1.0, dtype="float8_e5m2"), "exact", True),
        (values(1.0, dtype="float8_e5m2"), values(1.5, dtype="float8_e5m2"), "reassociating", False),
        (values(1j, dtype="complex64"), values(1.0000001j, dtype="complex64"), "reassociating", True),
        (values(1j, dtype="complex64"), values(-1j, dtype="complex64"), "approximate", False),
        (values(np.nan, 1.0), values(np.nan, 1.0), "exact", True),
        (values(np.nan, 1.0), values(1.0, np.nan), "approximate", False),
        (values(np.nan), values(1.0), "approximate", False),
        (values(np.inf), values(np.inf), "exact", True),
        (values(np.inf), values(-np.inf), "approximate", False),
        (values(np.inf), values(3e38), "approximate", False),
        (values(1e38), values(np.inf), "approximate", False),
        (values(np.nan), values(np.inf), "approximate", False),
        (values(1, 2, dtype="int32"), values(1, 3, dtype="int32"), "approximate", False),
        (values(2**62, dtype="int64"), values(2**62 + 1, dtype="int64"), "approximate", False),
        (values(True, dtype="bool"), values(False, dtype="bool"), "approximate", False),
        (values(1, dtype="int4"), values(2, dtype="int4"), "approximate", False),
        ({"y": np.array([b"a"], object)}, {"y": np.array([b"b"], object)}, "approximate", False),
        ({"y": np.array([b"a"], object)}, {"y": np.array([b"a"], object)}, "exact", True),
        (values(1.0), values(1.0, dtype="float64"), "approximate", False),
        (values(1.0), {"y": np.ones((1, 1), np.float32)}, "approximate", False),
        (values(1.0), {"z": np.ones(1, np.float32)}, "approximate", False),
        (values(), values(), "exact", True),
        ({"y": np.float32(1)}, {"y": np.float32(2)}, "exact", False),
    ],
)
def test_differences_of_values(before: Any, after: Any, exactness: str, equal: bool) -> None:
    found = difference(before, after, exactness)
    assert (found is None) == equal, found


def test_tolerances_can_be_given() -> None:
    assert difference(values(10.0), values(10.5), "exact", rtol=0.1) is None
    assert difference(values(10.0), values(10.5), "exact", atol=0.1) is not None
    assert difference(values(10.0), values(10.5), "exact", atol=0.6) is None
    assert difference(values(10.0), values(10.5), "approximate", rtol=0.0) is not None


# The contract -------------------------------------------------------------------------------------------------


def _rename_output(model: Model) -> None:
    model.graph.rename(model.graph.node("y"), "z")


def _drop_signature(model: Model) -> None:
    model.signatures.clear()


def _rename_in_signature(model: Model) -> None:
    model.signatures["serving_default"].outputs = {"why": 0, "places": 1}


def _reorder_signature(model: Model) -> None:
    model.signatures["serving_default"].outputs = {"places": 1, "y": 0}


def _exchange(model: Model) -> None:
    model.signatures["serving_default"].outputs = {"y": 1, "places": 0}


def _another_tensor(model: Model) -> None:
    model.graph.outputs = (*model.graph.outputs, model.graph.value("back"))
    model.signatures["serving_default"].outputs["y"] = 2


def _change_dtype(model: Model) -> None:
    model.graph.node("y").output.type = tensor_type("float64")


def _change_shape(model: Model) -> None:
    model.graph.node("x").output.type = tensor_type("float32", [None, 5])


def _add_target(model: Model) -> None:
    model.graph.targets = [model.graph.node("w")]


def _drop_output(model: Model) -> None:
    model.graph.outputs = model.graph.outputs[:1]
    model.signatures["serving_default"] = Signature(model.graph, {"x": 0}, {"y": 0})


@pytest.mark.parametrize(
    "breach",
    [
        _rename_output, _drop_signature, _rename_in_signature, _reorder_signature, _exchange, _another_tensor,
        _change_dtype, _change_shape, _add_target, _drop_output,
    ],
)  # fmt: skip
def test_a_broken_contract_is_seen(breach: Callable[[Model], None]) -> None:
    after = LAYERS.clone()
    assert_contract_kept(LAYERS, after)
    breach(after)
    with pytest.raises(AssertionError):
        assert_contract_kept(LAYERS, after)


def test_shapes_may_become_better_known() -> None:
    after = LAYERS.clone()
    after.graph.node("x").output.type = tensor_type("float32", [3, 4])
    assert_contract_kept(LAYERS, after)


# Structure ----------------------------------------------------------------------------------------------------


def test_what_counts_as_a_difference() -> None:
    after = LAYERS.clone()
    assert list(differences(LAYERS, after)) == []
    after.graph.sort()
    after.graph.move(after.graph.node("b"), after.graph.node("x"))
    after.graph.node("relu").origins = ("a",)
    after.graph.node("relu").output.type = tensor_type("float32", [None, 4])
    _constant(after, "b", lambda a: a * np.float32(1 + 1e-7))
    with pytest.raises(AssertionError, match="the structure differs"):
        assert_same_structure(LAYERS, after)
    assert_same_structure(LAYERS, after, Strictness(order=False, origins=False, shapes=False, rtol=1e-6))
    for lax in ("order", "origins", "shapes"):
        strictness = Strictness(False, False, False, 1e-6)._replace(**{lax: True})
        assert list(differences(LAYERS, after, strictness))
    assert list(differences(LAYERS, after, Strictness(False, False, False, 0.0)))
    with pytest.raises(TypeError, match="a model is compared with a model"):
        assert_same_structure(LAYERS, LAYERS.graph)


def test_attributes_are_the_same_only_within_their_kind() -> None:
    assert not same_attribute(1, True)
    assert not same_attribute(1, 1.0)
    assert not same_attribute(0.0, -0.0)
    assert same_attribute(float("nan"), float("nan"))
    assert not same_attribute((1,), (1, 2))
    assert same_attribute((tensor([1.0]),), (tensor([1.0]),))
    assert not same_attribute(tensor([1.0]), tensor([1]))


# Checking a pass ----------------------------------------------------------------------------------------------

IDENTITIES = """
graph @main(%x: float32[?, 2]) -> (%y) {
  %i = tf.Identity(%x)
  %dead = tf.Exp(%i)
  %y = tf.Relu(%i)
}
signature "serving_default"(x = %x) -> (y = %y)
"""
STRIPPED = IDENTITIES.replace("  %dead = tf.Exp(%i)\n", "")


def test_a_pass_is_checked_on_an_example() -> None:
    model, report = check_pass("strip-unused", IDENTITIES, STRIPPED)
    assert model.graph.find("dead") is None
    assert report.name == "strip-unused"
    check_pass("strip-unused", STRIPPED)


def test_a_pass_that_makes_something_else_is_shown_with_what_it_made() -> None:
    with pytest.raises(AssertionError, match=r"'strip-unused' made something else: .*\nIt made:\n") as caught:
        check_pass("strip-unused", IDENTITIES)
    assert "%y = tf.Relu(%i)" in str(caught.value)


# Imports ------------------------------------------------------------------------------------------------------


def test_hypothesis_is_needed_for_strategies_only(run_python: RunPython) -> None:
    done = run_python(
        "import sys; sys.modules['hypothesis'] = None\n"
        "import graphopt.testing as testing\n"
        "testing.random_model(1), testing.assert_equivalent, testing.check_pass\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


def test_every_name_offered_exists() -> None:
    for name in graphopt.testing.__all__:
        assert callable(getattr(graphopt.testing, name))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        graphopt.testing.nothing  # noqa: B018
