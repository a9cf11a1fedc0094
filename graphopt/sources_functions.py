"""Concrete functions of TensorFlow with their variables: captured handles become variables of the model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.formats import graphdef
from graphopt.ir.model import Model, Signature, Variable, variable_name
from graphopt.ir.tensors import tensor
from graphopt.ir.types import DTYPES_BY_CODE, Shape, unshaped
from graphopt.ir.value import Node
from graphopt.names import find_value, tensor_name


def read_function(function: Any, session: Any = None) -> Model:
    """The graph of a ConcreteFunction, unfrozen: its captures are variables and constants of the same names.

    `session` has the values of variables that belong to a graph.
    Raises `UsageError` for a capture that is neither a variable nor an array, as a table is.
    """
    graph = function.graph
    model = graphdef.read_graphdef(graph.as_graph_def().SerializeToString(), source=f"function {function.name}")
    variables = {id(variable.handle): variable for variable in graph.variables}
    captured: dict[str, None] = {}
    for value, placeholder in graph.captures:
        name = placeholder.name.partition(":")[0]
        captured[name] = None
        node = model.graph.find(name)
        if node is None:
            continue
        if placeholder.dtype.name == "resource":
            _bind(model, node, value, variables.get(id(value)), session)
        elif hasattr(value, "numpy"):
            held = tensor(value.numpy())
            node.op, node.attrs = "tf.Const", {"dtype": held.dtype, "value": held}
        else:
            raise UsageError(f"the function captures '{printable(str(value))}', a tensor of another graph")
    _add_references(model, function)
    inputs = {t.name: find_value(model.graph, t.name) for t in graph.inputs if t.name.partition(":")[0] not in captured}
    outputs = [find_value(model.graph, t.name) for t in graph.outputs]
    model.graph.inputs, model.graph.outputs = list(inputs.values()), dict.fromkeys(outputs)
    places = {value: place for place, value in enumerate(model.graph.outputs)}
    model.signatures["serving_default"] = Signature(
        model.graph,
        {name.partition(":")[0]: place for place, name in enumerate(inputs)},
        {f"output_{number}": places[value] for number, value in enumerate(outputs)},
    )
    model.graph.targets = [model.graph.node(op.name) for op in graph.control_outputs if model.graph.find(op.name)]
    return model


def _add_references(model: Model, function: Any) -> None:
    """Give the reference variables of a function that was wrapped around a v1 graph their values."""
    for node in model.graph:
        name = variable_name(node)
        if name is None or name in model.variables or not hasattr(function, "prune"):
            continue
        operation = function.graph.get_operation_by_name(node.name)
        reads = [user.outputs[0] for user in operation.outputs[0].consumers() if user.type == "Identity"]
        if reads:
            held = tensor(function.prune([], reads[0].name)().numpy())
            model.variables[name] = Variable(name, held.dtype, Shape(held.shape), held)


def _bind(model: Model, node: Node, handle: Any, variable: Any, session: Any) -> None:
    """Make a variable of the placeholder of a captured handle."""
    from tensorflow.python.ops import gen_resource_variable_ops
    from tensorflow.python.ops.handle_data_util import get_resource_handle_data

    data = getattr(handle, "_handle_data", None) or get_resource_handle_data(handle)
    parts = list(data.shape_and_type) if data is not None else []
    if len(parts) != 1:
        raise UsageError(f"the function captures '{printable(node.name)}', a resource that is no variable")
    dtype = DTYPES_BY_CODE[int(parts[0].dtype)]
    dims = parts[0].shape
    shape = Shape(None if dims.unknown_rank else [None if dim.size < 0 else dim.size for dim in dims.dim])
    held = None
    if hasattr(handle, "numpy"):  # of a graph of its own otherwise, whose session has the value
        import tensorflow as tf

        with tf.init_scope():
            read = gen_resource_variable_ops.read_variable_op(handle, tf.dtypes.as_dtype(int(parts[0].dtype)))
        held = tensor(read.numpy())
    elif session is not None:
        held = tensor(session.run(read_handle(session, handle)))
    node.op, node.attrs = "tf.VarHandleOp", {"dtype": dtype, "shape": shape, "shared_name": node.name.encode()}
    node.output.type = unshaped(node.output.dtype)
    trainable = bool(getattr(variable, "trainable", False))
    model.variables[node.name] = Variable(node.name, dtype, shape, held, trainable)


def frozen_function(function: Any, *, lower: bool, aggressive: bool, session: Any = None) -> Any:
    """A ConcreteFunction with constants for the variables of `function`; `session` has those of a graph."""
    model = read_function(function, session)
    if session is None and any(variable.value is None for variable in model.variables.values()):
        raise UsageError("the function belongs to a graph, whose session has its variables: freeze it there")
    _freeze(model, lower, aggressive)
    return _concrete(model, function)


def _freeze(model: Model, lower: bool, aggressive: bool) -> None:
    from graphopt.freezing import freeze_model
    from graphopt.passes.functions.inline_functions import InlineFunctions
    from graphopt.passes.manager import PassManager

    freeze_model(model, functions=True)
    inlining = InlineFunctions(always=aggressive)
    passes: list[Any] = [inlining]
    if lower:
        passes += ["infer-shapes", "lower-control-flow{assume-scalars=true}", inlining]
    PassManager([*passes, "remove-unused-functions"]).run(model)


def _concrete(model: Model, function: Any) -> Any:
    """The model as a ConcreteFunction with the inputs and outputs of `function`."""
    import tensorflow as tf
    from tensorflow.python.eager import context, wrap_function

    from graphopt.passes.freeze.contexts import rename_functions

    taken = context.context().has_function
    names: dict[str, str] = {}
    for name in model.functions:  # the process has one library, in which the originals keep their names
        number = 0
        while taken(f"{name}_frozen_{number}") or f"{name}_frozen_{number}" in model.functions:
            number += 1
        names[name] = f"{name}_frozen_{number}"
    rename_functions(model, names)
    graph_def = tf.compat.v1.GraphDef.FromString(graphdef.graphdef_bytes(model))
    kept = {tensor_name(value) for value in model.graph.inputs}
    given = {item.name: item for item in function.graph.inputs if item.name in kept}
    frozen = wrap_function.function_from_graph_def(graph_def, list(given), [t.name for t in function.graph.outputs])
    for item in frozen.inputs:
        if item.name in given:
            item.set_shape(given[item.name].shape)
    return frozen


# Sessions --------------------------------------------------------------------------------------------------------


def current_session() -> Any:
    """The default session, after the assignments collected for it. Raises `RuntimeError` where there is none."""
    import tensorflow as tf

    session = None if tf.executing_eagerly() else tf.compat.v1.get_default_session()
    if session is None:
        raise RuntimeError("The conversion must be carried out in a Session context.")
    for operation in session.graph.get_collection("extra_var_assign_ops"):
        session.run(operation)
    return session


def fill_from_session(
    model: Model, session: Any, outputs: Sequence[str], allowed: Collection[str] | None, denied: frozenset[str]
) -> None:
    """Give the variables that the nodes `outputs` of `model` need their values in `session`."""
    from graphopt.freezing import find_node
    from graphopt.ir.traversal import reachable

    needed = reachable([find_node(model.graph, name) for name in outputs])
    fetches: dict[str, Any] = {}
    for graph in model.graphs:
        for node in graph:
            name = variable_name(node)
            if (
                name is None
                or (graph is model.graph and node not in needed)
                or not denied.isdisjoint((name, node.name))
            ):
                continue
            if allowed is not None and name not in allowed and node.name not in allowed:
                continue
            fetches[name] = _reading(session, node.name)
    for name, value in zip(fetches, session.run(list(fetches.values())), strict=True):
        held = tensor(value)
        model.variables[name] = Variable(name, held.dtype, Shape(held.shape), held)


def _reading(session: Any, name: str) -> Any:
    """The tensor of the session's graph that has the value of the variable at the node `name`."""
    try:
        handle = session.graph.get_tensor_by_name(f"{name}:0")
    except KeyError:
        raise UsageError(f"the session's graph has no node '{printable(name)}'") from None
    return read_handle(session, handle) if handle.dtype.name == "resource" else handle


def read_handle(session: Any, handle: Any) -> Any:
    """A tensor with the value of the variable that `handle` refers to; one that the graph has, or a new one."""
    for operation in handle.consumers():
        if operation.type == "ReadVariableOp" and not operation.control_inputs:
            return operation.outputs[0]
    from tensorflow.python.ops import gen_resource_variable_ops

    with session.graph.as_default():
        return gen_resource_variable_ops.read_variable_op(handle, handle.op.get_attr("dtype"))
