"""Lower every GraphDef and SavedModel of the corpus to TFLite, tf.lite's converter beside it, and compare.

    python tools/run_tflite_corpus.py --peer        # once: tf.lite and TensorFlow, ten minutes; resumes where it was
    python tools/run_tflite_corpus.py [--only TEXT] [--list]

Needs the extra `tensorflow` and a corpus folder with its MANIFEST.json (default ../shared/corpus, or $GRAPHOPT_CORPUS).
Peer results lie in $GRAPHOPT_TFLITE_CORPUS, by default ~/.cache/graphopt/tflite-corpus, a folder a model: `peer.json`
(error line or operators), `peer.tflite`, `io.npz` (seeded inputs, TensorFlow's outputs); a folder that is removed is
filled again. Beside them come `ours.tflite` and `ours.json`. Each model ends as one of

- `agrees`: tf.lite converts it, so does graphopt, and LiteRT gives TensorFlow's output within 1e-4 of its scale;
- `as tf.lite's`: further off than that, or not to be run by LiteRT, and tf.lite's file is just the same;
- `not compared`: both convert it; TensorFlow gives no output to compare with;
- `more`: tf.lite refuses it, graphopt converts it, and the output agrees (or TensorFlow gives none);
- `refused by both`;
- `FAILS`: tf.lite converts it and graphopt does not, or outputs differ. The exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pathlib
import re
import sys
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from forks import in_child
from run_corpus import DEFAULT, RELATIVE
from tflite_corpus import STAGES, compare, examine_peer, folder_of
from tflite_files import operators

SECONDS = 60.0


def run_peer(entries: list[dict[str, Any]], root: pathlib.Path) -> None:
    """TensorFlow's side of every model that has no result yet."""
    import tensorflow as tf  # noqa: F401 - imported once, here: each model is a fork of this process

    import graphopt.api
    import graphopt.discovery  # noqa: F401

    for place, entry in enumerate(entries):
        if not (folder_of(entry) / "peer.json").exists():
            facts = examine_peer(entry, root)
            verdict = facts.get("error", f"{facts.get('bytes')} bytes, LiteRT {facts.get('litert')}")
            print(
                f"{place + 1:4}/{len(entries)} {facts['seconds']:6.1f} s {entry['path']}: {verdict[:160]}", flush=True
            )


def lower(source: pathlib.Path, target: pathlib.Path, names: list[str]) -> str:
    """`graphopt lower` in this process; what it says if it fails."""
    from graphopt.cli.main import main as graphopt

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = graphopt(["lower", str(source), "--to", "tflite", "-o", str(target), *names])
    if not status:
        return ""
    lines = [line.strip() for line in said.getvalue().splitlines() if line.strip()]
    return f"[{status}] {' '.join(lines)[:1500]}"


def examine(entry: dict[str, Any], root: pathlib.Path, peer: dict[str, Any]) -> dict[str, Any]:
    """graphopt's side of one model."""
    folder = folder_of(entry)
    target = folder / "ours.tflite"
    target.unlink(missing_ok=True)
    names = []
    for option, key in (("--inputs", "inputs"), ("--outputs", "outputs")):
        names += [option, ",".join(peer[key])] if peer.get(key) else []
    lowered = in_child(lambda: lower(root / entry["path"], target, names), timeout=SECONDS)
    facts: dict[str, Any] = {"path": entry["path"], "seconds": round(lowered.seconds, 2)}
    failure = lowered.failure or lowered.value
    if failure:
        facts["error"] = failure
    else:
        facts["bytes"] = target.stat().st_size
        compared = in_child(lambda: compare(target, folder), timeout=SECONDS)
        facts["litert"] = compared.failure[:300] or compared.value
        facts["operators"] = in_child(lambda: operators(target), timeout=SECONDS).value
    (folder / "ours.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def judge(peer: dict[str, Any], ours: dict[str, Any]) -> tuple[str, str]:
    """The verdict on one model, and its reason."""
    theirs_fails, ours_fails = "error" in peer, "error" in ours
    if ours_fails:
        return ("refused by both" if theirs_fails else "FAILS"), ours["error"]
    error = ours["litert"]
    if error is None:
        return ("more" if theirs_fails else "not compared"), f"{peer.get('not_run', 'no output')}"
    if isinstance(error, float) and error <= RELATIVE:
        return ("more" if theirs_fails else "agrees"), f"error {error:.1e}"
    if not theirs_fails and as_far(error, peer.get("litert")):
        return "as tf.lite's", f"{error}"
    return "FAILS", f"LiteRT: {error}" + ("" if theirs_fails else f" (tf.lite's file: {peer.get('litert')})")


def as_far(ours: float | str, theirs: Any) -> bool:
    """Whether tf.lite's own file is as far from TensorFlow's output."""
    if isinstance(ours, float):
        return isinstance(theirs, float) and ours <= min(1.5 * theirs, 1e-3)
    numbers = re.compile(r"\d+")
    return isinstance(theirs, str) and numbers.sub("", ours) == numbers.sub("", theirs)


def table(entries: list[dict[str, Any]], root: pathlib.Path, *, listed: bool) -> int:
    """Run graphopt's side, print verdicts and counts; returns the number of failures."""
    counts: dict[str, int] = {}
    for entry in entries:
        path = folder_of(entry) / "peer.json"
        if not path.exists():
            counts["without a peer's result"] = counts.get("without a peer's result", 0) + 1
            continue
        peer = json.loads(path.read_text())
        verdict, reason = judge(peer, examine(entry, root, peer))
        counts[verdict] = counts.get(verdict, 0) + 1
        if listed or verdict == "FAILS":
            print(f"{verdict:16} {entry['path']}: {reason}", flush=True)
    print(f"{len(entries)} models: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    return counts.get("FAILS", 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=pathlib.Path, default=DEFAULT)
    parser.add_argument("--only", default="", help="only models whose path contains this")
    parser.add_argument("--list", action="store_true", help="print the verdict on every model")
    parser.add_argument("--peer", action="store_true", help="run TensorFlow's side, where it has not run yet")
    options = parser.parse_args()
    entries = [
        entry
        for entry in json.loads((options.corpus / "MANIFEST.json").read_text())
        if entry["kind"] in STAGES and options.only in entry["path"]
    ]
    if options.peer:
        run_peer(entries, options.corpus)
        return 0
    import ai_edge_litert.interpreter  # noqa: F401 - once, here: each model is a fork of this process

    import graphopt.api
    import graphopt.discovery
    import graphopt.ir.formats.graphdef
    import graphopt.lowering  # noqa: F401

    return 1 if table(entries, options.corpus, listed=options.list) else 0


if __name__ == "__main__":
    sys.exit(main())
