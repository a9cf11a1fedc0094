"""For authors of legalisation rules: does what a model was lowered to compute the same, by the operators expected?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.backends.base import Lowered, find_backend
from graphopt.ir.infer import infer_model
from graphopt.ir.model import Model
from graphopt.ir.text import parse_model

SILENT = frozenset({"tfl.CONSTANT", "tfl.INPUT", "tfl.VARIABLE", "tfl.TENSOR", "onnx.Input", "onnx.Initializer"})


def text_model(body: str, inputs: str = "%x: float32[2, 3]", outputs: str = "%y") -> Model:
    """A model of one graph, from the text of its nodes, with a signature that names inputs and outputs as they are."""
    model = parse_model(f"graph @main({inputs}) -> ({outputs}) {{\n{body}\n}}")
    infer_model(model)
    if not model.signatures:
        graph = model.graph
        model.set_signature({v.name: v for v in graph.inputs}, {v.name: v for v in graph.outputs})
    return model


def int_vector(name: str, *numbers: int) -> str:
    """A line of text that declares a constant vector of int32."""
    return f"%{name} = tf.Const() {{value = int32[{len(numbers)}] [{', '.join(map(str, numbers))}]}}\n"


def int_scalar(name: str, number: int) -> str:
    """A line of text that declares a constant scalar of int32."""
    return f"%{name} = tf.Const() {{value = int32[] {number}}}\n"


def operators(model: Model) -> dict[str, int]:
    """How often each operator occurs in all graphs of a lowered model, without its dialect; constants are left out."""
    counts = Counter(node.op for graph in model.graphs for node in graph if node.op not in SILENT)
    return {op.partition(".")[2]: count for op, count in counts.items()}


def assert_lowers(
    source: Any,
    expected: Mapping[str, int] | Sequence[str] | None = None,
    *,
    target: str = "tflite",
    data: Any = None,
    random: int = 3,
    seed: int = 0,
    rtol: float | None = 1e-5,
    atol: float | None = None,
    reference: str | None = "tensorflow",
    **options: Any,
) -> Lowered:
    """Lower `source` (whatever `load` takes) and raise `AssertionError` unless its outputs are those of `reference`.

    `expected` says which operators come out: a mapping with counts, or a sequence of them, repeated as often as they
    occur, in any order. `reference` names the runtime that says what is right; None compares nothing. `data`, `random`,
    `seed`, `rtol` and `atol` are those of `verify`; `options` those of the target. Returns what was lowered.
    """
    from graphopt.api import load
    from graphopt.runtimes.base import get_runtime
    from graphopt.verification import OWN_RUNTIMES, make_samples

    model = load(source)
    lowered = find_backend(target).lower(model, **options)
    found = operators(lowered.model)
    if expected is not None:
        wanted = dict(expected) if isinstance(expected, Mapping) else dict(Counter(expected))
        assert found == wanted, f"lowered to {found}, where {wanted} was expected"
    if reference is None:
        return lowered
    from graphopt.accuracy import Tolerance, compare_samples

    samples = make_samples(model, data, random, seed)
    right, runtime = get_runtime(reference), get_runtime(OWN_RUNTIMES[target])
    names = next(iter(model.signatures.values()))
    before = [right.run(model, sample) for sample in samples]
    after = [runtime.run(lowered.model, sample) for sample in samples]
    assert all(list(outputs) == list(names.outputs) for outputs in after), "names or order of outputs changed"
    for error in compare_samples(before, after, Tolerance(rtol, atol)):
        assert error.holds, error.sentence
    return lowered
