"""How fast do runtimes run one model? Medians side by side, after a warm-up, in rounds that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from graphopt.ir.errors import Error, UsageError, printable
from graphopt.ir.model import Model

SCHEMA = "graphopt/bench/v1"
RUNTIMES = ("tensorflow", "tensorflow-jit", "xla", "litert", "onnxruntime")
ROUNDS = 5  # in which the runtimes take turns, so that what else the machine does meets all of them
Call = Callable[[], Any]
Feeds = Mapping[str, Any]


@dataclass
class Timing:
    """One runtime: how long preparing and compiling took, and a run, in seconds; `problem` where it does not run."""

    runtime: str
    prepare_seconds: float = 0.0
    median_seconds: float | None = None
    fastest_seconds: float | None = None
    runs: int = 0
    problem: str = ""
    cost: dict[str, Any] = field(default_factory=dict)


@dataclass
class BenchReport:
    """All runtimes, in the order asked for, and in words where XLA is not the fastest."""

    timings: list[Timing]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with its versioned schema name."""
        return {"schema": SCHEMA, "timings": [asdict(timing) for timing in self.timings], "notes": self.notes}


def bench(
    source: Any,
    runtimes: Sequence[str] = ("tensorflow", "xla"),
    *,
    data: Any = None,
    seed: int = 0,
    runs: int = 50,
    warm_up: int = 5,
    signature: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> BenchReport:
    """Time `source`, whatever `load` takes, in each of `runtimes` on one sample.

    The model is lowered for each runtime where it must be; `options` are those of the XLA target. `data` are samples as
    `verify` takes them, of which the first is used; without them it is drawn from `seed`.

    Raises `UsageError` for a runtime that there is not. One that cannot run the model is reported, not raised.
    """
    from graphopt.samples import signature_of
    from graphopt.verification import DEFAULT_SIGNATURE, loaded, make_samples

    for name in runtimes:
        if name not in RUNTIMES:
            raise UsageError(f"there is no runtime '{printable(name)}' to measure; there are {', '.join(RUNTIMES)}")
    if runs < 1 or warm_up < 0:
        raise UsageError("runs must be positive, warm_up not negative")
    model = loaded(source)
    chosen = signature or (DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in model.signatures else next(iter(model.signatures)))
    signature_of(model, chosen)
    feeds = make_samples(model, data, 1, seed, chosen)[0]
    calls: dict[str, Call] = {}
    timings = [Timing(name) for name in runtimes]
    for timing in timings:
        started = time.perf_counter()
        try:
            calls[timing.runtime] = call = prepared_call(timing, model, chosen, feeds, options or {})
            for _ in range(warm_up):
                call()
        except Error as error:
            calls.pop(timing.runtime, None)
            timing.problem = str(error)
        timing.prepare_seconds = time.perf_counter() - started
    _measure(timings, calls, runs)
    return BenchReport(timings, _notes(timings))


def _measure(timings: Sequence[Timing], calls: Mapping[str, Call], runs: int) -> None:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    rounds = min(ROUNDS, runs)
    for number in range(rounds):
        for name, call in calls.items():
            for _ in range(runs // rounds + (number < runs % rounds)):
                started = time.perf_counter()
                call()
                taken[name].append(time.perf_counter() - started)
    for timing in timings:
        if timing.runtime in taken:
            timing.median_seconds = statistics.median(taken[timing.runtime])
            timing.fastest_seconds, timing.runs = min(taken[timing.runtime]), runs


def _notes(timings: Sequence[Timing]) -> list[str]:
    found = {timing.runtime: timing.median_seconds for timing in timings if timing.median_seconds}
    own = found.get("xla")
    if own is None:
        return []
    return [
        f"XLA is slower than {name} here: {own / other:.2f} times its time"
        for name, other in found.items()
        if other is not None and other < own
    ]


# One runtime each ---------------------------------------------------------------------------------------------


def prepared_call(timing: Timing, model: Model, signature: str, feeds: Feeds, options: Mapping[str, Any]) -> Call:
    """What runs `model` once more on `feeds` in the runtime that `timing` names, and waits for the outputs."""
    name = timing.runtime
    if name == "xla":
        return _xla(timing, model, signature, feeds, options)
    if name == "litert":
        return _litert(_lowered(model, "tflite", signature), feeds)
    if name == "onnxruntime":
        return _onnxruntime(_lowered(model, "onnx", signature), feeds)
    from graphopt.runtimes.tensorflow_function import tensorflow_function

    return tensorflow_function(_frozen(model, signature), feeds, jit=name == "tensorflow-jit")


def _frozen(model: Model, signature: str) -> Model:
    from graphopt.freezing import freeze_model

    if model.format in ("tflite", "onnx", "xla"):
        raise UsageError(f"TensorFlow does not run models of the format {model.format}")
    part = model.clone()
    freeze_model(part, signature=signature if len(model.signatures) > 1 else None)
    part.signatures = {signature: part.signatures[signature]}
    return part


def _lowered(model: Model, target: str, signature: str, options: Mapping[str, Any] | None = None) -> Model:
    if model.format == target:
        return model
    from graphopt.backends.base import find_backend

    return find_backend(target).lower(model, signatures=(signature,), **(options or {})).model


def _xla(timing: Timing, model: Model, signature: str, feeds: Feeds, options: Mapping[str, Any]) -> Call:
    import numpy as np

    from graphopt.runtimes.xla import XlaRuntime

    runtime = XlaRuntime()
    lowered = _lowered(model, "xla", signature, options)
    found = lowered.signatures[signature]
    timing.cost = runtime.cost(lowered, feeds, signature)
    arrays = [np.asarray(feeds[name]) for name in found.inputs]

    def call() -> Any:
        return [np.asarray(array) for array in runtime.call(found, arrays)]

    return call


def _litert(model: Model, feeds: Feeds) -> Call:
    from graphopt.ir.formats.tflite import write_model
    from graphopt.runtimes.litert import import_interpreter

    content = b"".join(write_model(model).pieces)
    interpreter = import_interpreter().Interpreter(model_content=content, num_threads=_cores())
    runner = interpreter.get_signature_runner()
    return lambda: runner(**feeds)


def _onnxruntime(model: Model, feeds: Feeds) -> Call:
    from graphopt.ir.formats.onnx import onnx_pieces
    from graphopt.runtimes.onnxruntime import import_onnxruntime

    module = import_onnxruntime()
    session = module.InferenceSession(b"".join(onnx_pieces(model)), providers=["CPUExecutionProvider"])
    return lambda: session.run(None, dict(feeds))


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
