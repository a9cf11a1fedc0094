"""simplify: every rule where it applies, and where it must not."""

from __future__ import annotations

from itertools import product

import pytest

from graphopt.ir.infer import infer_model
from graphopt.ir.text import parse_model, print_model
from graphopt.passes import Exactness, run_pass
from graphopt.passes.cleanup.simplify import Simplify
from graphopt.testing import assert_equivalent, check_pass

CONSTANTS = """
  %one = tf.Const() {value = float32[] 1.0}
  %ones = tf.Const() {value = float32[1, 3] splat 1.0}
  %wide = tf.Const() {value = float32[5, 2, 3] splat 1.0}
  %zero = tf.Const() {value = float32[] 0.0}
  %minus = tf.Const() {value = float32[] -0.0}
  %wide_zero = tf.Const() {value = float32[5, 2, 3] splat 0.0}
  %wide_int = tf.Const() {value = int32[5, 2, 3] splat 0}
  %two = tf.Const() {value = float32[3] [2.0, 4.0, -8.0]}
  %three = tf.Const() {value = float32[3] [3.0, 0.5, 1.0]}
  %huge = tf.Const() {value = float32[] 1e+30}
  %tiny = tf.Const() {value = float32[] 1e-30}
  %none = tf.Const() {value = float32[] inf}
  %true = tf.Const() {value = bool[] true}
  %false = tf.Const() {value = bool[3] splat false}
  %int1 = tf.Const() {value = int32[] 1}
  %int0 = tf.Const() {value = int32[] 0}
  %int3 = tf.Const() {value = int32[] 3}
  %exponent2 = tf.Const() {value = float32[] 2.0}
  %half = tf.Const() {value = float32[] 0.5}
  %minus_half = tf.Const() {value = float32[] -0.5}
  %wide2 = tf.Const() {value = float32[5, 2, 3] splat 2.0}
  %wide_half = tf.Const() {value = float32[5, 2, 3] splat 0.5}
  %p = tf.Const() {value = int32[2] [1, 0]}
  %p0 = tf.Const() {value = int32[2] [0, 1]}
  %p3 = tf.Const() {value = int32[3] [1, 2, 0]}
  %p3b = tf.Const() {value = int32[3] [0, 2, 1]}
  %s23 = tf.Const() {value = int32[2] [2, 3]}
  %s6 = tf.Const() {value = int32[1] [6]}
  %s32 = tf.Const() {value = int32[2] [3, 2]}
  %begin0 = tf.Const() {value = int32[2] [0, 0]}
  %begin1 = tf.Const() {value = int32[2] [1, 0]}
  %all = tf.Const() {value = int32[2] [-1, -1]}
  %ends = tf.Const() {value = int32[2] [2, 3]}
  %steps = tf.Const() {value = int32[2] [1, 1]}
  %back = tf.Const() {value = int32[2] [-1, 1]}
  %nopads = tf.Const() {value = int32[2, 2] splat 0}
  %pads = tf.Const() {value = int32[2, 2] [1, 0, 0, 0]}
"""
INPUTS = "%x: float32[2, 3], %i: int32[2, 3], %b: bool[2, 3], %n: float32[?, 3], %u: float32[*], %v: float32[2, 3]"


def text(body: str) -> str:
    """The graph with only those constants that `body` needs, and all types inferred."""
    used, lines = {"%y"}, body.strip().splitlines()
    for line in lines:
        used |= set(line.replace(",", " ").replace("(", " ").replace(")", " ").replace(":1", "").split())
    needed = [line for line in CONSTANTS.strip().splitlines() if line.split()[0] in used]
    model = parse_model(f"graph @main({INPUTS}) -> (%y) {{\n" + "\n".join([*needed, *lines]) + "\n}")
    infer_model(model)
    return print_model(model, elide=None)


def constant(name: str, value: str) -> str:
    return f"%{name} = tf.Const() {{value = {value}}}\n"


def neg(expression: str) -> str:
    return f"%a = {expression}\n%y = tf.Neg(%a)"


X, N, B = "%y = tf.Neg(%x)", "%y = tf.Neg(%i)", "%y = tf.LogicalNot(%b)"
APPLIES: dict[str, list[tuple[str, str]]] = {
    "multiply-by-one": [
        (neg("tf.Mul(%x, %one)"), X),
        (neg("tf.Mul(%ones, %x)"), X),
        (neg("tf.Mul(%i, %int1)"), N),
        (neg("tf.Mul(%u, %one)"), "%y = tf.Neg(%u)"),
        (neg("tf.Mul(%n, %ones)"), "%y = tf.Neg(%n)"),
    ],
    "divide-by-one": [
        (neg("tf.RealDiv(%x, %one)"), X),
        (neg("tf.Div(%i, %int1)"), N),
        (neg("tf.DivNoNan(%x, %one)"), X),
        (neg("tf.Pow(%x, %one)"), X),
    ],
    "subtract-zero": [(neg("tf.Sub(%x, %zero)"), X), (neg("tf.Sub(%i, %int0)"), N)],
    "add-negative-zero": [
        (neg("tf.AddV2(%x, %minus)"), X),
        (neg("tf.Add(%minus, %x)"), X),
        (neg("tf.AddV2(%i, %int0)"), N),
    ],
    "add-zero": [(neg("tf.AddV2(%x, %zero)"), X), (neg("tf.Add(%zero, %x)"), X)],
    "logical-neutral": [
        ("%a = tf.LogicalAnd(%b, %true)\n%y = tf.LogicalNot(%a)", B),
        ("%a = tf.LogicalOr(%false, %b)\n%y = tf.LogicalNot(%a)", B),
    ],
    "logical-with-itself": [
        ("%a = tf.LogicalAnd(%b, %b)\n%y = tf.LogicalNot(%a)", B),
        ("%a = tf.LogicalOr(%b, %b)\n%y = tf.LogicalNot(%a)", B),
    ],
    "undo-twice": [
        ("%a = tf.Neg(%x)\n%c = tf.Neg(%a)\n%y = tf.Abs(%c)", "%y = tf.Abs(%x)"),
        (
            "%a = tf.LogicalNot(%b)\n%c = tf.LogicalNot(%a)\n%y = tf.Cast(%c) {DstT = float32}",
            "%y = tf.Cast(%b) {DstT = float32}",
        ),
        ("%a = tf.Invert(%i)\n%c = tf.Invert(%a)\n%y = tf.Abs(%c)", "%y = tf.Abs(%i)"),
    ],
    "repeat-once": [
        ("%a = tf.Relu(%x)\n%c = tf.Relu(%a)\n%y = tf.Neg(%c)", "%a = tf.Relu(%x)\n%y = tf.Neg(%a)"),
        ("%a = tf.Abs(%x)\n%c = tf.Abs(%a)\n%y = tf.Neg(%c)", "%a = tf.Abs(%x)\n%y = tf.Neg(%a)"),
        ("%a = tf.Floor(%x)\n%c = tf.Floor(%a)\n%y = tf.Neg(%c)", "%a = tf.Floor(%x)\n%y = tf.Neg(%a)"),
    ],
    "clamp-once": [
        ("%a = tf.Relu(%x)\n%y = tf.Relu6(%a)", "%y = tf.Relu6(%x)"),
        ("%a = tf.Relu6(%x)\n%y = tf.Relu(%a)", "%y = tf.Relu6(%x)"),
    ],
    "add-negated": [
        ("%a = tf.Neg(%v)\n%y = tf.AddV2(%x, %a)", "%y = tf.Sub(%x, %v)"),
        ("%a = tf.Neg(%v)\n%y = tf.Add(%a, %x)", "%y = tf.Sub(%x, %v)"),
    ],
    "subtract-negated": [("%a = tf.Neg(%v)\n%y = tf.Sub(%x, %a)", "%y = tf.AddV2(%x, %v)")],
    "multiply-negated": [
        (
            "%a = tf.Neg(%x)\n%y = tf.Mul(%a, %two)",
            constant("y/negated", "float32[3] [-2.0, -4.0, 8.0]") + "%y = tf.Mul(%x, %y/negated)",
        )
    ],
    "subtract-constant": [
        (
            "%y = tf.Sub(%x, %two)",
            constant("y/negated", "float32[3] [-2.0, -4.0, 8.0]") + "%y = tf.AddV2(%x, %y/negated)",
        ),
    ],
    "divide-by-constant": [
        (
            "%y = tf.RealDiv(%x, %two)",
            constant("y/inverse", "float32[3] [0.5, 0.25, -0.125]") + "%y = tf.Mul(%x, %y/inverse)",
        ),
    ],
    "multiply-constants": [
        (
            f"%a = {one}\n%y = {two}",
            constant("y/combined", "float32[3] [6.0, 2.0, -8.0]") + "%y = tf.Mul(%x, %y/combined)",
        )
        for one, two in product(("tf.Mul(%x, %two)", "tf.Mul(%two, %x)"), ("tf.Mul(%a, %three)", "tf.Mul(%three, %a)"))
    ],
    "add-constants": [
        (
            "%a = tf.Add(%two, %x)\n%y = tf.AddV2(%a, %three)",
            constant("y/combined", "float32[3] [5.0, 4.5, -7.0]") + "%y = tf.AddV2(%x, %y/combined)",
        ),
        (
            "%a = tf.AddV2(%i, %int3)\n%y = tf.AddV2(%a, %int1)",
            constant("y/combined", "int32[] 4") + "%y = tf.AddV2(%i, %y/combined)",
        ),
    ],
    "square-by-power": [
        ("%y = tf.Pow(%x, %exponent2)", "%y = tf.Square(%x)"),
        ("%e = tf.Const() {value = int32[] 2}\n%y = tf.Pow(%i, %e)", "%y = tf.Square(%i)"),
    ],
    "root-by-power": [
        ("%a = tf.Abs(%x)\n%y = tf.Pow(%a, %half)", "%a = tf.Abs(%x)\n%y = tf.Sqrt(%a)"),
        (
            "%a = tf.Square(%x)\n%m = tf.Mean(%a, %int1)\n%s = tf.AddV2(%m, %one)\n%y = tf.Pow(%s, %minus_half)",
            "%a = tf.Square(%x)\n%m = tf.Mean(%a, %int1)\n%s = tf.AddV2(%m, %one)\n%y = tf.Rsqrt(%s)",
        ),
    ],
    "transpose-into-product": [
        ("%a = tf.Transpose(%v, %p)\n%y = tf.MatMul(%x, %a)", "%y = tf.MatMul(%x, %v) {transpose_b = true}"),
        (
            "%a = tf.Transpose(%v, %p)\n%y = tf.MatMul(%a, %x) {transpose_b = true, transpose_a = true}",
            "%y = tf.MatMul(%v, %x) {transpose_a = false, transpose_b = true}",
        ),
        ("%a = tf.Transpose(%x, %p)\n%y = tf.BatchMatMulV2(%v, %a)", "%y = tf.BatchMatMulV2(%v, %x) {adj_y = true}"),
    ],
    "reshape-to-same": [
        (neg("tf.Reshape(%x, %s23)"), X),
        (neg("tf.Squeeze(%x)"), X),
    ],
    "reshape-back": [
        ("%a = tf.Reshape(%x, %s6)\n%c = tf.Reshape(%a, %s23)\n%y = tf.Neg(%c)", X),
        ("%a = tf.ExpandDims(%x, %int1)\n%c = tf.Squeeze(%a) {squeeze_dims = [1]}\n%y = tf.Neg(%c)", X),
    ],
    "reshape-once": [
        ("%a = tf.Reshape(%x, %s6)\n%y = tf.Reshape(%a, %s32)", "%y = tf.Reshape(%x, %s32)"),
        ("%a = tf.ExpandDims(%x, %int1)\n%y = tf.Reshape(%a, %s6)", "%y = tf.Reshape(%x, %s6)"),
    ],
    "transpose-nothing": [(neg("tf.Transpose(%x, %p0)"), X)],
    "transpose-once": [
        ("%a = tf.Transpose(%x, %p)\n%c = tf.Transpose(%a, %p)\n%y = tf.Neg(%c)", X),
        (
            "%e = tf.ExpandDims(%x, %int0)\n%a = tf.Transpose(%e, %p3)\n%y = tf.Transpose(%a, %p3b)",
            "%e = tf.ExpandDims(%x, %int0)\n"
            + constant("y/perm", "int32[3] [1, 0, 2]")
            + "%y = tf.Transpose(%e, %y/perm)",
        ),
    ],
    "cast-to-same": [(neg("tf.Cast(%x) {DstT = float32}"), X)],
    "cast-once": [
        ("%a = tf.Cast(%x) {DstT = float64}\n%y = tf.Cast(%a) {DstT = float16}", "%y = tf.Cast(%x) {DstT = float16}"),
        ("%a = tf.Cast(%i) {DstT = float64}\n%c = tf.Cast(%a) {DstT = int32}\n%y = tf.Neg(%c)", N),
    ],
    "pad-nothing": [(neg("tf.Pad(%x, %nopads)"), X), (neg("tf.PadV2(%x, %nopads, %one)"), X)],
    "keep-all": [
        (neg("tf.Slice(%x, %begin0, %all)"), X),
        (neg("tf.StridedSlice(%x, %begin0, %ends, %steps)"), X),
        (neg("tf.BroadcastTo(%x, %s23)"), X),
        (neg("tf.Tile(%x, %steps)"), X),
    ],
    "join-one": [(neg("tf.ConcatV2(%x, %int0)"), X), (neg("tf.AddN(%x)"), X)],
    "split-into-one": [(neg("tf.Split(%int0, %x) {num_split = 1}"), X)],
    "pack-one": [
        ("%y = tf.Pack(%x) {axis = 1}", constant("y/axis", "int32[] 1") + "%y = tf.ExpandDims(%x, %y/axis)"),
        ("%y = tf.Pack(%x) {axis = -1}", constant("y/axis", "int32[] -1") + "%y = tf.ExpandDims(%x, %y/axis)"),
    ],
    "select-known": [(neg("tf.SelectV2(%true, %x, %v)"), X), (neg("tf.SelectV2(%false, %v, %x)"), X)],
    "join-once": [
        (
            "%a = tf.ConcatV2(%x, %v, %int0)\n%k = tf.Const() {value = int32[] -2}\n%y = tf.ConcatV2(%n, %a, %x, %k)",
            "%k = tf.Const() {value = int32[] -2}\n%y = tf.ConcatV2(%n, %x, %v, %x, %k)",
        ),
        (
            "%a = tf.ConcatV2(%x, %v, %int0)\n%c = tf.ConcatV2(%v, %x, %int0)\n"
            "%d = tf.ConcatV2(%a, %c, %a, %int0)\n%y = tf.Neg(%d)",
            "%a = tf.ConcatV2(%x, %v, %int0)\n%d = tf.ConcatV2(%a, %v, %x, %a, %int0)\n%y = tf.Neg(%d)",
        ),
    ],
    "function-of-joined": [
        (
            "%a = tf.Relu(%x)\n%c = tf.Relu(%n)\n%d = tf.Relu(%v)\n%y = tf.ConcatV2(%a, %c, %d, %int0)",
            "%y/joined = tf.ConcatV2(%x, %n, %v, %int0)\n%y = tf.Relu(%y/joined)",
        ),
    ],
}
CASES = [
    pytest.param(rule, *case, id=f"{rule} {place}")
    for rule, cases in APPLIES.items()
    for place, case in enumerate(cases)
]


@pytest.mark.parametrize(("rule", "before", "after"), CASES)
def test_rules_apply(rule: str, before: str, after: str) -> None:
    _, report = check_pass("simplify", text(before), text(after))
    assert report.rules.get(rule) == 1, report.rules


FAST = {
    "multiply-by-zero": [neg("tf.Mul(%x, %zero)"), neg("tf.Mul(%wide_zero, %x)"), neg("tf.Mul(%n, %zero)")],
    "subtract-itself": [neg("tf.Sub(%x, %x)"), neg("tf.Sub(%n, %n)")],
}
IN_DOUBT = "it may lose NaN and Inf, and fast math was not asked for"


@pytest.mark.parametrize("rule", FAST)
def test_fast_math_gives_up_nan_and_inf(rule: str) -> None:
    for body in FAST[rule]:
        unknown = "its shape [?, 3] is not static" if "%n" in body else ""
        _, report = check_pass("simplify", text(body), runtime=None)
        assert [entry["reason"] for entry in report.refusals] == [unknown or IN_DOUBT]
        model = parse_model(text(body))
        report = run_pass(model, "simplify", fast_math=True)
        assert report.rules == ({} if unknown else {rule: 1})
        if not unknown:
            held = model.graph.node("a").attrs["value"]
            assert (held.splat(), held.shape) == (0.0, (5, 2, 3) if "wide" in body else (2, 3))


def test_every_rule_has_a_case() -> None:
    assert [*APPLIES, *FAST] == sorted((rule.name for rule in Simplify.rules), key=[*APPLIES, *FAST].index)


REFUSED = {
    neg("tf.Mul(%x, %wide)"): "'wide' may widen the shape [2, 3]",
    neg("tf.Mul(%u, %ones)"): "'ones' may widen the shape [*]",
    neg("tf.DivNoNan(%x, %wide)"): "'wide' may widen the shape [2, 3]",
    neg("tf.Sub(%i, %wide_int)"): "'wide_int' may widen the shape [2, 3]",
    neg("tf.AddV2(%x, %wide_zero)"): "'wide_zero' may widen the shape [2, 3]",
    neg("tf.Pow(%x, %wide2)"): "'wide2' may widen the shape [2, 3]",
    "%a = tf.Abs(%x)\n%y = tf.Pow(%a, %wide_half)": "'wide_half' may widen the shape [2, 3]",
    "%a = tf.Cast(%x) {DstT = complex64}\n%e = tf.Const() {value = complex64[] (2.0, 0.0)}\n%y = tf.Pow(%a, %e)": (
        "it is a power of complex numbers"
    ),
    "%a = tf.ConcatV2(%x, %v, %int0)\n%c = tf.ConcatV2(%a, %x, %int1)\n%y = tf.ConcatV2(%c, %x, %int0)": (
        "their axes are not known to be the same"
    ),
    "%a = tf.Relu(%x)\n%c = tf.Relu(%v)\n%d = tf.ConcatV2(%a, %c, %int0)\n%y = tf.ConcatV2(%d, %a, %int1)": (
        "'a' is also read by 'y'"
    ),
    neg("tf.Pow(%x, %half)"): "'x' may be negative",
    "%a = tf.Abs(%x)\n%s = tf.AddV2(%a, %x)\n%y = tf.Pow(%s, %minus_half)": "'s' may be negative",
    "%a = tf.Square(%x)\n%s = tf.Mul(%a, %two)\n%y = tf.Pow(%s, %half)": "'s' may be negative",
    "%e = tf.ExpandDims(%x, %int0)\n%a = tf.Transpose(%e, %p3)\n%y = tf.BatchMatMulV2(%a, %x)": (
        "it permutes by [1, 2, 0]"
    ),
    "%c = tf.Cast(%x) {DstT = complex64}\n%a = tf.Transpose(%c, %p)\n%y = tf.MatMul(%c, %a)": (
        "the product would take the complex conjugate too"
    ),
    "%a = tf.Transpose(%v, %p)\n%c = tf.MatMul(%x, %a)\n%y = tf.MatMul(%c, %a)": "'a' is also read by 'y'",
    neg("tf.Reshape(%n, %s23)"): "[?, 3] is not known to be [2, 3]",
    neg("tf.Squeeze(%n)"): "[?, 3] is not known to be [*]",
    neg("tf.Transpose(%x, %p)"): "it permutes by [1, 0]",
    neg("tf.Cast(%x) {DstT = float64}"): "it casts float32 to float64",
    "%a = tf.Cast(%i) {DstT = float32}\n%y = tf.Cast(%a) {DstT = float64}": "float32 does not hold every int32",
    "%a = tf.Cast(%x) {DstT = float16}\n%y = tf.Cast(%a) {DstT = float32}": "float16 does not hold every float32",
    neg("tf.Slice(%x, %begin1, %all)"): "[2, 3] is not known to be [1, 3]",
    neg("tf.StridedSlice(%x, %begin1, %begin0, %back) {begin_mask = 1, end_mask = 3}"): (
        "its strides are not known to be positive"
    ),
    neg("tf.BroadcastTo(%n, %s23)"): "[?, 3] is not known to be [2, 3]",
    neg("tf.SelectV2(%false, %wide, %x)"): "'x' of [2, 3] may be widened to [5, 2, 3]",
    "%a = tf.Mul(%x, %huge)\n%y = tf.Mul(%a, %huge)": "combined, the constants leave the range of their type",
    "%a = tf.Mul(%x, %tiny)\n%y = tf.Mul(%a, %tiny)": "combined, the constants leave the range of their type",
    "%a = tf.AddV2(%x, %none)\n%y = tf.AddV2(%a, %two)": "combined, the constants leave the range of their type",
    "%k = tf.Const() {value = float32[2, 1] [1.0, 2.0]}\n%a = tf.Mul(%x, %two)\n%y = tf.Mul(%a, %k)": (
        "combined, the constants would be larger than either"
    ),
    "%a = tf.Mul(%x, %two)\n%c = tf.Mul(%a, %three)\n%y = tf.AddV2(%a, %c)": "'a' is also read by 'y'",
    "%y = tf.Sub(%two, %three)": "both operands are constant",
    "%y = tf.RealDiv(%two, %three)": "both operands are constant",
    "%a = tf.Mul(%two, %three)\n%y = tf.Mul(%a, %three)": "all operands are constant",
}


@pytest.mark.parametrize("body", REFUSED)
def test_refusals(body: str) -> None:
    _, report = check_pass("simplify", text(body), runtime=None)
    assert REFUSED[body] in [entry["reason"] for entry in report.refusals]


@pytest.mark.parametrize(
    "body",
    [
        neg("tf.Mul(%x, %zero)"), neg("tf.Sub(%x, %x)"), neg("tf.RealDiv(%x, %x)"), neg("tf.Sub(%zero, %x)"),
        neg("tf.RealDiv(%one, %x)"), neg("tf.RealDiv(%x, %none)"), neg("tf.RealDiv(%x, %zero)"),
        "%y = tf.Pad(%x, %pads)", "%y = tf.Tile(%x, %ends)", "%y = tf.ConcatV2(%x, %v, %int0)", "%y = tf.AddN(%x, %v)",
        "%a = tf.Neg(%x)\n%y = tf.Abs(%a)", "%a = tf.Relu(%x)\n%y = tf.Abs(%a)", "%y = tf.Pack(%x, %v)",
        "%a = tf.Cast(%x) {DstT = float64, Truncate = true}\n%y = tf.Cast(%a) {DstT = float16}",
        "%y = tf.LogicalAnd(%b, %false)", "%y = tf.SelectV2(%b, %x, %v)", "%y = tf.Sub(%i, %int3)",
    ],
)  # fmt: skip
def test_what_looks_alike_and_is_not(body: str) -> None:
    _, report = check_pass("simplify", text(body), runtime=None)
    assert not report.rules


def test_outputs_keep_their_names() -> None:
    body = "%y = tf.Mul(%x, %one)"
    model, _ = check_pass("simplify", text(body), text("%y = tf.Identity(%x)"))
    assert model.graph.outputs[0].name == "y"


def test_exactness_is_the_users_to_allow() -> None:
    chain = "%a = tf.Mul(%x, %two)\n%y = tf.Mul(%a, %three)"
    _, report = check_pass("simplify", text(chain), exactness=Exactness.EXACT)
    assert [entry["reason"] for entry in report.refusals] == ["it is reassociating, beyond what was allowed"]
    _, report = check_pass("simplify", text(neg("tf.Mul(%x, %one)")), text(X), exactness=Exactness.EXACT)
    assert report.rules == {"multiply-by-one": 1}


def test_one_value_for_all_elements_stays_one_value() -> None:
    lines = {
        "%y = tf.Sub(%x, %c)": -2.0,
        "%y = tf.RealDiv(%x, %c)": 0.5,
        "%a = tf.Mul(%x, %c)\n%y = tf.Mul(%a, %c)": 4.0,
    }
    for line, expected in lines.items():
        held = constant("c", "float32[400, 400] splat 2.0")
        source = f"graph @main(%x: float32[400, 400]) -> (%y) {{\n{held}{line}\n}}"
        model = parse_model(source)
        run_pass(model, "simplify")
        (made,) = [node.attrs["value"] for node in model.graph if node.op == "tf.Const"]
        assert made.splat() == expected
        assert made.shape == (400, 400)


def test_inside_functions_and_v1_branches() -> None:
    source = """
    graph @main(%x: float32[2], %p: bool[]) -> (%y) {
      %c = tf.PartitionedCall(%x) {Tin = [float32], Tout = [float32], f = @f}
      %switch = tf.Switch(%c, %p)
      %inside = tf.Tanh(%switch:1)
      %k = tf.Const() {value = float32[] 2.0} after(%inside)
      %one = tf.Mul(%inside, %k)
      %two = tf.Mul(%one, %k)
      %raw = tf.Mul(%switch, %k2)
      %k2 = tf.Const() {value = float32[] 2.0} after(%switch)
      %raw2 = tf.Mul(%raw, %k2)
      %y = tf.Merge(%raw2, %two) {N = 2}
    }
    function @f(a = %a: float32[2]) -> (r = %r) {
      %m = tf.Neg(%a)
      %n = tf.Neg(%m)
      %r = tf.Tanh(%n)
    }
    """
    source = source.replace(" after(%switch)", " after(%low)").replace("%k2 =", "%low = tf.Identity(%switch)\n%k2 =")
    before = parse_model(source)
    model = before.clone()
    report = run_pass(model, "simplify")
    assert report.rules == {"undo-twice": 1, "multiply-constants": 1}
    assert [node.op_type for node in model.functions["f"]] == ["_Arg", "Tanh"]
    held = model.graph.node("two").input(1).node
    assert [node.name for node in held.control_inputs] == ["inside"]
    assert [entry["reason"] for entry in report.refusals if entry["nodes"] == ["raw2"]] == [
        "a constant in its place would leave its v1 loop or branch"
    ]
    assert_equivalent(before, model, runtime="reference", exactness="reassociating")
