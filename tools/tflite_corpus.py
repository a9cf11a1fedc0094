"""One model of the corpus: its inputs, what TensorFlow and tf.lite make of it. Kept on disk, a folder a model."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import tflite_files
import tflite_peer
from forks import in_child
from run_corpus import STATED, Session, base, fetchable, guessed_feeds, reason_of, recorded

ROOT = pathlib.Path(os.environ.get("GRAPHOPT_TFLITE_CORPUS", pathlib.Path.home() / ".cache/graphopt/tflite-corpus"))
SECONDS = 240.0


def folder_of(entry: dict[str, Any]) -> pathlib.Path:
    """Where the results for a model lie."""
    return ROOT / entry["path"]


def interface_of(entry: dict[str, Any], root: pathlib.Path) -> tuple[Any, list[str], list[str], dict[str, Any]]:
    """The model, its inputs and outputs (tensor names), and recorded inputs."""
    from graphopt.discovery import discover
    from graphopt.ir.formats import graphdef

    model = graphdef.load(root / entry["path"])
    feeds, expected = recorded(entry, root)
    named = [name for name in expected or entry.get("ref_outputs") or () if model.graph.find(base(name)) is not None]
    outputs = fetchable(model, named) or fetchable(model, [v.name for v in discover(model).outputs.values()])
    outputs = [name.removesuffix(":0") for name in outputs]
    found = discover(model, outputs=outputs or None)
    inputs = [value.name.removesuffix(":0") for value in found.inputs.values()]
    feeds = {base(name): value for name, value in feeds.items()}
    return model, inputs, outputs, {name: feeds[name] for name in inputs if name in feeds}


def run_graphdef(entry: dict[str, Any], root: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """Runs the model in TensorFlow; keeps inputs and outputs."""
    import numpy as np
    import tensorflow as tf

    from graphopt.ir.formats import graphdef

    model, inputs, outputs, feeds = interface_of(entry, root)
    facts: dict[str, Any] = {"inputs": inputs, "outputs": outputs}
    if not outputs:
        return facts | {"not_run": "no output to compute"}
    graph_def = tf.compat.v1.GraphDef.FromString(graphdef.graphdef_bytes(model))
    try:
        session = Session(graph_def)
    except Exception as error:
        return facts | {"not_run": f"TensorFlow refuses it: {reason_of(error)}"}
    fetched = [name if ":" in name else f"{name}:0" for name in outputs]
    missing = [name for name in inputs if name not in feeds]
    reason = "no inputs to guess"
    stated = STATED.get(entry["path"], {}) | known_shapes(session.graph, missing)
    for guess in guessed_feeds(model, missing, stated) if missing else [{}]:
        try:
            values = session.run(feeds | guess, fetched)
            again = session.run(feeds | guess, fetched)
        except Exception as error:
            reason = reason_of(error)
            continue
        stable = {
            name: value
            for name, value, other in zip(outputs, values, again, strict=True)
            if tflite_files.error_of(other, value) == 0.0
        }
        arrays = {f"in||{name}": tflite_files.storable(value) for name, value in (feeds | guess).items()}
        arrays |= {f"out||{name}": tflite_files.storable(value) for name, value in stable.items()}
        np.savez(folder / "io.npz", **arrays)
        return facts | ({} if stable else {"not_run": "every output is drawn at random"})
    return facts | {"not_run": reason}


def known_shapes(graph: Any, names: list[str]) -> dict[str, Any]:
    """Shapes of input nodes as TensorFlow infers them, where it knows the rank."""
    shapes = {base(name): graph.get_tensor_by_name(f"{base(name)}:0").shape for name in names}
    return {name: shape.as_list() for name, shape in shapes.items() if shape.rank is not None}


def convert_graphdef(entry: dict[str, Any], root: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """tf.lite's conversion of a GraphDef."""
    import tensorflow as tf

    from graphopt.ir.formats import graphdef

    model, inputs, outputs, _ = interface_of(entry, root)
    facts: dict[str, Any] = {}
    graph_def = tf.compat.v1.GraphDef.FromString(graphdef.graphdef_bytes(model))
    try:
        function = tflite_peer.prune(graph_def, inputs, outputs)
        facts["tf_operators"] = tflite_peer.operator_counts(function.graph.as_graph_def())
        content = tflite_peer.convert_function(function)
    except Exception as error:
        facts |= {"error": tflite_peer.telling_line(str(error)), "message": tflite_peer.condensed(str(error))}
        try:
            content = tflite_peer.convert_frozen(graph_def, inputs, outputs)
        except Exception as second:
            return facts | {"second_error": tflite_peer.telling_line(str(second))}
        facts |= {"first_error": facts.pop("error"), "tf_operators": tflite_peer.operator_counts(graph_def)}
    (folder / "peer.tflite").write_bytes(content)
    return facts


def run_savedmodel(entry: dict[str, Any], root: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """Runs every signature of a SavedModel; keeps inputs and outputs."""
    import numpy as np
    import tensorflow as tf
    from run_savedmodels import SIZES, example_for, seeded

    from graphopt import load
    from graphopt.ir import Error

    path = root / entry["path"]
    loaded = tf.saved_model.load(str(path))
    try:
        example = example_for(load(path))
    except Error:
        example = b""
    arrays: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for signature in loaded.signatures:
        fresh = tf.saved_model.load(str(path))  # an earlier signature may have trained the variables
        function = fresh.signatures[signature]
        for size in SIZES:
            try:
                feeds = seeded(function.structured_input_signature[1], size, example)
                found = function(**{name: tf.constant(value) for name, value in feeds.items()})
            except Exception as error:
                reasons[signature] = reason_of(error)
                continue
            reasons.pop(signature, None)
            arrays |= {f"in|{signature}|{name}": tflite_files.storable(value) for name, value in feeds.items()}
            arrays |= {f"out|{signature}|{name}": tflite_files.storable(value) for name, value in found.items()}
            break
    if arrays:
        np.savez(folder / "io.npz", **arrays)
    facts: dict[str, Any] = {"signatures": list(loaded.signatures)}
    return facts | ({"not_run": f"{reasons}"} if reasons else {})


def convert_savedmodel(entry: dict[str, Any], root: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """tf.lite's conversion of a SavedModel."""
    import tensorflow as tf

    try:
        content = tflite_peer.convert_saved_model(root / entry["path"])
    except Exception as error:
        return {"error": tflite_peer.telling_line(str(error)), "message": tflite_peer.condensed(str(error))}
    (folder / "peer.tflite").write_bytes(content)
    loaded = tf.saved_model.load(str(root / entry["path"]))
    counts: dict[str, int] = {}
    for function in loaded.signatures.values():
        for name, count in tflite_peer.operator_counts(function.graph.as_graph_def()).items():
            counts[name] = counts.get(name, 0) + count
    return {"tf_operators": counts}


def examine_peer(entry: dict[str, Any], root: pathlib.Path) -> dict[str, Any]:
    """Everything TensorFlow's side has to say on one model, written to its folder too."""
    folder = folder_of(entry)
    folder.mkdir(parents=True, exist_ok=True)
    run, convert = STAGES[entry["kind"]]
    facts: dict[str, Any] = {"path": entry["path"], "kind": entry["kind"]}
    ran = in_child(lambda: run(entry, root, folder), timeout=SECONDS)
    facts |= ran.value if ran.value is not None else {"not_run": ran.failure[:300]}
    converted = in_child(lambda: convert(entry, root, folder), timeout=SECONDS)
    facts |= converted.value if converted.value is not None else {"error": converted.failure[:300]}
    facts["seconds"] = round(converted.seconds, 2)
    if "error" not in facts:
        facts["bytes"] = (folder / "peer.tflite").stat().st_size
        facts["operators"] = tflite_files.operators(folder / "peer.tflite")
        compared = in_child(lambda: compare(folder / "peer.tflite", folder), timeout=SECONDS)
        facts["litert"] = compared.failure[:300] or compared.value
    (folder / "peer.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def compare(path: pathlib.Path, folder: pathlib.Path) -> float | str | None:
    """How far LiteRT's outputs of the file at `path` are from TensorFlow's; None where TensorFlow gave none."""
    import numpy as np

    if not (folder / "io.npz").exists():
        return None
    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    with np.load(folder / "io.npz", allow_pickle=False) as arrays:
        for key in arrays.files:
            kind, signature, name = key.split("|", 2)
            cases.setdefault(signature, ({}, {}))[kind == "out"][name] = arrays[key]
    errors: list[float | str] = []
    for signature, (feeds, expected) in cases.items():
        found = tflite_files.run(path, feeds, list(expected), signature)
        for name, value in expected.items():
            errors.append(tflite_files.error_of(found[name], value) if name in found else f"no output '{name}'")
    return tflite_files.worst(errors)


Stage = Callable[[dict[str, Any], pathlib.Path, pathlib.Path], dict[str, Any]]
STAGES: dict[str, tuple[Stage, Stage]] = {
    "graphdef": (run_graphdef, convert_graphdef),
    "savedmodel": (run_savedmodel, convert_savedmodel),
}
