"""Variables and tables for the reference runtime, held in memory from one run of a model to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.ops.registry import find
from graphopt.ir.types import DType, Shape
from graphopt.ir.value import Node
from graphopt.runtimes.base import Array, RunError
from graphopt.runtimes.reference_values import Table, Variable

Attrs = Mapping[str, Any]
Inputs = Sequence[Any]


class Memory:
    """Every variable and table of a model, by kind, container and shared name."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, bytes, str], Any] = {}

    def get(self, kind: str, node: Node, attrs: Attrs, make: Callable[[str], Any]) -> Any:
        """What `node` refers to, made on the first call."""
        shared = attrs.get("shared_name") or b""
        name = shared.decode(errors="replace") or node.name
        key = (kind, attrs.get("container") or b"", name)
        if key not in self._held:
            self._held[key] = make(name)
        return self._held[key]


Handler = Callable[[Memory, Node, Attrs, Inputs], Sequence[Any]]


# Variables -------------------------------------------------------------------------------------------------------


def _variable(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    dtype, shape = attrs["dtype"], attrs["shape"]
    is_reference = node.op != "tf.VarHandleOp"
    return [memory.get("variable", node, attrs, lambda name: Variable(name, dtype, shape, is_reference))]


def _read(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [variable.read() for variable in inputs]


def _is_initialized(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [np.array(inputs[0].array is not None)]


def _assign(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    variable, array = inputs
    variable.assign(array)
    return [variable][: len(node.outputs)]


def _updating(operation: Callable[[Array, Array], Array]) -> Handler:
    def update(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
        variable, array = inputs
        variable.assign(np.asarray(operation(variable.read(), array)))
        return [variable][: len(node.outputs)]

    return update


def _shape_of(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [np.array(inputs[0].read().shape, dtype=attrs["out_type"].numpy)]


def _gathering(op: str) -> Handler:
    """Read, then what the stateless operator `op` does."""

    def gather(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
        operator = find(op)
        if operator is None or operator.evaluate is None:
            raise RunError(f"{node.op_type} cannot be evaluated without {op}")
        operands = [inputs[0].read(), inputs[1]]
        if op == "tf.GatherV2":
            operands.append(np.array(0, dtype=np.int32))
        return [np.asarray(operator.evaluate({**attrs, "bad_indices_policy": b""}, *operands))]

    return gather


def _scattering(operation: Callable[[Array, Any, Array], None]) -> Handler:
    def scatter(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
        variable, indices, updates = inputs
        array = variable.read().copy()
        places = tuple(np.moveaxis(indices, -1, 0)) if "Nd" in node.op else indices
        checked = np.asarray(indices)
        if checked.size and (checked.min() < 0 or (isinstance(places, np.ndarray) and checked.max() >= len(array))):
            raise RunError(f"an index is out of range for a variable of shape {list(array.shape)}")
        operation(array, places, updates)
        variable.assign(array)
        return [variable][: len(node.outputs)]

    return scatter


def _put(array: Array, places: Any, updates: Array) -> None:
    array[places] = updates


def _count_up(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    before = inputs[0].read()
    if int(before) >= attrs["limit"]:
        raise RunError(f"the counter has reached its limit of {attrs['limit']}")
    inputs[0].assign(np.asarray(before + before.dtype.type(1)))
    return [before]


def _destroy(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    inputs[0].array = None
    return []


_SCATTERS: Mapping[str, Callable[[Array, Any, Array], None]] = {
    "Add": np.add.at,
    "Sub": np.subtract.at,
    "Mul": np.multiply.at,
    "Div": np.divide.at,
    "Min": np.minimum.at,
    "Max": np.maximum.at,
    "Update": _put,
}

# Tables ----------------------------------------------------------------------------------------------------------


def _table(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    key_dtype: DType = attrs["key_dtype"]
    value_dtype: DType = attrs["value_dtype"]
    shape = attrs.get("value_shape")
    dims = shape.static if isinstance(shape, Shape) else ()

    def make(name: str) -> Table:
        return Table(name, key_dtype, value_dtype, dims or ())

    return [make(node.name) if "Anonymous" in node.op else memory.get("table", node, attrs, make)]


def _initialize(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    table, keys, values = inputs
    if not table.initialized:
        table.insert(keys, values)
        table.initialized = True
    return []


def _insert(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    table, keys, values = inputs
    if "Import" in node.op:
        table.items.clear()
    table.insert(keys, values)
    return []


def _remove(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    for key in inputs[1].reshape(-1).tolist():
        inputs[0].items.pop(key, None)
    return []


def _find(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    table, keys, default = inputs
    if not table.initialized and not table.items:
        raise RunError(f"table '{printable(table.name)}' is empty: run what initialises it first")
    return [table.find(keys, default)]


def _size(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    return [np.array(len(inputs[0].items), dtype=np.int64)]


def _export(memory: Memory, node: Node, attrs: Attrs, inputs: Inputs) -> Sequence[Any]:
    table = inputs[0]
    keys = np.array(list(table.items), dtype=table.key_dtype.numpy)
    values = np.empty((len(keys), *table.value_shape), dtype=table.value_dtype.numpy)
    for place, row in enumerate(table.items.values()):
        values[place] = row
    return [keys, values]


INITIALIZERS = frozenset(
    {"tf.InitializeTable", "tf.InitializeTableV2", "tf.LookupTableImport", "tf.LookupTableImportV2"}
)
_TABLES = (
    "HashTable", "HashTableV2", "AnonymousHashTable", "MutableHashTable", "MutableHashTableV2",
    "AnonymousMutableHashTable", "MutableHashTableOfTensors", "MutableHashTableOfTensorsV2",
    "AnonymousMutableHashTableOfTensors", "MutableDenseHashTable", "MutableDenseHashTableV2",
    "AnonymousMutableDenseHashTable",
)  # fmt: skip

HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("tf.Variable", "tf.VariableV2", "tf.VarHandleOp"), _variable),
    **dict.fromkeys(("tf.ReadVariableOp", "tf._ReadVariablesOp"), _read),
    **dict.fromkeys(("tf.IsVariableInitialized", "tf.VarIsInitializedOp"), _is_initialized),
    **dict.fromkeys(("tf.Assign", "tf.AssignVariableOp"), _assign),
    **dict.fromkeys(("tf.AssignAdd", "tf.AssignAddVariableOp"), _updating(np.add)),
    **dict.fromkeys(("tf.AssignSub", "tf.AssignSubVariableOp"), _updating(np.subtract)),
    **dict.fromkeys(("tf.CountUpTo", "tf.ResourceCountUpTo"), _count_up),
    "tf.DestroyResourceOp": _destroy,
    "tf.VariableShape": _shape_of,
    "tf.ResourceGather": _gathering("tf.GatherV2"),
    "tf.ResourceGatherNd": _gathering("tf.GatherNd"),
    **{f"tf.Scatter{name}": _scattering(operation) for name, operation in _SCATTERS.items()},
    **{f"tf.ResourceScatter{name}": _scattering(operation) for name, operation in _SCATTERS.items()},
    **{f"tf.ScatterNd{n}": _scattering(_SCATTERS[n]) for n in ("Add", "Sub", "Min", "Max", "Update")},
    **{f"tf.ResourceScatterNd{n}": _scattering(_SCATTERS[n]) for n in ("Add", "Sub", "Min", "Max", "Update")},
    **dict.fromkeys([f"tf.{name}" for name in _TABLES], _table),
    **dict.fromkeys(("tf.InitializeTable", "tf.InitializeTableV2"), _initialize),
    **dict.fromkeys(
        ("tf.LookupTableInsert", "tf.LookupTableInsertV2", "tf.LookupTableImport", "tf.LookupTableImportV2"), _insert
    ),
    "tf.LookupTableRemoveV2": _remove,
    **dict.fromkeys(("tf.LookupTableFind", "tf.LookupTableFindV2"), _find),
    **dict.fromkeys(("tf.LookupTableSize", "tf.LookupTableSizeV2"), _size),
    **dict.fromkeys(("tf.LookupTableExport", "tf.LookupTableExportV2"), _export),
}
