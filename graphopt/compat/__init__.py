"""Names and arguments that people already use, on top of graphopt."""

from graphopt.compat.tflite import (
    OpsSet,
    Optimize,
    RepresentativeDataset,
    TargetSpec,
    TFLiteConverter,
    TFLiteConverterV1,
)

__all__ = ["OpsSet", "Optimize", "RepresentativeDataset", "TFLiteConverter", "TFLiteConverterV1", "TargetSpec"]
