"""The models that quantization is measured on, with samples to calibrate by and others to judge by.

    python tools/quantize_zoo.py [NAME ...]    # needs the extra `tensorflow` and, for digits, scikit-learn

Each leaves `saved_model/`, `calibration.npz` (20 inputs), `seen.npz` (TensorFlow's outputs for these) and `judged.npz`
(other inputs, TensorFlow's outputs, and labels where there are any) in its folder of $GRAPHOPT_ZOO. A deep network with
random weights is chaotic: what 8 bits lose anywhere near its input is all noise at its output, and no way to quantize
could be told from another. So networks on digits and the Keras applications are trained on scikit-learn's digits, the
latter for a minute, on small pictures, and carried over to full size. The others are small, with seeded weights and
statistics that fit their inputs.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import model_zoo
from forks import in_child

CALIBRATION, SEEN, JUDGED, SAMPLES = "calibration.npz", "seen.npz", "judged.npz", 20
EPOCHS, TEST_SHARE = 25, 0.4
TILE, BATCH = 64, 24  # pixels of a digit, and samples of a step, where an application is trained
STEPS, FEATURES, SIDE = 24, 16, 64


class Made(NamedTuple):
    """A Keras model, inputs without a batch, and labels of those to judge by, for which all that follow 20 are used."""

    model: Any
    inputs: Any
    labels: Any = None


def ensure(name: str) -> pathlib.Path:
    """The folder of the model `name`, built in a child if it is not there. Raises `RuntimeError` where that fails."""
    folder = folder_of(name)
    if not (folder / SEEN).exists():
        built = in_child(lambda: build(name), timeout=1800, memory_gib=32)
        if built.failure:
            raise RuntimeError(f"{name} cannot be built: {built.failure[:300]}")
    return folder


def folder_of(name: str) -> pathlib.Path:
    return model_zoo.folder_of(f"quantize_{name}")


def build(name: str) -> None:
    """Build the model `name` here and now."""
    import keras
    import numpy as np
    import tensorflow as tf

    folder = folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(name.encode())
    keras.utils.set_random_seed(seed)
    made = MODELS[name](np.random.default_rng(seed))
    spec = tf.TensorSpec((1, *made.inputs.shape[1:]), name="x")
    made.model.export(str(folder / "saved_model"), input_signature=[spec], verbose=False)
    judged = made.inputs[SAMPLES:] if made.labels is not None else made.inputs[SAMPLES : 2 * SAMPLES]
    seen, outputs = (
        np.concatenate([made.model(given[place : place + 1]).numpy() for place in range(len(given))])
        for given in (made.inputs[:SAMPLES], judged)
    )
    np.savez(folder / CALIBRATION, x=made.inputs[:SAMPLES, None])
    labels = {} if made.labels is None else {"labels": made.labels[SAMPLES:]}
    np.savez(folder / JUDGED, x=judged[:, None], y=outputs, **labels)
    np.savez(folder / SEEN, y=seen)


class Digits(NamedTuple):
    """scikit-learn's digits, shuffled: pictures from 0 to 1, shaped (count, 8, 8, 1), labels, and where training
    samples start, behind those to test by."""

    images: Any
    labels: Any
    start: int


def shuffled_digits(rng: Any) -> Digits:
    import numpy as np
    from sklearn.datasets import load_digits

    found = load_digits()
    order = rng.permutation(len(found.target))
    images = (found.images[order, ..., None] / 16).astype(np.float32)
    return Digits(images, found.target[order], int(len(order) * TEST_SHARE))


def application(name: str, steps: int = 160) -> Callable[[Any], Made]:
    """One of keras.applications, trained for so many steps on digits of 64 pixels, on a wall of which it works."""

    def make(rng: Any) -> Made:
        import keras
        import numpy as np
        from tflite_zoo_applications import RAW_PIXELS

        constructor = getattr(keras.applications, name)
        found = shuffled_digits(rng)
        low, high = (0, 255) if name.startswith(RAW_PIXELS) else (-1, 1)

        def tiles(part: slice) -> Any:
            large = np.asarray(keras.ops.image.resize(found.images[part], (TILE, TILE), interpolation="bicubic"))
            return (low + (high - low) * np.repeat(np.clip(large, 0, 1), 3, -1)).astype(np.float32)

        def wall(part: slice) -> Any:
            return np.tile(tiles(part), (1, 4, 4, 1))[:, :224, :224]

        small = constructor(weights=None, classifier_activation=None, input_shape=(TILE, TILE, 3))
        train_briefly(small, tiles(slice(found.start, None)), found.labels[found.start :], steps)
        model = constructor(weights=None, classifier_activation=None, input_shape=(224, 224, 3))
        model.set_weights(small.get_weights())
        fit_batch_norms(model, wall(slice(-24, None)))
        parts = slice(found.start, found.start + SAMPLES), slice(0, 2 * SAMPLES)
        return Made(
            model, np.concatenate([wall(part) for part in parts]),
            np.concatenate([found.labels[part] for part in parts]),
        )  # fmt: skip

    return make


def train_briefly(model: Any, images: Any, labels: Any, steps: int) -> None:
    """Enough for the network to leave chaos behind, not to be good."""
    import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    epochs = -(-steps * BATCH // len(images))
    model.fit(images, labels, batch_size=BATCH, epochs=epochs, steps_per_epoch=steps // epochs, verbose=0)


def fit_batch_norms(model: Any, images: Any) -> None:
    """Statistics of pictures of the size that the network will see."""
    import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)


def layers_on(layers_of: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> Callable[[Any], Made]:
    """A small network, on sequences of noise or on pictures."""

    def make(rng: Any) -> Made:
        import keras
        import numpy as np
        from tflite_zoo_applications import pictures, settle

        inputs = keras.Input(shape)
        model = keras.Model(inputs, layers_of(keras.layers, inputs))
        given = rng.normal(size=(2 * SAMPLES, *shape)) * rng.uniform(0.3, 1.5, (2 * SAMPLES, *[1] * len(shape)))
        if len(shape) == 3:
            given = pictures(rng, 2 * SAMPLES, shape[0])
        given = given.astype(np.float32)
        settle(model, given[:4], rng)
        return Made(model, given)

    return make


def lstm(layers: Any, inputs: Any) -> Any:
    return layers.Dense(10)(layers.LSTM(64)(layers.LSTM(64, return_sequences=True)(inputs)))


def gru(layers: Any, inputs: Any) -> Any:
    return layers.Dense(10)(layers.Bidirectional(layers.GRU(48))(inputs))


def transformer(layers: Any, inputs: Any) -> Any:
    from tflite_zoo_sequences import encoder

    return encoder(layers, inputs)


def unet(layers: Any, inputs: Any) -> Any:
    from tflite_zoo_vision import unet

    return unet(layers, inputs)


def digits(layers_of: Callable[[Any, Any], Any]) -> Callable[[Any], Made]:
    """A network trained on scikit-learn's digits; calibrated on training samples, judged on the test split."""

    def make(rng: Any) -> Made:
        import keras
        import numpy as np

        images, labels, start = shuffled_digits(rng)
        inputs = keras.Input((8, 8, 1))
        model = keras.Model(inputs, layers_of(keras.layers, inputs))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        model.fit(images[start:], labels[start:], batch_size=32, epochs=EPOCHS, verbose=0)
        calibration = slice(start, start + SAMPLES)
        chosen = np.concatenate([images[calibration], images[:start]])
        return Made(model, chosen, np.concatenate([labels[calibration], labels[:start]]))

    return make


def small_cnn(layers: Any, inputs: Any) -> Any:
    value = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    value = layers.MaxPooling2D()(layers.Conv2D(32, 3, padding="same", activation="relu")(value))
    return layers.Dense(10)(layers.Dense(64, activation="relu")(layers.Flatten()(value)))


def residual(layers: Any, inputs: Any) -> Any:
    value = layers.Conv2D(24, 3, padding="same")(inputs)
    for _ in range(3):
        inner = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(24, 3, padding="same")(value)))
        inner = layers.BatchNormalization()(layers.Conv2D(24, 3, padding="same")(inner))
        value = layers.ReLU()(layers.Add()([value, inner]))
    return layers.Dense(10)(layers.GlobalAveragePooling2D()(value))


MODELS: dict[str, Callable[[Any], Made]] = {
    "digits_cnn": digits(small_cnn),
    "digits_residual": digits(residual),
    "lstm": layers_on(lstm, (STEPS, FEATURES)),
    "bidirectional_gru": layers_on(gru, (STEPS, FEATURES)),
    "transformer": layers_on(transformer, (STEPS, FEATURES)),
    "unet": layers_on(unet, (SIDE, SIDE, 3)),
    "mobilenetv2": application("MobileNetV2"),
    "mobilenetv3small": application("MobileNetV3Small"),
    "efficientnetb0": application("EfficientNetB0"),
    "densenet121": application("DenseNet121", steps=80),
    "resnet50": application("ResNet50"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    for name in parser.parse_args().names or MODELS:
        print(name, ensure(name), flush=True)


if __name__ == "__main__":
    main()
