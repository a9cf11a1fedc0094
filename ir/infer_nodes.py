"""Types that single nodes yield, memoised by operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphopt.ir.errors import printable
from graphopt.ir.known import CONSTANT
from graphopt.ir.ops.inference import InferenceContext, InferenceError
from graphopt.ir.ops.interfaces import Argument, Interface
from graphopt.ir.ops.registry import Operator, find
from graphopt.ir.ops.traits import Trait
from graphopt.ir.tensors import Tensor
from graphopt.ir.types import UNKNOWN_DTYPE, UNKNOWN_SHAPE, DType, Shape, TensorType, unshaped
from graphopt.ir.value import Node, Value

Oracle = Callable[[Node], "Sequence[TensorType] | None"]  # types of an operator that the table does not cover
PLACEHOLDER = "tf.Placeholder"
DIMENSION_LIMIT = (1 << 63) - 1  # beyond which no format writes a dimension
OLD_PLACEHOLDERS = 21  # graphs up to this version write an unknown shape as that of a scalar
# What a shape function raises on attributes or constants that make no sense for its operator.
NONSENSE = (ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError)


class Plan:
    """How the types of an operator's nodes are found; one for each operator."""

    __slots__ = ("_cache", "_defaults", "_interface", "_names", "is_call", "keeps_type", "operator")

    def __init__(self, operator: Operator | None, is_call: bool):
        self.operator, self.is_call = operator, is_call
        interface = self._interface = operator.interface if operator is not None else None
        self._names = _type_attributes(interface) if interface is not None else ()
        self._defaults = interface.defaults if interface is not None else {}
        self._cache: dict[Any, tuple[DType, ...] | None] = {}
        # Elementwise, and the one output is typed as the first input: then equal shapes in mean the same type out.
        self.keeps_type = (
            operator is not None
            and Trait.ELEMENTWISE in operator.traits
            and interface is not None
            and bool(interface.inputs)
            and len(interface.outputs) == 1
            and _same_type(interface.inputs[0], interface.outputs[0])
        )

    def dtypes(self, node: Node) -> tuple[DType, ...] | None:
        """Element types of the outputs as the attributes give them; None where they do not."""
        if self._interface is None:
            return None
        attrs, defaults = node.attrs, self._defaults
        names = self._names
        if len(names) == 1:
            name = names[0]
            key = attrs[name] if name in attrs else defaults.get(name)
        else:
            key = tuple([attrs[name] if name in attrs else defaults.get(name) for name in names])
        try:
            return self._cache[key]
        except KeyError:
            found = self._cache[key] = _declared_dtypes(self._interface, node)
            return found
        except TypeError:  # an attribute of a kind that has no hash, so of a wrong kind
            return _declared_dtypes(self._interface, node)


def _type_attributes(interface: Interface) -> tuple[str, ...]:
    names = [
        name
        for argument in interface.outputs
        for name in (argument.type_attr, argument.number_attr, argument.list_attr)
        if name
    ]
    return tuple(dict.fromkeys(names))


def _same_type(first: Argument, output: Argument) -> bool:
    plain = not (output.number_attr or output.list_attr or output.is_ref or first.is_ref or first.list_attr)
    return plain and first.type_attr == output.type_attr and first.dtype is output.dtype


def _declared_dtypes(interface: Interface, node: Node) -> tuple[DType, ...] | None:
    try:
        return tuple(type.dtype for type in interface.output_types(node.attrs))
    except (KeyError, ValueError):
        return None


class NodeTypes:
    """Types of one node after the other.

    `notes` says, in words, of each node for which something could not be inferred, or contradicts itself, why.
    """

    def __init__(
        self,
        partial: Callable[[Value], Any] | None = None,
        oracle: Oracle | None = None,
        functions: Mapping[str, object] | None = None,
    ):
        self._partial, self._oracle, self._functions = partial, oracle, functions or {}
        self.notes: dict[Node, str] = {}
        self.plans: dict[str, Plan] = {}
        self._interned: dict[tuple[DType, Any], TensorType] = {}

    def plan(self, op: str) -> Plan:
        """The plan of operator `op`."""
        found = self.plans.get(op)
        if found is None:
            operator = find(op)
            is_call = bool(self._functions) and (
                op.partition(".")[2] in self._functions or (operator is not None and Trait.CALL in operator.traits)
            )
            found = self.plans[op] = Plan(operator, is_call)
        return found

    def intern(self, dtype: DType, shape: Shape) -> TensorType:
        """The one type of this dtype and shape."""
        if shape.dims is None:
            return unshaped(dtype)
        key = (dtype, shape.dims)
        found = self._interned.get(key)
        if found is None:
            dims = shape.dims
            if any(type(dim) is int and dim > DIMENSION_LIMIT for dim in dims):
                return self.intern(
                    dtype, Shape(None if isinstance(dim, int) and dim > DIMENSION_LIMIT else dim for dim in dims)
                )
            found = self._interned[key] = TensorType(dtype, shape)
        return found

    def of(self, node: Node) -> list[TensorType]:
        """One type for each output of `node`, from its attributes and what its inputs are known to be."""
        op = node.op
        if op == CONSTANT:
            held = node.attrs.get("value")
            if isinstance(held, Tensor) and node.attrs.get("dtype") is held.dtype and len(node.outputs) == 1:
                return [self.constant(held)]
        plan = self.plans.get(op) or self.plan(op)
        outputs = node.outputs
        dtypes = plan.dtypes(node)
        if dtypes is None or len(dtypes) != len(outputs):
            dtypes = tuple([value.type.dtype for value in outputs])
        shapes = self._shapes(node, plan)
        if shapes is None:
            return self._from_outside(node, dtypes)
        types = [self.intern(dtype, shape) for dtype, shape in zip(dtypes, shapes, strict=True)]
        if "_output_shapes" in node.attrs and any(shape.dims is None for shape in shapes):
            return [
                t if t.shape.dims is not None else h for t, h in zip(types, self._hinted(node, dtypes), strict=True)
            ]
        return types

    def constant(self, held: Tensor) -> TensorType:
        """The type of a constant that holds `held`."""
        found = self._interned.get((held.dtype, held.shape))
        return found if found is not None else self.intern(held.dtype, Shape(held.shape))

    def _shapes(self, node: Node, plan: Plan) -> Sequence[Shape] | None:
        if node.op == PLACEHOLDER:
            return [placeholder_shape(node)]
        operator = plan.operator
        if operator is None or operator.shape is None:
            return None
        try:
            shapes = operator.shape(InferenceContext(node, self._partial))
        except InferenceError as contradiction:
            self.note(node, str(contradiction))
            return None
        except NONSENSE as failure:
            self.note(node, f"its attributes or constants make no sense ({type(failure).__name__}: {failure})")
            return None
        if len(shapes) != len(node.outputs):
            self.note(node, f"has {len(node.outputs)} outputs where its attributes ask for {len(shapes)}")
            return None
        return shapes

    def _from_outside(self, node: Node, dtypes: Sequence[DType]) -> list[TensorType]:
        """Types where the table has no answer: from the oracle, else from what the graph itself claims."""
        if self._oracle is not None:
            found = self._oracle(node)
            if found is not None and len(found) == len(dtypes):
                return [
                    self.intern(dtype if dtype is not UNKNOWN_DTYPE else told.dtype, told.shape)
                    for dtype, told in zip(dtypes, found, strict=True)
                ]
        return self._hinted(node, dtypes)

    def _hinted(self, node: Node, dtypes: Sequence[DType]) -> list[TensorType]:
        hints = node.attrs.get("_output_shapes")
        if type(hints) is tuple and len(hints) == len(dtypes) and all(isinstance(hint, Shape) for hint in hints):
            return [self.intern(dtype, hint) for dtype, hint in zip(dtypes, hints, strict=True)]
        return [unshaped(dtype) for dtype in dtypes]

    def note(self, node: Node, reason: str) -> None:
        """Say why nothing, or something else, was inferred for `node`."""
        if len(self.notes) < NOTE_LIMIT:
            self.notes[node] = f"'{printable(node.name)}' ({node.op_type}): {printable(reason)}"


NOTE_LIMIT = 1000


def placeholder_shape(node: Node) -> Shape:
    """The shape a placeholder declares; old graphs cannot tell a scalar from the unknown, so it is unknown there."""
    shape = node.attrs.get("shape")
    if not isinstance(shape, Shape):
        return UNKNOWN_SHAPE
    model = node.graph.model if node.graph is not None else None
    if shape.dims == () and model is not None and model.format and model.versions[0] <= OLD_PLACEHOLDERS:
        return UNKNOWN_SHAPE
    return shape
