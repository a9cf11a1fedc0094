"""plain-tensor-arrays: tensor arrays whose sizes are known become tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from graphopt.ir.errors import printable
from graphopt.ir.graph import Graph
from graphopt.ir.known import CONSTANT, hold, known_array, known_scalar
from graphopt.ir.model import Model
from graphopt.ir.tensors import tensor
from graphopt.ir.types import INT32, INT64, SCALAR, UNKNOWN_SHAPE, DType, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.control.array_webs import (
    ARRAY,
    CLOSE,
    CONCAT,
    FLOW_PLACE,
    GATHER,
    IDENTITY,
    READ,
    SCATTER,
    SIZE,
    SPLIT,
    WRITE,
    ArrayWeb,
)
from graphopt.passes.control.call_sites import Site, remove_arguments, remove_results
from graphopt.passes.control.growing_arrays import append, grows_by_one, skip_first
from graphopt.passes.control.plain_variables import (
    Loops,
    become,
    become_filled,
    become_zeros,
    dimension_of,
    followed,
    operand_with,
    sizes_of,
    small_constant,
)
from graphopt.passes.frames import has_v1_control_flow
from graphopt.passes.removal import drop_dangling_colocations, remove_dead

INDICES_BYTES = 1 << 20  # of constant indices that are looked at


@dataclass(frozen=True)
class PlainTensorArrays(Pass):
    """Replace tensor arrays with a known number of elements of one known shape by a tensor of one more dimension.

    *Given*

        %array = tf.TensorArrayV3(%three) {dtype = float32, element_shape = shape[2]}
        %written = tf.TensorArrayWriteV3(%array, %i, %x, %array:1)
        %read = tf.TensorArrayReadV3(%array, %j, %written)
        %y = tf.TensorArrayGatherV3(%array, %indices, %written)

    *Result*

        %array = tf.Const() {value = float32[3, 2] splat 0.0}
        %written = tf.TensorScatterUpdate(%array, %index, %row)
        %read = tf.GatherV2(%written, %j, %zero)
        %y = tf.GatherV2(%written, %indices, %zero)

    The tensor takes the place of the flow, the handle goes. The shape of elements is the array's own or that of what
    is written to it (`infer-shapes` often finds out). Arrays are followed through identities, the variables of `While`
    loops, and what `If`, `Case` and `PartitionedCall` take and yield; their functions change their signatures.
    Functions that others run too are copied, unless they call functions or make resources themselves. An element that
    was not written counts as zeros.

    With `dynamic`, number and shape of the elements may be known only when the model runs, as for `plain-tensor-lists`,
    and an array that starts empty may grow by one element in every iteration of a loop.

    Refuses an array that may grow, whose size or element shape is not known, which takes more than `max_bytes`, which
    has a gradient, or which something uses that is not a write, scatter, split, read, gather, concatenation, size or
    close of version 3; one whose writes are not one chain, or where what depends on a write, or is a function's result,
    has a flow from before it; one that is read before anything is written, unless it states the shape of its elements;
    and graphs with v1 control flow (`raise-control-flow` comes first).
    """

    max_bytes: int = 1 << 24
    dynamic: bool = False

    def run(self, model: Model, context: PassContext) -> None:
        """Replace tensor arrays in all graphs."""
        makers = [node for graph in model.graphs for node in graph if node.op == ARRAY and len(node.outputs) == 2]
        if not makers:
            return
        loops = Loops(model, calls=True)
        changed: dict[Graph, None] = {}
        for maker in makers:
            web, separated = followed(partial(ArrayWeb, maker, loops), loops)
            type = web.problem or _type(web, self.max_bytes, self.dynamic)
            is_allowed = not isinstance(type, str) and context.allows(self.name)
            if not is_allowed:
                for node, before in reversed(separated):
                    loops.rejoin(node, before)
            if isinstance(type, str):
                context.refused(self.name, maker, type)
            elif is_allowed:
                changed.update(_replace(web, type))
                context.rewrote(self.name, removed=(maker,), added=(maker,))
        for graph in changed:
            drop_dangling_colocations(graph)


# Measuring -----------------------------------------------------------------------------------------------------


def _type(web: ArrayWeb, most: int, dynamic: bool) -> TensorType | str:
    """The type of the tensor that stands for an array, or why none does."""
    maker = web.maker
    dtype, count = maker.attrs.get("dtype"), known_scalar(maker.input(0))
    if not isinstance(dtype, DType) or not (dtype.is_numeric or dtype.kind == "bool"):
        return f"its elements are {dtype}"
    grows = bool(maker.attrs.get("dynamic_size"))
    if grows and not (dynamic and grows_by_one(web)):
        return "it may grow"
    if not grows and ((count is None and not dynamic) or (count is not None and int(count) < 1)):
        return "its number of elements is not known or zero"
    for node in (maker, *web.nodes, *web.identities):
        if node.graph is not None and has_v1_control_flow(node.graph):
            return "the graph has v1 control flow"
    length = None if count is None or grows else int(count)
    element = _element(web, length, dynamic)
    if isinstance(element, str):
        return element
    type = TensorType(dtype, Shape([length, *(element.dims or ())]))
    static = type.shape.static
    if static is not None and math.prod(static) * dtype.itemsize > most:
        return f"it takes more than {most} bytes"
    return next((reason for node in web.nodes if (reason := _misfit(node, type))), type)


def _element(web: ArrayWeb, count: int | None, dynamic: bool) -> Shape | str:
    """The shape of every element, static unless `dynamic`, or why there is none."""
    declared = web.maker.attrs.get("element_shape", UNKNOWN_SHAPE)
    element: Shape | None = declared if isinstance(declared, Shape) else UNKNOWN_SHAPE
    is_alike = web.maker.attrs.get("identical_element_shapes") or (isinstance(declared, Shape) and declared.is_static)
    for node in web.nodes:
        if node.op in (WRITE, SCATTER, SPLIT):
            written = _written(node, count)
            if isinstance(written, str):
                return written
            if not is_alike and written.static is None and not dynamic:
                return f"the shape of what '{printable(node.name)}' writes is not known"
            element = None if element is None else element.merged(written)
    if element is None:
        return "elements of different shapes are written to it"
    if element.static is not None or (dynamic and _is_computable(web, element)):
        return element
    return "the shape of its elements is not known"


def _is_computable(web: ArrayWeb, element: Shape) -> bool:
    """The array is written whole at once, or a loop's operand has every dimension that is no number."""
    if element.dims is None:
        return False
    if _is_filled(web):
        return True
    sites = [slot.site for slot in web.flow_slots]
    return all(isinstance(dim, int) or operand_with(sites, web.maker, dim) is not None for dim in element.dims)


def _is_filled(web: ArrayWeb) -> bool:
    """The first thing that happens to the array is that all of it is written, so that nothing sees it empty."""
    flow = web.maker.outputs[1]
    first = [node for node in flow.users if node.op == SCATTER and _is_every(node.input(1), web.maker)]
    return len(first) == 1 and flow.use_count == 1 and not flow.is_output


def _is_every(indices: Value, maker: Node | None) -> bool:
    """The indices are those of all elements of the array, in order: a range up to its size."""
    node = indices.node
    if node.op != "tf.Range" or known_scalar(node.input(0)) != 0 or known_scalar(node.input(2)) != 1:
        return False
    limit = node.input(1)
    if maker is not None and limit is maker.input(0):
        return True
    return limit.node.op == SIZE and maker is not None and limit.node.input(0) is maker.outputs[0]


def _written(node: Node, count: int | None) -> Shape | str:
    """The shape of the elements that `node` writes."""
    value = node.input(1 if node.op == SPLIT else 2)
    dims = value.shape.dims
    if node.op == WRITE:
        return value.shape
    if node.op == SCATTER:
        return UNKNOWN_SHAPE if not dims else Shape(dims[1:])
    lengths = known_array(node.input(2), INDICES_BYTES)
    if (
        count is None
        or lengths is None
        or lengths.shape != (count,)
        or (lengths != lengths[0]).any()
        or int(lengths[0]) < 1
    ):
        return f"the parts '{printable(node.name)}' writes are not known to be {count} of one length"
    if value.shape.static is None or not dims or dims[0] != count * int(lengths[0]):
        return f"the shape of what '{printable(node.name)}' splits is not known"
    return Shape([int(lengths[0]), *dims[1:]])


def _misfit(node: Node, type: TensorType) -> str | None:
    """Why `node` does not fit an array that becomes a tensor of `type`."""
    dtype = node.attrs.get("T" if node.op in (WRITE, SCATTER, SPLIT) else "dtype", type.dtype)
    name, rows = printable(node.name), Shape((type.shape.dims or ())[1:])
    if node.op in FLOW_PLACE and node.op != SIZE and dtype is not type.dtype:
        return f"'{name}' takes its elements for {dtype}"
    if node.op == GATHER and _contradicts(node.attrs.get("element_shape"), rows):
        return f"'{name}' expects elements of another shape"
    if node.op == CONCAT:
        if type.shape.static is None:
            return f"'{name}' concatenates elements of unknown size"
        if not rows.dims or len(node.outputs) != 2:
            return f"'{name}' concatenates scalars"
        if node.outputs[1].is_output:
            return f"'{printable(node.outputs[1].name)}' is an output of a graph"
        if _contradicts(node.attrs.get("element_shape_except0"), Shape(rows.dims[1:])):
            return f"'{name}' expects elements of another shape"
    return None


def _contradicts(declared: object, shape: Shape) -> bool:
    return isinstance(declared, Shape) and declared.merged(shape) is None


# Replacing -----------------------------------------------------------------------------------------------------


def _replace(web: ArrayWeb, type: TensorType) -> dict[Graph, None]:
    """Turn an array into a tensor; returns the graphs that changed."""
    grows = bool(web.maker.attrs.get("dynamic_size"))
    whole = [node for node in web.nodes if node.op in (SCATTER, GATHER) and _is_every(node.input(1), web.maker)]
    sizes: list[Value] = []
    if type.shape.static is None and not _is_filled(web):
        flows = [slot.site for slot in web.flow_slots]
        count = small_constant(web.maker, 1, "count") if grows else web.maker.input(0)
        sizes = [count, *sizes_of(web.maker, (type.shape.dims or ())[1:], flows)]
    for slot in web.flow_slots:
        slot.retype(type)
    nodes = (web.maker, *web.nodes, *web.identities)
    graphs = {node.graph: None for node in nodes if node.graph is not None}
    graphs.update({function: None for slot in web.handle_slots for function in slot.site.functions})
    useless = [producer for node in web.nodes for producer in node.predecessors()]
    useless += web.maker.predecessors()
    for node in web.nodes:
        if grows:
            skip_first(node, type)
            (append if node.op == WRITE else _HANDLERS[node.op])(node, type)
        elif node in whole and type.shape.static is None:
            value = node.input(2)
            become(node, IDENTITY, [value], {"T": type.dtype}, value.type if node.op == SCATTER else type)
        else:
            _HANDLERS[node.op](node, type)
        node.extras = None
    _drop_handles(web)
    _join_outputs(web.maker)
    if type.shape.static is not None:
        become_zeros(web.maker, type)
    elif sizes:
        become_filled(web.maker, type, sizes)
    else:  # all of it is written at once, so that nothing sees it empty
        web.maker.op, web.maker.attrs = IDENTITY, {"T": INT32}
        useless.append(web.maker)
    web.maker.extras = None
    for node in (*useless, *(node for node in web.nodes if node.op == "tf.NoOp")):
        if node.graph is not None:
            remove_dead(node.graph, [node])
    return graphs


def _drop_handles(web: ArrayWeb) -> None:
    """Calls pass on handles no longer. Operands go first, as what is inside of a loop may hold on to its arguments."""
    operands: dict[Site, list[int]] = {}
    results: dict[Site, list[int]] = {}
    for slot in web.handle_slots:
        (results if slot.is_result else operands).setdefault(slot.site, []).append(slot.place)
    for site, places in operands.items():
        site.remove_operands(places)
        if site.is_loop:
            remove_results(site.functions[1], places)
    for site, places in results.items():
        for function in site.functions:
            remove_results(function, places)
    for node in web.identities:
        if node.graph is not None:
            remove_dead(node.graph, [node])
    for site, places in results.items():
        site.remove_results(places)
    for site, places in operands.items():
        for function in site.functions:
            remove_arguments(function, places)


def _join_outputs(maker: Node) -> None:
    """Let the first output, the handle that nothing reads any more, take the place of the second, the flow."""
    assert maker.graph is not None
    handle, flow = maker.outputs
    maker.graph.replace_value(flow, handle)
    maker.outputs.pop()


def _around(node: Node, op: str, value: Value, given: Value, shape: Shape, name: str) -> Value:
    """`value` with more dimensions: a new `Reshape` or `ExpandDims` before `node`."""
    assert node.graph is not None
    attrs = {"T": value.dtype, ("Tshape" if op == "tf.Reshape" else "Tdim"): INT32}
    made = node.graph.create_node(
        op, [value, given], attrs, name=f"{node.name}/{name}", types=[value.type.with_shape(shape)], before=node,
        device=node.device, origins=node.source_names,
    )  # fmt: skip
    return made.output


def _pass_on(node: Node, type: TensorType) -> None:
    become(node, IDENTITY, [node.input(0)], {"T": type.dtype}, type)


def _update(node: Node, flow: Value, index: Value, rows: Value, type: TensorType) -> None:
    become(node, "tf.TensorScatterUpdate", [flow, index, rows], {"T": type.dtype, "Tindices": INT32}, type)


def _write(node: Node, type: TensorType) -> None:
    _, place, value, flow = (node.input(index) for index in range(4))
    index = _around(node, "tf.Reshape", place, small_constant(node, [1, 1], "index_shape"), Shape([1, 1]), "index")
    row_shape = Shape([1, *(type.shape.dims or ())[1:]])
    row = _around(node, "tf.ExpandDims", value, small_constant(node, 0, "axis"), row_shape, "row")
    _update(node, flow, index, row, type)


def _scatter(node: Node, type: TensorType) -> None:
    _, places, value, flow = (node.input(index) for index in range(4))
    known = known_array(places, INDICES_BYTES)
    count = (type.shape.static or (0,))[0]
    if known is not None and np.array_equal(known, np.arange(count)) and value.shape == type.shape:
        become(node, IDENTITY, [value], {"T": type.dtype}, type)
        return
    dims = places.shape.dims
    shape = Shape([dims[0] if dims else None, 1])
    index = _around(node, "tf.ExpandDims", places, small_constant(node, 1, "axis"), shape, "index")
    _update(node, flow, index, value, type)


def _split(node: Node, type: TensorType) -> None:
    shape = small_constant(node, type.shape.static, "shape")
    become(node, "tf.Reshape", [node.input(1), shape], {"T": type.dtype, "Tshape": INT32}, type)


def _gather(node: Node, type: TensorType) -> None:
    indices, flow, axis = node.input(1), node.input(2), small_constant(node, 0, "axis")
    attrs: dict[str, object] = {"Tparams": type.dtype, "Tindices": INT32, "Taxis": INT32, "batch_dims": 0}
    rows = (type.shape.dims or ())[1:]
    dims = indices.shape.dims
    shape = Shape(rows) if node.op == READ else Shape([dims[0] if dims else None, *rows])
    become(node, "tf.GatherV2", [flow, indices, axis], attrs, TensorType(type.dtype, shape))


def _concat(node: Node, type: TensorType) -> None:
    assert node.graph is not None
    count, length, *rest = type.shape.static or (0, 0)
    lengths = node.outputs.pop()
    if lengths.use_count:
        data = tensor(np.full(count, length, np.int64), INT64)
        lengths.replace_all_uses_with(hold(node.graph, data, name=f"{node.name}/lengths", before=node))
    whole = TensorType(type.dtype, Shape([count * length, *rest]))
    shape = small_constant(node, whole.shape.static, "shape")
    become(node, "tf.Reshape", [node.input(1), shape], {"T": type.dtype, "Tshape": INT32}, whole)


def _size(node: Node, type: TensorType) -> None:
    if type.shape.static is None:
        length = dimension_of(node, node.input(1), 0)
        become(node, IDENTITY, [length], {"T": INT32}, TensorType(INT32, SCALAR))
        return
    held = tensor(np.array((type.shape.static or (0,))[0], np.int32), INT32)
    become(node, CONSTANT, [], {"dtype": INT32, "value": held}, TensorType(INT32, SCALAR))


def _close(node: Node, type: TensorType) -> None:
    node.op, node.attrs = "tf.NoOp", {}
    node.set_inputs([])


_HANDLERS: dict[str, Callable[[Node, TensorType], None]] = {
    IDENTITY: _pass_on,
    WRITE: _write,
    SCATTER: _scatter,
    SPLIT: _split,
    READ: _gather,
    GATHER: _gather,
    CONCAT: _concat,
    SIZE: _size,
    CLOSE: _close,
}
