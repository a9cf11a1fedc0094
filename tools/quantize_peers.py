"""A peer's quantization of one model, for a process of its own and an interpreter that has the peer.

    python tools/quantize_peers.py tflite MODE SAVED_MODEL CALIBRATION.npz OUT.tflite
    python tools/quantize_peers.py ai-edge MODE FLOAT.tflite CALIBRATION.npz OUT.tflite

Modes of tf.lite: int8, int16x8, dynamic, float16. Modes of ai-edge-quantizer: int8-minmax, int8-average (the moving
average, its default), dynamic.
"""

from __future__ import annotations

import sys
from typing import Any


def tflite(mode: str, source: str, data: str, target: str) -> None:
    """tf.lite's converter from a SavedModel."""
    import numpy as np
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode in ("int8", "int16x8"):
        samples = np.load(data)
        name = samples.files[0]
        converter.representative_dataset = lambda: ([sample] for sample in samples[name])
    if mode == "int16x8":
        wide = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide, tf.lite.OpsSet.TFLITE_BUILTINS]
    with open(target, "wb") as file:
        file.write(converter.convert())


def ai_edge(mode: str, source: str, data: str, target: str) -> None:
    """ai-edge-quantizer from a float model."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    if mode == "dynamic":
        quantizer.Quantizer(source, recipe.dynamic_wi8_afp32()).quantize().export_model(target, overwrite=True)
        return
    chosen: Any = recipe.static_wi8_ai8()
    signature = next(iter(Interpreter(source).get_signature_list()))
    samples = np.load(data)
    rows = [{name: samples[name][place] for name in samples.files} for place in range(len(samples[samples.files[0]]))]
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(chosen)
    update = qsv_utils.min_max_update if mode == "int8-minmax" else qsv_utils.moving_average_update
    with open(source, "rb") as file:
        tool = calibrator.Calibrator(file.read(), num_threads=2, qsv_update_func=update)
    tool.calibrate({signature: rows}, manager)
    quantizer.Quantizer(source, chosen).quantize(tool.get_model_qsvs()).export_model(target, overwrite=True)


if __name__ == "__main__":
    {"tflite": tflite, "ai-edge": ai_edge}[sys.argv[1]](*sys.argv[2:])
