"""obfuscate-names."""

from __future__ import annotations

from graphopt.ir.formats.graphdef import graphdef_bytes, read_graphdef
from graphopt.ir.formats.protos.graph_pb2 import GraphDef
from graphopt.ir.text import parse_model
from graphopt.passes import run_pass
from graphopt.testing import assert_equivalent, check_pass


def test_inputs_outputs_and_targets_keep_their_names() -> None:
    before = """
    function @f(%a: float32[2]) -> (%b) { %secret = tf.Neg(%a) %b = tf.Exp(%secret) }
    graph @main(%x: float32[2]) -> (%y) targets(%done) {
      %first/secret = tf.PartitionedCall(%x) {f = @f}
      %1 = tf.Abs(%first/secret) {_class = [b"loc:@first/secret"]}
      %y = tf.Neg(%1) {_class = [b"loc:@1"]}
      %done = tf.NoOp() after(%first/secret)
    }
    """
    after = """
    function @f(%a: float32[2]) -> (b = %1) { %0 = tf.Neg(%a) %1 = tf.Exp(%0) }
    graph @main(%x: float32[2]) -> (%y) targets(%done) {
      %0 = tf.PartitionedCall(%x) {f = @f}
      %1 = tf.Abs(%0) {_class = [b"loc:@0"]}
      %y = tf.Neg(%1) {_class = [b"loc:@1"]}
      %done = tf.NoOp() after(%0)
    }
    """
    model, report = check_pass("obfuscate-names", before, after)
    assert report.rules == {"obfuscate-names": 3}
    assert model.graph.node("0").origins == ("first/secret",)


def test_names_that_exchange_places() -> None:
    before = "graph @main(%x: float32[2]) -> (%y) { %1 = tf.Abs(%x) %0 = tf.Exp(%1) %y = tf.Neg(%0) }"
    after = "graph @main(%x: float32[2]) -> (%y) { %0 = tf.Abs(%x) %1 = tf.Exp(%0) %y = tf.Neg(%1) }"
    check_pass("obfuscate-names", before, after)


def test_names_get_longer_when_the_short_ones_are_used_up() -> None:
    chain = "".join(f"%node{i} = tf.Abs(%{f'node{i - 1}' if i else 'x'})\n" for i in range(70))
    model = parse_model(f"graph @main(%x: float32[2]) -> (%Z) {{ {chain} %Z = tf.Neg(%node69) }}")
    run_pass(model, "obfuscate-names")
    names = [node.name for node in model.graph]
    assert names[1:4] == ["0", "1", "2"]
    assert names[60:63] == ["Y", "00", "01"]  # 'x' is the input, 'Z' the output


def test_resources_known_by_their_node_alone_stay() -> None:
    text = """
    graph @main() -> (%y) {
      %table = tf.VarHandleOp() {dtype = float32, shape = shape[2]}
      %other = tf.VarHandleOp() {dtype = float32, shape = shape[2], shared_name = b"v"}
      %r = tf.ReadVariableOp(%table) {dtype = float32}
      %s = tf.ReadVariableOp(%other) {dtype = float32}
      %y = tf.AddV2(%r, %s)
    }
    """
    model = parse_model(text)
    report = run_pass(model, "obfuscate-names")
    assert [node.name for node in model.graph] == ["table", "0", "1", "2", "y"]
    assert report.refusals[0]["nodes"] == ["table"]


def test_debugging_information_goes() -> None:
    graph_def = GraphDef()
    node = graph_def.node.add(name="a", op="NoOp")
    node.experimental_debug_info.original_node_names.append("secret")
    model = read_graphdef(graph_def.SerializeToString())
    run_pass(model, "obfuscate-names")
    assert b"secret" not in graphdef_bytes(model)
    assert run_pass(model, "obfuscate-names").rules == {}


def test_random_models_compute_the_same(sample_models) -> None:
    for model in sample_models:
        before = model.clone()
        run_pass(model, "obfuscate-names")
        assert_equivalent(before, model)
        read_graphdef(graphdef_bytes(model))
