"""rename-attribute."""

from __future__ import annotations

import pytest

from graphopt import UsageError
from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import check_pass

BEFORE = """
function @f(%a: float32[2]) -> (%b) { %b = tf.Mul(%a, %a) {foo = 1} }
graph @main(%x: float32[2]) -> (%z) {
  %c = tf.PartitionedCall(%x) {f = @f}
  %y = tf.Mul(%c, %c) {foo = 23, bar = b"something"}
  %z = tf.Add(%y, %y) {foo = 46, bob = 23}
}
"""


def test_everywhere() -> None:
    check_pass("rename-attribute{old=foo,new=baz}", BEFORE, BEFORE.replace("foo", "baz"))


def test_of_one_operator() -> None:
    after = BEFORE.replace("foo", "baz").replace("baz = 46", "foo = 46")
    _, report = check_pass("rename-attribute{old=foo,new=baz,operator=Mul}", BEFORE, after)
    assert report.rules == {"rename-attribute": 2}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("foo", "bar", "already"),
        ("T", "U", "requires 'T'"),
        ("foo", "grad_x", None),
    ],
)
def test_what_is_left(old: str, new: str, reason: str | None) -> None:
    model = parse_model(BEFORE)
    report = run_pass(model, f"rename-attribute{{old={old},new={new},operator=Mul}}")
    attrs = model.graph.node("y").attrs
    assert ((old in attrs), (new in attrs and new != "bar")) == ((True, False) if reason else (False, True))
    assert reason is None or reason in report.refusals[0]["reason"]


def test_a_name_declared_for_another_kind() -> None:
    model = parse_model("graph @main(%x: float32[2, 2]) -> (%y) { %y = tf.MatMul(%x, %x) {foo = 1, bar = true} }")
    report = run_pass(model, "rename-attribute{old=foo,new=transpose_a}")
    assert "declares 'transpose_a' as bool" in report.refusals[0]["reason"]
    run_pass(model, "rename-attribute{old=bar,new=transpose_a}")
    assert model.graph.node("y").attrs["transpose_a"] is True


@pytest.mark.parametrize("options", ["new=baz", "old=foo", 'old=foo,new="a b"', 'old=foo,new=baz,operator="a b"'])
def test_errors(options: str) -> None:
    with pytest.raises(UsageError, match="rename-attribute"):
        run_pass(parse_model(BEFORE), f"rename-attribute{{{options}}}")


def test_the_same_name() -> None:
    check_pass("rename-attribute{old=foo,new=foo}", BEFORE)
