"""`graphopt lower --to tensorrt` in every precision: signal to noise, gates, and ONNX Runtime's quantizer beside.

    python tools/measure_tensorrt.py [NAME …] [--precisions fp32,fp16,int8] [--peer] [--gates checker,tensorrt-rtx]
    python tools/measure_tensorrt.py --files model.pb … --precisions fp32,fp16,int8 --gates tensorrt-rtx
    python tools/measure_tensorrt.py --corpus ../shared/corpus --precisions fp32,fp16,int8 --gates tensorrt-rtx

Names are models of the zoos, with the samples that lie beside them: those of `quantize_…` are calibrated on some and
judged on others. `--files`, and the networks of a `--corpus`, have none: theirs are seeded, and dynamic dimensions are
1 to 4, of images 64 to 256. Signals are ONNX Runtime's outputs in float32, noise is what a precision adds, in decibels
for the worst output; errors are the largest over the scale of its output. `--peer` is `quantize_static` on the same
samples, from our float32 file: symmetric, QDQ, int8 weights by channel, biases left alone. A precision whose error is
above its bound, an int8 model with more noise than the peer's, and a failed gate are `FAILS`; the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from forks import in_child

ZOOS = [pathlib.Path.home() / ".cache" / name / "zoo" for name in ("graphopt", "graphopt-bench")]
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "int4")
BOUNDS = {"fp32": 1e-4, "fp16": 1e-2}
CORPUS_KINDS = ("graphdef", "savedmodel")
MARGIN = 0.05  # decibels within which two quantizers are the same
LIMIT, MEMORY_GIB, CAP = 1800, 12, 200.0
Sample = Mapping[str, Any]


def samples_of(folder: pathlib.Path, most: int) -> tuple[list[Sample], list[Sample]]:
    """Samples to calibrate by and to judge by: the same ones where there are few."""
    if (folder / "judged.npz").exists():
        calibration, judged = np.load(folder / "calibration.npz"), np.load(folder / "judged.npz")
        return [{"x": item} for item in calibration["x"][:most]], [{"x": item} for item in judged["x"][:most]]
    if (folder / "signature_io.npz").exists():
        held = np.load(folder / "signature_io.npz")
        keys = [key.split("|") for key in held.files if key.startswith("in|")]
        signature = next((k[1] for k in keys if k[1].startswith("serving_default")), keys[0][1]).partition("@")[0]
        found: dict[str, dict[str, Any]] = {}
        for _, place, name in keys:
            if place.partition("@")[0] == signature:
                found.setdefault(place, {})[name] = held[f"in|{place}|{name}"]
        return list(found.values()), list(found.values())
    held = np.load(folder / "io.npz")
    named = {key.partition(":")[2]: held[key][:most] for key in held.files if key.startswith("input:")}
    listed = [{name: array[place] for name, array in named.items()} for place in range(len(next(iter(named.values()))))]
    return listed, listed


def seeded(model: Any, profiles: Mapping[str, Any]) -> list[Sample]:
    """Two samples for a model that comes without."""
    generator = np.random.default_rng(0)
    listed = []
    for _ in range(2):
        sample = {}
        for value in model.graph.inputs:
            shape = profiles[value.name][1] if value.name in profiles else value.shape.static
            kind = value.dtype.numpy or np.dtype(np.float32)
            array = generator.uniform(-1, 1, shape) if value.dtype.is_float else generator.integers(0, 2, shape)
            sample[value.name] = np.asarray(array).astype(kind)
        listed.append(sample)
    return listed


def profiles_of(values: Sequence[Any], samples: Sequence[Sample]) -> dict[str, Any]:
    """Shapes for dynamic inputs: those of the samples, or guessed ones."""
    found = {}
    for value in values:
        if value.shape.static is not None or value.shape.dims is None:
            continue
        if samples:
            found[value.name] = (np.shape(samples[0][value.name]),) * 3
            continue
        rows = []
        for least, most in ((1, 64), (1, 128), (4, 256)):
            dims = enumerate(value.shape.dims)
            is_image = len(value.shape.dims) == 4
            rows.append(tuple(d if isinstance(d, int) else most if is_image and p else least for p, d in dims))
        found[value.name] = tuple(rows)
    return found


def outputs_of(model: Any, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    from graphopt.runtimes.base import get_runtime

    runtime = get_runtime("onnxruntime")
    return [runtime.run(model, sample) for sample in samples]


def compare(wanted: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The least signal to noise and the largest error over scale, over all outputs."""
    from graphopt.accuracy import Tolerance, compare_samples

    compared = [item for item in compare_samples(wanted, found, Tolerance()) if item.dtype.startswith("float")]
    if any(item.problem or item.mismatches for item in compared):
        return -CAP, float("inf")
    decibels = min((item.snr_db for item in compared if item.snr_db is not None), default=CAP)
    return decibels, max((item.relative_error for item in compared), default=0.0)


def peer_model(path: pathlib.Path, samples: Sequence[Sample], target: pathlib.Path) -> None:
    """ONNX Runtime's static quantizer, in the settings that TensorRT takes."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> Any:
            return next(self.left, None)

    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    quantize_static(
        str(path), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, extra_options=options,
    )  # fmt: skip


def peer(folder: pathlib.Path, plain: Any, wanted: Any, by: Sequence[Sample], judged: Sequence[Sample]) -> Any:
    """The peer's signal to noise, kept beside the model; what went wrong, as text."""
    import graphopt

    kept = folder / f"peer_onnxruntime_{len(by)}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        source, target = pathlib.Path(scratch, "plain.onnx"), pathlib.Path(scratch, "peer.onnx")
        try:
            graphopt.save(plain, source)
            peer_model(source, by, target)
            found: Any = compare(wanted, outputs_of(graphopt.load(target), judged))[0]
        except Exception as error:  # whatever the package raises is its result
            found = " ".join(str(error).split())[:80]
    kept.write_text(json.dumps(found))
    return found


def measure(source: pathlib.Path, folder: pathlib.Path | None, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each precision."""
    import graphopt
    from graphopt.backends.tensorrt.gates import run_gates
    from graphopt.backends.tensorrt.layer_report import layer_report
    from graphopt.ir.formats.onnx import write_onnx

    by, judged = samples_of(folder, options.samples) if folder else ([], [])
    loaded = graphopt.load(source)
    plain = graphopt.lower(loaded, "onnx").model
    profiles = profiles_of(plain.graph.inputs, by)
    by, judged = (by, judged) if by else (seeded(plain, profiles),) * 2
    wanted = outputs_of(plain, judged)
    rows = []
    for precision in options.precisions:
        row: dict[str, Any] = {"precision": precision, "fails": []}
        rows.append(row)
        started = time.perf_counter()
        data = by if precision not in ("fp32", "bf16", "int4") else None
        try:
            lowered = graphopt.lower(
                loaded, "tensorrt", precision=precision, data=data, profiles=profiles, no_check=folder is None
            )
        except graphopt.Error as error:
            row["fails"] = [f"not lowered: {error}"[: options.width]]
            continue
        row["seconds"] = time.perf_counter() - started
        row |= {key: layer_report(lowered.model)[key] for key in ("nodes", "transposes", "casts")}
        if precision != "bf16":
            try:
                row["decibels"], row["error"] = compare(wanted, outputs_of(lowered.model, judged))
            except graphopt.Error as error:
                row["fails"].append(f"not run: {error}"[: options.width])
            else:
                if row["error"] > BOUNDS.get(precision, np.inf):
                    row["fails"].append("above its bound")
        if precision == "int8" and options.peer and folder:
            row["peer"] = peer(folder, plain, wanted, by, judged)
            if not isinstance(row["peer"], str) and row.get("decibels", -CAP) < row["peer"] - MARGIN:
                row["fails"].append("more noise than the peer")
        with tempfile.TemporaryDirectory() as scratch:
            path = str(pathlib.Path(scratch, "model.onnx"))
            write_onnx(lowered.model, path)
            ran = run_gates(options.gates, path, profiles=profiles, precision=precision)
        row["gates"] = [gate.name for gate in ran if gate.status == "passed"]
        row["fails"] += [gate.sentence[: options.width] for gate in ran if gate.status == "failed"]
    return rows


def show(name: str, row: Mapping[str, Any]) -> None:
    peer_found = row.get("peer")
    text = f"{name:28} {row['precision']:5} {row.get('seconds', 0):6.2f} s"
    text += f" {row['decibels']:6.1f} dB error {row['error']:.1e}" if "error" in row else f" {'':24}"
    if peer_found is not None:
        text += f" peer {peer_found:6.1f} dB" if not isinstance(peer_found, str) else f" peer {peer_found}"
    if "nodes" in row:
        text += f"  {row['nodes']} nodes {row['transposes']} transposes {row['casts']} casts  {' '.join(row['gates'])}"
    print(text + (f"  FAILS {'; '.join(row['fails'])}" if row["fails"] else ""), flush=True)


def main() -> int:
    """All models that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="the zoos' models (default: all)")
    parser.add_argument("--files", nargs="+", default=[], metavar="FILE", help="models without samples")
    parser.add_argument("--corpus", type=pathlib.Path, metavar="FOLDER", help="the networks that its manifest lists")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="which to lower to")
    parser.add_argument("--gates", default="checker", help="which to run: checker, tensorrt-rtx; or nothing")
    parser.add_argument("--peer", action="store_true", help="run ONNX Runtime's quantizer beside int8")
    parser.add_argument("--samples", type=int, default=8, help="how many to calibrate and to judge by")
    parser.add_argument("--width", type=int, default=200, help="characters of a failure")
    options = parser.parse_args()
    options.precisions = options.precisions.split(",")
    if options.corpus:
        entries = json.loads((options.corpus / "MANIFEST.json").read_text())
        kinds = {entry["path"]: entry["kind"] for entry in entries if entry["class"] == "network"}
        options.files += [str(options.corpus / path) for path, kind in kinds.items() if kind in CORPUS_KINDS]
    options.gates = [name for name in options.gates.split(",") if name]
    work: list[tuple[str, pathlib.Path, pathlib.Path | None]] = [(f, pathlib.Path(f), None) for f in options.files]
    folders = [folder.parent for zoo in ZOOS for folder in sorted(zoo.glob("*/saved_model"))]
    if not options.files:
        wanted = set(options.names)
        work += [(f.name, f / "saved_model", f) for f in folders if not wanted or f.name in wanted]
    failed = built = 0
    for name, source, folder in work:
        done = in_child(lambda s=source, f=folder: measure(s, f, options), timeout=LIMIT, memory_gib=MEMORY_GIB)  # type: ignore[misc]
        if done.failure:
            print(f"{name:28} FAILS {done.failure.strip().splitlines()[-1][: options.width]}", flush=True)
            failed += 1
            continue
        for row in done.value:
            show(name, row)
            failed += bool(row["fails"])
            built += "tensorrt-rtx" in row.get("gates", ())
    print(f"{failed} rows fail" + (f"; TensorRT-RTX built {built} engines" if "tensorrt-rtx" in options.gates else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
