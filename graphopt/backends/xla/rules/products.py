"""Products of int8 operands: integers inside, scales and zero points applied outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.backends.xla.emission import Emission
from graphopt.backends.xla.layer import Layer, dequantized
from graphopt.backends.xla.operand import Operand
from graphopt.ir.types import FLOAT32, INT8, INT32

Product = Callable[[Operand, Operand], Operand]
Padded = Callable[[Operand, Operand, Operand], Operand]


def product(op: Emission, x: Operand, emit: Product, axis: int, padded: Padded | None = None) -> Operand:
    """`emit(x, weights)`, in integers where the node is planned so.

    The weights are the node's second input, and their channels lie along `axis` of the result. Where `emit` would pad
    with zeros, `padded(x, weights, zero)` does the same with what stands for zero.
    """
    layer = op.emitter.layers.get(op.node)
    if layer is None or not layer.computes_in_integers:
        return emit(x, op.input(1))
    b, weights = op.build, op.emitter.stored(layer, op.node)
    if layer.activation is None:
        codes, scale = _on_the_fly(op, x)
        return _scaled(op, layer, emit(codes, weights), axis, scale)
    scale = b.constant(layer.activation.scale.reshape(()), FLOAT32)
    codes = _codes(op, layer, x, scale)
    zero = int(layer.activation.zero_point[0])
    if not zero:
        return _scaled(op, layer, emit(codes, weights), axis, scale)
    made = emit(codes, weights) if padded is None else padded(codes, weights, b.full(zero, INT8))
    summed = tuple(at for at in range(len(layer.weights.shape)) if at != layer.axis)
    sums = layer.weights.numpy().astype(np.int64).sum(summed)
    excess = b.broadcast(b.constant(sums * zero, INT32), made.dims, (axis,))
    return _scaled(op, layer, b.sub(made, excess), axis, scale)


def _codes(op: Emission, layer: Layer, x: Operand, scale: Operand) -> Operand:
    """Integers for `x` by parameters that are known."""
    b, parameters = op.build, layer.activation
    assert parameters is not None
    moved = b.add(b.unary("round_nearest_even", b.div(x, scale)), float(parameters.zero_point[0]))
    return b.convert(b.min(b.max(moved, parameters.scheme.lowest), parameters.scheme.highest), INT8)


def _on_the_fly(op: Emission, x: Operand) -> tuple[Operand, Operand]:
    """Integers for `x` and their scale, from the largest magnitude that there is; zero is zero."""
    b = op.build
    largest = b.reduce("maximum", b.unary("abs", x), range(x.rank))
    scale = b.max(b.div(largest, 127), float(np.finfo(np.float32).tiny))
    codes = b.unary("round_nearest_even", b.div(x, scale))
    return b.convert(b.min(b.max(codes, -127), 127), INT8), scale


def _scaled(op: Emission, layer: Layer, made: Operand, axis: int, scale: Operand) -> Operand:
    """Sums of integers as the floats that they stand for."""
    return op.build.mul(dequantized(op.build, layer, made, axis), scale)
