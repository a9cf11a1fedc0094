"""plain-tensor-arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from control_helpers import check_on, refusals
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.formats.graphdef import read_graphdef
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import PassManager, run_pass
from graphopt.testing import assert_equivalent, assert_same_structure, check_pass, models

NAME = "plain-tensor-arrays"
STRAIGHT = """
graph @main(%x: float32[2], %i: int32[], %picked: int32[3]) -> (%y, %z, %n) {
  %count = tf.Const() {value = int32[] 5}
  %array = tf.TensorArrayV3(%count) {dtype = float32, element_shape = shape[?]} : (resource[2], float32[])
  %written = tf.TensorArrayWriteV3(%array, %i, %x, %array:1) {T = float32}
  %read = tf.TensorArrayReadV3(%array, %i, %written) {dtype = float32}
  %rows = tf.TensorArrayGatherV3(%array, %picked, %written) {dtype = float32}
  %size = tf.TensorArraySizeV3(%array, %written)
  %y = tf.Neg(%read)
  %z = tf.Neg(%rows)
  %n = tf.Neg(%size)
}
"""
LOOP = """
function @cond(%i: int32[], %in: resource[2], %rows: float32[], %out: resource[2], %made: float32[], %s: float32[2])
    -> (%go) {
  %limit = tf.Const() {value = int32[] 3}
  %go = tf.Less(%i, %limit) {T = int32}
}
function @body(%i: int32[], %in: resource[2], %rows: float32[], %out: resource[2], %made: float32[], %s: float32[2])
    -> (%next, %same, %rows, %out, %more, %t) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one) {T = int32}
  %same = tf.Identity(%in) {T = resource} : resource[2]
  %row = tf.TensorArrayReadV3(%same, %i, %rows) {dtype = float32} : float32[2]
  %t = tf.Add(%s, %row) {T = float32} : float32[2]
  %state = tf.Identity(%made) {T = float32} : float32[]
  %more = tf.TensorArrayWriteV3(%out, %i, %t, %state) {T = float32}
}
graph @main(%x: float32[2], %values: float32[3, 2]) -> (%y) {
  %start = tf.Const() {value = int32[] 0}
  %count = tf.Const() {value = int32[] 3}
  %all = tf.Const() {value = int32[3] [0, 1, 2]}
  %in = tf.TensorArrayV3(%count) {dtype = float32} : (resource[2], float32[])
  %out = tf.TensorArrayV3(%count) {dtype = float32} : (resource[2], float32[])
  %given = tf.TensorArrayScatterV3(%in, %all, %values, %in:1) {T = float32}
  %loop = tf.While(%start, %in, %given, %out, %out:1, %x) {cond = @cond, body = @body,
    T = [int32, resource, float32, resource, float32, float32]}
    : (int32[], resource[2], float32[], resource[2], float32[], float32[2])
  %y = tf.TensorArrayGatherV3(%loop:3, %all, %loop:4) {dtype = float32, element_shape = shape[2]} : float32[3, 2]
}
"""


def arrays_left(model: Model) -> list[str]:
    return [node.op for graph in model.graphs for node in graph if "TensorArray" in node.op]


def equivalent(text: str, runtime: str = "reference", **feeds: np.ndarray) -> Model:
    source = parse_model(text)
    model = source.clone()
    assert run_pass(model, NAME).rewrites
    verify(model)
    assert not arrays_left(model)
    assert_equivalent(source, model, feeds, runtime=runtime, allow_flat=True)
    return model


def test_an_array_in_one_graph() -> None:
    after = """
    graph @main(%x: float32[2], %i: int32[], %picked: int32[3]) -> (%y, %z, %n) {
      %array = tf.Const() {value = float32[5,2] splat 0.0}
      %"written/index_shape" = tf.Const() {value = int32[2] [1, 1]}
      %"written/index" = tf.Reshape(%i, %"written/index_shape")
      %"written/axis" = tf.Const() {value = int32[] 0}
      %"written/row" = tf.ExpandDims(%x, %"written/axis")
      %written = tf.TensorScatterUpdate(%array, %"written/index", %"written/row")
      %"read/axis" = tf.Const() {value = int32[] 0}
      %read = tf.GatherV2(%written, %i, %"read/axis") {batch_dims = 0}
      %"rows/axis" = tf.Const() {value = int32[] 0}
      %rows = tf.GatherV2(%written, %picked, %"rows/axis") {batch_dims = 0}
      %size = tf.Const() {value = int32[] 5}
      %y = tf.Neg(%read)
      %z = tf.Neg(%rows)
      %n = tf.Neg(%size)
    }"""
    feeds = {"x": np.array([3, 4], np.float32), "i": np.array(1, np.int32), "picked": np.array([4, 1, 0], np.int32)}
    check_pass(NAME, STRAIGHT, after, feeds=feeds, allow_flat=True)


@pytest.mark.parametrize("runtime", ["reference", pytest.param("tensorflow", marks=pytest.mark.tensorflow)])
def test_arrays_that_go_round_a_loop(runtime: str) -> None:
    model, rewrites = check_on(parse_model(LOOP), NAME, runtime=runtime)
    assert rewrites == 2
    assert not arrays_left(model)
    loop, body = model.graph.node("loop"), model.functions["body"]
    assert [dtype.name for dtype in loop.attrs["T"]] == ["int32", "float32", "float32", "float32"]
    assert [str(value.type) for value in loop.outputs[1:]] == ["float32[3, 2]", "float32[3, 2]", "float32[2]"]
    assert [str(value.type) for value in body.inputs[1:3]] == ["float32[3, 2]", "float32[3, 2]"]
    assert len(model.functions["cond"].inputs) == len(body.outputs) == 4
    assert model.graph.node("given").op == "tf.Identity"


AGAIN = """
  %third = tf.TensorArrayV3(%count) {dtype = float32} : (resource[2], float32[])
  %again = tf.While(%start, %loop:1, %loop:2, %third, %third:1, %x) {cond = @cond, body = @body,
    T = [int32, resource, float32, resource, float32, float32]}
    : (int32[], resource[2], float32[], resource[2], float32[], float32[2])
  %w = tf.TensorArrayGatherV3(%third, %all, %again:4) {dtype = float32} : float32[3, 2]
"""


def test_functions_that_others_run_are_copied() -> None:
    text = LOOP.replace("-> (%y)", "-> (%y, %w)").replace("  %y =", f"{AGAIN}  %y =")
    model, rewrites = check_on(parse_model(text), NAME)
    assert rewrites == 3
    assert not arrays_left(model)
    assert len(model.functions) == 4


def test_copies_that_did_not_help_go() -> None:
    text = LOOP.replace("-> (%y)", "-> (%y, %w)").replace("  %y =", f"{AGAIN}  %y =")
    text = text.replace("{dtype = float32} : (resource[2]", "{dtype = float32, dynamic_size = true} : (resource[2]")
    source = parse_model(text)
    model = source.clone()
    assert run_pass(model, NAME).rewrites == 0
    assert_same_structure(source, model)
    assert list(model.functions) == ["cond", "body"]


NESTED = """
function @few(%j: int32[], %h: resource[2], %f: float32[]) -> (%go) {
  %limit = tf.Const() {value = int32[] 2}
  %go = tf.Less(%j, %limit)
}
function @inner(%j: int32[], %h: resource[2], %f: float32[]) -> (%next, %h, %more) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%j, %one) {T = int32}
  %x = tf.Cast(%j) {SrcT = int32, DstT = float32} : float32[]
  %more = tf.TensorArrayWriteV3(%h, %j, %x, %f) {T = float32}
}
function @cond(%i: int32[], %h: resource[2], %f: float32[]) -> (%go) {
  %one = tf.Const() {value = int32[] 1}
  %go = tf.Less(%i, %one)
}
function @body(%i: int32[], %h: resource[2], %f: float32[]) -> (%next, %h, %loop:2) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one) {T = int32}
  %loop = tf.While(%i, %h, %f) {cond = @few, body = @inner, T = [int32, resource, float32]}
    : (int32[], resource[2], float32[])
}
graph @main(%x: float32[]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %count = tf.Const() {value = int32[] 3}
  %all = tf.Const() {value = int32[3] [0, 1, 2]}
  %array = tf.TensorArrayV3(%count) {dtype = float32, element_shape = shape[]} : (resource[2], float32[])
  %loop = tf.While(%zero, %array, %array:1) {cond = @cond, body = @body, T = [int32, resource, float32]}
    : (int32[], resource[2], float32[])
  %rows = tf.TensorArrayGatherV3(%array, %all, %loop:2) {dtype = float32} : float32[3]
  %y = tf.Mul(%rows, %x)
}
"""


def test_loops_in_loops() -> None:
    model = equivalent(NESTED, x=np.array(2, np.float32))
    assert [len(function.inputs) for function in model.functions.values()] == [2, 2, 2, 2]


PARTS = """
graph @main(%x: float32[6, 2], %row: float32[2, 2], %places: int32[2]) -> (%y, %n, %z) {
  %count = tf.Const() {value = int32[] 3}
  %lengths = tf.Const() {value = int64[3] [2, 2, 2]}
  %last = tf.Const() {value = int32[] 2}
  %array = tf.TensorArrayV3(%count) {dtype = float32} : (resource[2], float32[])
  %split = tf.TensorArraySplitV3(%array, %x, %lengths, %array:1) {T = float32}
  %whole = tf.TensorArrayConcatV3(%array, %split) {dtype = float32} : (float32[?, 2], int64[?])
  %y = tf.Neg(%whole)
  %n = tf.Neg(%whole:1)
  %other = tf.TensorArrayV3(%count) {dtype = float32} : (resource[2], float32[])
  %put = tf.TensorArrayScatterV3(%other, %places, %row, %other:1) {T = float32}
  %fill = tf.TensorArrayWriteV3(%other, %last, %row0, %put) {T = float32}
  %row0 = tf.Sum(%row, %axis) {keep_dims = false, T = float32, Tidx = int32} : float32[2]
  %axis = tf.Const() {value = int32[] 0}
  %z = tf.TensorArrayReadV3(%other, %last, %fill) {dtype = float32} : float32[2]
}
"""


@pytest.mark.parametrize("runtime", ["reference", pytest.param("tensorflow", marks=pytest.mark.tensorflow)])
def test_parts_and_rows(runtime: str) -> None:
    rng = np.random.default_rng(0)
    x, row = rng.normal(size=(6, 2)).astype(np.float32), rng.normal(size=(2, 2)).astype(np.float32)
    model = equivalent(PARTS, runtime, x=x, row=row, places=np.array([1, 0], np.int32))
    assert model.graph.node("put").op == "tf.TensorScatterUpdate"
    assert str(model.graph.value("whole").type) == "float32[6, 2]"


def test_arrays_are_closed_no_more() -> None:
    model = parse_model(STRAIGHT)
    graph = model.graph
    closing = graph.create_node("tf.TensorArrayCloseV3", [graph.value("array")], {}, name="closing", types=[])
    closing.add_control_input(graph.node("read"))
    graph.node("z").add_control_input(closing)
    assert run_pass(model, NAME).rewrites == 1
    verify(model)
    assert graph.node("closing").op == "tf.NoOp"
    assert graph.node("closing").control_inputs == (graph.node("read"),)
    assert not arrays_left(model)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("element_shape = shape[?]", "element_shape = shape[?], dynamic_size = true", "may grow"),
        ("%x: float32[2]", "%x: float32[?]", "what 'written' writes is not known"),
        ("%count = tf.Const() {value = int32[] 5}", "%count = tf.Neg(%i)", "number of elements is not known"),
        ("int32[] 5", "int32[] 0", "not known or zero"),
        ("shape[?]", "shape[3]", "different shapes"),
        ("%x, %array:1) {T = float32}", "%x, %zero) {T = float32}\n  %zero = tf.Const() {value = float32[] 0.0}",
         "flow of something else"),
        ("-> (%y", "-> (%written, %y", "input or output of a graph"),
        ("%n = ", "%g = tf.TensorArrayGradV3(%array, %written) {source = b\"g\"} : (resource[2], float32[])\n  %n = ",
         "'g' (TensorArrayGradV3) reads it"),
        ("%picked, %written)", "%picked, %array:1)", "'rows' reads before anything is written"),
        ("%rows = tf.TensorArrayGatherV3(%array, %picked, %written)",
         "%places = tf.Identity(%picked) after(%written)\n"
         "  %rows = tf.TensorArrayGatherV3(%array, %places, %array:1)", "is read before 'written' writes"),
        ("%n = ", "%again = tf.TensorArrayWriteV3(%array, %size, %x, %array:1) {T = float32}\n  %n = ",
         "beside the chain"),
        ("%i, %written) {dtype = float32}", "%i, %written) {dtype = int32} : int32[2]", "takes its elements for int32"),
        ("%picked, %written) {", "%picked, %written) {element_shape = shape[7], ", "elements of another shape"),
        ("%n = tf.Neg(%size)", "%n = tf.Neg(%written)", "'n' (Neg) reads it"),
    ],
)  # fmt: skip
def test_refusals(old: str, new: str, reason: str) -> None:
    assert STRAIGHT.count(old) == 1
    model = parse_model(STRAIGHT.replace(old, new))
    before = arrays_left(model)
    report = run_pass(model, NAME)
    assert reason in refusals(report)
    assert report.rewrites == 0
    assert arrays_left(model) == before


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("%out, %more, %t)", "%out, %made, %t)", "is read before 'loop' writes"),
        ("%go = tf.Less", "%lost = tf.TensorArrayWriteV3(%out, %i, %s, %made) {T = float32}\n  %go = tf.Less",
         "'lost' writes beside the chain"),
        ("%one = tf.Const() {value = int32[] 1}",
         "%one = tf.Const() {value = int32[] 1}\n"
         "  %place = tf.Identity(%i) after(%more)\n"
         "  %old = tf.TensorArrayReadV3(%out, %place, %made) {dtype = float32} : float32[2]",
         "is read before 'more' writes"),
        ("%out, %more, %t)", "%in, %more, %t)", "may yield it too"),
        ("%y =", "%late = tf.TensorArrayReadV3(%out, %start, %out:1) {dtype = float32}\n  %y =",
         "'late' reads before anything is written"),
    ],
)  # fmt: skip
def test_refusals_in_loops(old: str, new: str, reason: str) -> None:
    assert LOOP.count(old) == 1
    model = parse_model(LOOP.replace(old, new))
    report = run_pass(model, NAME)
    verify(model)
    assert reason in refusals(report)
    assert report.rewrites < 2
    assert "tf.TensorArrayWriteV3" in arrays_left(model)


@pytest.mark.parametrize("lengths", ["[1, 2, 3]", "[2, 2, 1]"])
def test_parts_of_different_lengths_stay(lengths: str) -> None:
    model = parse_model(PARTS.replace("[2, 2, 2]", lengths))
    report = run_pass(model, NAME)
    assert "'split'" in refusals(report)
    assert report.rewrites == 1


def test_large_arrays_stay() -> None:
    _, report = check_pass(f"{NAME}{{max-bytes=39}}", STRAIGHT, runtime=None)
    assert "more than 39 bytes" in refusals(report)


@given(st.integers(0, 4), st.integers(1, 3), st.sampled_from(["float32", "int32", "float64"]))
def test_sizes_and_types(index: int, width: int, dtype: str) -> None:
    text = STRAIGHT.replace("(resource[2], float32[])", "(resource[2], flow)").replace(
        "float32[2]", f"{dtype}[{width}]"
    )
    text = text.replace("float32", dtype).replace("flow", "float32[]").replace("shape[?]", f"shape[{width}]")
    rows = np.random.default_rng(index).integers(1, 9, width).astype(dtype)
    equivalent(text, x=rows, i=np.array(index, np.int32), picked=np.array([index, 0, 4], np.int32))


@given(models())
def test_models_without_arrays(model: Model) -> None:
    _, rewrites = check_on(model, NAME)
    assert rewrites == 0


def unsized() -> str:
    """A loop over as many rows as are fed, each of as many columns, that collects what it makes of them."""
    text = LOOP.replace("%x: float32[2], %values: float32[3, 2]", "%x: float32[?], %values: float32[?, ?]")
    text = text.replace("%s: float32[2]", "%s: float32[?]").replace(": float32[2]", "").replace(": float32[3, 2]", "")
    text = text.replace(", float32[2])", ", float32[?])").replace(
        "element_shape = shape[2]", "element_shape = shape[?]"
    )
    size = """
  %one = tf.Const() {value = int32[] 1}
  %zero = tf.Const() {value = int32[1] [0]}
  %first = tf.Const() {value = int32[1] [1]}
  %dims = tf.Shape(%values)
  %count = tf.StridedSlice(%dims, %zero, %first, %first) {shrink_axis_mask = 1}
  %all = tf.Range(%start, %count, %one)
  %sums = tf.Sum(%values, %zero)
"""
    lines = [
        line for line in text.splitlines() if not line.strip().startswith(("%all = tf.Const", "%count = tf.Const"))
    ]
    text = "\n".join(lines).replace("  %in = tf.TensorArrayV3", f"{size}  %in = tf.TensorArrayV3", 1)
    text = text.replace("%out:1, %x)", "%out:1, %sums)").replace("%x: float32[?], %values", "%values")
    return text.replace("%limit = tf.Const() {value = int32[] 3}", "%limit = tf.TensorArraySizeV3(%in, %rows)")


@given(st.integers(1, 5), st.integers(1, 4))
def test_sizes_that_are_known_when_the_model_runs(rows: int, columns: int) -> None:
    source = parse_model(unsized())
    model = source.clone()
    refused = model.clone()
    for _ in range(3):
        run_pass(model, "infer-shapes")
        run_pass(model, f"{NAME}{{dynamic=true}}")
        run_pass(refused, "infer-shapes")
        assert not run_pass(refused, NAME).rewrites
    verify(model)
    assert not arrays_left(model)
    feeds = {"values": np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)}
    assert_equivalent(source, model, feeds, runtime="reference", allow_flat=True)


PREVIOUS = """
function @cond(%i: int32[], %h: resource[2], %f: float32[]) -> (%go) {
  %limit = tf.Const() {value = int32[] 5}
  %go = tf.Less(%i, %limit)
}
function @body(%i: int32[], %h: resource[2], %f: float32[]) -> (%next, %h, %more) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %last = tf.Sub(%i, %one)
  %old = tf.TensorArrayReadV3(%h, %last, %f) {dtype = float32}
  %new = tf.Tanh(%old)
  %more = tf.TensorArrayWriteV3(%h, %i, %new, %f)
}
graph @main(%x: float32[2]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %count = tf.Const() {value = int32[] 5}
  %all = tf.Const() {value = int32[5] [0, 1, 2, 3, 4]}
  %array = tf.TensorArrayV3(%count) {dtype = float32, clear_after_read = false, identical_element_shapes = true}
  %first = tf.TensorArrayWriteV3(%array, %zero, %x, %array:1)
  %loop = tf.While(%one, %array, %first) {cond = @cond, body = @body, T = [int32, resource, float32]}
  %y = tf.TensorArrayGatherV3(%loop:1, %all, %loop:2) {dtype = float32}
}
"""
PREVIOUS_AFTER = """
function @cond(%i: int32[], %f: float32[5, 2]) -> (%go) {
  %limit = tf.Const() {value = int32[] 5}
  %go = tf.Less(%i, %limit)
}
function @body(%i: int32[], %f: float32[5, 2]) -> (%next, %more) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %last = tf.Sub(%i, %one)
  %"old/axis" = tf.Const() {value = int32[] 0}
  %old = tf.GatherV2(%f, %last, %"old/axis") {batch_dims = 0}
  %new = tf.Tanh(%old)
  %"more/index_shape" = tf.Const() {value = int32[2] [1, 1]}
  %"more/index" = tf.Reshape(%i, %"more/index_shape")
  %"more/axis" = tf.Const() {value = int32[] 0}
  %"more/row" = tf.ExpandDims(%new, %"more/axis")
  %more = tf.TensorScatterUpdate(%f, %"more/index", %"more/row")
}
graph @main(%x: float32[2]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %all = tf.Const() {value = int32[5] [0, 1, 2, 3, 4]}
  %array = tf.Const() {value = float32[5, 2] splat 0.0}
  %"first/index_shape" = tf.Const() {value = int32[2] [1, 1]}
  %"first/index" = tf.Reshape(%zero, %"first/index_shape")
  %"first/axis" = tf.Const() {value = int32[] 0}
  %"first/row" = tf.ExpandDims(%x, %"first/axis")
  %first = tf.TensorScatterUpdate(%array, %"first/index", %"first/row")
  %loop = tf.While(%one, %first) {cond = @cond, body = @body, T = [int32, float32]}
  %"y/axis" = tf.Const() {value = int32[] 0}
  %y = tf.GatherV2(%loop:1, %all, %"y/axis") {batch_dims = 0}
}
"""
RUNTIMES = ["reference", pytest.param("tensorflow", marks=pytest.mark.tensorflow)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_was_written_is_read_while_more_is_written(runtime: str) -> None:
    feeds = {"x": np.array([0.5, -1.0], np.float32)}
    check_pass(NAME, PREVIOUS, PREVIOUS_AFTER, feeds=feeds, runtime=runtime)


def test_a_second_read_may_come_before_what_the_loop_writes() -> None:
    text = PREVIOUS.replace("  %y =", "  %seen = tf.TensorArrayReadV3(%array, %zero, %first) {dtype = float32}\n  %y =")
    text = text.replace("-> (%y)", "-> (%y, %seen)")
    equivalent(text, x=np.array([0.5, -1.0], np.float32))
    late = text.replace("%array, %zero, %first) {dtype", "%array, %place, %first) {dtype").replace(
        "  %seen =", "  %place = tf.Sub(%loop, %count)\n  %seen ="
    )
    assert "is read before 'loop' writes" in refusals(run_pass(parse_model(late), NAME))


BRANCHES = """
function @then(%h: resource[2], %f: float32[], %x: float32[2]) -> (%h, %more, %z) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %old = tf.TensorArrayReadV3(%h, %zero, %f) {dtype = float32} : float32[2]
  %z = tf.Add(%old, %x)
  %more = tf.TensorArrayWriteV3(%h, %one, %z, %f) {T = float32}
}
function @else(%h: resource[2], %f: float32[], %x: float32[2]) -> (%h, %same, %x) {
  %same = tf.Identity(%f)
}
graph @main(%c: bool[], %x: float32[2]) -> (%y, %w, %v) {
  %zero = tf.Const() {value = int32[] 0}
  %count = tf.Const() {value = int32[] 3}
  %all = tf.Const() {value = int32[3] [0, 1, 2]}
  %array = tf.TensorArrayV3(%count) {dtype = float32, element_shape = shape[2], clear_after_read = false}
  %first = tf.TensorArrayWriteV3(%array, %zero, %x, %array:1) {T = float32}
  %if = tf.If(%c, %array, %first, %x) {then_branch = @then, else_branch = @else, Tcond = bool,
    Tin = [resource, float32, float32], Tout = [resource, float32, float32],
    output_shapes = [shape[2], shape[], shape[2]]} : (resource[2], float32[], float32[2])
  %w = tf.Neg(%if:2)
  %y = tf.TensorArrayGatherV3(%if, %all, %if:1) {dtype = float32} : float32[3, 2]
  %v = tf.Neg(%y)
}
"""
BRANCHES_AFTER = """
function @then(%f: float32[3, 2], %x: float32[2]) -> (%more, %z) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %"old/axis" = tf.Const() {value = int32[] 0}
  %old = tf.GatherV2(%f, %zero, %"old/axis") {batch_dims = 0}
  %z = tf.Add(%old, %x)
  %"more/index_shape" = tf.Const() {value = int32[2] [1, 1]}
  %"more/index" = tf.Reshape(%one, %"more/index_shape")
  %"more/axis" = tf.Const() {value = int32[] 0}
  %"more/row" = tf.ExpandDims(%z, %"more/axis")
  %more = tf.TensorScatterUpdate(%f, %"more/index", %"more/row")
}
function @else(%f: float32[3, 2], %x: float32[2]) -> (%same, %x) {
  %same = tf.Identity(%f)
}
graph @main(%c: bool[], %x: float32[2]) -> (%y, %w, %v) {
  %zero = tf.Const() {value = int32[] 0}
  %all = tf.Const() {value = int32[3] [0, 1, 2]}
  %array = tf.Const() {value = float32[3, 2] splat 0.0}
  %"first/index_shape" = tf.Const() {value = int32[2] [1, 1]}
  %"first/index" = tf.Reshape(%zero, %"first/index_shape")
  %"first/axis" = tf.Const() {value = int32[] 0}
  %"first/row" = tf.ExpandDims(%x, %"first/axis")
  %first = tf.TensorScatterUpdate(%array, %"first/index", %"first/row")
  %if = tf.If(%c, %first, %x) {then_branch = @then, else_branch = @else, Tcond = bool,
    Tin = [float32, float32], Tout = [float32, float32], output_shapes = [shape[3, 2], shape[2]]}
    : (float32[3, 2], float32[2])
  %w = tf.Neg(%if:1)
  %"y/axis" = tf.Const() {value = int32[] 0}
  %y = tf.GatherV2(%if, %all, %"y/axis") {batch_dims = 0}
  %v = tf.Neg(%y)
}
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("taken", [True, False])
def test_arrays_go_through_branches(taken: bool, runtime: str) -> None:
    feeds = {"c": np.array(taken), "x": np.array([0.5, -1.0], np.float32)}
    check_pass(NAME, BRANCHES, BRANCHES_AFTER, feeds=feeds, runtime=runtime, allow_flat=True)


@pytest.mark.parametrize("taken", [0, 1, 2, 7])
def test_arrays_go_through_cases(taken: int) -> None:
    branches = "then_branch = @then, else_branch = @else, Tcond = bool"
    text = BRANCHES.replace("%c: bool[]", "%c: int32[]").replace(branches, "branches = [@then, @else, @more]")
    third = BRANCHES[: BRANCHES.index("function @else")].replace("@then", "@more").replace("int32[] 1}", "int32[] 2}")
    model = equivalent(third + text.replace("tf.If", "tf.Case"), c=np.array(taken, np.int32), x=np.ones(2, np.float32))
    assert [len(function.inputs) for function in model.functions.values()] == [2, 2, 2]


CALLED = """
function @next(%h: resource[2], %f: float32[], %i: int32[], %x: float32[2]) -> (%more) {
  %one = tf.Const() {value = int32[] 1}
  %last = tf.Sub(%i, %one) {T = int32}
  %old = tf.TensorArrayReadV3(%h, %last, %f) {dtype = float32} : float32[2]
  %new = tf.Add(%old, %x) {T = float32} : float32[2]
  %more = tf.TensorArrayWriteV3(%h, %i, %new, %f) {T = float32}
}
function @make(%n: int32[]) -> (%array, %empty) {
  %empty = tf.Identity(%array:1)
  %array = tf.TensorArrayV3(%count) {dtype = float32, clear_after_read = false}
  %count = tf.Const() {value = int32[] 3}
}
graph @main(%x: float32[2], %n: int32[]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %two = tf.Const() {value = int32[] 2}
  %all = tf.Const() {value = int32[3] [0, 1, 2]}
  %made = tf.StatefulPartitionedCall(%n) {f = @make, Tin = [int32], Tout = [resource, float32]}
    : (resource[2], float32[])
  %first = tf.TensorArrayWriteV3(%made, %zero, %x, %made:1) {T = float32}
  %second = tf.StatefulPartitionedCall(%made, %first, %one, %x) {f = @next, Tin = [resource, float32, int32, float32],
    Tout = [float32]} : float32[]
  %third = tf.StatefulPartitionedCall(%made, %second, %two, %x) {f = @next, Tin = [resource, float32, int32, float32],
    Tout = [float32]} : float32[]
  %y = tf.TensorArrayGatherV3(%made, %all, %third) {dtype = float32} : float32[3, 2]
}
"""


@pytest.mark.tensorflow
def test_tensorflow_runs_the_calls() -> None:
    """TensorFlow lets no function return an array, so the main graph makes it here."""
    head, main = CALLED.split("function @make")[0], CALLED[CALLED.index("graph @main") :]
    start, end = main.index("  %made = "), main.index("  %first = ")
    made = """  %count = tf.Const() {value = int32[] 3}
  %made = tf.TensorArrayV3(%count) {dtype = float32, clear_after_read = false}
"""
    equivalent(head + main[:start] + made + main[end:], "tensorflow", x=np.array([0.5, -1.0], np.float32),
               n=np.array(3, np.int32))  # fmt: skip


def test_arrays_go_through_calls() -> None:
    model = equivalent(CALLED, x=np.array([0.5, -1.0], np.float32), n=np.array(3, np.int32))
    assert [len(function.inputs) for function in model.functions.values()] == [3, 1, 3]
    assert model.graph.node("second").attrs["Tin"] == model.graph.node("third").attrs["Tin"]
    assert [str(value.type) for value in model.graph.node("made").outputs] == ["float32[3, 2]"]
    again = model.clone()
    assert run_pass(again, NAME).rewrites == 0
    assert_same_structure(model, again)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-> (%h, %more, %z)", "-> (%h, %f, %z)", "is read before"),
        ("  %same = tf.Identity(%f)\n",
         "  %count = tf.Const() {value = int32[] 3}\n"
         "  %new = tf.TensorArrayV3(%count) {dtype = float32, element_shape = shape[2]}\n"
         "  %same = tf.Identity(%new:1)\n", "(TensorArrayV3) may yield it too"),
        ("%if, %all, %if:1)", "%if, %all, %first)", "is read before 'if' writes"),
        ("tf.If(%c, %array, %first, %x) {then_branch = @then, else_branch = @else, Tcond = bool,",
         "tf.If(%first, %array, %first, %x) {then_branch = @then, else_branch = @else, Tcond = float32,",
         "(If) reads it"),
        ("  %w =", "  %gone = tf.Neg(%first)\n  %w =", "'gone' (Neg) reads it"),
    ],
)  # fmt: skip
def test_refusals_in_branches(old: str, new: str, reason: str) -> None:
    assert BRANCHES.count(old) == 1
    model = parse_model(BRANCHES.replace(old, new))
    before = arrays_left(model)
    report = run_pass(model, NAME)
    verify(model)
    assert reason in refusals(report)
    assert report.rewrites == 0
    assert arrays_left(model) == before


@pytest.mark.tensorflow
@given(st.integers(3, 6), st.integers(1, 3), st.integers(0, 2), st.booleans())
def test_arrays_of_tensorflow_1(count: int, width: int, back: int, conditional: bool) -> None:
    """A loop as `tf.while_loop` wrote it: what it wrote before is read, in a branch or not, while more is written."""
    v1, arrays = tensorflow_1()
    graph = v1.Graph()
    with graph.as_default():
        x = v1.placeholder("float32", [width], name="x")
        made = arrays.TensorArray("float32", count, element_shape=[width], clear_after_read=False)
        made = made.write(0, x)

        def body(i: object, array: object, state: object) -> object:
            place = v1.maximum(i - 1 - back, 0)
            if conditional:
                state = v1.cond(v1.equal(i % 2, 0), lambda: array.read(place) + state, lambda: state - x)
                flow = v1.cond(v1.equal(i % 3, 0), lambda: v1.identity(array.flow), lambda: array.write(i, state).flow)
                return i + 1, arrays.build_ta_with_new_flow(array, flow), state
            state = v1.tanh(array.read(place)) + state
            return i + 1, array.write(i, state), state

        _, made, last = v1.while_loop(lambda i, *_: i < count, body, (1, made, x))
        v1.identity(made.stack(), name="y")
        v1.identity(last, name="z")
    source = read_graphdef(graph.as_graph_def().SerializeToString())
    source.set_signature({"x": source.graph.value("x")}, {name: source.graph.value(name) for name in ("y", "z")})
    model = source.clone()
    report = PassManager(f"strip-unused,infer-shapes,raise-control-flow,infer-shapes,fold-constants,{NAME}").run(model)
    verify(model)
    assert not arrays_left(model), [refusals(item) for item in report.passes]
    assert list(model.signatures) == list(source.signatures)
    feeds = {"x": np.random.default_rng(count).normal(size=width).astype(np.float32)}
    assert_equivalent(source, model, feeds, runtime="tensorflow", allow_flat=True)


@pytest.fixture(scope="module", autouse=True)
def control_flow_of_tensorflow_2() -> Iterator[None]:
    """What comes after these tests finds TensorFlow as it was."""
    yield
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].compat.v1.enable_control_flow_v2()


def tensorflow_1() -> tuple[Any, Any]:
    """TensorFlow 1's functions, with its control flow, and its tensor arrays."""
    v1 = pytest.importorskip("tensorflow").compat.v1
    from tensorflow.python.ops import tensor_array_ops

    v1.disable_control_flow_v2()
    return v1, tensor_array_ops


GROWING = """
function @cond(%i: int32[], %h: resource[2], %f: float32[], %s: float32[2], %n: int32[]) -> (%go) {
  %go = tf.Less(%i, %n) {T = int32}
}
function @body(%i: int32[], %h: resource[2], %f: float32[], %s: float32[2], %n: int32[]) -> (%next, %h, %more, %t, %n) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one) {T = int32}
  %t = tf.Tanh(%s) {T = float32} : float32[2]
  %more = tf.TensorArrayWriteV3(%h, %i, %t, %f) {T = float32}
}
graph @main(%x: float32[2], %n: int32[]) -> (%y, %w, %z) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %array = tf.TensorArrayV3(%zero) {dtype = float32, dynamic_size = true, clear_after_read = false}
  %loop = tf.While(%zero, %array, %array:1, %x, %n) {cond = @cond, body = @body,
    T = [int32, resource, float32, float32, int32]} : (int32[], resource[2], float32[], float32[2], int32[])
  %size = tf.TensorArraySizeV3(%array, %loop:2)
  %all = tf.Range(%zero, %size, %one)
  %rows = tf.TensorArrayGatherV3(%array, %all, %loop:2) {dtype = float32}
  %first = tf.TensorArrayReadV3(%array, %one, %loop:2) {dtype = float32}
  %y = tf.Neg(%rows)
  %w = tf.Neg(%first)
  %z = tf.Neg(%size)
}
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_arrays_that_grow_in_a_loop(runtime: str) -> None:
    source = parse_model(GROWING)
    model = source.clone()
    assert "it may grow" in refusals(run_pass(model, NAME))
    assert run_pass(model, f"{NAME}{{dynamic=true}}").rewrites == 1
    verify(model)
    assert not arrays_left(model)
    for count in (2, 5):
        feeds = {"x": np.array([0.5, -1.0], np.float32), "n": np.array(count, np.int32)}
        assert_equivalent(source, model, feeds, runtime=runtime, allow_flat=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("%next = tf.AddV2(%i, %one)", "%next = tf.AddV2(%i, %n)"),
        ("%next = tf.AddV2(%i, %one)", "%next = tf.Mul(%i, %one)"),
        ("tf.While(%zero,", "tf.While(%one,"),
        ("tf.TensorArrayV3(%zero)", "tf.TensorArrayV3(%one)"),
        ("(%h, %i, %t, %f)", "(%h, %n, %t, %f)"),
        ("  %size =", "  %last = tf.TensorArrayWriteV3(%array, %n, %x, %loop:2)\n  %size ="),
    ],
)
def test_arrays_that_may_grow_by_more_are_refused(old: str, new: str) -> None:
    assert GROWING.count(old) == 1
    model = parse_model(GROWING.replace(old, new))
    report = run_pass(model, f"{NAME}{{dynamic=true}}")
    assert report.rewrites == 0
    assert "it may grow" in refusals(report)


class Cell:
    """A recurrent cell without weights, as TensorFlow 1's recurrent loops take it."""

    state_size = output_size = 3

    def __call__(self, x: Any, state: Any, scope: Any = None) -> Any:
        v1, _ = tensorflow_1()
        new = v1.tanh(x + 0.5 * state)
        return new * 2.0, new

    def zero_state(self, batch: int, dtype: Any) -> Any:
        v1, _ = tensorflow_1()
        return v1.zeros([batch, 3], dtype)

    def get_initial_state(self, inputs: Any = None, batch_size: Any = None, dtype: Any = None) -> Any:
        return self.zero_state(batch_size, dtype)


def recurrent(kind: str, x: Any) -> Any:
    """The outputs of one of TensorFlow 1's recurrent loops over `x`."""
    v1, arrays = tensorflow_1()
    from tensorflow.python.ops import rnn

    cell = Cell()
    if kind != "raw_rnn":
        lengths = v1.constant([3, 5]) if kind == "lengths" else None
        return rnn.dynamic_rnn(cell, x, dtype="float32", sequence_length=lengths)[0]
    rows = arrays.TensorArray("float32", 5).unstack(v1.transpose(x, [1, 0, 2]))

    def step(time: Any, output: Any, state: Any, _: Any) -> Any:
        finished = time >= v1.constant([5, 4])
        given = v1.cond(v1.reduce_all(finished), lambda: v1.zeros([2, 3]), lambda: rows.read(time))
        return finished, given, cell.zero_state(2, "float32") if output is None else state, output, None

    return rnn.raw_rnn(cell, step)[0].stack()


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["dynamic_rnn", "lengths", "raw_rnn"])
def test_recurrent_loops_of_tensorflow_1(kind: str) -> None:
    v1, _ = tensorflow_1()
    graph = v1.Graph()
    with graph.as_default():
        x = v1.placeholder("float32", [2, 5, 3], name="x")
        v1.identity(recurrent(kind, x), name="y")
    source = read_graphdef(graph.as_graph_def().SerializeToString())
    source.set_signature({"x": source.graph.value("x")}, {"y": source.graph.value("y")})
    model = source.clone()
    before = "infer-shapes,fold-constants,take-constant-branches,strip-unused,raise-control-flow,specialise-functions"
    report = PassManager(f"{before},infer-shapes,fold-constants,{NAME}{{dynamic=true}}").run(model)
    assert not arrays_left(model), [refusals(item) for item in report.passes]
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)}
    assert_equivalent(source, model, feeds, runtime="tensorflow", exactness="reassociating")
