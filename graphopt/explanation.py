"""Why a rule does what it does to a model: where it applies, where it refuses, and how far it matched elsewhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.infer import infer_model
from graphopt.ir.model import Model
from graphopt.ir.value import Node
from graphopt.names import close_names
from graphopt.passes.base import Exactness, Pass, PassContext
from graphopt.passes.catalog import find_pass, pass_names
from graphopt.passes.patterns import build_pattern, root_operators
from graphopt.passes.report import RewriteLog
from graphopt.passes.rewriter import explain
from graphopt.passes.rule import Rule

SCHEMA = "graphopt/why/v1"
EXAMPLES = 5  # nodes named for each verdict


@dataclass
class Verdict:
    """What one rule makes of some nodes: the same sentence for all of them."""

    rule: str
    text: str
    count: int
    nodes: list[str] = field(default_factory=list)


def as_dict(verdicts: list[Verdict]) -> dict[str, Any]:
    """Plain data for JSON, with its versioned schema name."""
    return {"schema": SCHEMA, "verdicts": [asdict(verdict) for verdict in verdicts]}


def why(model: Model, name: str, node: str | None = None) -> list[Verdict]:
    """What the rule `name`, or every rule of the pass `name`, makes of `model`, or of one node of it.

    Types are inferred first, which changes `model`. Raises `UsageError` for a rule, pass or node there is not.
    """
    infer_model(model)
    owner, rules = _find(name)
    if rules:
        nodes = [_node(model, node)] if node is not None else [n for graph in model.graphs for n in graph]
        return _explained(rules, nodes, node is not None)
    assert owner is not None
    return _tried(model, owner, node)


def _find(name: str) -> tuple[type[Pass] | None, list[Rule]]:
    """The pass called so with its rules, or one rule of any pass."""
    if name in pass_names():
        cls = find_pass(name)
        return cls, list(cls().make_rules())
    known: dict[str, Rule] = {}
    for pass_name in pass_names():
        cls = find_pass(pass_name)
        known.update((rule.name, rule) for rule in cls().make_rules())
    if name not in known:
        hint = close_names(name, (*known, *pass_names())) or "; `graphopt passes` lists the passes"
        raise UsageError(f"there is no rule or pass '{printable(name)}'{hint}")
    return None, [known[name]]


def _node(model: Model, name: str) -> Node:
    for graph in model.graphs:
        found = graph.find(name.removesuffix(":0"))
        if found is not None:
            return found
    hint = close_names(name, [node.name for graph in model.graphs for node in graph])
    raise UsageError(f"there is no node '{printable(name)}' in the model{hint}")


def _explained(rules: list[Rule], nodes: list[Node], everything: bool) -> list[Verdict]:
    """What each rule says at each node that has an operator it starts from."""
    verdicts: dict[tuple[str, str], Verdict] = {}
    for rule in rules:
        operators = dict.fromkeys(root_operators(build_pattern(rule.pattern)))
        for node in nodes:
            if everything or node.op in operators:
                _count(verdicts, rule.name, explain(rule, node), node.name)
        if not any(key[0] == rule.name for key in verdicts):
            listed = ", ".join(op.partition(".")[2] for op in operators)
            verdicts[rule.name, ""] = Verdict(rule.name, f"no node is a {listed}", 0)
    return list(verdicts.values())


def _tried(model: Model, cls: type[Pass], node: str | None) -> list[Verdict]:
    """What a pass without rules to ask does when it runs, from its log."""
    wanted = None if node is None else _node(model, node).name
    context = PassContext(exactness=Exactness.APPROXIMATE, log=RewriteLog([]), pass_name=cls.name)
    cls().run(model, context)
    verdicts: dict[tuple[str, str], Verdict] = {}
    for entry in context.log.journal or ():
        names = [removed.partition("=")[0] for removed in entry.removed] or list(entry.origins)
        for name in names:
            if wanted is None or name == wanted:
                _count(verdicts, entry.rule, "applies", name)
    for (rule, reason), examples in context.log.refusals.items():
        if wanted is None or wanted in examples:
            verdicts[rule, reason] = Verdict(
                rule, f"refuses: {reason}", context.log.refusal_counts[rule, reason], examples
            )
    return list(verdicts.values()) or [Verdict(cls.name, "leaves it as it is" if wanted else "changes nothing", 0)]


def _count(verdicts: dict[tuple[str, str], Verdict], rule: str, text: str, node: str) -> None:
    verdict = verdicts.setdefault((rule, text), Verdict(rule, text, 0))
    verdict.count += 1
    if len(verdict.nodes) < EXAMPLES:
        verdict.nodes.append(node)
