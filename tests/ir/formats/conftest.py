"""A small model with a variable, written as a SavedModel without TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from graphopt.ir.formats.savedmodel_writer import write_savedmodel
from graphopt.ir.model import Model, Variable
from graphopt.ir.tensors import tensor
from graphopt.ir.types import FLOAT32, RESOURCE, SCALAR, Shape, tensor_type

WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2)


def matmul_model() -> Model:
    """`y = x @ w`, with `w` a resource variable of shape [3, 2]."""
    model = Model()
    graph = model.graph
    x = graph.create_node(
        "tf.Placeholder",
        attrs={"dtype": FLOAT32, "shape": Shape([None, 3])},
        name="x",
        types=(tensor_type(FLOAT32, [None, 3]),),
    )
    handle = graph.create_node(
        "tf.VarHandleOp",
        attrs={"dtype": FLOAT32, "shape": Shape([3, 2]), "shared_name": b"w", "container": b""},
        name="w",
        types=(tensor_type(RESOURCE, SCALAR),),
    )
    read = graph.create_node(
        "tf.ReadVariableOp", [handle.output], {"dtype": FLOAT32}, name="w/Read", types=(tensor_type(FLOAT32, [3, 2]),)
    )
    y = graph.create_node(
        "tf.MatMul",
        [x.output, read.output],
        {"T": FLOAT32, "transpose_a": False, "transpose_b": False},
        name="y",
        types=(tensor_type(FLOAT32, [None, 2]),),
    )
    model.set_signature({"x": x.output}, {"y": y.output})
    model.variables["w"] = Variable("w", FLOAT32, Shape([3, 2]), tensor(WEIGHTS), trainable=True)
    model.versions = (1000, 12, ())
    return model


@pytest.fixture
def matmul() -> Callable[[], Model]:
    """Makes `y = x @ w`, whose `w` is a variable."""
    return matmul_model


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A SavedModel of `y = x @ w`."""
    path = tmp_path / "model"
    write_savedmodel(matmul_model(), path)
    return path
