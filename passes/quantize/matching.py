"""Which rule of a recipe is for which operator."""

from __future__ import annotations

import re
from collections.abc import Iterable

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model, callees
from graphopt.ir.traversal import reachable
from graphopt.ir.value import Node
from graphopt.passes.quantize.recipe import FLOAT, OperatorRecipe, Recipe, Rule


class RecipeMatcher:
    """A recipe against a model that does not change meanwhile. Raises `UsageError` for signatures it does not have."""

    def __init__(self, recipe: Recipe, model: Model | None):
        self._rules = [_Compiled(rule) for rule in reversed(recipe.rules)]
        self._places = range(len(recipe.rules) - 1, -1, -1)
        self._users: dict[str, dict[Node, None]] = {}
        for name in dict.fromkeys(rule.signature for rule in recipe.rules if rule.signature):
            if model is None or name not in model.signatures:
                raise UsageError(f"a rule is for signature '{printable(name)}', which the model does not have")
            self._users[name] = _nodes_of_signature(model, name)

    def for_node(self, node: Node) -> OperatorRecipe:
        """How `node` is quantized; float where no rule matches."""
        place = self.rule_for(node)
        return FLOAT if place is None else self._rules[len(self._rules) - 1 - place].recipe

    def rule_for(self, node: Node) -> int | None:
        """The place, in the recipe's order, of the rule that decides for `node`; None where none matches."""
        for place, rule in zip(self._places, self._rules, strict=True):
            signature = rule.rule.signature
            if rule.matches(node) and (not signature or node in self._users[signature]):
                return place
        return None


class _Compiled:
    __slots__ = ("layers", "operators", "recipe", "rule", "subgraph")

    def __init__(self, rule: Rule):
        self.rule, self.recipe = rule, rule.recipe
        self.operators = frozenset(rule.operators)
        self.layers = re.compile(rule.layers).search if rule.layers else None
        self.subgraph = re.compile(rule.subgraph).search if rule.subgraph else None

    def matches(self, node: Node) -> bool:
        if self.operators and node.op not in self.operators and node.op_type not in self.operators:
            return False
        if self.subgraph is not None:
            graph = node.graph
            if not self.subgraph(graph.name if isinstance(graph, Function) else ""):
                return False
        return self.layers is None or any(map(self.layers, _names(node)))


def _names(node: Node) -> Iterable[str]:
    yield from node.source_names
    yield node.name
    for value in node.outputs:
        yield value.name


def _nodes_of_signature(model: Model, name: str) -> dict[Node, None]:
    """Everything that a signature's outputs depend on, in its graph and in the functions called from there."""
    signature = model.signatures[name]
    found = reachable(value.node for value in signature.output_values().values())
    entered: dict[Graph, None] = {signature.graph: None}
    pending = list(found)
    while pending:
        for callee in callees(pending.pop()):
            function = model.functions.get(callee)
            if function is not None and function not in entered:
                entered[function] = None
                found.update(dict.fromkeys(function))
                pending.extend(function)
    return found
