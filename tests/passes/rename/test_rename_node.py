"""rename-node."""

from __future__ import annotations

import pytest

from graphopt import UsageError
from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import check_pass

SPLIT = """
graph @main(%x: float32[4]) -> (%y) {
  %axis = tf.Const() {value = int32[] 0}
  %splitter = tf.Split(%axis, %x) {num_split = 2}
  %z = tf.Neg(%splitter:1) {_class = [b"loc:@splitter", b"loc:@x", b"other"]} after(%splitter)
  %y = tf.Sub(%splitter, %z)
}
signature "serve"(x = %x) -> (y = %y)
"""


def test_readers_waiters_and_neighbours_follow() -> None:
    model, report = check_pass("rename-node{old=splitter,new=demux}", SPLIT, SPLIT.replace("splitter", "demux"))
    assert report.rules == {"rename-node": 1}
    assert model.graph.node("demux").origins == ("splitter",)


def test_inputs_and_outputs_keep_their_signature() -> None:
    model = parse_model(SPLIT)
    run_pass(model, "rename-node{old=x,new=images/in}")
    run_pass(model, "rename-node{old=y,new=scores}")
    assert {key: value.name for key, value in model.signatures["serve"].input_values().items()} == {"x": "images/in"}
    assert {key: value.name for key, value in model.signatures["serve"].output_values().items()} == {"y": "scores"}


def test_a_name_that_is_not_there() -> None:
    _, report = check_pass("rename-node{old=absent,new=demux}", SPLIT)
    assert report.notes == ["graph 'main' has no node 'absent'"]


def test_the_same_name() -> None:
    check_pass("rename-node{old=z,new=z}", SPLIT)


BODY = """
function @f(%a: float32[2]) -> (%b) {
  %inner = tf.Neg(%a)
  %b = tf.Abs(%inner)
}
graph @main(%x: float32[2]) -> (%y) {
  %inner = tf.Exp(%x)
  %y = tf.PartitionedCall(%inner) {f = @f}
}
"""


def test_in_a_function() -> None:
    before, after = "%inner = tf.Neg(%a)\n  %b = tf.Abs(%inner)", "%outer = tf.Neg(%a)\n  %b = tf.Abs(%outer)"
    check_pass("rename-node{old=inner,new=outer,function=f}", BODY, BODY.replace(before, after))


def test_arguments_have_their_names_from_the_signature() -> None:
    _, report = check_pass("rename-node{old=a,new=c,function=f}", BODY)
    assert [refusal["nodes"] for refusal in report.refusals] == [["a"]]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("old=z,new=y", "already has a node 'y'"),
        ("new=y", "'old' must name the node"),
        ("old=z", "cannot be a node's name"),
        ('old=z,new="^z"', "cannot be a node's name"),
        ('old=z,new="z:1"', "cannot be a node's name"),
        ("old=z,new=q,function=g", "no function 'g'"),
    ],
)
def test_errors_change_nothing(options: str, reason: str) -> None:
    model = parse_model(SPLIT)
    names = [node.name for node in model.graph]
    with pytest.raises(UsageError, match=reason):
        run_pass(model, f"rename-node{{{options}}}")
    assert [node.name for node in model.graph] == names
