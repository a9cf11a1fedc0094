"""What NumPy makes of the operands of some operators, for `probe_litert_kernels.py`, where that is short to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _padded(array: Any, amounts: Any, value: Any = 0) -> Any:
    return np.pad(array, amounts, constant_values=value) if array.ndim else array


def _mirrored(array: Any, amounts: Any) -> Any:
    return np.pad(array, amounts, mode="reflect") if array.ndim else array


def _one_hot(indices: Any, depth: Any, on: Any, off: Any) -> Any:
    return np.where(indices[..., None] == np.arange(depth), on, off)


REFERENCES: dict[str, Callable[..., Any]] = {
    "ABS": np.abs, "ADD": np.add, "ADD_N": np.add, "ATAN2": np.arctan2, "BATCH_MATMUL": np.matmul, "EQUAL": np.equal,
    "FILL": np.full, "FLOOR_DIV": np.floor_divide, "FLOOR_MOD": np.mod, "GREATER": np.greater, "LESS": np.less,
    "GREATER_EQUAL": np.greater_equal, "LESS_EQUAL": np.less_equal, "MAXIMUM": np.maximum, "MINIMUM": np.minimum,
    "MUL": np.multiply, "NEG": np.negative, "NOT_EQUAL": np.not_equal, "POW": np.power, "SELECT": np.where,
    "SELECT_V2": np.where, "SQUARE": np.square, "SUB": np.subtract, "TILE": np.tile, "TRANSPOSE": np.transpose,
    "BROADCAST_TO": np.broadcast_to, "MIRROR_PAD": _mirrored, "ONE_HOT": _one_hot, "PAD": _padded, "PADV2": _padded,
    "ARG_MAX": lambda array, axis: array.argmax(axis),
    "ARG_MIN": lambda array, axis: array.argmin(axis),
    "CONCATENATION": lambda *parts: np.concatenate(parts),
    "CUMSUM": lambda array, _: array.cumsum(0),
    "EXPAND_DIMS": lambda array, _: array[None],
    "GATHER": lambda array, indices: array[indices],
    "GATHER_ND": lambda array, indices: array[indices[:, 0]],
    "PACK": lambda *parts: np.stack(parts),
    "RANK": lambda array: np.array(array.ndim),
    "REDUCE_MAX": lambda array, axis: array.max(tuple(axis)),
    "REDUCE_MIN": lambda array, axis: array.min(tuple(axis)),
    "REDUCE_PROD": lambda array, axis: array.prod(tuple(axis)),
    "RELU": lambda array: np.maximum(array, 0),
    "RESHAPE": lambda array, _: array.reshape(-1),
    "REVERSE_V2": lambda array, _: array[::-1],
    "SHAPE": lambda array: np.array(array.shape),
    "SQUARED_DIFFERENCE": lambda left, right: (left - right) ** 2,
    "SQUEEZE": lambda array: array[0],
    "SUM": lambda array, axis: array.sum(tuple(axis)),
}  # fmt: skip
