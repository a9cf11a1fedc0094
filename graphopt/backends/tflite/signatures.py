"""Signatures: each its own subgraph, equal ones the same; weights are shared by all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from glob import escape
from hashlib import blake2b

from graphopt.backends.tflite.composites import fuse_composites
from graphopt.freezing import freeze_model, select_signature
from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import UnsupportedError
from graphopt.ir.graph import Graph, reachable
from graphopt.ir.model import Function, Model, Signature, copy_nodes
from graphopt.ir.tensors import Tensor
from graphopt.ir.value import Node, Value
from graphopt.passes.cleanup.merge_duplicates import value_key
from graphopt.passes.freeze.selection import variable_nodes
from graphopt.passes.functions.call_graph import callees_first
from graphopt.passes.manager import PassManager

DEFAULT = "serving_default"
SMALL = 4096  # bytes up to which the contents of a tensor count; beyond, which tensor it is
_NAMES = frozenset({"_output_shapes", "_class", "_construction_context", "config", "config_proto", "executor_type"})


def distinct_signatures(model: Model) -> list[tuple[str, ...]]:
    """Names of signatures, those together that compute the same from inputs of the same names; the default one first.

    Raises `UnsupportedError` for a model without signatures.
    """
    if not model.signatures:
        raise UnsupportedError("the model has no signature; name its outputs (--outputs)")
    if len(model.signatures) == 1:
        return [tuple(model.signatures)]
    prints = _Prints(model)
    groups: dict[bytes, list[str]] = {}
    for name, signature in model.signatures.items():
        groups.setdefault(prints.of_signature(signature), []).append(name)
    ordered = sorted(groups.values(), key=lambda names: DEFAULT not in names)
    return [tuple(sorted(names, key=lambda name: name != DEFAULT)) for names in ordered]


def signature_model(model: Model, group: Sequence[str], whole: bool, changed: Sequence[str] = ()) -> Model:
    """A frozen copy of the model with the first signature of `group` alone, which the others are names of.

    `whole` says that the model has no other; variables that are `changed` stay variables. Raises `UnsupportedError` as
    `freeze_model` does.
    """
    part = model.clone()
    fuse_composites(part)
    name = None if whole and len(part.signatures) == 1 else group[0]
    freeze_model(part, signature=name, exceptions=_exceptions(part, group[0], changed))
    first = part.signatures[group[0]]
    part.signatures = dict.fromkeys(group, first)
    return part


def _exceptions(part: Model, signature: str, changed: Sequence[str]) -> list[str]:
    """Patterns of those variables that are `changed` and that the signature needs."""
    if not changed:
        return []
    needed = part.clone()
    select_signature(needed, signature)
    PassManager("strip-unused,remove-unused-functions", verify_each=False).run(needed)
    there = variable_nodes(needed)
    return [escape(name) for name in changed if name in there]


def join(parts: Sequence[Model]) -> Model:
    """One model of several: the graph of the first is the main one, those of the others become functions."""
    model = parts[0]
    for part in parts[1:]:
        renamed = {name: model.unique_function_name(name) for name in part.functions}
        for function in list(part.functions.values()):
            function.name = renamed[function.name]
            _redirect(function, renamed)
            model.add_function(function)
        _redirect(part.graph, renamed)
        name = model.unique_function_name(next(iter(part.signatures)))
        body = _as_function(part.graph, name)
        model.add_function(body)
        for key, signature in part.signatures.items():
            model.signatures[key] = Signature(body, dict(signature.inputs), dict(signature.outputs))
    return model


def _as_function(graph: Graph, name: str) -> Function:
    function = Function(name)
    copies = copy_nodes(graph, function)
    function.inputs = [copies[value.node].outputs[value.index] for value in graph.inputs]
    function.outputs = [copies[value.node].outputs[value.index] for value in graph.outputs]
    function.input_names = [value.name for value in function.inputs]
    function.output_names = [value.name for value in function.outputs]
    return function


def _redirect(graph: Graph, renamed: dict[str, str]) -> None:
    """Let references to functions follow their renaming."""
    if all(old == new for old, new in renamed.items()):
        return
    for node in graph:
        for key, value in node.attrs.items():
            if isinstance(value, FunctionRef):
                node.attrs[key] = FunctionRef(renamed.get(value.name, value.name), value.attrs)
            elif type(value) is tuple and value and isinstance(value[0], FunctionRef):
                node.attrs[key] = tuple(FunctionRef(renamed.get(v.name, v.name), v.attrs) for v in value)


class _Prints:
    """Digests of what graphs compute, names of nodes and functions left out."""

    def __init__(self, model: Model) -> None:
        self.functions: dict[str, bytes] = {}
        for function in callees_first(model):
            self.functions[function.name] = self._digest(function.outputs, function.inputs, list(function))

    def of_signature(self, signature: Signature) -> bytes:
        """What the signature computes, and how its inputs and outputs are called."""
        inputs, outputs = signature.input_values(), signature.output_values()
        fed = dict.fromkeys(value.node for value in inputs.values())
        needed = reachable((value.node for value in outputs.values()), fed.__contains__)
        order = [node for node in signature.graph.topological_order() if node in needed]
        names = repr((list(inputs), list(outputs))).encode()
        return self._digest(tuple(outputs.values()), tuple(inputs.values()), order) + names

    def _digest(self, outputs: Sequence[Value], inputs: Sequence[Value], order: Sequence[Node]) -> bytes:
        known: dict[Node, bytes] = {}
        for place, value in enumerate(inputs):
            known[value.node] = b"input %d %s" % (place, str(value.type).encode())
        for node in order:
            if node not in known:
                known[node] = self._of_node(node, known.get)
        return _hashed([known.get(value.node, b"") + b"%d" % value.index for value in outputs])

    def _of_node(self, node: Node, of: Callable[[Node, bytes], bytes]) -> bytes:
        parts = [node.op.encode()]
        parts += [b"-" if value is None else of(value.node, b"loop") + b"%d" % value.index for value in node.inputs]
        parts += [b"^" + of(control, b"loop") for control in node.control_inputs]
        for key in sorted(node.attrs.keys() - _NAMES):
            parts += [key.encode(), self._of_attribute(node.attrs[key])]
        return _hashed(parts)

    def _of_attribute(self, value: object) -> bytes:
        if isinstance(value, Tensor) and value.nbytes > SMALL:
            return b"tensor %d" % id(value)
        if isinstance(value, FunctionRef):
            return self.functions.get(value.name, value.name.encode())
        return repr(value_key(value)).encode()


def _hashed(parts: Sequence[bytes]) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
