"""`graphopt lower --to tflite` against tf.lite's converter: time, memory, size, LiteRT's outputs and latency.

    python tools/measure_tflite.py [--groups GROUP,…] [--models NAME,…] [--reuse-peer] [--runs 3] [--threads 1]

Both sides start from the same SavedModel (tools/tflite_zoo.py builds it), each in a process of its own: Python's
start, imports, reading, converting, writing. The peer is `tf.lite.TFLiteConverter.from_saved_model(…).convert()`; its
result is kept beside the model (`peer.tflite`, `peer.json`) and `--reuse-peer` takes it from there with its time,
which is fair only on the machine, and at the load, where it was measured. Seconds of ours are the median of `--runs`.
Errors are LiteRT's against TensorFlow's outputs over their scale, on seeded inputs; latencies are LiteRT's with its
default delegate, both files in turn, the median of ours / theirs over pairs. CPU seconds stand beside the others
because they suffer less where the machine has other work; the bounds are on seconds. Timings mean something on a
machine that does nothing else. What a bound asks and does not get is a line `FAILS`, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
from typing import Any

import tflite_zoo
from processes import geometric_mean
from tflite_measures import convert_peer, latency, peer_of, run_ours

MEAN_SPEEDUP, LEAST_SPEEDUP, LATENCY, ERROR, LIKE_PEER = 10.0, 6.0, 1.03, 1e-4, 1e-3
MEMORY_FACTOR, MEMORY_MIB = 3.0, 200.0
HEADER = (
    "model                       ours s tf.lite s   ratio  CPU s ratio  peak MiB/limit tf.lite   bytes ratio"
    "  latency ms  ratio"
    "    error tf.lite's"
)


def measure(name: str, options: argparse.Namespace, scratch: pathlib.Path) -> dict[str, Any]:
    """Everything known of one model, printed as its row."""
    row: dict[str, Any] = {"model": name}
    try:
        folder = tflite_zoo.ensure(name)
    except RuntimeError as error:
        print(f"{name:26} FAILS {error}", flush=True)
        return row | {"failed": [str(error)]}
    meta = json.loads((folder / tflite_zoo.META).read_text())
    peer = peer_of(folder, reuse=options.reuse_peer)
    target = scratch / f"{name}.tflite"
    ours = run_ours(folder, target, options.runs)
    row |= {"peer": peer, "ours": ours, "limit": MEMORY_FACTOR * meta["weights"] / 2**20 + MEMORY_MIB}
    if "error" not in peer and "error" not in ours:
        row["latency"] = latency(target, folder / "peer.tflite", folder / tflite_zoo.IO, options.threads)
    row["failed"] = failures(row)
    print(shown(row), flush=True)
    if not options.keep:
        target.unlink(missing_ok=True)
    return row


def failures(row: dict[str, Any]) -> list[str]:
    """What the row does not hold, in words."""
    ours, peer = row["ours"], row["peer"]
    if "error" in ours:
        return [f"graphopt: {ours['error']}"]
    found = []
    if not is_close(ours["litert"], peer.get("litert")):
        found.append(f"error {ours['litert']}")
    if ours["peak_mib"] > row["limit"]:
        found.append(f"memory {ours['peak_mib']:.0f} MiB, limit {row['limit']:.0f}")
    if "error" in peer:
        return found
    if peer["seconds"] / ours["seconds"] < LEAST_SPEEDUP:
        found.append(f"{peer['seconds'] / ours['seconds']:.1f}x faster, not {LEAST_SPEEDUP:.0f}x")
    if ours["bytes"] > peer["bytes"]:
        found.append(f"{ours['bytes'] - peer['bytes']} bytes larger")
    pace = row["latency"]
    if "failure" in pace:
        found.append(f"latency: {pace['failure']}")
    elif pace["ratio"] > LATENCY:
        found.append(f"latency {pace['ratio']:.3f} of tf.lite's")
    return found


def is_close(ours: float | str, theirs: float | str | None) -> bool:
    """Within 1e-4 of scale, or within 1e-3 where LiteRT's own kernels are as far off in tf.lite's file."""
    if isinstance(ours, str):
        return False
    return ours <= ERROR or (ours <= LIKE_PEER and isinstance(theirs, float) and ours <= 1.5 * theirs)


def shown(row: dict[str, Any]) -> str:
    """The row of the table."""
    ours, peer, pace = row["ours"], row["peer"], row.get("latency", {})
    both = "error" not in ours and "error" not in peer
    cells = [
        f"{row['model']:26}",
        f"{ours['seconds']:7.2f}" if "seconds" in ours else "      -",
        f"{peer['seconds']:9.2f}" if "error" not in peer else "  refuses",
        f"{peer['seconds'] / ours['seconds']:6.1f}x" if both else "      -",
        f"{ours['cpu']:6.2f} {peer['cpu'] / ours['cpu']:4.1f}x" if both and "cpu" in peer else "           -",
        f"{ours['peak_mib']:6.0f} / {row['limit']:5.0f}" if "peak_mib" in ours else f"     - / {row['limit']:5.0f}",
        f"{peer['peak_mib']:7.0f}" if "peak_mib" in peer else "      -",
        f"{ours['bytes'] / peer['bytes']:13.4f}" if both else "            -",
        f"{pace['ours_ms']:11.3f}" if "ours_ms" in pace else "          -",
        f"{pace['ratio']:6.3f}" if "ratio" in pace else "     -",
        cell(ours.get("litert")),
        cell(peer.get("litert")),
        "FAILS " + "; ".join(row["failed"])[:400] if row["failed"] else "holds",
        f"(tf.lite refuses: {peer['error'][:120]})" if "error" in peer else "",
    ]
    return " ".join(cells).rstrip()


def cell(error: Any) -> str:
    return f"{error:8.1e}" if isinstance(error, float) else "       -" if error is None else "   wrong"


def summary(rows: list[dict[str, Any]]) -> bool:
    """Print means and failures; returns whether everything holds."""
    both = [row for row in rows if "ours" in row and "error" not in row["ours"] and "error" not in row["peer"]]
    failed = [f"{row['model']}: {reason}" for row in rows for reason in row["failed"]]
    if both:
        speedups = [row["peer"]["seconds"] / row["ours"]["seconds"] for row in both]
        paces = [row["latency"]["ratio"] for row in both if "ratio" in row["latency"]]
        sizes = [row["ours"]["bytes"] / row["peer"]["bytes"] for row in both]
        mean = geometric_mean(speedups)
        print(
            f"geometric means over {len(both)} models: {mean:.1f}x faster (bound {MEAN_SPEEDUP:.0f}x), "
            f"least {min(speedups):.1f}x (bound {LEAST_SPEEDUP:.0f}x); bytes {geometric_mean(sizes):.4f}; "
            f"latency {geometric_mean(paces) if paces else float('nan'):.3f}"
        )
        if mean < MEAN_SPEEDUP:
            failed.append(f"all models: {mean:.1f}x faster in the geometric mean, not {MEAN_SPEEDUP:.0f}x")
    for title, side in (("graphopt", "ours"), ("tf.lite", "peer")):
        refused = [row["model"] for row in rows if "error" in row.get(side, {})]
        print(f"{title} refuses {len(refused)} of {len(rows)}: {', '.join(refused) or '-'}")
    for line in failed:
        print(f"FAILS {line}")
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="", help="only these, separated by commas")
    parser.add_argument("--groups", default="", help=f"only these of {', '.join(tflite_zoo.GROUPS)}")
    parser.add_argument("--reuse-peer", action="store_true", help="take tf.lite's result from an earlier run if there")
    parser.add_argument("--runs", type=int, default=3, help="conversions of ours to take the median of")
    parser.add_argument("--threads", type=int, default=1, help="LiteRT's threads for the latency")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the files that graphopt writes")
    parser.add_argument("--peer-only", action="store_true", help="only convert with tf.lite what has no result yet")
    parser.add_argument("--json", type=pathlib.Path, help="write all rows to this file")
    options = parser.parse_args()
    names = tflite_zoo.selected([name for name in options.models.split(",") if name], options.groups)
    if options.peer_only:
        return convert_peers(names)
    print(HEADER)
    with tempfile.TemporaryDirectory() as scratch:
        rows = [measure(name, options, options.keep or pathlib.Path(scratch)) for name in names]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if summary(rows) else 1


def convert_peers(names: list[str]) -> int:
    """tf.lite's files without their times: models are built and converted in forks of one process."""
    import keras  # noqa: F401 - once, here

    for name in names:
        try:
            folder = tflite_zoo.ensure(name)
        except RuntimeError as error:
            print(f"FAILS {error}", flush=True)
            continue
        if not (folder / "peer.json").exists():
            facts = convert_peer(folder)
            print(f"{name:26} {facts.get('error', facts.get('litert'))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
