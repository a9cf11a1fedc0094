"""Blocks of random models that call functions of the library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.model import Function
from graphopt.ir.types import BOOL, FLOAT32, INT32, Shape
from graphopt.testing.blocks import TYPED, matmul, of_two, reflect, unary, with_constant
from graphopt.testing.builder import Builder, Dims, Known
from graphopt.testing.layout_blocks import duplicate

_BODY = (unary, with_constant, of_two, reflect, duplicate, unary, matmul)
_DEPTH = 2  # calls within calls


def call(builder: Builder) -> Known | None:
    """A call of a function: a new one, or one that another call runs too."""
    arguments = _arguments(builder)
    if arguments is None:
        return None
    dims = [argument.dims for argument in arguments]
    existing = _existing(builder, dims) if builder.chance(3) else None
    function, results = existing or _body(builder, dims, 1 + builder.choices.below(4), None)
    attrs = {
        "Tin": (FLOAT32,) * len(dims), "Tout": (FLOAT32,) * len(results), "config": b"", "config_proto": b"",
        "executor_type": b"", "f": FunctionRef(function.name),
    }  # fmt: skip
    op = builder.pick(("PartitionedCall", "StatefulPartitionedCall"))
    outputs = builder.nodes(op, [a.value for a in arguments], attrs, [(FLOAT32, r.dims) for r in results])
    kept = [
        builder.keep(o._replace(low=r.low, high=r.high, exact=False)) for o, r in zip(outputs, results, strict=True)
    ]
    return kept[0]


def branch(builder: Builder) -> Known | None:
    """One of two functions, by a condition on a value that no rewrite may round."""
    subject = builder.floats(exact=True)
    arguments = _arguments(builder)
    if subject is None or arguments is None:
        return None
    axes = builder.constant(np.arange(len(subject.dims), dtype=np.int32))
    largest = builder.node("Max", [subject.value, axes], {"T": FLOAT32, "Tidx": INT32, "keep_dims": False}, ())
    threshold = builder.constant(np.float32((subject.low + subject.high) / 2))
    condition = builder.node("Greater", [largest.value, threshold], TYPED.copy(), (), BOOL)
    dims = [argument.dims for argument in arguments]
    branches = [_body(builder, dims, 1 + builder.choices.below(3), dims[0]) for _ in range(2)]
    attrs = {
        "Tcond": BOOL, "Tin": (FLOAT32,) * len(dims), "Tout": (FLOAT32,),
        "else_branch": FunctionRef(branches[1][0].name), "output_shapes": (Shape(dims[0]),),
        "then_branch": FunctionRef(branches[0][0].name),
    }  # fmt: skip
    operands = [condition.value, *(argument.value for argument in arguments)]
    result = builder.node("StatelessIf", operands, attrs, dims[0])
    ends = [results[0] for _, results in branches]
    low, high = min(end.low for end in ends), max(end.high for end in ends)
    return builder.keep(result._replace(low=low, high=high, exact=False))


def loop(builder: Builder) -> Known | None:
    """Three turns of a loop over a counter and a value that stays between -1 and 1."""
    source = builder.floats()
    if source is None or builder.depth:
        return None
    cond, body = (_empty(builder, name) for name in ("loop_cond", "loop_body"))
    for function in (cond, body):
        function.add_input((), INT32)
        function.add_input(source.dims)
    counter, _ = cond.pool
    limit = cond.constant(np.int32(3))
    _finish(cond, [cond.node("Less", [counter.value, limit], {"T": INT32}, (), BOOL)])
    counter, state = body.pool
    one = body.constant(np.int32(1))
    following = body.node("AddV2", [counter.value, one], {"T": INT32}, (), INT32)
    factor = body.constant(np.float32(0.5 + builder.numbers.random()))
    scaled = body.node("Mul", [state.value, factor], TYPED.copy(), source.dims)
    _finish(body, [following, body.node("Tanh", [scaled.value], TYPED.copy(), source.dims)])
    attrs = {
        "T": (INT32, FLOAT32), "body": FunctionRef(body.graph.name), "cond": FunctionRef(cond.graph.name),
        "output_shapes": (Shape(()), Shape(source.dims)), "parallel_iterations": 10,
    }  # fmt: skip
    start = builder.constant(np.int32(0))
    outputs = [(INT32, ()), (FLOAT32, source.dims)]
    result = builder.nodes("StatelessWhile", [start, source.value], attrs, outputs)[1]
    return builder.keep(result._replace(low=-1.0, high=1.0, exact=False))


def _arguments(builder: Builder) -> list[Known] | None:
    if builder.depth >= _DEPTH:
        return None
    first = builder.floats()
    if first is None:
        return None
    return [first, *filter(None, [builder.floats()] if builder.chance(3) else [])]


def _empty(builder: Builder, name: str) -> Builder:
    function = Function(builder.model.unique_function_name(f"__inference_{name}"))
    builder.model.add_function(function)
    body = Builder(builder.choices, builder.model, function, builder.shaped, builder.depth + 1)
    body.finished = builder.finished
    return body


def _body(builder: Builder, dims: Sequence[Dims], steps: int, wanted: Dims | None) -> tuple[Function, list[Known]]:
    """A function of these arguments; with `wanted`, its one result has those dimensions."""
    body = _empty(builder, "body" if wanted is None else "branch")
    arguments = [body.add_input(each) for each in dims]
    for step in range(steps):
        if step == 1 and builder.chance(4) and call(body) is not None:
            continue
        body.pick(_BODY[:5] if wanted is not None else _BODY)(body)
    fitting = [k for k in body.pool if k.varies and k.dtype is FLOAT32 and (wanted is None or k.dims == wanted)]
    result = fitting[-1] if fitting else arguments[0]
    results = [result] if wanted is not None or len(fitting) < 2 or builder.chance(2) else [result, fitting[0]]
    _finish(body, results)
    assert isinstance(body.graph, Function)
    return body.graph, results


def _finish(body: Builder, results: Sequence[Known]) -> None:
    function = body.graph
    assert isinstance(function, Function)
    function.outputs = [known.value for known in results]
    function.output_names = [f"result_{place}" for place in range(len(results))]
    body.finished[function.name] = [value.dims for value in body.pool if value.value.is_input], list(results)


def _existing(builder: Builder, dims: Sequence[Dims]) -> tuple[Function, list[Known]] | None:
    """A finished function that takes arguments of these dimensions."""
    fitting = [
        (builder.model.functions[name], results)
        for name, (wanted, results) in builder.finished.items()
        if wanted == list(dims) and "body" in name and "loop" not in name
    ]
    return builder.pick(fitting) if fitting else None
