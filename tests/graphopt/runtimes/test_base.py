"""Names, signatures and feeds: what a run resolves before anything runs, and the runtimes by name."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.ir.errors import UsageError
from graphopt.ir.model import Model, Signature
from graphopt.ir.text import parse_model
from graphopt.runtimes.base import Request, get_runtime

TEXT = """graph @main(%x: float32[?, 2], %s: string[*]) -> (%y) {
    %y = tf.Relu(%x)
    %end = tf.NoOp()
  }"""


def model(**signatures: dict[str, str]) -> Model:
    made = parse_model(TEXT)
    for name, outputs in signatures.items():
        made.signatures[name] = Signature(made.graph, {"images": 0}, dict.fromkeys(outputs, 0))
    return made


X = np.ones((3, 2), np.float32)


def test_names_with_and_without_port_and_of_the_signature() -> None:
    made = model(serving_default={"scores": "y"})
    for name in ("x", "x:0", "images"):
        request = Request(made, {name: X})
        assert list(request.feeds) == [made.graph.value("x")]
        assert request.fetches == {"scores": made.graph.value("y")}


def test_outputs_may_be_tensors_and_nodes_run_for_their_effect() -> None:
    request = Request(model(), {}, ["y", "x:0", "end"])
    assert list(request.fetches) == ["y", "x:0"]
    assert [node.name for node in request.targets] == ["end"]


def test_a_model_without_signatures_has_its_graphs_outputs() -> None:
    assert list(Request(model(), {"x": X}).fetches) == ["y"]


@pytest.mark.parametrize(
    ("feeds", "outputs", "signature", "words"),
    [
        ({"nope": X}, None, None, "no node 'nope'"),
        ({"x:7": X}, None, None, "no output 7"),
        ({"x": X.astype(np.float64)}, None, None, "'x' takes float32, not float64"),
        ({"x": np.ones((3, 5), np.float32)}, None, None, r"'x' takes shape \[\?, 2\], not \[3, 5\]"),
        ({"x": np.float32(1)}, None, None, "takes shape"),
        ({}, ["nope"], None, "no node 'nope'"),
        ({}, None, "nope", "no signature 'nope'; the model has 'a', 'b'"),
        ({}, None, None, "several signatures"),
    ],
)
def test_what_does_not_fit_is_a_usage_error(feeds: Any, outputs: Any, signature: Any, words: str) -> None:
    made = model(a={"y": "y"}, b={"y": "y"})
    if "signature" not in words:
        signature = "a"
    with pytest.raises(UsageError, match=words):
        Request(made, feeds, outputs, signature)


def test_lists_and_text_become_arrays_of_the_inputs_type() -> None:
    made = model()
    request = Request(made, {"x": [[1, 2]], "s": ["a", "ü"]})
    assert request.feeds[made.graph.value("x")].dtype == np.float32
    assert request.feeds[made.graph.value("s")].tolist() == [b"a", "ü".encode()]


def test_an_array_is_widened_but_never_narrowed() -> None:
    made = parse_model("graph @main(%x: float64[*]) -> (%y) { %y = tf.Relu(%x) }")
    assert Request(made, {"x": X}).feeds[made.graph.value("x")].dtype == np.float64


def test_an_unknown_runtime() -> None:
    with pytest.raises(UsageError, match="no runtime 'abacus'"):
        get_runtime("abacus")


def test_a_missing_package_is_named_with_its_remedy(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_python(
        "import sys; sys.modules['tensorflow'] = None\n"
        "from graphopt.runtimes.base import get_runtime\n"
        "print(get_runtime('reference').name)\n"
        "get_runtime('tensorflow')"
    )
    assert done.stdout == "reference\n"
    assert 'pip install "graphopt[tensorflow]"' in done.stderr.splitlines()[-1]
