"""The text form prints readably, parses back exactly and says where a text is wrong."""

from __future__ import annotations

import pathlib
import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir import (
    ArrayTensor,
    AttributePlaceholder,
    FileTensor,
    Function,
    FunctionRef,
    Graph,
    MalformedError,
    Model,
    Node,
    RepeatedTensor,
    Shape,
    TensorType,
    tensor,
    tensor_type,
)
from graphopt.ir.attributes import SingleFloat
from graphopt.ir.dimensions import SymbolicDim, maximum, symbol
from graphopt.ir.tensors import Mapping, pack
from graphopt.ir.text import parse_graph, parse_model, print_graph, print_model, print_node
from graphopt.ir.types import DTYPES, Quantization
from graphopt.ir.verifier import verify
from graphopt.testing.structure import assert_same_structure

MODEL = """\
model producer=1882 min_consumer=12 bad_consumers=[3, 5] {
  graph @main(%x: float32[?, 2]) -> (%y, %split:1) targets(%init) {
    %w = tf.Const() {dtype = float32, value = float32[2, 2] [[1.0, -0.0], [nan, inf]]} : float32[2, 2]
    %mm = tf.MatMul(%x, %w) {T = float32, transpose_b = true} after(%init) device("/cpu:0") : float32[?, 2]
    %split = tf.Split(%axis, %mm) {T = float32, num_split = 2} origins("a", "b/c") : (float32[?, 1], float32[?, 1])
    %axis = tf.Const() {dtype = int32, value = int32[] 1} : int32[]
    %y = tf.PartitionedCall(%mm) {Tin = [float32], Tout = [float32], f = @f{T = float32}} : float32[batch, 2*batch+1]
    %init = tf.NoOp() : ()
    %"odd name\\x1b" = tf.Custom(%mm) {a = $b, l = [], n = none, s = shape[?, floordiv(n, 2)-3], z = shape[*]} : ()
  }
  function @f(a = %x: float32[*]) -> (%r) control_outputs(done = %r) attrs {noinline = true} gradient(@f) {
    %r = tf.Relu(%x) {T = float32} : float32[*]
  }
  signature "serving_default"(x = %x) -> (y = %y, s = %split:1) method("predict") inferred reasons(x = "a placeholder")
}
"""


def test_print_and_parse_are_inverse_on_an_example() -> None:
    model = parse_model(MODEL)
    assert print_model(model) == MODEL
    assert model.versions == (1882, 12, (3, 5))
    assert model.signatures["serving_default"].outputs == {"y": 0, "s": 1}
    assert model.functions["f"].input_names == ["a"]
    assert model.functions["f"].output_names == ["r"]
    assert model.graph.node("mm").control_inputs == (model.graph.node("init"),)
    assert model.graph.node("split").origins == ("a", "b/c")


def test_short_form_fills_in_what_follows_from_the_operands() -> None:
    short = """
    graph @main(%x: float32[?, 4], %i: int32[2]) -> (%y, %z) {
      %w = tf.Const() {value = float32[4] splat 0.5}
      %sum = tf.AddV2(%x, %w)                         // T from the operands
      %parts = tf.Split(%zero, %sum) {num_split = 2}  // two outputs from num_split
      %all = tf.ConcatV2(%parts:1, %parts, %zero)     // N, T and Tidx
      %zero = tf.Const() {value = int32[] 0}
      %r = tf.Reshape(%all, %i)                       // Tshape too, although it has a default
      %y = tf.PartitionedCall(%r) {f = @double}
      %z = tf.Unheard(%y)
      %user = tf.Relu(%z:2)
    }
    function @double(%a: float32[*]) -> (%b) {
      %b = tf.AddV2(%a, %a)
    }
    """
    model = parse_model(short)
    verify(model)
    graph = model.graph
    assert dict(graph.node("all").attrs) == {"N": 2, "T": DTYPES["float32"], "Tidx": DTYPES["int32"]}
    assert graph.node("r").attrs["Tshape"] is DTYPES["int32"]
    assert len(graph.node("parts").outputs) == 2
    assert graph.node("y").attrs["Tout"] == (DTYPES["float32"],)
    assert graph.node("y").output.dtype is DTYPES["float32"]
    assert [len(graph.node("z").outputs), graph.node("user").output.dtype.name] == [3, "unknown"]
    assert graph.node("x").op == "tf.Placeholder"
    assert graph.node("w").output.type == tensor_type("float32", [4])
    assert model.functions["double"].node("a").attrs == {"T": DTYPES["float32"], "index": 0}
    assert_same_structure(model, parse_model(print_model(model)))


def test_full_form_fills_in_nothing() -> None:
    graph = parse_graph("graph @g(%x: float32[]) -> (%y) { %y = tf.Relu(%x) : float32[] }")
    assert graph.node("y").attrs == {}


def test_loops_of_version_one_parse() -> None:
    graph = parse_graph("""
    graph @main(%x: int32[]) -> (%exit) {
      %enter = tf.Enter(%x) {frame_name = b"loop"}
      %merge = tf.Merge(%enter, %next)
      %cond = tf.LoopCond(%less)
      %less = tf.Less(%merge, %ten)
      %ten = tf.Const() {value = int32[] 10} after(%merge)
      %switch = tf.Switch(%merge, %cond)
      %exit = tf.Exit(%switch)
      %next = tf.NextIteration(%switch:1)
    }""")
    verify(graph)
    assert graph.node("next").output.dtype is DTYPES["int32"]
    assert_same_structure(graph, parse_graph(print_graph(graph)))


def test_bare_items_need_no_model_around_them() -> None:
    model = parse_model("function @only() -> () {}")
    assert list(model.functions) == ["only"]
    assert len(model.graph) == 0


def test_parameters_with_nodes_of_their_own_keep_their_attributes() -> None:
    text = """\
graph @main(%y: float32[3], %x: float32[2]) -> () {
  %x = tf.Placeholder() {dtype = float32, shape = shape[2], _user = b"note"} device("/gpu:0") : float32[2]
  %y = tf.PlaceholderWithDefault(%x) {dtype = float32, shape = shape[3]} : float32[3]
}
"""
    graph = parse_graph(text)
    assert print_graph(graph) == text
    assert [value.name for value in graph.inputs] == ["y", "x"]


def test_tensor_names_and_quantization() -> None:
    graph = Graph()
    node = graph.create_node("tfl.CONV_2D", [None], name="conv", types=())
    scale = Quantization((0.1, 1e-30), (0, -3), 1)
    node.add_output(TensorType(DTYPES["int8"], Shape((1, 2)), scale)).name = "out put"
    text = print_node(node)
    assert text == (
        "%conv = tfl.CONV_2D(none) : int8[1, 2] "
        'quantized(scale = [0.1, 1e-30], zero_point = [0, -3], axis = 1) as "out put"'
    )
    back = parse_graph(print_graph(graph)).node("conv").output
    assert (back.type, back.name) == (node.output.type, "out put")


def test_display_form_shortens_and_does_not_parse() -> None:
    graph = Graph()
    big = np.zeros((64, 3), np.float32)
    attrs = {"value": tensor(big), "text": b"x" * 3000, "numbers": tuple(range(400))}
    graph.create_node("tf.Custom", attrs=attrs, name="n")
    text = print_graph(graph)
    assert "float32[64, 3] elided 768 bytes" in text
    assert "elided 3000 bytes" in text
    assert "elided 336 items" in text
    assert len(text) < 1000
    for only in attrs:
        graph.node("n").attrs = {only: attrs[only]}
        with pytest.raises(MalformedError, match=r"line 2, column \d+: the text was shortened for display.*elide=None"):
            parse_graph(print_graph(graph))
        assert_same_structure(graph, parse_graph(print_graph(graph, elide=None)))


def test_a_repeated_tensor_is_never_expanded() -> None:
    graph = Graph()
    huge = RepeatedTensor(np.array([1.5], np.float32), DTYPES["float32"], (1 << 40, 1 << 20))
    graph.create_node("tf.Const", attrs={"dtype": DTYPES["float32"], "value": huge}, name="c")
    back = parse_graph(print_graph(graph, elide=None)).node("c").attrs["value"]
    assert (type(back), back.shape, back.splat()) == (RepeatedTensor, huge.shape, np.float32(1.5))


def test_tensors_without_an_array_are_opaque() -> None:
    class Handle(ArrayTensor):
        def __init__(self) -> None:
            self.dtype, self.shape = DTYPES["variant"], (2,)

    graph = Graph()
    graph.create_node("tf.Const", attrs={"value": Handle()}, name="c")
    assert "value = variant[2] opaque" in print_graph(graph, elide=None)
    with pytest.raises(MalformedError, match="no text form"):
        parse_graph(print_graph(graph))


def test_a_mapped_tensor_prints_like_an_array(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"head" + np.arange(3, dtype="<f4").tobytes())
    graph = Graph()
    held = FileTensor(Mapping(path), 4, DTYPES["float32"], (3,))
    graph.create_node("tf.Const", attrs={"value": held}, name="c")
    assert "float32[3] [0.0, 1.0, 2.0]" in print_graph(graph)
    assert_same_structure(graph, parse_graph(print_graph(graph)))


def test_nothing_that_moves_a_terminal_is_printed() -> None:
    hostile = "a\x1b[2Jb\r\n\u202e\u2066\x9b\x00\ud800"
    graph = Graph(hostile)
    node = graph.create_node(f"tf.{hostile}", attrs={hostile: hostile.encode("utf-8", "surrogatepass")}, name=hostile)
    node.device, node.origins, node.output.name = hostile, (hostile,), hostile
    node.output.type = TensorType(DTYPES["float32"], Shape((symbol(hostile), symbol("max"), symbol("nan"))))
    text = print_graph(graph)
    assert all(line.isprintable() for line in text.splitlines())
    assert text.count("\n") == 3
    assert_same_structure(graph, parse_graph(text))


def test_deep_function_references_print_and_are_refused_by_the_parser() -> None:
    reference = FunctionRef("f")
    for _ in range(10_000):
        reference = FunctionRef("f", {"g": reference})
    graph = Graph()
    graph.create_node("tf.Call", attrs={"f": reference}, name="c")
    with pytest.raises(MalformedError, match="attributes nest more than 100 levels"):
        parse_graph(print_graph(graph))


@pytest.mark.parametrize("dim", ["max(" * 5000 + "n", "floordiv(" * 99 + "n" + ", 2)" * 99])
def test_deep_dimensions_do_not_overflow_the_stack(dim: str) -> None:
    text = f"graph @g(%x: float32[{dim}]) -> () {{}}"
    if dim.endswith(")"):
        assert isinstance(parse_graph(text).inputs[0].shape[0], SymbolicDim)
    else:
        with pytest.raises(MalformedError, match="nests more than 100 operations"):
            parse_graph(text)


GRAPH = "graph @g() -> () {{ %a = tf.NoOp() {{ v = {} }} }}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: expected 'graph' or 'function', found the end of the text"),
        ("graph @g() -> () {\n  %a = Relu(%x)\n}", "line 2, column 8: the operator 'Relu' lacks its dialect"),
        ("graph @g() -> () {\n  %a = tf.Relu(%x)\n}", "line 2, column 16: there is no node 'x'"),
        ("graph @g() -> () { %a = tf.NoOp() %a = tf.NoOp() }", "node 'a' is defined twice"),
        ("graph @g() -> (%a) { %a = tf.NoOp() }", "node 'a' (tf.NoOp) has 0 outputs, none numbered 0"),
        ("graph @g() -> () { %a = tf.NoOp() after(%a) }", "cannot wait for itself"),
        ("graph @g() -> () { %a = tf.A() before(%b) }", "expected 'after', 'device', 'origins'"),
        ("graph @g(%x) -> () {}", "a parameter without a node of its own needs a type"),
        ("graph @g(%x: int8[], %x: int8[]) -> () {}", "the parameter is listed twice"),
        ("graph @g(%x: int8[]) -> () { %x = tf.A() : int8[1] }", "the parameter is int8[] and its node says int8[1]"),
        ("graph @g(%x: float33[]) -> () {}", "expected an element type, such as float32, found 'float33'"),
        ("graph @g(%x: int8[1 2]) -> () {}", "expected a dimension's next term or its end, found '2'"),
        ("graph @g() -> () attrs {} {}", "expected '{', or a clause"),
        ("graph @g() -> () {", "expected a node or '}', such as '%name', found the end of the text"),
        ("graph @g() -> () {} ~", "line 1, column 21: expected a name, a value or a punctuation mark, found '~'"),
        ("graph @g() -> () {} graph @h() -> () {}", "expected the end of the text, found 'graph'"),
        ('graph @"a\\q"() -> () {}', "instead of '\\q'"),
        ('graph @"a\\Uffffffff"() -> () {}', "expected a code point"),
        ("function @f() -> () gradient() {}", "expected a function, such as '@name'"),
        (GRAPH.format("maybe"), "expected an attribute value, found 'maybe'"),
        (GRAPH.format("1, v = 2"), "attribute 'v' is given twice"),
        (GRAPH.format("[1, [2]]"), "a list holds no lists"),
        (GRAPH.format("1" * 30), "expected a number between -9223372036854775808 and 18446744073709551615"),
        (GRAPH.format("1" * 10000), "expected a number between"),
        (GRAPH.format("nan(0x12)"), "expected the 32 bits of a NaN"),
        (GRAPH.format('b"\\u0100"'), "each character one of the first 256"),
        (GRAPH.format('"\\ud800"'), "surrogates"),
        (GRAPH.format("float32[?] 1.0"), "a tensor's dimensions are numbers"),
        (GRAPH.format("float32[99999999999, 99999999999] splat 1.0"), "out of bounds"),
        (GRAPH.format("float32[0] splat 1.0"), "expected a shape with at least one element"),
        (GRAPH.format("float32[1] repeat [1.0, 2.0]"), "from 1 to 1 elements are repeated, not 2"),
        (GRAPH.format("float32[2] packed [1.0, 2.0]"), "an element type below 8 bits"),
        (GRAPH.format("float32[2, 2] [[1.0], [2.0, 3.0, 4.0]]"), "do not match shape [2, 2]"),
        (GRAPH.format("float32[2, 1] [1.0, [2.0]]"), "different depths"),
        (GRAPH.format("float32[2] [[1.0, 2.0]]"), "deeper than 1 dimensions"),
        (GRAPH.format("float32[2] [1.0]"), "do not match shape [2]"),
        (GRAPH.format("float32[] b\"a\""), "a number is wanted"),
        (GRAPH.format("float32[] 0x123456789"), "more than 32 bits"),
        (GRAPH.format("int4[] 8"), "8 is out of the range of int4"),
        (GRAPH.format("uint8[] -1"), "-1 is out of the range of uint8"),
        (GRAPH.format("bool[] 1"), "neither true nor false"),
        (GRAPH.format("string[] 1"), "bytes is wanted"),
        (GRAPH.format("complex64[] 1.0"), "a pair of numbers is wanted"),
        (GRAPH.format("resource[] 1"), "no elements"),
        (GRAPH.format("float32[] ("), "expected a number, found '}'"),
    ],
)  # fmt: skip
def test_errors_say_where_and_what(text: str, message: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(message)) as caught:
        parse_graph(text, "model.txt")
    assert re.match(r"model\.txt: line \d+, column \d+: ", str(caught.value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model {", "expected 'graph', 'function' or 'signature' or '}'"),
        ("model color=3 {}", "a model has no 'color'"),
        ("model bad_consumers=3 {}", "bad_consumers is a list"),
        ("graph @a() -> () {} graph @b() -> () {}", "a model has one main graph"),
        ("function @a() -> () {} function @a() -> () {}", "function 'a' is defined twice"),
        ("signature s() -> () signature s() -> ()", "signature 's' is given twice"),
        ("signature s of @f() -> ()", "there is no graph 'f'"),
        ("signature s(x = #0) -> ()", "'x' of the signature is no input of the graph"),
        ("graph @g(%x: int8[]) -> () {} signature s() -> (x = %x)", "'x' of the signature is no output of the graph"),
        ("signature s(x = #0, x = #0) -> ()", "'x' is given twice"),
    ],
)
def test_errors_of_models(text: str, message: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(message)):
        parse_model(text)


# Round trips --------------------------------------------------------------------------------------------------

names = st.text(st.characters(codec=None), min_size=0, max_size=6) | st.sampled_from(
    ["a", "conv/w", "x-1", "max", "inf"]
)
atoms = st.sampled_from(["n", "m", "a b", "max", "inf", 'q"']).map(symbol)


def _combined(children: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    pairs = st.tuples(st.sampled_from(["+", "-", "*", "//", "max"]), children, children)
    return pairs.map(lambda item: _apply(*item))


def _apply(operation: str, left: object, right: object) -> object:
    if operation == "max":
        return maximum(left, right)  # type: ignore[arg-type]
    if operation == "//":
        return left // right if right != 0 else left  # type: ignore[operator]
    return {"+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right}[operation]()  # type: ignore[operator]


expressions = st.recursive(st.integers(-5, 5) | atoms, _combined, max_leaves=5)  # type: ignore[arg-type]
dims = st.none() | st.integers(0, 5) | expressions
shapes = st.builds(Shape, st.none() | st.lists(dims, max_size=4))
dtypes = st.sampled_from(list(DTYPES.values()))
quantizations = st.builds(
    Quantization,
    st.lists(st.floats(allow_nan=False), max_size=2).map(tuple),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2).map(tuple),
    st.none() | st.integers(-2, 5),
)
types = st.builds(TensorType, dtypes, shapes, st.none() | quantizations)


@st.composite
def tensors(draw: st.DrawFn) -> object:
    dtype = draw(st.sampled_from([dtype for dtype in DTYPES.values() if dtype.numpy is not None]))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    size = int(np.prod(shape))
    assert dtype.numpy is not None
    if dtype.kind == "string":
        flat = np.empty(size, object)
        flat[:] = [draw(st.binary(max_size=3)) for _ in range(size)]
    elif dtype.kind == "bool":
        flat = np.array([draw(st.booleans()) for _ in range(size)], np.bool_)
    elif dtype.bits < 8:
        codes = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8) & ((1 << dtype.bits) - 1)
        if dtype.kind == "float":
            flat = codes.view(dtype.numpy)
        else:
            flat = (codes.astype(np.int16) - (1 << (dtype.bits - 1) if dtype.kind == "int" else 0)).astype(dtype.numpy)
    else:
        count = size * dtype.itemsize
        flat = np.frombuffer(draw(st.binary(min_size=count, max_size=count)), dtype.numpy)
    form = draw(st.sampled_from(["array", "repeat", "packed"]))
    if form == "repeat" and size:
        return RepeatedTensor(flat[: draw(st.integers(1, size))], dtype, shape)
    if form == "packed" and dtype.bits < 8 and dtype.kind in ("int", "uint"):
        return pack(flat.reshape(shape), dtype)
    return ArrayTensor(flat.reshape(shape), dtype)


def _single(bits: int) -> SingleFloat:
    data = struct.pack("<I", 0x7F800000 | bits)
    return SingleFloat(struct.unpack("<f", data)[0], data)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.integers(1, 0x7FFFFF).map(_single),
    st.binary(max_size=4), dtypes, shapes, tensors(), st.builds(AttributePlaceholder, names),
)  # fmt: skip
references = st.recursive(
    st.builds(FunctionRef, names, st.dictionaries(names, scalars, max_size=2)),
    lambda inner: st.builds(FunctionRef, names, st.dictionaries(names, inner, max_size=2)),
    max_leaves=3,
)
attributes = scalars | references | st.lists(scalars | references, max_size=3).map(tuple)


@st.composite
def any_graphs(draw: st.DrawFn, function: bool = False) -> Graph:
    """Graphs of any operators, attributes and wiring, cycles included: what the text must carry, not what can run."""
    graph = Function(draw(names)) if function else Graph(draw(names))
    nodes = [Node(f"{draw(names)}.{draw(names)}", name) for name in draw(st.lists(names, max_size=5, unique=True))]
    for node in nodes:
        graph.insert(node)
        for type in draw(st.lists(types, max_size=3)):
            node.add_output(type).name = draw(st.none() | names)
        node.attrs = draw(st.dictionaries(names, attributes, max_size=3))
        node.device, node.origins = draw(names), tuple(draw(st.lists(names, max_size=2)))
    values = [value for node in nodes for value in node.outputs]
    for node in nodes:
        node.set_inputs(draw(st.lists(st.none() | st.sampled_from(values), max_size=3)) if values else [])
        node.set_control_inputs(n for n in draw(st.lists(st.sampled_from(nodes), max_size=2)) if n is not node)
    if nodes:
        graph.targets = draw(st.lists(st.sampled_from(nodes), max_size=2))
    if values:
        graph.inputs = draw(st.lists(st.sampled_from(values), max_size=2, unique_by=id))
        graph.outputs = draw(st.lists(st.sampled_from(values), max_size=2))
    if isinstance(graph, Function):
        graph.input_names = draw(st.lists(names, min_size=len(graph.inputs), max_size=len(graph.inputs)))
        graph.output_names = draw(st.lists(names, min_size=len(graph.outputs), max_size=len(graph.outputs)))
        graph.attrs = draw(st.dictionaries(names, attributes, max_size=1))
        graph.gradient = draw(st.none() | names)
        graph.control_outputs = {draw(names): target for target in graph.targets[:1]}
    return graph


@st.composite
def any_models(draw: st.DrawFn) -> Model:
    model = Model(draw(any_graphs()))
    for function in draw(st.lists(any_graphs(function=True), max_size=2, unique_by=lambda graph: graph.name)):
        assert isinstance(function, Function)
        model.add_function(function)
    model.versions = (draw(st.integers(0, 3000)), draw(st.integers(0, 20)), tuple(draw(st.lists(st.integers(0, 9)))))
    outputs = dict(zip(["a", "b c"], model.graph.outputs, strict=False))
    model.set_signature({value.name: value for value in model.graph.inputs}, outputs, draw(names))
    return model


@given(any_models())
def test_round_trip(model: Model) -> None:
    text = print_model(model, elide=None)
    back = parse_model(text)
    assert_same_structure(model, back)
    assert print_model(back, elide=None) == text
    assert all(line.isprintable() for line in text.split("\n"))


@given(any_models(), st.data())
def test_damaged_text_raises_nothing_else(model: Model, data: st.DataObject) -> None:
    text = print_model(model, elide=None)
    place = data.draw(st.integers(0, len(text)))
    inserted = data.draw(st.sampled_from(["", "{", ")", "%", "1", '"', ",", "x", "\\"]))
    problem = "line 1, column 1: none"
    try:
        parse_model(text[:place] + inserted + text[place + 1 :])
    except MalformedError as error:
        problem = str(error)
    assert re.match(r"line \d+, column \d+: ", problem)
