"""Lower every GraphDef and SavedModel of the corpus, and the zoo, to ONNX, tf2onnx beside it, and compare.

    python tools/run_onnx_corpus.py --peer PYTHON    # once: tf2onnx in that Python; resumes where it was
    python tools/run_onnx_corpus.py [--only TEXT] [--networks] [--list]

Needs the extra `tensorrt`. Inputs and TensorFlow's outputs are those that tools/run_tflite_corpus.py --peer and
tools/tflite_zoo.py keep. Results lie in $GRAPHOPT_ONNX_CORPUS, by default ~/.cache/graphopt/onnx-corpus, a folder a
model: `theirs.onnx` and `peer.json`, `ours.onnx` and `ours.json`. Every file goes through onnx.checker with types
inferred, and runs in ONNX Runtime. Each model ends as one of

- `both`: both convert it, graphopt's output is within 1e-4 of TensorFlow's scale, with no more nodes than tf2onnx's;
- `more nodes`: the same with more nodes;
- `only graphopt`: tf2onnx refuses it, or what it makes is not accepted or wrong;
- `not compared`: graphopt converts it, and TensorFlow gives no output to compare with;
- `as tf2onnx's`: further off than that, and tf2onnx's file is just as far;
- `neither`: both refuse it;
- `no rank`: an input or output of unknown rank, which ONNX's checker does not take, and the output is TensorFlow's;
- `FAILS`: tf2onnx converts it and graphopt does not, or the checker or the output says no; the exit status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import onnx_files
from forks import in_child
from run_corpus import DEFAULT, RELATIVE
from subjects import Subject, subjects

ROOT = pathlib.Path(os.environ.get("GRAPHOPT_ONNX_CORPUS", pathlib.Path.home() / ".cache/graphopt/onnx-corpus"))
SECONDS = 120.0
NO_RANK = "Field 'shape' of 'type' is required"


def folder_of(subject: Subject) -> pathlib.Path:
    """Where results lie."""
    return ROOT / subject.name


# tf2onnx's side ------------------------------------------------------------------------------------------------


def run_peer(chosen: list[Subject], python: str) -> None:
    """tf2onnx's side of every model that has no result yet."""
    missing = [subject for subject in chosen if not (folder_of(subject) / "peer.json").exists()]
    script = pathlib.Path(__file__).with_name("onnx_peer.py")
    with subprocess.Popen(
        [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        for place, subject in enumerate(missing):
            folder_of(subject).mkdir(parents=True, exist_ok=True)
            job, failure = _job(subject)
            facts: dict[str, Any] = {"failure": failure}
            if not failure:
                print(json.dumps(job), file=peer.stdin, flush=True)
                facts = json.loads(peer.stdout.readline())
            if not facts["failure"]:
                facts |= examined(pathlib.Path(job["target"]), subject)
            (folder_of(subject) / "peer.json").write_text(json.dumps(facts, indent=1) + "\n")
            print(f"{place + 1:4}/{len(missing)} {subject.name}: {facts}"[:200], flush=True)


def _job(subject: Subject) -> tuple[dict[str, Any], str]:
    """What tf2onnx is asked; a GraphDef goes to it in binary form."""
    from graphopt.ir import Error
    from graphopt.ir.formats import graphdef

    source = subject.source
    if subject.kind == "graphdef":
        source = folder_of(subject) / "source.pb"
        try:
            source.write_bytes(graphdef.graphdef_bytes(graphdef.load(subject.source)))
        except Error as error:
            return {}, f"not read: {error}"
    job = {
        "source": str(source), "target": str(folder_of(subject) / "theirs.onnx"), "kind": subject.kind,
        "inputs": subject.inputs, "outputs": subject.outputs, "signature": subject.signature,
    }  # fmt: skip
    return job, ""


def examined(path: pathlib.Path, subject: Subject) -> dict[str, Any]:
    """Nodes, transposes, the checker's verdict and the error of a file."""
    counted = in_child(lambda: dict(onnx_files.counts(path)), timeout=SECONDS).value or {}
    verdict = in_child(lambda: onnx_files.checked(path), timeout=SECONDS)
    compared = in_child(lambda: onnx_files.compare(path, subject.io, subject.signature), timeout=SECONDS)
    return {
        "nodes": sum(counted.values()),
        "transposes": counted.get("Transpose", 0),
        "checker": verdict.failure or verdict.value,
        "error": compared.failure[:300] or compared.value,
    }


# graphopt's side -----------------------------------------------------------------------------------------------


def lower(subject: Subject, target: pathlib.Path) -> str:
    """`graphopt lower` in this process; what it says if it fails."""
    from graphopt.cli.main import main as graphopt

    given = ["lower", str(subject.source), "--to", "onnx", "-o", str(target)]
    for option, names in (("--inputs", subject.inputs), ("--outputs", subject.outputs)):
        given += [option, ",".join(names)] if names else []
    if subject.signature:
        given += ["--signatures", subject.signature]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = graphopt(given)
    if not status:
        return ""
    return f"[{status}] {' '.join(said.getvalue().split())[:1500]}"


def examine(subject: Subject) -> dict[str, Any]:
    """graphopt's side of one model."""
    target = folder_of(subject) / "ours.onnx"
    folder_of(subject).mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    lowered = in_child(lambda: lower(subject, target), timeout=SECONDS)
    facts: dict[str, Any] = {"failure": lowered.failure or lowered.value, "seconds": round(lowered.seconds, 2)}
    if not facts["failure"]:
        facts |= examined(target, subject)
    (folder_of(subject) / "ours.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def is_right(facts: dict[str, Any]) -> bool:
    """The file is accepted, and its output is TensorFlow's as far as there is one."""
    if facts["failure"] or facts["checker"]:
        return False
    error = facts["error"]
    return error is None or (isinstance(error, float) and error <= RELATIVE)


def is_as_far(ours: Any, theirs: Any) -> bool:
    """Both are beyond the tolerance, and graphopt's output is no further off."""
    return isinstance(ours, float) and isinstance(theirs, float) and RELATIVE < ours <= 1.01 * theirs


def judge(peer: dict[str, Any], ours: dict[str, Any]) -> tuple[str, str]:
    """The verdict on one model, and its reason."""
    if ours["failure"]:
        return ("neither" if peer["failure"] or not is_right(peer) else "FAILS"), ours["failure"]
    if NO_RANK in ours["checker"] and is_right(ours | {"checker": ""}):
        return "no rank", f"error {ours['error']} (tf2onnx: {peer['failure'] or peer['checker'] or peer['error']})"
    if not ours["checker"] and not peer["failure"] and is_as_far(ours["error"], peer["error"]):
        return "as tf2onnx's", f"{ours['error']}"
    if not is_right(ours):
        theirs = peer["failure"] or f"{peer['checker']} {peer['error']}"
        return "FAILS", f"{ours['checker']} {ours['error']} (tf2onnx: {theirs})"
    shown = f"error {ours['error']}, nodes {ours['nodes']}, transposes {ours['transposes']}"
    if peer["failure"] or not is_right(peer):
        return "only graphopt", f"{shown} (tf2onnx: {peer['failure'] or peer['checker'] or peer['error']})"
    shown += f" (tf2onnx: {peer['nodes']}, {peer['transposes']}, {peer['error']})"
    if ours["nodes"] > peer["nodes"]:
        return "more nodes", shown
    return ("both" if ours["error"] is not None else "not compared"), shown


def table(chosen: list[Subject], *, listed: bool) -> int:
    """Run graphopt's side, print verdicts and counts; returns the number of failures."""
    tally: dict[str, int] = {}
    for subject in chosen:
        path = folder_of(subject) / "peer.json"
        peer = json.loads(path.read_text()) if path.exists() else {"failure": "tf2onnx was not asked"}
        verdict, reason = judge(peer, examine(subject))
        tally[verdict] = tally.get(verdict, 0) + 1
        if listed or verdict in ("FAILS", "more nodes"):
            print(f"{verdict:14} {subject.name}: {reason}", flush=True)
    print(f"{len(chosen)} models: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(tally.items())))
    return tally.get("FAILS", 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=pathlib.Path, default=DEFAULT)
    parser.add_argument("--only", default="", help="only models whose path contains this")
    parser.add_argument("--networks", action="store_true", help="only networks: no graphs of single operators")
    parser.add_argument("--list", action="store_true", help="print the verdict on every model")
    parser.add_argument("--peer", metavar="PYTHON", help="run tf2onnx in this Python, where it has not run yet")
    options = parser.parse_args()
    chosen = [
        subject
        for subject in subjects(options.corpus)
        if options.only in subject.name and (subject.is_network or not options.networks)
    ]
    if options.peer:
        run_peer(chosen, options.peer)
        return 0
    import onnx  # noqa: F401 - once, here: each model is a fork of this process
    import onnxruntime  # noqa: F401

    import graphopt.api
    import graphopt.discovery
    import graphopt.ir.formats.graphdef
    import graphopt.lowering  # noqa: F401

    return 1 if table(chosen, listed=options.list) else 0


if __name__ == "__main__":
    sys.exit(main())
