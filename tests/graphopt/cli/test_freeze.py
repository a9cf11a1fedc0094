"""`graphopt freeze` and `graphopt.freeze` on SavedModels that TensorFlow writes."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.cli.main import main
from graphopt.ir.specifications import check

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A SavedModel with two signatures that share a variable, a table from a file, and one that changes a variable."""
    tf = pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("freeze")
    words = folder / "words.txt"
    words.write_bytes(b"a\nb\r\nc d\n")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.w = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], name="w")
            self.count = tf.Variable(0.0, name="count")
            lookup = tf.lookup
            self.words = lookup.StaticHashTable(
                lookup.TextFileInitializer(
                    str(words), tf.string, lookup.TextFileIndex.WHOLE_LINE, tf.int64, lookup.TextFileIndex.LINE_NUMBER
                ),
                -1,
            )

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def plain(self, x: Any) -> Any:
            return {"y": tf.matmul(x, self.w)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "word")])
        def embed(self, word: Any) -> Any:
            return {"row": tf.gather(self.w, tf.maximum(self.words.lookup(word), 0)), "id": self.words.lookup(word)}

        @tf.function(input_signature=[])
        def counting(self) -> Any:
            return {"count": self.count.assign_add(1.0)}

    model = Model()
    signatures = {"serving_default": model.plain, "embed": model.embed, "counting": model.counting}
    tf.saved_model.save(model, folder / "model", signatures=signatures)
    return folder / "model"


def run(path: pathlib.Path, fetch: str, feeds: dict[str, Any], *before: str) -> Any:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        tf.import_graph_def(v1.GraphDef.FromString(path.read_bytes()), name="")
        for name in before:
            session.run(name)
        return session.run(fetch, feeds)


def test_one_signature(saved: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "frozen.pb"
    assert main(["freeze", str(saved), "-o", str(out), "--signature", "serving_default"]) == 0
    assert "1 variable frozen" in capsys.readouterr().out
    model = graphopt.load(out)
    assert check(model, "frozen") == []
    assert check(model, "table-free") == []
    assert not model.functions
    fetch, feed = (next(iter(names)).node.name for names in (model.graph.outputs, model.graph.inputs))
    found = run(out, f"{fetch}:0", {f"{feed}:0": np.array([[1, 0, 1]], np.float32)})
    np.testing.assert_array_equal(found, [[6, 8]])


def test_a_table_takes_its_file_into_the_graph(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    frozen = graphopt.freeze(saved, signature="embed")
    assert len(frozen.initialisers) == 1
    assert check(frozen.model, "frozen") == []
    assert [p.rules for p in frozen.report.passes if p.name == "freeze-tables"] == [{"freeze-tables": 1}]
    out = tmp_path / "frozen.pb"
    graphopt.save(frozen.model, out)
    signature = frozen.model.signatures["embed"]
    fetch = [f"{value.node.name}:{value.index}" for value in signature.output_values().values()]
    assert list(signature.outputs) == ["id", "row"]
    feed = f"{signature.input_values()['word'].node.name}:0"
    feeds = {feed: np.array([b"c d", b"b", b"?"], object)}
    places, rows = run(out, fetch, feeds, *frozen.initialisers)
    np.testing.assert_array_equal(places, [2, 1, -1])
    np.testing.assert_array_equal(rows, [[5, 6], [3, 4], [1, 2]])


def test_a_variable_that_is_changed(
    saved: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "frozen.pb"
    assert main(["freeze", str(saved), "-o", str(out)]) == 4
    message = capsys.readouterr().err
    assert "variable 'count' stays one" in message
    assert "AssignAddVariableOp) changes it" in message
    assert not out.exists()
    assert main(["freeze", str(saved), "-o", str(out), "--except", "count", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "graphopt/freeze/v1"
    assert report["variables"] == ["count"]
    assert report["signatures"] == ["counting", "embed", "serving_default"]


def test_both_signatures_share_one_constant(saved: pathlib.Path) -> None:
    frozen = graphopt.freeze(saved, exceptions=["count"])
    held = [node for node in frozen.model.graph if node.op == "tf.Const" and node.output.shape.static == (3, 2)]
    assert [node.name for node in held] == ["w"]


def test_functions_can_be_kept(saved: pathlib.Path) -> None:
    frozen = graphopt.freeze(saved, signature="serving_default", functions=True)
    assert frozen.model.functions
    assert check(frozen.model, "frozen") == []


def test_usage(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(graphopt.UsageError, match="no signature 'predict'; there are 'counting', 'embed', 'serving"):
        graphopt.freeze(saved, signature="predict")
    with pytest.raises(graphopt.UsageError, match="no variable matches 'u\\*'; there are"):
        graphopt.freeze(saved, names=["u*"], signature="serving_default")
    assert main(["freeze", str(saved), "-o", str(tmp_path)]) == 2
