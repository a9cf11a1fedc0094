"""Tables whose contents are known: those of TFLite are filled once, before the first run; others become arithmetic."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.graph import Graph, reachable
from graphopt.ir.known import PASS_THROUGH, hold, known_tensor
from graphopt.ir.model import Function, Model
from graphopt.ir.ops.handles import maker
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import RESOURCE, STRING, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.removal import is_removable

TABLES = frozenset({"tf.HashTable", "tf.HashTableV2"})
FILLERS = frozenset({"tf.LookupTableImport", "tf.LookupTableImportV2", "tf.InitializeTable", "tf.InitializeTableV2"})
READERS = frozenset({"tf.LookupTableFind", "tf.LookupTableFindV2", "tf.LookupTableSize", "tf.LookupTableSizeV2"})
KEYS, VALUES = "_keys", "_values"  # attributes of a table whose contents are known
TABLE = "tfl.HASHTABLE"
INITIALISER = "initialise_tables"
HANDLE = TensorType(RESOURCE, Shape([1]))


def hold_contents(model: Model) -> None:
    """Let tables of the main graph that are filled with constants alone know their contents; nothing fills them."""
    graph = model.graph
    for node in list(graph):
        if node.op not in TABLES or node.graph is not graph:
            continue
        users = _users(node.output)
        fillers = [user for user in users if user.op in FILLERS]
        held = [_filled(user) for user in fillers]
        if not held or held[0] is None or not all(user.op in READERS or user in fillers for user in users):
            continue
        if all(_are_equal(held[0], other) for other in held[1:]):
            node.attrs = {**node.attrs, KEYS: held[0][0], VALUES: held[0][1]}
            for user in users:
                user.replace_input(0, node.output)
            for filler in fillers:
                _remove(graph, filler)


def _users(handle: Value) -> dict[Node, None]:
    """What works on a table, whoever passes its handle on."""
    found: dict[Node, None] = {}
    pending = [handle]
    while pending:
        for user, place in pending.pop().uses:
            if user.op in PASS_THROUGH or user.op == "tf.IdentityN":
                pending.append(user.outputs[place])
            else:
                found[user] = None
    return found


def _filled(filler: Node) -> tuple[Tensor, Tensor] | None:
    keys, values = (known_tensor(filler.input(place)) for place in (1, 2))
    return None if keys is None or values is None or keys.size != values.size else (keys, values)


def _are_equal(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor] | None) -> bool:
    return second is not None and all(
        one.dtype is other.dtype and one.shape == other.shape and bool((one.numpy() == other.numpy()).all())
        for one, other in zip(first, second, strict=True)
    )


def _remove(graph: Graph, filler: Node) -> None:
    waiting = filler.control_users
    for user in waiting:
        user.remove_control_input(filler)
    graph.targets = [node for node in graph.targets if node is not filler]
    graph.remove(filler)
    graph.targets = [
        node for node in graph.targets if node.op != "tf.NoOp" or not all(map(is_removable, reachable([node])))
    ]


def contents(node: Node) -> tuple[Tensor, Tensor] | None:
    """Keys and values of the table that `node` looks into, where they are known."""
    table = maker(node.input(0))
    if table is None or KEYS not in table.attrs:
        return None
    return table.attrs[KEYS], table.attrs[VALUES]


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


def drop_tables(model: Model) -> None:
    """Remove tables that nothing looks into any more."""
    for graph in model.graphs:
        for node in list(graph):
            if node.op in TABLES and KEYS in node.attrs and not node.has_uses:
                graph.remove(node)


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
