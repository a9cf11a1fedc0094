"""What equalization, bias correction, adaptive rounding, clipping and ranges each gain by themselves in int8.

    python tools/measure_ways.py [--models NAME,…]

Networks and samples are those of tools/quantize_zoo.py. Each line adds one thing to the plain way, minimum and maximum;
the last is what `graphopt quantize` chooses. Decibels are those of the outputs on the 20 samples that were calibrated
with, and on others. All operators are int8: islands of floats would hide what integers lose.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import quantize_measures
import quantize_zoo

MODELS = "mobilenetv2,efficientnetb0,transformer"


def made(source: pathlib.Path, data: Any) -> Iterator[tuple[str, Any]]:
    """Names and quantized models."""
    from graphopt.passes.quantize.recipe import Recipe, Rule
    from graphopt.quantization import delegate_of, kernels_of, quantize, tflite_model
    from graphopt.tuning.flow import gather
    from graphopt.tuning.ways import MSE, PLAIN, SEVERE, STRENGTH, clipping

    recipe = Recipe((Rule(mode="int8"),), islands=False)
    clipped = Recipe((Rule(mode="int8", clip_weights=True),), islands=False)
    model, _ = tflite_model(source, None, None)
    chooser = gather(model, data).chooser(recipe, kernels_of("litert"), delegate_of("litert"))
    alone = {
        "plain": PLAIN,
        "equalization": PLAIN._replace(strength=STRENGTH),
        "bias correction": PLAIN._replace(corrected=True),
        "adaptive rounding": PLAIN._replace(rounded=True),
        "ranges of least squares": PLAIN._replace(method=MSE),
        f"the same, clipping times {SEVERE:g}": PLAIN._replace(method=clipping(SEVERE)),
    }
    for name, way in alone.items():
        yield name, chooser.quantized(way, chooser.ranged(way))[0]
    yield "clipping of weights", chooser.quantized(PLAIN, chooser.ranged(PLAIN), clipped)[0]
    yield "chosen", quantize(source, recipe, data=data).model


def main() -> int:
    import graphopt

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=MODELS, help="only these, separated by commas")
    for name in parser.parse_args().models.split(","):
        folder = quantize_zoo.ensure(name)
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch, "int8.tflite")
            lowered = graphopt.lower(folder / "saved_model", "tflite").model
            graphopt.save(lowered, path.with_name("float.tflite"))
            for what, model in made(path.with_name("float.tflite"), str(folder / quantize_zoo.CALIBRATION)):
                graphopt.save(model, path, overwrite=True)
                found = quantize_measures.judged(path, folder)
                print(f"{name:18} {what:30} {found['seen']:6.1f} {found['snr']:6.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
