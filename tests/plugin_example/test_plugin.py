"""A plugin package, built and installed as anybody's would be: its pass is found by name, on the command line too."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(__file__).parent
USE = """
from graphopt.ir.text import parse_model
from graphopt.passes import find_pass, format_pipeline, parse_pipeline, pass_names, run_pass
from graphopt.testing import check_pass

assert "fuse-hard-swish" in pass_names()
found = find_pass("fuse-hard-swish")
assert found.__module__ == "graphopt_hardswish", found
pipeline = "remove-nodes,fuse-hard-swish{number=5.0}"
assert format_pipeline(parse_pipeline(pipeline)) == pipeline
text = '''
graph @main(%x: float32[2, 3]) -> (%y) {
  %three = tf.Const() {value = float32[] 3.0}
  %six = tf.Const() {value = float32[] 6.0}
  %a = tf.AddV2(%three, %x)
  %g = tf.Relu6(%a)
  %m = tf.Mul(%g, %x)
  %y = tf.RealDiv(%m, %six)
}
'''
model = parse_model(text)
report = run_pass(model, "fuse-hard-swish")
assert report.rules == {"fuse-division": 1}, report
assert [node.op_type for node in model.graph if node.op_type == "RealDiv"] == []
_, report = check_pass("fuse-hard-swish{number=5.0}", text)
assert [entry["reason"] for entry in report.refusals] == ["its numbers are 3.0 and 6.0, not 3 and 5"]
print("found")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder that the plugin was installed into."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("needs pip to install the plugin")
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "test_*"))
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index",
            "--no-build-isolation", "--no-deps", "--target", str(folder / "site"), str(folder / "source"),
        ],
        check=True, capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    return folder / "site"


def python(installed: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed), "NO_COLOR": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=installed)


def test_its_pass_is_found_and_works(installed: pathlib.Path) -> None:
    done = python(installed, "-c", USE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "found\n"


def test_the_command_line_knows_it(installed: pathlib.Path) -> None:
    listed = python(installed, "-m", "graphopt", "passes")
    assert listed.returncode == 0, listed.stderr
    assert "fuse-hard-swish" in listed.stdout
    told = python(installed, "-m", "graphopt", "passes", "fuse-hard-swish")
    assert "Write hard swish without a division." in told.stdout


def test_without_it_the_pass_is_unknown(tmp_path: pathlib.Path) -> None:
    done = python(tmp_path, "-c", "from graphopt.passes import find_pass; find_pass('fuse-hard-swish')")
    assert done.returncode != 0
    assert "there is no pass 'fuse-hard-swish'" in done.stderr
