"""The driver of the rewrite engine: finds where rules (`rule.py`) match, has what matched replaced (`replacement.py`).

The engine, not the rule, guarantees that

- no intermediate that something else reads is removed, and no output, input, target or name of theirs is lost;
- no tensor is edited in place, so shared weights stay as they are for their other readers;
- control dependencies of removed nodes pass to what replaces them;
- replacements have the element type, and no other shape than, the value they replace;
- the number of rewrites is bounded, and rules that undo each other are reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import ClassVar

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.value import WIDE, Node
from graphopt.passes.base import Pass, PassContext, PassError
from graphopt.passes.matcher import Match, Trace, match_node, required_operators
from graphopt.passes.patterns import Pattern, build_pattern, root_operators
from graphopt.passes.removal import remove_dead
from graphopt.passes.replacement import as_outputs, check_values, replace_root
from graphopt.passes.rule import Editor, Rule
from graphopt.passes.soundness import contradiction

REWRITES_PER_NODE = 8  # rewrites beyond this many for each node of the graph mean that rules undo each other
REWRITES_AT_LEAST = 1000


IndexedRule = tuple[Rule, Pattern, tuple[tuple[frozenset[str], ...], ...]]
RuleIndex = Mapping[str, Sequence[IndexedRule]]


def apply_rules(graph: Graph, rules: Sequence[Rule] | RuleIndex, context: PassContext) -> int:
    """Apply `rules` until none matches any more; returns the number of rewrites.

    Rules for many graphs are best indexed once (`rule_index`). Raises `PassError` naming the rules if they do not come
    to an end.
    """
    index = rules if isinstance(rules, Mapping) else rule_index(rules)
    queue = deque(node for node in graph if node.op in index)
    queued = dict.fromkeys(queue)
    bound = REWRITES_AT_LEAST + REWRITES_PER_NODE * len(graph)
    counts: dict[str, int] = {}
    done = 0
    while queue:
        node = queue.popleft()
        del queued[node]
        if node.graph is not graph:
            continue
        rule, affected = _apply_first(node, index.get(node.op, ()), context)
        if rule is None:
            continue
        done += 1
        counts[rule.name] = counts.get(rule.name, 0) + 1
        if done > bound:
            busiest = ", ".join(sorted(counts, key=lambda name: -counts[name])[:3])
            raise PassError(f"rewriting does not end: {done} rewrites of {len(graph)} nodes; busiest rules: {busiest}")
        for other in affected:
            if other.op in index and other not in queued and other.graph is graph:
                queued[other] = None
                queue.append(other)
    return done


def rule_index(rules: Sequence[Rule]) -> RuleIndex:
    """Root operator -> rules with their patterns, in the order of `rules`."""
    index: dict[str, list[IndexedRule]] = {}
    for rule in rules:
        pattern = build_pattern(rule.pattern)
        required = required_operators(pattern)
        for op in dict.fromkeys(root_operators(pattern)):
            index.setdefault(op, []).append((rule, pattern, required))
    return index


def _may_match(required: tuple[tuple[frozenset[str], ...], ...], producers: Sequence[str]) -> bool:
    """Some alternative finds each of its operators among the producers of the inputs."""
    for alternative in required:
        for operators in alternative:
            for producer in producers:
                if producer in operators:
                    break
            else:
                break
        else:
            return True
    return False


def _apply_first(node: Node, rules: Sequence[IndexedRule], context: PassContext) -> tuple[Rule | None, list[Node]]:
    producers = [value.node.op for value in node._inputs if value is not None] if len(node._inputs) <= WIDE else None
    for rule, pattern, required in rules:
        if producers is not None and not _may_match(required, producers):
            continue
        match = match_node(pattern, node)
        if match is None:
            continue
        grown = _checked(rule, match)
        if grown is None:
            continue
        if isinstance(grown, str):
            context.refused(rule.name, node, grown)
        elif rule.fast_math and not context.fast_math:
            context.refused(rule.name, node, "it may lose NaN and Inf, and fast math was not asked for")
        elif context.allows(rule.name, rule.exactness):
            affected = _rewrite(rule, grown, context)
            if affected is not None:
                return rule, affected
    return None, []


def _checked(rule: Rule, match: Match) -> Match | str | None:
    """The match with all that the rule takes in, why the rule must leave it alone, or None: no match after all."""
    try:
        grown = rule.grow(match)
        reason = refusal(rule, grown) if isinstance(grown, Match) else None
    except Exception as error:
        return _excuse(error, match)
    return grown if reason is None else reason


def _excuse(error: Exception, match: Match) -> str:
    """Why a rule failed through no fault of its own. Raises `error` again where it was at fault."""
    reason = None if isinstance(error, MemoryError) else contradiction(match.nodes)
    if reason is None:
        raise error
    return f"what it matches contradicts itself: {reason}"


def refusal(rule: Rule, match: Match) -> str | None:
    """Why `rule` must leave `match` alone, or None."""
    if not rule.keeps_interior:
        matched = dict.fromkeys(match.nodes)
        for node in match.interior:
            if any(value.is_output or value.is_input for value in node.outputs):
                return f"'{printable(node.name)}' is an input or output of the graph"
            for user in node.successors():
                if user not in matched:
                    return f"'{printable(node.name)}' is also read by '{printable(user.name)}'"
    return rule.check(match)


def explain(rule: Rule, node: Node) -> str:
    """One sentence on what `rule` makes of `node`: it applies, it refuses, or how far it matched."""
    best: list[tuple[int, str]] = []
    trace: Trace = lambda depth, reason: best.append((depth, reason))  # noqa: E731
    match = match_node(build_pattern(rule.pattern), node, trace)
    if match is None:
        return "does not match: " + (max(best, key=lambda item: item[0])[1] if best else "other operator")
    grown = rule.grow(match)
    if grown is None:
        return "does not match: what surrounds the pattern is not what the rule is for"
    reason = grown if isinstance(grown, str) else refusal(rule, grown)
    return "applies" if reason is None else f"refuses: {reason}"


def _rewrite(rule: Rule, match: Match, context: PassContext) -> list[Node] | None:
    """Replace the match; returns nodes worth another look, or None if the rule left it after all."""
    root, graph = match.root, match.graph
    name = root.name
    removed = tuple(match.nodes)
    edit = Editor(match)
    try:
        values = as_outputs(rule, root, rule.rewrite(match, edit))
        check_values(rule, root, values or ())
    except Exception as error:
        edit.discard()
        context.refused(rule.name, root, _excuse(error, match))
        return None
    if values is None:
        edit.discard()
        return None
    producers = tuple(root.predecessors())
    reason = replace_root(root, match, values, edit)
    if reason is not None:
        edit.discard()
        context.refused(rule.name, root, reason)
        return None
    affected: dict[Node, None] = {}
    for node in edit.created:
        affected[node] = None
    for value in values:
        if value is not None:
            affected.update(dict.fromkeys(value.users))
            affected[value.node] = None
    if not root.has_uses:
        graph.remove(root)  # even one with effects: replacing it is what the rule is for
        root._name = name  # as the journal knows it; its replacement has the name now
    affected.update(dict.fromkeys(remove_dead(graph, (*match.interior, *producers))))
    edit.keep_variables()
    edit.claim_names()
    context.rewrote(rule.name, removed, tuple(node for node in edit.created if node.graph is graph))
    return list(affected)


class RewritePass(Pass):
    """A pass that is a set of rules, applied until none matches. One that does more overrides `run`."""

    rules: ClassVar[tuple[type[Rule], ...]] = ()

    def make_rules(self) -> Sequence[Rule]:
        """The rules of this pass, configured by its options."""
        return [rule() for rule in self.rules]

    def run(self, model: Model, context: PassContext) -> None:
        """Apply the rules to every graph. Their patterns are built once: a model may have thousands of functions."""
        index = rule_index(self.make_rules())
        for graph in model.graphs:
            apply_rules(graph, index, context)
