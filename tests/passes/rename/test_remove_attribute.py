"""remove-attribute."""

from __future__ import annotations

import pytest

from graphopt import UsageError
from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import check_pass

BEFORE = """
function @f(%a: float32[2]) -> (%b) { %b = tf.Mul(%a, %a) {_note = 1} }
graph @main(%x: float32[2]) -> (%z) {
  %c = tf.PartitionedCall(%x) {f = @f}
  %y = tf.Mul(%c, %c) {_note = 23}
  %z = tf.Add(%y, %y) {_note = 46, bob = 23}
}
"""


def test_everywhere() -> None:
    after = BEFORE.replace(" {_note = 1}", "").replace(" {_note = 23}", "").replace("_note = 46, ", "")
    _, report = check_pass("remove-attribute{attribute=_note}", BEFORE, after)
    assert report.rules == {"remove-attribute": 3}


def test_of_one_operator() -> None:
    check_pass("remove-attribute{attribute=_note,operator=Add}", BEFORE, BEFORE.replace("_note = 46, ", ""))


@pytest.mark.parametrize(
    ("node", "attribute", "reason"),
    [
        ("tf.Const() {value = int32[1] [2]}", "value", "what the node stands for"),
        ("tf.Neg(%x)", "T", "requires 'T'"),
        ("tf.Shape(%x) {out_type = int64}", "out_type", "decides its element types"),
    ],
)
def test_what_nodes_cannot_do_without(node: str, attribute: str, reason: str) -> None:
    text = f"graph @main(%x: float32[2]) -> (%y) {{ %y = {node} }}"
    _, report = check_pass(f"remove-attribute{{attribute={attribute}}}", text, allow_flat=True)
    refusals = [refusal for refusal in report.refusals if "y" in refusal["nodes"]]
    assert reason in refusals[0]["reason"]


def test_arguments_of_functions_stay() -> None:
    _, report = check_pass("remove-attribute{attribute=index}", BEFORE)
    assert [refusal["nodes"] for refusal in report.refusals] == [["a"]]


def test_defaults_may_go() -> None:
    before = "graph @main(%x: float32[2]) -> (%y) { %y = tf.Shape(%x) {out_type = int32} }"
    check_pass(
        "remove-attribute{attribute=out_type}", before, before.replace("{out_type = int32}", ""), allow_flat=True
    )


@pytest.mark.parametrize("options", ["operator=Mul", 'attribute=foo,operator="a b"'])
def test_errors(options: str) -> None:
    with pytest.raises(UsageError, match="remove-attribute"):
        run_pass(parse_model(BEFORE), f"remove-attribute{{{options}}}")
