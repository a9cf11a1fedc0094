"""Running a model to look at its tensors: every float it computes, those in loops and branches too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model
from graphopt.ir.value import Value
from graphopt.runtimes.base import Array, Request, Runtime, find_signature, tensor_name

See: TypeAlias = Callable[[Value, Array], None]


class Observer(Protocol):
    """Runs one signature of a model and shows every float tensor on the way. `notes` says what it cannot show."""

    name: str
    notes: list[str]

    def run(self, feeds: Mapping[str, Any], see: See, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """Run once; call `see` with each value and its array, which may be looked at only until `see` returns.

        Values in bodies of loops are seen once an iteration. Returns `outputs`. Variables keep their values.
        """
        ...

    def reset(self) -> None:
        """Let variables start anew."""
        ...


class RuntimeObserver:
    """Any runtime as an observer: it shows what `run_all` gives, which is the main graph's tensors."""

    def __init__(self, runtime: Runtime, model: Model, signature: str | None = None):
        self.name, self.notes = runtime.name, []
        self._runtime, self._model, self._signature = runtime, model, signature
        found = find_signature(model, signature)
        graph = model.graph if found is None else found.graph
        self._values = {tensor_name(value): value for node in graph for value in node.outputs if is_seen(value)}
        if len(model.functions):
            self.notes.append(f"what is computed within functions is not seen by the runtime '{runtime.name}'")

    def run(self, feeds: Mapping[str, Any], see: See, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """See `Observer.run`."""
        found = self._runtime.run_all(self._model, feeds, self._signature)
        for name, value in self._values.items():
            if name in found:
                see(value, found[name])
        fetches = Request(self._model, {}, None, self._signature).fetches
        return {name: found[tensor_name(fetches[name])] for name in outputs}

    def reset(self) -> None:
        """See `Observer.reset`: a new runtime has a new memory."""
        self._runtime = type(self._runtime)()


class ReferenceObserver:
    """The reference runtime as an observer, which sees into functions too."""

    name = "reference"

    def __init__(self, model: Model, signature: str | None = None):
        from graphopt.runtimes.reference import ReferenceRuntime

        self.notes: list[str] = []
        self._model, self._signature = model, signature
        self._runtime = ReferenceRuntime()

    def run(self, feeds: Mapping[str, Any], see: See, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """See `Observer.run`."""

        def watch(value: Value, array: Array) -> None:
            if is_seen(value) and array.dtype.kind == "f":
                see(value, array)

        found = self._runtime.observe(self._model, feeds, watch, self._signature)
        return {name: found[name] for name in outputs}

    def reset(self) -> None:
        """See `Observer.reset`."""
        from graphopt.runtimes.reference import ReferenceRuntime

        self._runtime = ReferenceRuntime()


def is_seen(value: Value) -> bool:
    """A float that is computed or fed, not one that is known beforehand."""
    return (value.dtype.is_float or not value.dtype.code) and known_tensor(value) is None
