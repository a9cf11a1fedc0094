"""tf2onnx on one model: its file, or in one line why there is none. Runs in a Python that has tf2onnx."""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import sys
from typing import Any

from forks import in_child

OPSET = 18  # tf2onnx 1.17 goes no further
SECONDS = 240.0


def arguments(job: dict[str, Any]) -> list[str]:
    """tf2onnx's command line for a model: a SavedModel's signature, or a GraphDef between tensors."""
    given = ["tf2onnx.convert", "--output", job["target"], "--opset", str(OPSET)]
    if job["kind"] == "savedmodel":
        return [*given, "--saved-model", job["source"], "--signature_def", job["signature"]]
    names = [",".join(name if ":" in name else f"{name}:0" for name in job[key]) for key in ("inputs", "outputs")]
    return [*given, "--graphdef", job["source"], "--inputs", names[0], "--outputs", names[1]]


def convert(job: dict[str, Any]) -> str:
    """Convert one model; what went wrong, empty if nothing."""
    from tf2onnx.convert import main as tf2onnx

    sys.argv = arguments(job)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            tf2onnx()
    except (Exception, SystemExit) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
    return "" if pathlib.Path(job["target"]).exists() else "it wrote nothing"


def main() -> None:
    """One job a line on standard input; one line of JSON for each on standard output."""
    import tensorflow as tf  # noqa: F401 - imported once, here: each model is a fork of this process
    import tf2onnx.convert  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        done = in_child(lambda job=job: convert(job), timeout=SECONDS)  # type: ignore[misc]
        failure = done.failure or done.value
        print(json.dumps({"failure": failure, "seconds": round(done.seconds, 2)}), flush=True)


if __name__ == "__main__":
    main()
