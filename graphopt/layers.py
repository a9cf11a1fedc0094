"""Which tensor of a model is which of the model it was made from: by name, and by origin where several became one."""

from __future__ import annotations

from graphopt.ir.model import Model, Signature
from graphopt.names import tensor_name


def layer_pairs(reference: Signature, candidate: Signature) -> dict[str, str]:
    """Tensor names of `candidate`, in the order it computes them, to those of `reference` that they should equal.

    A node of another name stands for the last of its origins, unless a node is called so or a later one stands for it.
    """
    ordered = reference.graph.topological_order()
    places = {node.name: place for place, node in enumerate(ordered)}
    nodes = {node.name: node for node in ordered}
    named: dict[str, str] = {}
    standing: dict[str, str] = {}  # reference's tensor -> candidate's
    order: list[str] = []
    for node in candidate.graph.topological_order():
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


def inlined(model: Model, signature: str) -> Model:
    """One signature as one graph, whose tensors have the names that lowering gives them."""
    if not model.functions and not model.variables:
        return model
    from graphopt.freezing import freeze_model

    copy = model.clone()
    freeze_model(copy, signature=signature)
    return copy
