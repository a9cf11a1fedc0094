"""Each verb: what it prints, as text and as JSON, and with which status it ends."""

from __future__ import annotations

import json

import numpy as np
import pytest

import graphopt
from graphopt.cli.main import main


def save(model, path) -> str:
    graphopt.save(model, path, overwrite=True)
    return str(path)


# optimize -----------------------------------------------------------------------------------------------------


def test_optimize_prints_what_each_pass_did(run_cli, example: str, tmp_path) -> None:
    done = run_cli("optimize", example, "-o", "small.pb")
    assert done.status == 0
    assert done.err == ""
    header, *rows = done.out.splitlines()
    assert header.split() == ["pass", "nodes", "after", "bytes", "after", "ms", "rules", "fired"]
    assert any(row.startswith("fold-batch-norms ") and "fold-into-weights 13" in row for row in rows)
    assert rows[-1].startswith("small.pb: 294 -> ")
    assert "checked: structure" in rows[-1]
    assert len(graphopt.load(tmp_path / "small.pb").graph) < 100


def test_optimize_as_json(run_cli, example: str) -> None:
    report = run_cli("optimize", example, "-o", "small.pb", "--json").json
    assert report["schema"] == "graphopt/optimize/v1"
    assert report["input"] == example
    assert report["output"] == "small.pb"
    assert report["output_bytes"] > 1000
    assert set(report["seconds"]) == {"read", "passes", "write"}
    assert report["report"]["schema"] == "graphopt/report/v1"
    assert report["report"]["nodes_before"] == 294
    assert report["verification"] is None
    rows = report["report"]["passes"]
    assert (rows[0]["nodes_before"], rows[-1]["nodes_after"]) == (294, report["report"]["nodes_after"])
    for measure in ("nodes", "bytes"):  # each row says what its own run did, so it ends where the next begins
        assert [row[f"{measure}_after"] for row in rows[:-1]] == [row[f"{measure}_before"] for row in rows[1:]]


def test_optimize_with_numeric_checks(run_cli, example: str, tmp_path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", pictures=rng.uniform(0, 255, (2, 1, 32, 32, 3)).astype(np.float32))
    command = ["optimize", example, "-o", "small.pb", "--check", "numeric", "--runtime", "reference", "--force"]
    done = run_cli(*command, "--data", "d.npz")
    assert done.status == 0
    assert "of their scale over 2 samples (reference)" in done.out.splitlines()[-1]
    report = run_cli(*command, "--data", "d.npz", "--json").json
    assert report["verification"]["holds"] is True
    assert report["report"]["verified"] == "numeric"


def test_optimize_names_the_pass_that_changed_numbers(run_cli, affine, tmp_path, monkeypatch) -> None:
    from graphopt.passes.cleanup.sort import Sort

    def spoil(self, model, context) -> None:
        model.graph.node("scaled").op = "tf.Div"
        context.rewrote("spoil")

    monkeypatch.setattr(Sort, "run", spoil)
    path = save(affine(), tmp_path / "m.pb")
    done = run_cli("optimize", path, "-o", "o.pb", "--passes", "sort", "--check", "numeric", "--runtime", "reference")
    assert done.status == 1
    assert "pass 'sort' failed: the outputs changed: output 'y' is off by" in done.err
    assert not (tmp_path / "o.pb").exists()


def test_optimize_takes_passes_names_exactness_and_a_journal(run_cli, example: str, tmp_path) -> None:
    done = run_cli(
        "optimize", example, "-o", "o.pbtxt", "--passes", "strip-unused,remove-nodes,strip-unused",
        "--inputs", "pool:0", "--outputs", "softmax", "--exactness", "exact", "--fast-math",
        "--journal", "j.jsonl", "--check", "off",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "checked: off" in done.out
    graph = graphopt.load(tmp_path / "o.pbtxt").graph
    assert [value.name for value in graph.inputs] == ["pool"]
    assert [value.name for value in graph.outputs] == ["softmax"]
    entries = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert {"pass", "rule", "removed", "added", "origins"} == set(entries[0])
    assert {entry["pass"] for entry in entries} == {"strip-unused", "remove-nodes"}


def test_optimize_says_what_the_model_gets_wrong_itself(run_cli, tmp_path) -> None:
    text = 'node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }'
    text += 'node { name: "y" op: "AddV2" input: "x" attr { key: "T" value { type: DT_FLOAT } } }'
    (tmp_path / "odd.pbtxt").write_text(text)
    done = run_cli("optimize", "odd.pbtxt", "-o", "out.pb")
    assert done.status == 0
    assert done.err.startswith("graphopt: the model contradicts itself: ")
    assert "'y'" in done.err
    assert run_cli("optimize", "odd.pbtxt", "-o", "out.pb", "--force", "-q").err == ""


def test_optimize_quiet_and_verbose(run_cli, example: str) -> None:
    quiet = run_cli("optimize", example, "-o", "o.pb", "-q")
    assert len(quiet.out.splitlines()) == 1
    verbose = run_cli("optimize", example, "-o", "o.pb", "-v", "--force")
    assert "left" in verbose.err
    assert "alone" in verbose.err


def test_optimize_notes_what_is_odd_about_names(run_cli, affine, tmp_path) -> None:
    path = save(affine(), tmp_path / "m.pb")
    command = ["optimize", path, "-o", "o.pb", "--inputs", "factor", "--outputs", "y", "--passes", "sort"]
    assert "also depend on 'x'" in run_cli(*command).err
    assert run_cli(*command, "-q", "--force").err == ""


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-o", "there.pb"], 2, "'there.pb' exists; give --force to replace it"),
        (["-o", "mobile.pb", "--force"], 2, "'mobile.pb' is the input itself"),
        (["-o", "link.pb", "--force"], 2, "'link.pb' is the input itself"),
        (["-o", "nowhere/o.pb"], 2, "does not exist"),
        (["-o", "."], 2, "'.' is a directory"),
        (["-o", "o.pb", "--journal", "there.pb"], 2, "'there.pb' exists"),
        (["-o", "o.pb", "--pipeline", "fast"], 2, "there is no pipeline 'fast'"),
        (["-o", "o.pb", "--passes", "sort{"], 2, "pipeline 'sort{'"),
        (["-o", "o.pb", "--exactness", "very"], 2, "there is no exactness 'very'"),
        (["-o", "o.pb", "--outputs", "softmx"], 2, "did you mean 'softmax'?"),
        (["-o", "o.pb", "--data", "d.npz"], 2, "--data is only used by numeric checks"),
        (["-o", "o.pb", "--check", "numeric", "--data", "d.npz"], 3, "d.npz: No such file or directory"),
        (["-o", "o.pb", "--check", "numeric", "--data", "there.pb"], 3, "there.pb: this cannot be read as an .npz"),
        (["-o", "o.pb", "--check", "numeric", "--runtime", "abacus"], 2, "no runtime 'abacus'"),
    ],
)
def test_optimize_refuses(run_cli, example: str, tmp_path, arguments, status: int, message: str) -> None:
    (tmp_path / "there.pb").write_text("precious")
    (tmp_path / "link.pb").symlink_to(example)
    before = (tmp_path / "mobile.pb").read_bytes()
    done = run_cli("optimize", "mobile.pb", *arguments)
    assert done.status == status
    assert message in done.err
    assert done.out == ""
    assert (tmp_path / "there.pb").read_text() == "precious"
    assert (tmp_path / "mobile.pb").read_bytes() == before
    assert not (tmp_path / "o.pb").exists()


def test_optimize_of_what_is_no_model(run_cli, tmp_path) -> None:
    (tmp_path / "bad.pb").write_bytes(b"\x0a\xff\xff\xff\x7f")
    done = run_cli("optimize", "bad.pb", "-o", "o.pb")
    assert done.status == 3
    assert done.err.startswith("graphopt optimize: bad.pb")
    assert done.err.count("\n") == 1


# inspect, print, passes ---------------------------------------------------------------------------------------


def test_inspect_prints_signature_and_why(run_cli, example: str) -> None:
    out = run_cli("inspect", example).out
    assert "signature serving_default (found by graphopt)" in out
    assert "float32[1, 32, 32, 3]" in out
    assert "a source (Placeholder) that the outputs depend on" in out
    assert "set aside; name one with --inputs or --outputs to choose it" in out
    assert "unknown operators   none" in out
    assert "largest constants" not in out
    assert "largest constants" in run_cli("inspect", example, "-v").out


def test_inspect_prints_everything_there_is(run_cli, sketch, tmp_path) -> None:
    sketch.add("Placeholder", "x", shape=[None, 2])
    sketch.add("VariableV2", "v", dtype="float32").node.attrs.update(dtype=sketch.graph.value("x").dtype)
    sketch.add("Relu", "y", "x", shape=[None, 2]).node.device = "/gpu:0"
    for place in range(12):
        sketch.constant(f"unread_{place}")
    path = save(sketch.model, tmp_path / "m.pb")
    out = run_cli("inspect", path).out
    assert "variables          1" in out
    assert "/gpu:0 (1)" in out
    assert "dynamic shapes: 3 values, because of" in out
    assert "the input leaves it open" in out
    assert "… and 3 more" in out
    assert "… and" not in run_cli("inspect", path, "-v").out


def test_inspect_as_json(run_cli, example: str) -> None:
    facts = run_cli("inspect", example, "--json", "--outputs", "softmax").json
    assert facts["schema"] == "graphopt/inspect/v1"
    assert facts["signatures"][0]["outputs"] == [
        {
            "name": "softmax",
            "tensor": "softmax:0",
            "dtype": "float32",
            "shape": [1, 10],
            "reason": "named by the caller",
        }
    ]


def test_hostile_names_reach_neither_terminal_nor_json(run_cli, sketch, tmp_path) -> None:
    sketch.add("Placeholder", "x\x1b[2J")
    sketch.add("Relu", "y\u202e\n", "x\x1b[2J")
    path = save(sketch.model, tmp_path / "m.pb")
    for command in (
        ["inspect", path],
        ["inspect", path, "--json"],
        ["print", path],
        ["optimize", path, "-o", "o.pb", "-v"],
    ):
        done = run_cli(*command)
        assert done.status == 0
        assert "\x1b" not in done.out + done.err
        assert "\u202e" not in done.out + done.err


def test_print_gives_text_that_parses_back(run_cli, affine, tmp_path) -> None:
    from graphopt.ir.text import parse_model

    path = save(affine(), tmp_path / "m.pb")
    text = run_cli("print", path, "--full", "--infer").out
    assert "%y = tf.AddV2(%scaled, %one)" in text
    assert "float32[2, 3]" in text
    assert len(parse_model(text).graph) == 5
    done = run_cli("print", path, "--function", "f")
    assert done.status == 2
    assert "the model has no function 'f'" in done.err


def test_passes_lists_passes_and_pipelines(run_cli) -> None:
    out = run_cli("passes").out
    assert "fold-batch-norms" in out
    assert "reassociating" in out
    assert "inference" in out
    listed = run_cli("passes", "--json").json
    assert listed["schema"] == "graphopt/passes/v1"
    assert {"cleanup", "inference"} <= listed["pipelines"].keys()
    described = {entry["name"]: entry for entry in listed["passes"]}
    assert {"name": "max-bytes", "type": "int", "default": 10485760} in described["fold-constants"]["options"]


def test_passes_describes_one_or_a_pipeline(run_cli) -> None:
    out = run_cli("passes", "fold-constants").out
    assert out.startswith("fold-constants (")
    assert "*Given*" in out
    assert "max-bytes" in out
    assert run_cli("passes", "cleanup").out.startswith("cleanup is the pipeline\n\nstrip-unused,")
    assert list(run_cli("passes", "cleanup", "--json").json["pipelines"]) == ["cleanup"]
    assert [entry["name"] for entry in run_cli("passes", "sort", "--json").json["passes"]] == ["sort"]
    done = run_cli("passes", "fold-constant")
    assert done.status == 2
    assert "did you mean 'fold-constants'?" in done.err


# verify, diff, why, example -----------------------------------------------------------------------------------


def test_verify_holds_or_ends_with_1(run_cli, affine, tmp_path) -> None:
    first, second = save(affine(2.0), tmp_path / "a.pb"), save(affine(2.01), tmp_path / "b.pb")
    done = run_cli("verify", first, first, "--runtime", "reference")
    assert done.status == 0
    assert done.out.splitlines()[-1] == "the outputs agree over 3 samples (reference)"
    done = run_cli("verify", first, second, "--runtime", "reference", "--random", "5", "--seed", "3")
    assert done.status == 1
    assert "the outputs differ over 5 samples (reference): output 'y' is off by" in done.out
    assert run_cli("verify", first, second, "--runtime", "reference", "--rtol", "0.1").status == 0
    assert run_cli("verify", first, second, "--runtime", "reference", "--rtol", "0", "--atol", "1").status == 0
    report = run_cli("verify", first, second, "--runtime", "reference", "--per-layer", "--json")
    assert report.status == 1
    assert report.json["schema"] == "graphopt/verify/v1"
    assert report.json["first_divergence"] == "scaled:0"
    assert [layer["name"] for layer in report.json["layers"] if layer["holds"]] == ["x:0", "one:0"]
    out = run_cli("verify", first, second, "--runtime", "reference", "--per-layer").out
    assert "first diverging tensor: scaled:0" in out


def test_verify_with_data_names_and_warnings(run_cli, affine, tmp_path) -> None:
    path = save(affine(), tmp_path / "a.pb")
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 2, 3), np.float32))
    done = run_cli("verify", path, path, "--runtime", "reference", "--data", "d.npz", "--outputs", "scaled")
    assert done.status == 0
    assert "output 'scaled' has the same value everywhere" in done.err
    np.savez(tmp_path / "d.npz", wrong=np.zeros((2, 2, 3), np.float32))
    done = run_cli("verify", path, path, "--runtime", "reference", "--data", "d.npz")
    assert done.status == 2
    assert "the model has no input 'wrong'" in done.err


def test_diff_ends_with_1_where_models_differ(run_cli, affine, tmp_path) -> None:
    first, second = save(affine(2.0), tmp_path / "a.pb"), save(affine(3.0), tmp_path / "b.pb")
    done = run_cli("diff", first, first)
    assert (done.status, done.out) == (0, "the models are built alike\n")
    done = run_cli("diff", first, second)
    assert done.status == 1
    assert "~ factor: tf.Const" in done.out
    report = run_cli("diff", first, second, "--json")
    assert report.status == 1
    assert report.json["schema"] == "graphopt/diff/v1"
    assert report.json["constants_changed"] == 1


def test_diff_counts_operators_and_bytes(run_cli, example: str) -> None:
    assert run_cli("optimize", example, "-o", "small.pb").status == 0
    out = run_cli("diff", example, "small.pb").out
    assert "… and" in out
    assert "constants: 32.5 kB -> " in out
    row = next(line for line in out.splitlines() if line.startswith("Identity "))
    assert row.split() == ["Identity", "76", "1", "-75"]
    assert "… and" not in run_cli("diff", example, "small.pb", "-v").out


def test_why_explains_rules_passes_and_single_nodes(run_cli, example: str) -> None:
    out = run_cli("why", "remove-nodes", example).out
    assert "applies" in out
    assert "refuses: it is an output of the graph" in out
    one = run_cli("why", "remove-nodes", example, "--node", "probabilities", "--json").json
    assert one["schema"] == "graphopt/why/v1"
    assert [verdict["nodes"] for verdict in one["verdicts"]] == [["probabilities"]]
    out = run_cli("why", "strip-unused", example, "--node", "pool").out
    assert "leaves it as it is" in out


def test_why_of_a_rule_says_how_far_it_matched(run_cli, affine, tmp_path) -> None:
    path = save(affine(1.0), tmp_path / "one.pb")
    verdicts = run_cli("why", "simplify", path, "--json").json["verdicts"]
    assert any(verdict["text"] == "applies" and verdict["nodes"] == ["scaled"] for verdict in verdicts)
    assert any(verdict["count"] == 0 and verdict["text"].startswith("no node is a ") for verdict in verdicts)
    path = save(affine(2.0), tmp_path / "two.pb")
    out = run_cli("why", "simplify", path, "--node", "scaled").out
    assert "does not match: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["multiply-by-on", "m.pb"], "there is no rule or pass 'multiply-by-on'; did you mean 'multiply-by-one'?"),
        (["zzz", "m.pb"], "`graphopt passes` lists the passes"),
        (["simplify", "m.pb", "--node", "scale"], "there is no node 'scale' in the model; did you mean 'scaled'?"),
        (["simplify", "m.pb", "--after", "srot"], "did you mean 'sort'?"),
    ],
)
def test_why_of_what_there_is_not(run_cli, affine, tmp_path, arguments, message: str) -> None:
    save(affine(), tmp_path / "m.pb")
    done = run_cli("why", *arguments)
    assert done.status == 2
    assert message in done.err


def test_the_example_is_the_same_for_the_same_seed(run_cli, tmp_path) -> None:
    assert run_cli("example", "a.pb").out == "a.pb: 294 nodes, 59.8 kB\n"
    run_cli("example", "b.pb")
    run_cli("example", "c.pb", "--seed", "1")
    run_cli("example", "d.pbtxt")
    contents = [(tmp_path / name).read_bytes() for name in ("a.pb", "b.pb", "c.pb")]
    assert contents[0] == contents[1] != contents[2]
    assert run_cli("diff", "a.pb", "d.pbtxt").status == 0
    done = run_cli("example", "a.pb")
    assert done.status == 2
    assert "exists" in done.err
    assert run_cli("example", "a.pb", "--force").status == 0


def test_main_reads_the_arguments_of_the_process(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["graphopt", "passes", "sort"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("sort (exact)")


@pytest.mark.tensorflow
def test_the_main_job_with_numeric_checks_by_default(run_cli) -> None:
    assert run_cli("example", "mobile.pb").status == 0
    done = run_cli("optimize", "mobile.pb", "-o", "small.pb", "--check", "numeric")
    assert done.status == 0, done.err
    assert "(tensorflow)" in done.out
