"""Islands of floats in an integer model: where a delegate takes operators with floats alone.

An operator that XNNPACK leaves in int8 (HARD_SWISH, SOFTMAX, what layer normalisation consists of) splits the model
into pieces. Converted to floats and back it stays in one. Around it, operators without weights compute in floats too
where that saves conversions: the cheapest cut between what must be integers and what must be floats decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from graphopt.ir.known import known_tensor
from graphopt.ir.types import FLOAT32
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.cuts import UNLIMITED, Network
from graphopt.passes.quantize.delegates import Delegate

CONVERSION = 4096  # elements that are converted in the time that calling a conversion takes
SHORT = 16  # elements that vector instructions gain nothing by
_BY_TABLE = frozenset({"tfl.LOGISTIC", "tfl.TANH", "tfl.ELU", "tfl.LEAKY_RELU"})  # of int8: much cheaper than of floats
_NORMS = frozenset({"tfl.RSQRT", "tfl.SQRT", "tfl.SQUARED_DIFFERENCE"})  # what 8 bits tell too little of


Ends = tuple[bool, bool]
"""Whether the graph's inputs, and its outputs, are integers."""


def islands(candidates: Mapping[Node, bool], delegate: Delegate, ends: Ends = (False, False)) -> dict[Node, str]:
    """Those of `candidates` that are to compute in floats, and why.

    `candidates` are the nodes of a graph that can compute in int8; those that are True must unless the delegate
    leaves them.
    """
    left = {
        node: f"{delegate.name} takes no {node.op_type} of int8"
        for node in candidates
        if delegate.leaves(node) and not _ends_in_short_rows(node)
    }
    if not left:
        return {}
    beside = f"{delegate.name} is faster with what it reads and yields in floats"
    found = {**dict.fromkeys(_after_norms(left, candidates), beside), **left}
    return {**dict.fromkeys(_cheapest(candidates, found, ends), beside), **found}


def _ends_in_short_rows(node: Node) -> bool:
    """A softmax at the end of a model, over a few classes for many places: faster by table, and splits nothing."""
    if node.op != "tfl.SOFTMAX" or node.output.use_count:
        return False
    classes = node.output.shape.dims[-1] if node.output.shape.dims else None
    return isinstance(classes, int) and classes <= SHORT < _size(node.output) // classes


def _after_norms(left: Collection[Node], candidates: Mapping[Node, bool]) -> dict[Node, None]:
    """Readers of squares, roots and what comes of them before it meets larger tensors."""
    found: dict[Node, None] = {}
    pending = [(value, _size(value)) for node in left if node.op in _NORMS for value in node.outputs]
    seen = {value for value, _ in pending}
    for value, size in pending:  # a constant that multiplies it makes it larger without telling more
        for reader in value.users:
            if candidates.get(reader, True):
                continue
            found[reader] = None
            is_scaled = all(item is value or known_tensor(item) is not None for item in reader.inputs)
            for output in reader.outputs:
                if output not in seen and (is_scaled or _size(output) <= size):
                    seen.add(output)
                    pending.append((output, size))
    return found


def _cheapest(candidates: Mapping[Node, bool], floats: Collection[Node], ends: Ends) -> list[Node]:
    """Candidates on the side of the floats."""
    network = Network()
    places: dict[Node, int] = {}
    for node in candidates:
        place = places[node] = network.add()
        if node in floats:
            network.join(place, 1, UNLIMITED)
        elif candidates[node]:
            network.join(0, place, UNLIMITED)
        else:
            share = 1 if node.op in _BY_TABLE else 8
            network.join(0, place, max(1, sum(map(_size, node.outputs)) // share))
    for value in _tensors(candidates):
        _join(network, value, places, ends)
    kept = network.source_side()
    return [node for node, place in places.items() if not kept[place]]


def _tensors(candidates: Mapping[Node, bool]) -> dict[Value, None]:
    """What candidates read and yield, constants left out."""
    found: dict[Value, None] = {}
    for node in candidates:
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.dtype is FLOAT32 and known_tensor(value) is None:
                found[value] = None
    return found


def _join(network: Network, value: Value, places: Mapping[Node, int], ends: Ends) -> None:
    """A tensor is converted once if anything on the other side than its producer's reads it."""
    cost = CONVERSION + _size(value)
    producer = places.get(value.node, 0 if value.is_input and ends[0] else 1)
    readers = dict.fromkeys(places.get(reader, 1) for reader in value.users)
    if value.is_output:
        readers[0 if ends[1] else 1] = None
    if producer != 1:
        between = network.add()
        network.join(producer, between, cost)
        for reader in readers:
            network.join(between, reader, UNLIMITED)
    between = network.add()
    network.join(between, producer, cost)
    for reader in readers:
        if reader != 1:
            network.join(reader, between, UNLIMITED)


def _size(value: Value) -> int:
    """Elements, those of unknown dimensions counted once."""
    found = 1
    for dim in value.shape.dims or ():
        found *= dim if isinstance(dim, int) else 1
    return found
