"""A model: a main graph, a function library, signatures, and what the format it came from carries along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from graphopt.ir.attributes import Attribute, FunctionRef
from graphopt.ir.errors import GraphError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.tensors import Tensor
from graphopt.ir.traversal import reachable
from graphopt.ir.types import UNKNOWN_DTYPE, UNKNOWN_SHAPE, DType, Shape
from graphopt.ir.value import Node, Value

ARGUMENT = "tf._Arg"  # node that stands for an argument in a function body
VARIABLES = frozenset({"tf.VarHandleOp", "tf.VariableV2", "tf.Variable"})  # nodes that stand for a variable
_ANONYMOUS = b"cd2c89b7-88b7-44c8-ad83-06c2a9158347"  # shared name by which TensorFlow means: shared with nobody


class Function(Graph):
    """A function of the library: a graph whose inputs are `tf._Arg` nodes, in the order of the arguments.

    `input_names` and `output_names` are the names in the function's own signature, `control_outputs` maps the
    names of its control outputs to nodes (which are also `targets`), `attrs` are attributes of the function,
    `gradient` names the function that computes its gradient, if the library says so.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self.input_names: list[str] = []
        self.output_names: list[str] = []
        self.control_outputs: dict[str, Node] = {}
        self.attrs: dict[str, Any] = {}
        self.gradient: str | None = None


@dataclass
class Signature:
    """Named inputs and outputs of a model, in order: positions in `graph.inputs` and `graph.outputs`.

    `method_name` and `defaults` are SavedModel's; `inferred` says that graphopt found the signature itself and
    `reasons` why each name was chosen.
    """

    graph: Graph
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    method_name: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)
    inferred: bool = False
    reasons: dict[str, str] = field(default_factory=dict)

    def input_values(self) -> dict[str, Value]:
        """Name -> value, in order."""
        return {name: self.graph.inputs[place] for name, place in self.inputs.items()}

    def output_values(self) -> dict[str, Value]:
        """Name -> value, in order."""
        return {name: self.graph.outputs[place] for name, place in self.outputs.items()}


@dataclass
class Variable:
    """State that a model keeps from call to call, and what a checkpoint says it is at the start.

    `name` is what every node that stands for it has in common (`variable_name`). `value` is None for a variable that
    no checkpoint gives a value; replacing it is how weights that stay variables are changed. `checkpoint_key` names
    the tensor of the checkpoint, and `checkpoint_slice` the part of it that is this variable, as RestoreV2 writes it
    (`10 4 0,5:-`: all columns of the first five rows of ten), empty for the whole. `derived` says that passes put
    what they computed into it, which is right only in the graphs as they are now.
    """

    name: str
    dtype: DType = UNKNOWN_DTYPE
    shape: Shape = UNKNOWN_SHAPE
    value: Tensor | None = None
    trainable: bool = False
    checkpoint_key: str = ""
    checkpoint_slice: str = ""
    derived: bool = False


class Model:
    """A whole model. `graph` is the main graph; bodies of functions are in `functions`, by name, and `variables` are
    what its `VARIABLES` nodes stand for, by `variable_name`.

    `versions` are (producer, minimum consumer, bad consumers) of the GraphDef; `metadata` is what the format needs
    to write the rest back; `source` is the path or description the model came from, `format` its format's name.
    """

    def __init__(self, graph: Graph | None = None):
        self.graph = graph if graph is not None else Graph()
        self.graph.model = self
        self.functions: dict[str, Function] = {}
        self.signatures: dict[str, Signature] = {}
        self.variables: dict[str, Variable] = {}
        self.versions: tuple[int, int, tuple[int, ...]] = (0, 0, ())
        self.metadata: dict[str, Any] = {}
        self.source = ""
        self.format = ""

    def __repr__(self) -> str:
        return f"<Model {printable(self.source) or self.format}: {self.node_count} nodes>"

    @property
    def graphs(self) -> Iterator[Graph]:
        """The main graph, then every function body, in the library's order."""
        yield self.graph
        yield from list(self.functions.values())

    @property
    def node_count(self) -> int:
        """Nodes of all graphs."""
        return sum(len(graph) for graph in self.graphs)

    def add_function(self, function: Function) -> None:
        """Put `function` into the library. Raises `GraphError` if its name is taken."""
        if function.name in self.functions:
            raise GraphError(f"the library already has a function '{printable(function.name)}'")
        self.functions[function.name] = function
        function.model = self

    def unique_function_name(self, base: str) -> str:
        """`base`, or `base_1`, `base_2` and so on: the first that no function has."""
        name, count = base, 0
        while name in self.functions:
            count += 1
            name = f"{base}_{count}"
        return name

    def set_signature(
        self, inputs: Mapping[str, Value], outputs: Mapping[str, Value], name: str = "serving_default"
    ) -> Signature:
        """Make the main graph's inputs and outputs exactly these and `name` its only signature."""
        self.graph._check_own((*inputs.values(), *outputs.values()))
        self.graph.inputs = dict.fromkeys(inputs.values())
        self.graph.outputs = dict.fromkeys(outputs.values())
        places_in = {value: place for place, value in enumerate(self.graph.inputs)}
        places_out = {value: place for place, value in enumerate(self.graph.outputs)}
        signature = Signature(
            self.graph,
            {key: places_in[value] for key, value in inputs.items()},
            {key: places_out[value] for key, value in outputs.items()},
        )
        self.signatures = {name: signature}
        return signature

    def clone(self) -> Model:
        """A copy whose nodes are new and whose tensors are shared."""
        copies: dict[int, Graph] = {}
        model = Model(clone_graph(self.graph))
        copies[id(self.graph)] = model.graph
        for function in self.functions.values():
            copy = clone_graph(function)
            assert isinstance(copy, Function)
            model.add_function(copy)
            copies[id(function)] = copy
        for name, signature in self.signatures.items():
            model.signatures[name] = Signature(
                copies[id(signature.graph)],
                dict(signature.inputs),
                dict(signature.outputs),
                signature.method_name,
                dict(signature.defaults),
                signature.inferred,
                dict(signature.reasons),
            )
        model.variables = {name: replace(variable) for name, variable in self.variables.items()}
        model.versions, model.metadata = self.versions, dict(self.metadata)
        model.source, model.format = self.source, self.format
        return model


def clone_graph(graph: Graph, name: str | None = None) -> Graph:
    """A copy of `graph` with new nodes, the same names and shared tensors, under the same or another `name`."""
    copy: Graph = Function(name or graph.name) if isinstance(graph, Function) else Graph(name or graph.name)
    copy.metadata = dict(graph.metadata)
    nodes = copy_nodes(graph, copy)
    copy.inputs = [nodes[v.node].outputs[v.index] for v in graph.inputs]
    copy.outputs = [nodes[v.node].outputs[v.index] for v in graph.outputs]
    copy.targets = [nodes[n] for n in graph.targets]
    if isinstance(graph, Function) and isinstance(copy, Function):
        copy.input_names, copy.output_names = list(graph.input_names), list(graph.output_names)
        copy.control_outputs = {key: nodes[n] for key, n in graph.control_outputs.items()}
        copy.attrs, copy.gradient = dict(graph.attrs), graph.gradient
    return copy


def copy_nodes(source: Iterable[Node], target: Graph) -> dict[Node, Node]:
    """Copy `source`, which must be closed under predecessors, into `target`, whose names must be free.

    Returns original -> copy. Copies keep names, attributes, devices, origins, order and wiring.
    """
    nodes: dict[Node, Node] = {}
    for node in source:
        copy = Node(node.op, node.name, dict(node.attrs), node.device)
        copy.origins, copy.extras = node.origins, node.extras
        for value in node.outputs:
            copy.add_output(value.type)._name = value._name
        target.insert(copy)
        nodes[node] = copy
    for node, copy in nodes.items():
        copy.set_inputs(None if v is None else nodes[v.node].outputs[v.index] for v in node._inputs)
        for control in node.control_inputs:
            copy.add_control_input(nodes[control])
    return nodes


def function_references(value: Attribute) -> Iterator[FunctionRef]:
    """Every function reference within an attribute value, those nested in instantiations included."""
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, FunctionRef):
            yield item
            pending.extend(item.attrs.values())
        elif isinstance(item, tuple) and item and isinstance(item[0], (FunctionRef, tuple)):
            pending.extend(item)


def computed_inputs(model: Model) -> dict[Value, None]:
    """Inputs of the main graph that some signature does not feed but computes, so that none may cut the graph there.

    A signature that takes parsed features, say, beside one that takes the examples they are parsed from.
    """
    found: dict[Value, None] = {}
    inputs = dict.fromkeys(model.graph.inputs)
    for signature in model.signatures.values() if len(model.signatures) > 1 else ():
        fed = dict.fromkeys(value.node for value in signature.input_values().values())
        for node in reachable((value.node for value in signature.output_values().values()), fed.__contains__):
            if node not in fed and (node._inputs or node._control_inputs):
                found.update((value, None) for value in node.outputs if value in inputs)
    return found


def variable_name(node: Node) -> str | None:
    """Key in `Model.variables` of the variable that `node` stands for, None if it stands for none.

    Nodes with one shared name (and container) stand for one variable; a node without is a variable of its own.
    """
    if node.op not in VARIABLES:
        return None
    shared, container = node.attrs.get("shared_name"), node.attrs.get("container")
    name = (
        node.name if not isinstance(shared, bytes) or shared in (b"", _ANONYMOUS) else shared.decode(errors="replace")
    )
    return f"{container.decode(errors='replace')}/{name}" if isinstance(container, bytes) and container else name


def callees(node: Node) -> Iterator[str]:
    """Names of the functions that `node` refers to: in its attributes, or as its own operator."""
    for value in node.attrs.values():
        if type(value) is FunctionRef or type(value) is tuple:
            for reference in function_references(value):
                yield reference.name
    model = node.graph.model if node.graph is not None else None
    if model is not None and node.op_type in model.functions:
        yield node.op_type
