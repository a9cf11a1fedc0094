"""ONNX Runtime as a runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.formats.onnx import onnx_pieces
from graphopt.ir.formats.onnx.elements import INITIALIZER
from graphopt.ir.model import Model
from graphopt.ir.types import STRING
from graphopt.ir.value import Value
from graphopt.runtimes.base import Array, Request, RunError, tensor_name

INSTALL = 'pip install "graphopt[tensorrt]"'
# The optimiser makes graphs that are not valid of some between Q and DQ, and wrong ones of FP8: without it they run.
LEVELS = ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL")


def import_onnxruntime() -> Any:
    """The onnxruntime package. Raises `UsageError` where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"this needs ONNX Runtime ({error}): {INSTALL}") from error
    return onnxruntime


class OnnxRuntime:
    """Runs models of the `onnx` dialect. The session of a model is kept until the model changes."""

    name = "onnxruntime"

    def __init__(self) -> None:
        self._module = import_onnxruntime()
        self._held: WeakKeyDictionary[Model, dict[tuple[str, ...], tuple[Any, Any]]] = WeakKeyDictionary()

    def run(
        self,
        model: Model,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        signature: str | None = None,
    ) -> dict[str, Array]:
        """The signature's outputs, or `outputs`, each under the name it was asked for.

        Raises `UsageError` for names, element types and shapes that do not fit, `RunError` where ONNX Runtime fails,
        `UnsupportedError` for a model that is none of ONNX's dialect.
        """
        request = Request(model, feeds, outputs, signature)
        found = self._run(model, request, list(dict.fromkeys(request.fetches.values())))
        return {name: found[value] for name, value in request.fetches.items()}

    def run_all(self, model: Model, feeds: Mapping[str, Any], signature: str | None = None) -> dict[str, Array]:
        """Every tensor of the main graph, by tensor name; those of branches and loops are left out."""
        request = Request(model, feeds, None, signature)
        from graphopt.backends.tensorrt.element_types import note_types

        note_types(model)
        values = [value for node in model.graph if node.op != INITIALIZER for value in node.outputs if value.dtype.code]
        found = self._run(model, request, [value for value in values if not value.is_input])
        return {tensor_name(value): array for value, array in (found | request.feeds).items()}

    def _run(self, model: Model, request: Request, fetched: list[Value]) -> dict[Value, Array]:
        missing = [value.name for value in model.graph.inputs if value not in request.feeds]
        if missing:
            raise UsageError(f"input '{printable(missing[0])}' is not fed")
        passed = {value: request.feeds[value] for value in fetched if value in request.feeds}
        computed = [value for value in fetched if value not in passed]
        session = self._session(model, computed)
        feeds = {value.name: _text(array) if value.dtype is STRING else array for value, array in request.feeds.items()}
        try:
            made = session.run([value.name for value in computed], feeds) if computed else []
        except Exception as error:  # the package raises its own classes, which have no common root
            raise RunError(f"ONNX Runtime failed: {_brief(error)}") from error
        return passed | {value: _plain(array) for value, array in zip(computed, made, strict=True)}

    def _session(self, model: Model, fetched: list[Value]) -> Any:
        """A session that yields `fetched`, which are made outputs of the file where they are none."""
        if model.format != "onnx":
            raise UnsupportedError("ONNX Runtime runs models of ONNX: lower the model first (lower --to onnx)")
        extra = tuple(value.name for value in fetched if not value.is_output)
        state = [(node.op, node.inputs, list(node.attrs.items())) for graph in model.graphs for node in graph]
        kinds = self._held.setdefault(model, {})
        held = kinds.get(extra)
        if held is not None and held[0] == state:
            return held[1]
        outputs = model.graph.outputs
        try:
            model.graph.outputs = [*outputs, *(value for value in fetched if not value.is_output)]
            data = b"".join(onnx_pieces(model))
            is_small = any(value.dtype.name.startswith("float8") for value in _constants(model))
            session = self._created(data, LEVELS[is_small:])
        except (UnsupportedError, UsageError):
            raise
        except Exception as error:
            raise RunError(f"ONNX Runtime does not accept the model: {_brief(error)}") from error
        finally:
            model.graph.outputs = outputs
        kinds[extra] = state, session
        return session

    def _created(self, data: bytes, levels: tuple[str, ...]) -> Any:
        """A session, optimised as the first of `levels` says that yields one."""
        options = self._module.SessionOptions()
        options.log_severity_level = 4
        kept: Exception | None = None
        for level in levels:
            options.graph_optimization_level = getattr(self._module.GraphOptimizationLevel, level)
            try:
                return self._module.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # the package raises its own classes, which have no common root
                kept = kept or error
        assert kept is not None
        raise kept


def _constants(model: Model) -> Iterator[Value]:
    return (node.output for graph in model.graphs for node in graph if node.op == INITIALIZER)


def _text(array: Array) -> Array:
    """Bytes as the text that ONNX Runtime takes."""
    flat = [item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item for item in array.reshape(-1)]
    made = np.empty(len(flat), object)
    made[:] = flat
    return made.reshape(array.shape)


def _plain(found: Any) -> Array:
    """An output; text as bytes, as elsewhere."""
    array = np.asarray(found)
    if array.dtype.kind not in "OU":
        return array
    flat = [item.encode("utf-8", "surrogateescape") for item in array.reshape(-1)]
    made = np.empty(len(flat), object)
    made[:] = flat
    return made.reshape(array.shape)


def _brief(error: Exception) -> str:
    return printable(" ".join(str(error).split()), 400)
