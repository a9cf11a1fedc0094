"""The part of a graph that saves and restores its variables, made anew where a model has none that fits it.

filename -> RestoreV2(names, slices) -> Assign, for each variable -> restore_all
filename -> SaveV2(names, slices, values of the variables) -> Identity(filename)
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.formats import wire
from graphopt.ir.formats.metagraph_proto import Saver
from graphopt.ir.graph import Graph
from graphopt.ir.known import hold
from graphopt.ir.model import Model, Variable, variable_name
from graphopt.ir.tensors import tensor
from graphopt.ir.types import RESOURCE, SCALAR, STRING, TensorType, tensor_type
from graphopt.ir.value import Node, Value

_VERSION_2 = b"\x38\x02"  # SaverDef.version: checkpoints of the second version


class Made(NamedTuple):
    """A new saver, and VariableDefs of what it restores, by the name of the variable's node."""

    saver: Saver
    definitions: dict[str, bytes]


def handles(model: Model) -> dict[str, list[Node]]:
    """Nodes of the main graph that stand for each variable."""
    found: dict[str, list[Node]] = {}
    for node in model.graph:
        name = variable_name(node)
        if name in model.variables:
            found.setdefault(name, []).append(node)
    return found


def saved_variables(model: Model) -> dict[str, Variable]:
    """Variables that have a value in a checkpoint and that some node stands for; each gets a key if it has none."""
    named: dict[str, None] = {}
    for graph in model.graphs:
        for node in graph:
            name = variable_name(node)
            if name is not None:
                named[name] = None
    return {name: item for name, item in model.variables.items() if name in named and item.checkpoint_key}


def add_saver(model: Model) -> Made:
    """Add nodes that save and restore every variable of `model` with a checkpoint key, in place."""
    graph, variables = model.graph, saved_variables(model)
    nodes = handles(model)
    for name, variable in variables.items():
        if name not in nodes:
            nodes[name] = [_handle(graph, variable)]
    rows = [(variables[name], node) for name in variables for node in nodes[name]]
    prefix = _free_prefix(graph)
    filename = graph.create_node(
        "tf.Placeholder",
        attrs={"dtype": STRING, "shape": SCALAR},
        name=f"{prefix}/filename",
        types=(tensor_type(STRING, ()),),
    )
    restore = graph.create_node("tf.NoOp", name=f"{prefix}/restore_all", types=())
    definitions = {}
    if rows:
        keys, parts = (
            hold(graph, tensor(np.array(texts, dtype=object), STRING), name=f"{prefix}/{kind}")
            for kind, texts in (
                ("names", [variable.checkpoint_key for variable, _ in rows]),
                ("slices", [variable.checkpoint_slice for variable, _ in rows]),
            )
        )
        types = [TensorType(variable.dtype, variable.shape) for variable, _ in rows]
        dtypes = tuple(variable.dtype for variable, _ in rows)
        read = graph.create_node(
            "tf.RestoreV2", [filename.output, keys, parts], {"dtypes": dtypes}, name=f"{prefix}/RestoreV2", types=types
        )
        current = []
        for (variable, node), value in zip(rows, read.outputs, strict=True):
            assign, held = _assigned(graph, prefix, variable, node, value)
            restore.add_control_input(assign)
            current.append(held.output)
            definitions[node.name] = _definition(node, assign, held, variable)
        save = graph.create_node(
            "tf.SaveV2", [filename.output, keys, parts, *current], {"dtypes": dtypes}, name=f"{prefix}/SaveV2", types=()
        )
    saved = graph.create_node(
        "tf.Identity",
        [filename.output],
        {"T": STRING},
        name=f"{prefix}/control_dependency",
        types=(tensor_type(STRING, ()),),
        control_inputs=[save] if rows else [],
    )
    return Made(Saver(f"{filename.name}:0", f"{saved.name}:0", restore.name, _VERSION_2), definitions)


def _free_prefix(graph: Graph) -> str:
    taken = {node.name.partition("/")[0] for node in graph}
    prefix, count = "save", 0
    while prefix in taken:
        count += 1
        prefix = f"save_{count}"
    return prefix


def _handle(graph: Graph, variable: Variable) -> Node:
    """A node of the main graph for a variable that only function bodies name."""
    attrs = {
        "dtype": variable.dtype,
        "shape": variable.shape,
        "shared_name": variable.name.encode(),
        "container": b"",
    }
    return graph.create_node(
        "tf.VarHandleOp", attrs=attrs, name=_node_name(variable.name), types=(tensor_type(RESOURCE, ()),)
    )


def _node_name(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._/-") else "_" for c in name).lstrip("_/-") or "variable"


def _assigned(graph: Graph, prefix: str, variable: Variable, node: Node, value: Value) -> tuple[Node, Node]:
    """Nodes that assign `value` to the variable `node`, and that read it."""
    name = _node_name(variable.name)
    if node.op == "tf.VarHandleOp":
        assign = graph.create_node(
            "tf.AssignVariableOp",
            [node.output, value],
            {"dtype": variable.dtype},
            name=f"{prefix}/{name}/Assign",
            types=(),
        )
        read, attrs = "tf.ReadVariableOp", {"dtype": variable.dtype}
    else:
        assign = graph.create_node(
            "tf.Assign",
            [node.output, value],
            {"T": variable.dtype, "use_locking": True, "validate_shape": True},
            name=f"{prefix}/{name}/Assign",
            types=(node.output.type,),
        )
        read, attrs = "tf.Identity", {"T": variable.dtype}
    held = graph.create_node(
        read,
        [node.output],
        attrs,
        name=f"{prefix}/{name}/Read",
        types=(TensorType(variable.dtype, variable.shape),),
    )
    return assign, held


def _definition(node: Node, assign: Node, held: Node, variable: Variable) -> bytes:
    """A VariableDef. Its initialiser is what restores it."""
    initializer = assign.name if assign.op == "tf.AssignVariableOp" else f"{assign.name}:0"
    return b"".join(
        (
            wire.tagged(1, f"{node.name}:0".encode()),
            wire.tagged(2, initializer.encode()),
            wire.tagged(3, f"{held.name}:0".encode()),
            wire.tagged_number(5, int(node.op == "tf.VarHandleOp")),
            wire.tagged_number(7, int(variable.trainable)),
        )
    )


def new_key(model: Model, name: str) -> str:
    """A key of the checkpoint for a new variable: of an object's, where the model has those, as TensorFlow asks."""
    base = re.sub(r"[^A-Za-z0-9_./-]", "_", name) if _has_objects(model) else name
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE" if _has_objects(model) else ""
    taken = {item.checkpoint_key for item in model.variables.values()}
    key, count = base + suffix, 0
    while key in taken:
        count += 1
        key = f"{base}_{count}{suffix}"
    return key


def _has_objects(model: Model) -> bool:
    return getattr(model.metadata.get("metagraph"), "objects", None) is not None


def variables_of_constants(model: Model, threshold: int) -> int:
    """Make constants of the main graph of `threshold` bytes and more variables with values, in place.

    A constant keeps its name, as the node that reads the variable. Returns how many there were. Constants that are
    fed, and those of function bodies, stay.
    """
    graph, count = model.graph, 0
    for node in graph:
        held = node.attrs.get("value") if node.op == "tf.Const" else None
        if held is None or held.stored_bytes < threshold or held.dtype.numpy is None or held.dtype is STRING:
            continue
        if node.output.is_input:
            continue
        name = graph.unique_name(f"{node.name}/variable")
        while name in model.variables:
            name = graph.unique_name(f"{name}_")
        key = new_key(model, name)
        model.variables[name] = Variable(name, held.dtype, node.output.shape, held, trainable=True, checkpoint_key=key)
        handle = graph.create_node(
            "tf.VarHandleOp",
            attrs={"dtype": held.dtype, "shape": node.output.shape, "shared_name": name.encode(), "container": b""},
            name=name,
            types=(tensor_type(RESOURCE, ()),),
            before=node,
            device=node.device,
            origins=node.source_names,
        )
        node.op, node.attrs, node.extras = "tf.ReadVariableOp", {"dtype": held.dtype}, None
        node.set_inputs([handle.output])
        count += 1
    return count


def describe(variable: Variable) -> str:
    """`'dense/kernel' float32[3, 4]`, for messages."""
    return f"'{printable(variable.name)}' {variable.dtype}{variable.shape}"
