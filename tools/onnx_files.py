"""What an ONNX file holds and computes: nodes, the checker's verdict, ONNX Runtime's outputs, how far they are off."""

from __future__ import annotations

import collections
import pathlib
from typing import Any

from run_corpus import base
from subjects import cases
from tflite_files import error_of, worst

TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


def counts(path: pathlib.Path) -> collections.Counter[str]:
    """Operators, bodies of loops and branches included, constants left out."""
    import onnx

    kinds: collections.Counter[str] = collections.Counter()
    pending = [onnx.load(str(path), load_external_data=False).graph]
    while pending:
        graph = pending.pop()
        for node in graph.node:
            kinds[node.op_type] += 1
            pending += [item.g for item in node.attribute if item.HasField("g")]
    del kinds["Constant"]
    return kinds


def checked(path: pathlib.Path) -> str:
    """What ONNX's checker says with types inferred strictly; empty if nothing."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def run(path: pathlib.Path, feeds: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    """ONNX Runtime's outputs by the names asked for; in order where the file calls them otherwise."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = [item.name for item in session.get_inputs()]
    given = _named(wanted, feeds)
    types = {item.name: TYPES.get(item.type) for item in session.get_inputs()}
    found = session.run(None, {name: _fed(given[name], types[name]) for name in wanted})
    return _named(outputs, dict(zip((item.name for item in session.get_outputs()), found, strict=True)))


def _named(names: list[str], values: dict[str, Any]) -> dict[str, Any]:
    short = {name.removesuffix(":0"): value for name, value in values.items()}
    if all(name.removesuffix(":0") in short for name in names):
        return {name: short[name.removesuffix(":0")] for name in names}
    by_node = {base(name): value for name, value in values.items()}
    if all(base(name) in by_node for name in names) and len(by_node) == len(values):
        return {name: by_node[base(name)] for name in names}
    return dict(zip(names, values.values(), strict=False))


def _fed(value: Any, dtype: str | None) -> Any:
    """The array as ONNX Runtime takes it; floats of another width are converted, as TensorFlow's sessions do."""
    if value.dtype.kind != "S":
        return value.astype(dtype) if dtype is not None and value.dtype.kind == "f" else value
    import numpy as np

    return np.array([item.decode("utf-8", "surrogateescape") for item in value.reshape(-1)], object).reshape(
        value.shape
    )


def compare(path: pathlib.Path, io: pathlib.Path, signature: str) -> float | str | None:
    """How far ONNX Runtime's outputs are from TensorFlow's; None where TensorFlow gave none."""
    feeds, expected = cases(io).get(signature, ({}, {}))
    if not expected:
        return None
    found = run(path, feeds, list(expected))
    return worst(
        [error_of(found[name], value) if name in found else f"no output '{name}'" for name, value in expected.items()]
    )
