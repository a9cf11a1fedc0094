"""fold-constants: what is computed once, within which limits, and what never is."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from graphopt.ir.infer import infer_model
from graphopt.ir.model import Model
from graphopt.ir.tensors import RepeatedTensor
from graphopt.ir.text import parse_model, print_model
from graphopt.ir.verifier import verify
from graphopt.passes import Exactness, run_pass
from graphopt.passes.fold.fold_constants import is_uniform
from graphopt.passes.report import PassReport
from graphopt.testing import assert_equivalent, check_pass

NAME = "fold-constants"
PAIR = """
  %a = tf.Const() {value = float32[2] [1.0, 2.0]}
  %b = tf.Const() {value = float32[2] [3.0, 4.0]}
"""


def graph(body: str, outputs: str = "%y", inputs: str = "%x: float32[2]") -> str:
    model = parse_model(f"graph @main({inputs}) -> ({outputs}) {{\n{body}\n}}")
    infer_model(model)
    return print_model(model, elide=None)


def const(name: str, value: str) -> str:
    return f"%{name} = tf.Const() {{value = {value}}}\n"


def fold(body: str, outputs: str = "%y", inputs: str = "%x: float32[2]", options: str = "") -> tuple[Model, PassReport]:
    model = parse_model(f"graph @main({inputs}) -> ({outputs}) {{\n{body}\n}}")
    report = run_pass(model, NAME + options)
    verify(model)
    return model, report


def reasons(report: PassReport) -> list[str]:
    return [entry["reason"] for entry in report.refusals]


# What is folded -----------------------------------------------------------------------------------------------


def test_what_never_changes_becomes_a_constant_of_the_same_name() -> None:
    before = f"{PAIR}%sum = tf.AddV2(%a, %b)\n%twice = tf.Mul(%sum, %a)\n%y = tf.Mul(%x, %twice)"
    after = const("twice", "float32[2] [4.0, 12.0]") + "%y = tf.Mul(%x, %twice)"
    model, report = check_pass(NAME, graph(before), graph(after))
    assert report.rules == {NAME: 2}
    assert model.graph.node("twice").origins == ("twice",)


def test_waits_devices_and_readers_stay() -> None:
    text = (
        f'{PAIR}%gate = tf.NoOp()\n%sum = tf.AddV2(%a, %b) after(%gate) device("/cpu:0")\n%late = tf.NoOp() after(%sum)'
    )
    model, _ = fold(text + "\n%y = tf.Mul(%x, %sum) after(%late)")
    node = model.graph.node("sum")
    assert (node.op, node.device) == ("tf.Const", "/cpu:0")
    assert [control.name for control in node.control_inputs] == ["gate"]
    assert [user.name for user in node.control_users] == ["late"]


def test_outputs_keep_their_names() -> None:
    check_pass(NAME, graph(f"{PAIR}%y = tf.Sub(%a, %b)"), graph(const("y", "float32[2] splat -2.0")), allow_flat=True)


def test_nodes_of_several_outputs() -> None:
    head = "%axis = tf.Const() {value = int32[] 0}\n%c = tf.Const() {value = float32[2] [5.0, 7.0]}\n"
    before = head + "%s = tf.Split(%axis, %c) {num_split = 2}\n%m = tf.Mul(%x, %s:1)\n%y = tf.AddV2(%m, %s)"
    after = const("s/0", "float32[1] [5.0]") + const("s/1", "float32[1] [7.0]")
    after += "%m = tf.Mul(%x, %s/1)\n%y = tf.AddV2(%m, %s/0)"
    check_pass(NAME, graph(before), graph(after))
    model, first = fold(head + "%s = tf.Split(%axis, %c) {num_split = 2}\n%y = tf.Mul(%x, %s:1)", "%y, %s:1")
    assert first.rules == {NAME: 1}
    assert [value.name for value in model.graph.outputs] == ["y", "s:1"]
    assert run_pass(model, NAME).rules == {}


def test_the_first_of_several_outputs_keeps_its_name() -> None:
    head = "%axis = tf.Const() {value = int32[] 0}\n%c = tf.Const() {value = float32[2] [5.0, 7.0]}\n"
    before = head + "%s = tf.Split(%axis, %c) {num_split = 2}\n%y = tf.Mul(%x, %s:1)"
    after = const("s", "float32[1] [5.0]") + const("s/1", "float32[1] [7.0]") + "%y = tf.Mul(%x, %s/1)"
    check_pass(NAME, graph(before, "%y, %s"), graph(after, "%y, %s"), allow_flat=True)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("tf.RealDiv(%zero, %zero)", [np.nan]),
        ("tf.RealDiv(%one, %zero)", [np.inf]),
        ("tf.Log(%minus)", [np.nan]),
        ("tf.Mul(%nan, %zero)", [np.nan]),
        ("tf.Maximum(%nan, %one)", [np.nan]),
        ("tf.Neg(%zero)", [-0.0]),
        ("tf.Exp(%big)", [np.inf]),
    ],
)
def test_nan_inf_and_the_sign_of_zero(expression: str, expected: list[float]) -> None:
    values = {"zero": "0.0", "one": "1.0", "minus": "-1.0", "nan": "nan", "big": "1000.0"}
    body = "".join(const(name, f"float32[1] [{value}]") for name, value in values.items())
    model, _ = fold(f"{body}%y = {expression}")
    array = model.graph.node("y").attrs["value"].numpy()
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(np.signbit(array) | np.isnan(array), np.signbit(expected) | np.isnan(expected))


def test_what_tensorflow_refuses_to_compute_is_left_for_it() -> None:
    model, report = fold(const("a", "int32[] 1") + const("b", "int32[] 0") + "%y = tf.FloorDiv(%a, %b)")
    assert model.graph.node("y").op == "tf.FloorDiv"
    assert reasons(report)[0].startswith("it cannot be computed: ")


def test_identities_of_constants_are_looked_through() -> None:
    before = f"{PAIR}%i = tf.Identity(%a)\n%sum = tf.AddV2(%i, %b)\n%y = tf.Mul(%x, %sum)"
    check_pass(NAME, graph(before), graph(const("sum", "float32[2] [4.0, 6.0]") + "%y = tf.Mul(%x, %sum)"))


def test_strings() -> None:
    before = const("a", 'string[2] [b"ab", b"c"]') + const("b", 'string[] b"-"') + "%y = tf.StringJoin(%a, %b)"
    check_pass(NAME, graph(before), graph(const("y", 'string[2] [b"ab-", b"c-"]')), allow_flat=True)


# Shapes -------------------------------------------------------------------------------------------------------

FLATTEN = """
  %shape = tf.Shape(%x)
  {bounds}
  %batch = tf.StridedSlice(%shape, %begin, %end, %step) {{shrink_axis_mask = 1}}
  %rest = tf.Const() {{value = int32[] 6}}
  %target = tf.Pack(%batch, %rest)
  %y = tf.Reshape(%x, %target)
"""
BOUNDS = const("begin", "int32[1] [0]") + const("end", "int32[1] [1]") + const("step", "int32[1] [1]")


def test_known_shapes_are_constants() -> None:
    before = FLATTEN.format(bounds=BOUNDS)
    after = const("target", "int32[2] [4, 6]") + "%y = tf.Reshape(%x, %target)"
    check_pass(NAME, graph(before, inputs="%x: float32[4, 2, 3]"), graph(after, inputs="%x: float32[4, 2, 3]"))
    text = graph(before, inputs="%x: float32[4, 2, 3]")
    assert check_pass("fold-constants{shapes=false}", text)[1].rules == {}


def test_of_a_symbolic_batch_the_known_part_is() -> None:
    inputs = "%x: float32[batch, 2, 3]"
    check_pass(NAME, graph(FLATTEN.format(bounds=BOUNDS), inputs=inputs))
    second = const("begin", "int32[1] [1]") + const("end", "int32[1] [2]") + const("step", "int32[1] [1]")
    after = const("target", "int32[2] [2, 6]") + "%y = tf.Reshape(%x, %target)"
    before = graph(FLATTEN.format(bounds=second), inputs=inputs)
    _, report = check_pass(NAME, before, graph(after, inputs=inputs), runtime=None)
    assert report.rules == {NAME: 2}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("tf.Rank(%x)", 3),
        ("tf.Size(%k)", 10),
        ("tf.Shape(%k)", [2, 5]),
        ("tf.ZerosLike(%k)", [[0.0] * 5] * 2),
        ("tf.OnesLike(%k)", [[1.0] * 5] * 2),
    ],
)
def test_what_depends_on_shapes_alone(expression: str, value: object) -> None:
    text = graph(f"%y = {expression}", inputs="%x: float32[batch, 2, 3], %k: float32[2, 5]")
    model = parse_model(text)
    assert run_pass(model, NAME).rules == {NAME: 1}
    assert model.graph.node("y").attrs["value"].numpy().tolist() == value
    assert run_pass(parse_model(text), "fold-constants{shapes=false}").rules == {}


# Compact results ----------------------------------------------------------------------------------------------


def test_one_value_for_all_elements_is_stored_once() -> None:
    dims, one = const("d", "int32[2] [100, 100]"), const("v", "float32[] 1.5")
    model, _ = fold(dims + one + "%f = tf.Fill(%d, %v)\n%n = tf.Neg(%f)\n%y = tf.Mul(%n, %x)", inputs="%x: float32[]")
    held = model.graph.node("n").attrs["value"]
    assert isinstance(held, RepeatedTensor)
    assert (held.splat(), held.shape, held.stored_bytes) == (-1.5, (100, 100), 4)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.ones((3, 4), np.float32), True),
        (np.broadcast_to(np.float32(2), (5, 5)), True),
        (np.ones((3, 4)).T, True),
        (np.array([np.nan, np.nan]), True),
        (np.array([0.0, -0.0]), False),
        (np.array([1, 2, 1]), False),
        (np.ones(1), False),
        (np.ones(0), False),
        (np.float32(1).reshape(()), False),
        (np.array([True, True]), True),
    ],
)
def test_what_is_uniform(array: np.ndarray, expected: bool) -> None:  # type: ignore[type-arg]
    assert is_uniform(array) == expected


# Limits -------------------------------------------------------------------------------------------------------

# Each of these few bytes would make terabytes, or many gigabytes.
BOMBS = {
    "neg": const("c", "float32[1099511627776] splat 1.0") + "%y = tf.Neg(%c)",
    "text": const("c", 'string[1099511627776] splat b"abc"') + "%y = tf.StringUpper(%c)",
    "reshape": const("c", "float32[1099511627776] splat 1.0") + const("s", "int64[1] [-1]") + "%y = tf.Reshape(%c, %s)",
    "range": const("a", "int64[] 0")
    + const("b", "int64[] 100000000000")
    + const("s", "int64[] 1")
    + "%y = tf.Range(%a, %b, %s)",
    "pad": const("a", "float32[1] [2.0]") + const("b", "int64[1, 2] [0, 100000000000]") + "%y = tf.Pad(%a, %b)",
    "fill": const("d", "int32[2] [1000000, 100000]")
    + const("v", "float32[] 1.0")
    + "%f = tf.Fill(%d, %v)\n%y = tf.Neg(%f)",
    "diagonal": const("a", "float32[200000] splat 2.0") + "%y = tf.MatrixDiag(%a)",
    "product": const("a", "float32[200000, 1] splat 2.0")
    + const("b", "float32[1, 200000] splat 2.0")
    + "%y = tf.Mul(%a, %b)",
    "matrix product": const("a", "float32[200000, 1] splat 2.0")
    + const("b", "float32[1, 200000] splat 2.0")
    + "%y = tf.MatMul(%a, %b)",
    "scatter": const("i", "int64[1, 1] [5]")
    + const("u", "float32[1] [2.0]")
    + const("s", "int64[1] [100000000000]")
    + "%y = tf.ScatterNd(%i, %u, %s)",
    "segments": const("d", "float32[1] [5.0]") + const("i", "int64[1] [100000000000]") + "%y = tf.SegmentSum(%d, %i)",
    "image": const("i", "float32[1, 1, 1, 1] [5.0]")
    + const("s", "int32[2] [1000000, 1000000]")
    + "%y = tf.ResizeBilinear(%i, %s)",
}


@pytest.mark.parametrize("inferred", [False, True])
@pytest.mark.parametrize("bomb", BOMBS)
def test_small_graphs_of_huge_results_are_refused_at_once(bomb: str, inferred: bool) -> None:
    model = parse_model(graph(BOMBS[bomb]) if inferred else f"graph @main() -> (%y) {{\n{BOMBS[bomb]}\n}}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = run_pass(model, NAME)
    assert model.graph.node("y").op != "tf.Const"
    assert reasons(report)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_results_larger_than_their_operands() -> None:
    body = const("a", "float32[1, 200] splat 2.0").replace("splat 2.0", f"[{', '.join(map(str, range(200)))}]")
    body += const("reps", "int32[2] [{}, 1]") + "%t = tf.Tile(%a, %reps)\n%y = tf.Mul(%t, %x)"
    small, large = body.replace("{}", "50"), body.replace("{}", "500")
    inputs = "%x: float32[]"
    assert fold(small, inputs=inputs)[0].graph.node("t").op == "tf.Const"
    model, report = fold(large, inputs=inputs)
    assert model.graph.node("t").op == "tf.Tile"
    assert reasons(report) == ["its result takes 400000 bytes, its operands 808"]
    assert fold(large, inputs=inputs, options="{grow}")[0].graph.node("t").op == "tf.Const"
    _, report = fold(large, inputs=inputs, options="{grow,max-bytes=399999}")
    assert reasons(report) == ["its result takes 400000 bytes, more than the limit of 399999"]


def test_bounds_on_results_that_are_no_larger() -> None:
    body = f"{PAIR}%sum = tf.AddV2(%a, %b)\n%y = tf.Mul(%x, %sum)"
    assert fold(body, options="{max-bytes=7}")[1].rules == {NAME: 1}
    _, report = fold(body, options="{max-bytes=7,bound-all}")
    assert reasons(report) == ["its result takes 8 bytes, more than the limit of 7"]
    assert fold(body, options="{max-bytes=8,bound-all}")[1].rules == {NAME: 1}


def test_all_results_together_grow_within_a_budget() -> None:
    lines = [const("a", "float32[1, 4] [1.0, 2.0, 3.0, 4.0]"), const("reps", "int32[2] [4096, 1]")]
    for place in range(300):
        lines.append(f"%t{place} = tf.Tile(%a, %reps)\n%y{place} = tf.Mul(%t{place}, %x)\n")
    _, report = fold("".join(lines), ", ".join(f"%y{place}" for place in range(300)), "%x: float32[]")
    assert 250 <= report.rules[NAME] < 300
    assert reasons(report) == ["the model would grow too much"]


def test_exclusions() -> None:
    body = f"{PAIR}%sum = tf.AddV2(%a, %b)\n%product = tf.Mul(%a, %b)\n%q = tf.Sub(%sum, %product)\n%y = tf.Mul(%x, %q)"
    for options, kept in (("exclude-operators=[AddV2]", ["sum"]), ("exclude-nodes=[sum,product]", ["sum", "product"])):
        model, report = fold(body, options=f"{{{options}}}")
        assert [node.name for node in model.graph if node.op in ("tf.AddV2", "tf.Mul")] == [*kept, "y"]
        assert [(entry["reason"], entry["nodes"]) for entry in report.refusals] == [("it is excluded", kept)]


# Never --------------------------------------------------------------------------------------------------------

NEVER = {
    "random": const("s", "int32[1] [2]") + "%c = tf.RandomUniform(%s) {dtype = float32, seed = 1}",
    "stateless random": const("s", "int32[1] [2]") + const("k", "int32[2] [1, 2]")
    + "%c = tf.StatelessRandomUniform(%s, %k)",
    "state": "%v = tf.VarHandleOp() {dtype = float32, shape = shape[2]}\n%c = tf.ReadVariableOp(%v) {dtype = float32}",
    "call": PAIR + "%c = tf.PartitionedCall(%a) {Tin = [float32], Tout = [float32], f = @f}",
    "stranger": PAIR + "%c = tf.NobodyKnowsThis(%a) : float32[2]",
    "print": PAIR + "%c = tf.Print(%a, %b) {U = [float32]}",
    "dequantize": const("q", "quint8[2] [1, 255]") + const("lo", "float32[] -1.0") + const("hi", "float32[] 1.0")
    + '%c = tf.Dequantize(%q, %lo, %hi) {mode = b"MIN_COMBINED"}',
    "sparse": const("i", "int64[1, 1] [1]") + const("s", "int64[1] [2]") + const("v", "float32[1] [3.0]")
    + const("d", "float32[] 0.0") + "%c = tf.SparseToDense(%i, %s, %v, %d)",
}  # fmt: skip


@pytest.mark.parametrize("kind", NEVER)
def test_never(kind: str) -> None:
    text = f"graph @main(%x: float32[2]) -> (%y) {{\n{NEVER[kind]}\n%y = tf.Mul(%x, %c)\n}}"
    if kind == "call":
        text += "\nfunction @f(a = %a: float32[2]) -> (r = %r) { %r = tf.Neg(%a) }"
    model = parse_model(text)
    infer_model(model)
    assert check_pass(NAME, print_model(model), runtime=None)[1].rules == {}


@pytest.mark.parametrize(("narrow", "count"), [("float16", 100), ("bfloat16", 65), ("int8", 1000)])
def test_casts_of_many_elements_to_a_wider_type_are_refused(narrow: str, count: int) -> None:
    numbers = ", ".join(str(place % 100) + (".0" if "float" in narrow else "") for place in range(count))
    body = const("c", f"{narrow}[{count}] [{numbers}]") + "%w = tf.Cast(%c) {DstT = float32}\n%y = tf.Mul(%x, %w)"
    text = graph(body, inputs=f"%x: float32[{count}]")
    _, report = check_pass(NAME, text)
    assert reasons(report) == ["it would un-compress its operand"]
    few = const("c", f"{narrow}[2] [1.0, 2.0]" if "float" in narrow else f"{narrow}[2] [1, 2]")
    assert fold(few + "%w = tf.Cast(%c) {DstT = float32}\n%y = tf.Mul(%x, %w)")[1].rules == {NAME: 1}


def test_what_may_differ_in_the_last_bits_only_where_allowed() -> None:
    body = f"{PAIR}%e = tf.Exp(%a)\n%s = tf.Sqrt(%b)\n%m = tf.Mul(%x, %e)\n%y = tf.Mul(%m, %s)"
    model = parse_model(f"graph @main(%x: float32[2]) -> (%y) {{\n{body}\n}}")
    report = run_pass(model, NAME, exactness=Exactness.EXACT)
    assert (model.graph.node("e").op, model.graph.node("s").op) == ("tf.Exp", "tf.Const")
    assert reasons(report) == ["it is reassociating, beyond what was allowed"]


def test_what_is_fed_is_not_constant() -> None:
    text = f"graph @main(%a, %x: float32[2]) -> (%y) {{ {PAIR} %c = tf.AddV2(%a, %b)\n%y = tf.Mul(%x, %c) }}"
    check_pass(NAME, text)


# Functions and v1 control flow --------------------------------------------------------------------------------


def test_inside_function_bodies_and_loops() -> None:
    text = """
    graph @main(%x: float32[2]) -> (%y) {{
      %i = tf.Const() {{value = int32[] 0}}
      %w = tf.StatelessWhile(%i, %x) {{T = [int32, float32], cond = @cond, body = @body}}
      %y = tf.Neg(%w:1)
    }}
    function @cond(i = %i: int32[], v = %v: float32[2]) -> (r = %r) {{
      {limit}
      %r = tf.Less(%i, %limit)
    }}
    function @body(i = %i: int32[], v = %v: float32[2]) -> (n = %n, m = %m) {{
      %one = tf.Const() {{value = int32[] 1}}
      %n = tf.AddV2(%i, %one)
      {factor}
      %m = tf.Mul(%v, %factor)
    }}
    """
    limit = const("a", "int32[] 1") + const("b", "int32[] 2") + "%limit = tf.AddV2(%a, %b)"
    factor = PAIR + "%factor = tf.RealDiv(%a, %b)"
    before = text.format(limit=limit, factor=factor)
    folded = "float32[2] [0.33333334, 0.5]"
    after = text.format(limit=const("limit", "int32[] 3"), factor=const("factor", folded))
    _, report = check_pass(NAME, before, after)
    assert report.rules == {NAME: 2}


V1 = """
  %switch = tf.Switch(%x, %p)
  %anchor = tf.Identity(%switch:1)
  %a = tf.Const() {value = float32[2] [1.0, 2.0]} after(%anchor)
  %b = tf.Const() {value = float32[2] [3.0, 4.0]} after(%anchor)
  %sum = tf.AddV2(%a, %b)
  %shape = tf.Shape(%anchor)
  %cast = tf.Cast(%shape) {DstT = float32}
  %scaled = tf.Mul(%anchor, %sum)
  %more = tf.Mul(%scaled, %cast)
  %other = tf.Shape(%switch)
  %wide = tf.Cast(%other) {DstT = float32}
  %low = tf.Mul(%switch, %wide)
  %y = tf.Merge(%low, %more) {N = 2}
"""


def test_constants_in_a_v1_branch_stay_in_it() -> None:
    text = graph(V1, inputs="%x: float32[2], %p: bool[]")
    before = parse_model(text)
    model = before.clone()
    report = run_pass(model, NAME)
    verify(model)
    for name in ("sum", "cast"):
        node = model.graph.node(name)
        assert (node.op, [control.name for control in node.control_inputs]) == ("tf.Const", ["anchor"])
    assert model.graph.node("other").op == "tf.Shape"
    assert reasons(report) == ["a constant in its place would leave its v1 branch"]
    assert_equivalent(before, model, runtime="reference", exactness="reassociating")


def test_constants_in_a_v1_loop_stay_in_its_frame() -> None:
    body = """
      %enter = tf.Enter(%x) {frame_name = "loop"}
      %merge = tf.Merge(%enter, %next) {N = 2}
      %a = tf.Const() {value = float32[] 4.0} after(%merge)
      %b = tf.Const() {value = float32[] 5.0} after(%merge)
      %limit = tf.AddV2(%a, %b)
      %less = tf.Less(%merge, %limit)
      %cond = tf.LoopCond(%less)
      %switch = tf.Switch(%merge, %cond)
      %one = tf.Const() {value = float32[] 1.0} after(%limit)
      %add = tf.AddV2(%switch:1, %one)
      %next = tf.NextIteration(%add)
      %y = tf.Exit(%switch)
    """
    text = graph(body, inputs="%x: float32[]")
    before = parse_model(text)
    model = before.clone()
    assert run_pass(model, NAME).rules == {NAME: 1}
    assert [control.name for control in model.graph.node("limit").control_inputs] == ["merge"]
    assert_equivalent(before, model, runtime="reference")
