"""LiteRT as an observer: it runs TFLite models fast and shows every float tensor, those of loops' bodies included.

Tensors that are not outputs may share memory, and the delegate that makes LiteRT fast keeps them to itself. So each
graph is run as a copy that also yields every float it computes; LiteRT is then as fast as it is without being watched.

LiteRT runs loops and branches by itself and shows nothing of them. What goes into one is among what the copy yields,
so it is run once more, step by step, as a model of its own: the body on its state, until the condition says stop.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.formats.tflite import write_model
from graphopt.ir.graph import Graph
from graphopt.ir.known import known_tensor
from graphopt.ir.model import Model, callees, clone_graph, copy_nodes
from graphopt.ir.value import Node, Value
from graphopt.runtimes.base import Array, Request, RunError, find_signature
from graphopt.runtimes.litert import import_interpreter
from graphopt.runtimes.observation import See
from graphopt.runtimes.silence import quiet

LARGE = 1 << 28  # bytes of a model beyond which LiteRT maps it from a file instead of having it in memory
THREADS = 4  # at most; LiteRT gains little from more
_SOURCES = frozenset({"tfl.CONSTANT", "tfl.INPUT", "tfl.VARIABLE", "tfl.TENSOR", "tf.Const"})
_LOOPS = frozenset({"tfl.WHILE", "tfl.STABLEHLO_WHILE"})
_BRANCHES = frozenset({"tfl.IF"})
_CALLS = frozenset({"tfl.STABLEHLO_COMPOSITE"})
_STATEFUL = frozenset({"tfl.VAR_HANDLE", "tfl.READ_VARIABLE", "tfl.ASSIGN_VARIABLE", "tfl.HASHTABLE", "tfl.CALL_ONCE"})


class _Call(NamedTuple):
    """A loop, a branch or a call that has been run, and what went into it."""

    node: Node
    inputs: list[Array]


class LiteRTObserver:
    """Runs one signature of a TFLite model and shows its floats. See `Observer`.

    Raises `UnsupportedError` for a model that cannot be written as `.tflite`; `run` raises `RunError` where LiteRT
    fails, and `UsageError` for names, types and shapes that do not fit.
    """

    name = "litert"

    def __init__(self, model: Model, signature: str | None = None):
        self.notes: list[str] = []
        self._model, self._signature = model, signature
        found = find_signature(model, signature)
        self._graph = model.graph if found is None else found.graph
        self._programs: dict[Graph, _Program] = {}
        self._main = self._program(self._graph, is_main=True)

    def run(self, feeds: Mapping[str, Any], see: See, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """See `Observer.run`."""
        request = Request(self._model, feeds, outputs, self._signature)
        missing = [value.name for value in self._graph.inputs if value not in request.feeds]
        if missing:
            raise UsageError(f"input '{printable(missing[0])}' is not fed")
        self._main.invoke([request.feeds[value] for value in self._graph.inputs])
        self._main.show(see)
        found = {name: self._main.fetch(value) for name, value in request.fetches.items()}
        stack = [iter(self._main.calls())]
        while stack:
            call = next(stack[-1], None)
            if call is None:
                stack.pop()
            else:
                stack.append(self._replay(call, see))
        return found

    def reset(self) -> None:
        """See `Observer.reset`."""
        for program in self._programs.values():
            program.reset()

    def _program(self, graph: Graph, *, is_main: bool = False) -> _Program:
        program = self._programs.get(graph)
        if program is None:
            program = self._programs[graph] = _Program(self._model, graph, is_main)
        return program

    def _replay(self, call: _Call, see: See) -> Iterator[_Call]:
        """Run what was called step by step; yields what each step calls in turn."""
        node, arrays = call
        if node.op in _LOOPS:
            condition, body = (self._body(node, f"{which}_subgraph_index") for which in ("cond", "body"))
            while condition is not None and body is not None:
                yield from self._step(condition, arrays, see)
                if not bool(condition.results()[0].reshape(-1)[0]):
                    return
                yield from self._step(body, arrays, see)
                arrays = body.results()
        elif node.op in _BRANCHES:
            branch = self._body(node, f"{'then' if arrays[0].reshape(-1)[0] else 'else'}_subgraph_index")
            if branch is not None:
                yield from self._step(branch, arrays[1:], see)
        else:
            called = self._body(node, "decomposition_subgraph_index")
            if called is not None:
                yield from self._step(called, arrays, see)

    def _step(self, program: _Program, arrays: Sequence[Array], see: See) -> list[_Call]:
        program.invoke(arrays)
        program.show(see)
        return program.calls()

    def _body(self, node: Node, attribute: str) -> _Program | None:
        """The function that a loop or branch runs; None, with a note, for one that cannot be run by itself."""
        reference = node.attrs.get(attribute)
        function = self._model.functions.get(reference.name) if isinstance(reference, FunctionRef) else None
        if function is None:
            raise RunError(f"node '{printable(node.name)}' ({node.op}) refers to a function that is not there")
        if any(item.op in _STATEFUL for item in function) or any(item.dtype.is_handle for item in function.inputs):
            note = f"function '{printable(function.name)}' uses variables of the model and is not seen into"
            if note not in self.notes:
                self.notes.append(note)
            return None
        return self._program(function)


class _Program:
    """One graph as a model of its own that yields all floats, and the interpreter that runs it."""

    def __init__(self, model: Model, graph: Graph, is_main: bool):
        self._graph, self._is_main = graph, is_main
        copy, nodes = _standalone(model, graph)
        self._calls = [node for node in graph if node.op in _LOOPS | _BRANCHES | _CALLS]
        self._seen = [value for node in graph for value in node.outputs if _is_float(value) and _is_readable(value)]
        needed = [*self._seen, *(value for node in self._calls for value in node.inputs if value is not None)]
        listed = dict.fromkeys(graph.outputs)
        listed.update((value, None) for value in needed if value.node.op not in _SOURCES)
        copy.graph.outputs = [nodes[value.node].outputs[value.index] for value in listed]
        written = write_model(copy)
        self._pieces = written.pieces
        self._indices = {
            value: written.indices[other]
            for node, twin in nodes.items()
            for value, other in zip(node.outputs, twin.outputs, strict=True)
            if other in written.indices
        }
        self._interpreter: Any = None
        self._shapes: list[tuple[int, ...]] | None = None
        self._is_plain = not is_main  # the delegate takes long to prepare, and again for each change of shape

    def invoke(self, arrays: Sequence[Array]) -> None:
        """Run on `arrays`, in the order of the graph's inputs. Raises `RunError`."""
        try:
            try:
                self._invoke(arrays)
            except (RuntimeError, ValueError):
                if self._is_plain:
                    raise
                self._is_plain, self._interpreter = True, None
                self._invoke(arrays)
        except (RuntimeError, ValueError, TypeError) as error:
            lines = (line.strip() for line in str(error).splitlines())
            where = f" in '{printable(self._graph.name)}'" if not self._is_main else ""
            raise RunError(f"LiteRT failed{where}: {printable(' '.join(filter(None, lines)), 400)}") from error

    def _invoke(self, arrays: Sequence[Array]) -> None:
        interpreter = self._opened()
        indices = [self._indices[value] for value in self._graph.inputs]
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            known = self._shapes or ()
            for place, (index, shape) in enumerate(zip(indices, shapes, strict=True)):
                if place >= len(known) or shape != known[place]:
                    interpreter.resize_tensor_input(index, list(shape))
            with nullcontext() if self._is_plain else quiet():
                interpreter.allocate_tensors()
            self._shapes = shapes
        for index, array in zip(indices, arrays, strict=True):
            interpreter.set_tensor(index, np.ascontiguousarray(array).reshape(array.shape))
        interpreter.invoke()

    def _opened(self) -> Any:
        if self._interpreter is None:
            module = import_interpreter()
            kinds = module.OpResolverType
            kind = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if self._is_plain else kinds.AUTO
            with quiet(), readable_source(self._pieces) as source:
                self._interpreter = module.Interpreter(
                    **source,
                    experimental_op_resolver_type=kind,
                    num_threads=min(THREADS, os.cpu_count() or 1),
                )
            self._shapes = None
        return self._interpreter

    def show(self, see: See) -> None:
        """Show every float of the last run."""
        for value in self._seen:
            see(value, self._interpreter.tensor(self._indices[value])())

    def fetch(self, value: Value) -> Array:
        """A copy of a value of the last run."""
        return np.array(self._interpreter.get_tensor(self._indices[value]))

    def results(self) -> list[Array]:
        """The graph's outputs."""
        return [self.fetch(value) for value in self._graph.outputs]

    def calls(self) -> list[_Call]:
        """What the last run called, and with what."""
        return [_Call(node, [self._input(value) for value in node.inputs if value is not None]) for node in self._calls]

    def _input(self, value: Value) -> Array:
        held = known_tensor(value)
        return held.numpy() if held is not None else self.fetch(value)

    def reset(self) -> None:
        """Let variables start anew."""
        if self._interpreter is not None:
            self._interpreter.reset_all_variables()


@contextmanager
def readable_source(pieces: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """A model as an argument of the interpreter: its bytes, or a file that is gone once it is mapped."""
    if sum(map(len, pieces)) < LARGE:
        yield {"model_content": b"".join(pieces)}
        return
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.writelines(pieces)
        file.flush()
        yield {"model_path": file.name}


def _standalone(model: Model, graph: Graph) -> tuple[Model, dict[Node, Node]]:
    """`graph` as the main graph of a model of its own, with the functions it needs; original -> copy of its nodes."""
    main = Graph("main")
    main.metadata = dict(graph.metadata)
    nodes = copy_nodes(graph, main)
    main.inputs = [nodes[value.node].outputs[value.index] for value in graph.inputs]
    copy = Model(main)
    pending = [name for node in graph for name in callees(node)]
    while pending:
        name = pending.pop()
        function = model.functions.get(name)
        if function is not None and name not in copy.functions:
            copy.add_function(clone_graph(function))  # type: ignore[arg-type]
            pending += [other for node in function for other in callees(node)]
    copy.metadata, copy.format = dict(model.metadata), model.format
    return copy, nodes


def _is_float(value: Value) -> bool:
    return value.dtype.is_float and value.dtype.bits >= 16


def _is_readable(value: Value) -> bool:
    """Computed, fed or kept: not known beforehand, and not a tensor that only some kernels fill."""
    node = value.node
    if node.op in ("tfl.INPUT", "tfl.VARIABLE"):
        return True
    intermediates = node.attrs.get("_intermediates", 0)
    return node.op not in _SOURCES and value.index < len(node.outputs) - intermediates
