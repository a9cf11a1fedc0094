"""Per layer: operator, origin, the type it computes in, bytes of weights; and the sums of all that."""

from __future__ import annotations

from collections import Counter
from typing import Any

from graphopt.backends.tensorrt.element_types import element_types
from graphopt.backends.tensorrt.precision import casts
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model

_PARTS = ("Input", "Initializer")


def layer_report(model: Model) -> dict[str, Any]:
    """Plain data for JSON."""
    types = element_types(model)
    layers: list[dict[str, Any]] = []
    transposes = 0
    counts: Counter[str] = Counter()
    for graph in model.graphs:
        for node in graph.topological_order():
            if node.op_type in _PARTS:
                continue
            weights = [held for value in node.inputs if (held := known_tensor(value)) is not None]
            counts[node.op_type] += 1
            transposes += node.op_type == "Transpose"
            layers.append({
                "name": node.name, "operator": node.op_type, "graph": graph.name, "origins": list(node.source_names),
                "types": [types[value].name for value in node.outputs],
                "shapes": [str(value.shape) for value in node.outputs],
                "weight_bytes": sum(held.nbytes for held in weights),
            })  # fmt: skip
    distinct = {id(n.attrs["value"]): n.attrs["value"] for g in model.graphs for n in g if n.op_type == "Initializer"}
    sizes: Counter[str] = Counter()
    for item in distinct.values():
        sizes[item.dtype.name] += item.nbytes
    computed = Counter(kind for layer in layers for kind in dict.fromkeys(layer["types"]))
    return {
        "nodes": len(layers), "operators": dict(sorted(counts.items())), "transposes": transposes,
        "casts": casts(model), "weight_bytes": dict(sorted(sizes.items())),
        "layers_by_type": dict(sorted(computed.items())), "layers": layers,
    }  # fmt: skip
