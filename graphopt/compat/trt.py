"""`TrtGraphConverterV2` in the shape of TF-TRT's: a script changes one import.

TF-TRT is no part of TensorFlow any more. This converter lowers the whole model to ONNX for TensorRT; `save` writes a
folder from which `build_engine.py` builds the engine where TensorRT and a GPU are.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from graphopt.backends.base import Lowered
from graphopt.backends.tensorrt.layer_report import layer_report
from graphopt.backends.tensorrt.profiles import Profile
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model

__all__ = [
    "DEFAULT_TRT_CONVERSION_PARAMS",
    "TrtConversionParams",
    "TrtGraphConverterV2",
    "TrtPrecisionMode",
    "UnsupportedParameterError",
]

_PRECISIONS = {"FP32": "fp32", "FP16": "fp16", "BF16": "bf16", "INT8": "int8"}
InputFunction = Callable[[], Iterable[Any]]


class TrtPrecisionMode(str, enum.Enum):
    """Precisions, by TF-TRT's names, and BF16."""

    FP32 = "FP32"
    FP16 = "FP16"
    BF16 = "BF16"
    INT8 = "INT8"


class UnsupportedParameterError(UsageError):
    """A parameter of TF-TRT's has a value that nothing here corresponds to; the message says what to use instead."""


SEGMENT = 3  # TF-TRT's least size of a segment
STRATEGIES = ("Range", "Optimal", "Range+Optimal", "ImplicitBatchModeCompatible")


class TrtConversionParams(NamedTuple):
    """TF-TRT's parameters, by its names; `TrtGraphConverterV2` says what each means here."""

    max_workspace_size_bytes: int = 0
    precision_mode: str | TrtPrecisionMode = "FP32"
    minimum_segment_size: int = SEGMENT
    maximum_cached_engines: int = 1
    use_calibration: bool = True
    allow_build_at_runtime: bool = True


DEFAULT_TRT_CONVERSION_PARAMS = TrtConversionParams()


class TrtGraphConverterV2:
    """Converts a SavedModel for TensorRT: `convert`, then `build` where shapes are dynamic, then `save`.

    Arguments are TF-TRT's, and there is one engine for the whole model:

    - `precision_mode` is FP32, FP16, BF16 or INT8; INT8 needs samples (`calibration_input_fn`).
    - `input_saved_model_tags` and `input_saved_model_signature_key` choose what is converted.
    - `use_dynamic_shape` off makes an engine of one shape, that of the samples of `build`.
    - `dynamic_shape_profile_strategy` is Range, from the smallest to the largest shape, or
      ImplicitBatchModeCompatible, which starts at a batch of one. Optimal makes an engine of one shape.
    - `max_workspace_size_bytes` bounds the memory that building may take; zero does not.
    - `minimum_segment_size`: where more than TF-TRT's own 3 is asked for, a model of fewer layers is refused.
    - `maximum_cached_engines`: one engine serves all shapes of its profile, so any number will do.
    - `allow_build_at_runtime` off lets `save` build the engine, which takes TensorRT and a GPU.

    Raises `UnsupportedParameterError` for values that mean nothing here.
    """

    def __init__(
        self,
        input_saved_model_dir: str | os.PathLike[str] | None = None,
        input_saved_model_tags: Any = None,
        input_saved_model_signature_key: str | None = None,
        use_dynamic_shape: bool | None = None,
        dynamic_shape_profile_strategy: str | None = None,
        max_workspace_size_bytes: int = 0,
        precision_mode: str | TrtPrecisionMode = "FP32",
        minimum_segment_size: int = SEGMENT,
        maximum_cached_engines: int = 1,
        use_calibration: bool = True,
        allow_build_at_runtime: bool = True,
        conversion_params: TrtConversionParams | Mapping[str, Any] | None = None,
    ):
        if input_saved_model_dir is None:
            raise UsageError("name the SavedModel: input_saved_model_dir=")
        given = TrtConversionParams(
            max_workspace_size_bytes, precision_mode, minimum_segment_size, maximum_cached_engines, use_calibration,
            allow_build_at_runtime,
        )  # fmt: skip
        self._params = _checked(given, conversion_params)
        self._strategy = _checked_strategy(dynamic_shape_profile_strategy, use_dynamic_shape)
        self._source = os.fspath(input_saved_model_dir)
        self._tags = input_saved_model_tags
        self._signature = input_saved_model_signature_key
        self._precision = _PRECISIONS[_mode(self._params.precision_mode)]
        self._model: Model | None = None
        self._samples: list[Any] | None = None
        self._profiles: dict[str, Profile] = {}
        self._lowered: Lowered | None = None

    def convert(self, calibration_input_fn: InputFunction | None = None) -> None:
        """Read the model; lower it, unless its inputs are dynamic, which `build` gives profiles.

        `calibration_input_fn` yields samples: in INT8 they are needed, in FP16 they show what leaves its range. Raises
        `UnloweredError` for what TensorRT refuses.
        """
        from graphopt import api
        from graphopt.ir.infer import infer_model

        if self._precision == "int8" and calibration_input_fn is None:
            raise UsageError("INT8 needs samples: convert(calibration_input_fn=…)")
        self._model = api.load(self._source, tags=self._tags)
        infer_model(self._model)
        self._samples = None if calibration_input_fn is None else list(calibration_input_fn())
        if not self._dynamic():
            self._lower()

    def build(self, input_fn: InputFunction) -> None:
        """Profiles from the shapes of samples: the smallest and the largest seen, and those of the last sample as the
        best. Raises `UsageError` before `convert`."""
        import numpy as np

        seen: dict[str, list[tuple[int, ...]]] = {}
        for sample in input_fn():
            named = sample if isinstance(sample, Mapping) else dict(zip(self._inputs(), _listed(sample), strict=False))
            for name, value in named.items():
                seen.setdefault(name, []).append(tuple(np.shape(value)))
        dynamic = self._dynamic()
        missing = [name for name in dynamic if name not in seen]
        if missing:
            raise UsageError(f"the samples have nothing for the dynamic input '{printable(missing[0])}'")
        self._profiles = {name: _profile(name, seen[name], self._strategy) for name in dynamic}
        self._lower()

    def save(
        self,
        output_saved_model_dir: str | os.PathLike[str],
        save_gpu_specific_engines: bool = True,
        options: Any = None,
        *,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write the folder for TensorRT; returns its manifest.

        The engine is built by the folder's script, on the card it is for: with `save_gpu_specific_engines` and
        `allow_build_at_runtime` off, here and now. Raises `UsageError` before `convert` (and `build`),
        `UnsupportedParameterError` for `options`, `NoTensorRTError` where an engine is to be built and cannot be.
        """
        from graphopt.backends.tensorrt.artifact import write_artifact

        if options is not None:
            raise UnsupportedParameterError("options= are a SavedModel's; what is written is a folder for TensorRT")
        return write_artifact(
            self._done(), output_saved_model_dir, overwrite=overwrite,
            workspace=self._params.max_workspace_size_bytes,
            build=save_gpu_specific_engines and not self._params.allow_build_at_runtime,
        )  # fmt: skip

    def summary(self, line_length: int = 160, detailed: bool = True, print_fn: Callable[[str], Any] = print) -> None:
        """Print the layers: operator, type, shape, bytes of weights."""
        report = layer_report(self._done().model)
        if detailed:
            for layer in report["layers"]:
                kinds, shapes = ", ".join(layer["types"]), ", ".join(layer["shapes"])
                line = f"{layer['operator']:<22}{kinds:<10}{shapes:<24}{layer['weight_bytes']:>12}  {layer['name']}"
                print_fn(line[:line_length])
        counts = ", ".join(f"{kind}: {count}" for kind, count in report["layers_by_type"].items())
        print_fn(f"{report['nodes']} layers in one engine ({counts}); {report['transposes']} transposes")

    def _loaded(self) -> Model:
        if self._model is None:
            raise UsageError("call convert() first")
        return self._model

    def _inputs(self) -> list[str]:
        model = self._loaded()
        return list(model.signatures[self._signature_of(model)].inputs)

    def _signature_of(self, model: Model) -> str:
        name = self._signature or ("serving_default" if "serving_default" in model.signatures else "")
        if name and name not in model.signatures:
            raise UsageError(f"there is no signature '{printable(name)}'; there are {', '.join(model.signatures)}")
        return name or next(iter(model.signatures))

    def _dynamic(self) -> list[str]:
        model = self._loaded()
        values = model.signatures[self._signature_of(model)].input_values()
        return [name for name, value in values.items() if value.shape.static is None]

    def _lower(self) -> None:
        from graphopt.lowering import lower

        model = self._loaded()
        self._lowered = lower(
            model, "tensorrt", signatures=(self._signature_of(model),), precision=self._precision,
            profiles=self._profiles, data=self._samples,
        )  # fmt: skip
        least = self._params.minimum_segment_size
        layers = layer_report(self._lowered.model)["nodes"]
        if layers < least and least > SEGMENT:
            self._lowered = None
            raise UnsupportedParameterError(
                f"the model has {layers} layers, fewer than minimum_segment_size={least}: TF-TRT would leave it in "
                "TensorFlow; lower minimum_segment_size to convert it all the same"
            )

    def _done(self) -> Lowered:
        if self._lowered is None:
            step = "build(input_fn), which gives dynamic inputs their profiles" if self._model else "convert()"
            raise UsageError(f"call {step} first")
        return self._lowered


def _listed(sample: Any) -> list[Any]:
    return list(sample) if isinstance(sample, (list, tuple)) else [sample]


def _profile(name: str, shapes: list[tuple[int, ...]], strategy: str) -> Profile:
    if len({len(shape) for shape in shapes}) != 1:
        raise UsageError("the samples of one input differ in rank")
    least = tuple(min(sizes) for sizes in zip(*shapes, strict=True))
    most = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    if strategy == "Optimal" and least != most:
        raise UnsupportedParameterError(
            f"the samples of '{printable(name)}' have several shapes, and there is one engine: let "
            "dynamic_shape_profile_strategy be 'Range' (and use_dynamic_shape be on)"
        )
    if strategy == "ImplicitBatchModeCompatible":
        if least[1:] != most[1:]:
            raise UnsupportedParameterError(
                f"the samples of '{printable(name)}' differ in more than their batch: let "
                "dynamic_shape_profile_strategy be 'Range'"
            )
        least = (min(1, *least[:1]), *least[1:])
    return Profile(least, shapes[-1], most)


def _mode(given: Any) -> str:
    mode = str(getattr(given, "value", given)).upper()
    if mode not in _PRECISIONS:
        raise UsageError(f"there is no precision '{printable(mode)}'; there are {', '.join(_PRECISIONS)}")
    return mode


def _checked(given: TrtConversionParams, over: Any) -> TrtConversionParams:
    """The parameters, those of `conversion_params` over the others."""
    changed = over._asdict() if hasattr(over, "_asdict") else dict(over or {})
    unknown = next((name for name in changed if name not in given._fields), None)
    if unknown is not None:
        there = ", ".join(given._fields)
        raise UnsupportedParameterError(f"conversion_params has '{printable(unknown)}'; there are {there}")
    params = given._replace(**changed)
    if params.max_workspace_size_bytes < 0:
        raise UnsupportedParameterError("max_workspace_size_bytes is below zero; zero sets no bound")
    if params.maximum_cached_engines < 1:
        raise UnsupportedParameterError("maximum_cached_engines is below one, and there is one engine")
    if _mode(params.precision_mode) == "INT8" and not params.use_calibration:
        raise UnsupportedParameterError(
            "use_calibration=False leaves INT8 without ranges: calibrate (convert(calibration_input_fn=…)), or lower "
            "with statistics of your own (graphopt.lower(…, 'tensorrt', statistics=…))"
        )
    return params


def _checked_strategy(strategy: str | None, use_dynamic_shape: bool | None) -> str:
    if strategy is not None and strategy not in STRATEGIES:
        there = ", ".join(STRATEGIES)
        raise UnsupportedParameterError(f"there is no profile strategy '{printable(strategy)}'; there are {there}")
    if strategy == "Range+Optimal":
        raise UnsupportedParameterError(
            "'Range+Optimal' makes several profiles, and an engine here has one: let dynamic_shape_profile_strategy be "
            "'Range'; the shape of the last sample is the one to tune for"
        )
    if use_dynamic_shape is False:
        return "Optimal"
    return strategy or "Range"
