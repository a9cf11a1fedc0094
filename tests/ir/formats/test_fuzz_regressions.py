"""What mutants have found in the reader of GraphDefs."""

from __future__ import annotations

import pytest

from graphopt.ir.errors import ResourceError
from graphopt.ir.formats.graphdef import read_graphdef
from graphopt.ir.formats.protos import graph_pb2


def unpack(count: int, nodes: int) -> bytes:
    """Nodes that claim `count` outputs each."""
    graph = graph_pb2.GraphDef()
    graph.node.add(name="x", op="Placeholder")
    for place in range(nodes):
        node = graph.node.add(name=f"y{place}", op="Unpack", input=["x"])
        node.attr.add(key="num", value=graph_pb2.AttrValue(i=count))
        node.attr.add(key="T", value=graph_pb2.AttrValue(type=1))
    return bytes(graph.SerializeToString())


def test_outputs_cost_half_a_kilobyte_each_and_count_for_it() -> None:
    """Once 65,536 outputs passed on three bytes: 40 MB, and four times that for four nodes."""
    assert len(read_graphdef(unpack(30000, 1)).graph.node("y0").outputs) == 30000
    for count, nodes in ((65536, 1), (30000, 4)):
        with pytest.raises(ResourceError) as caught:
            read_graphdef(unpack(count, nodes))
        assert caught.value.exit_status == 3
