"""Variables that the model changes: resources of TFLite, set to their initial values before the first run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import numpy as np

from graphopt.freezing import select_signature
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold
from graphopt.ir.model import Function, Model, Variable, callees, variable_name
from graphopt.ir.tensors import Tensor
from graphopt.ir.traversal import reachable
from graphopt.ir.types import BOOL, INT32, RESOURCE, SCALAR, TensorType
from graphopt.ir.value import Node, Value
from graphopt.ir.variable_flow import ModelFlow
from graphopt.passes.frames import has_v1_control_flow

HANDLE, READ, ASSIGN = "tf.VarHandleOp", "tf.ReadVariableOp", "tf.AssignVariableOp"
SUMS = {"tf.AssignAddVariableOp": "tf.AddV2", "tf.AssignSubVariableOp": "tf.Sub"}
GATHER, IS_SET = "tf.ResourceGather", "tf.VarIsInitializedOp"
TFL_HANDLE, TFL_READ, TFL_ASSIGN, CALL_ONCE = (
    "tfl.VAR_HANDLE",
    "tfl.READ_VARIABLE",
    "tfl.ASSIGN_VARIABLE",
    "tfl.CALL_ONCE",
)
STATEFUL = frozenset({READ, ASSIGN, *SUMS, GATHER, TFL_READ, TFL_ASSIGN})
WRITES = frozenset({ASSIGN, *SUMS, TFL_ASSIGN})
CONDITIONALS = frozenset({"tf.If", "tf.StatelessIf"})
INITIALISER = "initialise_variables"


def changing_variables(model: Model, groups: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Names of the variables that some of these signatures change, and of those that have no value."""
    handles = [node for graph in model.graphs for node in graph if node.op == HANDLE]
    if not handles:
        return ()
    names = dict.fromkeys(name for node in handles if (name := variable_name(node)) is not None)
    found = {name: None for name in names if name not in model.variables or model.variables[name].value is None}
    if len(groups) == 1 and len(model.signatures) == len(groups[0]):
        return tuple({**found, **dict.fromkeys(ModelFlow(model).offences())})
    for group in groups:
        part = model.clone()
        select_signature(part, group[0])
        found.update(dict.fromkeys(ModelFlow(part).offences()))
    return tuple(found)


def order_effects(model: Model) -> None:
    """Let what reads and changes variables run in the order that control dependencies ask for, by dependencies among
    these nodes alone; reads and assignments become TFLite's."""
    effects = _with_effects(model)
    if not effects and not any(node.op in STATEFUL for node in model.graph):
        return
    for graph in model.graphs:
        if not has_v1_control_flow(graph):
            _order(graph, effects)
        for node in list(graph):
            _lower(graph, node)


def has_state(model: Model) -> bool:
    """Something reads or changes a variable."""
    return any(node.op in STATEFUL for graph in model.graphs for node in graph)


def _with_effects(model: Model) -> dict[str, None]:
    """Names of functions that read or change variables, or call some that do."""
    found = {f.name: None for f in model.functions.values() if any(node.op in STATEFUL for node in f)}
    grown = bool(found)
    while grown:
        grown = False
        for function in model.functions.values():
            if function.name not in found and any(name in found for node in function for name in callees(node)):
                found[function.name] = None
                grown = True
    return found


def _order(graph: Graph, effects: Collection[str]) -> None:
    roots = [value.node for value in graph.outputs] + list(graph.targets)
    needed = reachable(roots)
    chain = []
    for node in graph.topological_order():
        if node in needed and (node.op in STATEFUL or any(name in effects for name in callees(node))):
            chain.append(node)
    for node in graph:
        node.set_control_inputs(())
    for before, node in pairwise(chain):
        node.add_control_input(before)
    writing = [node for node in chain if node.op in WRITES or node.op not in STATEFUL]
    graph.targets = writing
    if isinstance(graph, Function):
        graph.control_outputs = {node.name: node for node in writing}


def _lower(graph: Graph, node: Node) -> None:
    """Make a node that reads or changes a variable one of TFLite."""
    if node.op == READ:
        node.origins = node.source_names
        node.op, node.attrs, node.extras = TFL_READ, {}, None
        _refine(node)
    elif node.op == ASSIGN:
        node.origins = node.source_names
        node.op, node.attrs, node.extras = TFL_ASSIGN, {}, None
    elif node.op in SUMS:
        held = _read_before(graph, node)
        total = graph.create_node(
            SUMS[node.op], [held, node.input(1)], {"T": held.dtype}, name=f"{node.name}/sum", types=[held.type],
            before=node, origins=node.source_names,
        )  # fmt: skip
        node.set_inputs([node.input(0), total.output])
        node.origins = node.source_names
        node.op, node.attrs, node.extras = TFL_ASSIGN, {}, None
    elif node.op == GATHER:
        held = _read_before(graph, node)
        axis = hold(graph, np.zeros((), np.int32), name=f"{node.name}/axis", before=node)
        attrs = {"Tparams": held.dtype, "Tindices": node.input(1).dtype, "Taxis": INT32,
                 "batch_dims": node.attrs.get("batch_dims", 0)}  # fmt: skip
        node.origins = node.source_names
        node.op, node.attrs, node.extras = "tf.GatherV2", attrs, None
        node.set_inputs([held, node.input(1), axis])
        node.set_control_inputs(())


def _read_before(graph: Graph, node: Node) -> Value:
    """The variable that `node` works on, read right before it."""
    dtype = node.attrs.get("dtype") or node.output.dtype
    made = graph.create_node(
        TFL_READ, [node.input(0)], {}, name=f"{node.name}/read", types=[TensorType(dtype)], before=node,
        origins=node.source_names, control_inputs=node.control_inputs,
    )  # fmt: skip
    _refine(made)
    for user in node.control_users if node.op == GATHER else ():
        user.remove_control_input(node)
        user.add_control_input(made)
    if node.op != GATHER:
        node.add_control_input(made)
    return made.output


def _refine(node: Node) -> None:
    """The type of a read from what is known of its variable."""
    variable = _variable(node)
    if variable is not None and node.output.type.shape.merged(variable.shape) is not None:
        merged = node.output.type.shape.merged(variable.shape)
        assert merged is not None
        node.output.type = TensorType(variable.dtype if variable.dtype.code else node.output.dtype, merged)


def _variable(node: Node) -> Variable | None:
    model = node.graph.model if node.graph is not None else None
    handle = node.input(0).node
    name = variable_name(handle) if handle.op == HANDLE else None
    return model.variables.get(name) if model is not None and name is not None else None


# After the rules -----------------------------------------------------------------------------------------------


def lower_handles(model: Model) -> None:
    """Make handles of variables TFLite's, and conditionals that yield nothing, for which no rule can stand in."""
    for graph in model.graphs:
        for node in graph:
            name = variable_name(node) if node.op == HANDLE else None
            if name is not None and node.has_uses:
                node.origins = node.source_names
                node.op, node.attrs, node.extras = TFL_HANDLE, {"container": b"", "shared_name": name.encode()}, None
                node.output.type = TensorType(RESOURCE, SCALAR)
            elif node.op in CONDITIONALS and not node.outputs and node.input(0).type == TensorType(BOOL, SCALAR):
                node.origins = node.source_names
                branches = {f"{side}_subgraph_index": node.attrs[f"{side}_branch"] for side in ("then", "else")}
                node.op, node.attrs, node.extras = "tfl.IF", branches, None


def initialise(model: Model, values: dict[str, Tensor | None]) -> list[str]:
    """Let every graph that a signature runs set the variables in use to `values`, once, before anything else; returns
    notes on those that have none."""
    names = dict.fromkeys(
        node.attrs["shared_name"].decode() for graph in model.graphs for node in graph if node.op == TFL_HANDLE
    )
    used = {name: value for name in names if (value := values.get(name)) is not None}
    notes = [
        f"variable '{printable(name)}' has no value to start from: the model runs only once a signature has set it"
        for name in names
        if name not in used
    ]
    if not used:
        return notes
    function = Function(model.unique_function_name(INITIALISER))
    for name, value in used.items():
        held = hold(function, value, name=f"{name}/value")
        handle = function.create_node(
            TFL_HANDLE, (), {"container": b"", "shared_name": name.encode()}, name=name,
            types=[TensorType(RESOURCE, SCALAR)],
        )  # fmt: skip
        function.create_node(TFL_ASSIGN, [handle.output, held], {}, name=f"{name}/assign", types=())
    model.add_function(function)
    for graph in dict.fromkeys([model.graph, *(signature.graph for signature in model.signatures.values())]):
        first = next(iter(graph), None)
        once = graph.create_node(
            CALL_ONCE, (), {"init_subgraph_index": FunctionRef(function.name, {})}, name=INITIALISER, types=(),
            before=first,
        )  # fmt: skip
        for node in _state_nodes(graph):
            node.add_control_input(once)
    return notes


def _state_nodes(graph: Graph) -> Iterable[Node]:
    return [node for node in graph if node.op in (TFL_READ, TFL_ASSIGN) or node.op in ("tfl.IF", "tfl.WHILE")]
