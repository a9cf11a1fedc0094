"""The LiteRT runtime: TFLite models with LiteRT's own kernels, no delegate among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.formats.tflite import write_model
from graphopt.ir.model import Model
from graphopt.ir.value import Value
from graphopt.runtimes.base import Array, Request, RunError, find_signature, tensor_name

INSTALL = 'pip install "ai-edge-litert"'


def import_interpreter() -> Any:
    """LiteRT's interpreter module. Raises `UsageError` where it is not installed."""
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise UsageError(f"this needs LiteRT ({error}): {INSTALL}") from error
    return interpreter


class _Held(NamedTuple):
    """A model as LiteRT holds it: what it was made from, the interpreter, the number of each tensor."""

    state: list[Any]
    interpreter: Any
    indices: dict[Value, int]


class LiteRTRuntime:
    """Runs TFLite models. Inputs of unknown dimensions are resized to what is fed; variables start anew at each run.

    The interpreter of a model is kept until the model changes.
    """

    name = "litert"

    def __init__(self) -> None:
        self._module = import_interpreter()
        self._held: WeakKeyDictionary[Model, dict[bool, _Held]] = WeakKeyDictionary()

    def run(
        self,
        model: Model,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        signature: str | None = None,
    ) -> dict[str, Array]:
        """The signature's outputs, or `outputs`, each under the name it was asked for.

        Raises `UsageError` for names, element types and shapes that do not fit, `RunError` where LiteRT fails,
        `UnsupportedError` for a model that cannot be written as `.tflite`.
        """
        request = Request(model, feeds, outputs, signature)
        if request.graph is not model.graph:
            return self._run_function(model, request, signature)
        is_inner = any(not value.is_output for value in request.fetches.values())
        held = self._prepared(model, request, keep=is_inner)
        return {name: _fetched(held, value) for name, value in request.fetches.items()}

    def run_all(self, model: Model, feeds: Mapping[str, Any], signature: str | None = None) -> dict[str, Array]:
        """Every tensor of the main graph that has contents, by tensor name; those of branches are left out."""
        request = Request(model, feeds, None, signature)
        if request.graph is not model.graph:
            raise UnsupportedError("LiteRT shows the intermediates of the first subgraph only")
        held = self._prepared(model, request, keep=True)
        found: dict[str, Array] = {}
        for value in held.indices:
            if value.node.graph is model.graph and not value.dtype.is_handle and value.dtype.code:
                try:
                    found[tensor_name(value)] = _fetched(held, value)
                except RunError:
                    continue  # a tensor that nothing filled: optional, or a kernel's scratch space
        return found

    def _prepared(self, model: Model, request: Request, *, keep: bool) -> _Held:
        """The interpreter after a run of the main graph."""
        missing = [value.name for value in model.graph.inputs if value not in request.feeds]
        if missing:
            raise UsageError(f"input '{printable(missing[0])}' is not fed")
        for value in request.feeds:
            if not value.is_input:
                raise UsageError(f"'{printable(value.name)}' is no input, and LiteRT feeds only inputs")
        held = self._opened(model, keep)
        interpreter = held.interpreter
        try:
            shapes = {item["index"]: item["shape"].tolist() for item in interpreter.get_input_details()}
            for value, array in request.feeds.items():
                if shapes.get(held.indices[value]) != list(array.shape):
                    interpreter.resize_tensor_input(held.indices[value], list(array.shape))
            interpreter.allocate_tensors()
            interpreter.reset_all_variables()
            for value, array in request.feeds.items():
                interpreter.set_tensor(held.indices[value], np.ascontiguousarray(array).reshape(array.shape))
            interpreter.invoke()
        except (RuntimeError, ValueError, TypeError) as error:
            raise RunError(f"LiteRT failed: {_brief(error)}") from error
        return held

    def _run_function(self, model: Model, request: Request, name: str | None) -> dict[str, Array]:
        """A signature of another subgraph, through LiteRT's own signatures."""
        signature = find_signature(model, name)
        key = next(key for key, item in model.signatures.items() if item is signature)
        named = {value: label for label, value in model.signatures[key].input_values().items()}
        outputs = {value: label for label, value in model.signatures[key].output_values().items()}
        for value in (*request.feeds, *request.fetches.values()):
            if value not in named and value not in outputs:
                raise UnsupportedError(f"'{printable(value.name)}' is neither input nor output of signature '{key}'")
        held = self._opened(model, False)
        try:
            runner = held.interpreter.get_signature_runner(key)
            found = runner(**{named[value]: array for value, array in request.feeds.items()})
        except (RuntimeError, ValueError, TypeError) as error:
            raise RunError(f"LiteRT failed: {_brief(error)}") from error
        return {label: np.asarray(found[outputs[value]]) for label, value in request.fetches.items()}

    def _opened(self, model: Model, keep: bool) -> _Held:
        state = _state(model)
        kinds = self._held.setdefault(model, {})
        held = kinds.get(keep)
        if held is not None and held.state == state:
            return held
        written = write_model(model)
        resolver = self._module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            interpreter = self._module.Interpreter(
                model_content=b"".join(written.pieces),
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=keep,
            )
        except (RuntimeError, ValueError, TypeError) as error:
            raise RunError(f"LiteRT does not accept the model: {_brief(error)}") from error
        held = kinds[keep] = _Held(state, interpreter, written.indices)
        return held


def _fetched(held: _Held, value: Value) -> Array:
    try:
        return np.asarray(held.interpreter.get_tensor(held.indices[value]))
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"LiteRT has no contents for '{printable(value.name)}': {_brief(error)}") from error


def _brief(error: Exception) -> str:
    return printable(" ".join(line.strip() for line in str(error).splitlines() if line.strip()), 400)


def _state(model: Model) -> list[Any]:
    """What an interpreter depends on. Holds the objects themselves, so that none of them can be taken for another."""
    state: list[Any] = [dict(model.metadata)]
    for graph in model.graphs:
        state.append((graph.name, graph.inputs, graph.outputs))
        for node in graph:
            values = [(value.name, value.type) for value in node.outputs]
            state.append((node.op, node.inputs, node.control_inputs, list(node.attrs.items()), values))
    state += [(name, id(item.graph), dict(item.inputs), dict(item.outputs)) for name, item in model.signatures.items()]
    return state
