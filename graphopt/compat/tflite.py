"""`TFLiteConverter`, with the constructors and attributes of `tf.lite`'s: a script changes one import."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from graphopt.compat.tflite_attributes import DEFAULTS, IMMATERIAL, UNBUILT_OF_TARGETS, unbuilt
from graphopt.compat.tflite_quantization import operators_of, quantized
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model

__all__ = ["OpsSet", "Optimize", "RepresentativeDataset", "TFLiteConverter", "TFLiteConverterV1", "TargetSpec"]

DEFAULT_SIGNATURE = "serving_default"


class Optimize(enum.Enum):
    """What to optimise for: quantization, in all cases."""

    DEFAULT = "DEFAULT"
    OPTIMIZE_FOR_SIZE = "OPTIMIZE_FOR_SIZE"
    OPTIMIZE_FOR_LATENCY = "OPTIMIZE_FOR_LATENCY"
    EXPERIMENTAL_SPARSITY = "EXPERIMENTAL_SPARSITY"


class OpsSet(enum.Enum):
    """Operators that a model may be expressed by."""

    TFLITE_BUILTINS = "TFLITE_BUILTINS"
    SELECT_TF_OPS = "SELECT_TF_OPS"
    TFLITE_BUILTINS_INT8 = "TFLITE_BUILTINS_INT8"
    EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8 = (
        "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"
    )
    EXPERIMENTAL_STABLEHLO_OPS = "EXPERIMENTAL_STABLEHLO_OPS"


class RepresentativeDataset:
    """Samples to calibrate with: `input_gen` yields one list of inputs, or one mapping, a sample."""

    def __init__(self, input_gen: Callable[[], Any]):
        self.input_gen = input_gen


class TargetSpec:
    """What the target has: sets of operators (this module's, or tf.lite's) and element types."""

    supported_ops: Collection[Any]
    supported_types: Collection[Any]

    def __init__(
        self,
        supported_ops: Collection[Any] | None = None,
        supported_types: Collection[Any] | None = None,
        experimental_select_user_tf_ops: Collection[str] | None = None,
        experimental_supported_backends: Collection[str] | None = None,
    ):
        self.__dict__.update(
            dict.fromkeys(UNBUILT_OF_TARGETS, ()),
            supported_ops={OpsSet.TFLITE_BUILTINS} if supported_ops is None else supported_ops,
            supported_types=set() if supported_types is None else supported_types,
            experimental_select_user_tf_ops=set(experimental_select_user_tf_ops or ()),
            experimental_supported_backends=set(experimental_supported_backends or ()),
        )

    def __setattr__(self, name: str, value: Any) -> None:
        _set_known(self, name, value)


class TFLiteConverter:
    """Converts a model to TFLite: make one by a constructor, set attributes, call `convert`.

    Attributes are those of `tf.lite.TFLiteConverter`. `convert` raises `graphopt.UnsupportedError` for one that is set
    and whose job is not built yet; one that there is not raises `AttributeError` when it is set. Two are graphopt's
    own: `effort` says how hard to try for accuracy in int8, as for `graphopt.quantize`, and `notes` is what `convert`
    had to say.
    """

    target_spec: TargetSpec
    allow_custom_ops: bool
    effort: str
    notes: list[str]
    _read: Callable[[], Model]
    _signatures: tuple[str, ...]
    _experimental_use_buffer_offset: bool
    _kind: str  # of the model, as conversion metadata call it

    exclude_conversion_metadata: bool

    def __init__(self, read: Callable[[], Model], signatures: Sequence[str] = (), kind: str = "NONE"):
        values: dict[str, Any] = {name: new() for name, new in DEFAULTS.items()}
        self.__dict__.update({**IMMATERIAL, **values}, target_spec=TargetSpec())
        self.__dict__.update(_read=read, _signatures=tuple(signatures), _kind=kind, effort="default", notes=[])

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "target_ops":
            self.target_spec.supported_ops = value
        else:
            _set_known(self, name, value)

    # Constructors -----------------------------------------------------------------------------------------------

    @classmethod
    def from_saved_model(
        cls, saved_model_dir: str, signature_keys: Sequence[str] | None = None, tags: Collection[str] | None = None
    ) -> TFLiteConverter:
        """Of a SavedModel: all its signatures, or `signature_keys` alone, of the MetaGraph with these `tags`."""
        path = os.fspath(saved_model_dir)
        return cls(lambda: _loaded(path, tags=tags), signature_keys or (), "TF_SAVED_MODEL")

    @classmethod
    def from_keras_model(cls, model: Any) -> TFLiteConverter:
        """Of a Keras model that has been built, or called once."""
        from graphopt.sources_exported import read_keras

        return cls(lambda: read_keras(model), (), "KERAS_MODEL")

    @classmethod
    def from_concrete_functions(cls, funcs: Sequence[Any], trackable_obj: Any = None) -> TFLiteConverter:
        """Of ConcreteFunctions, several as signatures of their names; `trackable_obj` holds what they capture."""
        listed = list(funcs)
        if not listed:
            raise UsageError("there is no function to convert")
        for function in listed:
            if not hasattr(function, "structured_input_signature"):
                raise UsageError(f"a {type(function).__name__} is no ConcreteFunction: call get_concrete_function(…)")
        kind = "TF_CONCRETE_FUNCTIONS"
        if len(listed) == 1 and trackable_obj is None:
            return cls(lambda: _loaded(listed[0]), (), kind)
        named = {function.graph.name: function for function in listed}
        if len(named) < len(listed):
            raise UsageError("two of the functions have the same name, by which signatures are called")
        signatures = named if len(named) > 1 else {DEFAULT_SIGNATURE: listed[0]}
        return cls(lambda: _exported(signatures, trackable_obj), (), kind)

    @classmethod
    def experimental_from_jax(
        cls, serving_funcs: Sequence[Any], inputs: Sequence[Sequence[tuple[str, Any]]]
    ) -> TFLiteConverter:
        """Of one function of JAX, with the names and example values of its inputs."""
        if len(serving_funcs) != 1 or len(inputs) != 1:
            raise UsageError("give one function of JAX and one list of its inputs, (name, array) each")
        from graphopt.sources_exported import read_jax

        return cls(lambda: read_jax(serving_funcs[0], list(inputs[0])), (), "JAX")

    @classmethod
    def from_frozen_graph(
        cls,
        graph_def_file: str,
        input_arrays: Sequence[str],
        output_arrays: Sequence[str],
        input_shapes: Mapping[str, Sequence[int] | None] | None = None,
    ) -> TFLiteConverter:
        """Of a frozen GraphDef, binary or text, between these tensors; `input_shapes` by their names."""
        path = os.fspath(graph_def_file)
        ends = {"inputs": list(input_arrays), "outputs": list(output_arrays)}
        return cls(lambda: _shaped(_loaded(path, **ends), input_shapes), (), "TF_GRAPH_DEF")

    @classmethod
    def from_session(cls, sess: Any, input_tensors: Sequence[Any], output_tensors: Sequence[Any]) -> TFLiteConverter:
        """Of what a session computes between these tensors, with the values its variables have now."""
        from graphopt.compat.freezing import convert_variables_to_constants_from_session_graph

        outputs = [tensor.name for tensor in output_tensors]
        nodes = [name.partition(":")[0] for name in outputs]
        frozen = convert_variables_to_constants_from_session_graph(sess, sess.graph_def, nodes)
        inputs = [tensor.name for tensor in input_tensors]
        return cls(lambda: _loaded(frozen, inputs=inputs, outputs=outputs), (), "TF_SESSION")

    # Conversion -------------------------------------------------------------------------------------------------

    def convert(self) -> bytes:
        """The model as the bytes of a `.tflite` file.

        Raises `graphopt.UnsupportedError` for what TFLite cannot express, with a finding for each node, and for an
        attribute whose job is not built yet.
        """
        from graphopt.ir.formats.tflite import tflite_bytes

        model = quantized(self.lowered(), self)
        return tflite_bytes(model, apart=bool(self._experimental_use_buffer_offset) or None)

    def lowered(self) -> Model:
        """The model in TFLite's operators, before it is quantized. Raises what `convert` does."""
        from graphopt.backends.tflite.conversion import tell_kind
        from graphopt.lowering import lower

        unbuilt(self)
        made = lower(
            self._read(),
            "tflite",
            signatures=self._signatures,
            allow_flex="SELECT_TF_OPS" in operators_of(self),
            allow_custom_ops=bool(self.allow_custom_ops),
            conversion_metadata=not self.exclude_conversion_metadata,
        )
        tell_kind(made.model, self._kind)
        self.notes = list(made.notes)
        return made.model


class TFLiteConverterV1(TFLiteConverter):
    """`tf.compat.v1.lite.TFLiteConverter`: constructors with its arguments."""

    def get_input_arrays(self) -> list[str]:
        """Names of the inputs of the main graph."""
        return [value.name for value in self._read().graph.inputs]

    @classmethod
    def from_saved_model(  # type: ignore[override]
        cls,
        saved_model_dir: str,
        input_arrays: Sequence[str] | None = None,
        input_shapes: Mapping[str, Sequence[int] | None] | None = None,
        output_arrays: Sequence[str] | None = None,
        tag_set: Collection[str] | None = None,
        signature_key: str | None = None,
    ) -> TFLiteConverter:
        """Of one signature of a SavedModel, or of what lies between these tensors."""
        path = os.fspath(saved_model_dir)
        ends = {"inputs": input_arrays, "outputs": output_arrays}
        keys = () if input_arrays or output_arrays else (signature_key or DEFAULT_SIGNATURE,)
        return cls(lambda: _shaped(_loaded(path, tags=tag_set, **ends), input_shapes), keys, "TF_SAVED_MODEL")

    @classmethod
    def from_keras_model_file(
        cls,
        model_file: str,
        input_arrays: Sequence[str] | None = None,
        input_shapes: Mapping[str, Sequence[int] | None] | None = None,
        output_arrays: Sequence[str] | None = None,
    ) -> TFLiteConverter:
        """Of a Keras model in a file."""
        path = os.fspath(model_file)
        ends = {"inputs": input_arrays, "outputs": output_arrays}
        return cls(lambda: _shaped(_loaded(path, **ends), input_shapes), (), "KERAS_MODEL")


def _set_known(holder: Any, name: str, value: Any) -> None:
    """Set an attribute that there is. Raises `AttributeError` for one that there is not."""
    if name not in holder.__dict__:
        from graphopt.passes.spec import suggestion

        raise AttributeError(f"{type(holder).__name__} has no attribute '{name}'{suggestion(name, holder.__dict__)}")
    holder.__dict__[name] = value


def _loaded(source: Any, **options: Any) -> Model:
    from graphopt.api import load

    return load(source, **options)


def _exported(functions: Mapping[str, Any], owner: Any) -> Model:
    from graphopt.sources_exported import read_functions

    return read_functions(functions, owner)


def _shaped(model: Model, shapes: Mapping[str, Sequence[int] | None] | None) -> Model:
    given = {name: shape for name, shape in (shapes or {}).items() if shape is not None}
    if not given:
        return model
    from graphopt.passes.manager import PassManager
    from graphopt.passes.shapes.set_shapes import SetShapes

    for name, shape in given.items():
        if not all(isinstance(dim, int) and dim >= -1 for dim in shape):
            raise UsageError(f"the shape {list(shape)!r} of '{printable(name)}' is no list of dimensions")
    written = tuple(f"{name}:{','.join(map(str, shape))}" for name, shape in given.items())
    PassManager([SetShapes(shapes=written)]).run(model)
    return model
