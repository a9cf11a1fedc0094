"""Detection heads of many pictures, or of any number of them: a loop over them, in which there is one."""

from __future__ import annotations

from typing import Any

from graphopt.backends.tflite.rules.detection import CLASSES
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.infer import infer_model
from graphopt.ir.known import known_array
from graphopt.ir.model import Model
from graphopt.ir.value import Node

COMBINED = "tf.CombinedNonMaxSuppression"
INLINE = "inline-functions{always=true},infer-shapes,fold-constants,strip-unused,remove-unused-functions"
# What the function computes: all rows of the results, which are filled one by one.
_LOOP = """
function @more(%number: int32[], %count: int32[], {types}) -> (more = %more) {{
  %more = tf.Less(%number, %count)
}}
function @next(%number: int32[], %count: int32[], {types})
    -> (number = %following, count = %count, boxes = %boxes, scores = %scores, kept = %a, best = %b, kinds = %c,
        valid = %d) {{
  %zero = tf.Const() {{value = int32[] 0}}
  %one = tf.Const() {{value = int32[] 1}}
  %vector = tf.Const() {{value = int32[1] [1]}}
  %row = tf.Reshape(%number, %vector)
  %matrix = tf.Const() {{value = int32[2] [1, 1]}}
  %place = tf.Reshape(%number, %matrix)
  %each = tf.Const() {{value = int32[] {each}}}
  %total = tf.Const() {{value = int32[] {total}}}
  %overlap = tf.Const() {{value = float32[] {overlap}}}
  %least = tf.Const() {{value = float32[] {least}}}
  %boxed = tf.GatherV2(%boxes, %row, %zero)
  %scored = tf.GatherV2(%scores, %row, %zero)
  %found = tf.CombinedNonMaxSuppression(%boxed, %scored, %each, %total, %overlap, %least)
    {{pad_per_class = {pad_per_class}, clip_boxes = {clip_boxes}}}
  %a = tf.TensorScatterUpdate(%kept, %place, %found)
  %b = tf.TensorScatterUpdate(%best, %place, %found:1)
  %c = tf.TensorScatterUpdate(%kinds, %place, %found:2)
  %d = tf.TensorScatterUpdate(%valid, %place, %found:3)
  %following = tf.AddV2(%number, %one)
}}
function @pictures(%boxes: float32[?, {many}, {shared}, 4], %scores: float32[?, {many}, {classes}])
    -> (kept = %loop:4, best = %loop:5, kinds = %loop:6, valid = %loop:7) {{
  %zero = tf.Const() {{value = int32[] 0}}
  %nothing = tf.Const() {{value = float32[] 0.0}}
  %first = tf.Const() {{value = int32[1] [0]}}
  %second = tf.Const() {{value = int32[1] [1]}}
  %shape = tf.Shape(%boxes) {{out_type = int32}}
  %batch = tf.StridedSlice(%shape, %first, %second, %second)
  %count = tf.Reshape(%batch, %none)
  %none = tf.Const() {{value = int32[0] []}}
  %size = tf.Const() {{value = int32[1] [{size}]}}
  %four = tf.Const() {{value = int32[1] [4]}}
  %of_boxes = tf.ConcatV2(%batch, %size, %four, %zero) {{N = 3}}
  %of_scores = tf.ConcatV2(%batch, %size, %zero) {{N = 2}}
  %kept = tf.Fill(%of_boxes, %nothing)
  %best = tf.Fill(%of_scores, %nothing)
  %valid = tf.Fill(%batch, %zero)
  %loop = tf.StatelessWhile(%zero, %count, %boxes, %scores, %kept, %best, %best, %valid) {{cond = @more, body = @next,
    T = [int32, int32, float32, float32, float32, float32, float32, int32]}}
}}
graph @main() -> () {{}}
"""
_TYPES = (
    "%boxes: float32[?, {many}, {shared}, 4], %scores: float32[?, {many}, {classes}], %kept: float32[?, {size}, 4], "
    "%best: float32[?, {size}], %kinds: float32[?, {size}], %valid: int32[?]"
)


def loop_over_pictures(model: Model) -> bool:
    """Let every `CombinedNonMaxSuppression` of too many pictures, or of a number that is not known, be a call of a
    function with a loop over them; whether there was one."""
    found = [
        (node, facts)
        for graph in model.graphs
        for node in graph
        if node.op == COMBINED and (facts := _facts(node)) is not None
    ]
    for node, facts in found:
        _call(model, node, facts)
    return bool(found)


def _facts(node: Node) -> dict[str, Any] | None:
    """What is known of an operator that needs a loop; None for others, and where more than the number of pictures is
    not known."""
    boxes, scores, size = node.input(0).shape.dims, node.input(1).shape.dims, node.outputs[0].shape.dims
    if boxes is None or scores is None or size is None:
        return None
    if isinstance(boxes[0], int) and isinstance(scores[2], int) and boxes[0] * scores[2] <= CLASSES:
        return None
    held = [known_array(node.input(place)) for place in range(2, 6)]
    if not all(isinstance(dim, int) for dim in (*boxes[1:], *scores[1:], size[1])):
        return None
    if any(array is None or array.size != 1 for array in held):
        return None
    numbers = [array.reshape(()).item() for array in held if array is not None]
    flags = {key: str(bool(node.attr(key))).lower() for key in ("pad_per_class", "clip_boxes")}
    facts: dict[str, Any] = {"many": boxes[1], "shared": boxes[2], "classes": scores[2], "size": size[1]}
    return {**facts, **dict(zip(("each", "total", "overlap", "least"), numbers, strict=True)), **flags}


def _call(model: Model, node: Node, facts: dict[str, Any]) -> None:
    from graphopt.ir.text import parse_model

    made = parse_model(_LOOP.format(types=_TYPES.format(**facts), **facts))
    infer_model(made)
    names = {name: model.unique_function_name(f"{name}_of_pictures") for name in made.functions}
    for name, function in list(made.functions.items()):
        for item in function:
            for key, value in item.attrs.items():
                if isinstance(value, FunctionRef):
                    item.attrs[key] = FunctionRef(names[value.name], value.attrs)
        function.name = names[name]
        model.add_function(function)
    node.op, node.extras = "tf.PartitionedCall", None
    node.attrs = {
        "f": FunctionRef(names["pictures"], {}),
        "Tin": tuple(value.dtype for value in node.inputs[:2] if value is not None),
        "Tout": tuple(value.dtype for value in node.outputs),
    }
    node.set_inputs(node.inputs[:2])
