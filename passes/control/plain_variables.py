"""Variables of loops, operands and results of calls that become plain tensors, and the nodes that take their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from graphopt.ir.dimensions import SymbolicDim
from graphopt.ir.formats.function_def import METADATA, FunctionExtras
from graphopt.ir.known import CONSTANT, hold
from graphopt.ir.model import Function, Model, callees
from graphopt.ir.tensors import RepeatedTensor, tensor
from graphopt.ir.types import INT32, RESOURCE, SCALAR, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.control.call_sites import CALLS, Site, clone_function, reference_counts, site_of
from graphopt.passes.control.lower_control_flow import BRANCHING, LOOPS

ALL_CALLS = frozenset({*LOOPS, *BRANCHING, *CALLS})


class Slot(NamedTuple):
    """A place at which values go into functions and come out: a variable of a loop, an operand or a result of a call.

    A variable of a loop is both and counts as an operand.
    """

    site: Site
    place: int
    is_result: bool

    @property
    def values(self) -> list[Value]:
        """All values that are the same there: outside of the functions and inside of them."""
        site, place = self.site, self.place
        node, functions = site.node, site.functions
        if site.is_loop:
            condition, body = functions
            return [site.operands[place], node.outputs[place], condition.inputs[place], body.inputs[place],
                    body.outputs[place]]  # fmt: skip
        if self.is_result:
            return [node.outputs[place], *(function.outputs[place] for function in functions)]
        return [site.operands[place], *(function.inputs[place] for function in functions)]

    def retype(self, type: TensorType) -> None:
        """Let all of its values but what goes in from outside be of `type`, and attributes say so."""
        site, place = self.site, self.place
        attrs, functions = site.node.attrs, site.functions
        if site.is_loop or self.is_result:
            site.node.outputs[place].type = type
            _put(attrs, "output_shapes", place, type.shape)
            for function in functions[1:] if site.is_loop else functions:
                _forget_result(function, place)
        if site.is_loop or not self.is_result:
            for function in functions:
                _retype_argument(function, place, type)
        _put(attrs, "T" if site.is_loop else "Tout" if self.is_result else "Tin", place, type.dtype)
        for stale in ("_input_shapes", "_output_shapes"):
            attrs.pop(stale, None)


class Loops:
    """The loops of a model by their functions; those that are run from one place, and `shared` others.

    With `calls`, conditionals and calls of functions too.
    """

    def __init__(self, model: Model, calls: bool = False):
        self.model = model
        self.counts = reference_counts(model)
        self.by_node: dict[Node, Site] = {}
        self.by_function: dict[Function, Site] = {}
        self.shared: dict[Node, Site] = {}
        operators = ALL_CALLS if calls else LOOPS
        for graph in model.graphs:
            for node in graph:
                site = site_of(node, model) if node.op in operators else None
                if site is not None and all(self.counts.get(function.name) == 1 for function in site.functions):
                    self._own(site)
                elif site is not None:
                    self.shared[node] = site

    def _own(self, site: Site) -> None:
        self.by_node[site.node] = site
        self.by_function.update(dict.fromkeys(site.functions, site))

    def separate(self, node: Node) -> list[Function] | None:
        """Give a shared call functions of its own; returns those it ran before, for `rejoin`.

        None where that would copy calls of further functions or makers of resources, or the call is not a shared one.
        """
        site = self.shared.get(node)
        if site is None:
            return None
        for function in site.functions:
            for inner in function:
                is_maker = bool(inner.outputs) and inner.output.dtype is RESOURCE
                if is_maker and not inner.op.startswith(("tf._Arg", "tf.Identity")):
                    return None
                if next(iter(callees(inner)), None) is not None:
                    return None
        before = list(site.functions)
        for place, function in enumerate(before):
            if self.counts[function.name] > 1:
                copy = clone_function(function, self.model)
                site.set_function(place, copy)
                self.counts[function.name] -= 1
                self.counts[copy.name] = 1
        del self.shared[node]
        self._own(site)
        return before

    def rejoin(self, node: Node, before: list[Function]) -> None:
        """Take back `separate`."""
        site = self.by_node.pop(node)
        self.shared[node] = site
        for place, (copy, function) in enumerate(zip(tuple(site.functions), before, strict=True)):
            del self.by_function[copy]
            if copy is not function:
                site.set_function(place, function)
                self.counts[function.name] += 1
                del self.counts[copy.name]
                self.model.functions.pop(copy.name)

    def read_at(self, node: Node, index: int) -> Slot | None:
        """The slot that `node`, a call, reads with its input `index`; None for what decides a conditional."""
        site = self.by_node[node]
        return Slot(site, index - site.first, False) if index >= site.first else None

    def yielded(self, value: Value) -> Slot:
        """The slot that a call's output is."""
        site = self.by_node[value.node]
        return Slot(site, value.index, not site.is_loop)

    def interface(self, value: Value) -> list[Slot] | None:
        """The slots that an argument or result of a function is; None where it is one of some other graph."""
        graph = value.node.graph
        site = self.by_function.get(graph) if isinstance(graph, Function) else None
        if graph is None or site is None or site.node.graph is None:  # dead calls were removed
            return None
        if value.is_output and site.is_loop and graph is not site.functions[1]:
            return None
        slots = [Slot(site, place, False) for place, other in enumerate(graph.inputs) if other is value]
        return slots + [Slot(site, n, not site.is_loop) for n, other in enumerate(graph.outputs) if other is value]


class Web(Protocol):
    """Values that are one thing, followed through a model's functions."""

    @property
    def shared(self) -> Node | None:
        """A call whose functions others run too and that is in the way."""


AnyWeb = TypeVar("AnyWeb", bound=Web)
Separated = list[tuple[Node, list[Function]]]


def followed(make: Callable[[], AnyWeb], loops: Loops) -> tuple[AnyWeb, Separated]:
    """A web; calls in its way get functions of their own, and are listed with those they had."""
    separated: Separated = []
    while True:
        web = make()
        before = loops.separate(web.shared) if web.shared is not None else None
        if web.shared is None or before is None:
            return web, separated
        separated.append((web.shared, before))


def _put(attrs: dict[str, Any], name: str, place: int, item: object) -> None:
    items = attrs.get(name)
    if isinstance(items, tuple) and items:
        attrs[name] = (*items[:place], item, *items[place + 1 :])


def _retype_argument(function: Function, place: int, type: TensorType) -> None:
    argument = function.inputs[place]
    argument.type = type
    argument.node.attrs = {"T": type.dtype, "index": place}
    argument.node.extras = None
    function.attrs.pop("_input_shapes", None)


def _forget_result(function: Function, place: int) -> None:
    """Forget what the function's own signature says of a result."""
    extras = function.metadata.get(METADATA)
    if isinstance(extras, FunctionExtras):
        name = function.output_names[place]
        kept = tuple(item for item in extras.outputs if item[0] != name)
        function.metadata[METADATA] = extras._replace(outputs=kept)


def become(node: Node, op: str, inputs: list[Value], attrs: dict[str, object], type: TensorType) -> None:
    """Make `node` another operation, whose first output is of `type`."""
    node.origins = node.source_names
    node.op, node.attrs = op, attrs
    node.set_inputs(inputs)
    node.outputs[0].type = type


def become_zeros(node: Node, type: TensorType) -> None:
    """Make `node` a constant of `type`, which is static, that holds zeros; a compact one."""
    assert type.dtype.numpy is not None
    held = RepeatedTensor(np.zeros(1, type.dtype.numpy), type.dtype, type.shape.static or ())
    value = held if held.size else tensor(held.numpy(), type.dtype)
    become(node, CONSTANT, [], {"dtype": type.dtype, "value": value}, type)


def small_constant(node: Node, numbers: object, name: str) -> Value:
    """A new constant of type int32 before `node`, named after it."""
    assert node.graph is not None
    data = np.array(numbers, np.int32)
    return hold(node.graph, data, name=f"{node.name}/{name}", before=node, origins=node.source_names)


# Sizes that are known when the model runs -------------------------------------------------------------------------


def operand_with(sites: Iterable[Site], node: Node, dim: object) -> tuple[Value, int] | None:
    """An operand of one of these loops, in the graph of `node`, and which of its dimensions is `dim`, which has a name.

    None where there is none, and for a dimension that is a number or not known at all.
    """
    if not isinstance(dim, SymbolicDim):
        return None
    for site in sites:
        for value in site.operands if site.node.graph is node.graph else ():
            for axis, other in enumerate(value.shape.dims or ()):
                if other == dim and not value.dtype.is_handle and value.node is not node:
                    return value, axis
    return None


def sizes_of(node: Node, dims: Sequence[object], sites: Sequence[Site]) -> list[Value]:
    """Scalars before `node` that are `dims`: constants, or dimensions of operands of the loops; one for what is not
    known."""
    sizes = []
    for place, dim in enumerate(dims):
        found = operand_with(sites, node, dim)
        if found is None:
            sizes.append(small_constant(node, dim if isinstance(dim, int) else 1, f"size_{place}"))
        else:
            sizes.append(dimension_of(node, *found, place))
    return sizes


def become_filled(node: Node, type: TensorType, sizes: list[Value]) -> None:
    """Make `node` zeros of `type`, whose dimensions are the scalars `sizes`."""
    assert node.graph is not None
    assert type.dtype.numpy is not None
    dims = made_before(
        node, "tf.Pack", sizes, {"T": INT32, "N": len(sizes), "axis": 0}, TensorType(INT32, Shape([len(sizes)])), "dims"
    )
    zero = hold(
        node.graph, tensor(np.zeros((), type.dtype.numpy), type.dtype), name=f"{node.name}/zero", before=node,
        origins=node.source_names,
    )  # fmt: skip
    become(node, "tf.Fill", [dims, zero], {"T": type.dtype, "index_type": INT32}, type)


def made_before(
    node: Node, op: str, inputs: list[Value], attrs: dict[str, object], type: TensorType, name: str
) -> Value:
    """The output of a new operation before `node`, named after it."""
    assert node.graph is not None
    made = node.graph.create_node(
        op, inputs, attrs, name=f"{node.name}/{name}", types=[type], before=node, device=node.device,
        origins=node.source_names,
    )  # fmt: skip
    return made.output


def dimension_of(node: Node, value: Value, axis: int, place: int = 0) -> Value:
    """Dimension `axis` of `value`, a scalar computed before `node`."""
    rank = TensorType(INT32, Shape([value.shape.rank]))
    shape = made_before(node, "tf.Shape", [value], {"T": value.dtype, "out_type": INT32}, rank, f"shape_{place}")
    inputs = [shape, small_constant(node, axis, f"axis_{place}"), small_constant(node, 0, f"zero_{place}")]
    attrs: dict[str, object] = {"Tparams": INT32, "Tindices": INT32, "Taxis": INT32, "batch_dims": 0}
    return made_before(node, "tf.GatherV2", inputs, attrs, TensorType(INT32, SCALAR), f"size_{place}")
