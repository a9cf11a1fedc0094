"""Adaptive rounding: weights are rounded one after another; what each leaves over is made up for by those that follow.

Of two roundings the better one is that which changes a layer's outputs less, not the weights. With H the second moments
of the layer's inputs, the error of the outputs is e H e. Rounding one weight and changing the others, not yet rounded,
such that the error stays least needs one row of a Cholesky factor of the inverse of H (Frantar et al., "GPTQ: Accurate
Post-Training Quantization for Generative Pre-trained Transformers", 2023, sections 3.1 to 3.3). Where a layer reads one
place at a time (fully connected, 1x1 convolutions) a few thousand places tell H.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.ir.graph import Graph
from graphopt.ir.value import Node, Value
from graphopt.passes.quantize.channels import LAYERS, layer_weights
from graphopt.passes.quantize.parameters import Array, weight_parameters
from graphopt.passes.quantize.schemes import INT8_WEIGHT

WIDEST = 2304  # input channels beyond which the factor takes too long
DAMPING = 0.01  # of the mean second moment, so that the inverse exists
_BLOCK = 64


def round_adaptively(graph: Graph, rows: Callable[[Value], Array | None]) -> dict[Node, tuple[Array, Array]]:
    """Weights and their int8 codes for layers of one graph that read one place at a time.

    `rows` gives a few places of a tensor, shaped (places, channels), None where none are known.
    """
    found: dict[Node, tuple[Array, Array]] = {}
    moments: dict[Value, Array | None] = {}
    for node in graph:
        weights = layer_weights(node) if node.op in LAYERS and node.op != "tfl.DEPTHWISE_CONV_2D" else None
        if weights is None or weights.ndim not in (2, 4) or weights[0, ..., 0].size > 1:
            continue
        wide = weights.shape[-1]
        if not 1 < wide <= WIDEST:
            continue
        source = node.input(0)
        if source not in moments:
            places = rows(source)
            moments[source] = None if places is None or places.shape[1] != wide else second_moments(places)
        seen = moments[source]
        if seen is not None:
            scale = weight_parameters(weights, INT8_WEIGHT, axis=0).scale
            codes = round_rows(weights.reshape(-1, wide), scale, seen)
            found[node] = weights, codes.reshape(weights.shape)
    return found


def second_moments(places: Array) -> Array:
    """What products of two channels are on the average, float64; shaped (channels, channels)."""
    wide = np.where(np.isfinite(places), places, 0).astype(np.float32)
    moments: Array = (wide.T @ wide).astype(np.float64) / len(wide)
    return moments


def round_rows(weights: Array, scale: Array, moments: Array) -> Array:
    """int8 codes of `weights` (outputs, inputs) with one scale for each row, for inputs with these second moments."""
    inputs = weights.shape[1]
    damped = moments + np.eye(inputs) * (DAMPING * float(np.diag(moments).mean()) + 1e-30)
    order = np.argsort(-np.diag(damped), kind="stable")
    try:
        factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    except np.linalg.LinAlgError:
        return _nearest(weights / scale[:, None]).astype(np.int8)
    steps = scale.astype(np.float64)[:, None]
    left = weights[:, order].astype(np.float64) / steps
    codes = np.empty_like(left)
    for start in range(0, inputs, _BLOCK):
        end = min(start + _BLOCK, inputs)
        errors = np.empty((len(left), end - start))
        block, inner = left[:, start:end].copy(), factor[start:end, start:end]
        for place in range(end - start):
            rounded = _nearest(block[:, place])
            codes[:, start + place] = rounded
            errors[:, place] = (block[:, place] - rounded) / inner[place, place]
            block[:, place + 1 :] -= np.outer(errors[:, place], inner[place, place + 1 :])
        left[:, end:] -= errors @ factor[start:end, end:]
    result = np.empty(weights.shape, np.int8)
    result[:, order] = codes.astype(np.int8)
    return result


def _nearest(values: Array) -> Array:
    rounded: Array = np.clip(np.rint(values), INT8_WEIGHT.lowest, INT8_WEIGHT.highest)
    return rounded
