"""`graphopt lower --to xla` in every precision: signal to noise beside float32, bytes, and products in integers.

    python tools/measure_xla_precision.py NAME … [--precisions bfloat16,float16,int8-weights,int8] [--samples 32]

Names are models of the zoo, with the samples that lie beside them: those of `quantize_…` are calibrated on some and
judged on others. Signals are the outputs of the float32 program in JAX, noise is what a precision adds; the worst
output is shown, in decibels.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from forks import in_child
from measure_tensorrt import samples_of
from model_zoo import folder_of
from quantize_measures import decibels

PRECISIONS = ("bfloat16", "float16", "int8-weights", "int8")
JUDGED, SECONDS, ADDRESS_GIB = 16, 900.0, 48.0


def measure(name: str, precisions: list[str], most: int) -> list[dict[str, Any]]:
    """A row for each precision of one model."""
    from graphopt import lower
    from graphopt.runtimes.xla import XlaRuntime

    folder = folder_of(name)
    source = str(folder / "saved_model")
    calibration, judged = samples_of(folder, most)
    runtime = XlaRuntime()

    def outputs(model: Any) -> list[dict[str, Any]]:
        return [runtime.run(model, sample) for sample in judged[:JUDGED]]

    plain = lower(source, "xla", fallback=False).model
    signals = outputs(plain)
    rows = [{"model": name, "precision": "float32", "bytes": stored(plain)}]
    for precision in precisions:
        data = {"data": calibration} if precision == "int8" else {}
        lowered = lower(source, "xla", fallback=False, precision=precision, **data)
        noises = outputs(lowered.model)
        worst = min(decibels(*signal_and_noise(signals, noises, key)) for key in signals[0])
        notes = [note for note in lowered.notes if "products" in note]
        rows.append({"model": name, "precision": precision, "bytes": stored(lowered.model), "decibels": worst,
                     "notes": notes})  # fmt: skip
    return rows


def signal_and_noise(signals: list[dict[str, Any]], found: list[dict[str, Any]], key: str) -> tuple[Any, Any]:
    """One output over all samples, and how far it is off."""
    wanted, made = (np.concatenate([np.ravel(item[key]) for item in side]) for side in (signals, found))
    return wanted, made.astype(np.float64) - wanted


def stored(model: Any) -> int:
    """Bytes of programs and weights."""
    held = [node.attrs["value"].stored_bytes for node in model.graph if node.op == "xla.WEIGHT"]
    return sum(held) + sum(len(node.attrs["code"]) for node in model.graph if node.op == "xla.PROGRAM")


def main() -> None:
    """Print a line for each model and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    rows = []
    for name in options.names:
        ran = in_child(
            lambda: measure(name, options.precisions.split(","), options.samples),  # noqa: B023 - run at once
            timeout=SECONDS,
            memory_gib=ADDRESS_GIB,
        )
        for row in ran.value or [{"model": name, "precision": ran.failure[:300], "bytes": 0}]:
            ratio = f"{row['decibels']:6.1f} dB" if "decibels" in row else ""
            print(
                f"{name:24} {row['precision']:13} {row['bytes']:12,} bytes {ratio} {row.get('notes', '')}", flush=True
            )
            rows.append(row)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
