"""Which variables can become constants, and why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.joins import join_shapes
from graphopt.ir.known import constant_type
from graphopt.ir.model import VARIABLES, Model, variable_name
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Node
from graphopt.ir.variable_flow import OTHER, ModelFlow, Tokens


class Refusal(NamedTuple):
    """Why a variable stays one, and the node that is to blame."""

    node: Node
    reason: str


class Selection:
    """`frozen`: variables that become constants, with their values. `refused`: those asked for that cannot."""

    def __init__(self, flow: ModelFlow, names: Sequence[str], exceptions: Sequence[str]):
        self.frozen: dict[str, Tensor] = {}
        self.refused: dict[str, Refusal] = {}
        self._flow = flow
        self.nodes = variable_nodes(flow.model)
        for pattern in (*names, *exceptions):
            if not any(fnmatchcase(name, pattern) for name in self.nodes):
                raise UsageError(f"freeze-variables: no variable matches '{printable(pattern)}'{_some(self.nodes)}")
        offences = flow.offences()
        for name, nodes in self.nodes.items():
            if (names and not matches(name, names)) or matches(name, exceptions):
                continue
            self._consider(name, nodes, Refusal(*offences[name]) if name in offences else None)
        self._settle_joins()

    def _consider(self, name: str, nodes: list[Node], offence: Refusal | None) -> None:
        needed = [node for node in nodes if node.graph is not self._flow.model.graph or node in self._flow.needed]
        variable = self._flow.model.variables.get(name)
        held = variable.value if variable is not None else None
        reason = None
        if held is None:
            reason = "it has no value: no checkpoint gives it one and nothing that was read initialises it"
        else:
            reason = _contradiction(nodes, held)
        if offence is not None:
            self.refused[name] = offence
        elif reason is None and held is not None:
            self.frozen[name] = held
        elif needed and reason is not None:  # one that no output needs goes unmentioned
            self.refused[name] = Refusal(needed[0], reason)

    def _settle_joins(self) -> None:
        """Keep as variables also those that some node takes for either itself or one that stays."""
        joins = self._flow.joins()
        changed = True
        while changed:
            changed = False
            for names, node in joins.items():
                kept = next((name for name in names if name not in self.frozen), None)
                dtypes = {self.frozen[name].dtype.code for name in names if name in self.frozen}
                if not dtypes or (kept is None and len(dtypes) == 1):
                    continue
                stays = "another type" if kept is None else f"'{printable(kept)}', which stays a variable"
                stays = "a resource that is no variable" if kept == OTHER else stays
                for name in names:
                    if self.frozen.pop(name, None) is not None:
                        changed = True
                        reason = f"node '{printable(node.name)}' ({node.op_type}) yields either it or {stays}"
                        self.refused[name] = Refusal(node, reason)

    def type_of(self, tokens: Tokens, arguments: Sequence[TensorType | None]) -> TensorType | None:
        """The type of the value that replaces a handle; None if that stays a handle."""
        result: TensorType | None = None
        for token in tokens:
            if isinstance(token, str):
                held = self.frozen.get(token)
                own = None if held is None else constant_type(held)
            else:
                own = arguments[token]
            if own is None or (result is not None and result.dtype is not own.dtype):
                return None
            result = own if result is None else result.with_shape(join_shapes([result.shape, own.shape]))
        return result


def variable_nodes(model: Model) -> dict[str, list[Node]]:
    """Every node that stands for a variable, by the variable's name; those among a graph's inputs are fed."""
    found: dict[str, list[Node]] = {}
    for graph in model.graphs:
        for node in graph:
            name = variable_name(node) if node.op in VARIABLES else None
            if name is not None and node.outputs and not node.output.is_input:
                found.setdefault(name, []).append(node)
    return found


def matches(name: str, patterns: Sequence[str]) -> bool:
    """`name` matches one of `patterns`, written with `*`, `?` and `[…]`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _contradiction(nodes: Sequence[Node], held: Tensor) -> str | None:
    """Where the value does not fit what the nodes declare."""
    for node in nodes:
        dtype, shape = node.attrs.get("dtype"), node.attrs.get("shape")
        if dtype is not None and dtype is not held.dtype:
            return f"its value is {held.dtype}, and node '{printable(node.name)}' declares {dtype}"
        old_scalar = node.op == "tf.Variable" and isinstance(shape, Shape) and not shape.rank
        if isinstance(shape, Shape) and not old_scalar and shape.merged(Shape(held.shape)) is None:
            return f"its value has shape {list(held.shape)}, and node '{printable(node.name)}' declares {shape}"
    return None


def _some(nodes: dict[str, list[Node]]) -> str:
    if not nodes:
        return "; the model has none"
    more = ", …" if len(nodes) > 5 else ""
    return "; there are " + ", ".join(f"'{printable(name)}'" for name in list(nodes)[:5]) + more
