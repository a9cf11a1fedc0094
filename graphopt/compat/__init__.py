"""Names and arguments that people already use, on top of graphopt."""

from graphopt.compat.tflite import (
    OpsSet,
    Optimize,
    RepresentativeDataset,
    TargetSpec,
    TFLiteConverter,
    TFLiteConverterV1,
)
from graphopt.compat.trt import TrtConversionParams, TrtGraphConverterV2, TrtPrecisionMode

__all__ = [
    "OpsSet",
    "Optimize",
    "RepresentativeDataset",
    "TFLiteConverter",
    "TFLiteConverterV1",
    "TargetSpec",
    "TrtConversionParams",
    "TrtGraphConverterV2",
    "TrtPrecisionMode",
]
