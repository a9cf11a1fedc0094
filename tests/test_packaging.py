"""What is installed is what is in the tree, and what the documents name exists."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1].resolve()
FLOORS = {"graphopt": "graphopt", "ir": "graphopt/ir", "passes": "graphopt/passes"}  # folder -> its place in a wheel
NOT_SHIPPED = shutil.ignore_patterns("__pycache__")


def source_files() -> set[str]:
    """Every file of the three floors, by the path it should have in the wheel."""
    return {
        f"{place}/{path.relative_to(ROOT / floor).as_posix()}"
        for floor, place in FLOORS.items()
        for path in (ROOT / floor).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that neither an old build/ nor this checkout is touched, and without network."""
    copy = tmp_path_factory.mktemp("source")
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, copy / floor, ignore=NOT_SHIPPED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "."]
    done = subprocess.run(build, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = copy.glob("graphopt-*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_every_source_file_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Where this fails, a sub-package is missing from `packages` in pyproject.toml, or a suffix from `package-data`."""
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == source_files()


def test_wheel_installs_one_import_name_and_one_command(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"graphopt"}
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "graphopt = graphopt.cli.main:run_process" in wheel.read(entry_points).decode()


def test_wheel_is_typed_and_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    assert "graphopt/py.typed" in wheel.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_the_test_command_that_ci_runs(document: str) -> None:
    assert ".ci/run" in (ROOT / document).read_text()


def test_every_test_that_the_security_policy_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "SECURITY.md").read_text())
    assert named, "the table of threats names no test"
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_relative_links_of_the_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [
        (document.relative_to(ROOT).as_posix(), link)
        for document in documents
        for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", document.read_text())
    ]
    assert [(document, link) for document, link in links if not (ROOT / document).parent.joinpath(link).exists()] == []
