"""set-shapes: give dynamic dimensions of the inputs their numbers."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.dimensions import Dim
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.infer import dimension_name, forget_shapes, infer_model, name_unknown_dimensions
from graphopt.ir.model import Model
from graphopt.ir.types import Shape
from graphopt.ir.value import Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.cleanup.strip_unused import parse_shape
from graphopt.passes.spec import suggestion


@dataclass(frozen=True)
class SetShapes(Pass):
    """Specialise the inputs: whole shapes, named dimensions, or every dimension that is unknown.

    *Given* `set-shapes{dimensions=["x_0=8"]}`

        %x = tf.Placeholder() {dtype = float32, shape = [?, 3]} : float32[x_0, 3]
        %y = tf.Relu(%x) : float32[x_0, 3]

    *Result*

        %x = tf.Placeholder() {dtype = float32, shape = [8, 3]} : float32[8, 3]
        %y = tf.Relu(%x) : float32[8, 3]

    `shapes` lists `input:dim,dim,…`, where -1 leaves a dimension as it is, `dimensions` lists `name=number`; the
    unknown dimension number k of input x is called `x_k` (as `graphopt inspect` prints it). `unknown` is the number
    for whatever is still unknown after that. Everything that follows from the inputs is inferred anew.

    Refuses inputs and dimensions that do not exist, and shapes that contradict what the model says.
    """

    shapes: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()
    unknown: int | None = None

    def run(self, model: Model, context: PassContext) -> None:
        """Set the shapes of the main graph's inputs in place."""
        graph = model.graph
        name_unknown_dimensions(graph)
        wanted = self._wanted_shapes(graph)
        numbers = self._numbers(graph)
        changed = [value for value in graph.inputs if self._set(value, wanted.get(value.name), numbers, context)]
        if changed:
            forget_shapes(graph)
            infer_model(model)

    def _wanted_shapes(self, graph: Graph) -> dict[str, Shape]:
        names = {value.name: value for value in graph.inputs}
        wanted: dict[str, Shape] = {}
        for entry in self.shapes:
            name, colon, shape = entry.rpartition(":")
            name = name.removesuffix(":0")
            if not colon or name not in names:
                raise UsageError(f"set-shapes: there is no input '{printable(name)}'{suggestion(name, names)}")
            wanted[name] = parse_shape(shape)
        return wanted

    def _numbers(self, graph: Graph) -> dict[str, int]:
        known = dict.fromkeys(
            name
            for value in graph.inputs
            for dim in value.shape.dims or ()
            if dim is not None and not isinstance(dim, int)
            for name in sorted(dim.names)
        )
        numbers: dict[str, int] = {}
        for entry in self.dimensions:
            name, equals, number = entry.partition("=")
            if not equals or not number.isdecimal():
                raise UsageError(f"set-shapes: '{printable(entry)}' is not of the form name=number")
            if name not in known:
                if _is_set_already(graph, name, int(number)):
                    continue
                raise UsageError(f"set-shapes: there is no dimension '{printable(name)}'{suggestion(name, known)}")
            numbers[name] = int(number)
        return numbers

    def _set(self, value: Value, wanted: Shape | None, numbers: dict[str, int], context: PassContext) -> bool:
        shape = value.shape if wanted is None else value.shape.merged(wanted)
        if shape is None:
            raise UsageError(f"set-shapes: input '{printable(value.name)}' has shape {value.shape}, not {wanted}")
        shape = shape.substitute(numbers)
        if self.unknown is not None and shape.dims is not None:
            shape = Shape(dim if isinstance(dim, int) else self.unknown for dim in shape.dims)
        if shape == value.shape or not context.allows(self.name):
            return False
        value.type = value.type.with_shape(shape)
        if "shape" in value.node.attrs or value.node.op == "tf.Placeholder":
            value.node.attrs["shape"] = Shape(None) if shape.dims is None else Shape(map(_written, shape.dims))
        value.node.attrs.pop("_output_shapes", None)
        context.rewrote(self.name, added=(value.node,))
        return True


def _is_set_already(graph: Graph, name: str, number: int) -> bool:
    """The dimension that was called `name` while it was unknown has this number."""
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape.dims or ()):
            if name == dimension_name(value, axis):
                return dim == number
    return False


def _written(dim: Dim) -> Dim:
    return dim if isinstance(dim, int) else None
