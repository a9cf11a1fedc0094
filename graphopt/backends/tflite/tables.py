"""Tables of TFLite: they are filled once, before the first run."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from graphopt.backends.tables import KEYS, VALUES
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.known import hold
from graphopt.ir.model import Function, Model
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import RESOURCE, STRING, Shape, TensorType

TABLE = "tfl.HASHTABLE"
INITIALISER = "initialise_tables"
HANDLE = TensorType(RESOURCE, Shape([1]))


def table_attributes(keys: Tensor, values: Tensor) -> dict[str, Any]:
    """Attributes of a table of TFLite: equal contents are one table."""
    digest = blake2b(digest_size=4)
    for held in (keys, values):
        digest.update(held.dtype.name.encode())
        digest.update(_bytes_of(held))
    number = int.from_bytes(digest.digest(), "little") & 0x7FFFFFFF
    return {"table_id": number, "key_dtype": keys.dtype, "value_dtype": values.dtype, KEYS: keys, VALUES: values}


def _bytes_of(held: Tensor) -> bytes:
    array = held.numpy().reshape(-1)
    if held.dtype is not STRING:
        return array.tobytes()
    return b"".join(b"%d:%b" % (len(item), item) for item in map(bytes, array))


def fill_tables(model: Model) -> None:
    """Let every graph that a signature runs fill the tables in use, once, before anything else."""
    used = {node.attrs["table_id"]: node for graph in model.graphs for node in graph if node.op == TABLE}
    if not used:
        return
    function = Function(model.unique_function_name(INITIALISER))
    for node in used.values():
        keys, values = (hold(function, node.attrs[key], name=f"{node.name}/{key.strip('_')}") for key in (KEYS, VALUES))
        attrs = {key: value for key, value in node.attrs.items() if key not in (KEYS, VALUES)}
        table = function.create_node(TABLE, (), attrs, name=node.name, types=[HANDLE])
        inputs = [table.output, keys, values]
        function.create_node("tfl.HASHTABLE_IMPORT", inputs, {}, name=f"{node.name}/import", types=())
    for graph in model.graphs:
        for node in graph:
            if node.op == TABLE:
                node.attrs = {key: value for key, value in node.attrs.items() if key not in (KEYS, VALUES)}
    model.add_function(function)
    for graph in dict.fromkeys([model.graph, *(signature.graph for signature in model.signatures.values())]):
        attrs = {"init_subgraph_index": FunctionRef(function.name, {})}
        first = next(iter(graph), None)
        once = graph.create_node("tfl.CALL_ONCE", (), attrs, name=INITIALISER, types=(), before=first)
        for node in graph:
            if node.op == TABLE or node.op in ("tfl.IF", "tfl.WHILE"):
                node.add_control_input(once)
