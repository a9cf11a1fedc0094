"""`graphopt quantize` beside tf.lite's quantization and ai-edge-quantizer: time, memory, size, fidelity, latency.

    python tools/measure_quantize.py [--models NAME,…] [--modes MODE,…] [--peer-python PYTHON] [--effort fast]

All sides get the same 20 samples (tools/quantize_zoo.py) and are judged by others, too: signal to noise in decibels
against TensorFlow's float outputs, on other samples, plain and with each output's mean taken off the signal, and on the
same ones (`seen`). Each works in a process of its own, start and imports included: graphopt from the SavedModel
beside tf.lite, and from the float `.tflite` beside ai-edge-quantizer with its minimum and maximum, and with the moving
average that is its default. `int8 pure` is graphopt without islands of floats, `int4` has weights of 4 bits by channel
or, where they divide the rows, by blocks of 32. Latencies are LiteRT's with its default
delegate, all files of a model in turn. Timings mean something on a machine that does nothing else. What a bound asks
and does not get is a line `FAILS`.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import processes
import quantize_measures
import quantize_zoo
from forks import in_child

HERE = pathlib.Path(__file__).parent
PURE = "int8 pure"
FOUR = {"mode": "weight-only", "weight_bits": 4}
RECIPES: dict[str, dict[str, Any]] = {  # of modes that the command has no name for
    "int4": {"rules": [FOUR]},
    "int4 blocks": {"rules": [FOUR, FOUR | {"granularity": "block", "block_size": 32}]},
    PURE: {"rules": [{"mode": "int8"}], "islands": False},
}
MODES = ("float", "float16", "dynamic", "weight-only", "int4", "int4 blocks", "int8", PURE, "int16x8")
TFLITE_MODES = ("float16", "dynamic", "int8", "int16x8")
AI_EDGE_MODES = ("dynamic", "int8-minmax", "int8-average")
FASTER, GAIN, SLACK, ACCURACY = 3.0, 2.0, 1.03, 0.5
HEADER = (
    f"{'model':18} {'by':11} {'mode':13} {'kB':>9} {'s':>7} {'MiB':>6} {'dB':>6} {'centred':>7} {'seen':>6} "
    f"{'right %':>7} {'ms':>8} {'pieces':>6}"
)


class Bench:
    """One model: its files in a scratch folder, and what is known of each by (side, mode)."""

    def __init__(self, name: str, options: argparse.Namespace, scratch: pathlib.Path):
        self.name, self.options = name, options
        self.folder = quantize_zoo.ensure(name)
        self.scratch = scratch / name
        self.scratch.mkdir(parents=True)
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}

    def run(self) -> None:
        """Make every file, judge it, print its row; then time all of them in turn."""
        saved, data = str(self.folder / "saved_model"), str(self.folder / quantize_zoo.CALIBRATION)
        ours = [processes.PYTHON, "-m", "graphopt"]
        self._make("graphopt", "float", [*ours, "lower", saved, "--to", "tflite", "-o"])
        plain = str(self._path("graphopt", "float"))
        for mode in self.options.modes:
            if mode != "float":
                self._make("graphopt", mode, [*ours, "quantize", saved, *self._arguments(mode, data), "-o"])
        if "int8" in self.options.modes:
            self._make(
                "graphopt", "int8 from .tflite", [*ours, "quantize", plain, *self._arguments("int8", data), "-o"]
            )
        peer = [self.options.peer_python, str(HERE / "quantize_peers.py")]
        for mode in TFLITE_MODES:
            if mode in self.options.modes:
                self._make("tf.lite", mode, [*peer, "tflite", mode, saved, data])
        for mode in AI_EDGE_MODES:
            if mode.partition("-")[0] in self.options.modes:
                self._make("ai-edge", mode, [*peer, "ai-edge", mode, plain, data])
        self._time()

    def _arguments(self, mode: str, data: str) -> list[str]:
        needs_data = ["--data", data, "--effort", self.options.effort] if mode.startswith(("int8", "int16")) else []
        if mode not in RECIPES:
            return ["--mode", mode, *needs_data]
        recipe = self.scratch / f"{mode}.json"
        recipe.write_text(json.dumps({"schema": "graphopt.recipe/1", **RECIPES[mode]}))
        return ["--recipe", str(recipe), *needs_data]

    def _path(self, side: str, mode: str) -> pathlib.Path:
        return self.scratch / f"{side}_{mode.replace(' ', '_')}.tflite"

    def _make(self, side: str, mode: str, command: Sequence[str]) -> None:
        target = self._path(side, mode)
        row = self.rows[side, mode] = {}
        try:
            usages = []
            for _ in range(self.options.runs):
                target.unlink(missing_ok=True)
                usages.append(processes.run([*command, str(target)], timeout=1800))
        except RuntimeError as error:
            row["error"] = reason_of(str(error))
        else:
            usage = processes.median(usages)
            row |= {"seconds": usage.wall, "peak_mib": usage.peak_mib, "bytes": target.stat().st_size}
            outcome = in_child(lambda: quantize_measures.judged(target, self.folder), timeout=900, memory_gib=24)
            row |= {"error": outcome.failure[:160]} if outcome.failure else outcome.value
            if "error" not in row:
                row["pieces"] = in_child(lambda: quantize_measures.pieces(target), timeout=300, memory_gib=24).value

    def _time(self) -> None:
        import numpy as np

        paths = {key: self._path(*key) for key, row in self.rows.items() if "error" not in row}
        named = {"|".join(key): path for key, path in paths.items()}
        with np.load(self.folder / quantize_zoo.JUDGED) as kept:
            sample = kept["x"][0]
        outcome = in_child(
            lambda: quantize_measures.latencies(named, sample, self.options.threads), timeout=900, memory_gib=24
        )
        for key in paths:
            if outcome.value is not None:
                self.rows[key]["ms"] = outcome.value["|".join(key)]
        for (side, mode), row in self.rows.items():
            print(shown(self.name, side, mode, row), flush=True)

    def failures(self) -> list[str]:
        """What does not hold, in words."""
        found = [f"{mode}: {row['error']}" for (side, mode), row in self.rows.items()
                 if side == "graphopt" and "error" in row]  # fmt: skip
        ours, theirs = self._good("graphopt", "int8"), self._good("tf.lite", "int8")
        plain, again = self._good("graphopt", "float"), self._good("graphopt", "int8 from .tflite")
        if ours and theirs:
            if theirs["seconds"] < FASTER * ours["seconds"]:
                found.append(f"int8: {theirs['seconds'] / ours['seconds']:.1f}x faster than tf.lite, not {FASTER:.0f}x")
            if ours["bytes"] > theirs["bytes"]:
                found.append(f"int8: {ours['bytes'] - theirs['bytes']} bytes larger than tf.lite's")
            if ours["ms"] > SLACK * theirs["ms"]:
                found.append(f"int8: latency {ours['ms'] / theirs['ms']:.2f} of tf.lite's")
        if ours and plain and ours["ms"] > SLACK * plain["ms"]:
            found.append(f"int8: latency {ours['ms'] / plain['ms']:.2f} of the float model's")
        if ours and "accuracy" in ours and ours["accuracy"] < ours["float_accuracy"] - ACCURACY:
            found.append(f"int8: accuracy {ours['accuracy']:.1f}, float {ours['float_accuracy']:.1f}")
        for side, mode in (("tf.lite", "int8"), ("ai-edge", "int8-minmax"), ("ai-edge", "int8-average")):
            peer = self._good(side, mode)
            found += [f"int8: {ours[kind]:.1f} dB ({kind}), {side}'s {mode} {peer[kind]:.1f}"
                      for kind in ("snr", "centred", "seen") if ours and peer and ours[kind] < peer[kind]]  # fmt: skip
        minmax = self._good("ai-edge", "int8-minmax")
        if again and minmax and again["seconds"] > minmax["seconds"]:
            found.append(f"int8 from .tflite: {again['seconds']:.1f} s, ai-edge-quantizer {minmax['seconds']:.1f} s")
        return [f"{self.name}: {line}" for line in found]

    def _good(self, side: str, mode: str) -> dict[str, Any]:
        row = self.rows.get((side, mode), {})
        return {} if "error" in row or "ms" not in row else row

    def gain(self) -> float | None:
        """Decibels that the pure form is better than the better of the peers on the samples of calibration; None where
        no peer is there."""
        ours = self._good("graphopt", PURE) or self._good("graphopt", "int8")
        peers = [self._good("tf.lite", "int8"), self._good("ai-edge", "int8-minmax")]
        known = [row["seen"] for row in peers if row]
        return ours["seen"] - max(known) if ours and known else None


def reason_of(message: str) -> str:
    """How a process ended, and the last of its lines that is no log of TensorFlow's."""
    first, *lines = message.splitlines()
    telling = [line for line in lines if line.strip() and not re.match(r"[IWE]\d{4} |WARNING|INFO", line)]
    return f"{first.rpartition(': ')[2]}: {telling[-1].strip()[:160] if telling else 'no message'}"


def shown(name: str, side: str, mode: str, row: dict[str, Any]) -> str:
    start = f"{name:18} {side:11} {mode:13}"
    if "error" in row:
        return f"{start} refuses: {row['error']}"
    accuracy = f"{row['accuracy']:7.2f}" if "accuracy" in row else f"{'-':>7}"
    return (
        f"{start} {row['bytes'] / 1000:9.1f} {row['seconds']:7.2f} {row['peak_mib']:6.0f} {row['snr']:6.1f} "
        f"{row['centred']:7.1f} {row['seen']:6.1f} {accuracy} {row.get('ms', float('nan')):8.3f} {row['pieces']:6}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(quantize_zoo.MODELS), help="only these, separated by commas")
    parser.add_argument("--modes", default=",".join(MODES), help="only these, separated by commas")
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has the peers")
    parser.add_argument("--effort", default="default", help="what `graphopt quantize` is told")
    parser.add_argument("--runs", type=int, default=1, help="processes of each to take the median of")
    parser.add_argument("--threads", type=int, default=1, help="LiteRT's threads for the latency")
    parser.add_argument("--json", type=pathlib.Path, help="write all rows to this file")
    options = parser.parse_args()
    options.modes = options.modes.split(",")
    print(HEADER)
    failed, gains, kept = [], [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models.split(","):
            bench = Bench(name, options, pathlib.Path(scratch))
            bench.run()
            failed += bench.failures()
            gains += [gain] if (gain := bench.gain()) is not None else []
            kept[name] = {" ".join(key): row for key, row in bench.rows.items()}
    if gains:
        print(f"pure int8 over the better peer: {statistics.mean(gains):.1f} dB on average of {len(gains)} models")
        if statistics.mean(gains) < GAIN:
            failed.append(f"all models: {statistics.mean(gains):.1f} dB better on average, not {GAIN:.0f}")
    for line in failed:
        print(f"FAILS {line}")
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
