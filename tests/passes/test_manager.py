"""The pass manager: order, rounds, verification, numeric checks that name the rewrite at fault, journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from graphopt.ir import CheckError, UsageError, VerificationError
from graphopt.ir.errors import ResourceError
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.tensors import tensor
from graphopt.ir.text import parse_model, print_model
from graphopt.passes import (
    Exactness,
    Pass,
    PassContext,
    PassError,
    PassManager,
    RewritePass,
    Rule,
    preset,
    register_pass,
    run_pass,
)
from graphopt.passes.cleanup.simplify import Simplify
from graphopt.passes.cleanup.sort import Sort
from graphopt.passes.manager import operator_counts, resolve_pipeline
from graphopt.runtimes.base import get_runtime
from graphopt.testing import difference, random_feeds

TEXT = """
graph @main(%x: float32[2, 3]) -> (%y) {
  %one = tf.Const() {value = float32[] 1.0}
  %c = tf.Const() {value = float32[3] [1.0, 2.0, 3.0]}
  %a = tf.Mul(%x, %one)
  %i = tf.Identity(%a)
  %s = tf.Sub(%i, %c)
  %t = tf.Tanh(%s)
  %u = tf.Sub(%t, %i)
  %dead = tf.Exp(%u)
  %y = tf.Relu(%u)
}
"""


@pytest.fixture
def model() -> Model:
    return parse_model(TEXT)


def compare(before: Model, after: Model, exactness: Exactness) -> str | None:
    runtime = get_runtime("reference")
    feeds = random_feeds(before, 5)
    return difference(runtime.run(before, feeds), runtime.run(after, feeds), exactness)


# Pipelines ----------------------------------------------------------------------------------------------------


def test_a_pipeline_is_text_a_preset_passes_or_a_mixture() -> None:
    assert resolve_pipeline("cleanup") == preset("cleanup")
    assert resolve_pipeline(Sort()) == (Sort(),)
    assert resolve_pipeline(["sort,simplify", Sort(canonical=True)]) == (Sort(), Simplify(), Sort(canonical=True))
    edited = [item for item in preset("inference") if item.name != "inline-functions"]
    assert PassManager(edited).pipeline == tuple(edited)
    with pytest.raises(UsageError, match="there is no pipeline 'inferenc'; did you mean 'inference'"):
        preset("inferenc")


def test_passes_run_in_order_and_report_sizes(model: Model) -> None:
    heard: list[tuple[int, int, str]] = []
    manager = PassManager("strip-unused,remove-nodes,simplify", progress=lambda *news: heard.append(news))
    report = manager.run(model)
    assert heard == [(0, 3, "strip-unused"), (1, 3, "remove-nodes"), (2, 3, "simplify")]
    sizes = [(entry.name, entry.nodes_before, entry.nodes_after) for entry in report.passes]
    assert sizes[:2] == [("strip-unused", 10, 9), ("remove-nodes", 9, 8)]
    assert report.passes[2].rules == {"multiply-by-one": 1, "subtract-constant": 1}
    assert (report.nodes_before, report.nodes_after) == (10, model.node_count)
    assert report.operators_after == operator_counts(model)
    assert report.passes[0].bytes_before == report.bytes_before == 16
    assert report.bytes_after == 12


def test_what_is_spelled_out_runs_once_and_presets_until_nothing_is_left(model: Model) -> None:
    again = "%z = tf.Neg(%u)\n  %zz = tf.Neg(%z)\n  %o = tf.Mul(%zz, %one)\n  %y = tf.Relu(%o)"
    source = parse_model(TEXT.replace("%y = tf.Relu(%u)", again))
    one = source.clone()
    PassManager("cleanup").run(one)
    report = PassManager("cleanup").run(one)
    assert report.rewrites == 0
    assert report.notes == []
    twice = source.clone()
    PassManager(preset("cleanup"), rounds=8).run(twice)
    assert print_model(twice) == print_model(one)
    short = PassManager("simplify,remove-nodes", rounds=1).run(source)
    assert [entry.name for entry in short.passes] == ["simplify", "remove-nodes"]


def test_passes_that_never_agree_are_noted(model: Model) -> None:
    @dataclass(frozen=True)
    class Busy(Pass):
        """Claims to have changed something."""

        def run_graph(self, graph: Graph, context: PassContext) -> None:
            context.rewrote("busy")

    report = PassManager([Busy(), Sort(), Busy()], rounds=3).run(model)
    assert report.notes == ["2 passes might find more to do after 3 rounds"]
    assert [entry.name for entry in report.passes] == ["busy", "sort", "busy", "busy", "busy"]


# Failures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sabotage(Pass):
    """Does harm in the way that `how` says."""

    how: str = "nothing"

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        if self.how == "raise":
            raise ZeroDivisionError("one over none")
        if self.how == "resource":
            raise ResourceError("too much", node="n")
        if self.how == "refuse":
            raise PassError("I give up")
        if self.how == "break":
            graph.node("t")._inputs = (graph.node("y").output,)
        if self.how == "dtype":
            graph.node("t").attrs["T"] = tensor([1]).dtype
        if self.how == "quiet":
            graph.node("t")._inputs = (graph.node("y").output,)
            return
        context.rewrote("sabotage")


@pytest.mark.parametrize(
    ("how", "error", "reason"),
    [
        ("raise", PassError, "ZeroDivisionError: one over none"),
        ("refuse", PassError, "I give up"),
        ("break", VerificationError, "the graph breaks"),
        ("dtype", VerificationError, "'t'"),
    ],
)
def test_a_failure_names_the_pass_those_before_it_and_how_to_see_it_again(
    model: Model, how: str, error: type[Exception], reason: str
) -> None:
    manager = PassManager(["remove-nodes,sort{canonical}", Sabotage(how), "simplify"])
    with pytest.raises(error) as caught:
        manager.run(model)
    message = str(caught.value)
    assert message.startswith("pass 'sabotage' failed: ")
    assert reason in message
    assert "(passes before it: remove-nodes, sort; reproduce with `graphopt optimize MODEL -o OUT --passes " in message
    assert f"'remove-nodes,sort{{canonical=true}},sabotage{{how={how}}}'`)" in message
    assert type(caught.value) is error


def test_errors_of_the_input_stay_what_they_are(model: Model) -> None:
    with pytest.raises(ResourceError, match="node 'n': too much"):
        run_pass(model, Sabotage("resource"))


def test_verification_can_be_left_out(model: Model) -> None:
    report = PassManager(Sabotage("dtype"), verify_each=False).run(model)
    assert report.verified == "off"


def test_a_broken_source_is_told_from_a_broken_pass(model: Model) -> None:
    model.graph.node("t").attrs["T"] = tensor([1]).dtype
    report = PassManager("remove-nodes").run(model)
    assert report.notes[0].startswith("the model contradicts itself: node 't' (tf.Tanh)")
    model.graph.node("t")._inputs = (model.graph.node("y").output,)
    with pytest.raises(VerificationError):
        PassManager("remove-nodes").run(model)


# Numeric checks -----------------------------------------------------------------------------------------------


class SubtractSwapped(Rule):
    """Wrong on purpose: `x - y` is `y - x`, for the operands it is told."""

    def pattern(self, tf: Any, x: Any, y: Any) -> Any:
        return tf.Sub(x, y)

    def check(self, match: Any) -> str | None:
        return "already done" if match.root.device else None

    def rewrite(self, match: Any, edit: Any) -> Any:
        swapped = edit.node("tf.Sub", [match.y, match.x])
        swapped.device = "/done"
        return swapped.output


class TanhTwice(Rule):
    """Right, and there to be told apart."""

    def pattern(self, tf: Any, x: Any) -> Any:
        return tf.Relu(x)

    def check(self, match: Any) -> str | None:
        return "already done" if match.root.device else None

    def rewrite(self, match: Any, edit: Any) -> Any:
        again = edit.node("tf.Relu", [match.x])
        again.device = "/done"
        return again.output


@dataclass(frozen=True)
class Wrong(RewritePass):
    """A pass with one wrong rule among right ones."""

    rules: ClassVar[tuple[type[Rule], ...]] = (TanhTwice, SubtractSwapped)


CHAIN = "graph @main(%x: float32[2, 3]) -> (%y) {{\n{}\n%y = tf.Relu(%n{})\n}}"


@pytest.mark.parametrize("guilty", [0, 1, 7, 19])
def test_the_first_wrong_rewrite_is_named(guilty: int) -> None:
    lines = ["%c = tf.Const() {value = float32[3] [1.0, 2.0, 3.0]}", "%n0 = tf.Tanh(%x)"]
    for place in range(20):
        op = "tf.Sub(%n{}, %c)" if place == guilty else "tf.Relu(%n{})"
        lines.append(f"%n{place + 1} = {op.format(place)}")
    source = parse_model(CHAIN.format("\n".join(lines), 20))
    manager = PassManager(["sort", Wrong(), "simplify"], compare=compare)
    with pytest.raises(CheckError) as caught:
        manager.run(source)
    message = str(caught.value)
    assert message.startswith("pass 'wrong' failed: the outputs changed: output 'y' differs at [")
    name = f"n{guilty + 1}=tf.Sub"
    assert f"first wrong at rewrite {guilty + 1}, rule 'subtract-swapped': {name} became {name}" in message
    assert "(passes before it: sort; reproduce with" in message


def test_right_passes_pass_the_numeric_check(model: Model) -> None:
    asked: list[Exactness] = []

    def listening(before: Model, after: Model, exactness: Exactness) -> str | None:
        asked.append(exactness)
        return compare(before, after, exactness)

    report = PassManager("cleanup", compare=listening).run(model)
    assert report.verified == "numeric"
    assert Exactness.REASSOCIATING in asked
    assert Exactness.EXACT in asked
    assert len(asked) < 30


def test_a_pass_that_changed_nothing_is_not_compared(model: Model) -> None:
    def never(before: Model, after: Model, exactness: Exactness) -> str | None:
        raise AssertionError

    PassManager("sort", compare=never).run(model)


def test_a_wrong_edit_without_rules_is_named_by_its_pass(model: Model) -> None:
    @dataclass(frozen=True)
    class Spoil(Pass):
        """Writes another constant."""

        def run_graph(self, graph: Graph, context: PassContext) -> None:
            graph.node("c").attrs["value"] = tensor(np.array([9, -2, 0], np.float32))
            context.rewrote(self.name)

    with pytest.raises(
        CheckError, match=r"pass 'spoil' failed: .*first wrong at rewrite 1, rule 'spoil': nothing became"
    ):
        PassManager(Spoil(), compare=compare).run(model)


# Journal, options, limits -------------------------------------------------------------------------------------


def test_the_journal_names_rules_nodes_and_origins(model: Model) -> None:
    report = PassManager("remove-nodes,simplify", journal=True).run(model)
    assert report.journal is not None
    entries = [(entry.pass_name, entry.rule, entry.removed, entry.added) for entry in report.journal]
    assert entries[0] == ("remove-nodes", "remove-nodes", ("i=tf.Identity",), ())
    assert ("simplify", "multiply-by-one", ("a=tf.Mul",), ()) in entries
    assert ("simplify", "subtract-constant", ("s=tf.Sub",), ("s/negated=tf.Const", "s=tf.AddV2")) in entries
    assert report.journal[-1].origins[0] in ("a", "s")
    assert len(report.journal) == report.rewrites
    assert PassManager("simplify").run(parse_model(TEXT)).journal is None


def test_options_reach_the_passes(model: Model) -> None:
    seen: list[PassContext] = []

    @dataclass(frozen=True)
    class Look(Pass):
        """Looks."""

        def run(self, model: Model, context: PassContext) -> None:
            seen.append(context)

    run_pass(model, Look(), exactness=Exactness.EXACT, fast_math=True, max_constant_bytes=7)
    (context,) = seen
    assert (context.exactness, context.fast_math, context.max_constant_bytes) == (Exactness.EXACT, True, 7)
    assert (context.limit, context.pass_name) == (None, "look")


PASSES: Sequence[str] = (
    "strip-unused", "remove-nodes", "simplify", "fold-constants", "merge-duplicates", "prune-control-dependencies",
    "sort",
)  # fmt: skip


@pytest.mark.parametrize("name", PASSES)
def test_a_limit_of_none_at_all_changes_nothing(name: str, model: Model) -> None:
    from graphopt.passes import parse_pipeline

    before = print_model(model)
    (item,) = parse_pipeline(name)
    item.run(model, PassContext(limit=0))
    assert print_model(model) == before


def test_colocation_with_what_is_gone_is_dropped(model: Model) -> None:
    model.graph.node("t").attrs["_class"] = (b"loc:@i", b"loc:@y", b"other")
    model.graph.node("u").attrs["_class"] = (b"loc:@i",)
    run_pass(model, "remove-nodes")
    assert model.graph.node("t").attrs["_class"] == (b"loc:@y", b"other")
    assert "_class" not in model.graph.node("u").attrs


def test_a_name_of_a_pass_defined_elsewhere_is_understood(monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    from graphopt.passes import catalog

    monkeypatch.setattr(catalog, "_REGISTERED", {})
    register_pass(Wrong)
    assert PassManager("sort,wrong").pipeline == (Sort(), Wrong())
