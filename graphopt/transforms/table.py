"""The transforms of the Graph Transform Tool as pipelines of passes: one adapter each, with the tool's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from graphopt.ir.attributes import FunctionRef
from graphopt.ir.errors import UsageError, printable
from graphopt.ir.model import Model
from graphopt.ir.types import DTYPES, DType
from graphopt.ir.value import Node
from graphopt.names import close_names
from graphopt.passes.base import Pass
from graphopt.passes.spec import make_pass, parse_pipeline
from graphopt.transforms.grammar import Transform


class Interface(NamedTuple):
    """Nodes of the graph that the declared inputs name, and declared outputs that the graph does not have."""

    inputs: tuple[Node, ...]
    missing_outputs: tuple[str, ...]


Adapter = Callable[[Model, Interface, Transform], Sequence[Pass]]


class Entry(NamedTuple):
    """How a transform becomes passes, and the arguments it takes besides `ignore_errors`."""

    adapter: Adapter
    arguments: tuple[str, ...] = ()


# Transforms of the tool, of its forks and of its past, that have no pass here.
ABSENT = (
    "backport_concatv2",
    "backport_tensor_array_v3",
    "fake_quantize_training",
    "flatten_atrous_conv",
    "fold_batch_norms_algebraic",
    "fold_moments",
    "fold_subdivmul_batch_norms",
    "freeze_requantization_ranges",
    "fuse_pad_and_conv",
    "fuse_quantized_conv_and_requantize",
    "fuse_resize_and_conv",
    "fuse_resize_pad_and_conv",
    "insert_logging",
    "quantize_nodes",
    "quantize_weights",
    "remove_ema",
    "round_weights",
    "sparsify_gather",
)
# Inputs that stay as they are.
FED = frozenset({"tf.Placeholder", "tf.PlaceholderV2", "tf._Arg"})
# Element types under TensorFlow's own names where graphopt's differ.
_TYPE_NAMES = {"float": "float32", "double": "float64", "half": "float16"}


def adapter(item: Transform) -> Adapter:
    """What makes passes of `item`. Raises `UsageError` for a transform that there is not."""
    found = TRANSFORMS.get(item.name)
    if found is not None:
        return found.adapter
    if item.name in ABSENT:
        raise UsageError(f"transform '{item.name}' of transform_graph is not part of this version of graphopt")
    raise UsageError(
        f"transform '{printable(item.name, 80)}' not recognized{close_names(item.name, [*TRANSFORMS, *ABSENT])}"
    )


def known_arguments(name: str) -> tuple[str, ...]:
    """Arguments that the transform `name` takes."""
    return ("ignore_errors", *TRANSFORMS[name].arguments)


# Adapters -----------------------------------------------------------------------------------------------------


def _pipeline(text: str) -> Entry:
    """A transform without arguments."""
    return Entry(lambda model, interface, item: parse_pipeline(text))


def _strip_unused_nodes(model: Model, interface: Interface, item: Transform) -> Sequence[Pass]:
    _require_outputs(model, interface, item)
    types = _by_name(item, "type_for_name")
    shapes = _by_name(item, "shape_for_name")
    default_type, default_shape = item.string("type", ""), item.string("shape", "?")
    cut = [node for node in interface.inputs if node.op not in FED]
    chosen = [_type_for(item, node, types.get(node.name, default_type)) for node in cut]
    return [
        make_pass(
            "strip-unused",
            {
                "names": tuple(node.name for node in cut),
                "types": tuple(dtype.name for dtype in chosen),
                "shapes": tuple(_shape_for(node, shapes.get(node.name, default_shape)) for node in cut),
            },
        )
    ]


def _by_name(item: Transform, argument: str) -> dict[str, str]:
    """`name` -> the value of `argument` that belongs to it."""
    names, values = item.strings("name"), item.strings(argument)
    if len(names) != len(values):
        item.fail(f"needs a '{argument}' for every 'name': it has {len(names)} of one and {len(values)} of the other")
    return dict(zip(names, values, strict=True))


def _type_for(item: Transform, node: Node, text: str) -> DType:
    """The type a placeholder in place of `node` gets: as said, as known, or float."""
    known = node.outputs[0].dtype
    if not text:
        return known if known.code else DTYPES["float32"]
    dtype = DTYPES.get(_TYPE_NAMES.get(text, text))
    if dtype is None or not dtype.code:
        item.fail(f"cannot understand the type '{printable(text)}'")
    if known.code and known is not dtype:
        item.fail(f"cannot make '{printable(node.name)}' a placeholder of {text}: what reads it expects {known.name}")
    return dtype


def _shape_for(node: Node, text: str) -> str:
    """As said; without a word, as known, or a scalar, which is what the tool makes."""
    if text != "?":
        return text
    dims = node.outputs[0].shape.dims or ()
    return ",".join(str(dim) if isinstance(dim, int) else "-1" for dim in dims)


def _require_outputs(model: Model, interface: Interface, item: Transform) -> None:
    if interface.missing_outputs:
        missing = interface.missing_outputs[0]
        hint = close_names(missing, (node.name for node in model.graph))
        item.fail(f"needs the outputs, and there is no '{printable(missing)}' in the graph{hint}")


def _fold_constants(model: Model, interface: Interface, item: Transform) -> Sequence[Pass]:
    _require_outputs(model, interface, item)
    defaulted = []
    for node in interface.inputs:
        if node.op == "tf.PlaceholderWithDefault":
            defaulted.append(node.name)
        elif node.op not in FED:
            item.fail(
                f"expects its inputs to be Placeholder or PlaceholderWithDefault, and '{printable(node.name)}' is "
                f"{node.op_type}; strip_unused_nodes makes placeholders of inputs"
            )
    clear = item.boolean("clear_output_shapes", True)
    fold = {
        "max-bytes": item.integer("max_constant_size_in_bytes", 10 << 20),
        "bound-all": True,
        "grow": True,
        "suffix": "/folded",
        "exclude-operators": tuple(item.strings("exclude_op")),
        "exclude-nodes": tuple(item.strings("exclude_node")),
    }
    return [
        *([make_pass("remove-attribute", {"attribute": "_output_shapes"})] if clear else ()),
        make_pass("infer-shapes", {}),
        make_pass("fold-constants", fold),
        make_pass("strip-unused", {"names": tuple(defaulted)}),
    ]


def _remove_nodes(model: Model, interface: Interface, item: Transform) -> Sequence[Pass]:
    operators = item.strings("op")
    if not operators:
        item.fail("expects at least one 'op' argument, as in remove_nodes(op=Identity)")
    options = {"operators": tuple(operators), "max-inputs": item.integer("max_inputs", 1)}
    return [make_pass("remove-nodes", options)]


def _inline_partitionedcall(model: Model, interface: Interface, item: Transform) -> Sequence[Pass]:
    for node in model.graph:
        if node.op != "tf.PartitionedCall":
            continue
        reference = node.attrs.get("f")
        if not isinstance(reference, FunctionRef):
            item.fail(f"finds no function in attribute 'f' of node '{printable(node.name)}'")
        function = model.functions.get(reference.name)
        if function is None:
            item.fail(f"finds no function '{printable(reference.name)}', which '{printable(node.name)}' calls")
        if len(function.inputs) != node.input_count:
            item.fail(
                f"cannot inline '{printable(node.name)}': it passes {node.input_count} values to "
                f"'{printable(reference.name)}', which takes {len(function.inputs)}"
            )
    return [make_pass("inline-functions", {"levels": 1, "always": True})]


def _rename_node(model: Model, interface: Interface, item: Transform) -> Sequence[Pass]:
    new = item.string("new_node_name")
    if model.graph.find(new) is not None:
        item.fail(f"cannot use the name '{printable(new)}': a node is using it already")
    return [make_pass("rename-node", {"old": item.string("old_node_name"), "new": new})]


def _renamed(pass_name: str, options: Mapping[str, tuple[str, str | None]]) -> Entry:
    """A transform whose arguments are options of one pass: option -> argument and its default."""

    def adapt(model: Model, interface: Interface, item: Transform) -> Sequence[Pass]:
        given = {option: item.string(argument, default) for option, (argument, default) in options.items()}
        return [make_pass(pass_name, given)]

    return Entry(adapt, tuple(argument for argument, _ in options.values()))


def _set_device(model: Model, interface: Interface, item: Transform) -> Sequence[Pass]:
    options = {"device": item.string("device", ""), "if-default": item.boolean("if_default", False)}
    return [make_pass("set-device", options)]


_NORMS = "infer-shapes,fold-batch-norms"
TRANSFORMS: Mapping[str, Entry] = {
    "add_default_attributes": _pipeline("add-default-attributes"),
    "fold_batch_norms": _pipeline(_NORMS),
    "fold_constants": Entry(
        _fold_constants, ("clear_output_shapes", "exclude_op", "exclude_node", "max_constant_size_in_bytes")
    ),
    "fold_old_batch_norms": _pipeline(_NORMS),
    "inline_partitionedcall": Entry(_inline_partitionedcall),
    "merge_duplicate_nodes": _pipeline("merge-duplicates{outputs=false}"),
    "obfuscate_names": _pipeline("obfuscate-names"),
    "obsfucate_names": _pipeline("obfuscate-names"),
    "remove_attribute": _renamed(
        "remove-attribute", {"attribute": ("attribute_name", None), "operator": ("op_name", "*")}
    ),
    "remove_control_dependencies": _pipeline("remove-control-dependencies"),
    "remove_device": _pipeline("set-device"),
    "remove_nodes": Entry(_remove_nodes, ("op", "max_inputs")),
    "rename_attribute": _renamed(
        "rename-attribute",
        {"old": ("old_attribute_name", None), "new": ("new_attribute_name", None), "operator": ("op_name", "*")},
    ),
    "rename_node": Entry(_rename_node, ("old_node_name", "new_node_name")),
    "rename_op": _renamed("rename-operator", {"old": ("old_op_name", None), "new": ("new_op_name", None)}),
    "set_device": Entry(_set_device, ("device", "if_default")),
    "sort_by_execution_order": _pipeline("sort"),
    "strip_unused_nodes": Entry(_strip_unused_nodes, ("type", "shape", "name", "type_for_name", "shape_for_name")),
}
