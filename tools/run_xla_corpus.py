"""Lower the zoo and the networks of the corpus to StableHLO by our rules alone, run them in JAX, compare.

    python tools/run_xla_corpus.py --jit                          # once: TensorFlow's jit_compile; resumes where it was
    python tools/run_xla_corpus.py [--only TEXT] [--all] [--list] [--json FILE]

Needs the extras `tensorflow` and `xla`. Results lie in $GRAPHOPT_XLA_CORPUS, by default ~/.cache/graphopt/xla-corpus, a
folder a model: `jit.json` says whether TensorFlow compiles the model with `jit_compile=True` (in a process of its own,
which may end in an abort), `ours.json` what became of ours. Each model ends as one of

- `agrees`: TensorFlow's jit takes it, our rules lower it, JAX's output is within 1e-4 of TensorFlow's scale;
- `more`: the same where TensorFlow's jit refuses it;
- `fallback`: TensorFlow's jit takes it, and our rules do not: TensorFlow would lower it as a whole;
- `not compared`: it lowers, and TensorFlow gives no output to compare with, or an output is drawn at random;
- `neither`: both refuse it;
- `FAILS`: outputs differ, or JAX does not run what was lowered. The exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tflite_peer
from forks import in_child
from run_corpus import DEFAULT, RELATIVE, reason_of
from subjects import Subject, subjects
from tflite_files import error_of, worst

ROOT = pathlib.Path(os.environ.get("GRAPHOPT_XLA_CORPUS", pathlib.Path.home() / ".cache/graphopt/xla-corpus"))
SECONDS = 600.0
ADDRESS_GIB = 48.0  # of address space: XLA reserves more than it uses


# TensorFlow's side ----------------------------------------------------------------------------------------------


def compiled_by_tensorflow(subject: Subject) -> float | str | None:
    """How far `jit_compile=True` is from TensorFlow without it; None where there is nothing to run it on."""
    import tensorflow as tf

    from graphopt.ir.formats import graphdef

    feeds, expected = subject.case()
    if not expected:
        return None
    if subject.kind == "graphdef":
        graph_def = tf.compat.v1.GraphDef.FromString(graphdef.graphdef_bytes(graphdef.load(subject.source)))
        pruned = tflite_peer.prune(graph_def, subject.inputs, list(expected))
        jitted = tf.function(lambda *values: pruned(*values), jit_compile=True)
        values = tf.nest.flatten(jitted(*(tf.constant(feeds[name]) for name in subject.inputs)))
        found = dict(zip(expected, values, strict=True))
    else:
        loaded = tf.saved_model.load(str(subject.source))
        plain = loaded.signatures[subject.signature]
        jitted = tf.function(lambda **values: plain(**values), jit_compile=True)
        found = jitted(**{name: tf.constant(value) for name, value in feeds.items()})
    return worst([error_of(found[name].numpy(), value) for name, value in expected.items()])


def run_jit(chosen: list[Subject]) -> None:
    """TensorFlow's verdict on every model that has none yet."""
    import tensorflow as tf  # noqa: F401 - imported once, here: each model is a fork of this process

    import graphopt.ir.formats.graphdef  # noqa: F401

    missing = [subject for subject in chosen if not (ROOT / subject.name / "jit.json").exists()]
    for place, subject in enumerate(missing):
        ran = in_child(lambda: attempted(subject), timeout=SECONDS, memory_gib=ADDRESS_GIB)  # noqa: B023 - run at once
        facts = {"failure": ran.failure[:300], "error": None} if ran.failure else ran.value
        folder = ROOT / subject.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "jit.json").write_text(json.dumps(facts, indent=1) + "\n")
        print(f"{place + 1:4}/{len(missing)} {ran.seconds:6.1f} s {subject.name}: {facts}"[:200], flush=True)


def attempted(subject: Subject) -> dict[str, Any]:
    """The error of TensorFlow's compiled outputs, or why it does not compile the model."""
    try:
        return {"failure": "", "error": compiled_by_tensorflow(subject)}
    except Exception as error:
        return {"failure": reason_of(error), "error": None}


# graphopt's side -----------------------------------------------------------------------------------------------


def examine(subject: Subject, options: dict[str, Any]) -> dict[str, Any]:
    """What became of one model, kept in its folder too."""
    ran = in_child(lambda: lowered_and_run(subject, options), timeout=SECONDS, memory_gib=ADDRESS_GIB)
    facts = ran.value or {"refused": "", "failure": ran.failure[:400], "error": None}
    facts["seconds"] = round(ran.seconds, 2)
    folder = ROOT / subject.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ours.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def lowered_and_run(subject: Subject, options: dict[str, Any]) -> dict[str, Any]:
    """Lower by rules alone and run; `refused` says why rules do not take it, `failure` why JAX does not run it."""
    from graphopt import lower
    from graphopt.ir import Error
    from graphopt.runtimes.xla import XlaRuntime

    facts: dict[str, Any] = {"refused": "", "failure": "", "error": None}
    feeds, expected = subject.case()
    ends: dict[str, Any] = {"signatures": (subject.signature,)} if subject.signature else {}
    if subject.kind == "graphdef":
        ends |= {"inputs": subject.inputs or None, "outputs": list(expected) or subject.outputs or None}
    try:
        model = lower(shaped(subject, feeds), "xla", fallback=False, **ends, **options).model
    except Error as error:
        return facts | {"refused": str(error)[:1500]}
    if not expected:
        return facts
    try:
        found = XlaRuntime().run(model, feeds)
    except Error as error:
        return facts | {"failure": str(error)[:400]}
    named = found if set(expected) <= set(found) else dict(zip(expected, found.values(), strict=True))
    return facts | {"error": worst([error_of(named[name], value) for name, value in expected.items()])}


def shaped(subject: Subject, feeds: dict[str, Any]) -> Any:
    """The model's path or, where the file does not say the rank of an input, the model with the shapes of its feeds."""
    from graphopt import load
    from graphopt.passes import PassManager

    if subject.kind != "graphdef":
        return str(subject.source)
    model = load(subject.source, inputs=subject.inputs or None, outputs=subject.outputs or None)
    unknown = [value.name for value in model.graph.inputs if value.shape.dims is None]
    shapes = [f'"{name}:{",".join(map(str, feeds[name].shape))}"' for name in unknown if name in feeds]
    if not shapes:
        return str(subject.source)
    PassManager(f"set-shapes{{shapes=[{','.join(shapes)}]}}").run(model)
    return model


def judge(jit: dict[str, Any], ours: dict[str, Any]) -> tuple[str, str]:
    """The verdict on one model, and its reason."""
    is_taken = not jit["failure"]
    if ours["refused"]:
        return ("fallback" if is_taken and jit["error"] is not None else "neither"), ours["refused"]
    if ours["failure"]:
        return "FAILS", ours["failure"]
    error = ours["error"]
    if error is None:
        return "not compared", jit["failure"]
    if isinstance(error, float) and error <= RELATIVE:
        return ("agrees" if is_taken else "more"), f"error {error:.1e}" + ("" if is_taken else f" ({jit['failure']})")
    return "FAILS", f"{error} (TensorFlow's jit: {jit['failure'] or jit['error']})"


def table(chosen: list[Subject], options: dict[str, Any], *, listed: bool) -> list[dict[str, Any]]:
    """Run graphopt's side, print verdicts and counts; returns a row for each model."""
    rows, tally = [], dict[str, int]()
    for subject in chosen:
        path = ROOT / subject.name / "jit.json"
        jit = json.loads(path.read_text()) if path.exists() else {"failure": "TensorFlow was not asked", "error": None}
        ours = examine(subject, options)
        verdict, reason = judge(jit, ours)
        rows.append({"model": subject.name, "verdict": verdict, "reason": reason, "jit": jit, "ours": ours})
        tally[verdict] = tally.get(verdict, 0) + 1
        if listed or verdict in ("FAILS", "fallback"):
            print(f"{verdict:12} {ours['seconds']:6.1f} s {subject.name}: {reason}", flush=True)
    print(f"{len(chosen)} models: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(tally.items())))
    return rows


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=pathlib.Path, default=DEFAULT)
    parser.add_argument("--only", default="", help="only models whose path contains this")
    parser.add_argument("--all", action="store_true", help="graphs of single operators too")
    parser.add_argument("--list", action="store_true", help="print the verdict on every model")
    parser.add_argument("--jit", action="store_true", help="run TensorFlow's side, where it has not run yet")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    chosen = [
        subject
        for subject in subjects(options.corpus)
        if options.only in subject.name and (subject.is_network or options.all)
    ]
    if options.jit:
        run_jit(chosen)
        return 0

    import graphopt.api
    import graphopt.backends.xla.backend
    import graphopt.discovery
    import graphopt.lowering
    import graphopt.runtimes.xla  # noqa: F401

    rows = table(chosen, {"precision": options.precision}, listed=options.list)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(row["verdict"] == "FAILS" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
