"""What has no builtin form, node by node."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.backends.base import Finding
from graphopt.backends.legalization import Refusal
from graphopt.backends.tflite.adoption import ADOPTED
from graphopt.backends.tflite.options import TFLiteOptions
from graphopt.backends.tflite.table import all_rules
from graphopt.ir.model import Model
from graphopt.ir.value import Node

OTHERWISE = "let it be a Flex operator (--allow-flex) or a custom one (--allow-custom-ops)"


def leftovers(model: Model, refusals: Mapping[Node, Refusal], options: TFLiteOptions) -> list[Finding]:
    """A finding for each node that is still TensorFlow's."""
    known = all_rules().operators()
    found = []
    for graph in model.graphs:
        for node in graph:
            if node.dialect == "tfl" or node.op in ADOPTED:
                continue
            refusal = refusals.get(node)
            if refusal is not None:
                reason, remedy = refusal.reason, refusal.remedy or OTHERWISE
            elif node.op in known:
                reason, remedy = "the rules for it do not apply here", OTHERWISE
            else:
                reason, remedy = "TFLite has no builtin operator for it", OTHERWISE
            found.append(Finding(node.name, node.op, node.source_names, reason, remedy, graph.name))
    return found
