"""A product with integer weights: what is stored, and the floats that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graphopt.backends.xla.operand import Operand
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import FLOAT32
from graphopt.passes.quantize.parameters import Parameters

if TYPE_CHECKING:
    from graphopt.backends.xla.builder import Builder


class Layer(NamedTuple):
    """How a product computes: its integer weights, which are input `place`, their scales along `axis` of them (None:
    one for all), and how its activations become integers: with parameters, on the fly, or not at all."""

    place: int
    weights: Tensor
    scale: np.ndarray[Any, Any]
    axis: int | None
    activation: Parameters | None = None
    is_dynamic: bool = False

    @property
    def computes_in_integers(self) -> bool:
        """Both operands are integers."""
        return self.activation is not None or self.is_dynamic


def dequantized(build: Builder, layer: Layer, codes: Operand, axis: int) -> Operand:
    """Integers times the scales of the weights, whose channels lie along `axis`."""
    scale = build.constant(layer.scale if layer.axis is not None else layer.scale.reshape(()), FLOAT32)
    spread = build.broadcast(scale, codes.dims, (axis,) if layer.axis is not None else ())
    return build.mul(build.convert(codes, FLOAT32), spread)
