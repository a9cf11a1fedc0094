"""`TransformGraph`, as `tensorflow.tools.graph_transforms` had it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphopt.ir.formats.graphdef import graphdef_bytes, read_graphdef
from graphopt.transforms.engine import transform
from graphopt.transforms.grammar import parse_transforms

__all__ = ["TransformGraph"]


def TransformGraph(
    input_graph_def: Any, inputs: Sequence[str], outputs: Sequence[str], transforms: Sequence[str]
) -> Any:
    """Apply `transforms`, each written as for `graphopt transform`, and return a new GraphDef.

    `input_graph_def` is a GraphDef message of any package, and so is the result; it is not changed. `inputs` and
    `outputs` are names of nodes or tensors. Raises `graphopt.UsageError` for transforms that do not exist or are not
    used as they must be, and `graphopt.MalformedError` for a graph that contradicts itself.
    """
    model = read_graphdef(input_graph_def.SerializeToString(), source="input_graph_def")
    requests = parse_transforms(" ".join(_listed(transforms)))
    model, _ = transform(model, _listed(inputs), _listed(outputs), requests)
    return type(input_graph_def).FromString(graphdef_bytes(model))


def _listed(names: Sequence[str]) -> list[str]:
    """A lone string is a list of one."""
    return [names] if isinstance(names, str) else list(names)
