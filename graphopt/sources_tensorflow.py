"""Models that only TensorFlow can hand over: functions, modules, Keras models and files, frozen on the way."""

from __future__ import annotations

import json
import zipfile
from typing import Any

from graphopt.discovery import Discovery, apply
from graphopt.ir.errors import MalformedError, UsageError, printable
from graphopt.ir.formats import graphdef
from graphopt.ir.model import Model
from graphopt.ir.value import Value
from graphopt.names import find_value
from graphopt.runtimes.silence import quiet
from graphopt.runtimes.tensorflow import import_tensorflow

METADATA_LIMIT = 1 << 16  # bytes of what a .keras file says about itself
MISSING = "this needs TensorFlow: pip install 'graphopt[tensorflow]'"


def is_tensorflow(source: Any) -> bool:
    """It is an object of TensorFlow or Keras; told by its classes' names, without importing either."""
    packages = {cls.__module__.partition(".")[0] for cls in type(source).__mro__}
    return not packages.isdisjoint({"tensorflow", "keras", "tf_keras"})


def _is_keras(source: Any) -> bool:
    return any(not {"keras", "tf_keras"}.isdisjoint(cls.__module__.split(".")) for cls in type(source).__mro__)


def read_tensorflow(source: Any) -> Model:
    """Trace and freeze `source`: a ConcreteFunction, a `tf.function` of one signature, a `tf.Module` or a Keras model.

    Of a module its `__call__` is taken, or its only `tf.function`; of what `tf.saved_model.load` gives, the signature.
    Raises `UsageError` for anything else, for a Keras model that has not been built, for a function that captures
    tables, and without TensorFlow.
    """
    try:
        tf = import_tensorflow()
    except UsageError as error:
        raise UsageError(MISSING) from error
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = _concrete_function(source, tf)
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    model = graphdef.read_graphdef(frozen.graph.as_graph_def().SerializeToString(), source=_description(source))
    apply(model, _signature(model, function, frozen))
    return model


def read_keras_file(path: str) -> Model:
    """The Keras model saved in the file `path` (`.keras` or HDF5), frozen; code that it holds is not run.

    Files of Keras 2 are loaded with the package tf-keras where that is installed. Raises `UsageError` without
    TensorFlow, and `MalformedError` for what Keras does not load.
    """
    try:
        tf = import_tensorflow()
    except UsageError as error:
        raise UsageError(f"{printable(path)}: {MISSING}") from error
    is_old = _keras_version(path).startswith("2.")
    keras = _legacy_keras() if is_old else None
    try:
        with quiet():
            loaded = (keras or tf.keras).models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever a layer's own code raises
        reason = printable(" ".join(str(error).split()) or type(error).__name__, 300)
        advice = ": it is a file of Keras 2, for which there is the package tf-keras" if is_old and not keras else ""
        raise MalformedError(f"Keras does not load this file{advice}: {reason}", source=path) from error
    model = read_tensorflow(loaded)
    model.source = path
    return model


def _legacy_keras() -> Any:
    """The package tf-keras, which is Keras 2; None where it is not installed."""
    try:
        with quiet():
            import tf_keras
    except ImportError:
        return None
    return tf_keras


def _keras_version(path: str) -> str:
    """The version of Keras that wrote the file, empty where it does not say."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found = archive.getinfo("metadata.json")
                held = json.loads(archive.read(found)) if found.file_size <= METADATA_LIMIT else {}
        else:
            import h5py

            with h5py.File(path) as file:
                held = {"keras_version": file.attrs.get("keras_version", "")}
    except (ImportError, OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""  # Keras, which reads the file next, says what is wrong with it
    return str(held.get("keras_version", "")) if isinstance(held, dict) else ""


def _description(source: Any) -> str:
    return f"{type(source).__name__} {getattr(source, 'name', '')}".strip()


def _concrete_function(source: Any, tf: Any) -> Any:
    if hasattr(source, "structured_input_signature"):
        return source
    if hasattr(source, "get_concrete_function") and not hasattr(source, "inputs"):
        try:
            return source.get_concrete_function()
        except (TypeError, ValueError) as error:
            raise UsageError(
                "this tf.function has no single signature: pass function.get_concrete_function(…) instead "
                f"({printable(str(error))})"
            ) from error
    inputs = getattr(source, "inputs", None)
    if hasattr(source, "_trackable_children") and not _is_keras(source):
        return _function_of(source)
    if not inputs:
        kind = type(source).__name__
        if not callable(source):  # a tensor, a variable, a data set
            raise UsageError(f"a model cannot be read from a {kind}; give a ConcreteFunction or a Keras model")
        raise UsageError(f"the {kind} has no inputs yet: build it, or call it once, before it is loaded")
    specs = [tf.TensorSpec(item.shape, item.dtype, _input_name(item, place)) for place, item in enumerate(inputs)]
    nested = specs[0] if len(specs) == 1 else specs
    return tf.function(lambda *arguments: source(_nest(arguments), training=False)).get_concrete_function(
        *(nested if isinstance(nested, list) else [nested])
    )


def _function_of(module: Any) -> Any:
    """The function that a `tf.Module`, or an object that holds signatures and functions as one does, stands for."""
    signatures = getattr(module, "signatures", None)
    if signatures:
        name = "serving_default" if "serving_default" in signatures else next(iter(signatures))
        if len(signatures) == 1 or name == "serving_default":
            return signatures[name]
    kind = type(module).__name__
    functions = {name: member for name in dir(type(module)) if (member := _traced(module, name)) is not None}
    functions.update((name, member) for name in vars(module) if (member := _traced(module, name)) is not None)
    name = "__call__" if "__call__" in functions else next(iter(functions), None)
    if name is None:
        raise UsageError(f"the {kind} has no tf.function: pass tf.function(…).get_concrete_function(…) of its method")
    if name != "__call__" and len(functions) > 1:
        listed = ", ".join(f"'{printable(found)}'" for found in sorted(functions))
        raise UsageError(f"the {kind} has several functions: pass get_concrete_function(…) of one, of {listed}")
    try:
        return functions[name].get_concrete_function()
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"'{name}' of the {kind} has no single signature: pass its get_concrete_function(…) instead "
            f"({printable(str(error))})"
        ) from error


def _traced(module: Any, name: str) -> Any:
    """The attribute `name` of `module`, if that is a `tf.function`; properties are not computed."""
    if isinstance(getattr(type(module), name, None), property):
        return None
    member = getattr(module, name, None)
    return member if hasattr(member, "get_concrete_function") and not hasattr(member, "inputs") else None


def _nest(arguments: tuple[Any, ...]) -> Any:
    return arguments[0] if len(arguments) == 1 else list(arguments)


def _input_name(item: Any, place: int) -> str:
    return getattr(item, "name", None) or f"input_{place}"


def _signature(model: Model, function: Any, frozen: Any) -> Discovery:
    """The names that the function itself gives its arguments and results."""
    found = Discovery()
    given = {tensor.name for tensor in function.inputs[: len(function.inputs) - len(function.captured_inputs)]}
    for tensor in frozen.inputs:
        if tensor.dtype.name == "resource" and tensor.name not in given:
            raise UsageError(
                f"the function captures '{printable(tensor.name)}', a table or another resource that is no variable: "
                "save it with tf.saved_model.save, and give that folder"
            )
        if tensor.dtype.name != "resource":
            key = tensor.name.removesuffix(":0")
            found.inputs[key] = find_value(model.graph, tensor.name)
            found.reasons[key] = "an argument of the function"
    for key, tensor in zip(_output_names(function, len(frozen.outputs)), frozen.outputs, strict=True):
        found.outputs[key] = _output(model, tensor)
        found.reasons[key] = "a result of the function"
    return found


def _output(model: Model, tensor: Any) -> Value:
    return find_value(model.graph, tensor.name)


def _output_names(function: Any, count: int) -> list[str]:
    structured = getattr(function, "structured_outputs", None)
    if isinstance(structured, dict) and len(structured) == count:
        return [str(key) for key in sorted(structured)]
    return [f"output_{place}" for place in range(count)]
