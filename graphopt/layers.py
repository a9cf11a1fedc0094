"""Which tensor of a model is which of the model it was made from: by name, and by origin where several became one."""

from __future__ import annotations

from graphopt.ir.graph import Graph
from graphopt.ir.model import Model, Signature, copy_nodes
from graphopt.names import tensor_name, without_calls
from graphopt.samples import signature_of


def layer_pairs(reference: Signature, candidate: Signature) -> dict[str, str]:
    """Tensor names of `candidate`, in the order it computes them, to those of `reference` that they should equal.

    A node of another name stands for the last of its origins, unless a node is called so or a later one stands for it.
    Calls that led to a node need not be in its name.
    """
    ordered = reference.graph.topological_order()
    places = {node.name: place for place, node in enumerate(ordered)}
    nodes = {**{without_calls(node.name): node for node in ordered}, **{node.name: node for node in ordered}}
    named: dict[str, str] = {}
    standing: dict[str, str] = {}  # reference's tensor -> candidate's
    order: list[str] = []
    for node in candidate.graph.topological_order():
        same = nodes.get(node.name)
        for value in node.outputs:
            name = tensor_name(value)
            order.append(name)
            if same is not None and value.index < len(same.outputs):
                named[name] = tensor_name(same.outputs[value.index])
        if same is None and len(node.outputs) == 1 and node.input_count:
            origin = max((name for name in node.source_names if name in places), key=places.__getitem__, default=None)
            if origin is not None and len(nodes[origin].outputs) == 1:
                standing[f"{origin}:0"] = tensor_name(node.output)
    taken = dict.fromkeys(named.values())
    fused = {name: origin for origin, name in standing.items() if origin not in taken}
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


def with_main(model: Model, signature: str) -> Model:
    """A model of TFLite whose main graph is that of `signature`; itself where it is that already."""
    chosen = signature_of(model, signature)
    if chosen.graph is model.graph or model.format != "tflite":
        return model
    graph = Graph(chosen.graph.name)
    copies = copy_nodes(chosen.graph, graph)
    graph.inputs = [copies[value.node].outputs[value.index] for value in chosen.graph.inputs]
    graph.outputs = [copies[value.node].outputs[value.index] for value in chosen.graph.outputs]
    made, source = Model(graph), model.clone()
    for function in source.functions.values():
        if function.name != chosen.graph.name:
            made.add_function(function)
    made.signatures = {signature: Signature(graph, dict(chosen.inputs), dict(chosen.outputs))}
    made.format = model.format
    return made
