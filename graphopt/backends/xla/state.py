"""Variables that a model changes: each becomes an argument of its program, and what it is afterwards a result.

The graph is without calls by then. What reads and assigns runs in the order that control dependencies ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from glob import escape
from typing import Any, NamedTuple, NoReturn

import numpy as np

from graphopt.backends.base import Finding, UnloweredError
from graphopt.freezing import select_signature
from graphopt.ir.known import hold
from graphopt.ir.model import Model, Variable, variable_name
from graphopt.ir.ops import Trait, has_trait
from graphopt.ir.ops.handles import maker
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import INT32, RESOURCE, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.ir.variable_flow import ModelFlow

READ, ASSIGN, HANDLE = "tf.ReadVariableOp", "tf.AssignVariableOp", "tf.VarHandleOp"
SUMS = {"tf.AssignAddVariableOp": "tf.AddV2", "tf.AssignSubVariableOp": "tf.Sub"}
SCATTERS = {
    f"tf.ResourceScatter{kind}": f"tf.TensorScatter{kind}" for kind in ("Update", "Add", "Sub", "Max", "Min")
}  # fmt: skip
GATHER, IS_SET, DESCENT = "tf.ResourceGather", "tf.VarIsInitializedOp", "tf.ResourceApplyGradientDescent"
REMEDY = "freeze the model with constants in its place (graphopt freeze), or lower a signature that does not change it"


class State(NamedTuple):
    """A variable: its input, its output, and what it is before the first run."""

    input: str
    output: str
    initial: Tensor


def changed_variables(part: Model, name: str) -> tuple[str, ...]:
    """Patterns for the variables that the signature `name` changes; the model is left with that signature alone."""
    select_signature(part, name)
    return tuple(escape(variable) for variable in ModelFlow(part).offences())


def thread_state(part: Model, name: str) -> tuple[State, ...]:
    """Make arguments and results of the variables that are left in a frozen graph.

    Raises `UnloweredError` for a variable without a value, and for one that is used in any other way than by reading
    and assigning it outside of branches and loops.
    """
    handles = [node for node in part.graph if node.op == HANDLE and node.has_uses]
    return _Threading(part, name, handles).run() if handles else ()


class _Threading:
    def __init__(self, part: Model, name: str, handles: list[Node]):
        self.part, self.graph, self.signature = part, part.graph, part.signatures[name]
        self.inputs: dict[str, Value] = {}
        self.now: dict[str, Value] = {}
        for handle in handles:
            variable = self._variable(handle)
            key = variable_name(handle) or handle.name
            if key not in self.now:
                self.inputs[key] = self.now[key] = self._argument(handle, key, variable)

    def run(self) -> tuple[State, ...]:
        """Follow the values of all variables through the graph."""
        done = []
        for node in self.graph.topological_order():
            key = self._key(node)
            if key is None:
                continue
            self._follow(node, key)
            done.append(node)
        self.graph.targets = [node for node in self.graph.targets if node not in done]
        for node in reversed(done):
            for user in list(node.control_users):
                user.remove_control_input(node)
            self.graph.remove(node)
        return self._ends()

    def _key(self, node: Node) -> str | None:
        """The variable that `node` works on, by its handle."""
        for value in node.inputs:
            if value is None or value.dtype is not RESOURCE or has_trait(node, Trait.PASS_THROUGH):
                continue
            made = maker(value)
            if made is not None and made.op == HANDLE:
                return variable_name(made) or made.name
        return None

    def _follow(self, node: Node, key: str) -> None:
        now = self.now[key]
        if node.op == READ:
            self.graph.replace_value(node.output, now)
        elif node.op == ASSIGN:
            self.now[key] = self._fitting(node, node.input(1), now)
        elif node.op in SUMS:
            self.now[key] = self._made(SUMS[node.op], node, [now, node.input(1)], {"T": now.dtype}, now.type)
        elif node.op == DESCENT:
            step = self._made("tf.Mul", node, [node.input(2), node.input(1)], {"T": now.dtype}, now.type, "step")
            self.now[key] = self._made("tf.Sub", node, [now, step], {"T": now.dtype}, now.type)
        elif node.op == IS_SET:
            true = hold(self.graph, np.asarray(True), name=f"{node.name}/true", before=node)
            self.graph.replace_value(node.output, true)
        elif node.op == GATHER:
            self._gather(node, now)
        elif node.op in SCATTERS:
            self.now[key] = self._scatter(node, now)
        else:
            _refuse(node, f"it uses the variable '{key}' in a way that has no form without variables")

    def _gather(self, node: Node, now: Value) -> None:
        axis = hold(self.graph, np.zeros((), np.int32), name=f"{node.name}/axis", before=node)
        attrs = {"Tparams": now.dtype, "Tindices": node.input(1).dtype, "Taxis": INT32,
                 "batch_dims": node.attrs.get("batch_dims", 0)}  # fmt: skip
        picked = self._made("tf.GatherV2", node, [now, node.input(1), axis], attrs, node.output.type)
        self.graph.replace_value(node.output, picked)

    def _scatter(self, node: Node, now: Value) -> Value:
        indices, updates = node.input(1), node.input(2)
        last = hold(self.graph, np.asarray(-1, np.int32), name=f"{node.name}/axis", before=node)
        kinds = {"T": indices.dtype, "Tdim": INT32}
        dims = indices.shape.dims
        wide = TensorType(indices.dtype, Shape(None) if dims is None else Shape((*dims, 1)))
        vectors = self._made("tf.ExpandDims", node, [indices, last], kinds, wide, "vectors")
        attrs = {"T": now.dtype, "Tindices": indices.dtype}
        return self._made(SCATTERS[node.op], node, [now, vectors, updates], attrs, now.type)

    def _made(
        self, op: str, node: Node, inputs: list[Value], attrs: dict[str, Any], kind: TensorType, part: str = "value"
    ) -> Value:
        return self.graph.create_node(
            op, inputs, attrs, name=f"{node.name}/{part}", types=(kind,), before=node, origins=node.source_names
        ).output

    def _fitting(self, node: Node, value: Value, now: Value) -> Value:
        if value.shape.merged(now.shape) is None:
            _refuse(node, f"it assigns the shape {value.shape} to a variable of shape {now.shape}")
        return value

    # Ends -----------------------------------------------------------------------------------------------------

    def _variable(self, handle: Node) -> Variable:
        key = variable_name(handle)
        variable = self.part.variables.get(key) if key is not None else None
        if variable is None or variable.value is None:
            _refuse(handle, "the variable is changed by the model and has no value to start from")
        return variable

    def _argument(self, handle: Node, key: str, variable: Variable) -> Value:
        assert variable.value is not None
        kind = TensorType(variable.value.dtype, Shape(variable.value.shape))
        attrs = {"dtype": kind.dtype, "shape": kind.shape}
        return self.graph.create_node(
            "tf.Placeholder", (), attrs, name=self.graph.unique_name(f"{key}/state"), types=(kind,), before=handle,
            origins=handle.source_names,
        ).output  # fmt: skip

    def _ends(self) -> tuple[State, ...]:
        inputs, outputs = self.signature.input_values(), self.signature.output_values()
        found = []
        for key, value in self.now.items():
            names = _free(key, inputs), _free(key, outputs)
            inputs[names[0]] = self.inputs[key]
            outputs[names[1]] = self._named(key, value)
            held = self.part.variables[key].value
            assert held is not None
            found.append(State(*names, held))
        (name,) = self.part.signatures
        method = self.signature.method_name
        self.part.set_signature(inputs, outputs, name).method_name = method
        return tuple(found)

    def _named(self, key: str, value: Value) -> Value:
        """A value of its own for the output: what is assigned may be an input, or an output already."""
        return self.graph.create_node(
            "tf.Identity", [value], {"T": value.dtype}, name=self.graph.unique_name(f"{key}/next"), types=(value.type,)
        ).output


def _free(name: str, taken: Mapping[str, Value]) -> str:
    count, found = 0, name
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    return found


def _refuse(node: Node, reason: str) -> NoReturn:
    raise UnloweredError("XLA", [Finding(node.name, node.op, node.source_names, reason, REMEDY)])
