"""Which tensor of a model is which of the model it was made from: by name, and by origin where several became one."""

from __future__ import annotations

from graphopt.ir.model import Model
from graphopt.ir.value import Node
from graphopt.names import tensor_name
from graphopt.samples import signature_of


def layer_pairs(reference: Model, candidate: Model) -> dict[str, str]:
    """Tensor names of `candidate`, in the order it computes them, to those of `reference` that they should equal.

    A node of another name stands for the last of its origins, unless a node is called so or a later one stands for it.
    """
    places = {node.name: place for place, node in enumerate(_ordered(reference))}
    nodes = {node.name: node for node in signature_of(reference).graph}
    named: dict[str, str] = {}
    standing: dict[str, str] = {}  # reference's tensor -> candidate's
    order: list[str] = []
    for node in _ordered(candidate):
        same = nodes.get(node.name)
        for value in node.outputs:
            name = tensor_name(value)
            order.append(name)
            if same is not None and value.index < len(same.outputs):
                named[name] = name
        if same is None and len(node.outputs) == 1 and node.input_count:
            origin = max((name for name in node.source_names if name in places), key=places.__getitem__, default=None)
            if origin is not None and len(nodes[origin].outputs) == 1:
                standing[f"{origin}:0"] = tensor_name(node.output)
    fused = {name: origin for origin, name in standing.items() if origin not in named}
    pairs = fused | named
    return {name: pairs[name] for name in order if name in pairs}


def _ordered(model: Model) -> list[Node]:
    return signature_of(model).graph.topological_order()


def inlined(model: Model) -> Model:
    """The model as one graph, whose tensors have the names that lowering gives them; itself where it is one."""
    if not model.functions and not model.variables:
        return model
    from graphopt.freezing import freeze_model

    name = next(key for key, item in model.signatures.items() if item is signature_of(model))
    copy = model.clone()
    freeze_model(copy, signature=name)
    return copy
