"""What every runtime offers: run a model, or run it and keep every intermediate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graphopt.ir.errors import Error, UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model, Signature
from graphopt.ir.types import STRING, DType, dereferenced
from graphopt.ir.value import Node, Value

Array = np.ndarray[Any, Any]
DEFAULT_SIGNATURE = "serving_default"


class RunError(Error):
    """The model could not be run on these inputs; the message names node and operator."""

    exit_status = 3


class Runtime(Protocol):
    """Runs models. Feeds and outputs go by the signature's names or by tensor names, with or without `:0`."""

    name: str

    def run(
        self,
        model: Model,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        signature: str | None = None,
    ) -> dict[str, Array]:
        """The signature's outputs, or `outputs`, each under the name it was asked for.

        A name of a node without outputs runs it for its effect. Strings come as arrays of bytes objects. Raises
        `UsageError` for names, element types and shapes that do not fit the model, `RunError` where it fails.
        """
        ...

    def run_all(self, model: Model, feeds: Mapping[str, Any], signature: str | None = None) -> dict[str, Array]:
        """Every tensor on the way to the signature's outputs, by tensor name; of a v1 loop's, the last iteration."""
        ...


class Request:
    """A run, resolved: which values are fed with what, which are fetched, which nodes run for their effect."""

    __slots__ = ("feeds", "fetches", "graph", "targets")

    def __init__(
        self,
        model: Model,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        signature: str | None = None,
    ):
        found = find_signature(model, signature)
        self.graph: Graph = found.graph if found is not None else model.graph
        inputs = found.input_values() if found is not None else {}
        self.feeds: dict[Value, Array] = {}
        for name, array in feeds.items():
            value = inputs[name] if name in inputs else self.graph.value(name)
            self.feeds[value] = checked_feed(value, array, name)
        self.fetches: dict[str, Value] = {}
        self.targets: list[Node] = []
        named = found.output_values() if found is not None else {value.name: value for value in self.graph.outputs}
        if outputs is None:
            self.fetches = named
            self.targets = list(self.graph.targets) if not named else []
        else:
            self._choose(outputs, named)

    def _choose(self, outputs: Sequence[str], named: Mapping[str, Value]) -> None:
        for name in outputs:
            node = self.graph.find(name)
            if name in named:
                self.fetches[name] = named[name]
            elif node is not None and not node.outputs:
                self.targets.append(node)
            else:
                self.fetches[name] = self.graph.value(name)


def find_signature(model: Model, name: str | None) -> Signature | None:
    """The signature called `name`; without a name the default or the only one, None for a model without any.

    Raises `UsageError` where there is no such signature, or several and none of them the default.
    """
    signatures = model.signatures
    known = ", ".join(f"'{printable(item)}'" for item in signatures) or "none"
    if name is not None:
        if name not in signatures:
            raise UsageError(f"there is no signature '{printable(name)}'; the model has {known}")
        return signatures[name]
    if DEFAULT_SIGNATURE in signatures:
        return signatures[DEFAULT_SIGNATURE]
    if len(signatures) > 1:
        raise UsageError(f"the model has several signatures, say which one to run: {known}")
    return next(iter(signatures.values()), None)


def tensor_name(value: Value) -> str:
    """The tensor's name as GraphDef has it, always with its port."""
    return f"{value.node.name}:{value.index}"


def checked_feed(value: Value, given: Any, name: str) -> Array:
    """`given` as an array of the element type of `value`. Raises `UsageError` where type or shape do not fit."""
    dtype = dereferenced(value.type.dtype)
    if dtype.numpy is None:
        raise UsageError(f"'{printable(name)}' is a {dtype.name}, which no array can stand for")
    array = _as_array(given, dtype)
    if array.dtype != dtype.numpy and np.can_cast(array.dtype, dtype.numpy, "safe"):
        array = array.astype(dtype.numpy)
    if array.dtype != dtype.numpy:
        raise UsageError(f"'{printable(name)}' takes {dtype.name}, not {array.dtype}: convert the array first")
    dims = value.type.shape.dims
    fits = dims is None or (
        len(dims) == array.ndim
        and all(not isinstance(dim, int) or dim == size for dim, size in zip(dims, array.shape, strict=True))
    )
    if not fits:
        raise UsageError(f"'{printable(name)}' takes shape {value.type.shape}, not {list(array.shape)}")
    return array


def _as_array(given: Any, dtype: DType) -> Array:
    """Lists and Python numbers take the element type asked for; arrays keep theirs."""
    if dtype is STRING:
        array = np.asarray(given, dtype=object)
        encoded = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1)]
        result = np.empty(len(encoded), dtype=object)
        result[:] = encoded
        return result.reshape(array.shape)
    return np.asarray(given) if isinstance(given, (np.ndarray, np.generic)) else np.asarray(given, dtype.numpy)


def get_runtime(name: str) -> Runtime:
    """The runtime called `name`: `reference`, `tensorflow`, `litert`, `onnxruntime` or `xla`.

    Raises `UsageError` for any other name, and where the runtime needs a package that is not installed.
    """
    if name == "reference":
        from graphopt.runtimes.reference import ReferenceRuntime

        return ReferenceRuntime()
    if name == "tensorflow":
        from graphopt.runtimes.tensorflow import TensorFlowRuntime

        return TensorFlowRuntime()
    if name == "litert":
        from graphopt.runtimes.litert import LiteRTRuntime

        return LiteRTRuntime()
    if name == "onnxruntime":
        from graphopt.runtimes.onnxruntime import OnnxRuntime

        return OnnxRuntime()
    if name == "xla":
        from graphopt.runtimes.xla import XlaRuntime

        return XlaRuntime()
    there = "'reference', 'tensorflow', 'litert', 'onnxruntime' and 'xla'"
    raise UsageError(f"there is no runtime '{printable(name)}'; there are {there}")
