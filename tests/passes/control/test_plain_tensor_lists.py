"""plain-tensor-lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from control_helpers import check_on, refusals
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.text import parse_model
from graphopt.passes import PassManager, run_pass
from graphopt.testing import assert_equivalent, assert_same_structure, check_pass, models

NAME = "plain-tensor-lists"
STRAIGHT = """
graph @main(%x: float32[2], %i: int32[]) -> (%y, %z, %n) {
  %shape = tf.Const() {value = int32[1] [2]}
  %count = tf.Const() {value = int32[] 5}
  %list = tf.TensorListReserve(%shape, %count) {element_dtype = float32, shape_type = int32}
  %set = tf.TensorListSetItem(%list, %i, %x) {element_dtype = float32}
  %get = tf.TensorListGetItem(%set, %i, %shape) {element_dtype = float32} : float32[2]
  %all = tf.TensorListStack(%set, %shape) {element_dtype = float32, num_elements = 5} : float32[5, 2]
  %size = tf.TensorListLength(%set)
  %y = tf.Neg(%get)
  %z = tf.Neg(%all)
  %n = tf.Neg(%size)
}
"""


def test_a_list_in_one_graph() -> None:
    after = """
    graph @main(%x: float32[2], %i: int32[]) -> (%y, %z, %n) {
      %list = tf.Const() {value = float32[5,2] splat 0.0}
      %"set/index_shape" = tf.Const() {value = int32[2] [1, 1]}
      %"set/index" = tf.Reshape(%i, %"set/index_shape")
      %"set/row_shape" = tf.Const() {value = int32[2] [1, 2]}
      %"set/row" = tf.Reshape(%x, %"set/row_shape")
      %set = tf.TensorScatterUpdate(%list, %"set/index", %"set/row")
      %"get/axis" = tf.Const() {value = int32[] 0}
      %get = tf.GatherV2(%set, %i, %"get/axis") {batch_dims = 0}
      %all = tf.Identity(%set)
      %size = tf.Const() {value = int32[] 5}
      %y = tf.Neg(%get)
      %z = tf.Neg(%all)
      %n = tf.Neg(%size)
    }"""
    check_pass(NAME, STRAIGHT, after)


LOOP = """
function @cond(%i: int32[], %l: variant[], %r: variant[], %s: float32[2]) -> (%go) {
  %limit = tf.Const() {value = int32[] 3}
  %go = tf.Less(%i, %limit)
}
function @body(%i: int32[], %l: variant[], %r: variant[], %s: float32[2]) -> (%next, %m, %r, %t) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %shape = tf.Const() {value = int32[1] [2]}
  %row = tf.TensorListGetItem(%r, %i, %shape) {element_dtype = float32} : float32[2]
  %t = tf.Add(%s, %row)
  %m = tf.TensorListSetItem(%l, %i, %t) {element_dtype = float32}
}
graph @main(%x: float32[2], %rows: float32[3, 2]) -> (%y) {
  %start = tf.Const() {value = int32[] 0}
  %shape = tf.Const() {value = int32[1] [2]}
  %count = tf.Const() {value = int32[] 3}
  %list = tf.TensorListReserve(%shape, %count) {element_dtype = float32, shape_type = int32}
  %read = tf.TensorListFromTensor(%rows, %shape) {element_dtype = float32, shape_type = int32}
  %loop = tf.StatelessWhile(%start, %list, %read, %x) {cond = @cond, body = @body,
    T = [int32, variant, variant, float32]} : (int32[], variant[], variant[], float32[2])
  %y = tf.TensorListStack(%loop:1, %shape) {element_dtype = float32, num_elements = 3} : float32[3, 2]
}
"""


def lists_left(model) -> list[str]:
    return [node.op for graph in model.graphs for node in graph if "TensorList" in node.op]


def test_lists_that_go_round_a_loop() -> None:
    model, rewrites = check_on(parse_model(LOOP), NAME)
    assert rewrites == 2
    assert not lists_left(model)
    assert [dtype.name for dtype in model.graph.node("loop").attrs["T"]] == ["int32", "float32", "float32", "float32"]
    assert str(model.functions["body"].inputs[1].type) == "float32[3, 2]"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("int32[] 3}\n  %list", "int32[] 0}\n  %list", "is not known"),
        ("%m = tf.TensorListSetItem(%l, %i, %t) {element_dtype = float32}",
         "%m = tf.TensorListPushBack(%l, %t) {element_dtype = float32}", "may make it longer"),
        ("%m = tf.TensorListSetItem(%l, %i, %t) {element_dtype = float32}",
         "%m = tf.TensorListSetItem(%l, %i, %t) {element_dtype = float32, resize_if_index_out_of_bounds = true}",
         "may make it longer"),
        ("-> (%y)", "-> (%y, %loop:1)", "is an input or output"),
        ("num_elements = 3", "num_elements = 4", "expects 4 elements"),
        ("%m = tf.TensorListSetItem(%l, %i, %t)", "%h = tf.Cast(%t) {DstT = float16} : float16[2]\n"
         "  %m = tf.TensorListSetItem(%l, %i, %h)", "'m' puts in float16"),
    ],
)  # fmt: skip
def test_refusals(old: str, new: str, reason: str) -> None:
    model = parse_model(LOOP.replace(old, new))
    report = run_pass(model, NAME)
    assert reason in refusals(report)
    assert report.rewrites == 1
    assert "tf.TensorListReserve" in lists_left(model)


def twice() -> str:
    """Two loops that run the same functions."""
    more = """  %more = tf.StatelessWhile(%start, %loop:1, %read, %x) {cond = @cond, body = @body,
    T = [int32, variant, variant, float32]} : (int32[], variant[], variant[], float32[2])
"""
    return LOOP.replace("  %y =", more + "  %y =").replace("%loop:1, %shape", "%more:1, %shape")


def test_functions_that_others_run_are_copied() -> None:
    model, rewrites = check_on(parse_model(twice()), NAME)
    assert rewrites == 2
    assert not lists_left(model)
    assert len(model.functions) == 4


def test_copies_that_did_not_help_go() -> None:
    source = parse_model(twice().replace("num_elements = 3", "num_elements = 4"))
    model = source.clone()
    report = run_pass(model, f"{NAME}{{max-bytes=4}}")
    assert report.rewrites == 0
    assert_same_structure(source, model)
    assert list(model.functions) == ["cond", "body"]


BRANCHES = """
function @then(%l: variant[], %x: float32[2]) -> (%m, %z) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %shape = tf.Const() {value = int32[1] [2]}
  %old = tf.TensorListGetItem(%l, %zero, %shape) {element_dtype = float32} : float32[2]
  %z = tf.Add(%old, %x)
  %m = tf.TensorListSetItem(%l, %one, %z) {element_dtype = float32}
}
function @else(%l: variant[], %x: float32[2]) -> (%l, %x) {
}
graph @main(%c: bool[], %x: float32[2]) -> (%y, %w) {
  %zero = tf.Const() {value = int32[] 0}
  %count = tf.Const() {value = int32[] 3}
  %shape = tf.Const() {value = int32[1] [2]}
  %list = tf.TensorListReserve(%shape, %count) {element_dtype = float32, shape_type = int32}
  %set = tf.TensorListSetItem(%list, %zero, %x) {element_dtype = float32}
  %if = tf.StatelessIf(%c, %set, %x) {then_branch = @then, else_branch = @else, Tcond = bool,
    Tin = [variant, float32], Tout = [variant, float32], output_shapes = [shape[], shape[2]]}
    : (variant[], float32[2])
  %w = tf.Neg(%if:1)
  %y = tf.TensorListStack(%if, %shape) {element_dtype = float32, num_elements = 3} : float32[3, 2]
}
"""
BRANCHES_AFTER = """
function @then(%l: float32[3, 2], %x: float32[2]) -> (%m, %z) {
  %zero = tf.Const() {value = int32[] 0}
  %one = tf.Const() {value = int32[] 1}
  %"old/axis" = tf.Const() {value = int32[] 0}
  %old = tf.GatherV2(%l, %zero, %"old/axis") {batch_dims = 0}
  %z = tf.Add(%old, %x)
  %"m/index_shape" = tf.Const() {value = int32[2] [1, 1]}
  %"m/index" = tf.Reshape(%one, %"m/index_shape")
  %"m/row_shape" = tf.Const() {value = int32[2] [1, 2]}
  %"m/row" = tf.Reshape(%z, %"m/row_shape")
  %m = tf.TensorScatterUpdate(%l, %"m/index", %"m/row")
}
function @else(%l: float32[3, 2], %x: float32[2]) -> (%l, %x) {
}
graph @main(%c: bool[], %x: float32[2]) -> (%y, %w) {
  %zero = tf.Const() {value = int32[] 0}
  %list = tf.Const() {value = float32[3, 2] splat 0.0}
  %"set/index_shape" = tf.Const() {value = int32[2] [1, 1]}
  %"set/index" = tf.Reshape(%zero, %"set/index_shape")
  %"set/row_shape" = tf.Const() {value = int32[2] [1, 2]}
  %"set/row" = tf.Reshape(%x, %"set/row_shape")
  %set = tf.TensorScatterUpdate(%list, %"set/index", %"set/row")
  %if = tf.StatelessIf(%c, %set, %x) {then_branch = @then, else_branch = @else, Tcond = bool,
    Tin = [float32, float32], Tout = [float32, float32], output_shapes = [shape[3, 2], shape[2]]}
    : (float32[3, 2], float32[2])
  %w = tf.Neg(%if:1)
  %y = tf.Identity(%if)
}
"""
RUNTIMES = ["reference", pytest.param("tensorflow", marks=pytest.mark.tensorflow)]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("taken", [True, False])
def test_lists_go_through_branches(taken: bool, runtime: str) -> None:
    feeds = {"c": np.array(taken), "x": np.array([0.5, -1.0], np.float32)}
    check_pass(NAME, BRANCHES, BRANCHES_AFTER, feeds=feeds, runtime=runtime, allow_flat=True)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_lists_go_through_cases_and_calls(runtime: str) -> None:
    text = BRANCHES.replace("%c: bool[]", "%c: int32[]").replace("tf.StatelessIf", "tf.StatelessCase")
    text = text.replace("then_branch = @then, else_branch = @else, Tcond = bool", "branches = [@then, @else]")
    call = "  %call = tf.PartitionedCall(%shape, %count) {f = @make, Tin = [int32, int32], Tout = [variant]}\n"
    make = """
function @make(%s: int32[1], %n: int32[]) -> (%list) {
  %shape = tf.Const() {value = int32[1] [2]}
  %count = tf.Const() {value = int32[] 3}
  %list = tf.TensorListReserve(%shape, %count) {element_dtype = float32, shape_type = int32}
}
"""
    start, end = text.index("  %list = "), text.index("  %set = ")
    source = parse_model(make + text[:start] + call + text[end:].replace("%list, %zero", "%call, %zero"))
    model = source.clone()
    assert run_pass(model, NAME).rewrites == 1
    assert not lists_left(model)
    for taken in range(2):
        feeds = {"c": np.array(taken, np.int32), "x": np.array([0.5, -1.0], np.float32)}
        assert_equivalent(source, model, feeds, runtime=runtime, allow_flat=True)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("-> (%y, %w)", "-> (%y, %w, %if)", "is an input or output of a graph"),
        ("function @else(%l: variant[], %x: float32[2]) -> (%l, %x) {",
         "function @else(%l: variant[], %x: float32[2]) -> (%other, %x) {\n"
         "  %shape = tf.Const() {value = int32[1] [2]}\n"
         "  %four = tf.Const() {value = int32[] 4}\n"
         "  %other = tf.TensorListReserve(%shape, %four) {element_dtype = float32, shape_type = int32}",
         "list of another size"),
        ("  %z = tf.Add(%old, %x)", "  %z = tf.Add(%old, %x)\n  %b = tf.TensorListPopBack(%l, %shape)",
         "(TensorListPopBack) reads it"),
    ],
)  # fmt: skip
def test_refusals_in_branches(old: str, new: str, reason: str) -> None:
    assert BRANCHES.count(old) == 1
    model = parse_model(BRANCHES.replace(old, new))
    before = lists_left(model)
    report = run_pass(model, NAME)
    assert reason in refusals(report)
    assert report.rewrites == 0
    assert lists_left(model) == before


@pytest.mark.tensorflow
@settings(max_examples=6)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 2))
def test_lists_of_autograph(count: int, width: int, back: int) -> None:
    """A loop that reads what it wrote before, with conditionals that write or do not, as TensorFlow 2 traces it."""
    import tensorflow as tf

    import graphopt

    @tf.function(input_signature=[tf.TensorSpec([width], tf.float32, "x")])
    def run(x: Any) -> Any:
        array = tf.TensorArray(tf.float32, count, element_shape=[width], clear_after_read=False).write(0, x)
        for i in tf.range(1, count):
            if i % 3 == 0:
                array = array.write(i, tf.tanh(array.read(tf.maximum(i - 1 - back, 0))))
            elif i % 2 == 0:
                array = array.write(i, x + array.read(i - 1))
        return array.stack()

    source = graphopt.load(run.get_concrete_function())
    model = source.clone()
    PassManager(f"infer-shapes,raise-control-flow,infer-shapes,fold-constants,{NAME}").run(model)
    assert not lists_left(model)
    feeds = {"x": np.random.default_rng(count).normal(size=width).astype(np.float32)}
    assert_equivalent(source, model, feeds, runtime="tensorflow", exactness="reassociating", allow_flat=True)


def test_large_lists_stay() -> None:
    _, report = check_pass(f"{NAME}{{max-bytes=39}}", STRAIGHT)
    assert "more than 39 bytes" in refusals(report)


@given(st.integers(0, 4), st.integers(1, 3), st.sampled_from(["float32", "int32", "bool"]))
def test_sizes_and_types(index: int, width: int, dtype: str) -> None:
    head = "%z" if dtype == "bool" else "%n"
    text = STRAIGHT.replace("float32", dtype).replace("[2]}", f"[{width}]}}").replace("5, 2]", f"5, {width}]")
    text = text.replace(f"{dtype}[2]", f"{dtype}[{width}]")
    if dtype == "bool":
        text = text.replace("tf.Neg(%get)", "tf.LogicalNot(%get)").replace("tf.Neg(%all)", "tf.LogicalNot(%all)")
    assert head in text
    source = parse_model(text)
    model = source.clone()
    assert run_pass(model, NAME).rewrites == 1
    from graphopt.testing import assert_equivalent

    rows = np.random.default_rng(index).integers(0, 2, width).astype(dtype)
    feeds = {"x": rows, "i": np.array(index, np.int32)}
    assert_equivalent(source, model, feeds, runtime="reference", allow_flat=True)


@given(models())
def test_models_without_lists(model) -> None:
    _, rewrites = check_on(model, NAME)
    assert rewrites == 0


@pytest.mark.tensorflow
def test_in_tensorflow() -> None:
    check_on(parse_model(LOOP), NAME, runtime="tensorflow")


UNSIZED = """
function @cond(%i: int32[], %l: variant[], %r: variant[], %s: float32[?], %n: int32[]) -> (%go) {
  %go = tf.Less(%i, %n)
}
function @body(%i: int32[], %l: variant[], %r: variant[], %s: float32[?], %n: int32[]) -> (%next, %m, %r, %t, %n) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %shape = tf.Const() {value = int32[1] [-1]}
  %row = tf.TensorListGetItem(%r, %i, %shape) {element_dtype = float32}
  %t = tf.AddV2(%s, %row)
  %m = tf.TensorListSetItem(%l, %i, %t) {element_dtype = float32}
}
graph @main(%values: float32[?, ?]) -> (%y) {
  %zero = tf.Const() {value = int32[] 0}
  %start = tf.Const() {value = int32[1] [0]}
  %stop = tf.Const() {value = int32[1] [1]}
  %shape = tf.Const() {value = int32[1] [-1]}
  %dims = tf.Shape(%values)
  %count = tf.StridedSlice(%dims, %start, %stop, %stop) {shrink_axis_mask = 1}
  %sums = tf.Sum(%values, %start)
  %given = tf.TensorListFromTensor(%values, %shape) {element_dtype = float32}
  %made = tf.TensorListReserve(%shape, %count) {element_dtype = float32}
  %loop = tf.While(%zero, %made, %given, %sums, %count) {cond = @cond, body = @body,
    T = [int32, variant, variant, float32, int32]}
  %stack = tf.TensorListStack(%loop:1, %shape) {element_dtype = float32}
  %y = tf.Neg(%stack)
}
"""


@given(st.integers(1, 5), st.integers(1, 4))
def test_sizes_that_are_known_when_the_model_runs(rows: int, columns: int) -> None:
    source = parse_model(UNSIZED)
    model, refused = source.clone(), source.clone()
    for _ in range(3):
        run_pass(model, "infer-shapes")
        run_pass(model, f"{NAME}{{dynamic=true}}")
        run_pass(refused, "infer-shapes")
        assert not run_pass(refused, NAME).rewrites
    assert not any("TensorList" in node.op for graph in model.graphs for node in graph)
    feeds = {"values": np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)}
    assert_equivalent(source, model, feeds, runtime="reference", allow_flat=True)


def test_elements_of_which_nothing_is_known_are_refused() -> None:
    model = parse_model(UNSIZED.replace("%sums = tf.Sum(%values, %start)", "%sums = tf.Unique(%values)"))
    run_pass(model, "infer-shapes")
    report = run_pass(model, f"{NAME}{{dynamic=true}}")
    assert "its number of elements or their shape is not known" in refusals(report)


@given(st.integers(1, 4), st.integers(1, 4))
def test_the_one_element_of_a_list_may_have_any_size(rows: int, columns: int) -> None:
    """The last state of a recurrent layer, whose batch is that of two inputs which need not have the same."""
    text = UNSIZED.replace("(%l, %i, %t)", "(%l, %place, %t)").replace("(%shape, %count)", "(%shape, %single)")
    text = text.replace("  %t = tf.AddV2", "  %place = tf.Const() {value = int32[] 0}\n  %t = tf.AddV2")
    text = text.replace(
        "%sums = tf.Sum(%values, %start)", "%sums = tf.Neg(%state)\n%single = tf.Const() {value = int32[] 1}"
    )
    source = parse_model(text.replace("(%values: float32[?, ?])", "(%values: float32[?, ?], %state: float32[?])"))
    model = source.clone()
    for _ in range(3):
        run_pass(model, "infer-shapes")
        run_pass(model, f"{NAME}{{dynamic=true}}")
    assert not any("TensorList" in node.op for graph in model.graphs for node in graph)
    values = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    feeds = {"values": values, "state": np.ones(columns, np.float32)}
    assert_equivalent(source, model, feeds, runtime="reference", allow_flat=True)


GROWING = """
function @cond(%i: int32[], %l: variant[], %s: float32[2], %n: int32[]) -> (%go) {
  %go = tf.Less(%i, %n)
}
function @body(%i: int32[], %l: variant[], %s: float32[2], %n: int32[]) -> (%next, %m, %t, %n) {
  %one = tf.Const() {value = int32[] 1}
  %next = tf.AddV2(%i, %one)
  %t = tf.Tanh(%s)
  %m = tf.TensorListPushBack(%l, %t) {element_dtype = float32}
}
graph @main(%x: float32[2], %n: int32[]) -> (%y, %size, %first) {
  %zero = tf.Const() {value = int32[] 0}
  %shape = tf.Const() {value = int32[1] [2]}
  %list = tf.EmptyTensorList(%shape, %zero) {element_dtype = float32}
  %start = tf.Const() {value = int32[] 0}
  %loop = tf.While(%start, %list, %x, %n) {cond = @cond, body = @body, T = [int32, variant, float32, int32]}
  %stack = tf.TensorListStack(%loop:1, %shape) {element_dtype = float32}
  %length = tf.TensorListLength(%loop:1)
  %get = tf.TensorListGetItem(%loop:1, %zero, %shape) {element_dtype = float32}
  %first = tf.Neg(%get)
  %y = tf.Neg(%stack)
  %size = tf.Neg(%length)
}
"""
APPENDING = GROWING.replace(
    "%m = tf.TensorListPushBack(%l, %t) {element_dtype = float32}",
    "%m = tf.TensorListSetItem(%l, %i, %t) {element_dtype = float32, resize_if_index_out_of_bounds = true}",
).replace("tf.EmptyTensorList(%shape, %zero)", "tf.TensorListReserve(%shape, %zero)")
BEHIND = APPENDING.replace(
    "%start = tf.Const() {value = int32[] 0}", "%start = tf.Const() {value = int32[] 2}"
).replace("%zero) {element_dtype = float32}\n  %start", "%two) {element_dtype = float32}\n  %start")
BEHIND = BEHIND.replace("  %shape =", "  %two = tf.Const() {value = int32[] 2}\n  %shape =", 1)


@pytest.mark.parametrize("text", [GROWING, APPENDING, BEHIND])
@pytest.mark.parametrize("count", [3, 4])
def test_lists_that_grow(text: str, count: int) -> None:
    source = parse_model(text)
    model = source.clone()
    run_pass(model, "infer-shapes")
    assert run_pass(model.clone(), NAME).rewrites == 0
    assert run_pass(model, f"{NAME}{{dynamic=true}}").rewrites == 1
    assert not any("TensorList" in node.op for graph in model.graphs for node in graph)
    feeds = {"x": np.array([0.5, -1.0], np.float32), "n": np.array(count, np.int32)}
    assert_equivalent(source, model, feeds, runtime="reference", allow_flat=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("%start = tf.Const() {value = int32[] 0}", "%start = tf.Const() {value = int32[] 1}"),  # leaves a gap
        ("%next = tf.AddV2(%i, %one)", "%next = tf.AddV2(%i, %n)"),
    ],
)
def test_lists_that_may_grow_by_more_are_refused(old: str, new: str) -> None:
    model = parse_model(APPENDING.replace(old, new))
    run_pass(model, "infer-shapes")
    assert "may make it longer" in refusals(run_pass(model, f"{NAME}{{dynamic=true}}"))


def test_litert_runs_lists_that_grow() -> None:
    from graphopt.testing.lowering import assert_lowers

    model = parse_model(GROWING)
    run_pass(model, "infer-shapes")
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    data = {"x": np.full((2, 2), 0.5, np.float32), "n": np.array([2, 5], np.int32)}
    lowered = assert_lowers(model, reference="reference", data=data)
    assert "tfl.CONCATENATION" in {node.op for inner in lowered.model.graphs for node in inner}
