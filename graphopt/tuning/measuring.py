"""How much of a float model's outputs is left once it is quantized, measured in LiteRT on samples."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.errors import UsageError
from graphopt.ir.formats.tflite import write_model
from graphopt.ir.model import Model
from graphopt.ir.value import Value
from graphopt.runtimes.base import RunError
from graphopt.runtimes.litert import import_interpreter
from graphopt.runtimes.litert_observer import THREADS, readable_source
from graphopt.runtimes.silence import quiet

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]
PERFECT = 200.0  # dB, in place of infinity, so that reports stay JSON


class Accuracy(NamedTuple):
    """Two models' outputs, or one tensor of both, compared over all samples.

    `snr` is the ratio of signal to noise in dB; `centred` the same once each element's mean over the samples is taken
    off both, so that an offset common to all samples counts neither as signal nor as noise. `max_error` is the largest
    absolute error, `cosine` the cosine of the angle between the two. Of several outputs, the worst of each.
    """

    snr: float
    centred: float
    max_error: float
    cosine: float


class Compared:
    """Sums over samples from which `Accuracy` follows. Arrays that change their shape are not centred."""

    def __init__(self) -> None:
        self._count = 0
        self._signal = self._noise = self._other = self._product = self._largest = 0.0
        self._means: tuple[Array, Array] | None = None
        self._changes_shape = False

    def add(self, expected: Array, actual: Array) -> None:
        """Take in one sample. Elements that are not finite in the reference are left out."""
        right, got = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
        finite = np.isfinite(right)
        if not finite.all():
            right, got = np.where(finite, right, 0.0), np.where(finite, got, 0.0)
        error = np.nan_to_num(got, nan=3e38, posinf=3e38, neginf=-3e38) - right
        self._signal += float(np.vdot(right, right))
        self._noise += float(np.vdot(error, error))
        self._other += float(np.vdot(got, got))
        self._product += float(np.vdot(right, got))
        self._largest = max(self._largest, float(np.abs(error).max(initial=0.0)))
        self._count += 1
        if self._means is None:
            self._means = right, error
        elif self._means[0].shape != right.shape:
            self._changes_shape = True
        else:
            self._means = self._means[0] + right, self._means[1] + error

    @property
    def noise(self) -> float:
        """Squared errors over what the reference varies by from sample to sample."""
        signal, _ = self._varying()
        return self._noise / (signal or self._signal or 1.0)

    def _varying(self) -> tuple[float, float]:
        """Signal and noise without what is common to all samples."""
        if self._means is None or self._changes_shape or self._count < 2:
            return self._signal, self._noise
        common = [float(np.vdot(total, total)) / self._count for total in self._means]
        signal, noise = self._signal - common[0], self._noise - common[1]
        return (signal if signal > 1e-12 * self._signal else 0.0), max(noise, 0.0)

    @property
    def shift(self) -> Array | None:
        """The mean error of each channel, last axis first to last; None of scalars and of shapes that change.

        The mean of a few samples is off by chance too: it counts the less, the more that is (James and Stein,
        "Estimation with Quadratic Loss", 1961).
        """
        if self._means is None or self._changes_shape or self._count < 2 or not self._means[1].ndim:
            return None
        total = self._means[1]
        common = float(np.vdot(total, total)) / self._count
        chance = max(self._noise - common, 0.0) / (self._count - 1)
        mean: Array = total.reshape(-1, total.shape[-1]).mean(0) / self._count
        return mean * max(0.0, 1 - chance / common) if common else mean

    @property
    def accuracy(self) -> Accuracy:
        """What the sums amount to."""
        length = math.sqrt(self._signal) * math.sqrt(self._other)
        cosine = self._product / length if length else 1.0
        signal, noise = self._varying()
        return Accuracy(decibels(self._signal, self._noise), decibels(signal, noise), self._largest, cosine)


def decibels(signal: float, noise: float) -> float:
    """The ratio in dB, within +-`PERFECT`; perfect where there is no noise."""
    if not noise:
        return PERFECT
    if not signal:
        return -PERFECT
    return min(max(10 * (math.log10(signal) - math.log10(noise)), -PERFECT), PERFECT)


def worst(found: Iterable[Accuracy]) -> Accuracy:
    """The worst of each figure."""
    listed = list(found)
    return Accuracy(
        min(item.snr for item in listed), min(item.centred for item in listed),
        max(item.max_error for item in listed), min(item.cosine for item in listed),
    )  # fmt: skip


class Measured(NamedTuple):
    """Accuracy by output, the worst of them, and what a search makes small: the mean noise of the outputs. `shifts`
    are the outputs' mean errors, by channel, as far as they are no chance."""

    outputs: dict[str, Accuracy]
    accuracy: Accuracy
    noise: float
    shifts: dict[str, Array]


class Bench:
    """Samples and what the float model makes of them; measures other models of the same signature against it.

    Raises `UsageError` for a model whose main signature has no float output, or whose state goes from call to call.
    """

    def __init__(self, model: Model, samples: Sequence[Sample], expected: Sequence[Mapping[str, Array]] | None = None):
        """`expected` are the float outputs for each sample, by name, where somebody has them already."""
        if not samples:
            raise UsageError("the data hold no samples")
        self.samples = list(samples)
        self.inputs, self.outputs = measurable(model)
        if expected is not None and all(name in arrays for arrays in expected for name in self.outputs):
            self._expected = [[arrays[name] for name in self.outputs] for arrays in expected]
        else:
            self._expected = [list(arrays) for arrays in self._results(model, self._named(model))]

    def part(self, count: int) -> Bench:
        """At most `count` samples."""
        other = copy(self)
        other.samples, other._expected = self.samples[:count], self._expected[:count]
        return other

    def measure(self, model: Model) -> Measured:
        """Run `model` on all samples. Raises `RunError` where LiteRT cannot."""
        compared = {name: Compared() for name in self.outputs}
        for expected, actual in zip(self._expected, self._results(model, self._named(model)), strict=True):
            for found, right, got in zip(compared.values(), expected, actual, strict=True):
                found.add(right, got)
        outputs = {name: found.accuracy for name, found in compared.items()}
        noise = sum(found.noise for found in compared.values()) / len(compared)
        shifts = {name: shift for name, found in compared.items() if (shift := found.shift) is not None}
        return Measured(outputs, worst(outputs.values()), noise, shifts)

    def compare(self, model: Model, other: Model, pairs: Mapping[str, tuple[Value, Value]]) -> dict[str, Accuracy]:
        """Tensors within: of `model`, and of `other` on the same samples."""
        compared = {name: Compared() for name in pairs}
        left = self._results(model, [first for first, _ in pairs.values()])
        right = self._results(other, [second for _, second in pairs.values()])
        for expected, actual in zip(left, right, strict=True):
            for found, one, two in zip(compared.values(), expected, actual, strict=True):
                if one.shape == two.shape:
                    found.add(one, two)
        return {name: found.accuracy for name, found in compared.items()}

    def _named(self, model: Model) -> list[Value]:
        signature = next(iter(model.signatures.values()))
        return [signature.output_values()[name] for name in self.outputs]

    def _results(self, model: Model, values: Sequence[Value]) -> Iterator[list[Array]]:
        """The arrays of `values`, as floats, sample by sample."""
        fed = next(iter(model.signatures.values())).input_values()
        program = _Program(model, [fed[name] for name in self.inputs], values)
        for sample in self.samples:
            yield program.run([sample[name] for name in self.inputs])


def measurable(model: Model) -> tuple[list[str], list[str]]:
    """Names of the inputs and of the float outputs of the signature to measure. Raises `UsageError`."""
    signature = next(iter(model.signatures.values()), None)
    if signature is None or signature.graph is not model.graph:
        raise UsageError("accuracy is measured on a model's main signature, and this one has none")
    if model.variables or any(node.op == "tfl.VAR_HANDLE" for graph in model.graphs for node in graph):
        raise UsageError("accuracy is not measured on models whose state goes from call to call")
    outputs = [name for name, value in signature.output_values().items() if value.dtype.is_float]
    if not outputs:
        raise UsageError("accuracy is measured on float outputs, and this model has none")
    return list(signature.input_values()), outputs


class _Program:
    """A model in LiteRT that also yields `values`."""

    def __init__(self, model: Model, inputs: Sequence[Value], values: Sequence[Value]):
        outputs = list(model.graph.outputs)
        model.graph.outputs = list(dict.fromkeys([*outputs, *values]))
        try:
            written = write_model(model)
        finally:
            model.graph.outputs = outputs
        self._inputs = [written.indices[value] for value in inputs]
        self._types = [value.type for value in inputs]
        self._values = [(written.indices[value], value.type.quantization) for value in values]
        self._pieces = written.pieces
        self._interpreter = self._open(is_plain=False)
        self._shapes: list[tuple[int, ...]] | None = None

    def _open(self, *, is_plain: bool) -> Any:
        module = import_interpreter()
        kinds = module.OpResolverType
        kind = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if is_plain else kinds.AUTO
        try:
            with quiet(), readable_source(self._pieces) as source:
                threads = min(THREADS, os.cpu_count() or 1)
                return module.Interpreter(**source, experimental_op_resolver_type=kind, num_threads=threads)
        except (RuntimeError, ValueError) as error:
            raise RunError(f"LiteRT does not accept the model: {error}") from error

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """One sample."""
        try:
            try:
                self._invoke(arrays)
            except (RuntimeError, ValueError):
                self._interpreter, self._shapes = self._open(is_plain=True), None
                self._invoke(arrays)
        except (RuntimeError, ValueError, TypeError) as error:
            raise RunError(f"LiteRT failed: {error}") from error
        return [self._fetched(index, quantization) for index, quantization in self._values]

    def _invoke(self, arrays: Sequence[Array]) -> None:
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            for index, shape in zip(self._inputs, shapes, strict=True):
                self._interpreter.resize_tensor_input(index, list(shape))
            with quiet():
                self._interpreter.allocate_tensors()
            self._shapes = shapes
        for index, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(index, np.ascontiguousarray(array))
        self._interpreter.invoke()

    def _fetched(self, index: int, quantization: Any) -> Array:
        array = self._interpreter.get_tensor(index)
        if quantization is None:
            return np.asarray(array)
        wide = array.astype(np.float32) - np.float32(quantization.zero_point[0])
        return np.asarray(wide * np.float32(quantization.scale[0]))
