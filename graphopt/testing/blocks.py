"""The blocks that random models are made of. Each takes what it needs from the pool, or returns None."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from graphopt.ir.types import BOOL, FLOAT32, FLOAT64, INT32, INT64, DType
from graphopt.testing.builder import Array, Builder, Known

Block = Callable[[Builder], "Known | None"]
Interval = tuple[float, float]

TYPED = {"T": FLOAT32}


def _softplus(x: float) -> float:
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


# Monotone functions and where they are fit: the argument's lower bound, upper bound, least upper bound.
UNARY: Mapping[str, tuple[Callable[[float], float], float, float, float]] = {
    "Relu": (lambda x: max(x, 0.0), -math.inf, math.inf, 0.5),
    "Identity": (lambda x: x, -math.inf, math.inf, -math.inf),
    "Tanh": (math.tanh, -20.0, 20.0, -1.0),
    "Sigmoid": (lambda x: 1 / (1 + math.exp(-x)), -20.0, 20.0, -2.0),
    "Softplus": (_softplus, -20.0, 100.0, -2.0),
    "Elu": (lambda x: x if x > 0 else math.expm1(x), -20.0, 100.0, -1.0),
    "Relu6": (lambda x: min(max(x, 0.0), 6.0), -math.inf, math.inf, 0.5),
    "Exp": (math.exp, -5.0, 3.0, -3.0),
    "Sqrt": (math.sqrt, 0.0, math.inf, 0.1),
    "Log1p": (math.log1p, 0.0, math.inf, 0.1),
    "StopGradient": (lambda x: x, -math.inf, math.inf, -math.inf),
    "Snapshot": (lambda x: x, -math.inf, math.inf, -math.inf),
}
MOVES = ("Relu", "Relu6", "Identity", "StopGradient", "Snapshot")  # round nothing


def unary(builder: Builder) -> Known | None:
    """A monotone function of every element."""
    source = builder.floats()
    if source is None:
        return None
    fitting = [
        op
        for op, (_, low, high, least) in UNARY.items()
        if low <= source.low and source.high <= high and least <= source.high
    ]
    op = builder.pick(fitting)
    function = UNARY[op][0]
    result = builder.node(op, [source.value], TYPED.copy(), source.dims)
    low, high = function(source.low), function(source.high)
    return builder.keep(result._replace(low=low, high=high, exact=source.exact and op in MOVES))


def reflect(builder: Builder) -> Known | None:
    """A sign changed or dropped, or a square."""
    source = builder.floats()
    if source is None:
        return None
    op = builder.pick(("Neg", "Abs", "Square") if source.magnitude < 10 else ("Neg", "Abs"))
    result = builder.node(op, [source.value], TYPED.copy(), source.dims)
    low, high = {"Neg": (-source.high, -source.low), "Abs": (0.0, source.magnitude)}.get(op, (0.0, source.magnitude**2))
    return builder.keep(result._replace(low=low, high=high, exact=source.exact and op != "Square"))


def _bounds(array: Array) -> Interval:
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)


def _combined(op: str, left: Interval, right: Interval) -> Interval:
    if op in ("AddV2", "Add", "BiasAdd"):
        return left[0] + right[0], left[1] + right[1]
    if op == "Sub":
        return left[0] - right[1], left[1] - right[0]
    if op in ("Maximum", "Minimum"):
        choose = max if op == "Maximum" else min
        return choose(left[0], right[0]), choose(left[1], right[1])
    products = [a * b for a in left for b in right]
    return min(products), max(products)


def with_constant(builder: Builder) -> Known | None:
    """Elementwise with a constant that broadcasts, on either side."""
    source = builder.floats()
    if source is None:
        return None
    op = builder.pick(("AddV2", "Mul", "Sub", "Maximum", "Minimum", "Add", "RealDiv"))
    fixed = tuple(1 if dim is None else dim for dim in source.dims)
    shape = builder.pick(((), fixed[-1:], (1,) * len(fixed), fixed))
    data = np.clip(builder.numbers.standard_normal(shape), -2, 2).astype(np.float32)
    if op in ("Maximum", "Minimum"):
        data = (data * 0.1 * (source.high - source.low) + (source.high + source.low) / 2).astype(np.float32)
    if op == "RealDiv":
        data = (np.abs(data) + 0.5).astype(np.float32)
        bounds = _combined("Mul", (source.low, source.high), _bounds(1 / data))
    else:
        if builder.chance(6):  # a neutral element, for simplifications
            data = np.full(shape, 1.0 if op == "Mul" else 0.0, np.float32)
        bounds = _combined(op, (source.low, source.high), _bounds(data))
    operands = [source.value, builder.constant(data)]
    if op not in ("Sub", "RealDiv") and builder.chance(3):
        operands.reverse()
    result = builder.node(op, operands, TYPED.copy(), source.dims)
    constant = bounds[0] == bounds[1]
    exact = source.exact and op in ("Maximum", "Minimum")
    return builder.keep(result._replace(low=bounds[0], high=bounds[1], exact=exact, varies=not constant))


def of_two(builder: Builder) -> Known | None:
    """Elementwise with another value of the same shape: joins branches."""
    left = builder.floats()
    if left is None:
        return None
    right = builder.operand(lambda known: known.dtype is FLOAT32 and known.dims == left.dims and known.magnitude < 100)
    if right is None:
        return None
    joins = ("AddV2", "Mul", "Maximum", "Minimum", "SquaredDifference")
    op = builder.pick(joins[:-1] if right.value is left.value else joins)
    bounds = _combined(op, (left.low, left.high), (right.low, right.high))
    if op == "SquaredDifference":
        bounds = 0.0, (left.magnitude + right.magnitude) ** 2
    result = builder.node(op, [left.value, right.value], TYPED.copy(), left.dims)
    exact = left.exact and right.exact and op in ("Maximum", "Minimum")
    return builder.keep(result._replace(low=bounds[0], high=bounds[1], exact=exact))


def add_many(builder: Builder) -> Known | None:
    """A sum of several values of one shape."""
    first = builder.floats()
    if first is None:
        return None
    others = [known for known in builder.pool if known.dtype is FLOAT32 and known.dims == first.dims]
    chosen = [first, *(builder.pick(others) for _ in range(builder.choices.below(3)))]
    result = builder.node("AddN", [k.value for k in chosen], {"N": len(chosen), "T": FLOAT32}, first.dims)
    low, high = sum(k.low for k in chosen), sum(k.high for k in chosen)
    return builder.keep(result._replace(low=low, high=high, exact=False))


def _biased(builder: Builder, source: Known) -> Known:
    """A bias, a batch norm (whole or in parts), or nothing, after a linear operator."""
    kind = builder.pick(("none", "bias", "norm", "parts", "add"))
    channels = source.dims[-1]
    assert channels is not None
    if kind == "norm" and len(source.dims) == 4:
        return _fused_norm(builder, source, channels)
    if kind in ("norm", "parts"):
        scale = (np.abs(builder.numbers.standard_normal(channels)) + 0.25).clip(0, 2).astype(np.float32)
        scaled = builder.node("Mul", [source.value, builder.constant(scale)], TYPED.copy(), source.dims)
        low, high = _combined("Mul", (source.low, source.high), _bounds(scale))
        source = scaled._replace(low=low, high=high)
    if kind != "none":
        bias = np.clip(builder.numbers.standard_normal(channels), -2, 2).astype(np.float32)
        op = "BiasAdd" if kind == "bias" else "AddV2"
        attrs = {"T": FLOAT32, "data_format": b"NHWC"} if op == "BiasAdd" else TYPED.copy()
        result = builder.node(op, [source.value, builder.constant(bias, name="bias")], attrs, source.dims)
        low, high = _combined("AddV2", (source.low, source.high), _bounds(bias))
        source = result._replace(low=low, high=high)
    return builder.keep(source._replace(exact=False, varies=True))


def _fused_norm(builder: Builder, source: Known, channels: int) -> Known:
    numbers = builder.numbers
    scale = (np.abs(numbers.standard_normal(channels)) + 0.25).clip(0, 2).astype(np.float32)
    offset, mean = (np.clip(numbers.standard_normal(channels), -2, 2).astype(np.float32) for _ in range(2))
    variance = (np.abs(numbers.standard_normal(channels)) + 0.5).astype(np.float32)
    values = [builder.constant(data) for data in (scale, offset, mean, variance)]
    attrs = {
        "T": FLOAT32, "U": FLOAT32, "data_format": b"NHWC", "epsilon": 0.0010000000474974513,
        "exponential_avg_factor": 1.0, "is_training": False,
    }  # fmt: skip
    statistics = [(FLOAT32, (channels,))] * 4
    outputs = builder.nodes(
        "FusedBatchNormV3", [source.value, *values], attrs, [(FLOAT32, source.dims), *statistics, (FLOAT32, (None,))]
    )
    bound = 3 * (source.magnitude + 2) + 2
    return builder.keep(outputs[0]._replace(low=-bound, high=bound, exact=False))


def matmul(builder: Builder) -> Known | None:
    """A matrix product with weights, perhaps with a bias or a norm after it."""
    source = builder.floats(2)
    depth = source.dims[1] if source is not None else None
    if source is None or depth is None:
        return None
    units, transposed = 2 + builder.choices.below(5), builder.chance(3)
    scale = 1 / math.sqrt(depth)
    weights = builder.weights((units, depth) if transposed else (depth, units), scale, name="kernel")
    attrs = {"T": FLOAT32, "transpose_a": False, "transpose_b": transposed}
    result = builder.node("MatMul", [source.value, weights], attrs, (source.dims[0], units))
    bound = source.magnitude * 3 * scale * depth
    return _biased(builder, result._replace(low=-bound, high=bound))


def convolution(builder: Builder) -> Known | None:
    """A convolution or a depthwise one with weights, perhaps with a bias or a norm after it."""
    source = builder.floats(4)
    if source is None:
        return None
    batch, height, width, channels = source.dims
    if height is None or width is None or channels is None:
        return None
    size, stride = 1 + builder.choices.below(3), 1 + builder.choices.below(2)
    padding = builder.pick((b"SAME", b"VALID")) if min(height, width) >= size else b"SAME"
    depthwise = builder.chance(3)
    units = 1 + builder.choices.below(2) if depthwise else 2 + builder.choices.below(4)
    taps = size * size * (1 if depthwise else channels)
    weights = builder.weights((size, size, channels, units), 1 / math.sqrt(taps), name="kernel")
    attrs = {
        "T": FLOAT32, "data_format": b"NHWC", "dilations": (1, 1, 1, 1), "explicit_paddings": (),
        "padding": padding, "strides": (1, stride, stride, 1),
    }  # fmt: skip
    if not depthwise:
        attrs["use_cudnn_on_gpu"] = True
    taken = 0 if padding == b"SAME" else size - 1
    spatial = tuple(-(-(dim - taken) // stride) for dim in (height, width))
    op = "DepthwiseConv2dNative" if depthwise else "Conv2D"
    dims = (batch, *spatial, channels * units if depthwise else units)
    result = builder.node(op, [source.value, weights], attrs, dims)
    bound = source.magnitude * 3 * math.sqrt(taps)
    return _biased(builder, result._replace(low=-bound, high=bound))


def pool(builder: Builder) -> Known | None:
    """Maxima or means over windows."""
    source = builder.floats(4)
    if source is None:
        return None
    batch, height, width, channels = source.dims
    if height is None or width is None or min(height, width) < 2:
        return None
    op = builder.pick(("MaxPool", "AvgPool"))
    attrs = {
        "T": FLOAT32, "data_format": b"NHWC", "ksize": (1, 2, 2, 1), "padding": b"VALID", "strides": (1, 2, 2, 1),
    }  # fmt: skip
    if op == "MaxPool":
        attrs["explicit_paddings"] = ()
    result = builder.node(op, [source.value], attrs, (batch, height // 2, width // 2, channels))
    return builder.like(source._replace(exact=source.exact and op == "MaxPool"), result)


def reduce(builder: Builder) -> Known | None:
    """A mean, a maximum or a minimum over the last axes."""
    source = builder.floats()
    if source is None or len(source.dims) < 2:
        return None
    op, keep = builder.pick(("Mean", "Max", "Min")), builder.chance(2)
    first = 1 + builder.choices.below(len(source.dims) - 1)
    axes = list(range(first, len(source.dims)))
    if len(source.dims) == 4 and builder.chance(2):
        axes = [1, 2]
    attrs = {"T": FLOAT32, "Tidx": INT32, "keep_dims": keep}
    dims = tuple(1 if place in axes else dim for place, dim in enumerate(source.dims) if keep or place not in axes)
    result = builder.node(op, [source.value, builder.constant(np.array(axes, np.int32))], attrs, dims)
    return builder.like(source._replace(exact=source.exact and op != "Mean"), result)


def classify(builder: Builder) -> Known | None:
    """A softmax over the last axis."""
    source = builder.floats(2)
    if source is None or source.dims[-1] == 1:
        return None
    result = builder.node("Softmax", [source.value], TYPED.copy(), source.dims)
    return builder.keep(result._replace(low=0.0, high=1.0, exact=False))


def compare(builder: Builder) -> Known | None:
    """A condition on a value that no rewrite may round, and a selection by it."""
    source = builder.floats(exact=True)
    if source is None:
        return None
    threshold = np.float32(source.low + (source.high - source.low) * (0.3 + 0.4 * builder.numbers.random()))
    op = builder.pick(("Greater", "LessEqual", "Less", "GreaterEqual"))
    condition = builder.node(op, [source.value, builder.constant(threshold)], TYPED.copy(), source.dims, BOOL)
    if builder.chance(3):
        condition = builder.node("LogicalNot", [condition.value], {}, source.dims, BOOL)
    builder.keep(condition)
    other = builder.operand(lambda known: known.dtype is FLOAT32 and known.dims == source.dims)
    if other is None:
        return condition
    operands = [condition.value, source.value, other.value]
    result = builder.node("SelectV2", operands, TYPED.copy(), source.dims)
    low, high = min(source.low, other.low), max(source.high, other.high)
    return builder.keep(result._replace(low=low, high=high, exact=other.exact))


def cast(builder: Builder) -> Known | None:
    """A chain of casts that ends in float32."""
    source = builder.floats(exact=True)
    if source is None:
        return None
    through: list[DType] = [builder.pick((FLOAT64, INT32, BOOL, INT64))]
    if builder.chance(3):
        through.append(builder.pick((FLOAT64, INT32)))
    known = source
    before: DType = FLOAT32
    for dtype in (*through, FLOAT32):
        attrs = {"DstT": dtype, "SrcT": before, "Truncate": False}
        known = builder.node("Cast", [known.value], attrs, source.dims, dtype)
        before = dtype
    bounds = (0.0, 1.0) if BOOL in through else (source.low, source.high)
    return builder.keep(known._replace(low=bounds[0], high=bounds[1], varies=BOOL not in through))


def rank_elements(builder: Builder) -> Known | None:
    """The places or the values of the largest elements."""
    source = builder.floats(2, exact=True)
    last = source.dims[-1] if source is not None else None
    if source is None or last is None or last < 2:
        return None
    if builder.chance(2):
        attrs = {"T": FLOAT32, "Tidx": INT32, "output_type": INT64}
        axis = builder.constant(np.int32(1))
        return builder.keep(builder.node("ArgMax", [source.value, axis], attrs, source.dims[:1], INT64))
    ordering = {"T": FLOAT32, "Tk": INT32, "index_type": INT32, "sorted": True}
    dims = (source.dims[0], 2)
    outputs = [(FLOAT32, dims), (INT32, dims)]
    values, indices = builder.nodes("TopKV2", [source.value, builder.constant(np.int32(2))], ordering, outputs)
    builder.keep(indices)
    return builder.like(source, values)
