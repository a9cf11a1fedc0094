"""What mutants have found: each of these GraphDefs once made a pass fail, or take gigabytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from bombs import (
    FLOAT,
    INT32,
    INT64,
    T,
    attr,
    call,
    f,
    function,
    integers,
    kind,
    library,
    node,
    placeholder,
    shape,
    splat,
)

from graphopt import api
from graphopt.ir.formats.graphdef import graphdef_bytes
from graphopt.ir.infer import infer_model
from graphopt.ir.verifier import verify
from graphopt.passes import PassManager

FLOAT_REF, INT4, LONG = 101, 29, kind("T", INT64)


def repeated(name: str, elements: int, dtype: int = INT64) -> bytes:
    """A constant vector of zeros, whatever their number."""
    return node(name, "Const", kind("dtype", dtype), attr("value", f(8, f(1, dtype) + f(2, shape([elements])))))


def reader(name: str, *inputs: str, op: str = "Neg") -> bytes:
    return node(name, op, T, inputs=inputs)


def batch_norm_by_hand(*weights: str) -> bytes:
    """A convolution whose result is scaled and shifted by what `weights` compute."""
    strides = attr("strides", f(1, f(3, bytes([1, 1, 1, 1]))))
    convolution = node("conv", "Conv2D", T, strides, attr("padding", f(2, "SAME")), inputs=["x", "w"])
    scaled = node("scaled", "Mul", T, inputs=["conv", weights[0]]) + node("y", "Add", T, inputs=["scaled", weights[1]])
    return placeholder(dims=[1, 4, 4, 2]) + splat("w", [1, 1, 2, 2]) + convolution + scaled


CASES: dict[str, Callable[[], bytes]] = {
    # Rules that matched what contradicts itself
    "a stack of what has no type": lambda: (
        node("x", "Unknown") + node("y", "Pack", LONG, attr("N", f(3, 1)), inputs=["x"])
    ),
    "a stack along no axis": lambda: (
        placeholder() + node("y", "Pack", T, attr("N", f(3, 1)), attr("axis", f(3, -(1 << 63))), inputs=["x"])
    ),
    "a stack of another type": lambda: placeholder() + node("y", "Pack", LONG, attr("N", f(3, 1)), inputs=["x"]),
    "a bias that is not there": lambda: (
        batch_norm_by_hand("bias", "bias") + splat("c", [2]) + node("bias", "BiasAdd", T, inputs=["c"])
    ),
    "a product of one factor": lambda: batch_norm_by_hand("m", "m") + splat("c", [2]) + reader("m", "c", op="Mul"),
    "a transpose by nothing before a norm": lambda: (
        batch_norm_by_hand("c", "c").replace(node("scaled", "Mul", T, inputs=["conv", "c"]), b"")
        + splat("c", [2]) + node("turned", "Transpose", T, inputs=["conv"])
        + node("scaled", "Mul", T, inputs=["turned", "c"])
    ),
    "a transpose without operand": lambda: (
        batch_norm_by_hand("m", "m") + node("m", "Rsqrt", T) + integers("p", [0]) + reader("z", "p", op="Transpose")
    ),
    "a sum of shapes that do not fit": lambda: (
        batch_norm_by_hand("m", "m") + splat("c", [2]) + splat("d", [1, 4]) + reader("m", "c", "d", op="Add")
    ),
    "a variant as factor": lambda: (
        batch_norm_by_hand("m", "m")
        + node("c", "Const", kind("dtype", 21), attr("value", f(8, f(1, 21))))
        + reader("m", "c", "c", op="Mul")
    ),
    "an attribute of the wrong kind": lambda: (
        splat("c", [4]) + integers("axis", [0], [], INT32)
        + node("y", "ArgMax", T, kind("Tidx", INT32), attr("output_type", f(3, 1)), inputs=["c", "axis"])
    ),
    # Types
    "a reference computed from constants": lambda: (
        integers("c", [1], [], INT32) + node("y", "Add", kind("T", 103), inputs=["c", "c"]) + reader("z", "y")
    ),
    "a reference behind two reshapes": lambda: (
        node("v", "VariableV2", kind("dtype"), attr("shape", f(7, shape([2, 7]))))
        + integers("s", [14]) + integers("t", [2, 7])
        + node("a", "Reshape", T, kind("Tshape", INT64), inputs=["v", "s"])
        + node("y", "Reshape", T, kind("Tshape", INT64), inputs=["a", "t"]) + reader("z", "y")
    ),
    "an identity that hides a type": lambda: (
        integers("c", [3], []) + node("i", "Identity", inputs=["c"]) + node("s", "Identity")
        + node("y", "BroadcastTo", T, inputs=["i", "s"])
    ),
    "integers of four bits as sizes": lambda: (
        placeholder() + node("s", "Shape", T, kind("out_type", INT4), inputs=["x"])
        + node("y", "Mul", kind("T", INT4), inputs=["s", "s"])
    ),
    # Shapes
    "four elements as none": lambda: (
        node("x", "Placeholder", kind("dtype"), attr("shape", f(7, shape([4]))))
        + integers("s", [-1, 0]) + integers("t", [-1, 1, 1, 4])
        + node("a", "Reshape", T, kind("Tshape", INT64), inputs=["x", "s"])
        + node("y", "Reshape", T, kind("Tshape", INT64), inputs=["a", "t"])
    ),
    "two vast and empty constants": lambda: (
        b"".join(
            node(name, "Const", kind("dtype"), attr("value", f(8, f(1, FLOAT) + f(2, shape([0, 1 << 40, 1 << 22])))))
            for name in ("c", "d")
        )
        + reader("y", "c", "d", op="Add")
    ),
    "a shift that widens": lambda: (
        placeholder(dims=[27, 1]) + splat("c", [27], 0.0) + reader("a", "x", "c", op="Add")
        + splat("d", []) + reader("y", "a", "d", op="Mul")
    ),
    "more rows than there are numbers": lambda: (
        placeholder("a", [(1 << 63) - 1, 2]) + placeholder("b", [5, 2]) + integers("axis", [0], [], INT32)
        + node("c", "ConcatV2", T, attr("N", f(3, 2)), inputs=["a", "b", "axis"])
        + reader("z", "c")
    ),
    "constants of another type": lambda: (
        placeholder() + node("c", "Const", attr("value", f(8, f(1, 2) + f(2, shape([3])) + f(6, bytes(range(24))))))
        + reader("a", "x", "c", op="AddV2") + reader("y", "a", "c", op="AddV2")
    ),
    "a constant of no type": lambda: (
        placeholder() + node("c", "Const", attr("value", f(8, b""))) + reader("y", "x", "c", op="Pad")
    ),
    "a permutation of 2^31 axes": lambda: (
        placeholder() + repeated("p", 1 << 31) + node("y", "Transpose", T, kind("Tperm", INT64), inputs=["x", "p"])
    ),
    "a slice with 2^31 bounds": lambda: (
        placeholder() + repeated("b", 1 << 31)
        + node("y", "StridedSlice", T, kind("Index", INT64), inputs=["x", "b", "b", "b"])
    ),
    # Functions
    "a function that is its own gradient": lambda: (
        placeholder() + call("y", "g", "x")
        + library(function("g", ret="a"), f(2, f(1, "g") + f(2, "g")))
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_is_optimised(case: str) -> None:
    model = api.load(CASES[case]())
    PassManager("inference").run(model)
    verify(model, contracts=False)
    written = graphdef_bytes(model)
    assert graphdef_bytes(api.load(written)) == written


def test_inputs_are_cut_at_any_output_of_their_node() -> None:
    data = node("x", "Placeholder", kind("dtype")) + node("svd", "Svd", T, inputs=["x"]) + reader("y", "svd:1")
    model = api.load(data, inputs=["svd", "svd:1"])
    PassManager("strip-unused").run(model)
    verify(model)
    assert [(item.node.op, item.name) for item in model.graph.inputs] == [
        ("tf.Placeholder", "svd"), ("tf.Placeholder", "svd_1"),
    ]  # fmt: skip
    assert list(model.signatures["serving_default"].inputs) == ["svd", "svd:1"]
    assert model.graph.node("y").input(0).name == "svd_1"


def test_a_dimension_beyond_64_bits_is_unknown() -> None:
    model = api.load(CASES["more rows than there are numbers"]())
    infer_model(model)
    assert str(model.graph.node("c").output.type) == "float32[?, 2]"
