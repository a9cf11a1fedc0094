"""Which signatures of a model compute the same, and which of them are to be lowered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import UnsupportedError, UsageError, printable
from graphopt.ir.model import Model, Signature
from graphopt.ir.tensors import Tensor
from graphopt.ir.traversal import reachable
from graphopt.ir.value import Node, Value
from graphopt.passes.cleanup.merge_duplicates import value_key
from graphopt.passes.functions.call_graph import callees_first
from graphopt.passes.spec import suggestion

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


def chosen_signatures(groups: Sequence[tuple[str, ...]], wanted: Sequence[str]) -> list[tuple[str, ...]]:
    """The groups of equal signatures with those that are wanted, all if none is named.

    Raises `UsageError` for one that there is not.
    """
    if not wanted:
        return list(groups)
    there = [name for group in groups for name in group]
    for name in wanted:
        if name not in there:
            raise UsageError(f"there is no signature '{printable(name)}'{suggestion(name, there)}")
    kept = (tuple(name for name in group if name in wanted) for group in groups)
    return [group for group in kept if group]


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
