"""TensorFlow's ways to freeze a graph, with its names and arguments."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from graphopt.freezing import freeze_nodes
from graphopt.ir.errors import MalformedError, UsageError
from graphopt.ir.formats.graphdef import graphdef_bytes, load, read_graphdef, write_graphdef
from graphopt.ir.formats.protos.graph_pb2 import GraphDef
from graphopt.ir.model import Model

__all__ = [
    "convert_var_to_const_function_in_v1",
    "convert_variables_to_constants_from_session_graph",
    "convert_variables_to_constants_v2",
    "freeze_graph",
]


def convert_variables_to_constants_v2(
    func: Any, lower_control_flow: bool = True, aggressive_inlining: bool = False
) -> Any:
    """A ConcreteFunction that computes what `func` does, with constants for its variables.

    Calls of functions are inlined, with `aggressive_inlining` also those marked to be kept apart; with
    `lower_control_flow`, `If`, `Case` and `While` become v1 control flow. `func` is not changed, nor are its inputs'
    names. Raises `graphopt.UnsupportedError`, naming the node, where `func` changes a variable.
    """
    from graphopt.sources_functions import frozen_function

    return frozen_function(func, lower=lower_control_flow, aggressive=aggressive_inlining)


def convert_var_to_const_function_in_v1(
    func: Any, lower_control_flow: bool = True, aggressive_inlining: bool = False
) -> Any:
    """`convert_variables_to_constants_v2` inside a graph, with the values that the current session has.

    Operations of the collection `extra_var_assign_ops` are run first, in order. Raises `RuntimeError` without a
    session.
    """
    from graphopt.sources_functions import current_session, frozen_function

    session = current_session()
    return frozen_function(func, lower=lower_control_flow, aggressive=aggressive_inlining, session=session)


def convert_variables_to_constants_from_session_graph(
    session: Any,
    graph_def: Any,
    output_node_names: Sequence[str],
    variable_names_allowlist: Iterable[str] | None = None,
    variable_names_denylist: Iterable[str] | None = None,
) -> Any:
    """What `output_node_names` need of `graph_def`, with constants for the values of its variables in `session`.

    Only variables of the allowlist become constants, all without one, and none of the denylist. Raises
    `graphopt.UsageError` for an output that is not there and `graphopt.UnsupportedError` where an output changes a
    variable that would become constant.
    """
    from graphopt.sources_functions import fill_from_session

    model = read_graphdef(graph_def.SerializeToString(), source="graph_def")
    denied = frozenset(variable_names_denylist or ())
    allowed = None if variable_names_allowlist is None else frozenset(variable_names_allowlist)
    fill_from_session(model, session, output_node_names, allowed, denied)
    freeze_nodes(model, output_node_names, allowed, denied)
    return type(graph_def).FromString(graphdef_bytes(model))


def freeze_graph(
    input_graph: str | None,
    input_saver: str,
    input_binary: bool,
    input_checkpoint: str | None,
    output_node_names: str,
    restore_op_name: str | None,
    filename_tensor_name: str | None,
    output_graph: str,
    clear_devices: bool,
    initializer_nodes: str,
    variable_names_whitelist: str = "",
    variable_names_denylist: str = "",
    input_meta_graph: str | None = None,
    input_saved_model_dir: str | None = None,
    saved_model_tags: str = "serve",
    checkpoint_version: int = 2,
) -> GraphDef:
    """Freeze a graph with a checkpoint, a MetaGraph or a SavedModel, as the tool `freeze_graph` does.

    Writes the frozen graph to `output_graph`, if that is named, and returns it. Lists are separated by commas.
    `input_saver`, `input_binary`, `restore_op_name`, `filename_tensor_name` and `checkpoint_version` say what is found
    out anyway. Raises `graphopt.UsageError` and `graphopt.MalformedError` for what is not there.
    """
    del input_saver, input_binary, restore_op_name, filename_tensor_name, checkpoint_version
    outputs = _listed(output_node_names)
    if not outputs:
        raise UsageError("freeze_graph needs the names of output nodes: output_node_names")
    model = _read(input_graph, input_checkpoint, input_meta_graph, input_saved_model_dir, _listed(saved_model_tags))
    if initializer_nodes:
        from graphopt.ir.formats.savedmodel_variables import initialised

        initialised(model, [model.graph.node(name) for name in _listed(initializer_nodes)])
    if clear_devices:
        for node in model.graph:
            node.device = ""
    allowed = _listed(variable_names_whitelist) if variable_names_whitelist else None
    freeze_nodes(model, outputs, allowed, _listed(variable_names_denylist))
    if output_graph:
        write_graphdef(model, output_graph)
    return GraphDef.FromString(graphdef_bytes(model))


def _read(graph: str | None, checkpoint: str | None, meta: str | None, folder: str | None, tags: list[str]) -> Model:
    if folder:
        from graphopt.ir.formats.savedmodel import read_savedmodel

        return read_savedmodel(folder, tags=tags)
    if not checkpoint:
        raise UsageError("freeze_graph needs a checkpoint (input_checkpoint) or a SavedModel (input_saved_model_dir)")
    from graphopt.ir.formats.checkpoint import open_checkpoint
    from graphopt.ir.formats.savedmodel_variables import add_variables, bind

    weights = open_checkpoint(checkpoint)
    if meta:
        from graphopt.ir.formats.metagraph import load_metagraph

        model = load_metagraph(meta)
        model.graph.targets = ()
    elif graph:
        model = load(graph)
        add_variables(model)
    else:
        raise UsageError("freeze_graph needs a graph: input_graph, input_meta_graph or input_saved_model_dir")
    if not model.variables:
        source = os.fspath(meta or graph or "")
        raise MalformedError("has no variables: it was frozen before, and cannot be twice", source=source)
    bind(model, weights)
    return model


def _listed(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]
