"""What has no builtin form, node by node: why, and what helps."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.backends.base import Finding
from graphopt.backends.legalization import Refusal
from graphopt.backends.tflite.flex import is_flex_operator, refers_to_functions
from graphopt.backends.tflite.options import TFLiteOptions
from graphopt.backends.tflite.passthrough import has_stored_types, leftover_nodes
from graphopt.backends.tflite.table import all_rules
from graphopt.ir.model import Model
from graphopt.ir.ops import find
from graphopt.ir.types import COMPLEX128, FLOAT64
from graphopt.ir.value import Node, Value

FLEX = "let it be a Flex operator, which TensorFlow's kernels run (--allow-flex)"
CUSTOM = "let it be a custom operator, which the application registers (--allow-custom-ops)"
# What operators are for whose names begin or end so, and what helps instead.
_PURPOSES = (
    (
        ("Apply", "ResourceApply", "SparseApply", "ResourceSparseApply"), ("Grad", "GradV2", "GradV3"),
        "it belongs to training", "name the outputs of inference (--outputs), or export the model for inference",
    ),
    (
        ("Iterator", "MakeIterator", "OneShotIterator", "ParseExample", "ParseSingleExample", "Decode"), ("Dataset",),
        "it belongs to a pipeline of inputs", "name what it yields as an input (--inputs)",
    ),
    (
        ("Save", "Restore", "MergeV2Checkpoints", "ShardedFilename"), ("Summary",),
        "it saves, restores or logs", "name the outputs of inference (--outputs)",
    ),
)  # fmt: skip


def leftovers(model: Model, refusals: Mapping[Node, Refusal], options: TFLiteOptions) -> list[Finding]:
    """A finding for each node that is still TensorFlow's."""
    found = []
    for graph in model.graphs:
        for node in leftover_nodes(graph):
            refusal = refusals.get(node) or _refusal(node)
            remedy = refusal.remedy or _types(node)
            flag = "" if "--allow-" in remedy else _flag(node, options)
            remedies = [text for text in (remedy, flag) if text]
            found.append(
                Finding(node.name, node.op, node.source_names, refusal.reason, ", or ".join(remedies), graph.name)
            )
    return found


def _refusal(node: Node) -> Refusal:
    """Why a node was left that no rule said anything about."""
    for beginnings, ends, reason, remedy in _PURPOSES:
        if node.op_type.startswith(beginnings) or node.op_type.endswith(ends):
            return Refusal(reason, remedy)
    if any(value.dtype.is_handle for value in _operands(node)):
        return Refusal("it works on a resource that TFLite has no form for", "")
    if node.op in all_rules().operators():
        if any(value.shape.dims is None for value in _operands(node)):
            return Refusal("the rank of an operand is not known", "give the inputs shapes (set-shapes)")
        return Refusal("the rules for it do not apply here", "")
    if find(node.op) is None:
        return Refusal("TensorFlow has no operator of this name", "")
    return Refusal("TFLite has no builtin operator for it", "")


def _types(node: Node) -> str:
    """What helps where LiteRT computes with other types."""
    wide = any(value.dtype in (FLOAT64, COMPLEX128) for value in _operands(node))
    return "build the model in float32" if wide else ""


def _operands(node: Node) -> list[Value]:
    return [value for value in (*node.inputs, *node.outputs) if value is not None]


def _flag(node: Node, options: TFLiteOptions) -> str:
    """What would let the node through that was not allowed yet; nothing where nothing would."""
    if not has_stored_types(node) or refers_to_functions(node):
        return ""
    if not options.allow_flex and is_flex_operator(node.op_type):
        return FLEX
    return CUSTOM if not options.allow_custom_ops else ""
