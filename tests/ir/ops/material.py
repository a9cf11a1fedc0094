"""Arrays of every element type, strings included, for tests of operators that only move elements."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from oracle import arrays

from graphopt.ir import ops
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.ir.ops.inference import InferenceContext
from graphopt.ir.tensors import tensor
from graphopt.ir.types import Shape, tensor_type
from graphopt.ir.value import Value

ELEMENTS = (
    np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int32, np.int64, np.uint8, np.int8, np.bool_,
    np.complex64, np.object_,
)  # fmt: skip
NUMBERS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int32, np.int64, np.uint8, np.int8)
INDICES = (np.int32, np.int64)


@st.composite
def elements(draw: Any, shape: Any, dtypes: Any = ELEMENTS) -> Any:
    """An array of `shape` (which may be a strategy) of one of `dtypes`; `object` stands for strings."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    dtype = draw(st.sampled_from(dtypes))
    if dtype is not np.object_:
        return draw(arrays(dtype, shape))
    random = np.random.RandomState(draw(st.integers(0, 2**20)))
    result = np.empty(shape, object)
    for index in np.ndindex(*shape):
        result[index] = bytes(random.randint(97, 100, random.randint(0, 3)).tolist())
    return result


def integers(low: int, high: int, shape: Any, dtypes: Any = INDICES) -> st.SearchStrategy[Any]:
    """An array of integers between `low` and `high`."""
    return st.sampled_from(dtypes).flatmap(lambda dtype: arrays(dtype, shape, low, high))


def vectors(low: int, high: int, length: int, dtypes: Any = INDICES) -> st.SearchStrategy[Any]:
    """A vector of integers between `low` and `high`."""
    return integers(low, high, (length,), dtypes)


def infer(
    op: str, *inputs: Any, attrs: dict[str, Any] | None = None, outputs: int = 1, model: Model | None = None
) -> Any:
    """Shapes inferred where an input is a `Shape`, a `Value`, or an array that is known."""
    graph = model.graph if model is not None else Graph()
    values = []
    for item in inputs:
        if isinstance(item, Value):
            values.append(item)
            continue
        if isinstance(item, Shape):
            node = graph.create_node("tf.Placeholder", types=(tensor_type("float32", item),))
        else:
            held = tensor(np.asarray(item))
            node = graph.create_node("tf.Const", attrs={"value": held}, types=(tensor_type(held.dtype, held.shape),))
        values.append(node.output)
    node = graph.create_node(f"tf.{op}", values, attrs, types=[tensor_type("float32")] * outputs)
    operator = ops.find(node.op)
    assert operator is not None
    assert operator.shape is not None
    found = list(operator.shape(InferenceContext(node)))
    return found[0] if outputs == 1 else found
