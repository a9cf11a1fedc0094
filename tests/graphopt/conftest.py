"""Small models, and the command line run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from graphopt.cli.main import main
from graphopt.example import mobile_network
from graphopt.ir import Graph, Model, hold, tensor_type
from graphopt.ir.types import FLOAT32, Shape
from graphopt.ir.value import Value

SOURCES = ("Placeholder", "PlaceholderWithDefault", "IteratorGetNext")


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch) -> Callable[..., Done]:
    """Run `graphopt …` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(*arguments: Any) -> Done:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def example_bytes() -> bytes:
    from graphopt.ir.formats.graphdef import graphdef_bytes

    return graphdef_bytes(mobile_network())


@pytest.fixture
def example(tmp_path, example_bytes: bytes) -> str:
    """The path of the example model."""
    path = tmp_path / "mobile.pb"
    path.write_bytes(example_bytes)
    return str(path)


class Sketch:
    """Builds graphs in a line or two: `sketch.add("Relu", "y", "x")`."""

    def __init__(self) -> None:
        self.model = Model(Graph())
        self.graph = self.model.graph

    def add(self, op: str, name: str, *inputs: str, outputs: int = 1, dtype: str = "float32", **attrs: Any) -> Value:
        types = [tensor_type(dtype, attrs.pop("shape", [2]))] * outputs
        values = [self.graph.value(item) for item in inputs if not item.startswith("^")]
        controls = [self.graph.node(item[1:]) for item in inputs if item.startswith("^")]
        if op == "Placeholder":
            attrs = {"dtype": types[0].dtype, "shape": types[0].shape, **attrs}
        elif not attrs and values and op not in SOURCES:
            attrs = {"T": FLOAT32}
        node = self.graph.create_node(f"tf.{op}", values, attrs, name=name, types=types, control_inputs=controls)
        return node.outputs[0] if node.outputs else None

    def constant(self, name: str, value: Any = 1.0) -> Value:
        return hold(self.graph, np.asarray(value, np.float32), name=name)


@pytest.fixture
def sketch() -> Sketch:
    return Sketch()


@pytest.fixture
def affine() -> Callable[..., Model]:
    """`y = x * factor + 1` with `x` of shape [rows, 3]."""

    def make(factor: float = 2.0, rows: int | None = 2, input_name: str = "x", dtype: str = "float32") -> Model:
        sketch = Sketch()
        kind = tensor_type(dtype, [rows, 3])
        x = sketch.add("Placeholder", input_name, dtype=dtype, shape=[rows, 3])
        x.type = kind
        x.node.attrs["shape"] = Shape([rows, 3])
        sketch.constant("factor", factor)
        sketch.constant("one", 1.0)
        sketch.add("Mul", "scaled", input_name, "factor", shape=[rows, 3])
        y = sketch.add("AddV2", "y", "scaled", "one", shape=[rows, 3])
        sketch.model.set_signature({input_name: x}, {"y": y})
        return sketch.model

    return make
