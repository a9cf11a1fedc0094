"""plain-tensor-lists: lists of tensors whose sizes are known become tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.known import CONSTANT, known_array
from graphopt.ir.model import ARGUMENT, Function, Model
from graphopt.ir.tensors import tensor
from graphopt.ir.types import INT32, SCALAR, DType, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.call_sites import Site
from graphopt.passes.control.plain_variables import Loops, become, become_zeros, retype_variable, small_constant
from graphopt.passes.frames import has_v1_control_flow
from graphopt.passes.removal import remove_dead

RESERVE, FROM_TENSOR, IDENTITY = "tf.TensorListReserve", "tf.TensorListFromTensor", "tf.Identity"
SET_ITEM = "tf.TensorListSetItem"


@dataclass(frozen=True)
class PlainTensorLists(Pass):
    """Replace lists of tensors with a known number of elements of one known shape by a tensor of one more dimension.

    *Given*

        %list = tf.TensorListReserve(%shape, %three) {element_dtype = float32}
        %set = tf.TensorListSetItem(%list, %i, %x)
        %get = tf.TensorListGetItem(%set, %j, %shape)
        %y = tf.TensorListStack(%set, %shape)

    *Result*

        %list = tf.Const() {value = float32[3, 2] splat 0.0}
        %set = tf.TensorScatterUpdate(%list, %index, %row)
        %get = tf.GatherV2(%set, %j, %zero)
        %y = tf.Identity(%set)

    `TensorListFromTensor` passes its tensor on. Lists are followed through identities and the variables of `While`
    loops, whose functions change their signatures. An element that was not set counts as zeros, as in a list.

    Refuses a list whose size or element shape is not known, which grows or shrinks, which takes more than `max_bytes`,
    or which something reads that is not named here; loops whose functions others run too (`specialise-functions` or
    clones come first); and graphs with v1 control flow (`raise-control-flow` comes first).
    """

    max_bytes: int = 1 << 24

    def run(self, model: Model, context: PassContext) -> None:
        """Replace lists in all graphs."""
        loops = Loops(model)
        done: dict[Value, None] = {}
        for graph in model.graphs:
            for node in graph:
                if node.op not in (RESERVE, FROM_TENSOR) or node.output in done:
                    continue
                web = _Web(node.output, loops)
                done.update(web.values)
                reason = web.problem or web.measure(self.max_bytes)
                if reason is not None:
                    context.refused(self.name, node, reason)
                elif context.allows(self.name):
                    web.replace()
                    context.rewrote(self.name, removed=(node,), added=(node,))


class _Web:
    """Every value that is, or may be, one list in some state; `problem` says why it must stay a list."""

    def __init__(self, start: Value, loops: Loops):
        self.loops = loops
        self.values: dict[Value, None] = {}
        self.nodes: dict[Node, None] = {}
        self.variables: dict[tuple[Node, int], Site] = {}
        self.problem: str | None = None
        self.type = TensorType(start.dtype, Shape(None))
        pending = [start]
        while pending and self.problem is None:
            value = pending.pop()
            if value not in self.values:
                self.values[value] = None
                pending += self._producer(value)
                for user, place in value.uses:
                    pending += self._reader(user, place)
                if value.is_output or value.is_input:
                    pending += self._interface(value)

    def _producer(self, value: Value) -> list[Value]:
        node = value.node
        if node.op in (RESERVE, FROM_TENSOR):
            self.nodes[node] = None
        elif node.op in (SET_ITEM, IDENTITY):
            return [node.input(0)]
        elif node in self.loops.by_node:
            return self._variable(self.loops.by_node[node], value.index)
        elif node.op != ARGUMENT:
            self.problem = f"'{printable(node.name)}' ({node.op_type}) may yield it too"
        return []

    def _reader(self, node: Node, place: int) -> list[Value]:
        if node in self.loops.by_node:
            return self._variable(self.loops.by_node[node], place)
        if (node.op in _READERS and place == 0) or node.op == IDENTITY:
            self.nodes[node] = None
            return [node.outputs[0]] if node.op in (SET_ITEM, IDENTITY) else []
        self.problem = f"'{printable(node.name)}' ({node.op_type}) reads it"
        return []

    def _interface(self, value: Value) -> list[Value]:
        """Follow an argument or result of a loop's function."""
        graph = value.node.graph
        site = self.loops.by_function.get(graph) if isinstance(graph, Function) else None
        if graph is None or site is None or (value.is_output and graph is not site.functions[1]):
            self.problem = f"'{printable(value.name)}' is an input or output of a graph"
            return []
        places = [place for place, other in enumerate(graph.inputs) if other is value]
        places += [place for place, other in enumerate(graph.outputs) if other is value]
        return [found for place in places for found in self._variable(site, place)]

    def _variable(self, site: Site, place: int) -> list[Value]:
        self.variables[site.node, place] = site
        return self.loops.variable(site, place)

    def measure(self, most: int) -> str | None:
        """Find out type and shape of the tensor; a reason, if that cannot be."""
        found: TensorType | None = None
        for node in self.nodes:
            if node.graph is not None and has_v1_control_flow(node.graph):
                return "the graph has v1 control flow"
            if node.op == SET_ITEM and node.attrs.get("resize_if_index_out_of_bounds"):
                return f"'{printable(node.name)}' may make it longer"
            if node.op in (RESERVE, FROM_TENSOR):
                type = _made(node)
                if isinstance(type, str):
                    return type
                if found is not None and (found.dtype is not type.dtype or found.shape != type.shape):
                    return "it takes the place of a list of another size or type"
                found = type
        if found is None:
            return "nothing says how large it is"
        static = found.shape.static or ()
        if math.prod(static) * found.dtype.itemsize > most:
            return f"it takes more than {most} bytes"
        for node in self.nodes:
            count = node.attrs.get("num_elements", -1)
            if node.op == "tf.TensorListStack" and count not in (-1, static[0]):
                return f"'{printable(node.name)}' expects {count} elements"
        self.type = found
        return None

    def replace(self) -> None:
        """Turn the lists into tensors."""
        for (_, place), site in self.variables.items():
            retype_variable(site, place, self.type)
        for node in self.nodes:
            producers = list(dict.fromkeys(node.predecessors()))
            _READERS[node.op](node, self.type)
            node.extras = None
            if node.graph is not None:
                remove_dead(node.graph, producers)


def _made(node: Node) -> TensorType | str:
    """What tensor stands for the list that `node` makes, or why none does."""
    dtype = node.attrs.get("element_dtype")
    if not isinstance(dtype, DType) or not (dtype.is_numeric or dtype.kind == "bool"):
        return f"its elements are {dtype}"
    if node.op == FROM_TENSOR:
        static = node.input(0).shape.static
        return TensorType(dtype, Shape(static)) if static else "its number of elements or their shape is not known"
    shape, count = known_array(node.input(0)), known_array(node.input(1))
    if shape is None or count is None or shape.ndim != 1 or (shape < 0).any() or count.size != 1 or int(count) < 1:
        return "its number of elements or their shape is not known"
    return TensorType(dtype, Shape([int(count), *(int(dim) for dim in shape)]))


# Operators -----------------------------------------------------------------------------------------------------


def _pass_on(node: Node, type: TensorType) -> None:
    become(node, IDENTITY, [node.input(0)], {"T": type.dtype}, type)


def _reshaped(node: Node, value: Value, dims: list[int], name: str) -> Value:
    assert node.graph is not None
    made = node.graph.create_node(
        "tf.Reshape", [value, small_constant(node, dims, f"{name}_shape")], {"T": value.dtype, "Tshape": INT32},
        name=f"{node.name}/{name}", types=[value.type.with_shape(Shape(dims))], before=node, device=node.device,
        origins=node.source_names,
    )  # fmt: skip
    return made.output


def _set_item(node: Node, type: TensorType) -> None:
    index = _reshaped(node, node.input(1), [1, 1], "index")
    row = _reshaped(node, node.input(2), [1, *(type.shape.static or ())[1:]], "row")
    inputs = [node.input(0), index, row]
    become(node, "tf.TensorScatterUpdate", inputs, {"T": type.dtype, "Tindices": INT32}, type)


def _gather(node: Node, type: TensorType) -> None:
    indices = node.input(1)
    axis = small_constant(node, 0, "axis")
    attrs: dict[str, object] = {"Tparams": type.dtype, "Tindices": INT32, "Taxis": INT32, "batch_dims": 0}
    known = indices.shape.dims
    rows = (type.shape.dims or ())[1:]
    shape = Shape(rows) if node.op == "tf.TensorListGetItem" else Shape(None if known is None else (*known, *rows))
    become(node, "tf.GatherV2", [node.input(0), indices, axis], attrs, TensorType(type.dtype, shape))


def _length(node: Node, type: TensorType) -> None:
    held = tensor(np.array((type.shape.static or (0,))[0], np.int32), INT32)
    become(node, CONSTANT, [], {"dtype": INT32, "value": held}, TensorType(INT32, SCALAR))


_READERS: dict[str, Callable[[Node, TensorType], None]] = {
    RESERVE: become_zeros,
    FROM_TENSOR: _pass_on,
    IDENTITY: _pass_on,
    SET_ITEM: _set_item,
    "tf.TensorListGetItem": _gather,
    "tf.TensorListGather": _gather,
    "tf.TensorListStack": _pass_on,
    "tf.TensorListLength": _length,
}
