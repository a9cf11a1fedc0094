"""`TrtGraphConverterV2` in the shape of TF-TRT's: a script changes one import.

TF-TRT is no part of TensorFlow any more. This converter lowers the whole model to ONNX for TensorRT; `save` writes a
folder from which `build_engine.py` builds the engine where TensorRT and a GPU are.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from graphopt.backends.base import Lowered
from graphopt.backends.tensorrt.layer_report import layer_report
from graphopt.backends.tensorrt.profiles import Profile
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model

__all__ = ["TrtConversionParams", "TrtGraphConverterV2", "TrtPrecisionMode"]

_PRECISIONS = {"FP32": "fp32", "FP16": "fp16", "BF16": "bf16", "INT8": "int8"}
InputFunction = Callable[[], Iterable[Any]]


class TrtPrecisionMode(str, enum.Enum):
    """Precisions, by TF-TRT's names, and BF16."""

    FP32 = "FP32"
    FP16 = "FP16"
    BF16 = "BF16"
    INT8 = "INT8"


class TrtConversionParams(dict[str, Any]):
    """TF-TRT's parameters; `precision_mode` counts, the others are about segments and engines within TensorFlow."""

    def _replace(self, **changed: Any) -> TrtConversionParams:
        return TrtConversionParams({**self, **changed})


class TrtGraphConverterV2:
    """Converts a SavedModel for TensorRT: `convert`, then `build` where shapes are dynamic, then `save`.

    Arguments are TF-TRT's. Sizes of segments and workspaces, numbers of cached engines and the like are taken and have
    no effect: there is one engine, built later. `input_saved_model_signature_key` chooses what is converted.
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
        minimum_segment_size: int = 3,
        maximum_cached_engines: int = 1,
        use_calibration: bool = True,
        allow_build_at_runtime: bool = True,
        conversion_params: Mapping[str, Any] | None = None,
    ):
        if input_saved_model_dir is None:
            raise UsageError("name the SavedModel: input_saved_model_dir=")
        mode = str(getattr(precision_mode, "value", (conversion_params or {}).get("precision_mode", precision_mode)))
        if mode.upper() not in _PRECISIONS:
            raise UsageError(f"there is no precision '{printable(mode)}'; there are {', '.join(_PRECISIONS)}")
        self._source = os.fspath(input_saved_model_dir)
        self._tags = input_saved_model_tags
        self._signature = input_saved_model_signature_key
        self._precision = _PRECISIONS[mode.upper()]
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
        self._profiles = {name: _profile(seen[name]) for name in dynamic}
        self._lower()

    def save(
        self,
        output_saved_model_dir: str | os.PathLike[str],
        save_gpu_specific_engines: bool = True,
        options: Any = None,
        *,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write the folder for TensorRT; returns its manifest. Raises `UsageError` before `convert` (and `build`)."""
        from graphopt.backends.tensorrt.artifact import write_artifact

        return write_artifact(self._done(), output_saved_model_dir, overwrite=overwrite)

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

    def _done(self) -> Lowered:
        if self._lowered is None:
            step = "build(input_fn), which gives dynamic inputs their profiles" if self._model else "convert()"
            raise UsageError(f"call {step} first")
        return self._lowered


def _listed(sample: Any) -> list[Any]:
    return list(sample) if isinstance(sample, (list, tuple)) else [sample]


def _profile(shapes: list[tuple[int, ...]]) -> Profile:
    if len({len(shape) for shape in shapes}) != 1:
        raise UsageError("the samples of one input differ in rank")
    least = tuple(min(sizes) for sizes in zip(*shapes, strict=True))
    most = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    return Profile(least, shapes[-1], most)
