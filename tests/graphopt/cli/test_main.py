"""The table of verbs, usage errors, failures and exit statuses."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import zipfile

import pytest

from graphopt.cli import main as entry
from graphopt.cli.main import VERBS, main
from graphopt.ir import CheckError, MalformedError, UnsupportedError, UsageError
from graphopt.passes import PassError


def test_help_lists_every_verb(run_cli) -> None:
    for flag in ("-h", "--help", "help"):
        done = run_cli(flag)
        assert done.status == 0
        assert all(f"  {name} " in done.out for name in VERBS)
        assert done.err == ""


def test_the_version(run_cli) -> None:
    import graphopt

    for flag in ("-V", "--version"):
        assert run_cli(flag).out == f"graphopt {graphopt.__version__}\n"


def test_no_verb_is_a_usage_error_with_the_help(run_cli) -> None:
    done = run_cli()
    assert done.status == 2
    assert done.out == ""
    assert "usage: graphopt VERB" in done.err


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("optimise", "there is no verb 'optimise'; did you mean 'optimize'?"),
        ("zzz", "there is no verb 'zzz'; there are: inspect, optimize"),
        ("\x1b[2J", "there is no verb '\\x1b[2J'"),
    ],
)
def test_a_verb_there_is_not(run_cli, verb: str, message: str) -> None:
    done = run_cli(verb)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(run_cli, verb: str) -> None:
    done = run_cli(verb, "--help")
    assert done.status == 0
    assert f"usage: graphopt {verb}" in done.out
    assert "--quiet" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimize", "m.pb", "-o", "x", "--pipline", "y"], "unknown option '--pipline'; did you mean '--pipeline'?"),
        (["optimize", "m.pb", "-o", "x", "--pipline=y"], "unknown option '--pipline'; did you mean '--pipeline'?"),
        (["optimize", "m.pb", "-o", "x", "extra"], "unknown argument 'extra'; see `graphopt optimize --help`"),
        (["optimize", "m.pb"], "the following arguments are required: -o/--output"),
        (["optimize", "m.pb", "-o", "x", "--pipeline", "a", "--passes", "b"], "not allowed with argument"),
        (["optimize", "m.pb", "-o", "x", "--check", "all"], "invalid choice: 'all'"),
        (["optimize", "m.pb", "-o", "x", "--inputs", "a,,b"], "a name is empty"),
        (["verify", "a", "b", "--random", "0"], "'0' is not a whole number from 1 on"),
        (["verify", "a", "b", "--rtol"], "expected one argument"),
        (["verify", "a", "b", "--rtol=-1"], "'-1' is not a finite number from 0 on"),
        (["verify", "a", "b", "--atol", "inf"], "'inf' is not a finite number from 0 on"),
        (["verify", "a", "b", "--atol", "much"], "'much' is not a finite number from 0 on"),
        (["inspect", "--\x1b[31m", "m"], "unknown option '--\\x1b[31m'"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(run_cli, arguments, message: str) -> None:
    done = run_cli(*arguments)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


@pytest.fixture
def failing_with(monkeypatch, run_cli, tmp_path):
    """Run `inspect` with something that raises in the place of the work."""

    def run(error: BaseException):
        def fail(options, console):
            raise error

        monkeypatch.setattr("graphopt.cli.inspect.run", fail)
        (tmp_path / "m.pb").write_bytes(b"not really a model")
        return run_cli("inspect", "m.pb")

    return run


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (CheckError("outputs differ"), 1, "outputs differ"),
        (UsageError("no such name"), 2, "no such name"),
        (MalformedError("cut short", source="m.pb", node="conv", offset=3), 3, "m.pb, node 'conv', byte 3: cut short"),
        (UnsupportedError("over 2 GB"), 4, "over 2 GB"),
        (PermissionError(errno.EACCES, "Permission denied", "m.pb"), 3, "m.pb: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "No space left on device"),
        (MemoryError(), 70, "memory ran out"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (UsageError("a\x1b[31mb\nc"), 2, "a\\x1b[31mb\\nc"),
    ],
)
def test_each_failure_has_its_status_and_one_line(failing_with, error, status: int, message: str) -> None:
    done = failing_with(error)
    assert done.status == status
    assert message in done.err
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err


@pytest.mark.parametrize("error", [ZeroDivisionError("division"), PassError("pass 'x' failed"), RecursionError("deep")])
def test_an_internal_error_leaves_a_reproducer(failing_with, tmp_path, error: Exception) -> None:
    done = failing_with(error)
    assert done.status == 70
    first, second = done.err.splitlines()
    assert str(error) in first
    path = next(tmp_path.glob("graphopt-reproducer-*.zip"))
    assert str(path) in second
    with zipfile.ZipFile(path) as archive:
        described = json.loads(archive.read("reproducer.json"))
        assert archive.read("inputs/0.pb") == b"not really a model"
    assert described["schema"] == "graphopt/reproducer/v1"
    assert described["command"] == ["graphopt", "inspect", "m.pb"]
    assert described["error"] == f"{type(error).__name__}: {error}"
    assert "Traceback" in described["traceback"][0]
    assert described["inputs"][0]["bytes"] == 18
    assert {"graphopt", "python", "numpy", "protobuf"} <= described["versions"].keys()


def test_a_large_input_is_described_and_not_copied(failing_with, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("graphopt.cli.reproducer.COPY_LIMIT", 4)
    failing_with(ZeroDivisionError("division"))
    with zipfile.ZipFile(next(tmp_path.glob("graphopt-reproducer-*.zip"))) as archive:
        assert archive.namelist() == ["reproducer.json"]
        (described,) = json.loads(archive.read("reproducer.json"))["inputs"]
    assert described["bytes"] == 18
    assert len(described["sha256"]) == 64
    assert "copy" not in described


def test_where_no_reproducer_can_be_written_the_error_still_shows(failing_with, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    done = failing_with(ZeroDivisionError("division"))
    assert done.status == 70
    assert "internal error: ZeroDivisionError: division" in done.err
    assert "no reproducer could be written" in done.err


def test_a_reader_that_goes_away_is_no_error(monkeypatch, run_cli) -> None:
    def fail(options, console):
        raise BrokenPipeError

    monkeypatch.setattr("graphopt.cli.passes.run", fail)
    monkeypatch.setattr(entry, "_silence_stdout", lambda: None)
    done = run_cli("passes")
    assert done.status == 141
    assert done.err == ""


def run_process(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-P", "-m", "graphopt", *arguments], capture_output=True, **options)


def test_a_real_process_pipes_through_and_ends_with_the_status(tmp_path) -> None:
    made = run_process("example", "-", cwd=tmp_path)
    assert made.returncode == 0
    optimised = run_process("optimize", "-", "-o", "-", input=made.stdout, cwd=tmp_path)
    assert optimised.returncode == 0
    assert 1000 < len(optimised.stdout) < len(made.stdout)
    assert b"nodes" in optimised.stderr
    inspected = run_process("inspect", "-", "--json", input=optimised.stdout, cwd=tmp_path)
    assert json.loads(inspected.stdout)["schema"] == "graphopt/inspect/v1"
    assert run_process("inspect", "absent.pb", cwd=tmp_path).returncode == 3
    assert os.listdir(tmp_path) == []


def test_a_closed_pipe_in_a_real_process_is_silent(tmp_path) -> None:
    assert run_process("example", "m.pb", cwd=tmp_path).returncode == 0
    command = f"{sys.executable} -P -m graphopt print m.pb --full | head -c 100"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True)
    assert len(done.stdout) == 100
    assert done.stderr == b""


def test_reading_verbs_never_import_tensorflow(run_python, example: str) -> None:
    source = """
    import sys
    from graphopt.cli.main import main
    model = sys.argv[1]
    for verb in (["inspect", model], ["print", model], ["diff", model, model], ["passes"],
                 ["optimize", model, "-o", "o.pb"],
                 ["why", "remove-nodes", model]):
        assert main(verb) == 0, verb
    assert "tensorflow" not in sys.modules
    assert "rich" not in sys.modules
    """
    import textwrap

    done = run_python(textwrap.dedent(source), example)
    assert done.returncode == 0, done.stderr


def test_collections_are_as_they_were_afterwards(run_cli, example: str) -> None:
    import gc

    assert main(["inspect", example, "--json"]) == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
