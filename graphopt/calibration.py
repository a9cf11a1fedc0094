"""Calibration: run a model on samples and gather statistics of its tensors."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from graphopt.data_guard import DataGuard
from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.model import Model
from graphopt.names import close_names
from graphopt.passes.quantize.methods import RangeMethod, range_method
from graphopt.passes.quantize.statistics import Collected, Statistics
from graphopt.runtimes.base import DEFAULT_SIGNATURE
from graphopt.sample_streams import Sample, stream_samples
from graphopt.samples import signature_of, typed_inputs

if TYPE_CHECKING:
    from graphopt.ir.value import Value
    from graphopt.runtimes.base import Array, Runtime
    from graphopt.runtimes.observation import Observer, See

TFLITE = "tflite"
_OF_TENSORFLOW = frozenset({"tensorflow", "reference"})
_CONTROL = frozenset({"Enter", "Switch", "RefEnter", "RefSwitch"})  # of v1: TensorFlow shows nothing behind them
Report = Callable[[int, int, str], None]


class Watcher(Protocol):
    """Somebody who wants to see what calibration sees."""

    def sample(self, sample: Sample) -> None:
        """What goes in comes next."""
        ...

    def see(self, value: Value, array: Array) -> None:
        """A float tensor, which may be looked at only until this returns."""
        ...


def calibrate(
    model: Any,
    data: Any,
    *,
    method: str | RangeMethod = "minmax",
    also: Sequence[str | RangeMethod] = (),
    channels: bool = False,
    signature: str | None = None,
    states: Mapping[str, str] | None = None,
    reset: bool = False,
    shard: tuple[int, int] | None = None,
    first_sample: int = 0,
    runtime: str | Runtime | None = None,
    check: bool = True,
    progress: Report | None = None,
    watcher: Watcher | None = None,
    into: Statistics | None = None,
    origin: Model | None = None,
) -> Statistics:
    """Run `model`, anything `load` takes, on `data` and return statistics of every float tensor it computes.

    `data` is the path of an `.npz` (one array for each input, shaped (samples, *the input's shape, batch included*)), a
    mapping of such arrays, or an iterable of samples: dicts by input name, or arrays in the order of the inputs. A
    mapping whose keys are names of signatures has data of one of these kinds for each. Samples are read one at a time.

    `method` (minmax, ema, percentile, mse, entropy) is how ranges are to be chosen, and decides what is gathered;
    what the methods in `also` need is gathered too, and with `channels` the range of each channel.

    A model keeps its variables from sample to sample unless `reset` says that each starts anew. Where states go in
    and out, `states` maps inputs to the outputs they are fed with from the second sample on; they start as zeros and
    need no data. `shard` (k, n) takes the k-th of n parts of the samples, k from 1; `first_sample` numbers them from
    there. Statistics of shards merge to those of one run (`graphopt.passes.quantize.statistics.merge`).

    `runtime` is litert, tensorflow or reference. By default LiteRT runs what the model is lowered to; one that
    cannot be lowered is run by TensorFlow, where it is installed and sees all of it, or by the reference. With `check`
    off, what is wrong with the samples is noted instead of raised. `watcher` is shown each sample and each tensor;
    `into` are empty statistics to gather in, which know what to collect; `origin` is what `model` was lowered from,
    which tells more of the samples it expects. Notes are in `Statistics.notes`.

    Raises `UsageError` for data that do not fit the model, `CheckError` for samples that cannot be right, `RunError`
    where the model fails, `UnsupportedError` where LiteRT is to run what cannot be lowered.
    """
    loaded = _loaded(model)
    origin = loaded if origin is None else origin
    if runtime in ("litert", None):
        loaded, runtime = _for_litert(loaded, must=runtime is not None)
    chosen = range_method(method)
    collected = Collected.for_methods(chosen, *map(range_method, also), channels=channels)
    statistics = Statistics(chosen, collected) if into is None else into
    first = first_sample
    for name, part in _by_signature(loaded, data, signature).items():
        guard = DataGuard(origin if name in origin.signatures else loaded, name, strict=check)
        run = _Run(loaded, name, dict(states or {}), guard, runtime)
        first = run.gather(statistics, part, shard, first, reset, progress, watcher)
    return statistics


def _loaded(source: Any) -> Model:
    if isinstance(source, Model) and source.signatures:
        return source
    from graphopt.api import load

    return load(source)


def _for_litert(model: Model, *, must: bool) -> tuple[Model, str | None]:
    """What LiteRT runs of `model`, lowered where it is TensorFlow's, or the model itself and what else runs it.

    Raises `UnsupportedError` where it `must` be LiteRT and cannot.
    """
    if own_runtime(model) not in _OF_TENSORFLOW or not (must or importlib.util.find_spec("ai_edge_litert")):
        return model, None
    from graphopt.lowering import lower

    try:
        return lower(model, TFLITE).model, "litert"
    except UnsupportedError:
        if must:
            raise
        return model, None


def _by_signature(model: Model, data: Any, signature: str | None) -> dict[str, Any]:
    """Data for each signature that has any."""
    if signature is None and isinstance(data, Mapping) and data and set(data) <= set(model.signatures):
        names = {name for item in model.signatures.values() for name in item.inputs}
        if not set(data) <= names:
            return dict(data)
    if signature is None and model.format != TFLITE and DEFAULT_SIGNATURE in model.signatures:
        signature = DEFAULT_SIGNATURE  # which lowering puts first
    chosen = signature_of(model, signature)
    return {next(name for name, item in model.signatures.items() if item is chosen): data}


class _Run:
    """The samples of one signature."""

    def __init__(self, model: Model, signature: str, states: dict[str, str], guard: DataGuard, runtime: Any):
        self._model, self._signature, self._states = model, signature, states
        _check_states(model, signature, states)
        self._guard = guard
        self._observer = observer_for(model, signature, runtime)

    def gather(
        self,
        statistics: Statistics,
        data: Any,
        shard: tuple[int, int] | None,
        first: int,
        reset: bool,
        progress: Any,
        watcher: Watcher | None,
    ) -> int:
        """Add what the samples show; the first has the number `first`. Returns the number for the next signature's."""
        stream = stream_samples(data, self._model, signature=self._signature, left_out=tuple(self._states))
        start, end = _part(stream.length, shard)
        carried = _zeros(self._model, self._signature, self._states)
        fetched = tuple(dict.fromkeys(self._states.values()))
        everything = tuple(signature_of(self._model, self._signature).outputs)
        number = first + start
        see = statistics.observe if watcher is None else _both(statistics.observe, watcher.see)
        for sample in _between(stream.samples, start, end):
            if progress is not None:
                progress(number - first - start, 0 if end is None else end - start, f"sample {number}")
            self._guard.check(sample)
            if reset:
                self._observer.reset()
            statistics.begin_sample(number)
            if watcher is not None:
                watcher.sample(sample)
            is_suspect = self._guard.suspects_pixels
            outputs = self._observer.run({**sample, **carried}, see, everything if is_suspect else fetched)
            if is_suspect:
                self._guard.see_outputs(outputs)
            carried = {name: outputs[output] for name, output in self._states.items()}
            number += 1
        if number == first + start:
            raise UsageError("the data hold no samples")
        statistics.notes += [*self._guard.finish(is_part=shard is not None), *self._observer.notes]
        return number if stream.length is None else first + stream.length


def _both(first: See, second: See) -> See:
    def see(value: Value, array: Array) -> None:
        first(value, array)
        second(value, array)

    return see


def _between(samples: Any, start: int, end: int | None) -> Iterator[Sample]:
    return islice(iter(samples), start, end)


def _part(count: int | None, shard: tuple[int, int] | None) -> tuple[int, int | None]:
    """Which samples a shard has. Raises `UsageError` for no part, and where nobody knows how many there are."""
    if shard is None:
        return 0, count
    place, parts = shard
    if not 1 <= place <= parts:
        raise UsageError(f"there is no part {place} of {parts}: parts are numbered from 1")
    if count is None:
        raise UsageError("samples without a known number cannot be divided: give an .npz or a list, or divide them")
    return count * (place - 1) // parts, count * place // parts


def _check_states(model: Model, signature: str, states: Mapping[str, str]) -> None:
    found = signature_of(model, signature)
    for name, output in states.items():
        if name not in found.inputs:
            raise UsageError(f"the model has no input '{printable(name)}'{close_names(name, found.inputs)}")
        if output not in found.outputs:
            raise UsageError(f"the model has no output '{printable(output)}'{close_names(output, found.outputs)}")


def _zeros(model: Model, signature: str, states: Mapping[str, str]) -> Sample:
    import numpy as np

    kinds = typed_inputs(model, signature)
    found: Sample = {}
    for name in states:
        dims = kinds[name].shape.dims
        if dims is None or kinds[name].dtype.numpy is None:
            raise UsageError(f"state '{printable(name)}' has no known shape or type to start from")
        found[name] = np.zeros([dim if isinstance(dim, int) else 1 for dim in dims], kinds[name].dtype.numpy)
    return found


# What runs the model ------------------------------------------------------------------------------------------


def observer_for(model: Model, signature: str | None, runtime: str | Runtime | None = None) -> Observer:
    """What runs `model` and shows its tensors. Raises `UsageError` for an unknown or absent runtime."""
    from graphopt.runtimes.observation import ReferenceObserver, RuntimeObserver

    if any(variable.value is not None for variable in model.variables.values()):
        model = _frozen(model)
    name = runtime if runtime is None or isinstance(runtime, str) else runtime.name
    if name is None:
        name = own_runtime(model)
    if name == "litert":
        from graphopt.runtimes.litert_observer import LiteRTObserver

        return LiteRTObserver(model, signature)
    if name == "reference":
        return ReferenceObserver(model, signature)
    from graphopt.runtimes.base import get_runtime

    return RuntimeObserver(
        get_runtime(name) if runtime is None or isinstance(runtime, str) else runtime, model, signature
    )


def _frozen(model: Model) -> Model:
    """A copy in which variables that nothing changes are constants; nodes and functions keep their names."""
    from graphopt.freezing import freeze_model

    try:
        return freeze_model(model.clone(), functions=True).model
    except UnsupportedError:  # a model with state: its variables start as their initialisers say
        return model


def own_runtime(model: Model) -> str:
    """What runs a model as it is: LiteRT and ONNX Runtime their own operators, TensorFlow, which is faster than the
    reference, what it sees all of."""
    if any(node.dialect == "tfl" for node in model.graph):
        return "litert"
    if model.format == "onnx":
        return "onnxruntime"
    if model.functions or model.variables or any(node.op_type in _CONTROL for node in model.graph):
        return "reference"
    return "tensorflow" if importlib.util.find_spec("tensorflow") is not None else "reference"
