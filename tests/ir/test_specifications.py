"""Stage specifications say of a model what a stage forbids, and where."""

from __future__ import annotations

import pytest

from graphopt.ir import UsageError
from graphopt.ir.ops.interfaces import interface
from graphopt.ir.ops.traits import Trait
from graphopt.ir.specifications import SPECIFICATIONS, TABLES, VARIABLES, Specification, check, specification
from graphopt.ir.text import parse_model

GOOD = parse_model("""
graph @main(%x: float32[?, 2]) -> (%y) {
  %a = tf.Relu(%x) : float32[?, 2]
  %y = tf.Identity(%a) : float32[?, 2]
}""")


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_a_plain_model_meets_every_specification(name: str) -> None:
    assert check(GOOD, name) == []
    assert specification(name).summary


CASES = [
    ("imported", '%a = tfx.Op()', "node 'a' (tfx.Op) is of another dialect"),
    ("frozen", '%a = tf.VarHandleOp() {dtype = float32, shape = shape[]}', "node 'a' (tf.VarHandleOp) is an operator"),
    ("table-free", '%a = tf.HashTableV2() {key_dtype = string, value_dtype = int64}', "'table-free' does not allow"),
    ("tf-inference", '%a = tfl.ADD()', "is of another dialect"),
    ("portable", '%a = tf._FusedConv2D(%x, %x)', "node 'a' (tf._FusedConv2D) is an operator, which 'portable'"),
    ("typed", '%a = tf.Mystery(%x)', "node 'a' (tf.Mystery) has an output 0 without a dtype"),
    ("ranked", '%a = tf.Relu(%x)', "node 'a' (tf.Relu) has an output 0 without a known rank"),
    ("ranked", '%a = tf.Mystery(%x)', "has an output 0 without a dtype, which 'typed' does not allow"),
    ("sorted", '%b = tf.Relu(%a) %a = tf.Relu(%x)', "node 'b' (tf.Relu) stands before 'a'"),
    ("inlined", '%a = tf.PartitionedCall(%x) {f = @f}', "the model has a function 'f'"),
    (
        "tf-inference",
        "%a = tf.FusedBatchNormV3(%x, %x, %x, %x, %x) {U = float32}",
        "node 'a' (tf.FusedBatchNormV3) has is_training = True",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "statements", "message"), CASES)
def test_what_a_specification_forbids(name: str, statements: str, message: str) -> None:
    function = "function @f(%p: float32[]) -> (%p) {}" if name == "inlined" else ""
    model = parse_model(f"graph @main(%x: float32[?]) -> () {{ {statements} }} {function}")
    found = check(model, name)
    assert any(message in problem for problem in found), found


def test_internal_names_that_every_function_has_are_portable() -> None:
    assert check(parse_model("function @f(%a: float32[]) -> (%a) {}"), "portable") == []


def test_kinds_of_operators_are_forbidden_by_trait() -> None:
    stateless = Specification("stateless", "no effects", forbidden_traits=Trait.STATEFUL)
    model = parse_model("graph @main() -> () { %a = tf.Mystery() }")
    assert check(model, stateless) == [
        "node 'a' (tf.Mystery) is an operator of the kind stateful, which 'stateless' does not allow"
    ]


def test_findings_are_bounded() -> None:
    model = parse_model("graph @main() -> () {" + " ".join(f"%n{i} = tf.Mystery()" for i in range(50)) + "}")
    assert len(check(model, "typed")) == 20
    assert len(check(model, "typed", limit=3)) == 3


def test_an_unknown_specification_is_named() -> None:
    with pytest.raises(UsageError, match="there is no specification 'frosen'; there are imported, frozen"):
        check(GOOD, "frosen")


@pytest.mark.parametrize("operator", sorted(VARIABLES | TABLES))
def test_the_operators_named_exist(operator: str) -> None:
    assert interface(operator.removeprefix("tf.")) is not None
