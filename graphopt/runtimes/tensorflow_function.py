"""A model as a function of TensorFlow, as fast as TensorFlow runs it: frozen, optimised by Grappler, or compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphopt.ir.errors import printable
from graphopt.ir.formats.graphdef import graphdef_bytes
from graphopt.ir.model import Model
from graphopt.runtimes.base import Array, RunError, find_signature, tensor_name
from graphopt.runtimes.tensorflow import import_tensorflow


def tensorflow_function(model: Model, feeds: Mapping[str, Array], *, jit: bool = False) -> Callable[[], Any]:
    """What runs the only signature of a frozen model on `feeds` once more and waits for the result.

    Raises `RunError` where TensorFlow does not accept the model.
    """
    tensorflow = import_tensorflow()
    signature = find_signature(model, None)
    assert signature is not None
    definition = tensorflow.compat.v1.GraphDef()
    definition.ParseFromString(graphdef_bytes(model))
    inputs = [tensor_name(value) for value in signature.input_values().values()]
    outputs = [tensor_name(value) for value in signature.output_values().values()]
    try:
        wrapped = tensorflow.compat.v1.wrap_function(
            lambda: tensorflow.compat.v1.import_graph_def(definition, name=""), []
        )
        graph = wrapped.graph
        pruned = wrapped.prune([graph.get_tensor_by_name(name) for name in inputs], [
            graph.get_tensor_by_name(name) for name in outputs
        ])  # fmt: skip
        arguments = [tensorflow.constant(feeds[name]) for name in signature.inputs]
        call = tensorflow.function(pruned, jit_compile=True) if jit else pruned
        call(*arguments)
    except Exception as error:  # TensorFlow's own classes have no common root
        raise RunError(f"TensorFlow does not run the model: {printable(' '.join(str(error).split()), 300)}") from error

    def run() -> Any:
        return [found.numpy() for found in tensorflow.nest.flatten(call(*arguments))]

    return run
