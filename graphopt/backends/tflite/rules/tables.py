"""Looking into tables of known contents. LiteRT has tables from text to numbers and from numbers to text."""

from __future__ import annotations

import numpy as np

from graphopt.backends.legalization import Lowering
from graphopt.backends.tables import contents
from graphopt.backends.tflite.rules.common import cast
from graphopt.backends.tflite.table import RULES
from graphopt.backends.tflite.tables import HANDLE, table_attributes
from graphopt.ir.known import known_array
from graphopt.ir.tensors import Tensor, tensor
from graphopt.ir.types import INT32, INT64, STRING, TensorType
from graphopt.ir.value import Value

NATIVE = frozenset({(STRING, INT64), (INT64, STRING)})
COMPARED = 1024  # keys that numbers are compared with, one by one
UNKNOWN = "what is in its table is not known", "fill the table once, with constants"


@RULES.legalize("tf.LookupTableSize", "tf.LookupTableSizeV2")
def table_size(op: Lowering) -> Value:
    """The number of entries of a table of known contents."""
    held = contents(op.node)
    if held is None:
        op.refuse(*UNKNOWN)
    return op.constant(np.asarray(held[0].size, np.int64), name=op.node.name)


@RULES.legalize("tf.LookupTableFind", "tf.LookupTableFindV2")
def look_up(op: Lowering) -> Value:
    """Values of keys. Text has numbers in a table, which are places among values of other types; numbers that have no
    text are compared with all keys."""
    held = contents(op.node)
    if held is None:
        op.refuse(*UNKNOWN)
    keys, values = held
    asked, default = op.input(1), op.input(2)
    if values.shape != keys.shape:
        op.refuse("its values are no scalars")
    if (keys.dtype, values.dtype) in NATIVE:
        return _found(op, keys, values, asked, default, op.type, op.node.name)
    if keys.dtype is INT32 and values.dtype is STRING:
        wide = tensor(keys.numpy().astype(np.int64))
        return _found(op, wide, values, cast(op, asked, INT64), default, op.type, op.node.name)
    if keys.dtype is STRING:
        return _by_place(op, keys, values, asked, default)
    if not keys.dtype.is_integer:
        op.refuse(f"LiteRT has no tables whose keys are {keys.dtype.name}")
    return _compared(op, keys, values, asked, default)


def _found(
    op: Lowering, keys: Tensor, values: Tensor, asked: Value, default: Value, type: TensorType, name: str
) -> Value:
    table = op.emit_node("HASHTABLE", (), [HANDLE], f"{op.node.name}/table", table_attributes(keys, values)).output
    return op.emit("HASHTABLE_FIND", table, asked, default, type=type, name=name)


def _by_place(op: Lowering, keys: Tensor, values: Tensor, asked: Value, default: Value) -> Value:
    """Places among the values, behind which stands the default."""
    otherwise = known_array(default)
    if otherwise is None:
        op.refuse("its default is computed at run time", "make it a constant")
    places = tensor(np.arange(keys.size, dtype=np.int64).reshape(keys.shape))
    behind = op.constant(np.asarray(keys.size, np.int64), name=f"{op.node.name}/behind")
    place = _found(op, keys, places, asked, behind, TensorType(INT64, op.type.shape), f"{op.node.name}/place")
    entries = np.append(values.numpy().reshape(-1), np.asarray(otherwise).reshape(-1)[:1])
    held = op.constant(tensor(entries.astype(object)) if values.dtype is STRING else entries, f"{op.node.name}/values")
    axis = op.integers(0, name=f"{op.node.name}/axis")
    return op.source("tf.GatherV2", held, cast(op, place, INT32), axis, name=op.node.name)


def _compared(op: Lowering, keys: Tensor, values: Tensor, asked: Value, default: Value) -> Value:
    """The value of the one key that is equal."""
    if not 0 < keys.size <= COMPARED:
        op.refuse(f"its table has {keys.size} numbers as keys, and LiteRT has no table from numbers to numbers")
    if values.dtype is STRING:
        op.refuse(f"LiteRT has no tables from {keys.dtype.name} to text")
    last = op.integers(-1, name=f"{op.node.name}/last")
    column = op.source("tf.ExpandDims", asked, last)
    is_equal = op.source("tf.Equal", column, op.constant(keys.numpy().reshape(-1), f"{op.node.name}/keys"))
    is_found = op.source("tf.Any", is_equal, last, keep_dims=False)
    place = op.source("tf.ArgMax", op.source("tf.Cast", is_equal, DstT=INT32), last, output_type=INT32)
    held = op.constant(values.numpy().reshape(-1), name=f"{op.node.name}/values")
    found = op.source("tf.GatherV2", held, place, op.integers(0, name=f"{op.node.name}/axis"))
    return op.source("tf.SelectV2", is_found, found, default, name=op.node.name)
