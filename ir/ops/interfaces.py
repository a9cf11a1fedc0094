"""Operator interfaces: arguments and attributes with defaults, as TensorFlow's own registry gives them.

The table is `tf_interfaces.txt` (written by tools/generate_op_interfaces.py, which states its grammar); a line is
parsed when its operator is first asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any, NamedTuple

from graphopt.ir.tensors import tensor
from graphopt.ir.types import DTYPES, UNKNOWN_DTYPE, DType, Shape, unshaped
from graphopt.ir.types import TensorType as _TensorType

OUTPUT_LIMIT = 1 << 16  # outputs of one node beyond which its attributes are taken for nonsense


class Argument(NamedTuple):
    """One declared input or output, which may stand for several tensors.

    `type_attr`, `number_attr` and `list_attr` name attributes; `dtype` is set where the type is fixed.
    """

    name: str
    type_attr: str = ""
    dtype: DType | None = None
    number_attr: str = ""
    list_attr: str = ""
    is_ref: bool = False

    def dtypes(self, attrs: Mapping[str, Any]) -> list[DType]:
        """Types of the tensors it stands for.

        Raises `KeyError` where an attribute that decides them is missing, `ValueError` where it is absurd.
        """
        if self.list_attr:
            listed = attrs[self.list_attr]
            if not isinstance(listed, tuple) or not all(isinstance(item, DType) for item in listed):
                raise ValueError(f"attribute '{self.list_attr}' must be a list of types")
            return list(listed)
        dtype = self.dtype if self.dtype is not None else attrs[self.type_attr]
        if not isinstance(dtype, DType):
            raise ValueError(f"attribute '{self.type_attr}' must be a type")
        if self.is_ref and dtype.code and dtype.code < 100:
            dtype = DTYPES[f"{dtype.name}_ref"]
        if not self.number_attr:
            return [dtype]
        count = attrs[self.number_attr]
        if type(count) is not int or not 0 <= count <= OUTPUT_LIMIT:
            raise ValueError(f"attribute '{self.number_attr}' must be a number between 0 and {OUTPUT_LIMIT}")
        return [dtype] * count


@dataclass(frozen=True)
class Interface:
    """What TensorFlow declares of an operator."""

    name: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    attr_kinds: Mapping[str, str]
    defaults: Mapping[str, Any]
    is_stateful: bool
    is_commutative: bool

    def with_defaults(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        """`attrs` with the declared defaults filled in."""
        return {**self.defaults, **attrs}

    def output_types(self, attrs: Mapping[str, Any]) -> tuple[_TensorType, ...]:
        """One type, of unknown shape, for each output of a node with these attributes.

        Raises `KeyError` or `ValueError` where an attribute that decides it is missing or absurd.
        """
        complete = self.with_defaults(attrs)
        return tuple(unshaped(dtype) for argument in self.outputs for dtype in argument.dtypes(complete))

    def input_types(self, attrs: Mapping[str, Any]) -> tuple[DType, ...]:
        """The element type each data input must have. Raises like `output_types`."""
        complete = self.with_defaults(attrs)
        return tuple(dtype for argument in self.inputs for dtype in argument.dtypes(complete))

    def output_ports(self, attrs: Mapping[str, Any]) -> list[tuple[str, int]]:
        """For each output its argument's name and the place within it, as function bodies name tensors."""
        complete = self.with_defaults(attrs)
        return [(a.name, place) for a in self.outputs for place in range(len(a.dtypes(complete)))]


# Operators of TensorFlow's models that TensorFlow itself does not have: those of its detection models for TFLite.
_OTHERS: Mapping[str, str] = {
    "TFLite_Detection_PostProcess": "TFLite_Detection_PostProcess\t\t"
    "box_encodings:@float32 class_predictions:@float32 anchors:@float32\t"
    "detection_boxes:@float32 detection_classes:@float32 detection_scores:@float32 num_detections:@float32\t"
    "max_detections:int max_classes_per_detection:int detections_per_class:int=100 use_regular_nms:bool=False "
    "nms_score_threshold:float nms_iou_threshold:float num_classes:int y_scale:float x_scale:float h_scale:float "
    "w_scale:float"
}


@lru_cache(maxsize=1)
def _lines() -> dict[str, str]:
    text = resources.files("graphopt.ir.ops").joinpath("tf_interfaces.txt").read_text(encoding="utf-8")
    return {line[: line.index("\t")]: line for line in text.splitlines()}


@cache
def interface(name: str) -> Interface | None:
    """The interface of TensorFlow's operator `name`, or None for one that nobody knows."""
    line = _lines().get(name) or _OTHERS.get(name)
    if line is None:
        return None
    _, flags, inputs, outputs, attributes = line.split("\t")
    kinds: dict[str, str] = {}
    defaults: dict[str, Any] = {}
    for text in attributes.split():
        declared, equals, default = text.partition("=")
        attr, _, kind = declared.partition(":")
        kinds[attr] = kind
        if equals:
            defaults[attr] = _default(default.replace("\\x20", " "), kind)
    return Interface(name, _arguments(inputs), _arguments(outputs), kinds, defaults, "s" in flags, "c" in flags)


def interface_names() -> tuple[str, ...]:
    """Names of all operators in the table."""
    return tuple(_lines())


def _arguments(text: str) -> tuple[Argument, ...]:
    return tuple(_argument(part) for part in text.split())


def _argument(text: str) -> Argument:
    name, _, kind = text.partition(":")
    is_ref = kind.startswith("&")
    kind = kind.lstrip("&")
    if kind.startswith("**"):
        return Argument(name, list_attr=kind[2:], is_ref=is_ref)
    number, star, kind_after = kind.partition("*")
    if star:
        kind = kind_after
    else:
        number = ""
    if kind.startswith("@"):
        return Argument(name, dtype=DTYPES[kind[1:]], number_attr=number, is_ref=is_ref)
    return Argument(name, type_attr=kind, number_attr=number, is_ref=is_ref)


def _default(text: str, kind: str) -> Any:
    if kind.startswith("list("):
        return tuple(_default(item, kind[5:-1]) for item in text[1:-1].split(";") if item)
    if text.startswith("@"):
        return DTYPES.get(text[1:], UNKNOWN_DTYPE)
    if kind == "shape":
        return Shape(None) if text == "?" else Shape(None if d < 0 else d for d in ast.literal_eval(text))
    if text.startswith("%"):
        dtype, _, values = text[1:].partition(":")
        return tensor(ast.literal_eval(values), DTYPES[dtype])
    if text.startswith("!"):
        return None
    if kind == "float":
        return float(text)
    if kind == "int":
        return int(text)
    if kind == "bool":
        return text == "True"
    if kind == "string" and "\\" not in text:
        return text[2:-1].encode()
    return ast.literal_eval(text)
