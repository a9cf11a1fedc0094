"""What is no `.tflite` file, or contradicts itself, is refused with the file and the field named."""

from __future__ import annotations

import pathlib
import random
import struct
import sys

import pytest

from graphopt.ir import MalformedError
from graphopt.ir.errors import ResourceError
from graphopt.ir.formats.tflite import read_tflite, tflite_bytes
from graphopt.ir.formats.tflite.flatbuffer import Decoder
from graphopt.ir.verifier import verify

TOOLS = pathlib.Path(__file__).parents[4] / "tools"


def refused(data: bytes) -> MalformedError:
    with pytest.raises(MalformedError) as found:
        read_tflite(data, source="m.tflite")
    assert str(found.value).startswith("m.tflite")
    assert found.value.exit_status == 3
    return found.value


def test_every_truncation_is_refused(fields, packed) -> None:
    data = packed(fields)
    for length in range(len(data)):
        refused(data[:length])


def test_another_identifier_is_refused(fields, packed) -> None:
    assert "TFL3" in str(refused(packed(fields).replace(b"TFL3", b"TFL2")))


def change(path: tuple, value):
    def apply(fields) -> None:
        for key in path[:-1]:
            fields = fields[key]
        fields[path[-1]] = value

    return apply


MAIN = ("subgraphs", 0)
OPERATOR = (*MAIN, "operators", 0)
CALLS = {"cond_subgraph_index": 0, "body_subgraph_index": 0}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("version",), 2, "Model.version"),
        (("subgraphs",), [], "Model.subgraphs"),
        ((*MAIN, "inputs"), [3], "SubGraph.inputs"),
        ((*MAIN, "outputs"), [-1], "SubGraph.outputs"),
        ((*MAIN, "tensors", 1, "buffer"), 2, "Tensor.buffer"),
        ((*OPERATOR, "opcode_index"), 1, "Operator.opcode_index"),
        ((*OPERATOR, "inputs"), [0, 99], "Operator.inputs"),
        ((*OPERATOR, "inputs"), [0, -2], "Operator.inputs"),
        ((*OPERATOR, "inputs"), [2, 1], "Operator.inputs"),
        ((*OPERATOR, "outputs"), [2, 2], "Operator.outputs"),
        ((*OPERATOR, "intermediates"), [7], "Operator.intermediates"),
        (("buffers", 1), {"offset": 1 << 40, "size": 4}, "Buffer.offset"),
        (("metadata",), [{"name": b"m", "buffer": 9}], "Metadata.buffer"),
        (("signature_defs",), [{"signature_key": b"f", "subgraph_index": 4}], "SignatureDef.subgraph_index"),
        (("signature_defs",), [{"inputs": [{"name": b"a", "tensor_index": 1}]}], "SignatureDef.inputs"),
        (("signature_defs",), [{}, {}], "Model.signature_defs"),
    ],
)
def test_what_leads_nowhere_is_refused(fields, packed, path, value, field) -> None:
    change(path, value)(fields)
    assert refused(packed(fields)).field == field


@pytest.mark.parametrize(("called", "field"), [(0, "Model.subgraphs"), (5, "Operator.builtin_options")])
def test_subgraphs_that_call_themselves_or_nobody_are_refused(fields, packed, called, field) -> None:
    options = {"cond_subgraph_index": called, "body_subgraph_index": called}
    fields["subgraphs"][0]["operators"][0] |= {"builtin_options_type": 93, "builtin_options": options}
    fields["operator_codes"] = [{"builtin_code": 119}]
    assert refused(packed(fields)).field == field


def test_strings_out_of_bounds_are_refused(fields, packed) -> None:
    fields["subgraphs"][0]["tensors"][1] |= {"type": 5, "shape": [1]}
    fields["buffers"][1]["data"] = struct.pack("<3i", 1, 12, 99) + b"abcd"
    assert "'w'" in str(refused(packed(fields)))


def test_huge_shapes_take_no_memory(fields, packed) -> None:
    huge = [2**31 - 1] * 6
    for tensor in fields["subgraphs"][0]["tensors"]:
        tensor["shape"] = huge
    fields["subgraphs"][0]["tensors"].append({"name": b"none", "shape": [0, *huge]})
    model = read_tflite(packed(fields))
    verify(model)
    assert tflite_bytes(read_tflite(tflite_bytes(model))) == tflite_bytes(model)


def test_offsets_that_all_lead_to_one_table_are_refused(fields, packed) -> None:
    fields["operator_codes"] = [{"custom_code": b"a" * 5000}] + [{}] * 20000
    data = bytearray(packed(fields))
    vector = data.index(struct.pack("<I", 20001)) + 4
    first = vector + struct.unpack_from("<I", data, vector)[0]
    for place in range(vector, vector + 4 * 20001, 4):
        struct.pack_into("<I", data, place, first - place)
    with pytest.raises(ResourceError):
        read_tflite(bytes(data))


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_misaligned_root_is_refused(fields, packed, place) -> None:
    data = bytearray(packed(fields))
    struct.pack_into("<I", data, 0, struct.unpack_from("<I", data, 0)[0] + place)
    if place:
        refused(bytes(data))
    else:
        assert Decoder(memoryview(bytes(data))).root("Model")["version"] == 3


def test_no_file_is_refused(tmp_path) -> None:
    with pytest.raises(MalformedError, match="cannot be read"):
        read_tflite(tmp_path / "none.tflite")
    with pytest.raises(MalformedError, match="no regular file"):
        read_tflite(tmp_path)


def fuzzed(count: int, monkeypatch, seeds=None) -> int:
    monkeypatch.syspath_prepend(str(TOOLS))
    import fuzz_tflite

    mutator = fuzz_tflite.Mutator(seeds or fuzz_tflite.seeds())
    outcomes = [fuzz_tflite.examine(mutator.mutant(random.Random(number))) for number in range(count)]
    assert [outcome for outcome in outcomes if outcome.kind == "unclean"] == []
    return len({outcome.kind for outcome in outcomes})


def test_mutants_end_cleanly(fields, packed, monkeypatch) -> None:
    assert fuzzed(1500, monkeypatch, [packed(fields)]) > 1
    assert "fuzz_tflite" in sys.modules


@pytest.mark.deep
def test_many_mutants_of_real_models_end_cleanly(corpus, monkeypatch) -> None:
    assert fuzzed(50000, monkeypatch) > 1
