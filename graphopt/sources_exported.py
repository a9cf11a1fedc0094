"""Functions that become a model only by way of a SavedModel: several at once, or with tables; and JAX's."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model
from graphopt.sources_tensorflow import MISSING


def read_functions(functions: Mapping[str, Any], owner: Any = None) -> Model:
    """A model with a signature for each ConcreteFunction. `owner`, a `tf.Module` say, holds what they capture.

    Raises `UsageError` without TensorFlow, and for a function that captures what `owner` does not hold.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UsageError(MISSING) from error
    from graphopt.ir.formats.savedmodel import read_savedmodel

    holder = tf.Module()
    holder.owner = owner
    holder.variables_captured = [list(function.graph.variables) for function in functions.values()]
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        try:
            tf.saved_model.save(holder, folder, signatures=dict(functions))
        except (AssertionError, ValueError, TypeError) as error:
            reason = printable(" ".join(str(error).split()), 300)
            raise UsageError(f"the functions cannot be exported, give the object that holds them: {reason}") from error
        return read_savedmodel(folder)  # what it maps stays until the model is gone, removed or not


def read_keras(model: Any) -> Model:
    """A Keras model as it infers. One without inputs of its own, as subclasses are, has those it was called with.

    Raises `UsageError` for one that has neither been built nor called, or whose inputs Keras does not tell.
    """
    from graphopt.sources import read

    if getattr(model, "inputs", None) or not getattr(model, "built", False):
        return read(model).model
    import tensorflow as tf

    try:
        from keras.src.export.export_utils import get_input_signature

        given = get_input_signature(model)
    except (ImportError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"Keras does not tell the inputs of the {type(model).__name__}: save it (model.export) and give that folder"
        ) from error
    flat = tf.nest.flatten(given)
    specs = [tf.TensorSpec(item.shape, item.dtype, f"args_{place}") for place, item in enumerate(flat)]
    called = tf.function(lambda *arguments: model(*tf.nest.pack_sequence_as(given, arguments), training=False))
    return read(called.get_concrete_function(*specs)).model


def read_jax(function: Any, inputs: Sequence[tuple[str, Any]]) -> Model:
    """The model of a function of JAX, for inputs of the names, shapes and types of `inputs`, in order.

    They are arrays, or whatever has a shape and an element type: `jax.ShapeDtypeStruct` may have symbolic sizes.
    Outputs are `output_0` and so on. Raises `UsageError` without JAX, and for a function that does not take these
    inputs, and `UnsupportedError` for one that computes what TensorFlow has no operators for.
    """
    from graphopt.backends.xla.bindings import import_jax
    from graphopt.importers.stablehlo.exports import graph_of

    jax = import_jax()
    structs = [jax.ShapeDtypeStruct(value.shape, value.dtype) for _, value in inputs]
    try:
        exported = jax.export.export(jax.jit(function, keep_unused=True), platforms=["cpu"])(*structs)
    except Exception as error:  # whatever the function itself raises
        reason = printable(" ".join(str(error).split()), 300)
        raise UsageError(f"JAX does not export the function for these inputs: {reason}") from error
    model = graph_of(exported, "function of JAX", [name for name, _ in inputs], trusted=True)
    for signature in model.signatures.values():
        signature.outputs = {f"output_{place}": held for place, held in enumerate(signature.outputs.values())}
    return model
