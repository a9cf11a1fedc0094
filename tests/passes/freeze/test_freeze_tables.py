"""freeze-tables: the contents of text files become constants that initialise the table."""

from __future__ import annotations

import pathlib
from types import SimpleNamespace

import pytest

from graphopt.ir import Model, known_array
from graphopt.ir.formats.metagraph_proto import Asset
from graphopt.ir.text import parse_model
from graphopt.ir.verifier import verify
from graphopt.passes import PassReport, run_pass

GRAPH = """model producer=1882 {
graph @main(%word: string[?]) -> (%id) {
  %file = tf.Const() {value = string[] b"ignored"}
  %table = tf.HashTableV2() {key_dtype = string, value_dtype = int64, shared_name = "words"}
  %init = tf.InitializeTableFromTextFileV2(%table, %file) {key_index = KEY, value_index = VALUE, delimiter = "\\t"} : ()
  %other = tf.Const() {value = int64[] -1}
  %id = tf.LookupTableFindV2(%table, %word, %other) {Tin = string, Tout = int64}
}
}
"""


def frozen(
    folder: pathlib.Path, text: bytes, key: int = -2, value: int = -1, **options: int
) -> tuple[Model, PassReport]:
    """The model after the pass, its asset `words.txt` holding `text`."""
    (folder / "assets").mkdir()
    (folder / "assets" / "words.txt").write_bytes(text)
    model = parse_model(GRAPH.replace("KEY", str(key)).replace("VALUE", str(value)))
    model.graph.targets = [model.graph.node("init")]
    model.metadata["metagraph"] = SimpleNamespace(root=str(folder), assets=[Asset("file:0", "words.txt", b"")])
    spec = "freeze-tables" + (f"{{max-bytes={options['max_bytes']}}}" if options else "")
    report = run_pass(model, spec)
    verify(model)
    return model, report


def contents(model: Model) -> list[list[object]]:
    """Keys and values that initialise the table."""
    initialiser = model.graph.node("init")
    assert initialiser.op == "tf.InitializeTableV2"
    return [known_array(initialiser.input(place)).tolist() for place in (1, 2)]


def test_lines_and_their_numbers(tmp_path: pathlib.Path) -> None:
    model, report = frozen(tmp_path, b"a\nb\r\nc d\n")
    assert contents(model) == [[b"a", b"b", b"c d"], [0, 1, 2]]
    assert report.rules == {"freeze-tables": 1}
    assert [node.name for node in model.graph.targets] == ["init"]
    assert [value.name for value in model.graph.outputs] == ["id"]
    assert model.graph.node("init/keys").origins == ("init",)
    assert not run_pass(model, "freeze-tables").rules


def test_columns(tmp_path: pathlib.Path) -> None:
    model, _ = frozen(tmp_path, b"x\t7\ny\t-2\n", key=0, value=1)
    assert contents(model) == [[b"x", b"y"], [7, -2]]


@pytest.mark.parametrize(
    ("text", "places", "options", "reason"),
    [
        (b"x\tseven\n", (0, 1), {}, "does not hold what the table does"),
        (b"x\n", (0, 1), {}, "does not hold what the table does"),
        (b"a\nb\n", (-2, -1), {"max_bytes": 2}, "larger than 2 bytes"),
    ],
)
def test_refusals(
    tmp_path: pathlib.Path, text: bytes, places: tuple[int, int], options: dict[str, int], reason: str
) -> None:
    model, report = frozen(tmp_path, text, *places, **options)
    assert model.graph.node("init").op == "tf.InitializeTableFromTextFileV2"
    assert reason in report.refusals[0]["reason"]


def test_a_file_that_is_no_asset_is_left_alone(tmp_path: pathlib.Path) -> None:
    model = parse_model(GRAPH.replace("KEY", "-2").replace("VALUE", "-1"))
    model.graph.targets = [model.graph.node("init")]
    report = run_pass(model, "freeze-tables")
    assert report.refusals[0]["reason"] == "its file is no asset of the model"
