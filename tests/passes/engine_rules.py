"""Small rules, and how the tests of the engine run them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import Editor, Match, PassContext, Rule, apply_rules
from graphopt.testing import assert_contract_kept, assert_equivalent


class AbsOfNeg(Rule):
    """`|-x|` is `|x|`."""

    def pattern(self, tf: Any, x: Any) -> Any:
        return tf.Abs(tf.Neg(x))

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.Abs", match.x)


class DropRelu(Rule):
    """`relu(|x|)` is `|x|`."""

    def pattern(self, tf: Any, x: Any) -> Any:
        return tf.Relu(tf.Abs(x))

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return match.root.input(0)


class Doubled(Rule):
    """`x + x` is `x * 2`."""

    def pattern(self, tf: Any, x: Any) -> Any:
        return tf.AddV2(x, x)

    def rewrite(self, match: Match, edit: Editor) -> Any:
        return edit.value("tf.Mul", match.x, edit.hold(np.array(2, np.float32), "two"))


def run(text: str, *rules: Rule, sound: bool = True, **options: Any) -> tuple[Model, PassContext, int]:
    before = parse_model(text)
    model, context = before.clone(), PassContext(**options)
    done = sum(apply_rules(graph, rules, context) for graph in model.graphs)
    verify(model)
    if sound:
        assert_contract_kept(before, model)
        assert_equivalent(before, model, runtime="reference", exactness="reassociating")
    return model, context, done


def graph(body: str, outputs: str = "%y", head: str = "") -> str:
    return f"graph @main(%x: float32[2, 3]) -> ({outputs}){head} {{\n{body}\n}}"


def reasons(context: PassContext) -> list[str]:
    return [reason for _, reason in context.log.refusals]
