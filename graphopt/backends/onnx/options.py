"""What a caller may ask of the ONNX backend."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OnnxOptions:
    """`signatures` names the one to lower, the default one if none is named: an ONNX file has one graph. `opset` is
    the version of ONNX's operator set. With `widen`, operators for whose element types ONNX Runtime has no kernel
    compute in wider ones. With `efficient_nms`, heads of detectors become TensorRT's plugin of that name."""

    signatures: tuple[str, ...] = ()
    opset: int = 21
    widen: bool = True
    efficient_nms: bool = False
