"""What a quantized model is worth: its signal to noise, its accuracy, its time in LiteRT beside other files."""

from __future__ import annotations

import math
import pathlib
import statistics
import time
from typing import Any

CAP = 200.0  # decibels
SLICE, BUDGET, MOST_ROUNDS = 0.002, 4.0, 60  # seconds a turn lasts at least, seconds for all, turns at most


def loaded(path: pathlib.Path, threads: int = 2) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(str(path), num_threads=threads)
    found.allocate_tensors()
    return found


def outputs_of(path: pathlib.Path, inputs: Any) -> Any:
    """LiteRT's first output for each of `inputs`."""
    import numpy as np

    model = loaded(path)
    source, target = model.get_input_details()[0], model.get_output_details()[0]
    found = []
    for sample in inputs:
        model.set_tensor(source["index"], fed(sample, source))
        model.invoke()
        found.append(fetched(model.get_tensor(target["index"]), target))
    return np.concatenate(found)


def fed(array: Any, detail: dict[str, Any]) -> Any:
    """What is fed for `array`: integers where the model takes them."""
    import numpy as np

    scale, zero_point = detail["quantization"]
    if not scale or array.dtype == detail["dtype"]:
        return array.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(array / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])


def fetched(array: Any, detail: dict[str, Any]) -> Any:
    """The floats that an output stands for, a copy."""
    scale, zero_point = detail["quantization"]
    return (array.astype("float32") - zero_point) * scale if scale else array.astype("float32")


def judged(path: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """Signal to noise on samples that nothing was calibrated by, plain and with each output's mean taken off the
    signal, on those of calibration, and accuracy in percent where labels are known."""
    import numpy as np
    from quantize_zoo import CALIBRATION, JUDGED, SEEN

    with np.load(folder / JUDGED) as kept:
        inputs, right, labels = kept["x"], kept["y"], kept["labels"] if "labels" in kept.files else None
    with np.load(folder / CALIBRATION) as given, np.load(folder / SEEN) as outputs:
        calibrated, wanted = given[given.files[0]], outputs["y"]
    got, seen = outputs_of(path, inputs).reshape(right.shape), outputs_of(path, calibrated).reshape(wanted.shape)
    facts: dict[str, Any] = {
        "snr": decibels(right, got - right), "centred": decibels(right - right.mean(0), got - right),
        "seen": decibels(wanted, seen - wanted),
    }  # fmt: skip
    if labels is not None:
        facts["accuracy"] = 100 * float((got.argmax(-1) == labels).mean())
        facts["float_accuracy"] = 100 * float((right.argmax(-1) == labels).mean())
    return facts


def decibels(signal: Any, noise: Any) -> float:
    import numpy as np

    power, lost = float(np.square(signal, dtype=np.float64).sum()), float(np.square(noise, dtype=np.float64).sum())
    if not math.isfinite(lost):
        return float("-inf")
    return min(10 * math.log10(power / lost), CAP) if lost and power else CAP


def latencies(paths: dict[str, pathlib.Path], sample: Any, threads: int) -> dict[str, float]:
    """Milliseconds of each file, all of them in turn: medians."""
    models = {name: loaded(path, threads) for name, path in paths.items()}
    for model in models.values():
        source = model.get_input_details()[0]
        model.set_tensor(source["index"], fed(sample, source))
        model.invoke()
    count = max(1, round(SLICE / max(elapsed(model, 1) for model in models.values())))
    found: dict[str, list[float]] = {name: [] for name in models}
    deadline = time.perf_counter() + BUDGET
    while len(next(iter(found.values()))) < 5 or (
        len(next(iter(found.values()))) < MOST_ROUNDS and time.perf_counter() < deadline
    ):
        for name, model in models.items():
            found[name].append(elapsed(model, count) / count)
    return {name: statistics.median(times) * 1e3 for name, times in found.items()}


def pieces(path: pathlib.Path) -> int:
    """Into how many pieces XNNPACK takes the model."""
    return [item["op_name"] for item in loaded(path)._get_ops_details()].count("DELEGATE")


def elapsed(model: Any, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        model.invoke()
    return time.perf_counter() - started
