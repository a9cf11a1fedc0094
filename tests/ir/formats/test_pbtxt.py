"""GraphDefs as text."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.message import DecodeError, EncodeError

from graphopt.ir.errors import MalformedError
from graphopt.ir.formats.graphdef import (
    graphdef_bytes,
    load,
    read_graphdef,
    read_graphdef_text,
    write_graphdef,
)
from graphopt.ir.formats.protos import graph_pb2 as pb

TEXT = """
# A comment { that opens nothing
node {
  name: "x"
  op: "Placeholder"
  attr { key: "dtype" value { type: DT_FLOAT } }
  attr { key: "shape" value { shape { dim { size: -1 } dim { size: 3 name: "columns" } } } }
}
node: < name: 'b { "' op: "Relu" input: "x" attr { key: "T" value { type: 1 } } >
node {
  name: "c" op: "Const"
  attr { key: "value" value { tensor { dtype: DT_HALF tensor_shape { dim { size: 2 } } half_val: 15360 } } }
  attr { key: "big" value { list { i: [-9223372036854775808, 7] f: -inf } } }
}
versions { producer: 1882 }
"""


def test_text_is_read_and_written(tmp_path: pathlib.Path) -> None:
    text = TEXT.replace(" f: -inf", "")
    model = read_graphdef_text(text.encode())
    assert [node.name for node in model.graph] == ["x", 'b { "', "c"]
    assert model.graph.node("c").attrs["value"].numpy().tolist() == [1, 1]
    assert model.graph.node("c").attrs["big"] == (-(2**63), 7)
    assert model.versions == (1882, 0, ())
    write_graphdef(model, tmp_path / "m.pbtxt", text=True)
    again = load(tmp_path / "m.pbtxt")
    assert graphdef_bytes(again) == graphdef_bytes(model)
    assert "DT_HALF" in (tmp_path / "m.pbtxt").read_text()


@pytest.mark.parametrize("name", ["m.pb", "m.pbtxt", "m"])
def test_content_not_suffix_says_which(name: str, tmp_path: pathlib.Path) -> None:
    model = read_graphdef_text(b'node { name: "n\\303\\244" op: "NoOp" }')
    for text in (False, True):
        write_graphdef(model, tmp_path / name, text=text)
        assert [node.name for node in load(tmp_path / name).graph] == ["nä"]


def test_a_byte_order_mark_is_no_content() -> None:
    assert len(read_graphdef_text(b'\xef\xbb\xbfnode { name: "n" op: "NoOp" }').graph) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('node { name: "a" op: "NoOp" } }', "1:31"),
        ('node { name: "a" op: "NoOp"', "Expected"),
        ('node { name: "a" nome: "NoOp" }', 'no field named "nome"'),
        ('node { name: "a" name: "b" op: "NoOp" }', "multiple"),
        ('node { name: "a" op: 7 }', "Expected string"),
        ('node { name: "a', "missing ending quote"),
        ('node {\n name: "a" op: "X"\n attr { key: "T" value { type: DT_FLOTE } } }', "3:.*DT_FLOTE"),
        ('node { name: "a" op: "X" attr { key: "T" value { type: 900 } } }', "'a'.*attr\\['T'\\].*number 900"),
        ('node { name: "a" op: "X" attr { key: "i" value { i: 99999999999999999999 } } }', "out of range"),
        ('node { name: "a" op: "X" attr { key: "i" value { i: 1 b: true } } }', "1:.*oneof|multiple"),
        ('node { name: "a" op: "X" attr { key: "i" } attr { key: "i" } }', "'a'.*attr\\['i'\\].*twice"),
        ('node { name: "\\377" op: "X" }', "not the text|UTF-8"),
        ("library { function { signature { } } }", "no name"),
        ("[type.googleapis.com/x.Y] { }", "not the text"),
        ("node " + "{" * 5000, "nested"),
        ("node < " * 5000, "nested"),
        ("x" * 100_000, "no field named"),
    ],
)
def test_bad_text_is_clean(text: str, words: str) -> None:
    with pytest.raises(MalformedError, match=words) as caught:
        read_graphdef_text(text.encode(), source="m.pbtxt")
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def nested(depth: int) -> str:
    deep = "value { i: 1 }"
    for _ in range(depth):
        deep = f'value {{ func {{ name: "f" attr {{ key: "f" {deep} }} }} }}'
    return f'node {{ name: "a" op: "X" attr {{ key: "f" {deep} }} }}'


def test_nesting_stops_where_protobuf_stops() -> None:
    for depth in range(28, 36):
        message = text_format.Parse(nested(depth), pb.GraphDef())
        try:
            data = message.SerializeToString()
            pb.GraphDef.FromString(data)
        except (DecodeError, EncodeError):
            with pytest.raises(MalformedError, match="100 messages are nested"):
                read_graphdef_text(nested(depth).encode())
            continue
        for model in (read_graphdef(data), read_graphdef_text(nested(depth).encode())):
            assert graphdef_bytes(model) == data


def test_other_bytes_are_no_text() -> None:
    with pytest.raises(MalformedError, match=r"byte 3.*not valid UTF-8"):
        read_graphdef_text(b"abc\xff")


BESIDE_TENSORFLOW = """
from graphopt.ir.formats.protos import graph_pb2 as ours
from tensorflow.core.framework import graph_pb2 as theirs
message = theirs.GraphDef()
message.node.add(name="a", op="Relu").attr["T"].type = 1
assert ours.GraphDef.FromString(message.SerializeToString()).node[0].attr[0].value.type == 1
"""


@pytest.mark.tensorflow
def test_both_sets_of_messages_live_in_one_process(run_python: Callable[..., Any]) -> None:
    result = run_python(BESIDE_TENSORFLOW)
    assert result.returncode == 0, result.stderr


@pytest.mark.tensorflow
def test_our_messages_are_tensorflows() -> None:
    """Same names, numbers and types of fields, maps aside, which are entries here."""
    from tensorflow.core.framework import graph_pb2 as theirs

    pending = [(pb.GraphDef.DESCRIPTOR, theirs.GraphDef.DESCRIPTOR)]
    seen = set()
    while pending:
        mine, other = pending.pop()
        if mine.full_name in seen:
            continue
        seen.add(mine.full_name)
        assert set(mine.fields_by_name) == set(other.fields_by_name), mine.full_name
        for name, field in mine.fields_by_name.items():
            twin = other.fields_by_name[name]
            assert (field.number, field.type, field.is_repeated) == (twin.number, twin.type, twin.is_repeated), name
            if field.message_type is not None:
                pending.append((field.message_type, twin.message_type))
            if field.enum_type is not None:
                numbers = {value.name: value.number for value in field.enum_type.values}
                assert numbers == {value.name: value.number for value in twin.enum_type.values}
    assert len(seen) > 20
