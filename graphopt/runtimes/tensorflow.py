"""The TensorFlow runtime: the model as it is, in a session that rewrites nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.formats.graphdef import graphdef_bytes
from graphopt.ir.graph import Graph
from graphopt.ir.infer_nodes import Oracle
from graphopt.ir.model import Model
from graphopt.ir.traversal import forward_predecessors
from graphopt.ir.types import Shape, TensorType, tensor_type
from graphopt.ir.value import Node, Value
from graphopt.runtimes.base import Array, Request, RunError, tensor_name
from graphopt.runtimes.silence import quiet
from graphopt.runtimes.tensorflow_state import InitialState

INSTALL = 'pip install "graphopt[tensorflow]"'


def import_tensorflow() -> Any:
    """TensorFlow's module, without oneDNN, whose own rewriting of graphs no session option turns off.

    Raises `UsageError` where TensorFlow is not installed.
    """
    if "tensorflow" not in sys.modules:  # read when TensorFlow is imported; what the caller has set stays
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with nullcontext() if "tensorflow" in sys.modules else quiet():
            import tensorflow
    except ImportError as error:
        raise UsageError(f"this needs TensorFlow ({error}): {INSTALL}") from error
    return tensorflow


class TensorFlowRuntime:
    """Runs models with TensorFlow, its graph optimisers and constant folding off, so that nothing is hidden.

    Variables have the values they start with, and what initialises tables has run. The session of a model is kept
    until the model changes; one that changes its variables starts from its first state in every run.
    """

    name = "tensorflow"

    def __init__(self) -> None:
        self._tensorflow = import_tensorflow()
        self._sessions: WeakKeyDictionary[Model, tuple[list[Any], Any, InitialState]] = WeakKeyDictionary()

    def run(
        self,
        model: Model,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        signature: str | None = None,
    ) -> dict[str, Array]:
        """The signature's outputs, or `outputs`, each under the name it was asked for.

        Raises `UsageError` for names, element types and shapes that do not fit, `RunError` where TensorFlow fails,
        `UnsupportedError` for a model over the 2 GiB that a GraphDef can hold.
        """
        request = Request(model, feeds, outputs, signature)
        fetches = {name: tensor_name(value) for name, value in request.fetches.items()}
        targets = {f"\0{node.name}": node.name for node in request.targets}
        found = self._fetch(model, request, {**fetches, **targets})
        return {name: _as_array(found[name]) for name in fetches}

    def run_all(self, model: Model, feeds: Mapping[str, Any], signature: str | None = None) -> dict[str, Array]:
        """Every tensor on the way to the signature's outputs, by tensor name.

        Tensors inside v1 loops and branches cannot be fetched and are left out.
        """
        request = Request(model, feeds, None, signature)
        names = {tensor_name(value): tensor_name(value) for value in _fetchable(request)}
        fed = {tensor_name(value): array for value, array in request.feeds.items()}
        return {**fed, **{name: _as_array(item) for name, item in self._fetch(model, request, names).items()}}

    def _fetch(self, model: Model, request: Request, names: Mapping[str, str]) -> dict[str, Any]:
        if request.graph is not model.graph:
            raise UnsupportedError(
                f"signature graph '{printable(request.graph.name)}' is a function; TensorFlow runs the main graph only"
            )
        session = self._session(model)
        feeds = {tensor_name(value): array for value, array in request.feeds.items()}
        try:
            if self._sessions[model][2].changes:
                self._sessions[model][2].restore(session)
            found: dict[str, Any] = session.run(dict(names), feeds)
        except (self._tensorflow.errors.OpError, ValueError, TypeError, RuntimeError) as error:
            raise RunError(f"TensorFlow failed: {_brief(error)}") from error
        return found

    def _session(self, model: Model) -> Any:
        state = _state(model)
        held = self._sessions.get(model)
        if held is not None and held[0] == state:
            return held[1]
        if held is not None:
            held[1].close()
        session, initial = self._opened(model)
        self._sessions[model] = (state, session, initial)
        return session

    def _opened(self, model: Model) -> tuple[Any, InitialState]:
        v1 = self._tensorflow.compat.v1
        definition = v1.GraphDef()
        definition.ParseFromString(graphdef_bytes(model))
        graph = self._tensorflow.Graph()
        try:
            with graph.as_default():
                v1.import_graph_def(definition, name="")
        except (self._tensorflow.errors.OpError, ValueError, TypeError, RuntimeError) as error:
            raise RunError(f"TensorFlow does not accept the graph: {_brief(error)}") from error
        session = v1.Session(graph=graph, config=_plain_config(v1))
        try:
            initial = InitialState(self._tensorflow, model, graph)
            initial.restore(session)
        except (self._tensorflow.errors.OpError, ValueError, TypeError, RuntimeError) as error:
            session.close()
            raise RunError(f"TensorFlow does not initialise the model: {_brief(error)}") from error
        return session, initial


def _plain_config(v1: Any) -> Any:
    """A session configuration that runs the graph as it is written."""
    config = v1.ConfigProto()
    optimizer = config.graph_options.optimizer_options
    optimizer.opt_level = -1  # L0: no common subexpressions, no constant folding
    optimizer.do_constant_folding = optimizer.do_common_subexpression_elimination = False
    optimizer.do_function_inlining = False
    optimizer.global_jit_level = -1
    rewrites = config.graph_options.rewrite_options
    rewrites.disable_meta_optimizer = True
    rewrites.constant_folding = rewrites.layout_optimizer = rewrites.remapping = 2  # OFF
    return config


def _brief(error: Exception) -> str:
    """The first lines of what TensorFlow says, without the Python stack it appends."""
    text = getattr(error, "message", None) or str(error)
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return printable(" ".join(lines[:3]), 600)


def _as_array(found: Any) -> Array:
    return found if isinstance(found, np.ndarray) else np.asarray(found, object if isinstance(found, bytes) else None)


def _state(model: Model) -> list[Any]:
    """What a session depends on. Holds the objects themselves, so that none of them can be taken for another."""
    state: list[Any] = [model.versions, [(name, item.value) for name, item in model.variables.items()]]
    for graph in model.graphs:
        state.append((graph.name, graph.inputs, graph.outputs))
        state += [
            (node.op, node.name, node.inputs, node.control_inputs, node.device, list(node.attrs.items()))
            for node in graph
        ]
    return state


def _fetchable(request: Request) -> list[Value]:
    """Values on the way to the fetches that are arrays and are computed whatever branch is taken."""
    wanted = _ancestors(request)
    depth: dict[Node, int] = {}
    values: list[Value] = []
    for node in request.graph.topological_order():
        if node not in wanted:
            continue
        around = max((depth.get(producer, 0) for producer in forward_predecessors(node)), default=0)
        op = node.op
        if op in ("tf.Switch", "tf.RefSwitch", "tf._SwitchN", "tf.Enter", "tf.RefEnter"):
            around += 1
        elif op in ("tf.Merge", "tf.RefMerge") and not _closes_loop(node):
            around = max(around - 1, 0)
        elif op in ("tf.Exit", "tf.RefExit"):
            around = max(around - 2, 0)  # out of the frame, and of the branch that the loop's Switch is
        depth[node] = around
        if not around:
            values += [value for value in node.outputs if not value.type.dtype.is_handle]
    return values


def _closes_loop(node: Node) -> bool:
    return any(
        value is not None and value.node.op in ("tf.NextIteration", "tf.RefNextIteration") for value in node.inputs
    )


def _ancestors(request: Request) -> dict[Node, None]:
    found: dict[Node, None] = {}
    pending = [value.node for value in request.fetches.values()]
    while pending:
        node = pending.pop()
        if node not in found:
            found[node] = None
            pending += [value.node for value in node.inputs if value is not None and value not in request.feeds]
            pending += node.control_inputs
    return found


def tensorflow_shape_oracle() -> Oracle:
    """An oracle for `infer_node`, `infer_graph` and `infer_model`: types of a node as TensorFlow infers them.

    The node is imported alone, its inputs as placeholders of what is known of them, small constants as such.
    Raises `UsageError` without TensorFlow.
    """
    return _Oracle(import_tensorflow())


class _Oracle:
    def __init__(self, tensorflow: Any):
        self._tensorflow = tensorflow

    def __call__(self, node: Node) -> Sequence[TensorType] | None:
        if node.dialect != "tf" or not node.outputs:
            return None
        single = Model(Graph("single"))
        copies: list[Value] = []
        for place, value in enumerate(node.inputs):
            if value is None:
                return None
            copies.append(_stand_in(single.graph, value, place))
        copy = single.graph.create_node(
            node.op, copies, dict(node.attrs), name="node", types=[value.type for value in node.outputs]
        )
        copy.attrs.pop("_output_shapes", None)
        copy.attrs.pop("_class", None)
        definition = self._tensorflow.compat.v1.GraphDef()
        definition.ParseFromString(graphdef_bytes(single))
        graph = self._tensorflow.Graph()
        try:
            with graph.as_default():
                self._tensorflow.compat.v1.import_graph_def(definition, name="")
        except (self._tensorflow.errors.OpError, ValueError, TypeError, RuntimeError):
            return None  # TensorFlow does not know the operator either, or refuses the node: nothing is inferred
        return [_type(tensor) for tensor in graph.get_operation_by_name("node").outputs]


def _stand_in(graph: Graph, value: Value, place: int) -> Value:
    """A placeholder, or the constant itself, for an input of the node asked about."""
    if value.node.op == "tf.Const" and value.node.attrs["value"].nbytes <= 1 << 16:
        attrs = dict(value.node.attrs)
        return graph.create_node("tf.Const", (), attrs, name=f"input{place}", types=(value.type,)).output
    shape = Shape(None if value.shape.dims is None else [d if isinstance(d, int) else None for d in value.shape.dims])
    attrs = {"dtype": value.type.dtype, "shape": shape}
    return graph.create_node("tf.Placeholder", (), attrs, name=f"input{place}", types=(value.type,)).output


def _type(tensor: Any) -> TensorType:
    dims = None if tensor.shape.rank is None else [None if d is None else int(d) for d in tensor.shape.as_list()]
    return tensor_type(tensor.dtype.name, dims)
