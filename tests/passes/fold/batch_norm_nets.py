"""Builds models for the tests of fold-batch-norms, and checks what the pass makes of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from graphopt.ir.infer import infer_model
from graphopt.ir.known import hold
from graphopt.ir.model import Model
from graphopt.ir.ops import find
from graphopt.ir.ops.derive import derived_attributes
from graphopt.ir.tensors import tensor
from graphopt.ir.types import DType, dtype_named, tensor_type
from graphopt.ir.value import Value
from graphopt.ir.verifier import verify
from graphopt.passes import run_pass
from graphopt.passes.report import PassReport
from graphopt.testing import assert_equivalent, assert_same_structure

NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "BatchNormWithGlobalNormalization")
ARITHMETIC = ("keras", "reversed", "textbook", "no gamma")


class Net:
    """Builds a model one operator at a time; `random` gives numbers with spread."""

    def __init__(self, seed: int = 0, dtype: str = "float32"):
        self.model = Model()
        self.graph = self.model.graph
        self.random = np.random.default_rng(seed)
        self.dtype: DType = dtype_named(dtype)

    def input(self, *shape: int | None, name: str = "x") -> Value:
        node = self.graph.create_node(
            "tf.Placeholder",
            attrs={"dtype": self.dtype, "shape": tensor_type(self.dtype, shape).shape},
            name=name,
            types=(tensor_type(self.dtype, shape),),
        )
        self.graph.inputs = (*self.graph.inputs, node.output)
        return node.output

    def constant(self, values: Any, name: str = "Const", dtype: DType | None = None) -> Value:
        return hold(self.graph, tensor(np.asarray(values), dtype or self.dtype), name=name)

    def weights(self, *shape: int, name: str = "weights") -> Value:
        return self.constant(self.random.normal(0, 1, shape), name)

    def __call__(self, op: str, *inputs: Value, name: str | None = None, **attrs: Any) -> Value:
        operator = find(f"tf.{op}")
        assert operator is not None
        assert operator.interface is not None
        complete = derived_attributes(operator.interface, [value.dtype for value in inputs], attrs)
        types = operator.interface.output_types(complete)
        return self.graph.create_node(f"tf.{op}", inputs, complete, name=name, types=types).output

    def ints(self, *values: Any) -> Value:
        return self.constant(np.array(values, np.int32), dtype=dtype_named("int32"))

    def norm(self, form: str, x: Value, channels: int, trailing: int = 0, name: str = "bn", **given: Any) -> Value:
        """A batch norm of `x` in any form, with its channels `trailing` axes before the last."""
        values = {
            "mean": self.random.normal(0, 2, channels),
            "variance": self.random.uniform(0.2, 3, channels),
            "beta": self.random.normal(0, 2, channels),
            "gamma": self.random.uniform(0.3, 2, channels) * self.random.choice([-1, 1], channels),
            **{key: np.asarray(value, np.float64) for key, value in given.items()},
        }
        if form.startswith(("Fused", "BatchNorm")):
            mean, variance, beta, gamma = (self.constant(values[key], key) for key in values)
            if form == "BatchNormWithGlobalNormalization":
                attrs: dict[str, Any] = {"variance_epsilon": 1e-5, "scale_after_normalization": True}
                return self(form, x, mean, variance, beta, gamma, name=name, **attrs)
            layout = b"NHWC" if trailing == 0 else b"NCHW"
            return self(
                form, x, gamma, beta, mean, variance, name=name, epsilon=1e-5, is_training=False, data_format=layout
            )
        shape = (channels,) + (1,) * trailing
        mean, variance, beta, gamma = (self.constant(values[key].reshape(shape), key) for key in values)
        spread = self("Add", variance, self.constant(1e-5))
        if form == "textbook":
            centred = self("RealDiv", self("Sub", x, mean), self("Sqrt", spread))
            return self("Add", self("Mul", gamma, centred), beta, name=name)
        scale = self("Rsqrt", spread) if form == "no gamma" else self("Mul", self("Rsqrt", spread), gamma)
        offset = self("Sub", beta, self("Mul", mean, scale))
        if form == "reversed":
            return self("AddV2", offset, self("Mul", scale, x), name=name)
        return self("AddV2", self("Mul", x, scale), offset, name=name)

    def check(self, *outputs: Value, runtime: str = "tensorflow", rtol: float | None = None) -> Folded:
        """Fold, and assert that the result is sound, equivalent, a fixpoint, and free of batch norms."""
        self.graph.outputs = outputs
        infer_model(self.model)
        verify(self.model)
        before = self.model.clone()
        report = run_pass(self.model, "fold-batch-norms")
        assert_equivalent(before, self.model, runtime=runtime, exactness="reassociating", rtol=rtol)
        again = self.model.clone()
        assert not run_pass(again, "fold-batch-norms").rules
        assert_same_structure(self.model, again)
        operators = Counter(node.op_type for node in self.graph)
        assert not any("BatchNorm" in op for op in operators)
        return Folded(operators, report)


class Folded:
    """Operators that are left, and the report."""

    def __init__(self, operators: Counter[str], report: PassReport):
        self.operators, self.report = operators, report

    def assert_absorbed(self, linear: str, biases: int = 1) -> None:
        """Nothing is left of the norm but a bias behind the operator."""
        arithmetic = {"Mul", "Add", "AddV2", "Sub", "RealDiv", "Rsqrt", "Sqrt"}
        assert not arithmetic & set(self.operators), self.operators
        assert self.operators["BiasAdd"] == biases
        assert self.operators[linear] >= 1


CONV = {"strides": (1, 1, 1, 1), "padding": b"SAME"}
