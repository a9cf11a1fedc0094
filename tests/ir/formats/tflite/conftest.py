"""Small `.tflite` files made field by field."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.ir.formats.tflite.encoder import encode

Fields = dict[str, Any]
MINIMUM, ADD, WHILE, CUSTOM = 57, 0, 119, 32

_TENSORS = [
    {"name": b"x", "shape": [1, 4], "buffer": 0},
    {"name": b"w", "shape": [4], "buffer": 1},
    {"name": b"y", "shape": [1, 4], "buffer": 0},
]
MODEL: Fields = {
    "version": 3,
    "description": b"small",
    "operator_codes": [{"builtin_code": ADD}],
    "buffers": [{}, {"data": np.arange(4, dtype=np.float32).tobytes()}],
    "subgraphs": [
        {
            "name": b"main",
            "tensors": _TENSORS,
            "inputs": [0],
            "outputs": [2],
            "operators": [
                {
                    "inputs": [0, 1],
                    "outputs": [2],
                    "builtin_options_type": 11,
                    "builtin_options": {"pot_scale_int16": True},
                }
            ],
        }
    ],
}  # fmt: skip


@pytest.fixture
def fields() -> Fields:
    """The tables of a model that adds a constant; to be changed freely."""
    return copy.deepcopy(MODEL)


@pytest.fixture
def packed() -> Callable[[Fields], bytes]:
    """Tables as a `.tflite` file."""

    def pack(tables: Fields) -> bytes:
        return b"".join(encode("Model", tables, b"TFL3"))

    return pack


@pytest.fixture
def objects() -> Callable[[bytes], Any]:
    """A `.tflite` file through the object API of LiteRT's own schema, as plain values that compare."""
    from ai_edge_litert import schema_py_generated as schema

    def plain(item: Any) -> Any:
        if isinstance(item, np.ndarray):
            return item.dtype.str, item.tobytes()
        if isinstance(item, list):
            return [plain(part) for part in item]
        if hasattr(item, "__dict__"):
            return type(item).__name__, {name: plain(part) for name, part in vars(item).items()}
        return item

    return lambda data: plain(schema.ModelT.InitFromPackedBuf(data))


@pytest.fixture
def run_litert() -> Callable[[bytes], list[bytes] | str]:
    """Outputs of a `.tflite` file on ones, as bytes, or the first words of what LiteRT says against it."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    def run(data: bytes) -> list[bytes] | str:
        try:
            resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            interpreter = Interpreter(model_content=data, experimental_op_resolver_type=resolver)
            interpreter.allocate_tensors()
            generator = np.random.default_rng(0)
            for item in interpreter.get_input_details():
                floats = np.issubdtype(item["dtype"], np.floating)
                drawn = generator.standard_normal(item["shape"]) if floats else np.ones(item["shape"])
                interpreter.set_tensor(item["index"], drawn.astype(item["dtype"]))
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            return str(error)[:60]
        return [interpreter.get_tensor(item["index"]).tobytes() for item in interpreter.get_output_details()]

    return run
