"""Fixtures, hypothesis profiles and what the markers mean."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import hypothesis
import pytest

ROOT = pathlib.Path(__file__).parents[1].resolve()
CORPUS = pathlib.Path(os.environ.get("GRAPHOPT_CORPUS", ROOT.parent / "shared" / "corpus"))
PROFILE = os.environ.get("GRAPHOPT_TEST_PROFILE", "ci")
NO_CORPUS = f"no corpus of models at {CORPUS}; GRAPHOPT_CORPUS names its folder"

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=30, database=None)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile(PROFILE)


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.get_closest_marker("deep") and PROFILE != "deep":
        item.add_marker(pytest.mark.skip(reason="takes minutes; runs with GRAPHOPT_TEST_PROFILE=deep"))
    if item.get_closest_marker("tensorflow") and importlib.util.find_spec("tensorflow") is None:
        item.add_marker(pytest.mark.skip(reason="needs TensorFlow: pip install 'graphopt[tensorflow]'"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`@pytest.mark.corpus("graphdef/**/*.pb")` runs the test once per matching file, as `corpus_file`."""
    if "corpus_file" not in metafunc.fixturenames:
        return
    globs = [glob for marker in metafunc.definition.iter_markers("corpus") for glob in marker.args]
    files = sorted(path for glob in globs for path in CORPUS.glob(glob)) if CORPUS.is_dir() else []
    reason = f"no file matches {globs} in {CORPUS}" if CORPUS.is_dir() else NO_CORPUS
    cases = [pytest.param(path, id=path.relative_to(CORPUS).as_posix()) for path in files]
    nothing = pytest.param(CORPUS, id="none", marks=pytest.mark.skip(reason=reason))
    metafunc.parametrize("corpus_file", cases or [nothing])


@pytest.fixture(scope="session")
def corpus() -> pathlib.Path:
    """The folder of real models with its MANIFEST.json; without it the test is skipped."""
    if not (CORPUS / "MANIFEST.json").is_file():
        pytest.skip(NO_CORPUS)
    return CORPUS


@pytest.fixture
def run_python(tmp_path: pathlib.Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python source in a fresh, isolated interpreter in an empty folder, away from the root's own folders."""

    def run(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", source, *arguments]
        return subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    return run


@pytest.fixture
def count_calls() -> Callable[[Callable[[], object]], tuple[int, object]]:
    """Run a function and count the Python calls within: a measure of work that does not depend on the machine."""

    def count(function: Callable[[], object]) -> tuple[int, object]:
        calls = 0

        def on_event(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        before = sys.getprofile()
        sys.setprofile(on_event)
        try:
            result = function()
        finally:
            sys.setprofile(before)
        return calls, result

    return count
