"""Graphs as text for the tests of fold-batch-norms."""

from __future__ import annotations

from typing import Any

from graphopt.ir.infer import infer_model
from graphopt.ir.text import parse_model, print_model
from graphopt.passes.report import PassReport
from graphopt.testing import check_pass

WEIGHTS = "%w = tf.Const() {value = float32[1, 1, 2, 2] [1.0, 2.0, -3.0, 0.5]}"
CONV = '%conv = tf.Conv2D(%x, %w) {strides = [1, 1, 1, 1], padding = b"VALID"}'
NORM = """
    %gamma = tf.Const() {value = float32[2] [3.0, 4.0]}
    %beta = tf.Const() {value = float32[2] [5.0, 6.0]}
    %mean = tf.Const() {value = float32[2] [1.0, -2.0]}
    %variance = tf.Const() {value = float32[2] [3.0, 15.0]}
"""
PARAMETERS = "%gamma, %beta, %mean, %variance"
INFERENCE = "is_training = false, epsilon = 1.0"


def graph(body: str, outputs: str = "%y", shape: str = "2, 3, 3, 2", dtype: str = "float32") -> str:
    """The text of a graph of one input `%x`, with all types inferred."""
    return inferred(f"graph @main(%x: {dtype}[{shape}]) -> ({outputs}) {{\n{body}\n}}")


def inferred(text: str) -> str:
    model = parse_model(text)
    infer_model(model)
    return print_model(model, elide=None)


def reasons(report: PassReport) -> list[str]:
    return [entry["reason"] for entry in report.refusals]


def refuse(body: str, outputs: str = "%y", **options: Any) -> list[str]:
    """The reasons for which nothing was folded into any weights."""
    _, report = check_pass("fold-batch-norms", graph(body, outputs), **options)
    assert not report.rules
    return reasons(report)
