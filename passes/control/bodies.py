"""Functions made of nodes that stood in a graph: the bodies of conditionals and loops."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.known import hold
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.ir.ops import Trait, find, traits_of
from graphopt.ir.types import TensorType
from graphopt.ir.value import Node, Value

FIRST_REFERENCE = 101  # codes of element types from which on they are references to v1 variables


class BodyBuilder:
    """Builds one function of the library from copies of nodes."""

    def __init__(self, model: Model, name: str):
        base = re.sub(r"\W", "_", name) or "body"
        self.function = Function(model.unique_function_name(base))
        self._copies: dict[Node, Node] = {}
        self._boundary: dict[Value, Value] = {}

    def argument(self, type: TensorType, name: str) -> Value:
        """One more argument."""
        function = self.function
        base = re.sub(r"\W", "_", name).strip("_").lower() or "argument"
        node = function.create_node(
            ARGUMENT, attrs={"T": type.dtype, "index": len(function.inputs)}, name=base, types=(type,)
        )
        function.inputs = (*function.inputs, node.output)
        function.input_names.append(node.name)
        return node.output

    def stand_for(self, value: Value, argument: Value) -> None:
        """What reads `value` reads `argument` in the body."""
        self._boundary[value] = argument

    def copy(self, nodes: Iterable[Node]) -> None:
        """Copy `nodes`, producers first; what they wait for outside of the body is left out."""
        made: dict[Node, Node] = {}
        for node in nodes:
            copy = Node(node.op, self.function.unique_name(node.name), dict(node.attrs), node.device)
            copy.origins, copy.extras = node.source_names, node.extras
            for value in node.outputs:
                copy.add_output(value.type)
            self.function.insert(copy)
            made[node] = copy
        self._copies.update(made)
        for node, copy in made.items():
            copy.set_inputs(None if value is None else self.value(value) for value in node._inputs)
            for control in node.control_inputs:
                if control in self._copies:
                    copy.add_control_input(self._copies[control])

    def value(self, value: Value) -> Value:
        """What `value` is called in the body."""
        found = self._boundary.get(value)
        return self._copies[value.node].outputs[value.index] if found is None else found

    def constant(self, number: int, name: str) -> Value:
        """A constant int32 of the body."""
        return hold(self.function, np.array(number, np.int32), name=name)

    def finish(self, model: Model, outputs: Sequence[Value], effects: Iterable[Node]) -> Function:
        """Set the results, let what is done for effect run, and put the function into the library."""
        function = self.function
        function.outputs = outputs
        names: dict[str, None] = {}
        for value in outputs:
            base = name = re.sub(r"\W", "_", value.node.name).strip("_").lower() or "result"
            count = 0
            while name in names or name in function.input_names:
                count += 1
                name = f"{base}_{count}"
            names[name] = None
        function.output_names = list(names)
        running = dict.fromkeys(self._copies[node] for node in effects)
        function.control_outputs = {node.name: node for node in running}
        function.targets = running
        model.add_function(function)
        return function

    @property
    def is_stateful(self) -> bool:
        """Something in the body reads or changes state."""
        return any(node.op != ARGUMENT and traits_of(node.op) & Trait.STATEFUL for node in self.function)


def backward(roots: Iterable[Node], boundary: Mapping[Node, object]) -> dict[Node, None]:
    """`roots` and all they depend on, data and control, up to the nodes of `boundary`, which are left out."""
    found: dict[Node, None] = {}
    pending = [node for node in roots if node not in boundary]
    while pending:
        node = pending.pop()
        if node in found:
            continue
        found[node] = None
        pending.extend(producer for producer in node.predecessors() if producer not in boundary)
    return found


def unfit(nodes: Iterable[Node], model: Model) -> str | None:
    """Why `nodes` cannot be part of a function: references, unknown operators, v1 control flow."""
    for node in nodes:
        name = printable(node.name)
        operator = find(node.op)
        if (operator is None or operator.interface is None) and node.op_type not in model.functions:
            return f"'{name}' is of an operator that is in no table, so that a function could not name its outputs"
        if traits_of(node.op) & Trait.CONTROL_FLOW or node.op == "tf.ControlTrigger":
            return f"'{name}' ({node.op_type}) inside of it could not be raised"
        if any(value.dtype.code >= FIRST_REFERENCE for value in node.outputs):
            return f"'{name}' yields a reference to a variable"
        if any(value.is_input or value.is_output for value in node.outputs) or (
            node.graph is not None and node in node.graph._targets
        ):
            return f"'{name}' inside of it is an input, output or target of the graph"
    return None
