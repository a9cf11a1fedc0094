"""Prints graphs and models; `graphopt.ir.text` gives the grammar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphopt.ir.graph import Graph
from graphopt.ir.model import ARGUMENT, Function, Model, Signature
from graphopt.ir.text.literals import attributes_text, name_text, quoted, type_text, word_text
from graphopt.ir.value import Node, Value

ELIDE = 64  # elements beyond which a tensor is not shown
PLACEHOLDER = "tf.Placeholder"


def print_model(model: Model, *, elide: int | None = ELIDE) -> str:
    """The whole model. Tensors of more than `elide` elements are shortened, None prints everything."""
    producer, min_consumer, bad_consumers = model.versions
    head = "model"
    if producer:
        head += f" producer={producer}"
    if min_consumer:
        head += f" min_consumer={min_consumer}"
    if bad_consumers:
        head += f" bad_consumers=[{', '.join(map(str, bad_consumers))}]"
    lines = [head + " {"]
    for graph in model.graphs:
        lines += [f"  {line}" for line in _graph_lines(graph, elide)]
    lines += [f"  {_signature_text(model, name, signature)}" for name, signature in model.signatures.items()]
    return "\n".join([*lines, "}", ""])


def print_graph(graph: Graph, *, elide: int | None = ELIDE) -> str:
    """One graph or function, like `print_model`."""
    return "\n".join([*_graph_lines(graph, elide), ""])


def print_node(node: Node, *, elide: int | None = ELIDE) -> str:
    """One node on one line."""
    parts = [f"{name_text('%', node.name)} = {word_text(node.op)}({', '.join(map(value_text, node._inputs))})"]
    if node.attrs:
        parts.append(attributes_text(node.attrs, elide))
    if node._control_inputs:
        parts.append(f"after({_nodes_text(node.control_inputs)})")
    if node.device:
        parts.append(f"device({quoted(node.device)})")
    if node.origins:
        parts.append(f"origins({', '.join(map(quoted, node.origins))})")
    parts.append(f": {_types_text(node.outputs)}")
    return " ".join(parts)


def value_text(value: Value | None) -> str:
    """A reference to a value: `%split:1`, or `none` for an input left out."""
    if value is None:
        return "none"
    name = name_text("%", value.node._name)
    return name if value.index == 0 else f"{name}:{value.index}"


def _types_text(values: Sequence[Value]) -> str:
    texts = [type_text(value.type) + ("" if value._name is None else f" as {quoted(value._name)}") for value in values]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def _nodes_text(nodes: Sequence[Node]) -> str:
    return ", ".join(name_text("%", node._name) for node in nodes)


def _graph_lines(graph: Graph, elide: int | None) -> Iterator[str]:
    keyword = "function" if isinstance(graph, Function) else "graph"
    names_in, names_out = _names(graph)
    parameters = [
        f"{_label(name, value)}{value_text(value)}: {type_text(value.type)}"
        for name, value in zip(names_in, graph.inputs, strict=True)
    ]
    results = [_label(name, value) + value_text(value) for name, value in zip(names_out, graph.outputs, strict=True)]
    head = f"{keyword} {name_text('@', graph.name)}({', '.join(parameters)}) -> ({', '.join(results)})"
    yield f"{head}{''.join(_clauses(graph, elide))} {{"
    implied = implied_inputs(graph)
    for place, node in enumerate(graph):
        if place >= implied:
            yield f"  {print_node(node, elide=elide)}"
    yield "}"


def _names(graph: Graph) -> tuple[Sequence[str | None], Sequence[str | None]]:
    if isinstance(graph, Function):
        return graph.input_names, graph.output_names
    return [None] * len(graph.inputs), [None] * len(graph.outputs)


def _label(name: str | None, value: Value) -> str:
    return "" if name is None or name == value.node._name else f"{word_text(name)} = "


def _clauses(graph: Graph, elide: int | None) -> Iterator[str]:
    if isinstance(graph, Function):
        if graph.control_outputs:
            pairs = (f"{word_text(name)} = {name_text('%', n._name)}" for name, n in graph.control_outputs.items())
            yield f" control_outputs({', '.join(pairs)})"
        if graph.targets != tuple(dict.fromkeys(graph.control_outputs.values())):
            yield f" targets({_nodes_text(graph.targets)})"
        if graph.attrs:
            yield f" attrs {attributes_text(graph.attrs, elide)}"
        if graph.gradient is not None:
            yield f" gradient({name_text('@', graph.gradient)})"
    elif graph.targets:
        yield f" targets({_nodes_text(graph.targets)})"


def implied_inputs(graph: Graph) -> int:
    """How many leading nodes are inputs that the header says everything of."""
    count = 0
    for node, value in zip(graph, graph.inputs, strict=False):
        plain = node.outputs == [value] and value._name is None and value.type.quantization is None
        bare = not (node._inputs or node._control_inputs or node.device or node.origins)
        if not (plain and bare) or value._inputs != 1 or not _is_implied(graph, node, count):
            break
        count += 1
    return count


def _is_implied(graph: Graph, node: Node, place: int) -> bool:
    dtype, shape, attrs = node.outputs[0].dtype, node.outputs[0].shape, list(node.attrs.items())
    if isinstance(graph, Function):
        return node.op == ARGUMENT and attrs == [("T", dtype), ("index", place)] and type(attrs[1][1]) is int
    return node.op == PLACEHOLDER and attrs == [("dtype", dtype), ("shape", shape)]


def _signature_text(model: Model, name: str, signature: Signature) -> str:
    graph = signature.graph
    of = "" if graph is model.graph else f" of {name_text('@', graph.name)}"
    inputs = _places(signature.inputs, graph.inputs)
    outputs = _places(signature.outputs, graph.outputs)
    text = f"signature {quoted(name)}{of}({inputs}) -> ({outputs})"
    if signature.method_name:
        text += f" method({quoted(signature.method_name)})"
    if signature.inferred:
        text += " inferred"
    if signature.defaults:
        text += f" defaults {attributes_text(signature.defaults, None)}"
    if signature.reasons:
        text += f" reasons({', '.join(f'{word_text(k)} = {quoted(v)}' for k, v in signature.reasons.items())})"
    return text


def _places(places: Mapping[str, int], values: Sequence[Value]) -> str:
    first: dict[Value, int] = {}
    for place, value in enumerate(values):
        first.setdefault(value, place)
    texts = []
    for key, place in places.items():
        listed = 0 <= place < len(values) and first[values[place]] == place
        texts.append(f"{word_text(key)} = {value_text(values[place]) if listed else f'#{place}'}")
    return ", ".join(texts)
