"""The tables of TFLite Metadata (schema version 1.5.0) and of conversion metadata, with the schema's names.

A process unit is its options. Types of files, colour spaces and so on are the names of the enumerations' values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class AssociatedFile:
    """A file packed into the model: its name there, and what it is: `TENSOR_AXIS_LABELS`, `VOCABULARY` and so on."""

    TABLE: ClassVar[str] = "AssociatedFile"
    name: str = ""
    description: str = ""
    type: str = "UNKNOWN"
    locale: str = ""
    version: str = ""


@dataclass(frozen=True)
class ImageSize:
    """Width and height of an image."""

    TABLE: ClassVar[str] = "ImageSize"
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class ImageProperties:
    """An image: `color_space` is `RGB` or `GRAYSCALE`."""

    TABLE: ClassVar[str] = "ImageProperties"
    color_space: str = "UNKNOWN"
    default_size: ImageSize | None = None


@dataclass(frozen=True)
class FeatureProperties:
    """Numbers of no particular kind."""

    TABLE: ClassVar[str] = "FeatureProperties"


@dataclass(frozen=True)
class BoundingBoxProperties:
    """Boxes: `type` is `BOUNDARIES`, `UPPER_LEFT` or `CENTER`, `index` the order of the four numbers."""

    TABLE: ClassVar[str] = "BoundingBoxProperties"
    index: tuple[int, ...] = ()
    type: str = "UNKNOWN"
    coordinate_type: str = "RATIO"


@dataclass(frozen=True)
class AudioProperties:
    """Sound: samples a second and channels."""

    TABLE: ClassVar[str] = "AudioProperties"
    sample_rate: int = 0
    channels: int = 0


Properties = ImageProperties | FeatureProperties | BoundingBoxProperties | AudioProperties


@dataclass(frozen=True)
class ValueRange:
    """First and last dimension."""

    TABLE: ClassVar[str] = "ValueRange"
    min: int = 0
    max: int = 0


@dataclass(frozen=True)
class Content:
    """What a tensor holds, in the dimensions of `range` where it is not in all but the batch."""

    TABLE: ClassVar[str] = "Content"
    content_properties: Properties | None = None
    range: ValueRange | None = None


@dataclass(frozen=True)
class NormalizationOptions:
    """`(x - mean) / std`, one number for all channels or one for each."""

    TABLE: ClassVar[str] = "NormalizationOptions"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class ScoreCalibrationOptions:
    """Scores are calibrated by the parameters in a file of type `TENSOR_AXIS_SCORE_CALIBRATION`."""

    TABLE: ClassVar[str] = "ScoreCalibrationOptions"
    score_transformation: str = "IDENTITY"
    default_score: float = 0.0


@dataclass(frozen=True)
class ScoreThresholdingOptions:
    """Scores below the threshold count for nothing."""

    TABLE: ClassVar[str] = "ScoreThresholdingOptions"
    global_score_threshold: float = 0.0


@dataclass(frozen=True)
class BertTokenizerOptions:
    """Text becomes tokens as BERT's tokenizer makes them."""

    TABLE: ClassVar[str] = "BertTokenizerOptions"
    vocab_file: tuple[AssociatedFile, ...] = ()


@dataclass(frozen=True)
class SentencePieceTokenizerOptions:
    """Text becomes tokens by a SentencePiece model."""

    TABLE: ClassVar[str] = "SentencePieceTokenizerOptions"
    sentencePiece_model: tuple[AssociatedFile, ...] = ()
    vocab_file: tuple[AssociatedFile, ...] = ()


@dataclass(frozen=True)
class RegexTokenizerOptions:
    """Text becomes tokens where a regular expression matches what is between them."""

    TABLE: ClassVar[str] = "RegexTokenizerOptions"
    delim_regex_pattern: str = ""
    vocab_file: tuple[AssociatedFile, ...] = ()


ProcessUnit = (
    NormalizationOptions
    | ScoreCalibrationOptions
    | ScoreThresholdingOptions
    | BertTokenizerOptions
    | SentencePieceTokenizerOptions
    | RegexTokenizerOptions
)


@dataclass(frozen=True)
class Stats:
    """Largest and smallest values of a tensor, one for all channels or one for each."""

    TABLE: ClassVar[str] = "Stats"
    max: tuple[float, ...] = ()
    min: tuple[float, ...] = ()


@dataclass(frozen=True)
class TensorMetadata:
    """One input or output, in the order in which the subgraph has them."""

    TABLE: ClassVar[str] = "TensorMetadata"
    name: str = ""
    description: str = ""
    dimension_names: tuple[str, ...] = ()
    content: Content | None = None
    process_units: tuple[ProcessUnit, ...] = ()
    stats: Stats | None = None
    associated_files: tuple[AssociatedFile, ...] = ()


@dataclass(frozen=True)
class TensorGroup:
    """Tensors that belong together, by their names in the metadata."""

    TABLE: ClassVar[str] = "TensorGroup"
    name: str = ""
    tensor_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class CustomMetadata:
    """Data of somebody else's format."""

    TABLE: ClassVar[str] = "CustomMetadata"
    name: str = ""
    data: bytes = b""


@dataclass(frozen=True)
class SubGraphMetadata:
    """One subgraph: its inputs and outputs, all of them or none."""

    TABLE: ClassVar[str] = "SubGraphMetadata"
    name: str = ""
    description: str = ""
    input_tensor_metadata: tuple[TensorMetadata, ...] = ()
    output_tensor_metadata: tuple[TensorMetadata, ...] = ()
    associated_files: tuple[AssociatedFile, ...] = ()
    input_process_units: tuple[ProcessUnit, ...] = ()
    output_process_units: tuple[ProcessUnit, ...] = ()
    input_tensor_groups: tuple[TensorGroup, ...] = ()
    output_tensor_groups: tuple[TensorGroup, ...] = ()
    custom_metadata: tuple[CustomMetadata, ...] = ()


@dataclass(frozen=True)
class Metadata:
    """A whole model. `min_parser_version` is computed when the metadata are attached."""

    TABLE: ClassVar[str] = "ModelMetadata"
    name: str = ""
    description: str = ""
    version: str = ""
    subgraph_metadata: tuple[SubGraphMetadata, ...] = ()
    author: str = ""
    license: str = ""
    associated_files: tuple[AssociatedFile, ...] = ()
    min_parser_version: str = ""

    def file_names(self) -> tuple[str, ...]:
        """Names of the associated files anywhere in the metadata, each once."""
        found: dict[str, None] = {}
        stack: list[Any] = [self]
        while stack:
            item = stack.pop()
            if isinstance(item, AssociatedFile):
                found[item.name] = None
            elif hasattr(item, "TABLE"):
                stack += [getattr(item, field.name) for field in reversed(fields(item))]
            elif isinstance(item, tuple):
                stack += reversed(item)
        return tuple(found)


@dataclass(frozen=True)
class Environment:
    """What converted the model: `model_type` is `TF_SAVED_MODEL`, `KERAS_MODEL`, `TF_GRAPH_DEF` and so on."""

    TABLE: ClassVar[str] = "Environment"
    tensorflow_version: str = ""
    api_version: int = 0
    model_type: str = "NONE"
    model_hash: int = 0


@dataclass(frozen=True)
class SparsityBlockSize:
    """Sizes of the blocks of a sparse tensor."""

    TABLE: ClassVar[str] = "SparsityBlockSize"
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class ConversionOptions:
    """How it was converted: `model_optimization_modes` are `PTQ_FLOAT16`, `PTQ_DYNAMIC_RANGE` and so on."""

    TABLE: ClassVar[str] = "ConversionOptions"
    model_optimization_modes: tuple[str, ...] = ()
    allow_custom_ops: bool = False
    enable_select_tf_ops: bool = False
    force_select_tf_ops: bool = False
    sparsity_block_sizes: tuple[SparsityBlockSize, ...] = ()


@dataclass(frozen=True)
class ConversionMetadata:
    """Where a model comes from and how it was converted."""

    TABLE: ClassVar[str] = "ConversionMetadata"
    environment: Environment | None = None
    options: ConversionOptions | None = None


CLASSES: Mapping[str, Any] = {
    item.TABLE: item
    for item in (
        AssociatedFile, ImageSize, ImageProperties, FeatureProperties, BoundingBoxProperties, AudioProperties,
        ValueRange, Content, NormalizationOptions, ScoreCalibrationOptions, ScoreThresholdingOptions,
        BertTokenizerOptions, SentencePieceTokenizerOptions, RegexTokenizerOptions, Stats, TensorMetadata, TensorGroup,
        CustomMetadata, SubGraphMetadata, Metadata, Environment, SparsityBlockSize, ConversionOptions,
        ConversionMetadata,
    )
}  # fmt: skip
