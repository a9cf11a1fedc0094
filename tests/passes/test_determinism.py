"""The same model gives the same bytes: over hash seeds, orders of nodes, functions and attributes, and twice over."""

from __future__ import annotations

import hashlib
import os
import pathlib
import random
import subprocess
import sys

import pytest

from graphopt.api import optimize
from graphopt.ir.formats.graphdef import graphdef_bytes
from graphopt.ir.graph import Graph
from graphopt.ir.model import Model
from graphopt.testing import random_model

CORPUS_GRAPHS = 3
SIZE_LIMIT = 1 << 20
DIGEST = """
import hashlib
from graphopt.api import optimize
from graphopt.ir.formats.graphdef import graphdef_bytes
from graphopt.testing import random_model
for seed in range(5):
    for preset in ("cleanup", "inference"):
        data = graphdef_bytes(optimize(random_model(seed, 30), preset).model)
        print(hashlib.sha256(data).hexdigest())
"""


def shuffled(model: Model, seed: int) -> Model:
    """A copy with nodes, functions and attributes in another order."""
    chance = random.Random(seed)
    copy = model.clone()
    for graph in copy.graphs:
        shuffle_graph(graph, chance)
    functions = list(copy.functions.items())
    chance.shuffle(functions)
    copy.functions = dict(functions)
    return copy


def shuffle_graph(graph: Graph, chance: random.Random) -> None:
    order = list(graph)
    chance.shuffle(order)
    graph.reorder(order)
    for node in order:
        items = list(node.attrs.items())
        chance.shuffle(items)
        node.attrs = dict(items)


def optimised(model: Model, preset: str) -> bytes:
    return graphdef_bytes(optimize(model, preset).model)


@pytest.mark.parametrize("preset", ["cleanup", "inference"])
@pytest.mark.parametrize("seed", range(12))
def test_the_order_that_things_come_in_does_not_matter(seed: int, preset: str) -> None:
    model = random_model(seed, 25)
    expected = optimised(model, preset)
    for again in range(3):
        assert optimised(shuffled(model, 100 * seed + again), preset) == expected


@pytest.mark.parametrize("preset", ["cleanup", "inference"])
def test_optimising_twice_changes_nothing(preset: str) -> None:
    for seed in range(15):
        once = optimize(random_model(seed, 25), preset).model
        assert graphdef_bytes(optimize(once, preset).model) == graphdef_bytes(once), seed


def test_hash_seeds_do_not_matter(tmp_path: pathlib.Path) -> None:
    found = set()
    for seed in range(5):
        done = subprocess.run(
            [sys.executable, "-c", DIGEST],
            cwd=tmp_path, env=os.environ | {"PYTHONHASHSEED": str(seed)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
    assert len(found.pop().split()) == 10


def small_graphs(corpus: pathlib.Path) -> list[pathlib.Path]:
    """A few graphs of the corpus, chosen by what their names hash to, so that they differ in kind."""
    files = [path for path in corpus.glob("graphdef/**/*.pb") if 2_000 < path.stat().st_size < SIZE_LIMIT]
    return sorted(files, key=lambda path: hashlib.sha256(path.name.encode()).digest())


def test_graphs_of_the_corpus(corpus: pathlib.Path) -> None:
    from graphopt.api import load
    from graphopt.ir import Error

    checked = 0
    for path in small_graphs(corpus):
        try:
            model = load(str(path))
            expected = optimised(model, "inference")
        except Error:
            continue
        assert graphdef_bytes(optimize(read_graphdef_bytes(expected, model), "inference").model) == expected, path.name
        for seed in range(2):
            assert optimised(shuffled(model, seed), "inference") == expected, path.name
        checked += 1
        if checked == CORPUS_GRAPHS:
            return
    pytest.fail(f"only {checked} graphs could be checked")


def read_graphdef_bytes(data: bytes, like: Model) -> Model:
    """A model read from bytes, with the inputs and outputs of another."""
    from graphopt.api import load

    inputs, outputs = ([value.name for value in values] or None for values in (like.graph.inputs, like.graph.outputs))
    return load(data, inputs=inputs, outputs=outputs)
