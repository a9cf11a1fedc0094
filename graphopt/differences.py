"""How two models are built differently: nodes, constants, functions and signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import CONSTANTS
from graphopt.ir.model import Function, Model, Signature
from graphopt.ir.tensors import RepeatedTensor, Tensor
from graphopt.ir.types import Shape
from graphopt.ir.value import Node
from graphopt.names import tensor_name

SCHEMA = "graphopt/diff/v1"
EXPANSION_BYTES = 1 << 28  # beyond which a compact tensor is not expanded to be compared
SHOWN = 20  # changes listed in the text form


@dataclass
class Change:
    """One node that both models have, and what is different about it, field by field, as (first, second)."""

    graph: str
    node: str
    op: str
    fields: dict[str, tuple[str, str]]


@dataclass
class Difference:
    """What is in one model and not in the other. Nodes are matched by graph and name."""

    added: list[dict[str, str]] = field(default_factory=list)
    removed: list[dict[str, str]] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    functions_added: list[str] = field(default_factory=list)
    functions_removed: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    operators: dict[str, tuple[int, int]] = field(default_factory=dict)
    constants_changed: int = 0
    constant_bytes: tuple[int, int] = (0, 0)

    @property
    def is_empty(self) -> bool:
        """The models are built alike; the order of their nodes is not compared."""
        return not (
            self.added or self.removed or self.changed or self.functions_added or self.functions_removed
            or self.signatures or self.other
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with its versioned schema name."""
        return {"schema": SCHEMA, "equal": self.is_empty, **asdict(self)}

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, limit: int | None = SHOWN) -> Iterator[str]:
        """The difference in words; at most `limit` nodes of each kind."""
        if self.is_empty:
            yield "the models are built alike"
            return
        yield f"{len(self.removed)} nodes removed, {len(self.added)} added, {len(self.changed)} changed"
        for sign, nodes in (("-", self.removed), ("+", self.added)):
            for node in nodes[:limit]:
                yield f"{sign} {_place(node['graph'], node['node'])}: {printable(node['op'])}"
            yield from _more(sign, len(nodes), limit)
        for change in self.changed[:limit]:
            yield f"~ {_place(change.graph, change.node)}: {printable(change.op)}"
            for name, (first, second) in change.fields.items():
                yield f"    {printable(name)}: {printable(first, 100)} -> {printable(second, 100)}"
        yield from _more("~", len(self.changed), limit)
        for sign, names in (("-", self.functions_removed), ("+", self.functions_added)):
            yield from (f"{sign} function {printable(name)}" for name in names)
        yield from (printable(line, 400) for line in (*self.signatures, *self.other))


def diff(first: Any, second: Any) -> Difference:
    """Compare how two models are built. Each is anything `load` takes."""
    from graphopt.verification import loaded

    before, after = loaded(first), loaded(second)
    result = Difference()
    _diff_graphs(before.graph, after.graph, "", result)
    for name, function in before.functions.items():
        other = after.functions.get(name)
        if other is None:
            result.functions_removed.append(name)
        else:
            _diff_graphs(function, other, name, result)
            _diff_function(function, other, result)
    result.functions_added = [name for name in after.functions if name not in before.functions]
    result.signatures = list(_diff_signatures(before.signatures, after.signatures))
    if before.versions != after.versions:
        result.other.append(f"versions: {before.versions} -> {after.versions}")
    result.operators = _operators(before, after)
    result.constant_bytes = _constant_bytes(before), _constant_bytes(after)
    return result


def _diff_graphs(before: Graph, after: Graph, where: str, result: Difference) -> None:
    for node in before:
        other = after.find(node.name)
        if other is None:
            result.removed.append({"graph": where, "node": node.name, "op": node.op})
            continue
        fields = _diff_nodes(node, other)
        if fields:
            result.changed.append(Change(where, node.name, other.op, fields))
            result.constants_changed += "attribute value" in fields and other.op in CONSTANTS
    for node in after:
        if before.find(node.name) is None:
            result.added.append({"graph": where, "node": node.name, "op": node.op})


def _diff_nodes(node: Node, other: Node) -> dict[str, tuple[str, str]]:
    fields: dict[str, tuple[str, str]] = {}
    if node.op != other.op:
        fields["operator"] = node.op, other.op
    if node.device != other.device:
        fields["device"] = node.device, other.device
    inputs, others = _inputs(node), _inputs(other)
    if inputs != others:
        fields["inputs"] = ", ".join(inputs), ", ".join(others)
    if node.attrs != other.attrs:
        for name in dict.fromkeys((*node.attrs, *other.attrs)):
            if not _same(node.attrs.get(name), other.attrs.get(name)):
                fields[f"attribute {name}"] = _shown(node.attrs, name), _shown(other.attrs, name)
    return fields


def _inputs(node: Node) -> list[str]:
    """Data inputs in order, then control inputs sorted: their order means nothing."""
    data = ["" if value is None else tensor_name(value) for value in node.inputs]
    return data + sorted(f"^{control.name}" for control in node.control_inputs)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first is second or _same_tensor(first, second)
    if isinstance(first, tuple) and type(first) is tuple and type(second) is tuple:
        return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, float) and isinstance(second, float):
        return first == second or (first != first and second != second)
    return type(first) is type(second) and bool(first == second)


def _same_tensor(first: Tensor, second: Tensor) -> bool:
    """Equal in type, shape and bytes. One too large to expand counts as different from one stored otherwise."""
    if first.dtype is not second.dtype or first.shape != second.shape:
        return False
    if first.fingerprint() == second.fingerprint():
        return True
    compact = isinstance(first, RepeatedTensor) or isinstance(second, RepeatedTensor)
    if not compact or first.nbytes > EXPANSION_BYTES:
        return False
    return Tensor.fingerprint(first) == Tensor.fingerprint(second)  # of the elements, however they are stored


def _shown(attrs: Mapping[str, Any], name: str) -> str:
    if name not in attrs:
        return "absent"
    value = attrs[name]
    if isinstance(value, Tensor):
        text = f"{value.dtype.name}{Shape(value.shape)}"
        if 0 < value.size <= 8 and value.dtype.numpy is not None:
            text += f" {value.numpy().reshape(-1).tolist()}"
        return text
    return repr(value)


def _diff_function(before: Function, after: Function, result: Difference) -> None:
    for what in ("input_names", "output_names", "gradient"):
        first, second = getattr(before, what), getattr(after, what)
        if first != second:
            result.other.append(f"function {before.name}: {what.replace('_', ' ')} {first} -> {second}")
    if before.attrs != after.attrs:
        result.other.append(f"function {before.name}: attributes {dict(before.attrs)} -> {dict(after.attrs)}")


def _diff_signatures(before: Mapping[str, Signature], after: Mapping[str, Signature]) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            yield f"- signature {name}"
        elif name not in before:
            yield f"+ signature {name}"
        else:
            for what in ("inputs", "outputs"):
                first, second = _ports(before[name], what), _ports(after[name], what)
                if first != second:
                    yield f"~ signature {name}, {what}: {', '.join(first)} -> {', '.join(second)}"


def _ports(signature: Signature, what: str) -> list[str]:
    values = signature.input_values() if what == "inputs" else signature.output_values()
    return [f"{name}: {value.dtype.name}" for name, value in values.items()]


def _operators(before: Model, after: Model) -> dict[str, tuple[int, int]]:
    """Operators whose number changed, the largest change first."""
    counts: dict[str, list[int]] = {}
    for place, model in enumerate((before, after)):
        for graph in model.graphs:
            for node in graph:
                counts.setdefault(node.op_type, [0, 0])[place] += 1
    moved = [(name, first, second) for name, (first, second) in counts.items() if first != second]
    return {
        name: (first, second) for name, first, second in sorted(moved, key=lambda row: (-abs(row[1] - row[2]), row[0]))
    }


def _constant_bytes(model: Model) -> int:
    from graphopt.passes.manager import constant_bytes

    return constant_bytes(model)


def _place(graph: str, node: str) -> str:
    return printable(f"{graph}/{node}" if graph else node)


def _more(sign: str, count: int, limit: int | None) -> Iterator[str]:
    if limit is not None and count > limit:
        yield f"{sign} … and {count - limit} more"
