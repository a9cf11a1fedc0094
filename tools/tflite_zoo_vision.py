"""Vision networks other than keras.applications: segmentation, detection, every kind of convolution, resizing, NCHW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tflite_zoo import SAMPLES, Built
from tflite_zoo_applications import pictures, settle

SIZE = 64


def on_images(layers_of: Callable[[Any, Any], Any], *, size: int = SIZE, batch: int | None = 1) -> Any:
    """A builder of `layers_of(keras.layers, inputs)` on images."""

    def build(rng: Any) -> Built:
        import keras

        inputs = keras.Input((size, size, 3), name="x")
        return exported(keras.Model(inputs, layers_of(keras.layers, inputs)), pictures(rng, 4, size), batch, rng)

    return build


def on_noise(layers_of: Callable[[Any, Any], Any], shape: tuple[int, ...], batch: int | None = 1) -> Any:
    """A builder of `layers_of(keras.layers, inputs)` on Gaussian noise of a shape."""

    def build(rng: Any) -> Built:
        import keras
        import numpy as np

        inputs = keras.Input(shape, name="x")
        each = (4, *[1] * len(shape))  # samples of their own scale and mean: pooling must not make them alike
        noise = rng.normal(size=(4, *shape)) * rng.uniform(0.3, 1.5, each) + rng.normal(size=each)
        given = noise.astype(np.float32)
        return exported(keras.Model(inputs, layers_of(keras.layers, inputs)), given, batch, rng)

    return build


def exported(model: Any, given: Any, batch: int | None, rng: Any) -> Built:
    """The model with settled statistics, ready to be written."""
    import tensorflow as tf

    settle(model, given, rng)
    spec = tf.TensorSpec((batch, *given.shape[1:]), name="x")
    count = batch or 2
    return Built(
        lambda folder: model.export(folder, input_signature=[spec], verbose=False),
        [{"x": given[place : place + count]} for place in range(SAMPLES)],
    )


def normed(layers: Any, value: Any, filters: int, **options: Any) -> Any:
    """Convolution, batch norm, ReLU."""
    value = layers.Conv2D(filters, 3, padding="same", use_bias=False, **options)(value)
    return layers.ReLU()(layers.BatchNormalization()(value))


def unet(layers: Any, inputs: Any) -> Any:
    skips, value = [], inputs
    for filters in (16, 32, 64):
        value = normed(layers, normed(layers, value, filters), filters)
        skips.append(value)
        value = layers.MaxPooling2D()(value)
    for rate in (2, 4):
        value = normed(layers, value, 96, dilation_rate=rate)
    for filters, skip in zip((64, 32, 16), reversed(skips), strict=True):
        value = layers.Conv2DTranspose(filters, 2 if filters > 16 else 3, strides=2, padding="same")(value)
        value = normed(layers, layers.Concatenate()([value, skip]), filters)
    return layers.Conv2D(2, 1, activation="softmax")(value)


def unet_upsampling(layers: Any, inputs: Any) -> Any:
    first = normed(layers, inputs, 16)
    second = normed(layers, layers.AveragePooling2D(2)(first), 32)
    third = layers.LeakyReLU(0.1)(layers.Conv2D(32, 3, dilation_rate=2, padding="same")(second))
    up = layers.UpSampling2D(2, interpolation="bilinear")(third)
    joined = layers.Concatenate()([layers.UpSampling2D(2)(second), up, first])
    return layers.Conv2DTranspose(3, 4, strides=2, padding="valid", activation="sigmoid")(joined)


def convolutions(layers: Any, inputs: Any) -> Any:
    value = layers.ZeroPadding2D(((0, 1), (0, 1)))(inputs)
    value = layers.Conv2D(16, 3, strides=2, activation="relu6")(value)
    value = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(value)
    value = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(value))
    value = layers.SeparableConv2D(24, 3, padding="same", activation="hard_swish")(value)
    value = layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, activation="elu")(value)
    value = layers.Conv2D(24, 3, groups=4, padding="same", activation="silu")(value)
    value = layers.SeparableConv2D(24, 5, strides=2, padding="valid", activation="tanh")(value)
    value = layers.Cropping2D(1)(layers.BatchNormalization()(layers.SpatialDropout2D(0.1)(value)))
    return layers.Dense(10)(layers.GlobalMaxPooling2D()(value))


def conv3d(layers: Any, inputs: Any) -> Any:
    value = layers.Conv3D(8, 3, padding="same", activation="relu")(inputs)
    value = layers.BatchNormalization()(layers.Conv3D(12, (1, 3, 3), strides=(1, 2, 2))(value))
    value = layers.Conv3DTranspose(6, 2, strides=2)(value)
    return layers.Dense(5)(layers.GlobalAveragePooling3D()(value))


def conv1d(layers: Any, inputs: Any) -> Any:
    value = layers.Conv1D(24, 5, padding="causal", dilation_rate=2, activation="relu")(inputs)
    value = layers.BatchNormalization()(layers.SeparableConv1D(24, 3, padding="same")(value))
    value = layers.DepthwiseConv1D(3, padding="same")(layers.MaxPooling1D(2)(value))
    value = layers.Conv1DTranspose(16, 4, strides=2, padding="same", activation="gelu")(value)
    return layers.Dense(6)(layers.Flatten()(layers.AveragePooling1D(2)(value)))


def conv_lstm(layers: Any, inputs: Any) -> Any:
    value = layers.ConvLSTM2D(8, 3, padding="same", return_sequences=True)(inputs)
    return layers.Dense(5)(layers.GlobalAveragePooling2D()(layers.ConvLSTM2D(6, 3, padding="same")(value)))


def normalisations(layers: Any, inputs: Any) -> Any:
    value = layers.Conv2D(16, 3, padding="same")(inputs)
    grouped = layers.GroupNormalization(4)(value)
    layered = layers.LayerNormalization()(value)
    unit = layers.UnitNormalization()(value)
    root = layers.RMSNormalization()(value)
    joined = layers.Concatenate()([grouped, layered, unit, root])
    gate = layers.Dense(64, activation="hard_sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(joined))
    return layers.Dense(7)(layers.GlobalAveragePooling2D()(layers.Multiply()([joined, gate])))


def detector(rng: Any) -> Built:
    """A single-shot detector: anchors, box decoding, combined non-maximum suppression."""
    import keras
    import numpy as np
    import tensorflow as tf

    layers, classes = keras.layers, 5
    inputs = keras.Input((128, 128, 3), name="x")
    value, boxes, scores = inputs, [], []
    for filters in (16, 24, 32, 48, 64):
        value = normed(layers, value, filters, strides=2)
        if filters >= 32:
            boxes.append(layers.Reshape((-1, 4))(layers.Conv2D(3 * 4, 3, padding="same")(value)))
            scores.append(layers.Reshape((-1, classes))(layers.Conv2D(3 * classes, 3, padding="same")(value)))
    offsets, logits = layers.Concatenate(1)(boxes), layers.Concatenate(1)(scores)
    model = keras.Model(inputs, [offsets, logits])
    images = pictures(rng, 4, 128)
    settle(model, images, rng)
    count = offsets.shape[1]
    centres = rng.uniform(0.1, 0.9, (count, 2)).astype(np.float32)
    sizes = rng.uniform(0.1, 0.4, (count, 2)).astype(np.float32)

    class Detector(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model
            self.held = [weight.value for weight in model.weights]

        @tf.function(input_signature=[tf.TensorSpec((1, 128, 128, 3), name="x")])
        def serve(self, x: Any) -> Any:
            offsets, logits = self.network(x, training=False)
            middle = offsets[..., :2] * 0.1 * sizes + centres
            extent = tf.exp(tf.clip_by_value(offsets[..., 2:] * 0.2, -4.0, 4.0)) * sizes
            decoded = tf.concat([middle - extent / 2, middle + extent / 2], -1)
            found = tf.image.combined_non_max_suppression(
                decoded[:, :, None], tf.sigmoid(logits), 5, 20, iou_threshold=0.5, score_threshold=0.5
            )
            return {"boxes": found[0], "scores": found[1], "classes": found[2], "count": found[3]}

    return of_module(Detector(), [{"x": image[None]} for image in images[:SAMPLES]])


def of_module(module: Any, feeds: list[dict[str, Any]], *, may_be_flat: bool = False) -> Built:
    """A tf.Module whose `serve` is the signature."""
    import tensorflow as tf

    return Built(lambda folder: tf.saved_model.save(module, folder, signatures=module.serve), feeds, may_be_flat)


def channels_first(rng: Any) -> Built:
    """Convolutions, batch norm and pooling in NCHW, as exported from PyTorch or trained on GPUs."""
    import numpy as np
    import tensorflow as tf

    raw = tf.raw_ops
    kernels = [rng.normal(size=shape).astype(np.float32) * 0.2 for shape in ((3, 3, 3, 16), (3, 3, 16, 24))]
    scale = [rng.uniform(0.6, 1.4, size).astype(np.float32) for size in (16, 24)]
    offset = [rng.normal(size=size).astype(np.float32) * 0.2 for size in (16, 24)]
    dense = rng.normal(size=(24, 10)).astype(np.float32)

    class Network(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 3, 32, 32), name="x")])
        def serve(self, x: Any) -> Any:
            for kernel, gamma, beta in zip(kernels, scale, offset, strict=True):
                x = raw.Conv2D(input=x, filter=kernel, strides=[1, 1, 2, 2], padding="SAME", data_format="NCHW")
                x = raw.BiasAdd(value=x, bias=beta * 0.5, data_format="NCHW")
                x = raw.FusedBatchNormV3(
                    x=x, scale=gamma, offset=beta, mean=beta * 0.3, variance=gamma * 2.0,
                    is_training=False, data_format="NCHW",
                ).y  # fmt: skip
                x = tf.nn.relu(x)
            x = raw.MaxPool(input=x, ksize=[1, 1, 2, 2], strides=[1, 1, 2, 2], padding="VALID", data_format="NCHW")
            return {"output_0": tf.reduce_mean(x, [2, 3]) @ dense}

    images = pictures(rng, 4, 32).transpose(0, 3, 1, 2)
    return of_module(Network(), [{"x": np.ascontiguousarray(image[None])} for image in images[:SAMPLES]])


def resizes(rng: Any) -> Built:
    """Bilinear and nearest resizing in every mode that the operators know."""
    import tensorflow as tf

    raw, modes = tf.raw_ops, ((False, False), (True, False), (False, True))

    class Resizes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 24, 20, 3), name="x")])
        def serve(self, x: Any) -> Any:
            found = {}
            for number, (corners, centres) in enumerate(modes):
                for kind in (raw.ResizeBilinear, raw.ResizeNearestNeighbor):
                    for size in ((48, 40), (13, 31)):
                        resized = kind(images=x, size=size, align_corners=corners, half_pixel_centers=centres)
                        found[f"{kind.__name__}_{number}_{size[0]}"] = resized
            return found

    images = pictures(rng, 4, 24)[:, :, :20]
    return of_module(Resizes(), [{"x": image[None]} for image in images[:SAMPLES]])


MODELS: dict[str, Callable[[Any], Built]] = {
    "unet": on_images(unet),
    "unet_dynamic_batch": on_images(unet, batch=None),
    "unet_upsampling": on_images(unet_upsampling),
    "convolutions": on_images(convolutions),
    "mobilenetv2_dynamic": lambda rng: dynamic_application("MobileNetV2", rng),
    "conv1d": on_noise(conv1d, (32, 12)),
    "conv3d": on_noise(conv3d, (8, 16, 16, 3)),
    "conv_lstm": on_noise(conv_lstm, (5, 16, 16, 3)),
    "normalisations": on_images(normalisations, size=32),
    "detector": detector,
    "channels_first": channels_first,
    "resizes": resizes,
}


def dynamic_application(name: str, rng: Any) -> Built:
    """An application of keras.applications at a dynamic batch."""
    import keras

    model = getattr(keras.applications, name)(weights=None, classifier_activation="softmax", input_shape=(96, 96, 3))
    return exported(model, pictures(rng, 4, 96), None, rng)
