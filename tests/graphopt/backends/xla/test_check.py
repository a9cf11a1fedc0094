"""What `check` says beforehand: each kind of thing that XLA cannot express, with node, origin, reason and remedy."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from graphopt.backends.base import Finding
from graphopt.backends.xla.backend import XlaBackend
from graphopt.ir.infer import infer_model
from graphopt.ir.text import parse_model
from graphopt.testing import text_model

CONSTANT = "%one = tf.Const() {value = int32[] 1}\n"
KINDS = {
    "an operator without a rule": (
        "%y = tf.Dawsn(%x)", "%x: float32[3]", "there is no rule", "fallback",
    ),
    "an operator that XLA has in no form": (
        "%y = tf.Lu(%x)", "%x: float32[3, 3]", "no such decomposition", "outside",
    ),
    "a length that depends on data": (
        "%y = tf.Where(%x)", "%x: bool[3]", "depends on data", "masks",
    ),
    "a shape that depends on data": (
        "%y = tf.Reshape(%x, %s)", "%x: float32[6], %s: int32[2]", "depends on data", "--batch",
    ),
    "an axis that must be a constant": (
        "%y = tf.ConcatV2(%x, %x, %a)", "%x: float32[2, 3], %a: int32[]", "the axis is computed at run", "constant",
    ),
    "a permutation that must be a constant": (
        "%y = tf.Transpose(%x, %p)", "%x: float32[2, 3], %p: int32[2]", "the permutation is computed", "freeze",
    ),
    "a number that must be a constant": (
        "%y = tf.TopKV2(%x, %k)", "%x: float32[5], %k: int32[]", "k is computed at run time", "constant",
    ),
    "a dimension that must be a number": (
        CONSTANT + "%y = tf.Cumsum(%x, %one)", "%x: float32[2, ?]", "not known", "--unknown",
    ),
    "dimensions that may or may not broadcast": (
        "%y = tf.AddV2(%x, %z)", "%x: float32[2, ?], %z: float32[2, ?]", "broadcast", "--unknown",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(refusal: Callable[..., Finding], kind: str) -> None:
    body, inputs, reason, remedy = KINDS[kind]
    finding = refusal(body, inputs)
    assert (finding.node, finding.origins, finding.graph) == ("y", ("y",), "main")
    assert reason in finding.reason
    assert remedy in finding.remedy
    assert finding.operator.startswith("tf.")


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [("%x: string[3]", "'x' is a string, which XLA has not"), ("%x: float32[*]", "the rank of 'x' is not known")],
)
def test_ends_that_do_not_fit(inputs: str, reason: str) -> None:
    findings = XlaBackend().check(text_model("%y = tf.Identity(%x)", inputs))
    assert findings[0].node == "x"
    assert findings[0].reason == reason
    assert findings[0].remedy


def test_all_findings_are_listed_and_what_follows_from_them_is_not() -> None:
    """A node that reads what was refused is no finding of its own."""
    body = "%a = tf.Where(%b)\n%c = tf.Cast(%a) {DstT = float32}\n%d = tf.Dawsn(%x)\n%y = tf.Tanh(%d)"
    findings = XlaBackend().check(text_model(body, "%x: float32[3], %b: bool[3]", "%c, %y"))
    assert [finding.node for finding in findings] == ["a", "d"]


def nested(depth: int) -> Any:
    """A conditional within a conditional, and so on."""
    attributes = "Tcond = bool, Tin = [bool, float32], Tout = [float32]"
    functions = "\n".join(
        f"function @f{place}(%c: bool[], %x: float32[3]) -> (%y) {{\n"
        f"  %y = tf.If(%c, %c, %x) {{then_branch = @f{place + 1}, else_branch = @f{depth}, {attributes}}}\n}}"
        for place in range(depth)
    )
    model = parse_model(
        "graph @main(%c: bool[], %x: float32[3]) -> (%y) {\n"
        f"  %y = tf.If(%c, %c, %x) {{then_branch = @f0, else_branch = @f{depth}, {attributes}}}\n}}\n{functions}\n"
        f"function @f{depth}(%c: bool[], %x: float32[3]) -> (%y) {{ %y = tf.Tanh(%x) }}"
    )
    infer_model(model)
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


def test_deep_nesting_is_a_finding() -> None:
    findings = XlaBackend().check(nested(60))
    assert any("lie more than 40 deep" in finding.reason for finding in findings)
    assert all(finding.remedy for finding in findings)
    assert XlaBackend().check(nested(3)) == []


def test_where_it_was_in_the_source() -> None:
    """Origins outlive rewrites: a node in a function, inlined."""
    model = parse_model(
        "graph @main(%x: float32[3]) -> (%y) {\n  %y = tf.PartitionedCall(%x) {f = @f, Tin = [float32], "
        "Tout = [float32]}\n}\nfunction @f(%a: float32[3]) -> (%b) { %b = tf.Dawsn(%a) }"
    )
    infer_model(model)
    graph = model.graph
    model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    (finding,) = XlaBackend().check(model)
    assert finding.operator == "tf.Dawsn"
    assert any("b" in origin for origin in finding.origins)


def test_on_the_command_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1 and a line, or JSON, for each."""
    import graphopt
    from graphopt.cli.main import main

    path = tmp_path / "model.pb"
    graphopt.save(text_model("%y = tf.Where(%x)", "%x: bool[3]"), path)
    assert main(["check", str(path), "--target", "xla"]) == 1
    assert "'y' (tf.Where): how many elements it yields depends on data" in capsys.readouterr().out
    assert main(["check", str(path), "--target", "xla", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert set(found) == {"node", "operator", "origins", "reason", "remedy", "graph"}


def test_what_stablehlo_does_not_accept_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that builds nonsense is named with its node, and nothing is written."""
    from graphopt.backends.xla.emission import Emission
    from graphopt.backends.xla.operand import Operand
    from graphopt.backends.xla.table import RULES, all_rules

    def nonsense(op: Emission) -> Operand:
        x = op.input(0)
        return op.build.made(op.build.hlo.concatenate([x.value, op.input(1).value], 1), x.dtype, x.dims)

    all_rules()
    monkeypatch.setitem(RULES.functions, "tf.AddV2", nonsense)
    model = text_model("%y = tf.AddV2(%x, %z)", "%x: float32[2, 3], %z: float32[3, 3]", "%y")
    (finding,) = XlaBackend().check(model)
    assert finding.node == "y"
    assert "StableHLO does not accept it" in finding.reason
