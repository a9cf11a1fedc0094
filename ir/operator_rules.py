"""A node against its operator's interface: kinds of attributes, numbers and types of inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphopt.ir.attributes import AttributePlaceholder, FunctionRef, SingleFloat
from graphopt.ir.errors import printable
from graphopt.ir.ops.interfaces import Interface, interface
from graphopt.ir.tensors import ArrayTensor, FileTensor, PackedTensor, RepeatedTensor, Tensor
from graphopt.ir.types import DType, Shape, TensorType, dereferenced
from graphopt.ir.value import Node

Report = Callable[[Node, str], None]

# Operators that run functions: their function attributes, and the first data input that is passed on.
CALLS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "tf.PartitionedCall": (("f",), 0),
    "tf.StatefulPartitionedCall": (("f",), 0),
    "tf.If": (("then_branch", "else_branch"), 1),
    "tf.StatelessIf": (("then_branch", "else_branch"), 1),
    "tf.Case": (("branches",), 1),
    "tf.StatelessCase": (("branches",), 1),
    "tf.While": (("cond", "body"), 0),
    "tf.StatelessWhile": (("cond", "body"), 0),
}

_TENSORS = (ArrayTensor, FileTensor, PackedTensor, RepeatedTensor)
_KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, SingleFloat),
    "bool": (bool,),
    "string": (bytes,),
    "type": (DType,),
    "shape": (Shape,),
    "tensor": _TENSORS,
    "func": (FunctionRef,),
}
_SCALARS = frozenset(kind for kinds in _KINDS.values() for kind in kinds) | {AttributePlaceholder, type(None)}
_ANY = _SCALARS | {tuple}
_DECLARED: Mapping[str, frozenset[type]] = {
    **{name: frozenset((*types, AttributePlaceholder, type(None))) for name, types in _KINDS.items()},
    **{f"list({name})": frozenset((tuple, AttributePlaceholder, type(None))) for name in _KINDS},
}


class Operator:
    """What an operator asks of its nodes, with the combinations that were found right before."""

    __slots__ = ("accepted", "calls", "deciding", "is_function", "kinds", "known")

    def __init__(self, op: str, functions: Mapping[str, Any]):
        dialect, _, op_type = op.partition(".")
        self.is_function = op_type in functions
        self.known: Interface | None = interface(op_type) if dialect == "tf" and not self.is_function else None
        arguments = (*self.known.inputs, *self.known.outputs) if self.known is not None else ()
        deciding = (name for a in arguments for name in (a.type_attr, a.number_attr, a.list_attr) if name)
        self.deciding = tuple(dict.fromkeys(deciding))
        declared = self.known.attr_kinds if self.known is not None else {}
        self.kinds = {name: _DECLARED.get(kind, _ANY) for name, kind in declared.items()}
        self.accepted: set[tuple[Any, ...]] = set()
        self.calls = CALLS.get(op)


class OperatorRules:
    """What operators ask of their nodes, learnt once in a verification; `report` gets what is wrong with a node."""

    __slots__ = ("_functions", "_operators", "_report")

    def __init__(self, functions: Mapping[str, Any], report: Report):
        self._functions, self._report = functions, report
        self._operators: dict[str, Operator] = {}

    def check(self, node: Node) -> Operator | None:
        """Check one node; its operator if it calls functions, which the caller has to look up."""
        operator = self._operators.get(node.op)
        if operator is None:
            operator = self._operators[node.op] = Operator(node.op, self._functions)
        attrs = node.attrs
        calls = operator.is_function
        kinds = operator.kinds
        for name, value in attrs.items():
            kind = type(value)
            if kind not in kinds.get(name, _ANY):
                self._check_kind(node, name, value, operator)
            elif kind is tuple:
                calls = self._check_list(node, name, value, operator) or calls
            elif kind is FunctionRef:
                calls = True
        if operator.known is not None:
            inputs = [None if v is None else v.type.dtype for v in node._inputs]
            key = (*map(attrs.get, operator.deciding), *inputs, None, *[v.type.dtype for v in node.outputs])
            try:
                known = key in operator.accepted
            except TypeError:  # an attribute of a kind that was reported above
                return None
            if not known and self._check_types(node, operator.known):
                operator.accepted.add(key)
        if node.op == "tf.Const":
            self._check_constant(node)
        return operator if calls else None

    def _check_kind(self, node: Node, name: str, value: Any, operator: Operator) -> None:
        declared = operator.known.attr_kinds.get(name) if operator.known is not None else None
        if isinstance(value, Tensor) and declared in (None, "tensor"):
            return  # an implementation of somebody else's
        wanted = f"where {declared} is declared" if declared else "which is no attribute value"
        self._report(node, f"has a {type(value).__name__} as attribute '{printable(name)}', {wanted}")

    def _check_list(self, node: Node, name: str, value: tuple[Any, ...], operator: Operator) -> bool:
        """Whether the list refers to functions."""
        declared = operator.known.attr_kinds.get(name) if operator.known is not None else None
        legal = _DECLARED.get(declared[5:-1], _SCALARS) if declared is not None else _SCALARS
        for item in value:
            if type(item) not in legal and not isinstance(item, Tensor):
                self._report(node, f"has a {type(item).__name__} in the list of attribute '{printable(name)}'")
                return False
        return bool(value) and type(value[0]) is FunctionRef

    def _check_types(self, node: Node, known: Interface) -> bool:
        """Whether number and types of inputs and outputs are those the interface gives for the attributes."""
        if any(type(value) is AttributePlaceholder for value in node.attrs.values()):
            return True  # a generic body: its instantiation decides
        right = True
        try:
            wanted_inputs = known.input_types(node.attrs)
            wanted_outputs = [type.dtype for type in known.output_types(node.attrs)]
        except KeyError:
            return True  # an old graph that leaves it open
        except ValueError as error:
            self._report(node, f"is absurd: {error}")
            return False
        for what, wanted, found in (
            ("input", wanted_inputs, [None if v is None else v.type.dtype for v in node._inputs]),
            ("output", wanted_outputs, [v.type.dtype for v in node.outputs]),
        ):
            if len(wanted) != len(found):
                self._report(node, f"has {len(found)} {what}s, and its attributes ask for {len(wanted)}")
                right = False
                continue
            for index, (want, have) in enumerate(zip(wanted, found, strict=True)):
                if not (have is want or agree(want, have)):
                    self._report(node, f"has {have} as {what} {index}, and its attributes ask for {want}")
                    right = False
        return right

    def _check_constant(self, node: Node) -> None:
        held, dtype = node.attrs.get("value"), node.attrs.get("dtype")
        if not isinstance(held, Tensor):
            return
        if isinstance(dtype, DType) and dtype is not held.dtype:
            self._report(node, f"holds a tensor of {held.dtype} under dtype = {dtype}")
        if node.outputs and not _holds(node.outputs[0].type, held):
            self._report(node, f"holds a tensor of {held.dtype}{list(held.shape)} under type {node.outputs[0].type}")


def agree(wanted: DType, have: DType | None) -> bool:
    """A value of type `have` may stand where `wanted` is asked for."""
    if have is None:
        return False
    return have is wanted or not have.code or not wanted.code or dereferenced(have) is wanted


def _holds(type: TensorType, held: Tensor) -> bool:
    return agree(type.dtype, held.dtype) and type.shape.merged(Shape(held.shape)) is not None
