"""Tables whose contents are known."""

from __future__ import annotations

from graphopt.ir.graph import Graph
from graphopt.ir.known import PASS_THROUGH, known_tensor
from graphopt.ir.model import Model
from graphopt.ir.ops.handles import maker
from graphopt.ir.tensors import Tensor
from graphopt.ir.traversal import reachable
from graphopt.ir.value import Node, Value
from graphopt.passes.removal import is_removable

TABLES = frozenset({"tf.HashTable", "tf.HashTableV2"})
FILLERS = frozenset({"tf.LookupTableImport", "tf.LookupTableImportV2", "tf.InitializeTable", "tf.InitializeTableV2"})
READERS = frozenset({"tf.LookupTableFind", "tf.LookupTableFindV2", "tf.LookupTableSize", "tf.LookupTableSizeV2"})
KEYS, VALUES = "_keys", "_values"  # attributes of a table whose contents are known


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


def drop_tables(model: Model) -> None:
    """Remove tables that nothing looks into any more."""
    for graph in model.graphs:
        for node in list(graph):
            if node.op in TABLES and KEYS in node.attrs and not node.has_uses:
                graph.remove(node)
