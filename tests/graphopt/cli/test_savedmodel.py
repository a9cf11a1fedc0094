"""The command line on SavedModels and checkpoints."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.ir.formats.bundle_writer import BundleWriter
from graphopt.ir.formats.savedmodel_saver import variables_of_constants
from graphopt.ir.tensors import tensor


@pytest.fixture
def folder(affine: Any, tmp_path: pathlib.Path) -> pathlib.Path:
    """A SavedModel whose weights are in a checkpoint."""
    model = affine()
    variables_of_constants(model, 1)
    graphopt.save(model, tmp_path / "model")
    return tmp_path / "model"


def test_a_checkpoint_is_inspected(run_cli: Callable[..., Any], tmp_path: pathlib.Path) -> None:
    with BundleWriter(tmp_path / "c") as writer:
        writer.add("dense/kernel", tensor(np.ones((3, 4), np.float32)))
        writer.add("words", tensor(["a", "b"]))
        for start in (0, 5):
            writer.add_slice("parts", (10,), ((start, 5),), tensor(np.ones(5, np.float16)))
    for name in ("c", "c.index", "c.data-00000-of-00001"):
        done = run_cli("inspect", tmp_path / name)
        assert done.status == 0
        assert "dense/kernel  float32[3, 4]" in done.out
    facts = run_cli("inspect", tmp_path / "c", "--json").json
    assert facts["schema"] == "graphopt/inspect-checkpoint/v1"
    assert (facts["parameters"], facts["bytes"], facts["format"]) == (22, 68, "checkpoint, version 2")
    assert [(fact["name"], fact["slices"]) for fact in facts["tensors"]] == [
        ("dense/kernel", 0),
        ("parts", 2),
        ("words", 0),
    ]
    (tmp_path / "c.index").write_bytes(b"nothing" * 20)
    assert run_cli("inspect", tmp_path / "c").status == 3


def test_a_savedmodel_is_inspected(run_cli: Callable[..., Any], folder: pathlib.Path) -> None:
    facts = run_cli("inspect", folder, "--json").json
    assert (facts["format"], facts["variables"], facts["constants"]) == ("savedmodel", 2, 2)


def test_a_savedmodel_is_optimised(run_cli: Callable[..., Any], folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "serving"
    assert run_cli("optimize", folder, "-o", out).status == 0
    assert graphopt.load(out).format == "savedmodel"
    again = run_cli("optimize", folder, "-o", out)
    assert (again.status, "--force" in again.err) == (2, True)
    assert run_cli("optimize", folder, "-o", out, "--force").status == 0
    assert run_cli("optimize", folder, "-o", folder, "--force").status == 2
    refused = run_cli("optimize", folder, "-o", tmp_path / "m.pb")
    assert (refused.status, "freeze it" in refused.err) == (4, True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    for target in ("other", "other/"):
        assert run_cli("optimize", folder, "-o", f"{tmp_path}/{target}", "--force").status == 2
    assert (tmp_path / "other" / "letter.txt").exists()
