"""Files of statistics as `graphopt calibrate --channels` writes them, for the tests of passes that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graphopt.ir.model import Model
from graphopt.ir.text import parse_model
from graphopt.passes.quantize.statistics import Collected, Statistics, TensorKey
from graphopt.passes.quantize.statistics_file import save_statistics
from graphopt.runtimes.litert import LiteRTRuntime

DENSE = (
    'fused_activation_function = b"NONE", weights_format = b"DEFAULT", keep_num_dims = false, '
    "asymmetric_quantize_inputs = false"
)
WIDTH = 4


def channels_of(folder: Path, tensors: Mapping[str, Sequence[float]]) -> str:
    """A file that says of tensors what they were in one sample, one number a channel."""
    statistics = Statistics(collected=Collected(channels=True))
    statistics.begin_sample(0)
    for name, numbers in tensors.items():
        statistics.observe(TensorKey("", name), np.array(numbers, np.float32))
    path = folder / "seen.json"
    save_statistics(statistics, path)
    return str(path)


def random_chain(seed: int, folder: Path) -> tuple[Model, str]:
    """Three dense layers whose channels have very different ranges, and the file of what one sample shows of them."""
    rng = np.random.default_rng(seed)
    lines = ["graph @main(%x) -> (%h2) {", f"%x = tfl.INPUT() : float32[1, {WIDTH}]"]
    for place in range(3):
        spread = np.exp2(rng.uniform(-4, 4, WIDTH))
        weights = (rng.normal(size=(WIDTH, WIDTH)) * spread[:, None]).astype(np.float32)
        kind = DENSE.replace("NONE", "RELU") if place < 2 else DENSE
        before = "x" if place == 0 else f"h{place - 1}"
        lines += [
            f"%w{place} = tfl.CONSTANT() {{value = float32[{WIDTH}, {WIDTH}] {weights.tolist()}}} "
            f": float32[{WIDTH}, {WIDTH}]",
            f"%b{place} = tfl.CONSTANT() {{value = float32[{WIDTH}] {spread.tolist()}}} : float32[{WIDTH}]",
            f"%h{place} = tfl.FULLY_CONNECTED(%{before}, %w{place}, %b{place}) {{{kind}}} : float32[1, {WIDTH}]",
        ]
    model = parse_model("\n".join([*lines, "}"]))
    x = rng.normal(size=(1, WIDTH)).astype(np.float32)
    found = LiteRTRuntime().run_all(model, {"x": x})
    seen = {"x:0": x.reshape(-1)} | {f"{name.removesuffix(':0')}:0": found[name].reshape(-1) for name in found}
    return model, channels_of(folder, {name: seen[name].tolist() for name in ("x:0", "h0:0", "h1:0", "h2:0")})
