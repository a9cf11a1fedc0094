"""Structural mutants of GraphDefs: nodes dropped, duplicated, rewired, retyped; attributes and functions edited.

Mutants are messages of the project's own protobuf classes, so no TensorFlow is needed. Most of them still load.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from graphopt.ir.formats.protos import graph_pb2
from graphopt.ir.ops.interfaces import interface_names

NUMBERS = (
    -(1 << 63),
    -(1 << 31),
    -2,
    -1,
    0,
    1,
    2,
    3,
    4,
    7,
    16,
    1 << 16,
    (1 << 31) - 1,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
)
DIMS = (-2, -1, -1, 0, 1, 1, 2, 3, 5, 64, 1 << 20, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1)
TYPES = (0, 1, 1, 2, 3, 3, 4, 6, 7, 8, 9, 10, 14, 19, 20, 21, 23, 24, 29, 31, 33, 101, 103)
PORTS = ("", "", ":0", ":1", ":2", ":31", ":65535", ":65536", ":output:0", ":y:0", ":z:0")
SPECIAL = tuple(
    """
    Switch Merge Enter Exit NextIteration LoopCond Placeholder Const NoOp IdentityN PartitionedCall
    StatefulPartitionedCall If While Case SymbolicGradient Identity Reshape Shape Fill Range Tile Pack Unpack
    Split ConcatV2 StridedSlice Pad Cast Add Mul Conv2D MatMul BiasAdd FusedBatchNormV3 Transpose Squeeze
    VarHandleOp ReadVariableOp Einsum
    """.split()  # noqa: SIM905
)
Message = Any


class Mutant(NamedTuple):
    """A serialised GraphDef, and names to load it with (None: let them be found)."""

    data: bytes
    inputs: list[str] | None
    outputs: list[str] | None


class StructureMutator:
    """Makes mutants of serialised GraphDefs, of which the first are chosen most often."""

    def __init__(self, pool: Sequence[bytes]):
        self.pool = []
        for data in pool:
            graph = graph_pb2.GraphDef()
            try:
                graph.ParseFromString(data)
            except Exception:  # DecodeError, whose class depends on the protobuf runtime
                continue
            if graph.node:
                self.pool.append(graph)
        self.operators = interface_names()
        self.edits: tuple[Callable[[random.Random, Message], None], ...] = (
            self.drop_node, self.duplicate_node, self.import_node, self.rename_node,
            self.rewire, self.rewire, self.rewire, self.add_input, self.drop_input, self.swap_inputs,
            self.retype, self.change_operator, self.reorder,
            self.edit_attribute, self.edit_attribute, self.edit_attribute, self.drop_attribute, self.copy_attribute,
            self.edit_tensor, self.edit_tensor, self.edit_tensor, self.reshape, self.reshape,
            self.declare_shapes, self.edit_function, self.edit_function, self.edit_library, self.edit_versions,
            self.call, self.annotate,
        )  # fmt: skip

    def mutant(self, rng: random.Random) -> Mutant:
        """One mutant."""
        graph = graph_pb2.GraphDef()
        graph.CopyFrom(self.pool[int(len(self.pool) * rng.random() ** 1.5)])
        for _ in range(1 + int(rng.expovariate(0.5))):
            rng.choice(self.edits)(rng, graph)
        names = [node.name for node in graph.node if node.name]
        chosen: list[list[str] | None] = [None, None]
        for place in range(2):
            if names and rng.random() < 0.25:
                chosen[place] = [rng.choice(names) + rng.choice(PORTS[:4]) for _ in range(rng.randrange(1, 4))]
        return Mutant(graph.SerializeToString(deterministic=True), *chosen)

    # Nodes ----------------------------------------------------------------------------------------------------

    def nodes(self, rng: random.Random, graph: Message) -> Message:
        """The nodes of the main graph or of a function."""
        functions = graph.library.function
        return rng.choice(functions).node_def if functions and rng.random() < 0.5 else graph.node

    def node(self, rng: random.Random, graph: Message) -> Message:
        nodes = self.nodes(rng, graph)
        return rng.choice(nodes) if nodes else graph.node.add(name="fresh", op="NoOp")

    def drop_node(self, rng: random.Random, graph: Message) -> None:
        nodes = self.nodes(rng, graph)
        if nodes:
            del nodes[rng.randrange(len(nodes))]

    def duplicate_node(self, rng: random.Random, graph: Message) -> None:
        nodes = self.nodes(rng, graph)
        if nodes:
            copy = nodes.add()
            copy.CopyFrom(rng.choice(nodes))
            copy.name += "" if rng.random() < 0.05 else f"_{rng.randrange(9)}"

    def import_node(self, rng: random.Random, graph: Message) -> None:
        """A node of another graph, reading what is here."""
        nodes = self.nodes(rng, graph)
        copy = nodes.add()
        copy.CopyFrom(rng.choice(rng.choice(self.pool).node))
        copy.name = f"imported_{len(nodes)}"
        for place in range(len(copy.input)):
            copy.input[place] = self.reference(rng, nodes)
        if len(nodes) > 1:
            self.read(rng, rng.choice(nodes), copy.name)

    def rename_node(self, rng: random.Random, graph: Message) -> None:
        node = self.node(rng, graph)
        node.name = rng.choice(("", "^a", "a:1", node.name + "/x", "x" * 5000, "\x1b[2J", "<script>", "ä", "..", "\0"))

    def reorder(self, rng: random.Random, graph: Message) -> None:
        nodes = self.nodes(rng, graph)
        listed = list(nodes)
        rng.shuffle(listed)
        copies = [graph_pb2.NodeDef.FromString(node.SerializeToString()) for node in listed]
        del nodes[:]
        nodes.extend(copies)

    def change_operator(self, rng: random.Random, graph: Message) -> None:
        names = [function.signature.name for function in graph.library.function]
        pick = rng.random()
        own = names if names and pick < 0.15 else SPECIAL if pick < 0.6 else self.operators
        self.node(rng, graph).op = rng.choice(own) if pick < 0.97 else "Nonesuch"

    # Edges ----------------------------------------------------------------------------------------------------

    def reference(self, rng: random.Random, nodes: Message) -> str:
        """What a node may read: mostly something that is there."""
        if not nodes or rng.random() < 0.02:
            return rng.choice(("", "^", "nowhere", "nowhere:1", ":0", "a:b:c:d", "^^a"))
        caret = "^" if rng.random() < 0.1 else ""
        return caret + rng.choice(nodes).name + (rng.choice(PORTS) if rng.random() < 0.4 and not caret else "")

    def read(self, rng: random.Random, node: Message, text: str) -> None:
        if node.input and rng.random() < 0.7:
            node.input[rng.randrange(len(node.input))] = text
        else:
            node.input.append(text)

    def rewire(self, rng: random.Random, graph: Message) -> None:
        nodes = self.nodes(rng, graph)
        if nodes:
            node = rng.choice(nodes)
            self.read(rng, node, self.reference(rng, nodes))

    def add_input(self, rng: random.Random, graph: Message) -> None:
        nodes = self.nodes(rng, graph)
        if nodes:
            node = rng.choice(nodes)
            node.input.insert(rng.randrange(len(node.input) + 1), self.reference(rng, nodes))
            if rng.random() < 0.02:
                node.input.extend([self.reference(rng, nodes)] * rng.choice((40, 400, 4000)))

    def drop_input(self, rng: random.Random, graph: Message) -> None:
        node = self.node(rng, graph)
        if node.input:
            del node.input[rng.randrange(len(node.input))]

    def swap_inputs(self, rng: random.Random, graph: Message) -> None:
        node = self.node(rng, graph)
        if len(node.input) > 1:
            a, b = rng.sample(range(len(node.input)), 2)
            node.input[a], node.input[b] = node.input[b], node.input[a]

    # Attributes -----------------------------------------------------------------------------------------------

    def retype(self, rng: random.Random, graph: Message) -> None:
        node = self.node(rng, graph)
        typed = [entry for entry in node.attr if entry.value.WhichOneof("value") == "type"]
        if typed:
            rng.choice(typed).value.type = rng.choice(TYPES)
        if rng.random() < 0.5:
            for entry in node.attr:
                if entry.value.WhichOneof("value") == "tensor":
                    entry.value.tensor.dtype = rng.choice(TYPES)

    def edit_attribute(self, rng: random.Random, graph: Message) -> None:
        node = self.node(rng, graph)
        if not node.attr:
            node.attr.add(key=rng.choice(("T", "N", "shape", "value", "f", "dtype", "_class", "num_split")))
        value = rng.choice(node.attr).value
        kind = value.WhichOneof("value")
        if kind == "i" and rng.random() < 0.9:
            value.i = rng.choice(NUMBERS)
        elif kind == "b" and rng.random() < 0.9:
            value.b = not value.b
        elif kind == "s" and rng.random() < 0.9:
            value.s = rng.choice(
                (b"", b"NCHW", b"NHWC", b"SAME", b"VALID", b"EXPLICIT", b"ab,bc->ac", b"...->", b"\xff", b"x" * 999)
            )
        elif kind == "list" and rng.random() < 0.9:
            self.edit_list(rng, value.list)
        elif kind == "func" and rng.random() < 0.9:
            self.edit_reference(rng, graph, value.func)
        elif kind == "shape" and rng.random() < 0.8:
            self.edit_shape(rng, value.shape)
        else:
            self.another_kind(rng, value)

    def edit_list(self, rng: random.Random, items: Message) -> None:
        for name in ("i", "type", "s", "f", "b"):
            held = getattr(items, name)
            if held and rng.random() < 0.7:
                action = rng.randrange(4)
                if action == 0:
                    del held[rng.randrange(len(held))]
                elif action == 1:
                    held.append(held[-1])
                elif action == 2 and name == "i":
                    held[rng.randrange(len(held))] = rng.choice(NUMBERS)
                elif action == 2 and name == "type":
                    held[rng.randrange(len(held))] = rng.choice(TYPES)
                else:
                    held.extend(list(held) * rng.choice((1, 2, 50)))
                return
        if items.shape and rng.random() < 0.7:
            self.edit_shape(rng, rng.choice(items.shape))
        else:
            items.i.append(rng.choice(NUMBERS))

    def edit_reference(self, rng: random.Random, graph: Message, reference: Message) -> None:
        names = [function.signature.name for function in graph.library.function]
        if rng.random() < 0.7:
            reference.name = rng.choice((*names, *names, "nonesuch", "", "Add"))
        else:
            reference.attr.add(key="T", value=graph_pb2.AttrValue(type=rng.choice(TYPES)))

    def another_kind(self, rng: random.Random, value: Message) -> None:
        kind = rng.randrange(9)
        value.Clear()
        if kind == 0:
            value.i = rng.choice(NUMBERS)
        elif kind == 1:
            value.f = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e-30))
        elif kind == 2:
            value.type = rng.choice(TYPES)
        elif kind == 3:
            value.s = b"x"
        elif kind == 4:
            value.shape.dim.add(size=rng.choice(DIMS))
        elif kind == 5:
            value.list.i.extend(rng.choice(NUMBERS) for _ in range(rng.randrange(5)))
        elif kind == 6:
            value.tensor.dtype = rng.choice(TYPES)
        elif kind == 7:
            value.func.name = "nonesuch"
        else:
            value.placeholder = "T"

    def drop_attribute(self, rng: random.Random, graph: Message) -> None:
        node = self.node(rng, graph)
        if node.attr:
            del node.attr[rng.randrange(len(node.attr))]

    def copy_attribute(self, rng: random.Random, graph: Message) -> None:
        source, target = self.node(rng, graph), self.node(rng, graph)
        if source.attr:
            chosen = rng.choice(source.attr)
            kept = graph_pb2.AttrEntry.FromString(chosen.SerializeToString())
            for place, entry in enumerate(target.attr):
                if entry.key == kept.key:
                    del target.attr[place]
                    break
            target.attr.add().CopyFrom(kept)

    def declare_shapes(self, rng: random.Random, graph: Message) -> None:
        node = self.node(rng, graph)
        value = graph_pb2.AttrValue()
        for _ in range(rng.randrange(3)):
            shape = value.list.shape.add()
            for _ in range(rng.randrange(4)):
                shape.dim.add(size=rng.choice(DIMS))
        node.attr.add(key=rng.choice(("_output_shapes", "shape", "shapes", "output_shapes")), value=value)

    def annotate(self, rng: random.Random, graph: Message) -> None:
        """What nodes carry besides: devices, colocation, origins."""
        node = self.node(rng, graph)
        kind = rng.randrange(3)
        if kind == 0:
            node.device = rng.choice(("/cpu:0", "nonsense", "/device:GPU:99999999999"))
        elif kind == 1:
            target = self.node(rng, graph).name
            value = graph_pb2.AttrValue(list=graph_pb2.AttrValue.ListValue(s=[b"loc:@" + target.encode()]))
            node.attr.add(key="_class", value=value)
        else:
            node.experimental_debug_info.original_node_names.append(self.node(rng, graph).name)

    # Tensors --------------------------------------------------------------------------------------------------

    def edit_shape(self, rng: random.Random, shape: Message) -> None:
        if shape.dim and rng.random() < 0.7:
            rng.choice(shape.dim).size = rng.choice(DIMS)
        elif shape.dim and rng.random() < 0.4:
            del shape.dim[rng.randrange(len(shape.dim))]
        elif rng.random() < 0.3:
            shape.unknown_rank = not shape.unknown_rank
        else:
            times = 1 if rng.random() < 0.95 else rng.choice((30, 60, 250, 300))
            for _ in range(times):
                shape.dim.add(size=rng.choice((0, 1, 1, rng.choice(DIMS))))

    def tensors(self, graph: Message) -> list[Message]:
        bodies = (graph.node, *(function.node_def for function in graph.library.function))
        return [
            entry.value.tensor
            for nodes in bodies
            for node in nodes
            for entry in node.attr
            if entry.value.WhichOneof("value") == "tensor"
        ]

    def reshape(self, rng: random.Random, graph: Message) -> None:
        found = self.tensors(graph)
        if found and rng.random() < 0.5:
            tensor = rng.choice(found)
            self.edit_shape(rng, tensor.tensor_shape)
            if rng.random() < 0.5:
                self.make_splat(rng, tensor)
            return
        node = self.node(rng, graph)
        for entry in node.attr:
            if entry.value.WhichOneof("value") == "shape":
                self.edit_shape(rng, entry.value.shape)

    def make_splat(self, rng: random.Random, tensor: Message) -> None:
        """One value for all elements, however many there are."""
        dtype, shape = tensor.dtype, graph_pb2.TensorShapeProto.FromString(tensor.tensor_shape.SerializeToString())
        tensor.Clear()
        tensor.dtype = dtype
        tensor.tensor_shape.CopyFrom(shape)
        if dtype == 1:
            tensor.float_val.append(rng.choice((0.0, 1.0, -2.5, float("nan"))))
        elif dtype == 3:
            tensor.int_val.append(rng.choice((0, 1, 2, -1, 1 << 30)))
        elif dtype == 9:
            tensor.int64_val.append(rng.choice(NUMBERS))

    def edit_tensor(self, rng: random.Random, graph: Message) -> None:
        found = self.tensors(graph)
        if not found:
            return
        tensor = rng.choice(found)
        if tensor.tensor_content and rng.random() < 0.6:
            width = 8 if tensor.dtype == 9 else 4
            place = rng.randrange(0, len(tensor.tensor_content), width)
            number = rng.choice(NUMBERS) & (1 << 8 * width) - 1
            content = bytearray(tensor.tensor_content)
            content[place : place + width] = number.to_bytes(width, "little")
            tensor.tensor_content = bytes(content)
        elif tensor.tensor_content and rng.random() < 0.3:
            tensor.tensor_content = tensor.tensor_content[: rng.randrange(len(tensor.tensor_content))]
        elif tensor.int_val and rng.random() < 0.8:
            tensor.int_val[rng.randrange(len(tensor.int_val))] = rng.choice(NUMBERS[1:-3])
        elif tensor.int64_val and rng.random() < 0.8:
            tensor.int64_val[rng.randrange(len(tensor.int64_val))] = rng.choice(NUMBERS)
        elif rng.random() < 0.5:
            self.make_splat(rng, tensor)
        else:
            tensor.float_val.append(0.5)

    # Functions and the rest -----------------------------------------------------------------------------------

    def edit_function(self, rng: random.Random, graph: Message) -> None:
        if not graph.library.function:
            return self.rewire(rng, graph)
        function = rng.choice(graph.library.function)
        signature = function.signature
        action = rng.randrange(8)
        if action == 0 and signature.input_arg:
            rng.choice(signature.input_arg).type = rng.choice(TYPES)
        elif action == 1 and signature.input_arg:
            del signature.input_arg[rng.randrange(len(signature.input_arg))]
        elif action == 2 and function.ret and function.node_def:
            rng.choice(function.ret).value = self.reference(rng, function.node_def)
        elif action == 3 and signature.output_arg:
            del signature.output_arg[rng.randrange(len(signature.output_arg))]
        elif action == 4:
            signature.input_arg.add(name=f"extra_{len(signature.input_arg)}", type=rng.choice(TYPES))
        elif action == 5:
            function.attr.add(key=rng.choice(("_noinline", "T", "_input_shapes")), value=graph_pb2.AttrValue(b=True))
        elif action == 6 and function.node_def:
            function.control_ret.add(key="done", value=rng.choice(function.node_def).name)
            signature.control_output.append("done")
        elif signature.output_arg:
            argument = rng.choice(signature.output_arg)
            argument.Clear()
            argument.name, argument.type_attr = "y", rng.choice(("T", "N", ""))
        return None

    def edit_library(self, rng: random.Random, graph: Message) -> None:
        functions = graph.library.function
        if not functions:
            return
        action = rng.randrange(5)
        if action == 0:
            del functions[rng.randrange(len(functions))]
        elif action == 1:
            copy = functions.add()
            copy.CopyFrom(rng.choice(functions))
            copy.signature.name += "" if rng.random() < 0.1 else "_copy"
        elif action == 2:
            rng.choice(functions).signature.name = rng.choice(("", "Add", "renamed", functions[0].signature.name))
        elif action == 3:
            one, other = rng.choice(functions).signature.name, rng.choice(functions).signature.name
            graph.library.gradient.add(function_name=one, gradient_func=other)
        else:
            graph.library.registered_gradients.add(gradient_func=functions[0].signature.name, registered_op_type="Relu")

    def call(self, rng: random.Random, graph: Message) -> None:
        """A call of some function from anywhere, so also of a function by itself."""
        names = [function.signature.name for function in graph.library.function]
        if not names:
            return self.import_node(rng, graph)
        nodes = self.nodes(rng, graph)
        target = rng.choice(graph.library.function).signature
        node = nodes.add(
            name=f"call_{len(nodes)}", op=rng.choice(("PartitionedCall", "StatefulPartitionedCall", target.name))
        )
        for _ in target.input_arg:
            node.input.append(self.reference(rng, nodes))
        node.attr.add(key="f", value=graph_pb2.AttrValue(func=graph_pb2.NameAttrList(name=target.name)))
        for key, arguments in (("Tin", target.input_arg), ("Tout", target.output_arg)):
            listed = graph_pb2.AttrValue.ListValue(type=[argument.type for argument in arguments])
            node.attr.add(key=key, value=graph_pb2.AttrValue(list=listed))
        self.read(rng, rng.choice(nodes), node.name)
        return None

    def edit_versions(self, rng: random.Random, graph: Message) -> None:
        number = rng.choice((-1, 0, 1, 8, 12, 26, 1882, (1 << 31) - 1))
        if rng.random() < 0.7:
            graph.versions.producer = number
        else:
            graph.versions.bad_consumers.append(number)
