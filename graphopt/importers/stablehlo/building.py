"""Builds one graph of TensorFlow's operators: types are inferred on the way, small integers are computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.backends.legalization import CannotLowerError
from graphopt.importers.stablehlo.operand import Operand, Reduction, fits
from graphopt.ir.dimensions import Dim
from graphopt.ir.graph import Graph
from graphopt.ir.infer_nodes import NONSENSE, NodeTypes
from graphopt.ir.known import CONSTANT, constant_type, known_array
from graphopt.ir.ops import Trait, attributes, find
from graphopt.ir.ops.derive import derived_attributes
from graphopt.ir.shape_values import ShapeValues
from graphopt.ir.tensors import Tensor, tensor
from graphopt.ir.types import BOOL, INT32, DType, Shape, TensorType
from graphopt.ir.value import Node, Value

FOLDED = 1 << 14  # elements up to which integers are computed at once
FEW = 64  # elements up to which integers that follow from sizes are looked for
SPELLED_OUT = 1 << 10  # elements up to which a repeated constant is written out
_KEPT = Trait.STATEFUL | Trait.RANDOM | Trait.CONTROL_FLOW | Trait.CALL


class Builder:
    """One graph under construction."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.partial = ShapeValues()
        self.types = NodeTypes(self.partial)
        self.reductions: dict[Value, Reduction] = {}
        self.name = ""  # of the operation under translation, and where it came from
        self.origins: tuple[str, ...] = ()
        self.created: list[Node] = []  # by that operation
        self._constants: dict[tuple[Any, ...], Value] = {}
        self._full: dict[tuple[Value, tuple[Dim, ...]], Value] = {}
        self._twins: dict[tuple[str, Value, tuple[int, ...]], Value] = {}

    # Nodes ----------------------------------------------------------------------------------------------------

    def node(
        self,
        op: str,
        inputs: Iterable[Value],
        attrs: Mapping[str, Any] | None = None,
        types: Sequence[TensorType] | None = None,
    ) -> Node:
        """A node of TensorFlow's operator `op`, typed."""
        values = tuple(inputs)
        full = f"tf.{op}"
        operator = find(full)
        assert operator is not None
        assert operator.interface is not None, op
        merged = derived_attributes(operator.interface, [value.dtype for value in values], attrs or {})
        made = self.graph.create_node(
            full, values, merged, name=self.name or op, origins=self.origins,
            types=types if types is not None else operator.interface.output_types(merged),
        )  # fmt: skip
        self.created.append(made)
        if types is None:
            for value, kind in zip(made.outputs, self.types.of(made), strict=True):
                value.type = kind
        return made

    def value(self, op: str, *inputs: Value, **attrs: Any) -> Value:
        """The first output of a node, or a constant where integers are all there is to it."""
        made = self.node(op, inputs, attrs)
        folded = self._folded(made)
        if folded is None:
            return made.output
        self.created.pop()
        self.graph.remove(made)
        return self.constant(folded)

    def _folded(self, node: Node) -> np.ndarray[Any, Any] | None:
        """What a node yields, if it is small, of whole numbers, and all its inputs are constants."""
        operator = find(node.op)
        kind, size = node.output.dtype.kind, node.output.shape.size
        if kind not in ("int", "uint", "bool") or not isinstance(size, int) or size > FOLDED:
            return None
        if operator is None or operator.evaluate is None or operator.traits & _KEPT or len(node.outputs) != 1:
            return None
        arrays = [known_array(value, FOLDED * 8) for value in node.inputs if value is not None]
        if any(array is None for array in arrays):
            return self.partial.array(node.output) if kind != "bool" and size <= FEW else None
        try:
            with np.errstate(all="ignore"):
                found = operator.evaluate(attributes(node), *arrays)
        except NONSENSE:
            return None
        array = np.asarray(found[0] if isinstance(found, (list, tuple)) else found)
        return array if array.dtype == node.output.dtype.numpy else None

    # Constants ------------------------------------------------------------------------------------------------

    def constant(self, data: Any, dtype: DType | None = None) -> Value:
        """A constant; equal small ones are one."""
        held = data if isinstance(data, Tensor) else tensor(np.asarray(data), dtype)
        key = held.fingerprint() if held.nbytes <= 256 else (id(held),)
        found = self._constants.get(key)
        if found is None:
            attrs = {"dtype": held.dtype, "value": held}
            node = self.graph.create_node(
                CONSTANT, attrs=attrs, name=f"{self.name}/constant" if self.name else "constant",
                types=(constant_type(held),), origins=self.origins,
            )  # fmt: skip
            found = self._constants[key] = node.output
        return found

    def integers(self, numbers: Any) -> Value:
        """A constant of int32: a vector, or a scalar for a number."""
        return self.constant(np.asarray(numbers, np.int32))

    def scalar(self, number: Any, dtype: DType) -> Value:
        """A constant scalar of the type `dtype`."""
        return self.constant(np.asarray(number).astype(dtype.numpy))

    # Shapes ---------------------------------------------------------------------------------------------------

    def operand(self, value: Value, dims: Sequence[Dim] | None = None) -> Operand:
        """A value with nothing left to broadcast; what inference did not find, `dims` may say."""
        held = value.shape.dims
        if dims is not None:
            merged = Shape(dims) if held is None else value.shape.merged(Shape(dims))
            if merged is None:
                raise CannotLowerError(f"its shape would be {value.shape}, where it is declared as {Shape(dims)}")
            if merged != value.shape:
                value.type = value.type.with_shape(merged)
            held = merged.dims
        if held is None:
            raise CannotLowerError("its rank is not known")
        return Operand(value, held)

    def sizes(self, operand: Operand) -> Value:
        """The shape of an operand as a vector of int32."""
        numbers = [dim for dim in operand.dims if isinstance(dim, int)]
        if len(numbers) == len(operand.dims):
            return self.integers(numbers)
        if operand.is_full:
            return self.value("Shape", operand.value, out_type=INT32)
        if operand.size_source is None:
            raise CannotLowerError("the sizes it is broadcast to are not known")
        return operand.size_source

    def size(self, operand: Operand, axis: int) -> Value:
        """One size as a scalar of int32."""
        dim = operand.dims[axis]
        if isinstance(dim, int):
            return self.integers(dim)
        return self.element(self.sizes(operand), axis)

    def element(self, vector: Value, place: int) -> Value:
        """One element of a vector as a scalar."""
        known = known_array(vector, 1 << 16)
        if known is not None:
            return self.constant(np.asarray(known.reshape(-1)[place]))
        return self.value(
            "StridedSlice", vector, self.integers([place]), self.integers([place + 1]), self.integers([1]),
            shrink_axis_mask=1,
        )  # fmt: skip

    def full(self, operand: Operand) -> Value:
        """The value broadcast to the operand's whole shape."""
        if operand.is_full:
            return operand.value
        key = operand.value, operand.dims
        found = self._full.get(key)
        if found is None:
            found = self._full[key] = self._broadcast(operand)
            if found.shape.merged(Shape(operand.dims)) is not None:
                found.type = found.type.with_shape(found.shape.merged(Shape(operand.dims)) or found.shape)
        return found

    def _broadcast(self, operand: Operand) -> Value:
        if fits(Shape(operand.padded_dims), operand.dims):  # only axes of one element are missing
            return self.reshaped(operand.value, operand.padded_dims)
        static = Shape(operand.dims).static
        number = operand.number
        if static is not None and number is not None and int(np.prod(static)) <= SPELLED_OUT:
            return self.constant(np.full(static, number))
        if operand.is_scalar:
            return self.value("Fill", self.sizes(operand), self.reshaped(operand.value, ()))
        if static is not None and operand.dtype is BOOL:  # TensorFlow Lite does not broadcast truth values
            tiles = [1 if held == dim else dim for held, dim in zip(operand.padded_dims, static, strict=True)]
            return self.value("Tile", self.reshaped(operand.value, operand.padded_dims), self.integers(tiles))
        return self.value("BroadcastTo", operand.value, self.sizes(operand))

    def reshaped(self, value: Value, dims: Sequence[Dim], sizes: Value | None = None) -> Value:
        """A value in another shape. `sizes` is that shape as a vector, needed where two dimensions are no numbers."""
        if value.shape.dims == tuple(dims):
            return value
        unknown = [place for place, dim in enumerate(dims) if not isinstance(dim, int)]
        if len(unknown) <= 1 and 0 not in dims:
            wanted = [dim if isinstance(dim, int) else -1 for dim in dims]
            made = self.value("Reshape", value, self.integers(wanted))
        elif sizes is not None:
            made = self.value("Reshape", value, sizes)
        elif not unknown:
            made = self.value("Reshape", value, self.integers(list(dims)))
        else:
            made = self._same_elements(value, dims)
        merged = made.shape.merged(Shape(dims))
        if merged is not None:
            made.type = made.type.with_shape(merged)
        return made

    def _same_elements(self, value: Value, dims: Sequence[Dim]) -> Value:
        """Reshape where only ones come and go: sizes are those of the value's own axes, in order."""
        own = [axis for axis, dim in enumerate(value.shape.dims or ()) if dim != 1]
        wanted = [place for place, dim in enumerate(dims) if dim != 1]
        if len(own) != len(wanted):
            raise CannotLowerError("more than one of its sizes is not known")
        shape = self.value("Shape", value, out_type=INT32)
        places = dict(zip(wanted, own, strict=True))
        parts = [self.element(shape, places[p]) if p in places else self.integers(1) for p in range(len(dims))]
        return self.value("Reshape", value, self.stacked(parts))

    def stacked(self, scalars: Sequence[Value]) -> Value:
        """Scalars as a vector."""
        return self.value("Pack", *scalars, axis=0) if scalars else self.integers([])

    def transposed(self, value: Value, permutation: Sequence[int]) -> Value:
        """A value with its axes in another order."""
        if list(permutation) == list(range(len(permutation))):
            return value
        dims = value.shape.dims or ()
        moved = [axis for axis in permutation if dims[axis] != 1]
        if moved == sorted(moved):  # only axes of one element change their places
            return self.reshaped(value, [dims[axis] for axis in permutation])
        return self.value("Transpose", value, self.integers(list(permutation)))

    def cast(self, value: Value, dtype: DType) -> Value:
        """A value in another element type."""
        return value if value.dtype is dtype else self.value("Cast", value, DstT=dtype)

    # Reductions -----------------------------------------------------------------------------------------------

    def reduced(self, kind: str, source: Value, axes: Sequence[int], keeps: bool = False) -> Value:
        """`Sum`, `Max` and the like over some axes; remembered, for whoever wants the same with its axes kept."""
        key = f"{kind}{keeps}", source, tuple(axes)
        found = self._twins.get(key)
        if found is None:
            found = self._twins[key] = self.value(kind, source, self.integers(list(axes)), keep_dims=keeps)
            self.reductions[found] = Reduction(kind, source, tuple(axes), keeps)
        return found
