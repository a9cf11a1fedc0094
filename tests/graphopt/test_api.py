"""load, save, optimize: each in one line."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import graphopt
from graphopt.ir import CheckError, UsageError
from graphopt.ir.formats.graphdef import graphdef_bytes
from graphopt.passes import Editor, Exactness, Match, RewritePass, Rule


def test_the_main_job_in_three_lines(example: str, tmp_path) -> None:
    model, report, verification = graphopt.optimize(example)
    graphopt.save(model, tmp_path / "small.pb")
    again = graphopt.load(tmp_path / "small.pb")
    assert report.nodes_before == 294
    assert len(again.graph) == report.nodes_after < 100
    assert verification is None
    assert list(again.signatures["serving_default"].outputs) == ["probabilities"]


def test_text_and_binary_follow_the_suffix(example: str, tmp_path) -> None:
    model = graphopt.load(example)
    graphopt.save(model, tmp_path / "m.pbtxt")
    assert (tmp_path / "m.pbtxt").read_text().startswith("node {")
    assert graphopt.diff(model, tmp_path / "m.pbtxt").is_empty


def test_an_existing_file_is_kept_unless_told_otherwise(example: str, tmp_path) -> None:
    model, target = graphopt.load(example), tmp_path / "there.pb"
    target.write_bytes(b"old")
    with pytest.raises(UsageError, match="exists"):
        graphopt.save(model, target)
    assert target.read_bytes() == b"old"
    graphopt.save(model, target, overwrite=True)
    assert graphopt.diff(model, target).is_empty
    with pytest.raises(UsageError, match="is a directory"):
        graphopt.save(model, tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        graphopt.save(model, tmp_path / "nowhere" / "m.pb")


def test_the_source_is_not_changed(affine) -> None:
    model = affine()
    before = graphdef_bytes(model)
    graphopt.optimize(model)
    assert graphdef_bytes(model) == before


def test_numeric_checks_compare_with_the_original(example: str) -> None:
    result = graphopt.optimize(example, check="numeric", runtime="reference")
    assert result.report.verified == "numeric"
    assert result.verification is not None
    assert result.verification.holds
    assert 0 < result.verification.outputs[0].relative_error < 1e-5
    assert not result.verification.warnings


def test_data_may_be_arrays_or_a_file(affine, tmp_path) -> None:
    data = {"x": np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)}
    np.savez(tmp_path / "d.npz", **data)
    for given in (data, tmp_path / "d.npz", [{"x": sample} for sample in data["x"]]):
        result = graphopt.optimize(affine(), check="numeric", data=given, runtime="reference")
        assert result.verification is not None
        assert result.verification.samples == 4


def test_a_wrong_rule_is_caught_and_named(affine) -> None:
    class DropFactor(Rule):
        """Leave a factor away."""

        def pattern(self, tf, x, y):
            return tf.Mul(x, y, name="root")

        def rewrite(self, match: Match, edit: Editor):
            return match.x

    class Wrong(RewritePass):
        """Not a good idea."""

        rules = (DropFactor,)

    with pytest.raises(CheckError, match=r"pass 'wrong' failed.*off by.*rule 'drop-factor'"):
        graphopt.optimize(affine(), passes=[Wrong()], check="numeric", runtime="reference")
    assert len(graphopt.optimize(affine(), passes=[Wrong()]).report.passes) == 1


def test_options_are_checked_before_any_work(affine) -> None:
    for options, message in (
        ({"check": "thoroughly"}, "check 'thoroughly' is not one of structure, numeric, off"),
        ({"data": {}}, "data are only used by numeric checks"),
        ({"pipeline": "inferense"}, "did you mean 'inference'"),
        ({"exactness": "exakt"}, "did you mean 'exact'"),
        ({"passes": "no-such-pass"}, "no pass 'no-such-pass'"),
    ):
        with pytest.raises(UsageError, match=message):
            graphopt.optimize(affine(), **options)


def test_exactness_limits_what_passes_do(example: str) -> None:
    exact = graphopt.optimize(example, exactness="exact").report
    free = graphopt.optimize(example, exactness=Exactness.REASSOCIATING).report
    assert exact.nodes_after > free.nodes_after


def test_a_graph_without_outputs_keeps_its_ends_and_says_so(sketch) -> None:
    sketch.add("VarHandleOp", "v", dtype="resource")
    sketch.model.set_signature({}, {})
    result = graphopt.optimize(sketch.model)
    assert [node.name for node in result.model.graph] == ["v"]
    assert "no outputs were found" in result.report.notes[0]
    assert "'v'" in result.report.notes[0]


def test_inputs_cut_the_graph(example: str) -> None:
    result = graphopt.optimize(example, inputs="pool", outputs="softmax", check="numeric", runtime="reference")
    assert [value.name for value in result.model.graph.inputs] == ["pool"]
    assert result.model.graph.node("pool").op == "tf.Placeholder"
    assert "tf.Conv2D" not in result.report.operators_after


def test_the_journal_holds_every_rewrite(affine) -> None:
    report = graphopt.optimize(affine(factor=1.0), passes="simplify", journal=True).report
    assert report.journal is not None
    assert len(report.journal) == report.rewrites > 0


def test_collections_are_as_they_were(affine) -> None:
    assert gc.isenabled()
    graphopt.optimize(affine())
    with pytest.raises(graphopt.Error):
        graphopt.load(b"")
    assert gc.isenabled()


def test_every_public_name_is_there() -> None:
    for name in graphopt.__all__:
        assert getattr(graphopt, name) is not None
        assert name in dir(graphopt)
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        _ = graphopt.optimise


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert graphopt.__version__ == version("graphopt")
