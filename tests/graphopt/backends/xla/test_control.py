"""Branches, loops and lists."""

from __future__ import annotations

import numpy as np

from graphopt.ir.infer import infer_model
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.testing.lowering import assert_lowers

BRANCHES = """
function @double(%a: float32[3]) -> (%b) {
  %two = tf.Const() {value = float32[] 2.0}
  %b = tf.Mul(%a, %two)
}
function @bend(%a: float32[3]) -> (%b) { %b = tf.Tanh(%a) }
"""


def model_of(text: str) -> Model:
    """The model in `text`, with types and a signature of its inputs and outputs."""
    model = parse_model(text)
    infer_model(model)
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


def test_a_conditional() -> None:
    model = model_of(
        "graph @main(%c: bool[], %x: float32[3]) -> (%y) {\n"
        "  %y = tf.StatelessIf(%c, %x) {then_branch = @double, else_branch = @bend, Tcond = bool, "
        f"Tin = [float32], Tout = [float32]}}\n}}{BRANCHES}"
    )
    data = {"c": np.array([True, False]), "x": np.array([[1.0, 2.0, 3.0]] * 2, np.float32)}
    assert_lowers(model, target="xla", reference="reference", data=data, fallback=False)


def test_a_loop_reads_what_it_does_not_change() -> None:
    model = model_of(
        """graph @main(%n: int32[], %x: float32[3], %w: float32[3]) -> (%r) {
  %zero = tf.Const() {value = int32[] 0}
  %loop = tf.StatelessWhile(%zero, %x, %w, %n) {
    cond = @cond, body = @body, T = [int32, float32, float32, int32]}
  %r = tf.Identity(%loop:1)
}
function @cond(%i: int32[], %y: float32[3], %w: float32[3], %n: int32[]) -> (%b) { %b = tf.Less(%i, %n) }
function @body(%i: int32[], %y: float32[3], %w: float32[3], %n: int32[]) -> (%j, %z, %w, %n) {
  %one = tf.Const() {value = int32[] 1}
  %j = tf.AddV2(%i, %one)
  %s = tf.Mul(%y, %w)
  %z = tf.Tanh(%s)
}"""
    )
    data = {"n": np.array([0, 4], np.int32), "x": np.ones((2, 3), np.float32), "w": np.full((2, 3), 0.7, np.float32)}
    assert_lowers(model, target="xla", reference="reference", data=data, fallback=False)
