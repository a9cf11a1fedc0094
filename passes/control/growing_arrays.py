"""Tensor arrays that start empty and grow by one element in every iteration of a loop: tensors that are appended to."""

from __future__ import annotations

from graphopt.ir.known import known_scalar
from graphopt.ir.model import Function
from graphopt.ir.types import INT32, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.control.array_webs import GATHER, IDENTITY, READ, SIZE, WRITE, WRITERS, ArrayWeb
from graphopt.passes.control.plain_variables import become, made_before, small_constant


def grows_by_one(web: ArrayWeb) -> bool:
    """An array without elements gets one more, behind the others, each time that one loop turns, and no others."""
    writers = [node for node in web.nodes if node.op in WRITERS]
    if len(writers) != 1 or writers[0].op != WRITE or known_scalar(web.maker.input(0)) != 0:
        return False
    write = writers[0]
    body = write.graph
    site = web.loops.by_function.get(body) if isinstance(body, Function) else None
    if site is None or not site.is_loop or body is not site.functions[1]:
        return False
    flow, index = _source(write.input(3)), _source(write.input(1))
    if not (flow.is_input and index.is_input):
        return False
    array, counter = body.inputs.index(flow), body.inputs.index(index)
    starts_empty = _source(site.operands[array]) is web.maker.outputs[1] and known_scalar(site.operands[counter]) == 0
    return starts_empty and _source(body.outputs[array]) is write.output and _counts(body.outputs[counter], index)


def append(node: Node, type: TensorType) -> None:
    """Make a write the concatenation of the elements so far with one more."""
    row = type.with_shape(Shape([1, *(type.shape.dims or (None,))[1:]]))
    inputs = [node.input(2), small_constant(node, 0, "axis")]
    made = made_before(node, "tf.ExpandDims", inputs, {"T": type.dtype, "Tdim": INT32}, row, "row")
    joined = [node.input(3), made, small_constant(node, 0, "along")]
    become(node, "tf.ConcatV2", joined, {"T": type.dtype, "N": 2, "Tidx": INT32}, type)


def skip_first(node: Node, type: TensorType) -> None:
    """Let a reader pass over a row before the first element, as runtimes do not let an empty tensor grow in a loop."""
    if node.op in (READ, GATHER):
        index = node.input(1)
        inputs = [index, small_constant(node, 1, "first")]
        node.replace_input(1, made_before(node, "tf.AddV2", inputs, {"T": INT32}, index.type, "place"))
    elif node.op == SIZE:
        inputs = [node.input(1), *(small_constant(node, [number], "bound") for number in (1, 0, 1))]
        attrs: dict[str, object] = {"T": type.dtype, "Index": INT32, "end_mask": 1}
        node.replace_input(1, made_before(node, "tf.StridedSlice", inputs, attrs, type, "elements"))


def _counts(next_: Value, index: Value) -> bool:
    """`next_` is `index` and one."""
    node = _source(next_).node
    if node.op not in ("tf.Add", "tf.AddV2"):
        return False
    terms = [_source(value) for value in node.inputs if value is not None]
    return index in terms and [known_scalar(value) for value in terms if value is not index] == [1]


def _source(value: Value) -> Value:
    while value.node.op == IDENTITY and not value.is_input:
        value = value.node.input(0)
    return value
