"""rename-operator."""

from __future__ import annotations

import pytest

from graphopt import UsageError
from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import check_pass

PRODUCT = """
graph @main(%x: float32[2]) -> (%z) {
  %y = tf.Mul(%x, %x)
  %z = tf.Add(%y, %x)
}
"""


def test_to_an_operator_of_ones_own_and_back() -> None:
    custom = PRODUCT.replace("tf.Mul(%x, %x)", "tf.Multiply(%x, %x) {T = float32} : float32[*]")
    model, report = check_pass("rename-operator{old=Mul,new=Multiply}", PRODUCT, custom, runtime=None)
    assert report.rules == {"rename-operator": 1}
    assert model.graph.node("y").origins == ("y",)
    check_pass("rename-operator{old=Multiply,new=Mul}", custom, PRODUCT, runtime=None)


def test_outputs_of_an_unknown_operator_get_their_types() -> None:
    before = """
    graph @main(%x: float32[2]) -> (%s) {
      %s = tf.MyTop(%x, %k) {k = 1, T = float32} : ?[*]
      %k = tf.Const() {value = int32[] 1}
    }
    """.replace("?[*]", "unknown[*]")
    model = parse_model(before)
    run_pass(model, "rename-operator{old=MyTop,new=TopKV2}")
    assert [value.dtype.name for value in model.graph.node("s").outputs] == ["float32", "int32"]


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("Relu", "takes other inputs"),
        ("LogicalAnd", "takes other inputs"),
        ("Less", "has other outputs"),
        ("MatMul", None),
        ("Max", "takes other inputs"),
        ("Conv2D", "requires attribute 'strides'"),
    ],
)
def test_known_operators_must_fit(new: str, reason: str | None) -> None:
    model = parse_model(PRODUCT)
    report = run_pass(model, f"rename-operator{{old=Mul,new={new}}}")
    if reason is None:
        assert model.graph.node("y").op == f"tf.{new}"
        return
    assert model.graph.node("y").op == "tf.Mul"
    assert reason in report.refusals[0]["reason"]


CALL = """
function @f(%a: float32[2]) -> (%b) { %b = tf.Neg(%a) }
graph @main(%x: float32[2]) -> (%y) {
  %c = tf.PartitionedCall(%x) {f = @f}
  %y = tf.Neg(%c)
}
"""


def test_bodies_name_outputs_as_the_operator_does() -> None:
    model = parse_model(CALL)
    report = run_pass(model, "rename-operator{old=Neg,new=Negate}")
    assert model.graph.node("y").op == "tf.Negate"
    assert model.functions["f"].node("b").op == "tf.Neg"
    assert "names its outputs" in report.refusals[0]["reason"]


def test_to_a_known_operator_in_a_body() -> None:
    check_pass("rename-operator{old=Neg,new=Abs}", CALL, CALL.replace("tf.Neg", "tf.Abs"), runtime=None)


@pytest.mark.parametrize(("old", "new"), [("", "Mul"), ("Mul", "No Op"), ("f", "Mul"), ("Neg", "f")])
def test_errors(old: str, new: str) -> None:
    with pytest.raises(UsageError):
        run_pass(parse_model(CALL), f'rename-operator{{old="{old}",new="{new}"}}')


def test_the_same_name() -> None:
    check_pass("rename-operator{old=Mul,new=Mul}", PRODUCT)
