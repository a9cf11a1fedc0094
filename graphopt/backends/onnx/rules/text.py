"""Text, and looking into tables of known contents, with ONNX's operators for strings and `ai.onnx.ml.LabelEncoder`."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.onnx.rules.common import cast
from graphopt.backends.onnx.table import RULES
from graphopt.backends.tables import contents
from graphopt.ir.known import known_array
from graphopt.ir.tensors import Tensor, tensor
from graphopt.ir.types import FLOAT32, INT32, INT64, STRING, DType, TensorType
from graphopt.ir.value import Value

ENCODER = "ai.onnx.ml.LabelEncoder"
UNKNOWN = "what is in its table is not known", "fill the table once, with constants"
# Element types that LabelEncoder has, as which others go in and come out.
ENCODED = {INT32: INT64, INT64: INT64, FLOAT32: FLOAT32, STRING: STRING}


@RULES.legalize("tf.StringJoin")
def joined_text(op: Lowering) -> Value:
    """Texts one behind the other, with a separator between them."""
    separator = op.text("separator")
    made = op.input(0)
    for place, value in enumerate(op.inputs[1:]):
        if separator:
            held = op.constant(tensor(np.array(separator.encode(), object)), name=f"{op.node.name}/separator")
            made = op.emit("StringConcat", made, held, name=f"{op.node.name}/{place}/separated")
        made = op.emit("StringConcat", made, value, name=f"{op.node.name}/{place}")
    return made


@RULES.legalize("tf.StaticRegexFullMatch")
def full_match(op: Lowering) -> Value:
    """Whether the whole text matches a pattern."""
    return op.emit("RegexFullMatch", op.input(0), pattern=op.text("pattern").encode())


@RULES.legalize("tf.StringToNumber")
def number_of_text(op: Lowering) -> Value:
    """The number that a text says."""
    return cast(op, op.input(0), op.type.dtype)


@RULES.legalize("tf.AsString")
def text_of_number(op: Lowering) -> Value:
    """Whole numbers as text."""
    if not op.input(0).dtype.is_integer or op.attr("width", -1) != -1 or op.text("fill"):
        op.refuse("only whole numbers without a width are written alike", "write numbers outside the model")
    return cast(op, op.input(0), STRING)


@RULES.legalize("tf.LookupTableSize", "tf.LookupTableSizeV2")
def table_size(op: Lowering) -> Value:
    """The number of entries of a table of known contents."""
    held = contents(op.node)
    if held is None:
        op.refuse(*UNKNOWN)
    return op.constant(np.asarray(held[0].size, np.int64), name=op.node.name)


@RULES.legalize("tf.LookupTableFind", "tf.LookupTableFindV2")
def look_up(op: Lowering) -> Value:
    """Values of keys, in a table of known contents."""
    held = contents(op.node)
    if held is None:
        op.refuse(*UNKNOWN)
    keys, values = held
    otherwise = known_array(op.input(2))
    kinds = [ENCODED.get(item.dtype) for item in held]
    if otherwise is None or values.shape != keys.shape or None in kinds:
        op.refuse("its default is computed, or its keys or values are of a kind that ONNX's tables do not have")
    source, target = kinds
    assert source is not None
    assert target is not None
    default = np.asarray(otherwise).reshape(1)
    attrs = {"keys_tensor": _entries(keys, source), "values_tensor": _entries(values, target),
             "default_tensor": _held(default, target)}  # fmt: skip
    kind = TensorType(target, op.type.shape)
    node = op.edit.node(ENCODER, [cast(op, op.input(1), source)], attrs, types=[kind], name=f"{op.node.name}/found")
    return cast(op, node.output, op.type.dtype)


def _entries(held: Tensor, dtype: DType) -> Tensor:
    return _held(held.numpy().reshape(-1), dtype)


def _held(array: Any, dtype: DType) -> Tensor:
    return tensor(array.astype(object) if dtype is STRING else array.astype(dtype.numpy))
