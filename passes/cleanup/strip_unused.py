"""strip-unused: keep what the outputs need, and cut the graph at its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphopt.ir.errors import UsageError, printable
from graphopt.ir.graph import Graph
from graphopt.ir.model import ARGUMENT, Function, computed_inputs
from graphopt.ir.ops import Trait, traits_of
from graphopt.ir.traversal import reachable
from graphopt.ir.types import DTYPES, Shape, TensorType
from graphopt.ir.value import Node, Value
from graphopt.passes.base import Pass, PassContext
from graphopt.passes.removal import is_removable


@dataclass(frozen=True)
class StripUnused(Pass):
    """Remove every node that no output, target or effect needs, and make placeholders of the inputs.

    *Given* the inputs `x`, the outputs `y`

        %a = tf.Placeholder() {dtype = float32}
        %x = tf.Relu(%a)
        %y = tf.Neg(%x)
        %z = tf.Abs(%y)

    *Result*

        %x = tf.Placeholder() {dtype = float32}
        %y = tf.Neg(%x)

    Inputs that nothing reads stay. In a function body, nodes with effects stay. A placeholder made here has the
    type of the value it stands for; `type` and `shape` (`"1,299,299,3"`) set it for all of them, `names` with
    `types` and `shapes` one by one.

    A placeholder for another output than a node's first is called after both (`split_1` for `split:1`), and where
    others still need what a node yields beside an input, the node gets another name (`split/rest`).

    Refuses a graph that has neither outputs nor targets, since all of it would go.
    """

    type: str | None = None
    shape: str | None = None
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()

    def run_graph(self, graph: Graph, context: PassContext) -> None:
        """Strip one graph in place."""
        if isinstance(graph, Function):
            effects = (node for node in graph if node.op != ARGUMENT and not is_removable(node))
            roots = [*(value.node for value in graph.outputs), *graph.targets, *effects]
        else:
            self._cut(graph, context)
            roots = [*(value.node for value in graph.outputs), *graph.targets]
            if not roots:
                context.log.note(f"graph '{printable(graph.name)}' has no outputs: nothing was stripped")
                return
        inputs = dict.fromkeys(value.node for value in graph.inputs)
        needed = reachable([*roots, *inputs])
        unused = [node for node in graph if node not in needed]
        if unused and context.allows(self.name):
            graph.remove_all(unused)
            context.rewrote(self.name, removed=tuple(unused), count=len(unused))

    def _cut(self, graph: Graph, context: PassContext) -> None:
        """Replace what computes an input by a placeholder."""
        overrides = self._overrides()
        for name in overrides:
            if not any(name in (value.node.name, value.name) for value in graph.inputs):
                raise UsageError(f"strip-unused: '{printable(name)}' is not among the inputs")
        computed = computed_inputs(graph.model) if graph.model is not None else {}
        for value in sorted(graph.inputs, key=lambda value: -value.index):  # the first output last: it takes the node
            node = value.node
            if value in computed:
                continue
            named = node.name in overrides or value.name in overrides
            asked = named or self.type is not None or self.shape is not None
            if self._is_source(node) and not named and not (asked and node.op == "tf.Placeholder"):
                continue
            wanted = self._type_of(value, overrides)
            if node.op == "tf.Placeholder" and wanted == value.type:
                continue
            if context.allows("make-placeholder"):
                context.rewrote("make-placeholder", added=(make_placeholder(graph, value, wanted),))

    @staticmethod
    def _is_source(node: Node) -> bool:
        return bool(traits_of(node.op) & Trait.SOURCE)

    def _overrides(self) -> dict[str, tuple[str | None, str | None]]:
        for given, option in ((self.types, "types"), (self.shapes, "shapes")):
            if given and len(given) != len(self.names):
                raise UsageError(f"strip-unused: '{option}' must list one entry for each of 'names'")
        return {
            name: (self.types[place] if self.types else None, self.shapes[place] if self.shapes else None)
            for place, name in enumerate(self.names)
        }

    def _type_of(self, value: Value, overrides: dict[str, tuple[str | None, str | None]]) -> TensorType:
        own_type, own_shape = overrides.get(value.name, overrides.get(value.node.name, (None, None)))
        dtype_name, shape_text = own_type or self.type, own_shape if own_shape is not None else self.shape
        known = value.type
        dtype = known.dtype if dtype_name is None else DTYPES.get(dtype_name)
        if dtype is None or not dtype.code:
            reason = f"'{printable(dtype_name)}' is no element type" if dtype_name else "its element type is not known"
            raise UsageError(f"strip-unused: input '{printable(value.name)}': {reason}; give one with 'type'")
        return TensorType(dtype, known.shape if shape_text is None else parse_shape(shape_text))


def parse_shape(text: str) -> Shape:
    """`"1, -1, 3"` as a shape; empty is a scalar, -1 and `?` are unknown. Raises `UsageError` for anything else."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        dims = [None if part in ("-1", "?") else int(part) for part in parts]
    except ValueError:
        raise UsageError(f"'{printable(text)}' is no shape: expected numbers separated by commas") from None
    if any(dim is not None and dim < 0 for dim in dims):
        raise UsageError(f"'{printable(text)}' is no shape: a dimension is negative")
    return Shape(dims)


def make_placeholder(graph: Graph, value: Value, wanted: TensorType) -> Node:
    """Turn the node of `value`, or one made for it, into a placeholder that whoever read `value` reads."""
    node = value.node
    if value.index or any(extra.use_count or extra.is_output or extra.is_input for extra in node.outputs[1:]):
        return _separate_placeholder(graph, value, wanted)
    node.op, node.attrs = "tf.Placeholder", _attributes(wanted)
    node.extras = None
    node.set_inputs(())
    node.set_control_inputs(())
    node.output.type = wanted
    del node.outputs[1:]
    return node


def _attributes(wanted: TensorType) -> dict[str, Any]:
    """A plain shape: one read from a file may keep odd spellings."""
    dims = wanted.shape.dims
    return {
        "dtype": wanted.dtype,
        "shape": Shape(None if dims is None else (dim if isinstance(dim, int) else None for dim in dims)),
    }


def _separate_placeholder(graph: Graph, value: Value, wanted: TensorType) -> Node:
    """A placeholder in place of `value`, one output of a node that stays; for the first output with the node's name."""
    node = value.node
    name, origins = node.name, node.source_names
    if value.index:
        name = graph.unique_name(f"{name}_{value.index}")
    else:
        graph.rename(node, graph.unique_name(f"{name}/rest"))
    placeholder = graph.create_node(
        "tf.Placeholder", attrs=_attributes(wanted), name=name, types=(wanted,), before=node, origins=origins
    )
    graph.replace_value(value, placeholder.output)
    graph.inputs = tuple(placeholder.output if given is value else given for given in graph.inputs)
    return placeholder
