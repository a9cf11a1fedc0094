"""Small files that ask for much: GraphDefs that have cost other readers gigabytes, minutes or their stack."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from graphopt.ir.formats import wire

FLOAT, INT32, STRING, INT64 = 1, 3, 7, 9


class Bomb(NamedTuple):
    """How to make a file, and whether it must be optimised or refused, and with what words."""

    make: Callable[[], bytes]
    refused: str | None = None  # words of the refusal; None: it must load and pass the optimiser
    deep: bool = False
    grows: int = 0  # nodes that inlining may make, or names as long as that


def f(number: int, content: bytes | str | int) -> bytes:
    """One field."""
    if isinstance(content, int):
        return wire.varint(number << 3) + wire.varint(content)
    return wire.tagged(number, content.encode() if isinstance(content, str) else content)


def attr(name: str, value: bytes, number: int = 5) -> bytes:
    return f(number, f(1, name) + f(2, value))


def kind(name: str, dtype: int = FLOAT) -> bytes:
    return attr(name, f(6, dtype))


def node(name: str, op: str, *rest: bytes, inputs: Iterable[str] = (), number: int = 1) -> bytes:
    return f(number, f(1, name) + f(2, op) + b"".join(f(3, text) for text in inputs) + b"".join(rest))


def shape(dims: Iterable[int]) -> bytes:
    return b"".join(f(2, f(1, dim)) for dim in dims)


def splat(name: str, dims: Iterable[int], value: float = 0.5) -> bytes:
    """A constant of one repeated float."""
    tensor = f(1, FLOAT) + f(2, shape(dims)) + f(5, struct.pack("<f", value))
    return node(name, "Const", kind("dtype"), attr("value", f(8, tensor)))


def integers(name: str, values: Iterable[int], dims: Iterable[int] | None = None, dtype: int = INT64) -> bytes:
    """A constant of integers, a vector unless `dims` says otherwise."""
    listed = list(values)
    packed = struct.pack(f"<{len(listed)}{'q' if dtype == INT64 else 'i'}", *listed)
    content = f(2, shape([len(listed)] if dims is None else dims)) + f(4, packed)
    return node(name, "Const", kind("dtype", dtype), attr("value", f(8, f(1, dtype) + content)))


def placeholder(name: str = "x", dims: Iterable[int] = (2, 3)) -> bytes:
    return node(name, "Placeholder", kind("dtype"), attr("shape", f(7, shape(dims))))


def reference(name: str, number: int = 5, key: str = "f") -> bytes:
    return attr(key, f(10, f(1, name)), number)


def function(name: str, *body: bytes, ret: str) -> bytes:
    """A function of one float argument `a` and one float result `r`."""
    signature = f(1, name) + f(2, f(1, "a") + f(3, FLOAT)) + f(3, f(1, "r") + f(3, FLOAT))
    return f(1, f(1, signature) + b"".join(body) + f(4, f(1, "r") + f(2, ret)))


def call(name: str, target: str, argument: str, number: int = 1) -> bytes:
    types = attr("Tin", f(1, f(6, FLOAT))), attr("Tout", f(1, f(6, FLOAT)))
    return node(name, "PartitionedCall", *types, reference(target), inputs=[argument], number=number)


def library(*functions: bytes) -> bytes:
    return f(2, b"".join(functions))


T = kind("T")
SHAPE_T = kind("Tshape", INT64)


def big_constant(elements: int, op: str = "Neg") -> bytes:
    return splat("c", [elements]) + node("y", op, T, inputs=["c"])


def with_operand(
    op: str, dims: Iterable[int], values: Iterable[int], key: str, operand: Iterable[int] | None = None
) -> bytes:
    """An operator of a small tensor and of absurd numbers."""
    return (
        splat("c", dims)
        + integers("n", values, operand)
        + node("y", op, T, kind(key, INT64), inputs=["c", "n"])
        + node("z", "Neg", T, inputs=["y"])
    )


def fill(dims: Iterable[int]) -> bytes:
    return (
        integers("n", dims)
        + splat("v", [])
        + node("y", "Fill", T, kind("index_type", INT64), inputs=["n", "v"])
        + node("z", "Neg", T, inputs=["y"])
    )


def one_hot(depth: int) -> bytes:
    return (
        integers("i", range(4))
        + integers("depth", [depth], [], INT32)
        + splat("on", [])
        + node("y", "OneHot", T, kind("TI", INT64), inputs=["i", "depth", "on", "on"])
        + node("z", "Neg", T, inputs=["y"])
    )


def number_range(limit: int) -> bytes:
    bounds = integers("a", [0], []) + integers("b", [limit], []) + integers("d", [1], [])
    return (
        bounds
        + node("y", "Range", kind("Tidx", INT64), inputs=["a", "b", "d"])
        + node("z", "Neg", kind("T", INT64), inputs=["y"])
    )


def matmuls(size: int, count: int) -> bytes:
    """A chain of products of matrices that take eight bytes each as a file."""
    parts = [splat("m", [size, size]), splat("y0", [size, size])]
    parts += [node(f"y{place + 1}", "MatMul", T, inputs=[f"y{place}", "m"]) for place in range(count)]
    return b"".join(parts)


def convolution(size: int) -> bytes:
    ones = attr("strides", f(1, f(3, bytes([1, 1, 1, 1]))))
    attrs = T, ones, attr("padding", f(2, "SAME"))
    return (
        splat("x", [1, size, size, 64])
        + splat("w", [size, size, 64, 64])
        + node("y", "Conv2D", *attrs, inputs=["x", "w"])
    )


def einsum(size: int, equation: str = "ab,cd->abcd") -> bytes:
    rank = len(equation.partition(",")[0])
    attrs = T, attr("N", f(3, 2)), attr("equation", f(2, equation))
    return splat("p", [size] * rank) + splat("q", [size] * rank) + node("y", "Einsum", *attrs, inputs=["p", "q"])


def many_outputs(count: int) -> bytes:
    """One node with `count` outputs, as far as its list of types says."""
    types = attr("T", f(1, f(6, bytes([FLOAT]) * count)))
    return placeholder() + node("y", "IdentityN", types, inputs=["x"] * count) + node("z", "Neg", T, inputs=["y:1"])


def split(count: int) -> bytes:
    axis = integers("axis", [0], [], INT32)
    return placeholder() + axis + node("y", "Split", T, attr("num_split", f(3, count)), inputs=["axis", "x"])


def nested_references(depth: int) -> bytes:
    value = f(3, 1)
    for _ in range(depth):
        value = f(10, f(1, "f") + attr("f", value, 2))
    return node("n", "NoOp", attr("f", value))


def calls(count: int, fan: int = 1) -> bytes:
    """Functions of which each calls the one before it, `fan` times."""
    functions = [function("f0", node("n", "Neg", T, inputs=["a"], number=3), ret="n:y:0")]
    for place in range(1, count):
        body, argument = b"", "a"
        for time in range(fan):
            body += call(f"c{time}", f"f{place - 1}", argument, number=3)
            argument = f"c{time}:output:0"
        functions.append(function(f"f{place}", body, ret=argument))
    return placeholder() + call("y", f"f{count - 1}", "x") + library(*functions)


def cycle(length: int, through: Callable[[str], bytes]) -> bytes:
    """Functions that call one another in a circle, in the way that `through` makes a node."""
    functions = [function(f"f{n}", through(f"f{(n + 1) % length}"), ret="a") for n in range(length)]
    return placeholder() + call("y", "f0", "x") + library(*functions)


def hidden_in_attribute(name: str) -> bytes:
    """A reference within the instantiation of another one, on an operator that is not called."""
    return node("n", "NoOp", attr("g", f(10, f(1, "other") + reference(name, 2))), number=3)


def hidden_in_branch(name: str) -> bytes:
    return node(
        "n", "If", reference(name, key="then_branch"), reference(name, key="else_branch"), inputs=["a", "a"], number=3
    )


def hidden_in_name(name: str) -> bytes:
    """A node whose operator is the function."""
    return node("n", name, inputs=["a"], number=3)


def hidden_in_gradient() -> bytes:
    """A function that runs the gradient of another, which calls the first."""
    gradient = node("n", "SymbolicGradient", reference("f1"), inputs=["a"], number=3)
    functions = (
        function("f0", gradient, ret="a"),
        function("f1", ret="a"),
        function("f2", call("n", "f0", "a", number=3), ret="n:output:0"),
    )
    return placeholder() + call("y", "f0", "x") + f(2, b"".join(functions) + f(2, f(1, "f1") + f(2, "f2")))


def many_functions(count: int) -> bytes:
    body = node("n", "Neg", T, inputs=["a"], number=3)
    functions = [function(f"f{place}", body, ret="n:y:0") for place in range(count)]
    used = b"".join(call(f"y{place}", f"f{place}", "x") for place in range(0, count, 2))
    return placeholder() + used + library(*functions)


def chain(count: int, op: str = "Neg") -> bytes:
    return placeholder("n0") + b"".join(node(f"n{n + 1}", op, T, inputs=[f"n{n}"]) for n in range(count))


def backward_chain(count: int) -> bytes:
    """Every node before what it reads."""
    nodes = [node(f"n{n + 1}", "Neg", T, inputs=[f"n{n}"]) for n in reversed(range(count))]
    return b"".join(nodes) + placeholder("n0")


def fan_in(count: int, control: bool = False) -> bytes:
    """One node that reads, or waits for, `count` others."""
    sources = b"".join(placeholder(f"n{n}") for n in range(count))
    names = [f"^n{n}" if control else f"n{n}" for n in range(count)]
    op = ("NoOp",) if control else ("AddN", T, attr("N", f(3, count)))
    return sources + node("y", *op, inputs=names)  # type: ignore[arg-type]


def repeated_input(count: int) -> bytes:
    return placeholder() + node("y", "AddN", T, attr("N", f(3, count)), inputs=["x"] * count)


def loops(depth: int) -> bytes:
    """v1 loops within one another: a frame for each level."""
    parts, inner = [placeholder("n0")], "n0"
    for level in range(depth):
        frame = attr("frame_name", f(2, f"frame{level}"))
        parts += [
            node(f"enter{level}", "Enter", T, frame, inputs=[inner]),
            node(f"merge{level}", "Merge", T, attr("N", f(3, 2)), inputs=[f"enter{level}", f"next{level}"]),
        ]
        inner = f"merge{level}"
    for level in reversed(range(depth)):
        parts += [
            node(f"switch{level}", "Switch", T, inputs=[f"merge{level}", "go"]),
            node(f"next{level}", "NextIteration", T, inputs=[f"switch{level}:1"]),
            node(f"exit{level}", "Exit", T, inputs=[f"switch{level}"]),
        ]
    return b"".join(parts) + node("go", "Placeholder", kind("dtype", 10)) + node("y", "Neg", T, inputs=["exit0"])


def same_names(count: int) -> bytes:
    return node("n", "NoOp") * count


def separate(count: int) -> bytes:
    """Inputs and outputs without number."""
    return b"".join(placeholder(f"x{n}") + node(f"y{n}", "Neg", T, inputs=[f"x{n}"]) for n in range(count))


def duplicates(count: int) -> bytes:
    """Equal nodes, all read by one."""
    same = b"".join(node(f"n{n}", "Neg", T, inputs=["x"]) for n in range(count))
    return placeholder() + same + node("y", "AddN", T, attr("N", f(3, count)), inputs=[f"n{n}" for n in range(count)])


def doubling(count: int) -> bytes:
    """Each node reads the one before it twice: paths without number, nodes few."""
    return placeholder("n0") + b"".join(node(f"n{n + 1}", "AddV2", T, inputs=[f"n{n}"] * 2) for n in range(count))


def transposes(count: int) -> bytes:
    """What rules shorten, over and over."""
    turn = integers("p", [1, 0], None, INT32)
    parts = [node(f"n{n + 1}", "Transpose", T, kind("Tperm", INT32), inputs=[f"n{n}", "p"]) for n in range(count)]
    return placeholder("n0") + turn + b"".join(parts)


def concatenated_strings(count: int) -> bytes:
    """Strings that double in length from node to node."""
    content = f(1, STRING) + f(2, b"") + f(8, "x" * 64)
    parts = [node("n0", "Const", kind("dtype", STRING), attr("value", f(8, content)))]
    parts += [node(f"n{n + 1}", "StringJoin", attr("N", f(3, 2)), inputs=[f"n{n}"] * 2) for n in range(count)]
    return b"".join(parts)


def doubled(count: int) -> bytes:
    """Constants that are joined with themselves."""
    axis = integers("axis", [0], [], INT32)
    attrs = kind("T", INT64), kind("Tidx", INT32), attr("N", f(3, 2))
    parts = [node(f"n{n + 1}", "ConcatV2", *attrs, inputs=[f"n{n}", f"n{n}", "axis"]) for n in range(count)]
    return integers("n0", range(4)) + axis + b"".join(parts)


def wide_scale(size: int) -> bytes:
    """A scale after a convolution that is an outer product of two splats."""
    attrs = T, attr("strides", f(1, f(3, bytes([1, 1, 1, 1])))), attr("padding", f(2, "SAME"))
    factors = splat("a", [size, 1]) + splat("b", [1, size]) + node("m", "Mul", T, inputs=["a", "b"])
    convolution = splat("w", [1, 1, 2, 2]) + node("conv", "Conv2D", *attrs, inputs=["x", "w"])
    return placeholder(dims=[1, 4, 4, 2]) + factors + convolution + node("y", "Mul", T, inputs=["conv", "m"])


def unpacked(count: int, nodes: int) -> bytes:
    """Nodes of `count` outputs each."""
    parts = [node(f"y{place}", "Unpack", T, attr("num", f(3, count)), inputs=["x"]) for place in range(nodes)]
    return placeholder() + b"".join(parts)


def padded_number() -> bytes:
    """A number as text, to a width of a gigabyte."""
    return (
        splat("c", [])
        + node("y", "AsString", T, attr("width", f(3, 1 << 30)), inputs=["c"])
        + node("z", "StringLower", inputs=["y"])
    )


def replaced_letters(count: int) -> bytes:
    """Every letter becomes two, again and again."""
    content = f(1, STRING) + f(2, b"") + f(8, "xxxx")
    attrs = attr("pattern", f(2, "x")), attr("rewrite", f(2, "xx"))
    parts = [node("n0", "Const", kind("dtype", STRING), attr("value", f(8, content)))]
    parts += [node(f"n{n + 1}", "StaticRegexReplace", *attrs, inputs=[f"n{n}"]) for n in range(count)]
    return b"".join(parts)


def repeated_string(elements: int) -> bytes:
    content = f(1, STRING) + f(2, shape([elements])) + f(8, "x" * 64)
    strings = node("c", "Const", kind("dtype", STRING), attr("value", f(8, content)))
    return strings + node("y", "StringLower", inputs=["c"])


def products(count: int) -> bytes:
    """Constants that outgrow their operands from step to step."""
    twice = integers("twice", [2])
    parts = [node(f"n{n + 1}", "Tile", T, kind("Tmultiples", INT64), inputs=[f"n{n}", "twice"]) for n in range(count)]
    return splat("n0", [64]) + twice + b"".join(parts)


def dims_attribute(count: int) -> bytes:
    return node("x", "Placeholder", kind("dtype"), attr("shape", f(7, shape([1] * count)))) + node(
        "y", "Neg", T, inputs=["x"]
    )


def gather(elements: int) -> bytes:
    indices = integers("i", [0] * 1024) + integers("axis", [0], [], INT32)
    kinds = kind("Tparams"), kind("Tindices", INT64), kind("Taxis", INT32)
    picked = node("y", "GatherV2", *kinds, inputs=["c", "i", "axis"])
    return splat("c", [1, elements]) + indices + picked + node("z", "Neg", T, inputs=["y"])


BOMBS: dict[str, Bomb] = {
    "splat of 2^26": Bomb(lambda: big_constant(1 << 26)),
    "splat of 2^30": Bomb(lambda: big_constant(1 << 30)),
    "splat of 2^40": Bomb(lambda: big_constant(1 << 40)),
    "splat of 2^40, summed": Bomb(lambda: big_constant(1 << 40, "Softmax")),
    "splat of 2^62 by 2^62": Bomb(lambda: splat("c", [1 << 62, 1 << 62]), "elements"),
    "fill of 2^40": Bomb(lambda: fill([1 << 20, 1 << 20])),
    "fill of 2^124": Bomb(lambda: fill([1 << 62, 1 << 62])),
    "range to 2^40": Bomb(lambda: number_range(1 << 40)),
    "tile": Bomb(lambda: with_operand("Tile", [1024], [1 << 40], "Tmultiples")),
    "broadcast": Bomb(lambda: with_operand("BroadcastTo", [1], [1 << 20, 1 << 20], "Tidx")),
    "reshape": Bomb(lambda: with_operand("Reshape", [4], [1 << 31, 1 << 31, 0, 4], "Tshape")),
    "pad": Bomb(lambda: with_operand("Pad", [4], [1 << 40, 1 << 40], "Tpaddings", [1, 2])),
    "negative pad": Bomb(lambda: with_operand("Pad", [4], [-(1 << 62), 1 << 62], "Tpaddings", [1, 2])),
    "one-hot": Bomb(lambda: one_hot((1 << 31) - 1)),
    "gather of wide rows": Bomb(lambda: gather(1 << 20)),
    "products of splats": Bomb(lambda: matmuls(1 << 15, 50)),
    "products of middling splats": Bomb(lambda: matmuls(512, 300)),
    "convolution of splats": Bomb(lambda: convolution(4096)),
    "convolution of middling splats": Bomb(lambda: convolution(64)),
    "einsum": Bomb(lambda: einsum(4096)),
    "einsum of many axes": Bomb(lambda: einsum(4, "abcdefghij,klmnopqrst->abcdefghijklmnopqrst")),
    "tiles of tiles": Bomb(lambda: products(60)),
    "repeated string": Bomb(lambda: repeated_string(1 << 40)),
    "an outer product as scale": Bomb(lambda: wide_scale(1 << 17)),
    "four times 30,000 outputs": Bomb(lambda: unpacked(30000, 4), "than one of its size can use"),
    "30,000 outputs": Bomb(lambda: unpacked(30000, 1)),
    "doubled constants": Bomb(lambda: doubled(40)),
    "a padded number": Bomb(padded_number),
    "replaced letters": Bomb(lambda: replaced_letters(40)),
    "joined strings": Bomb(lambda: concatenated_strings(60)),
    "rank 300": Bomb(lambda: dims_attribute(300)),
    "IdentityN with 65,535 outputs": Bomb(lambda: many_outputs(65535), "outputs"),
    "a list of a million types": Bomb(lambda: many_outputs(1 << 20), "outputs", deep=True),
    "split into 2^62": Bomb(lambda: split(1 << 62), "outputs are more than"),
    "nested references": Bomb(lambda: nested_references(10000), "nested"),
    "a call chain of 10,000": Bomb(lambda: calls(10000), deep=True, grows=150_000),
    "a call chain of 1,000": Bomb(lambda: calls(1000)),
    "60 functions that call twice": Bomb(lambda: calls(60, 2)),
    "calls itself": Bomb(lambda: cycle(1, lambda name: call("n", name, "a", number=3)), "call themselves"),
    "call each other": Bomb(lambda: cycle(2, lambda name: call("n", name, "a", number=3)), "call themselves"),
    "a circle of 5,000": Bomb(lambda: cycle(5000, lambda name: call("n", name, "a", number=3)), "call themselves"),
    "a circle through attributes": Bomb(lambda: cycle(3, hidden_in_attribute), "call themselves"),
    "a circle through branches": Bomb(lambda: cycle(3, hidden_in_branch), "call themselves"),
    "a circle through operators": Bomb(lambda: cycle(3, hidden_in_name), "call themselves"),
    "a circle through a gradient": Bomb(hidden_in_gradient, "call themselves"),
    "10,000 functions": Bomb(lambda: many_functions(10000), deep=True),
    "300 functions": Bomb(lambda: many_functions(300)),
    "a chain of 10,000": Bomb(lambda: chain(10000)),
    "a chain of 100,000 identities": Bomb(lambda: chain(100000, "Identity"), deep=True),
    "a chain of 1,000,000": Bomb(lambda: chain(1000000), deep=True),
    "a chain of 100,000 backwards": Bomb(lambda: backward_chain(100000), deep=True),
    "5,000 transposes": Bomb(lambda: transposes(5000)),
    "20,000 inputs of one node": Bomb(lambda: fan_in(20000), deep=True),
    "1,000,000 inputs of one node": Bomb(lambda: fan_in(1000000), deep=True),
    "1,000,000 times the same input": Bomb(lambda: repeated_input(1000000), deep=True),
    "1,000,000 control inputs": Bomb(lambda: fan_in(1000000, control=True), deep=True),
    "5,000 control inputs": Bomb(lambda: fan_in(5000, control=True)),
    "500 nested loops": Bomb(lambda: loops(500)),
    "10,000 nested loops": Bomb(lambda: loops(10000), deep=True),
    "one name for all": Bomb(lambda: same_names(100000), "two nodes have this name"),
    "50,000 inputs and outputs": Bomb(lambda: separate(50000), deep=True),
    "2,000 inputs and outputs": Bomb(lambda: separate(2000)),
    "100,000 duplicates": Bomb(lambda: duplicates(100000), deep=True),
    "3,000 duplicates": Bomb(lambda: duplicates(3000)),
    "2^200 paths": Bomb(lambda: doubling(200)),
}  # fmt: skip
