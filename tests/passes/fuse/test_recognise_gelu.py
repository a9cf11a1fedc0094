"""recognise-gelu: every way of writing it, what is refused, and that TFLite computes the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.model import Model
from graphopt.passes import run_pass
from graphopt.passes.fuse.recognise_gelu import CUBE, ROOT, SLOPE, RecogniseGelu
from graphopt.testing import check_pass
from graphopt.testing.lowering import assert_lowers, text_model

NUMBERS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "root": ROOT, "inverse": 1 / ROOT, "below": -1 / ROOT,
    "slope": SLOPE, "cube": CUBE, "bend": CUBE * SLOPE,
}  # fmt: skip
CONSTANTS = "\n".join(f"%{name} = tf.Const() {{value = float32[] {value!r}}}" for name, value in NUMBERS.items())
ERF = {
    "1 + erf(x / root)": "%s = tf.RealDiv(%x, %root)\n%e = tf.Erf(%s)\n%g = tf.AddV2(%one, %e)",
    "erf(x * inverse) + 1": "%s = tf.Mul(%inverse, %x)\n%e = tf.Erf(%s)\n%g = tf.Add(%e, %one)",
    "erfc(-x * inverse)": "%n = tf.Neg(%x)\n%s = tf.Mul(%n, %inverse)\n%g = tf.Erfc(%s)",
    "erfc(x * below)": "%s = tf.Mul(%x, %below)\n%g = tf.Erfc(%s)",
    "erfc(-(x / root))": "%s = tf.RealDiv(%x, %root)\n%n = tf.Neg(%s)\n%g = tf.Erfc(%n)",
}
TANH = {
    "pow": "%p = tf.Pow(%x, %three)\n%q = tf.Mul(%cube, %p)\n%b = tf.AddV2(%x, %q)\n%i = tf.Mul(%slope, %b)",
    "products": "%s = tf.Mul(%x, %x)\n%p = tf.Mul(%s, %x)\n%q = tf.Mul(%p, %cube)\n%b = tf.AddV2(%q, %x)\n"
    "%i = tf.Mul(%b, %slope)",
    "square": "%s = tf.Square(%x)\n%q = tf.Mul(%s, %cube)\n%b = tf.AddV2(%q, %one)\n%m = tf.Mul(%slope, %x)\n"
    "%i = tf.Mul(%m, %b)",
    "spread": "%s = tf.Square(%x)\n%q = tf.Mul(%s, %bend)\n%b = tf.AddV2(%q, %slope)\n%i = tf.Mul(%x, %b)",
}
GROUPS = {
    "(half x) g": "%h = tf.Mul(%half, %x)\n%y = tf.Mul(%h, %g)",
    "x (half g)": "%h = tf.Mul(%g, %half)\n%y = tf.Mul(%x, %h)",
    "half (x g)": "%h = tf.Mul(%x, %g)\n%y = tf.Mul(%h, %half)",
}


def written_out(gate: str, group: str = GROUPS["(half x) g"], dtype: str = "float32") -> Model:
    """A model of one unit."""
    body = f"{CONSTANTS}\n{gate}\n{group}"
    return text_model(body.replace("float32", dtype), f"%x: {dtype}[3, 7]")


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("gate", ERF)
def test_exact(gate: str, group: str) -> None:
    lowered = assert_lowers(written_out(ERF[gate], GROUPS[group]), ["GELU"], reference="reference")
    (node,) = (node for node in lowered.model.graph if node.op == "tfl.GELU")
    assert node.attrs["approximate"] is False


@pytest.mark.parametrize("inner", TANH)
def test_approximate(inner: str) -> None:
    gate = f"{TANH[inner]}\n%t = tf.Tanh(%i)\n%g = tf.AddV2(%one, %t)"
    lowered = assert_lowers(written_out(gate), ["GELU"], reference="reference")
    (node,) = (node for node in lowered.model.graph if node.op == "tfl.GELU")
    assert node.attrs["approximate"] is True


def graph(gate: str) -> str:
    """Text of a graph of one unit, with shapes."""
    body = "\n".join(f"{line} : float32[3, 7]" for line in f"{gate}\n{GROUPS['(half x) g']}".splitlines())
    return f"graph @main(%x: float32[3, 7]) -> (%y) {{\n{CONSTANTS}\n{body}\n}}"


def test_result_and_idempotence() -> None:
    kept = "\n".join(line for line in CONSTANTS.splitlines() if "%half" not in line and "%below" not in line)
    unit = "%y = tfl.GELU(%x) {approximate = false} : float32[3, 7]"
    after = f"graph @main(%x: float32[3, 7]) -> (%y) {{\n{kept}\n{unit}\n}}"
    check_pass(RecogniseGelu(), graph(ERF["erfc(x * below)"]), after, runtime=None)


def test_what_something_else_reads_stays() -> None:
    text = graph(ERF["erfc(x * below)"]).replace("-> (%y)", "-> (%y, %g)")
    _, report = check_pass(RecogniseGelu(), text)
    assert report.refusals[0]["reason"] == "'g' is an input or output of the graph"


def test_double_precision_is_refused() -> None:
    model = written_out(ERF["erfc(x * below)"], dtype="float64")
    assert run_pass(model, RecogniseGelu()).rewrites == 0


def test_other_constants_are_something_else() -> None:
    text = graph(ERF["erfc(x * below)"]).replace(repr(-1 / ROOT), "-0.7")
    check_pass(RecogniseGelu(), text)


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(sorted(ERF)), st.sampled_from(sorted(GROUPS)), st.integers(1, 3), st.sampled_from([0.5, 2.0, 4.0])
)
def test_any_unit(gate: str, group: str, rank: int, spread: float) -> None:
    shape = ", ".join(["5"] * rank)
    body = f"{CONSTANTS}\n%scale = tf.Const() {{value = float32[] {spread!r}}}\n%x = tf.Mul(%z, %scale)\n"
    model = text_model(f"{body}{ERF[gate]}\n{GROUPS[group]}", f"%z: float32[{shape}]")
    assert_lowers(model, ["MUL", "GELU"], reference="reference")


def test_for_onnx_it_is_its_operator() -> None:
    from graphopt.ir.errors import UsageError
    from graphopt.passes import run_pass
    from graphopt.testing.lowering import text_model

    body = f"%r = tf.Const() {{value = float32[] {-1 / ROOT}}}\n%h = tf.Const() {{value = float32[] 0.5}}\n"
    body += "%s = tf.Mul(%x, %r)\n%e = tf.Erfc(%s)\n%a = tf.Mul(%x, %h)\n%y = tf.Mul(%a, %e)"
    model = text_model(body)
    run_pass(model, "recognise-gelu{target=onnx}")
    assert model.graph.node("y").op == "onnx.Gelu"
    with pytest.raises(UsageError, match="no target 'tpu'"):
        RecogniseGelu(target="tpu")
