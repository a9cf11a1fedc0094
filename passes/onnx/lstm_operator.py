"""ONNX's LSTM for a loop in which an LSTM cell was recognised. Its states start with zeros, as the loop's do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.ir.known import hold
from graphopt.ir.types import FLOAT32, Shape, TensorType
from graphopt.ir.value import Node, Value

Array = np.ndarray[Any, Any]
GATES = "iofc"  # in the order of the operator's weights


def lstm_operator(
    loop: Node, inputs: Value, kernels: Mapping[str, Array], recurrent: Mapping[str, Array], biases: Mapping[str, Array]
) -> tuple[Node, Value, Value, Value]:
    """The operator before `loop`, and what comes of it: all outputs [steps, batch, units], the last one alone as
    [1, batch, units], and without the first axis.

    `inputs` are [steps, batch, features]; weights of each gate are laid out [units, features].
    """
    graph = loop.graph
    assert graph is not None
    units = recurrent["i"].shape[0]
    steps, batch, _ = inputs.shape.dims or (None, None, None)

    def weights(arrays: Sequence[Array], what: str) -> Value:
        return hold(graph, np.concatenate(arrays)[None], name=f"{loop.name}/{what}", before=loop)

    own = [np.asarray(biases[gate], np.float32) for gate in GATES]
    operands = (
        inputs,
        weights([kernels[gate] for gate in GATES], "kernel"),
        weights([recurrent[gate] for gate in GATES], "recurrent_kernel"),
        weights([*own, *(np.zeros_like(bias) for bias in own)], "bias"),
    )
    kinds = [TensorType(FLOAT32, Shape([steps, 1, batch, units])), TensorType(FLOAT32, Shape([1, batch, units]))]
    made = graph.create_node(
        "onnx.LSTM", operands, {"hidden_size": units}, name=f"{loop.name}/lstm", types=kinds, before=loop,
        origins=loop.source_names,
    )  # fmt: skip
    every, last = made.outputs
    return made, _squeezed(loop, every, 1), last, _squeezed(loop, last, 0)


def _squeezed(loop: Node, value: Value, axis: int) -> Value:
    graph = loop.graph
    assert graph is not None
    dims = list(value.shape.dims or ())
    del dims[axis]
    return graph.create_node(
        "tf.Squeeze", (value,), {"T": FLOAT32, "squeeze_dims": (axis,)}, name=f"{loop.name}/squeezed",
        types=(TensorType(FLOAT32, Shape(dims)),), before=loop, origins=loop.source_names,
    ).output  # fmt: skip
