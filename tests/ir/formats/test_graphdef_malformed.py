"""Bad GraphDefs: each gives one MalformedError that says what, where and, where possible, what to do."""

from __future__ import annotations

import pathlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.errors import Error, MalformedError, ResourceError
from graphopt.ir.formats import wire
from graphopt.ir.formats.graphdef import graphdef_bytes, load, read_graphdef, read_graphdef_text


def f(number: int, content: bytes | str | int) -> bytes:
    """One field."""
    if isinstance(content, int):
        return wire.varint(number << 3) + wire.varint(content)
    return wire.tagged(number, content.encode() if isinstance(content, str) else content)


def attr(name: str, value: bytes, number: int = 5) -> bytes:
    return f(number, f(1, name) + f(2, value))


def node(name: str, op: str = "NoOp", *rest: bytes, inputs: tuple[str, ...] = (), number: int = 1) -> bytes:
    return f(number, f(1, name) + f(2, op) + b"".join(f(3, text) for text in inputs) + b"".join(rest))


FLOAT = attr("T", f(6, 1))
A = node("a", "Placeholder", attr("dtype", f(6, 1)))


def shape(*dims: int) -> bytes:
    return b"".join(f(2, f(1, dim) if dim else b"") for dim in dims)


def const(*fields: bytes) -> bytes:
    return node("c", "Const", attr("dtype", f(6, 1)), attr("value", f(8, b"".join(fields))))


def nested(depth: int) -> bytes:
    """A function reference within a function reference, `depth` times."""
    value = f(3, 1)
    for _ in range(depth):
        value = f(10, f(1, "f") + attr("f", value, 2))
    return node("n", "NoOp", attr("f", value))


def deep_type() -> bytes:
    kind = b""
    for _ in range(150):
        kind = f(2, kind)
    return f(7, kind)


def argument(name: str, code: int = 1) -> bytes:
    return f(1, name) + f(3, code)


def function(name: str, *body: bytes, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()) -> bytes:
    signature = f(1, name) + b"".join(f(2, argument(x)) for x in inputs) + b"".join(f(3, argument(x)) for x in outputs)
    return f(1, f(1, signature) + b"".join(body))


def library(*functions: bytes) -> bytes:
    return f(2, b"".join(functions))


def calling(callee: str, name: str = "n", op: str = "PartitionedCall") -> bytes:
    return node(name, op, attr("f", f(10, f(1, callee))), number=3)


BRANCH = node("n", "If", attr("then_branch", f(10, f(1, "g"))), attr("else_branch", f(10, f(1, "f"))), number=3)
GOOD = A + node("b", "Relu", FLOAT, inputs=("a",)) + const(f(1, 1), f(2, shape(2)), f(4, b"12345678"))

CASES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    # Other files
    "zip": (b"PK\x03\x04" + bytes(60), ("ZIP", "export")),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(60), ("HDF5", "SavedModel")),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(60), ("TensorFlow Lite", ".tflite")),
    "onnx": (b"\x08\x07\x12\x07pytorch" + bytes(20), ("ONNX",)),
    "saved_model": (b"\x08\x01\x12\x07" + bytes(20), ("saved_model.pb", "directory")),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(60), ("gzip",)),
    "pickle": (b"\x80\x04\x95" + bytes(60), ("pickle",)),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ("git lfs pull",)),
    "empty": (b"", ("empty",)),
    "zeros": (bytes(100), ("zeros",)),
    "meta": (f(1, f(1, "v") + f(2, "x")) + f(2, A) + f(3, f(1, "save")), ("MetaGraphDef", ".meta")),
    "checkpoint index": (bytes(range(1, 60)) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", ("checkpoint",)),
    "prose": (b"Dear reader, this is a letter.\n", ("not the text of a GraphDef",)),
    # The wire format
    "cut in a node": (GOOD[:-3], ("truncated",)),
    "cut in a length": (GOOD + b"\x0a\x80", ("truncated",)),
    "cut after a tag": (GOOD + b"\x0a", ("truncated",)),
    "overlong length": (b"\x0a" + b"\xff" * 10 + b"\x01", ("more than ten bytes",)),
    "absurd length": (b"\x0a" + wire.varint(1 << 62) + b"abc", ("announced", "truncated")),
    "negative length": (b"\x0a" + wire.varint(-1), ("announced",)),
    "65 bits": (f(1, b"\x12\x01a") + b"\x18" + b"\xff" * 9 + b"\x7f", ("64 bits",)),
    "group": (A + b"\x0b" + A + b"\x0c", ("wire type 3",)),
    "wire type 7": (A + b"\x0f", ("wire type 7",)),
    "field zero": (A + b"\x02\x00", ("number zero",)),
    "field number out of range": (A + wire.varint(1 << 40) + b"\0", ("out of range",)),
    "node as a number": (A + b"\x08\x01", ("wrong wire type", "node")),
    "versions as a number": (A + b"\x20\x01", ("wrong wire type", "versions")),
    "versions twice": (A + f(4, f(1, 3)) + f(4, f(1, 4)), ("versions", "twice")),
    "library twice": (A + f(2, b"") + f(2, b""), ("library", "twice")),
    "producer twice": (A + f(4, f(1, 3) + f(1, 4)), ("producer", "twice")),
    "bad debug_info": (A + f(5, b"\x0a\xff"), ("debug_info", "GraphDebugInfo")),
    # Nodes
    "no name": (f(1, f(2, "NoOp")), ("no name", "name")),
    "no operator": (f(1, f(1, "a")), ("'a'", "no operator")),
    "empty operator": (f(1, f(1, "abc") + f(2, "")), ("'abc'", "no operator")),
    "name twice": (f(1, f(1, "a") + f(1, "b") + f(2, "NoOp")), ("name", "twice")),
    "operator twice": (f(1, f(1, "a") + f(2, "NoOp") + f(2, "NoOp")), ("'a'", "op", "twice")),
    "device twice": (node("a", "NoOp", f(4, "/cpu:0"), f(4, "/cpu:1")), ("'a'", "device", "twice")),
    "name not UTF-8": (f(1, b"\x0a\x02\xff\xfe\x12\x01N"), ("UTF-8", "name")),
    "operator not UTF-8": (f(1, b"\x0a\x01a\x12\x02\xff\xfe"), ("'a'", "UTF-8", "op")),
    "input not UTF-8": (f(1, b"\x0a\x01a\x12\x01N\x1a\x01\xff"), ("'a'", "UTF-8", "input")),
    "name with a caret": (node("^a"), ("'^a'", "cannot begin")),
    "name with a colon": (node("a:0"), ("'a:0'", "contain ':'")),
    "two nodes of one name": (A + A, ("'a'", "two nodes")),
    "input as a number": (f(1, f(1, "a") + f(2, "NoOp") + f(3, 7)), ("'a'", "wrong wire type", "input")),
    "bad debug info of a node": (node("a", "NoOp", f(6, b"\x0a\xff")), ("'a'", "truncated")),
    "debug info of a node not UTF-8": (
        node("a", "NoOp", f(6, b"\x0a\x01\xff")),
        ("'a'", "ExperimentalDebugInfo", "UTF-8"),
    ),
    "bad type of a node": (node("a", "NoOp", f(7, f(2, f(1, b"x")))), ("'a'", "FullTypeDef", "wire type")),
    "deep type of a node": (node("a", "NoOp", deep_type()), ("'a'", "100 messages")),
    # Edges
    "dangling": (node("b", "Relu", FLOAT, inputs=("nowhere",)), ("'b'", "no node for 'nowhere'")),
    "dangling control": (node("b", inputs=("^nowhere",)), ("'b'", "'^nowhere'")),
    "empty input": (node("b", inputs=("",)), ("'b'", "no node for ''")),
    "no such output": (A + node("b", "Relu", FLOAT, inputs=("a:1",)), ("'b'", "output 1 of 'a'", "has 1")),
    "absurd output": (node("u", "Unknown") + node("b", "Relu", inputs=("u:99999999",)), ("'b'", "no operator has")),
    "huge output": (node("u", "Unknown") + node("b", "Relu", inputs=("u:9999999999",)), ("'b'", "no node for")),
    "data after control": (A + node("b", "Relu", inputs=("^a", "a")), ("'b'", "after a control input")),
    "waits for itself": (node("b", inputs=("^b",)), ("'b'", "itself")),
    "cycle of one": (node("b", "Relu", FLOAT, inputs=("b",)), ("cycle", "'b'")),
    "cycle": (node("b", "Relu", inputs=("c",)) + node("c", "Relu", inputs=("b",)), ("cycle", "'b'", "'c'", "->")),
    "cycle of controls": (node("b", inputs=("^c",)) + node("c", inputs=("^b",)), ("cycle",)),
    "no output": (node("b") + node("c", "Relu", FLOAT, inputs=("b",)), ("'c'", "output 0 of 'b'", "has 0")),
    # Attributes
    "attribute twice": (node("a", "Relu", FLOAT, FLOAT), ("'a'", "attr['T']", "twice")),
    "attribute without a name": (node("a", "NoOp", f(5, f(2, f(3, 1)))), ("'a'", "no name")),
    "key twice": (node("a", "NoOp", f(5, f(1, "x") + f(1, "y"))), ("'a'", "key", "twice")),
    "value twice": (node("a", "NoOp", f(5, f(1, "x") + f(2, b"") + f(2, b""))), ("'a'", "value", "twice")),
    "two kinds": (node("a", "NoOp", attr("x", f(3, 1) + f(5, 1))), ("'a'", "attr['x']", "twice, as i and b")),
    "unknown kind": (node("a", "NoOp", attr("x", f(11, 1))), ("'a'", "attr['x']", "no field 11")),
    "kind of another wire type": (node("a", "NoOp", attr("x", f(3, b"1"))), ("'a'", "attr['x'].i", "wire type")),
    "unknown type": (node("a", "Relu", attr("T", f(6, 77))), ("'a'", "attr['T'].type", "number 77")),
    "unknown type in a list": (node("a", "X", attr("T", f(1, f(6, 99)))), ("'a'", "attr['T']", "number 99")),
    "mixed list": (node("a", "X", attr("x", f(1, f(3, 1) + f(5, 1)))), ("'a'", "two kinds")),
    "unknown list": (node("a", "X", attr("x", f(1, f(12, 1)))), ("'a'", "no field 12")),
    "cut list": (node("a", "X", attr("x", f(1, f(4, b"123")))), ("'a'", "cut")),
    "negative dimension": (node("a", "X", attr("s", f(7, f(2, f(1, -5))))), ("'a'", "attr['s']", "-5")),
    "unknown rank with dimensions": (node("a", "X", attr("s", f(7, shape(2) + f(3, 1)))), ("'a'", "unknown rank")),
    "unknown field of a shape": (node("a", "X", attr("s", f(7, f(9, 1)))), ("'a'", "no field 9")),
    "size twice": (node("a", "X", attr("s", f(7, f(2, f(1, 2) + f(1, 3))))), ("'a'", "size", "twice")),
    "placeholder not UTF-8": (node("a", "X", attr("s", f(9, b"\xff"))), ("'a'", "UTF-8")),
    "absurd number of outputs": (
        node("a", "Split", FLOAT, attr("num_split", f(3, 1 << 40))),
        ("'a'", "num_split", "outputs"),
    ),
    "negative number of outputs": (node("a", "Split", FLOAT, attr("num_split", f(3, -2))), ("'a'", "num_split", "-2")),
    "deep nesting": (nested(2000), ("'n'", "100 messages")),
    # Tensors
    "content too short": (
        const(f(1, 1), f(2, shape(3)), f(4, b"12345678")),
        ("'c'", "tensor_content", "8 bytes", "12"),
    ),
    "content too long": (const(f(1, 1), f(2, shape(1)), f(4, b"12345678")), ("'c'", "tensor_content")),
    "too many values": (const(f(1, 1), f(2, shape(1)), f(5, b"12345678")), ("'c'", "float_val", "2 values")),
    "values of an empty shape": (const(f(1, 1), f(2, shape(0)), f(5, b"1234")), ("'c'", "1 values", "[0]")),
    "two payloads": (
        const(f(1, 1), f(2, shape(1)), f(4, b"1234"), f(5, b"1234")),
        ("'c'", "twice", "tensor_content and float_val"),
    ),
    "two lists": (const(f(1, 1), f(2, shape(1)), f(5, b"1234"), f(7, b"\1")), ("'c'", "float_val and int_val")),
    "two contents": (const(f(1, 1), f(2, shape(1)), f(4, b"1234"), f(4, b"1234")), ("'c'", "twice, in tensor_content")),
    "wrong list": (const(f(1, 1), f(2, shape(1)), f(7, b"\1")), ("'c'", "int_val cannot hold", "float32")),
    "cut numbers": (const(f(1, 1), f(2, shape(2)), f(5, b"123456")), ("'c'", "float_val", "6 bytes")),
    "cut varint": (const(f(1, 3), f(2, shape(2)), f(7, b"\x81")), ("'c'", "int_val", "ends within")),
    "overlong varint": (const(f(1, 3), f(2, shape(2)), f(7, b"\x81" * 12 + b"\1")), ("'c'", "ten bytes")),
    "half a complex number": (const(f(1, 8), f(2, shape(2)), f(9, b"1234" * 3)), ("'c'", "complex")),
    "list of another wire type": (const(f(1, 1), f(2, shape(2)), f(5, 3)), ("'c'", "float_val", "wire type")),
    "absurd shape": (const(f(1, 1), f(2, shape(1 << 62, 1 << 62)), f(5, b"1234")), ("'c'", "2**63 - 1")),
    "unknown dimension": (const(f(1, 1), f(2, shape(-1))), ("'c'", "cannot have the shape [?]")),
    "unknown rank": (const(f(1, 1), f(2, f(3, 1))), ("'c'", "[*]")),
    "reference type": (const(f(1, 101), f(2, shape(1))), ("'c'", "float32_ref")),
    "tensor of an unknown type": (const(f(1, 88), f(2, shape(1))), ("'c'", "number 88")),
    "type twice": (const(f(1, 1), f(2, shape(1)), f(1, 1), f(5, b"1234")), ("'c'", "dtype", "twice")),
    "shape twice": (const(f(2, shape(1)), f(1, 1), f(2, shape(1))), ("'c'", "tensor_shape", "twice")),
    "rank 300": (const(f(1, 1), f(2, shape(*[1] * 300))), ("'c'", "300 dimensions")),
    "strings do not fit": (const(f(1, 7), f(2, shape(2)), f(4, b"\x05\x05abc")), ("'c'", "10 bytes", "3")),
    "bad handle": (const(f(1, 20), f(2, shape()), f(14, b"\x0a\xff")), ("'c'", "resource_handle_val")),
    # Functions
    "function without a signature": (library(f(1, b"")), ("no signature",)),
    "function without a name": (library(function("")), ("no name",)),
    "two functions of one name": (library(function("g"), function("g")), ("two functions", "'g'")),
    "function named like an operator": (library(function("Relu")), ("'Relu'", "operator")),
    "two arguments of one name": (library(function("g", inputs=("x", "x"))), ("two arguments", "'x'")),
    "argument and node of one name": (
        library(function("g", node("x", number=3), inputs=("x",))),
        ("'g'", "'x'", "two nodes or arguments"),
    ),
    "output not computed": (library(function("g", outputs=("y",))), ("'g'", "'y'", "not computed")),
    "output of nothing": (
        library(function("g", f(4, f(1, "y") + f(2, "n:z:0")), outputs=("y",))),
        ("'g'", "'y'", "not computed"),
    ),
    "dangling in a function": (
        library(function("g", node("n", "Relu", FLOAT, inputs=("m:y:0",), number=3))),
        ("'g'", "'n'", "m:y:0"),
    ),
    "no such port": (
        library(
            function(
                "g",
                node("m", "Relu", FLOAT, inputs=("x",), number=3),
                node("n", "Relu", FLOAT, inputs=("m:nope:0",), number=3),
                inputs=("x",),
            )
        ),
        ("'g'", "'n'", "m:nope:0", "no output"),
    ),
    "unknown control output": (
        library(function("g", f(6, f(1, "done") + f(2, "n")))),
        ("'g'", "'done'", "names no node"),
    ),
    "cycle in a function": (
        library(function("g", node("n", "Relu", FLOAT, inputs=("n:activations:0",), number=3))),
        ("'g'", "cycle"),
    ),
    "stray gradient": (library(f(2, f(1, "g") + f(2, "h"))), ("gradient", "'g'")),
    "two gradients": (
        library(function("g"), f(2, f(1, "g") + f(2, "g")), f(2, f(1, "g") + f(2, "g"))),
        ("'g'", "two gradients"),
    ),
    "function calls itself": (library(function("g", calling("g"))), ("call themselves", "'g' -> 'g'")),
    "function is its own operator": (library(function("g", node("n", "g", number=3))), ("'g' -> 'g'",)),
    "functions call each other": (
        library(function("g", calling("h")), function("h", calling("g"))),
        ("'g' -> 'h' -> 'g'",),
    ),
    "cycle through branches": (library(function("f"), function("g", BRANCH)), ("'g' -> 'g'",)),
    "cycle hidden in an attribute": (
        library(function("g", node("n", "X", attr("x", f(10, f(1, "h") + attr("y", f(10, f(1, "g")), 2))), number=3))),
        ("'g' -> 'g'",),
    ),
    "cycle through a gradient": (
        library(
            function("g"),
            function("h", calling("g", op="SymbolicGradient")),
            f(2, f(1, "g") + f(2, "h")),
        ),
        ("'h' -> 'h'",),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_gives_a_clear_error(name: str, tmp_path: pathlib.Path) -> None:
    data, words = CASES[name]
    path = tmp_path / "model.pb"
    path.write_bytes(data)
    with pytest.raises(MalformedError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    for word in words:
        assert word in message
    assert "\n" not in message
    assert caught.value.exit_status == 3


def test_the_table_begins_from_a_good_graph() -> None:
    assert len(CASES) >= 60
    assert [node.op for node in read_graphdef(GOOD).graph] == ["tf.Placeholder", "tf.Relu", "tf.Const"]


def test_a_node_may_be_called_like_a_magic_number(tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.pb").write_bytes(node("TFL3"))
    assert load(tmp_path / "m.pb").graph.find("TFL3") is not None


def test_what_cannot_be_opened_is_malformed_too(tmp_path: pathlib.Path) -> None:
    with pytest.raises(MalformedError, match="No such file"):
        load(tmp_path / "absent.pb")
    with pytest.raises(MalformedError, match="directory"):
        load(tmp_path)
    with pytest.raises(MalformedError, match="no regular file"):
        load("/dev/null")


@pytest.mark.parametrize(
    "data",
    [
        # 65,536 outputs each, from a few bytes a node
        b"".join(node(f"n{i}", "Split", FLOAT, attr("num_split", f(3, 65_000))) for i in range(100)),
        b"".join(node(f"u{i}", "Unknown") + node(f"r{i}", "X", inputs=(f"u{i}:65000",)) for i in range(100)),
        node("a", "X", attr("x", f(1, b"\x3a\x00" * 500_000))),
        node("a", "X", attr("x", f(1, f(5, b"\x00" * 1_500_000)))),
        library(*(function(f"f{i}") for i in range(20_000))),
        b"\x58\x01" * 400_000,
        node("a", "X", b"\x58\x01" * 400_000),
    ],
    ids=["outputs", "references", "shapes", "booleans", "functions", "fields", "fields of a node"],
)
def test_a_small_file_cannot_claim_much(data: bytes) -> None:
    with pytest.raises(ResourceError):
        read_graphdef(data)


def test_bad_text_says_the_line() -> None:
    with pytest.raises(MalformedError, match=r"m\.pbtxt.*2:3.*no field named"):
        read_graphdef_text(b'node { name: "a" op: "NoOp" }\n  nodes { }', source="m.pbtxt")


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.integers(0, 2**32))
def test_any_damage_is_clean(place: int, octet: int, seed: int) -> None:
    _read(GOOD[:place] + bytes([octet]) + GOOD[place + 1 :])
    _read(GOOD[:place])
    _read(_mutated(_rich(), random.Random(seed)))


def test_many_damages_are_clean() -> None:
    generator = random.Random(1)
    data = _rich()
    outcomes = [_read(_mutated(data, generator)) for _ in range(4000)]
    assert _read(data)
    assert 100 < sum(outcomes) < 3900


@pytest.mark.deep
def test_a_million_damages_of_real_graphs_are_clean(corpus: pathlib.Path) -> None:
    generator = random.Random(2)
    paths = sorted(path for path in corpus.glob("graphdef/**/*.pb") if path.stat().st_size < 20_000)
    graphs = [path.read_bytes() for path in paths]
    outcomes = [_read(_mutated(generator.choice(graphs), generator)) for _ in range(1_000_000)]
    assert 10_000 < sum(outcomes) < 900_000


def _rich() -> bytes:
    """A graph with functions, tensors of several encodings and nested attributes."""
    body = node("n", "AddV2", FLOAT, inputs=("x", "x"), number=3) + f(4, f(1, "y") + f(2, "n:z:0"))
    tensors = [
        const(f(1, 3), f(2, shape(4)), f(7, b"\x81\x01\x05")),
        node("s", "Const", attr("value", f(8, f(1, 7) + f(2, shape(2)) + f(8, "ab") + f(8, "c")))),
        node("h", "Const", attr("value", f(8, f(1, 1) + f(2, shape(2)) + b"\x2d" + struct.pack("<f", 1) + f(3, 1)))),
    ]
    call = node("p", "PartitionedCall", attr("f", f(10, f(1, "g"))), attr("Tout", f(1, f(6, b"\x01"))), inputs=("a",))
    return (
        A
        + b"".join(tensors)
        + call
        + nested(3)
        + library(function("g", body, inputs=("x",), outputs=("y",)))
        + f(4, f(1, 100))
    )


def _mutated(data: bytes, generator: random.Random) -> bytes:
    octets = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        kind, place = generator.randrange(4), generator.randrange(len(octets))
        if kind == 0:
            octets[place] = generator.choice((0, 1, 0x0A, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        elif kind == 1:
            octets[place] ^= 1 << generator.randrange(8)
        elif kind == 2:
            del octets[place : place + generator.randint(1, 4)]
        else:
            octets[place:place] = octets[place : place + generator.randint(1, 8)]
        if not octets:
            return b""
    return bytes(octets)


def _read(data: bytes) -> bool:
    """Whether `data` was accepted; anything but an `Error` from any step goes up."""
    try:
        model = read_graphdef(data)
        for graph in model.graphs:
            for item in graph:
                held = item.attrs.get("value")
                if hasattr(held, "numpy") and held.dtype.numpy is not None and held.nbytes < 1 << 20:
                    held.numpy()
        again = read_graphdef(graphdef_bytes(model))
    except Error:
        return False
    assert again.node_count == model.node_count
    return True
