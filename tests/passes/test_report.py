"""Reports: counts, refusals with examples, plain data, and the journal."""

from __future__ import annotations

import json

from graphopt.ir.text import parse_model
from graphopt.passes import PassManager, PassReport, RunReport
from graphopt.passes.report import EXAMPLES, SCHEMA, Rewrite, RewriteLog, journal_lines


def test_a_log_counts_and_keeps_a_few_examples() -> None:
    log = RewriteLog()
    log.count("one")
    log.count("two", 3)
    log.count("one", 2)
    assert (log.rules, log.total) == ({"one": 3, "two": 3}, 6)
    for place in range(10):
        log.refuse("one", f"n{place % 5}", "why not")
    log.refuse("one", "n0", "another reason")
    assert log.refusals[("one", "why not")] == [f"n{place}" for place in range(EXAMPLES)]
    assert log.refusal_counts == {("one", "why not"): 10, ("one", "another reason"): 1}


def test_a_pass_that_ran_again_without_rewrites_adds_its_time() -> None:
    first = PassReport("p", "p", 1.0, {"a": 1}, [{"reason": "old"}], ["note"], 10, 8, 100, 80)
    first.hand_over(PassReport("p", "p", 0.5, {}, [{"reason": "new"}], ["note", "more"], 8, 8, 80, 80))
    assert (first.seconds, first.rules, first.rewrites) == (1.5, {"a": 1}, 1)
    assert (first.refusals, first.notes) == ([{"reason": "new"}], ["note", "more"])
    assert (first.nodes_before, first.nodes_after, first.bytes_before, first.bytes_after) == (10, 8, 100, 80)


def test_a_pass_that_ran_again_with_rewrites_has_a_row_of_its_own() -> None:
    first = PassReport("p", "p", 1.0, {"a": 1}, [{"reason": "old"}], ["note"])
    again = PassReport("p", "p", 0.5, {"b": 2}, [{"reason": "new"}], ["note", "more"])
    first.hand_over(again)
    assert (first.seconds, first.refusals, first.notes) == (1.0, [], ["note"])
    assert (again.seconds, again.refusals, again.notes) == (0.5, [{"reason": "new"}], ["more"])


def test_a_report_is_plain_data_with_a_versioned_schema() -> None:
    model = parse_model(
        "graph @main(%x: float32[2]) -> (%y) {\n%i = tf.Identity(%x)\n%j = tf.Identity(%i)\n%y = tf.Neg(%j)\n}"
    )
    report = PassManager("remove-nodes,simplify", journal=True).run(model)
    plain = report.as_dict()
    assert plain["schema"] == SCHEMA == "graphopt/report/v1"
    assert json.loads(json.dumps(plain)) == plain
    assert [entry["name"] for entry in plain["passes"]] == ["remove-nodes", "simplify"]
    assert plain["passes"][0]["rules"] == {"remove-nodes": 2}
    assert (plain["nodes_before"], plain["nodes_after"]) == (4, 2)
    assert plain["operators_before"] == {"tf.Identity": 2, "tf.Neg": 1, "tf.Placeholder": 1}
    assert plain["verified"] == "structure"
    assert "journal" not in plain
    assert (report.rewrites, RunReport().rewrites) == (2, 0)


def test_the_journal_is_lines_of_json() -> None:
    entries = [Rewrite("p", "r", ("a=tf.Neg",), ("b=tf.Abs",), ("a", "é\n"))]
    (line,) = journal_lines(entries)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line) == {
        "pass": "p", "rule": "r", "removed": ["a=tf.Neg"], "added": ["b=tf.Abs"], "origins": ["a", "é\n"],
    }  # fmt: skip
