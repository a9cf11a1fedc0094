"""Which operators XNNPACK takes with int8 activations, with floats, and with int8 weights beside floats.

    python tools/probe_delegate.py

Each operator is quantized alone, loaded in LiteRT with its default delegate, and looked up among what was delegated.
What differs from `graphopt.passes.quantize.delegates` is a line `FAILS`, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import numpy as np

from graphopt.ir.formats.tflite import tflite_bytes
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.ir.types import FLOAT32
from graphopt.passes.quantize.delegates import CLAMPS, XNNPACK
from graphopt.passes.quantize.quantize import quantize_model
from graphopt.passes.quantize.recipe import Recipe, Rule
from graphopt.passes.quantize.statistics import Statistics, key_of

NONE = 'fused_activation_function = b"NONE"'
STRIDES = f'padding = b"SAME", stride_w = 1, stride_h = 1, {NONE}'
POOL = f'padding = b"VALID", stride_w = 2, stride_h = 2, filter_width = 2, filter_height = 2, {NONE}'
DILATION = "dilation_wfactor = 1, dilation_hfactor = 1"
DENSE = f'weights_format = b"DEFAULT", keep_num_dims = false, asymmetric_quantize_inputs = false, {NONE}'
PRODUCT = "adj_x = false, adj_y = false, asymmetric_quantize_inputs = false"
IMAGE = "float32[1, 8, 8, 4]"


class Case(NamedTuple):
    """Inputs and constants by name, as types and as texts, the operator's arguments and attributes, its results."""

    arguments: str = "%x"
    attributes: str = ""
    result: str = IMAGE
    inputs: str = f"%x: {IMAGE}"
    constants: tuple[tuple[str, str, tuple[int, ...], object], ...] = ()


def weights(*shape: int) -> tuple[str, str, tuple[int, ...], object]:
    return "w", "float32", shape, np.random.default_rng(0).normal(size=shape).round(3).tolist()


def whole(name: str, values: object) -> tuple[str, str, tuple[int, ...], object]:
    return name, "int32", np.shape(values), values  # type: ignore[arg-type]


BIAS = ("b", "float32", (4,), [0.5, -0.5, 1.0, 0.0])
TWO = f"%x: {IMAGE}, %z: {IMAGE}"
PLAIN = "ABS ELU EXP HARD_SWISH LOG LOGISTIC NEG RELU RELU6 RELU_N1_TO_1 RSQRT SQRT SQUARE TANH LOG_SOFTMAX"
CASES: dict[str, Case] = {
    **{name: Case() for name in PLAIN.split()},
    **{name: Case("%x, %z", NONE, IMAGE, TWO) for name in ("ADD", "SUB", "MUL", "DIV")},
    **{name: Case("%x, %z", "", IMAGE, TWO) for name in ("SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM")},
    **{name: Case("%x, %a", "keep_dims = true", "float32[1, 1, 1, 4]", constants=(whole("a", [1, 2]),))
       for name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")},
    **{name: Case("%x", POOL, "float32[1, 4, 4, 4]") for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D")},
    "GELU": Case("%x", "approximate = true"),
    "LEAKY_RELU": Case("%x", "alpha = 0.1"),
    "SOFTMAX": Case("%x", "beta = 1.0"),
    "L2_NORMALIZATION": Case("%x", NONE),
    "PRELU": Case("%x, %w", constants=(weights(1, 1, 4),)),
    "CONV_2D": Case("%x, %w, %b", f"{STRIDES}, {DILATION}", constants=(weights(4, 3, 3, 4), BIAS)),
    "DEPTHWISE_CONV_2D": Case(
        "%x, %w, %b", f"{STRIDES}, {DILATION}, depth_multiplier = 1", constants=(weights(1, 3, 3, 4), BIAS)
    ),
    "TRANSPOSE_CONV": Case("%s, %w, %x", STRIDES, constants=(weights(4, 3, 3, 4), whole("s", [1, 8, 8, 4]))),
    "FULLY_CONNECTED": Case(
        "%x, %w, none", DENSE, "float32[2, 4]", "%x: float32[2, 4]", (weights(4, 4),)
    ),
    "BATCH_MATMUL": Case("%x, %w", PRODUCT, "float32[2, 3, 5]", "%x: float32[2, 3, 4]", (weights(2, 4, 5),)),
    "BATCH_MATMUL of two": Case(
        "%x, %z", PRODUCT, "float32[2, 3, 5]", "%x: float32[2, 3, 4], %z: float32[2, 4, 5]"
    ),
    "RESHAPE": Case("%x, %s", "new_shape = [16, 16]", "float32[16, 16]", constants=(whole("s", [16, 16]),)),
    "TRANSPOSE": Case("%x, %s", constants=(whole("s", [0, 2, 1, 3]),)),
    "CONCATENATION": Case("%x, %z", f"axis = 3, {NONE}", "float32[1, 8, 8, 8]", TWO),
    "PAD": Case("%x, %s", "", "float32[1, 8, 8, 6]", constants=(whole("s", [[0, 0], [0, 0], [0, 0], [1, 1]]),)),
    "SLICE": Case("%x, %s, %t", "", "float32[1, 4, 4, 4]",
                  constants=(whole("s", [0, 1, 1, 0]), whole("t", [1, 4, 4, 4]))),
    "RESIZE_BILINEAR": Case("%x, %s", "align_corners = false, half_pixel_centers = true", "float32[1, 16, 16, 4]",
                            constants=(whole("s", [16, 16]),)),
    "RESIZE_NEAREST_NEIGHBOR": Case("%x, %s", "align_corners = false, half_pixel_centers = true",
                                    "float32[1, 16, 16, 4]", constants=(whole("s", [16, 16]),)),
    "DEPTH_TO_SPACE": Case("%x", "block_size = 2", "float32[1, 16, 16, 1]"),
    "SPACE_TO_DEPTH": Case("%x", "block_size = 2", "float32[1, 4, 4, 16]"),
    "GATHER": Case("%x, %s", "axis = 3, batch_dims = 0", "float32[1, 8, 8, 2]", constants=(whole("s", [0, 1]),)),
}  # fmt: skip


def model_of(name: str, case: Case) -> Model:
    """The operator as a model of its own."""
    lines = [f"graph @main({case.inputs}) -> (%y) {{"]
    lines += [f"{item.replace(':', ' = tfl.INPUT() :')}" for item in case.inputs.replace("], %", "];%").split(";")]
    for label, kind, shape, values in case.constants:
        lines.append(f"%{label} = tfl.CONSTANT() {{value = {kind}{list(shape)} {values}}} : {kind}{list(shape)}")
    lines.append(f"%y = tfl.{name.split()[0]}({case.arguments}) {{{case.attributes}}} : {case.result}")
    model = parse_model("\n".join([*lines, "}"]))
    model.format = "tflite"
    graph = model.graph
    model.set_signature({value.name: value for value in graph.inputs}, {value.name: value for value in graph.outputs})
    return model


def is_taken(model: Model, mode: str) -> bool | None:
    """XNNPACK takes the operator in `mode`; None where it stays as it is or LiteRT has no kernel for it."""
    from ai_edge_litert.interpreter import Interpreter

    statistics = Statistics()
    statistics.begin_sample(0)
    for node in model.graph:
        low = 0.1 if node.op_type in ("INPUT", "LOG", "SQRT", "RSQRT") else -3.0
        for value in node.outputs:
            if value.dtype is FLOAT32:
                statistics.observe(key_of(value), np.array([low, 3.0], np.float32))
    if mode != "float":
        ends = ("int8", "int8") if mode == "int8" else ("float32", "float32")
        plan = quantize_model(model, Recipe((Rule(mode=mode),), *ends), statistics, lambda *types: None)  # type: ignore[arg-type]
        if all(row["compute"] == "float32" for row in plan.rows()):
            return None
    try:
        loaded = Interpreter(model_content=tflite_bytes(model))
        loaded.allocate_tensors()
    except (RuntimeError, ValueError):
        return None
    return any(item["op_name"] == "DELEGATE" for item in loaded._get_ops_details())


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    failed = []
    print(f"{'operator':26} {'int8':>6} {'float':>6} {'hybrid':>6}")
    for name, case in CASES.items():
        found = [is_taken(model_of(name, case), mode) for mode in ("int8", "float", "dynamic")]
        print(f"{name:26} " + " ".join(f"{'-' if taken is None else 'yes' if taken else 'no':>6}" for taken in found))
        node = model_of(name, case).graph.node("y")
        said = not XNNPACK.leaves(node) and node.op in XNNPACK.integers, node.op in XNNPACK.floats
        if node.op not in CLAMPS and found[0] is not None and bool(found[0]) != said[0]:
            failed.append(f"{name} with int8: LiteRT says {found[0]}")
        if found[1] is not None and found[1] != said[1]:
            failed.append(f"{name} with floats: LiteRT says {found[1]}")
        if found[2] is not None and found[2] == XNNPACK.leaves_hybrid(node):
            failed.append(f"{name} with int8 weights: LiteRT says {found[2]}")
    for line in failed:
        print(f"FAILS {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
