"""Inputs and outputs found, set aside with a reason, or named by the caller."""

from __future__ import annotations

import json

import pytest

from graphopt.discovery import apply, discover
from graphopt.ir import UsageError
from graphopt.ir.types import BOOL
from graphopt.names import tensor_name


def names(found) -> tuple[list[str], list[str]]:
    return list(found.inputs), list(found.outputs)


def test_placeholders_and_sinks_are_chosen_and_the_choice_explained(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("Relu", "y", "x")
    found = discover(sketch.model)
    assert names(found) == (["x"], ["y"])
    assert found.reasons == {
        "x": "a source (Placeholder) that the outputs depend on",
        "y": "nothing reads it, and it depends on an input",
    }
    signature = apply(sketch.model, found)
    assert signature.inferred
    assert sketch.graph.inputs[0].name == "x"
    assert sketch.graph.outputs[0].name == "y"


def test_training_leftovers_checks_savers_and_summaries_are_set_aside(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("Placeholder", "labels")
    sketch.constant("save/Const")
    sketch.constant("unread")
    sketch.add("VariableV2", "weights")
    sketch.add("Identity", "weights/read", "weights")
    sketch.add("Assign", "weights/Assign", "weights", "unread")
    sketch.add("MatMul", "logits", "x", "weights/read")
    sketch.add("Softmax", "probabilities", "logits")
    sketch.add("HistogramSummary", "summary", "unread", "probabilities")
    sketch.add("L2Loss", "dense/kernel/Regularizer/l2", "weights")
    sketch.add("Sub", "gradients/logits_grad/Sub", "logits", "labels")
    sketch.add("Less", "check/Less", "x", "unread")
    sketch.add("Assert", "check/Assert", "check/Less", outputs=0)
    found = discover(sketch.model)
    assert names(found) == (["x"], ["probabilities"])
    assert found.reasons["probabilities"] == "the best there is: only summaries or savers read it"
    assert found.set_aside["weights/Assign"] == "training, saving, summary or a check"
    assert found.set_aside["dense/kernel/Regularizer/l2"] == "a regularization loss"
    assert found.set_aside["gradients/logits_grad/Sub"] == "part of a gradient"
    assert found.set_aside["check/Less"] == "only a check reads it"
    assert found.set_aside["labels"] == "a source that no output depends on"


def test_a_condition_that_only_a_check_reads_is_no_output(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("All", "check", "x")
    sketch.add("Assert", "assert", "check", outputs=0)
    sketch.add("Relu", "y", "x", "^assert")
    assert names(discover(sketch.model)) == (["x"], ["y"])


def test_variables_that_nothing_reads_and_values_without_input_lose_to_the_rest(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("VarHandleOp", "v", dtype="resource")
    sketch.add("ReadVariableOp", "v/Read/ReadVariableOp", "v")
    sketch.constant("step")
    sketch.add("Neg", "no_input", "step")
    sketch.add("Relu", "y", "x")
    found = discover(sketch.model)
    assert names(found) == (["x"], ["y"])
    assert found.set_aside["no_input"] == "it depends on no input"
    assert found.set_aside["v/Read/ReadVariableOp"] == "it only reads a variable or table"


def test_loop_remains_are_outputs_only_where_there_is_nothing_else(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("Exit", "while/Exit", "x")
    assert names(discover(sketch.model))[1] == ["while/Exit"]
    sketch.add("Relu", "y", "x")
    assert names(discover(sketch.model))[1] == ["y"]


def test_a_handle_is_never_an_output(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("TensorArrayV3", "array", "x", dtype="resource")
    found = discover(sketch.model)
    assert found.set_aside["array"] == "a handle, which cannot be fetched"


@pytest.mark.parametrize(("op", "expected"), [("Split", ["s", "s:1"]), ("FusedBatchNorm", ["s"]), ("Merge", ["s"])])
def test_outputs_of_one_node_that_make_sense_to_fetch(sketch, op: str, expected: list[str]) -> None:
    sketch.add("Placeholder", "x")
    sketch.add(op, "s", "x", outputs=2)
    assert list(discover(sketch.model).outputs) == expected


def test_a_flag_with_a_default_keeps_it_and_other_defaults_may_be_fed(sketch) -> None:
    sketch.constant("default")
    flag = sketch.add("PlaceholderWithDefault", "keras_learning_phase", "default")
    flag.type = flag.type.__class__(BOOL)
    sketch.add("PlaceholderWithDefault", "keep", "default")
    sketch.add("Select", "y", "keras_learning_phase", "keep", "default")
    found = discover(sketch.model)
    assert names(found) == (["keep"], ["y"])
    assert found.set_aside["keras_learning_phase"] == "a flag that has a default, which is kept"


def test_a_data_set_feeds_as_many_inputs_as_are_read(sketch) -> None:
    sketch.add("IteratorGetNext", "next", outputs=3)
    sketch.add("Add", "y", "next", "next:1")
    assert names(discover(sketch.model)) == (["next", "next:1"], ["y"])


def test_arguments_and_returns_of_a_function_body_count_by_index(sketch) -> None:
    sketch.add("_Arg", "second", index=1)
    sketch.add("_Arg", "first", index=0)
    sketch.add("Neg", "n", "second")
    sketch.add("_Retval", "r1", "n", outputs=0, index=1)
    sketch.add("_Retval", "r0", "second", outputs=0, index=0)
    found = discover(sketch.model)
    assert names(found) == (["first", "second"], ["second", "n"])
    assert [node.name for node in found.targets] == ["r0", "r1"]


def test_a_graph_of_constants_or_of_placeholders_still_has_outputs(sketch) -> None:
    sketch.constant("c")
    assert names(discover(sketch.model)) == ([], ["c"])
    sketch.add("Placeholder", "x")
    assert names(discover(sketch.model)) == ([], ["c"])


def test_names_come_with_or_without_port_as_text_sequence_or_mapping(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("Split", "s", "x", outputs=2)
    for given in ("s:1,x:0", ["s:1", "x"]):
        assert list(discover(sketch.model, outputs=given).outputs) == ["s:1", "x"]
    found = discover(sketch.model, inputs={"image": "x:0"}, outputs={"scores": "s:1"})
    assert names(found) == (["image"], ["scores"])
    assert found.outputs["scores"].index == 1
    assert found.reasons["scores"] == "named by the caller"


def test_inputs_may_cut_the_graph_and_what_is_odd_is_noted(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("Placeholder", "other")
    sketch.add("Relu", "middle", "x")
    sketch.add("Add", "y", "middle", "other")
    found = discover(sketch.model, inputs="middle", outputs="y")
    assert found.reasons["middle"] == "named by the caller; cuts the graph here"
    assert found.notes == ["the outputs also depend on 'other', which is not among the inputs"]
    assert discover(sketch.model, inputs="x,other", outputs="middle").notes == ["no output depends on input 'other'"]


def test_outputs_follow_from_the_inputs_that_are_given(sketch) -> None:
    sketch.add("Placeholder", "a")
    sketch.add("Placeholder", "b")
    sketch.add("Relu", "from_a", "a")
    sketch.add("Relu", "from_b", "b")
    assert list(discover(sketch.model, inputs="b").outputs) == ["from_b"]
    assert list(discover(sketch.model, outputs="from_a").inputs) == ["a"]


def test_a_node_without_outputs_becomes_a_target(sketch) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("NoOp", "init", outputs=0)
    sketch.add("Relu", "y", "x")
    found = discover(sketch.model, outputs="y,init,^x")
    assert list(found.outputs) == ["y"]
    assert [node.name for node in found.targets] == ["init", "x"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("softmx", "there is no tensor 'softmx' in the graph; did you mean 'softmax'?"),
        ("softmax:3", "there is no tensor 'softmax:3': node 'softmax' (tf.Softmax) has one output"),
        ("\x1b[31m", "there is no tensor '\\x1b[31m' in the graph"),
        ("a,,b", "must not be empty"),
        ([], "must not be empty"),
    ],
)
def test_a_wrong_name_is_a_usage_error_that_helps(sketch, given, message: str) -> None:
    sketch.add("Placeholder", "x")
    sketch.add("Softmax", "softmax", "x")
    with pytest.raises(UsageError) as failure:
        discover(sketch.model, outputs=given)
    assert message in str(failure.value)


def test_a_misspelt_name_in_a_large_graph_is_compared_with_few(sketch) -> None:
    for count in range(3000):
        sketch.add("Placeholder", f"layer_{count}/input")
    sketch.add("Relu", "scope/softmax", "layer_1/input")
    with pytest.raises(UsageError, match="did you mean 'scope/softmax'"):
        discover(sketch.model, outputs="scope/softmx")


# Networks of the corpus whose manifest lists what no caller would choose, and why graphopt chooses otherwise.
OTHERWISE = {
    "max_lstm.pbtxt": ("lstm_1_input", "lstm_1/transpose_1"),  # set aside: variables of the loop
    "unfrozen_simple_ae.pb": ("input", "Mean"),  # set aside: Assign
    "keras_imagenet_main.pbtxt": ("input_1_1", "training_1/Identity"),  # a training graph; the flag has a default
    "mobilenet_thin_graph.pbtxt": ("image", "Openpose/concat_stage7"),  # set aside: Assign, losses, a flag nobody reads
}


def test_networks_of_the_corpus(corpus) -> None:
    from graphopt import load

    entries = json.loads((corpus / "MANIFEST.json").read_text())
    networks = [entry for entry in entries if entry["kind"] == "graphdef" and entry["class"] == "network"]
    assert len(networks) > 30
    for entry in networks:
        path = corpus / entry["path"]
        graph = load(path).graph
        found_in = {tensor_name(value) for value in graph.inputs}
        found_out = {tensor_name(value) for value in graph.outputs}
        if path.name in OTHERWISE:
            wanted_in, wanted_out = OTHERWISE[path.name]
            assert f"{wanted_in}:0" in found_in, path
            assert f"{wanted_out}:0" in found_out, path
        else:
            assert found_in == {item["name"] for item in entry.get("inputs", ())}, path
            assert found_out == set(entry.get("ref_outputs") or [o["name"] for o in entry["outputs"]]), path
