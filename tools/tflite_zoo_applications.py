"""Every model that keras.applications builds, with statistics and biases that fit seeded images."""

from __future__ import annotations

import ast
import inspect
import pathlib
from collections.abc import Callable
from typing import Any

from tflite_zoo import SAMPLES, Built

SIZES = {"InceptionV3": 299, "InceptionResNetV2": 299, "Xception": 299}
HUGE = ("ConvNeXtLarge", "ConvNeXtXLarge", "NASNetLarge", "VGG16", "VGG19", "EfficientNetV2L", "EfficientNetB7")
FLAT = 0.05  # of the outputs' spread, that by which they differ from sample to sample
RAW_PIXELS = ("EfficientNet", "ConvNeXt", "MobileNetV3")  # scale their inputs themselves


def names() -> list[str]:
    """The classes of keras.applications, read from its source: importing Keras takes seconds."""
    import importlib.util

    spec = importlib.util.find_spec("keras")
    assert spec is not None
    assert spec.submodule_search_locations
    source = pathlib.Path(spec.submodule_search_locations[0]) / "applications" / "__init__.py"
    tree = ast.parse(source.read_text())
    imported = [alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                for alias in node.names]  # fmt: skip
    return [name for name in dict.fromkeys(imported) if name[0].isupper()]


def builder(name: str) -> Callable[[Any], Built]:
    """The builder of one application."""
    return lambda rng: build(name, rng)


def build(name: str, rng: Any) -> Built:
    """The application at a static batch of one."""
    import keras
    import tensorflow as tf

    size = SIZES.get(name, 224)
    constructor = getattr(keras.applications, name)
    options: dict[str, Any] = {"weights": None, "classifier_activation": None, "input_shape": (size, size, 3)}
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        options["include_preprocessing"] = True
    model = constructor(**options)
    images = pictures(rng, 4, size)
    if name.startswith(RAW_PIXELS):
        images = images * 60 + 120
    keep_variance(model)
    settle(model, images, rng)
    spread(model, images[:SAMPLES], rng)
    spec = tf.TensorSpec((1, size, size, 3), name="x")
    return Built(
        lambda folder: model.export(folder, input_signature=[spec], verbose=False),
        [{"x": image[None]} for image in images[:SAMPLES]],
    )


def pictures(rng: Any, count: int, size: int, channels: int = 3) -> Any:
    """Images that differ in more than noise."""
    import numpy as np

    coarse = rng.normal(size=(count, 8, 8, channels)) * rng.uniform(0.3, 1.5, size=(count, 1, 1, channels))
    scale = -(-size // 8)
    return np.kron(coarse, np.ones((1, scale, scale, 1)))[:, :size, :size].astype(np.float32)


def settle(model: Any, inputs: Any, rng: Any) -> None:
    """Give normalisations and biases values of their own, and batch norms the statistics of `inputs`."""
    import keras

    has_batch_norms = False
    for layer in model._flatten_layers():
        for weight in layer.weights:
            kind = weight.path.rpartition("/")[2]
            if kind == "bias" and len(weight.shape) == 1 and not isinstance(layer, keras.layers.RNN):
                weight.assign(weight + rng.normal(size=weight.shape) * 0.1)
            elif kind == "gamma":
                weight.assign(rng.uniform(0.6, 1.4, weight.shape))
            elif kind == "beta":
                weight.assign(rng.normal(size=weight.shape) * 0.2)
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            has_batch_norms = True
    if has_batch_norms:
        model(inputs, training=True)


def spread(model: Any, images: Any, rng: Any) -> None:
    """Let outputs depend on the images: biases of the last layer take off what all outputs have in common."""
    outputs = model(images).numpy()
    deviation = outputs.std(0).mean()
    if deviation < FLAT * outputs.std():
        last = model.layers[-1]
        last.bias.assign(last.bias - outputs.mean(0) + rng.normal(size=outputs.shape[-1]) * deviation)


def keep_variance(model: Any) -> None:
    """Scale weights as He et al. do ("Delving Deep into Rectifiers", 2015), where nothing normalises what rectifiers
    halve the variance of."""
    import keras

    layers = list(model._flatten_layers())
    if any(isinstance(item, (keras.layers.BatchNormalization, keras.layers.LayerNormalization)) for item in layers):
        return
    for layer in layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)) and layer.activation is keras.activations.relu:
            layer.kernel.assign(layer.kernel * 2**0.5)
