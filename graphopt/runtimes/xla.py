"""The XLA runtime: lowered programs compiled and run by JAX; cost and memory as XLA tells them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from graphopt.backends.xla.bindings import import_jax
from graphopt.backends.xla.exporting import exported, wide_types
from graphopt.backends.xla.program import FORMAT, program_at, program_node, state_at
from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.model import Model, Signature
from graphopt.ir.value import Node
from graphopt.runtimes.base import Array, Request, RunError, find_signature, tensor_name

CACHE = "GRAPHOPT_XLA_CACHE"  # environment variable: the folder in which compiled programs are kept
Shapes = tuple[tuple[int, ...], ...]


class Compiled(NamedTuple):
    """A program compiled for inputs of certain shapes, and its weights on the device."""

    call: Any
    weights: tuple[Any, ...]


class XlaRuntime:
    """Runs models of the `xla` dialect, and others by lowering them first. Programs stay compiled, for each shape.

    `cache` is a folder for compiled programs; by default the one that the environment names, or none.
    """

    name = "xla"

    def __init__(self, cache: str | None = None) -> None:
        self._jax = import_jax()
        self._compiled: WeakKeyDictionary[Model, dict[Node, dict[Shapes, Compiled]]] = WeakKeyDictionary()
        self._lowered: WeakKeyDictionary[Model, tuple[Any, Model]] = WeakKeyDictionary()
        cache = cache if cache is not None else os.environ.get(CACHE)
        if cache:
            self._jax.config.update("jax_compilation_cache_dir", cache)
            self._jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    def run(
        self,
        model: Model,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        signature: str | None = None,
    ) -> dict[str, Array]:
        """The signature's outputs, or `outputs`, each under the name it was asked for.

        Variables of the model that are not fed start anew in each run, and are then among the outputs only where they
        are asked for. Raises `UsageError` for names, element types and shapes that do not fit, `RunError` where XLA
        fails.
        """
        model = self.ready(model)
        request = Request(model, feeds, outputs, signature)
        found = self._signature(model, signature)
        states = {state.input: state for state in state_at(program_node(found))}
        arrays, hidden = [], []
        for name, value in found.input_values().items():
            if value in request.feeds:
                arrays.append(request.feeds[value])
            elif name in states:
                arrays.append(states[name].initial.numpy())
                hidden.append(states[name].output)
            else:
                raise UsageError(f"input '{printable(name)}' is not fed")
        made = self.call(found, arrays)
        by_value = dict(zip(program_node(found).outputs, made, strict=True))
        by_value.update(request.feeds)
        left_out = hidden if outputs is None else ()
        return {name: np.asarray(by_value[value]) for name, value in request.fetches.items() if name not in left_out}

    def run_all(self, model: Model, feeds: Mapping[str, Any], signature: str | None = None) -> dict[str, Array]:
        """Inputs and outputs by tensor name: what lies between them is XLA's own."""
        model = self.ready(model)
        request = Request(model, feeds, None, signature)
        found = self.run(model, feeds, signature=signature)
        named = self._signature(model, signature).output_values()
        made = {tensor_name(value): array for value, array in request.feeds.items()}
        return made | {tensor_name(named[name]): array for name, array in found.items()}

    def ready(self, model: Model) -> Model:
        """`model` in the `xla` dialect: lowered here where it is not, and kept until it changes."""
        if model.format == FORMAT:
            return model
        if model.format in ("tflite", "onnx"):
            raise UnsupportedError("XLA runs TensorFlow models and what was lowered to XLA, not " + model.format)
        state = [(node.op, node.inputs, list(node.attrs.items())) for graph in model.graphs for node in graph]
        held = self._lowered.get(model)
        if held is None or held[0] != state:
            from graphopt.backends.xla.backend import XlaBackend

            held = self._lowered[model] = state, XlaBackend().lower(model).model
        return held[1]

    def call(self, signature: Signature, arrays: Sequence[Array]) -> list[Any]:
        """Run a signature of a lowered model on its inputs in order; the arrays stay on the device."""
        compiled = self.compiled(signature, tuple(array.shape for array in arrays))
        try:
            with wide_types(self._jax):
                return list(compiled.call(*arrays, *compiled.weights))
        except Exception as error:  # JAX raises classes of its own, which have no common root
            raise RunError(f"XLA failed: {_brief(error)}") from error

    def compiled(self, signature: Signature, shapes: Shapes) -> Compiled:
        """The program of a signature, compiled for inputs of these shapes."""
        node = program_node(signature)
        assert signature.graph.model is not None
        known = self._compiled.setdefault(signature.graph.model, {}).setdefault(node, {})
        if shapes not in known:
            weights = next(iter(known.values())).weights if known else None
            known[shapes] = self._compile(node, signature, shapes, weights)
        return known[shapes]

    def cost(self, model: Model, feeds: Mapping[str, Any], signature: str | None = None) -> dict[str, Any]:
        """What XLA says a run costs: operations, bytes moved, and bytes of arguments, outputs and scratch memory."""
        model = self.ready(model)
        request = Request(model, feeds, None, signature)
        found = self._signature(model, signature)
        shapes = tuple(request.feeds[value].shape for value in found.input_values().values())
        call = self.compiled(found, shapes).call
        analysis = call.cost_analysis() or {}
        analysis = analysis[0] if isinstance(analysis, list) else analysis
        memory = call.memory_analysis()
        result = {"flops": analysis.get("flops"), "bytes_accessed": analysis.get("bytes accessed")}
        for name in ("argument", "output", "temp", "generated_code"):
            result[f"{name}_bytes"] = getattr(memory, f"{name}_size_in_bytes", None)
        return result

    def _compile(self, node: Node, signature: Signature, shapes: Shapes, weights: tuple[Any, ...] | None) -> Compiled:
        jax = self._jax
        program = program_at(node, signature, ("main",))
        try:
            with wide_types(jax):
                if weights is None:
                    weights = tuple(jax.device_put(held.numpy()) for held in program.weights.values())
                structs = [
                    jax.ShapeDtypeStruct(shape, kind.dtype.numpy)
                    for shape, kind in zip(shapes, program.inputs.values(), strict=True)
                ]
                made = jax.export.deserialize(bytearray(program.exported)) if program.exported else exported(program)

                def flat(*arrays: Any) -> list[Any]:
                    arguments, keywords = jax.tree_util.tree_unflatten(made.in_tree, arrays)
                    return list(jax.tree_util.tree_leaves(made.call(*arguments, **keywords)))

                call = jax.jit(flat).lower(*structs, *weights).compile()
        except (UnsupportedError, UsageError):
            raise
        except Exception as error:  # as above
            raise RunError(f"XLA does not compile the model: {_brief(error)}") from error
        return Compiled(call, weights)

    def _signature(self, model: Model, name: str | None) -> Signature:
        found = find_signature(model, name)
        if found is None:
            raise UsageError("the model has no signature")
        return found


def _brief(error: Exception) -> str:
    return printable(" ".join(str(error).split()), 400)
