"""Signatures: each its own subgraph, equal ones the same; weights are shared by all."""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape

from graphopt.backends.tflite.composites import fuse_composites
from graphopt.freezing import freeze_model, select_signature
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.graph import Graph
from graphopt.ir.model import Function, Model, Signature, copy_nodes
from graphopt.passes.freeze.selection import variable_nodes
from graphopt.passes.manager import PassManager


def signature_model(model: Model, group: Sequence[str], whole: bool, changed: Sequence[str] = ()) -> Model:
    """A frozen copy of the model with the first signature of `group` alone, which the others are names of.

    `whole` says that the model has no other; variables that are `changed` stay variables. Raises `UnsupportedError` as
    `freeze_model` does.
    """
    part = model.clone()
    fuse_composites(part)
    name = None if whole and len(part.signatures) == 1 else group[0]
    freeze_model(part, signature=name, exceptions=_exceptions(part, group[0], changed))
    first = part.signatures[group[0]]
    part.signatures = dict.fromkeys(group, first)
    return part


def _exceptions(part: Model, signature: str, changed: Sequence[str]) -> list[str]:
    """Patterns of those variables that are `changed` and that the signature needs."""
    if not changed:
        return []
    needed = part.clone()
    select_signature(needed, signature)
    PassManager("strip-unused,remove-unused-functions", verify_each=False).run(needed)
    there = variable_nodes(needed)
    return [escape(name) for name in changed if name in there]


def join(parts: Sequence[Model]) -> Model:
    """One model of several: the graph of the first is the main one, those of the others become functions."""
    model = parts[0]
    for part in parts[1:]:
        renamed = {name: model.unique_function_name(name) for name in part.functions}
        for function in list(part.functions.values()):
            function.name = renamed[function.name]
            _redirect(function, renamed)
            model.add_function(function)
        _redirect(part.graph, renamed)
        name = model.unique_function_name(next(iter(part.signatures)))
        body = _as_function(part.graph, name)
        model.add_function(body)
        for key, signature in part.signatures.items():
            model.signatures[key] = Signature(body, dict(signature.inputs), dict(signature.outputs))
    return model


def _as_function(graph: Graph, name: str) -> Function:
    function = Function(name)
    copies = copy_nodes(graph, function)
    function.inputs = [copies[value.node].outputs[value.index] for value in graph.inputs]
    function.outputs = [copies[value.node].outputs[value.index] for value in graph.outputs]
    function.input_names = [value.name for value in function.inputs]
    function.output_names = [value.name for value in function.outputs]
    return function


def _redirect(graph: Graph, renamed: dict[str, str]) -> None:
    """Let references to functions follow their renaming."""
    if all(old == new for old, new in renamed.items()):
        return
    for node in graph:
        for key, value in node.attrs.items():
            if isinstance(value, FunctionRef):
                node.attrs[key] = FunctionRef(renamed.get(value.name, value.name), value.attrs)
            elif type(value) is tuple and value and isinstance(value[0], FunctionRef):
                node.attrs[key] = tuple(FunctionRef(renamed.get(v.name, v.name), v.attrs) for v in value)
