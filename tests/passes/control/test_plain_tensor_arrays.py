"""plain-tensor-arrays: in one graph and in loops."""

from __future__ import annotations

import numpy as np
import pytest
from control_helpers import RUNTIMES, arrays_left, check_on, refusals, without_arrays
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
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


@pytest.mark.parametrize("runtime", RUNTIMES)
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
    model = without_arrays(NESTED, x=np.array(2, np.float32))
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


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_parts_and_rows(runtime: str) -> None:
    rng = np.random.default_rng(0)
    x, row = rng.normal(size=(6, 2)).astype(np.float32), rng.normal(size=(2, 2)).astype(np.float32)
    model = without_arrays(PARTS, runtime, x=x, row=row, places=np.array([1, 0], np.int32))
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
    without_arrays(text, x=rows, i=np.array(index, np.int32), picked=np.array([index, 0, 4], np.int32))


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


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_was_written_is_read_while_more_is_written(runtime: str) -> None:
    feeds = {"x": np.array([0.5, -1.0], np.float32)}
    check_pass(NAME, PREVIOUS, PREVIOUS_AFTER, feeds=feeds, runtime=runtime)


def test_a_second_read_may_come_before_what_the_loop_writes() -> None:
    text = PREVIOUS.replace("  %y =", "  %seen = tf.TensorArrayReadV3(%array, %zero, %first) {dtype = float32}\n  %y =")
    text = text.replace("-> (%y)", "-> (%y, %seen)")
    without_arrays(text, x=np.array([0.5, -1.0], np.float32))
    late = text.replace("%array, %zero, %first) {dtype", "%array, %place, %first) {dtype").replace(
        "  %seen =", "  %place = tf.Sub(%loop, %count)\n  %seen ="
    )
    assert "is read before 'loop' writes" in refusals(run_pass(parse_model(late), NAME))
