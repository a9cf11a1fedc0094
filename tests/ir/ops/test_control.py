"""Passing on, v1 control flow, calls: shapes, traits and the few evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir.infer import infer_node
from graphopt.ir.ops import Trait, find, has_trait, traits_of
from graphopt.ir.text import parse_graph


def types_of(node: str, **parameters: str) -> list[str]:
    listed = ", ".join(f"%{name}: {type}" for name, type in parameters.items())
    graph = parse_graph(f"graph @main({listed}) -> () {{ %node = {node} }}")
    return [str(item) for item in infer_node(graph.node("node"))]


@pytest.mark.parametrize("op", ["Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics"])
def test_what_passes_on(op: str) -> None:
    attrs = ' {message = ""}' if op == "CheckNumerics" else ""
    assert types_of(f"tf.{op}(%x){attrs}", x="float32[?, 4]") == ["float32[?, 4]"]
    operator = find(f"tf.{op}")
    assert operator is not None
    assert operator.has(Trait.PASS_THROUGH | Trait.ELEMENTWISE)
    assert operator.evaluate is not None
    array = np.array([1.0, 2.0], np.float32)
    assert operator.evaluate({"message": b""}, array) is array


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_numerics_refuses_what_is_not_finite(bad: float) -> None:
    operator = find("tf.CheckNumerics")
    assert operator is not None
    assert operator.evaluate is not None
    with pytest.raises(ValueError, match="here"):
        operator.evaluate({"message": b"here"}, np.array([1.0, bad], np.float32))


@pytest.mark.parametrize(
    ("node", "parameters", "expected"),
    [
        ("tf.IdentityN(%x, %y)", {"x": "float32[2]", "y": "int32[3]"}, ["float32[2]", "int32[3]"]),
        ("tf.Switch(%x, %p)", {"x": "float32[2]", "p": "bool[]"}, ["float32[2]", "float32[2]"]),
        ("tf._SwitchN(%x, %i) {num_outs = 3}", {"x": "float32[2]", "i": "int32[]"}, ["float32[2]"] * 3),
        ("tf.Merge(%x, %y)", {"x": "float32[2, 3]", "y": "float32[2, 5]"}, ["float32[2, ?]", "int32[]"]),
        ('tf.Enter(%x) {frame_name = b"f"}', {"x": "float32[2]"}, ["float32[2]"]),
        ("tf.Exit(%x)", {"x": "float32[2]"}, ["float32[2]"]),
        ("tf.NextIteration(%x)", {"x": "float32[2]"}, ["float32[2]"]),
        ("tf.LoopCond(%p)", {"p": "bool[]"}, ["bool[]"]),
        ("tf.LoopCond(%p)", {"p": "bool[3]"}, ["bool[*]"]),
        ("tf.NoOp()", {}, []),
        ("tf.FakeParam() {dtype = float32, shape = shape[2, ?]}", {}, ["float32[2, ?]"]),
    ],
)
def test_shapes(node: str, parameters: dict[str, str], expected: list[str]) -> None:
    assert types_of(node, **parameters) == expected


def test_a_call_has_the_shapes_it_declares() -> None:
    node = """tf.While(%x) {T = [float32], cond = @c, body = @b, output_shapes = [shape[2, ?]]} : float32[*]"""
    assert types_of(node, x="float32[2, 2]") == ["float32[2, ?]"]
    assert types_of(node.replace("shape[2, ?]", ""), x="float32[2, 2]") == ["float32[*]"]


@pytest.mark.parametrize(
    ("op", "trait"),
    [
        ("Switch", Trait.CONTROL_FLOW),
        ("RefMerge", Trait.CONTROL_FLOW),
        ("PartitionedCall", Trait.CALL),
        ("StatelessWhile", Trait.CALL),
        ("While", Trait.CALL | Trait.STATEFUL),
        ("Assert", Trait.ASSERTION | Trait.STATEFUL),
        ("Print", Trait.ASSERTION | Trait.PASS_THROUGH | Trait.STATEFUL),
        ("_Arg", Trait.SOURCE),
        ("PyFunc", Trait.STATEFUL),
        ("SymbolicGradient", Trait.CALL | Trait.TRAINING),
    ],
)
def test_traits(op: str, trait: Trait) -> None:
    assert traits_of(f"tf.{op}") & trait == trait


def test_stateless_calls_are_not_stateful() -> None:
    for op in ("PartitionedCall", "StatelessIf", "StatelessWhile", "Switch", "Identity"):
        assert not traits_of(f"tf.{op}") & Trait.STATEFUL


def test_traits_are_asked_of_nodes() -> None:
    graph = parse_graph("graph @main(%x: float32[2]) -> (%y) { %y = tf.Identity(%x) }")
    assert has_trait(graph.node("y"), Trait.PASS_THROUGH)
    assert not has_trait(graph.node("x"), Trait.PASS_THROUGH)
