"""Freeze every SavedModel of the corpus and compare each signature with TensorFlow; read every checkpoint.

    python tools/run_savedmodels.py [--corpus FOLDER] [--only TEXT] [--list] [--rewritten]

Needs the extra `tensorflow` and a corpus folder with its MANIFEST.json (default ../shared/corpus, or $GRAPHOPT_CORPUS).
Each signature ends as `reproduced` (the frozen, optimised graph computes what `tf.saved_model.load` computes on seeded
inputs), `not run` (TensorFlow cannot run it either), `stays unfrozen` (it changes its variables, and the reason
names the node), `refused by both`, or `FAILS`; each checkpoint as `read` (every
variable equals TensorFlow's), `refused by both` or `FAILS`. The exit status is 1 if anything fails.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from run_corpus import DEFAULT, LONGEST_MS, differs, reason_of

Run = Callable[[pathlib.Path, str, dict[str, Any]], dict[str, Any]]
SIZES = (1, 3, 8, 28, 64)  # numbers for unknown dimensions, tried in turn


def example_for(model: Any) -> bytes:
    """A serialised tf.Example with every dense feature that the model parses."""
    import math

    import tensorflow as tf

    from graphopt.ir import known_array

    features = {}
    for graph in model.graphs:
        for node in graph:
            if node.op == "tf.ParseExample":
                place = 2 + node.attr("Nsparse", 0)
                keys = [known_array(value).item() for value in node.inputs[place : place + node.attr("Ndense", 0)]]
            elif node.op == "tf.ParseExampleV2":
                keys = list(known_array(node.input(3)).reshape(-1))
            else:
                continue
            for key, dtype, shape in zip(keys, node.attr("Tdense"), node.attr("dense_shapes"), strict=True):
                count = math.prod(dim if isinstance(dim, int) else 1 for dim in shape.dims or (1,))
                features[key.decode()] = feature_of(dtype.name, count)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def feature_of(dtype: str, count: int) -> Any:
    """Seeded values of one feature."""
    import tensorflow as tf

    if dtype == "float32":
        return tf.train.Feature(float_list=tf.train.FloatList(value=[0.25 * (i % 7) for i in range(count)]))
    if dtype == "int64":
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 3 for i in range(count)]))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"1"] * count))


def seeded(specs: dict[str, Any], size: int, example: bytes) -> dict[str, Any]:
    """Inputs for a signature, its unknown dimensions `size` (the first one 2); strings are `example`."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    feeds = {}
    for name, spec in sorted(specs.items()):
        dims = spec.shape.as_list() if spec.shape.rank is not None else [size]
        shape = [d if d is not None else (2 if place == 0 else size) for place, d in enumerate(dims)]
        if spec.dtype == tf.string:
            feeds[name] = np.full(shape, example, object)
        elif spec.dtype.is_floating:
            feeds[name] = rng.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
        else:
            feeds[name] = rng.integers(0, 2, shape).astype(spec.dtype.as_numpy_dtype)
    return feeds


def run_frozen(path: pathlib.Path, name: str, feeds: dict[str, Any]) -> dict[str, Any]:
    """What our frozen, optimised graph computes, in a plain TensorFlow session."""
    import tensorflow as tf

    from graphopt.freezing import freeze
    from graphopt.ir.formats.graphdef import graphdef_bytes
    from graphopt.passes import PassManager

    frozen = freeze(path, signature=name)
    PassManager("inference").run(frozen.model)
    signature = frozen.model.signatures[name]
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(tf.compat.v1.GraphDef.FromString(graphdef_bytes(frozen.model)), name="")
    config = tf.compat.v1.ConfigProto(operation_timeout_in_ms=LONGEST_MS)
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        for initialiser in frozen.initialisers:
            session.run(graph.get_operation_by_name(initialiser))
        tensors = {key: f"{value.node.name}:{value.index}" for key, value in signature.output_values().items()}
        given = {
            f"{value.node.name}:{value.index}": feeds[key]
            for key, value in signature.input_values().items()
            if key in feeds
        }
        result: dict[str, Any] = session.run(tensors, given)
        return result


def run_rewritten(path: pathlib.Path, name: str, feeds: dict[str, Any]) -> dict[str, Any]:
    """What TensorFlow computes from the SavedModel optimised and written with its variables as variables."""
    import tensorflow as tf

    from graphopt import optimize, save
    from graphopt.ir.formats.savedmodel_writer import planned

    with tempfile.TemporaryDirectory() as scratch:
        model = optimize(path).model
        save(model, f"{scratch}/name/1")
        reason = planned(model).without_objects
        loaded = tf.saved_model.load(f"{scratch}/name/1")
        if not reason:
            before = vars(tf.saved_model.load(str(path)))
            lost = [key for key, item in before.items() if isinstance(item, tf.Variable) and not hasattr(loaded, key)]
            if lost:
                raise ValueError(f"variables are lost: {lost}")
        result = loaded.signatures[name](**{key: tf.constant(value) for key, value in feeds.items()})
        return {key: value.numpy() for key, value in result.items()}


def examine_signature(path: pathlib.Path, name: str, function: Any, example: bytes, run: Run) -> tuple[str, str]:
    """The verdict on one signature."""
    from graphopt.ir import Error, UnsupportedError

    reason = "no inputs to guess"
    for size in SIZES:
        feeds = seeded(function.structured_input_signature[1], size, example)
        try:
            import tensorflow as tf

            expected = {
                key: value.numpy() for key, value in function(**{k: tf.constant(v) for k, v in feeds.items()}).items()
            }
        except Exception as error:
            reason = f"TensorFlow cannot run it: {reason_of(error)}"
            continue
        try:
            actual = run(path, name, feeds)
        except UnsupportedError as error:
            return "stays unfrozen", str(error)
        except Error as error:
            return "FAILS", f"{type(error).__name__}: {error}"
        except Exception as error:
            return "FAILS", f"TensorFlow cannot run the frozen graph: {reason_of(error)}"
        if set(actual) != set(expected):
            return "FAILS", f"outputs {sorted(actual)}, expected {sorted(expected)}"
        for key, want in expected.items():
            difference = differs(actual[key], want)
            if difference is not None:
                return "FAILS", f"'{key}': {difference}"
        return "reproduced", f"{len(expected)} outputs"
    try:
        run(path, name, {})
    except Error as error:
        return "FAILS", f"{type(error).__name__}: {error}"
    except Exception:
        return "not run", reason
    return "not run", reason


def examine_savedmodel(entry: dict[str, Any], root: pathlib.Path, run: Run) -> list[tuple[str, str, str]]:
    """Verdicts on all signatures of one SavedModel."""
    import tensorflow as tf

    from graphopt import load
    from graphopt.ir import Error

    path = root / entry["path"]
    try:
        theirs = tf.saved_model.load(str(path))
    except Exception as error:
        try:
            load(path)
        except Error as ours:
            return [("", "refused by both", str(ours))]
        return [("", "not run", f"TensorFlow cannot load it: {reason_of(error)}")]
    try:
        example = example_for(load(path))
    except Error as error:
        return [("", "FAILS", f"{type(error).__name__}: {error}")]
    results = []
    for name in theirs.signatures:
        fresh = tf.saved_model.load(str(path))  # an earlier signature may have trained the variables
        results.append((name, *examine_signature(path, name, fresh.signatures[name], example, run)))
    return results or [("", "not run", "it has no signature")]


def examine_checkpoint(entry: dict[str, Any], root: pathlib.Path) -> list[tuple[str, str, str]]:
    """The verdict on one checkpoint: every tensor equals what TensorFlow reads."""
    import numpy as np
    import tensorflow as tf

    from graphopt.ir import Error
    from graphopt.ir.formats.checkpoint import open_checkpoint

    folder = root / entry["path"]
    indices = sorted(folder.glob("*.index"))
    if not indices:
        return examine_metagraph(folder, entry["loads"])
    try:
        ours = open_checkpoint(str(indices[0].with_suffix("")))
        reader = tf.train.load_checkpoint(str(indices[0].with_suffix("")))
        for name in reader.get_variable_to_shape_map():
            if not np.array_equal(ours.tensor(name).numpy(), reader.get_tensor(name)):
                return [("", "FAILS", f"'{name}' differs")]
    except Error as error:
        return [("", "FAILS" if entry["loads"] else "refused by both", f"{type(error).__name__}: {error}")]
    return [("", "read", f"{len(reader.get_variable_to_shape_map())} tensors")]


def examine_metagraph(folder: pathlib.Path, loads: bool) -> list[tuple[str, str, str]]:
    """A folder with a `.meta` file alone: its graph must load."""
    from graphopt import load
    from graphopt.ir import Error

    found = sorted(folder.glob("*.meta"))
    if not found:
        return [("", "FAILS", "neither an index nor a .meta file")]
    try:
        return [("", "read", f"{load(found[0]).node_count} nodes")]
    except Error as error:
        return [("", "FAILS" if loads else "refused by both", f"{type(error).__name__}: {error}")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=pathlib.Path, default=DEFAULT)
    parser.add_argument("--only", default="", help="only models whose path contains this")
    parser.add_argument("--list", action="store_true", help="print the verdict on every signature")
    parser.add_argument(
        "--rewritten",
        action="store_true",
        help="write SavedModels whose variables stay, and load those, not frozen graphs",
    )
    options = parser.parse_args()
    run = run_rewritten if options.rewritten else run_frozen
    counts: dict[str, int] = {}
    for entry in json.loads((options.corpus / "MANIFEST.json").read_text()):
        if entry["kind"] not in ("savedmodel", "checkpoint") or options.only not in entry["path"]:
            continue
        if entry["kind"] == "savedmodel":
            found = examine_savedmodel(entry, options.corpus, run)
        else:
            found = examine_checkpoint(entry, options.corpus)
        for name, verdict, reason in found:
            counts[verdict] = counts.get(verdict, 0) + 1
            if options.list or verdict == "FAILS":
                print(f"{verdict:16} {entry['path']} {name}: {reason[:300]}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    return 1 if "FAILS" in counts else 0


if __name__ == "__main__":
    sys.exit(main())
