"""Models written as functions: audio front ends, strings and tables, control flow, einsum, slices, many signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tflite_zoo import SAMPLES, Built
from tflite_zoo_applications import settle
from tflite_zoo_vision import of_module


def of_function(function: Callable[[Any], Any], shape: tuple[int | None, ...], known: tuple[int, ...]) -> Any:
    """A builder of a SavedModel that computes `function(x)`, run on noise of the shape `known`."""

    def build(rng: Any) -> Built:
        import numpy as np
        import tensorflow as tf

        class Function(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec(shape, name="x")])
            def serve(self, x: Any) -> Any:
                return function(x)

        feeds = [{"x": rng.normal(size=known).astype(np.float32)} for _ in range(SAMPLES)]
        return of_module(Function(), feeds)

    return build


def audio(rng: Any) -> Built:
    """A second of sound to log-mel spectrograms to a small convolutional network."""
    import keras
    import numpy as np
    import tensorflow as tf

    layers = keras.layers
    inputs = keras.Input((61, 40, 1))
    value = layers.Conv2D(24, (8, 4), strides=2, padding="same", activation="relu")(inputs)
    value = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(value)))
    network = keras.Model(inputs, layers.Dense(12)(layers.GlobalAveragePooling2D()(layers.Conv2D(32, 1)(value))))
    settle(network, rng.normal(size=(4, 61, 40, 1)).astype(np.float32), rng)

    class Audio(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.held = [weight.value for weight in network.weights]
            self.mel = tf.constant(tf.signal.linear_to_mel_weight_matrix(40, 257, 16000, 60.0, 7600.0))

        @tf.function(input_signature=[tf.TensorSpec((1, 16000), name="x")])
        def serve(self, x: Any) -> Any:
            spectrum = tf.abs(tf.signal.stft(x, 512, 256, 512))
            mel = tf.math.log(tf.tensordot(spectrum, self.mel, 1) + 1e-3)
            return {"scores": self.network(mel[..., None], training=False), "mel": mel}

    time = np.arange(16000) / 16000
    tones = [np.sin(2 * np.pi * f * time * (1 + time)) + 0.1 * rng.normal(size=16000) for f in (440, 1300)]
    return of_module(Audio(), [{"x": tone[None].astype(np.float32)} for tone in tones])


def spectra(x: Any) -> Any:
    """Framing, windows, real FFT, cepstra."""
    import tensorflow as tf

    frames = tf.signal.frame(x, 256, 128) * tf.signal.hamming_window(256)
    spectrum = tf.signal.rfft(frames)
    power = tf.math.real(spectrum) ** 2 + tf.math.imag(spectrum) ** 2
    return {"power": power, "decibels": 10.0 * tf.math.log(power + 1e-2) / tf.math.log(10.0)}


def control_flow(x: Any) -> Any:
    """A branch in a loop, a loop that ends by its data, a branch with several results."""
    import tensorflow as tf

    def step(count: Any, value: Any) -> Any:
        grown = tf.cond(tf.reduce_sum(value) > 0.0, lambda: value * 0.9 - 0.1, lambda: tf.tanh(value) + 0.2)
        return count + 1, grown

    _, looped = tf.while_loop(lambda count, value: count < 5, step, (tf.constant(0), x))
    norm = lambda value: tf.reduce_max(tf.abs(value))  # noqa: E731
    (halved,) = tf.while_loop(lambda value: norm(value) > 0.5, lambda value: (value * 0.5,), (x,))
    low, high = tf.cond(norm(x) > 2.6, lambda: (x + 1.0, x * 2.0), lambda: (x - 1.0, x * 3.0))
    return {"looped": looped, "halved": halved, "low": low, "high": high}


def switch_case(x: Any) -> Any:
    import tensorflow as tf

    index = tf.cast(tf.reduce_sum(tf.abs(x)), tf.int32) % 3
    branches = [lambda: x * 2.0, lambda: tf.sin(x), lambda: x - 1.0]
    return {"chosen": tf.switch_case(index, branches), "index": index}


def mapped(x: Any) -> Any:
    """Loops over tensor lists."""
    import tensorflow as tf

    squared = tf.map_fn(lambda row: row * row - tf.reduce_mean(row), x)
    summed = tf.scan(lambda total, row: total * 0.9 + row, x)
    return {"squared": squared, "summed": summed}


def einsums(x: Any) -> Any:
    """Contractions of many forms over x: [2, 6, 8]."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(7)
    weight = lambda *shape: tf.constant(rng.normal(size=shape).astype(np.float32))  # noqa: E731
    return {
        "dense": tf.einsum("abc,cd->abd", x, weight(8, 5)),
        "heads": tf.einsum("abc,cde->abde", x, weight(8, 3, 4)),
        "merge": tf.einsum("abde,dec->abc", tf.einsum("abc,cde->abde", x, weight(8, 3, 4)), weight(3, 4, 7)),
        "scores": tf.einsum("abc,adc->abd", x, x * 0.5),
        "outer": tf.einsum("abc,d->abcd", x, weight(3)),
        "sums": tf.einsum("abc->b", x),
        "transpose": tf.einsum("abc->cab", x),
        "relative": tf.einsum("abc,bdc->adb", x, weight(6, 4, 8)),
    }


def slices(x: Any) -> Any:
    """Every mask of StridedSlice over x: [4, 6, 8]."""
    import tensorflow as tf

    return {
        "plain": x[1:3, ::2, 1:-1], "shrink": x[2, :, 3], "ellipsis": x[..., 1:], "axes": x[:, None, 1:4, ..., None],
        "backwards": x[::-1, :, ::-2], "ends": x[-3:, -1], "gather": tf.gather(x, [2, 0, 5], axis=1),
        "points": tf.gather_nd(x, [[0, 1], [3, 5]]), "tail": tf.slice(x, [0, 2, 0], [-1, 3, -1]),
        "split": tf.concat(tf.split(x, [1, 2, 3], 1)[::-1], 1), "stack": tf.stack(tf.unstack(x, axis=2)[::3]),
        "mirror": tf.pad(x, [[0, 0], [1, 2], [0, 0]], "REFLECT"), "padded": tf.pad(x, [[1, 0], [0, 2], [0, 0]]),
        "blocks": tf.nn.space_to_depth(tf.reshape(x, [1, 4, 6, 8]), 2), "tiled": tf.tile(x, [1, 2, 1]),
    }  # fmt: skip


def reductions(x: Any) -> Any:
    """Reductions, comparisons, choices and unary functions over x: [?, 12]."""
    import tensorflow as tf

    top = tf.math.top_k(x, 3)
    return {
        "mean": tf.reduce_mean(x, 1, keepdims=True), "largest": tf.reduce_max(x, 0), "product": tf.reduce_prod(x, 1),
        "any": tf.reduce_any(x > 1.0, 1), "arg": tf.argmax(x, 1, tf.int32), "top": top.values, "at": top.indices,
        "where": tf.where(x > 0.0, x, tf.exp(x)), "cumulative": tf.cumsum(x, 1, reverse=True, exclusive=True),
        "soft": tf.nn.log_softmax(x * 2.0), "hot": tf.one_hot(tf.argmin(x, 1), 12), "norm": tf.nn.l2_normalize(x, 1),
        "power": tf.pow(tf.abs(x) + 0.1, 1.7), "floor": tf.math.floordiv(x, 0.4), "mod": tf.math.floormod(x, 0.7),
        "atan": tf.math.atan2(x, x + 3.0), "deviation": tf.math.reduce_std(x, 1),
        "softplus": tf.nn.softplus(x), "mish": x * tf.tanh(tf.nn.softplus(x)), "rounded": tf.round(x * 3.0),
        "squares": tf.math.squared_difference(x, tf.reverse(x, [1])), "sign": tf.sign(x), "gelu": tf.nn.gelu(x),
        "selu": tf.nn.selu(x), "swish": tf.nn.silu(x), "relu6": tf.nn.relu6(x * 4.0), "crelu": tf.nn.crelu(x),
    }  # fmt: skip


def integers(x: Any) -> Any:
    """Integer arithmetic, segments and scatters from x: [8, 4]."""
    import tensorflow as tf

    whole = tf.cast(x * 10.0, tf.int32)
    segments = tf.constant([0, 0, 1, 1, 2, 2, 2, 3])
    return {
        "division": whole // 3, "remainder": whole % 5, "segments": tf.math.segment_sum(x, segments),
        "unsorted": tf.math.unsorted_segment_max(x, segments, 4), "long": tf.cast(whole, tf.int64) * 7,
        "scatter": tf.scatter_nd([[1], [3]], x[:2], [5, 4]), "bits": tf.bitwise.right_shift(whole + 200, 2),
        "updated": tf.tensor_scatter_nd_update(x, [[0], [7]], x[2:4]), "range": tf.range(8) + whole[:, 0],
        "bytes": tf.cast(tf.clip_by_value(whole + 100, 0, 255), tf.uint8), "equal": tf.equal(whole % 2, 0),
    }  # fmt: skip


def dynamic_shapes(x: Any) -> Any:
    """Reshapes computed from the shape of x: [?, ?, 6]."""
    import tensorflow as tf

    shape = tf.shape(x)
    flat = tf.reshape(x, [shape[0], shape[1] * 6])
    return {
        "flat": tf.reshape(flat, [-1, 3]), "filled": tf.fill(shape, 2.0) * x,
        "half": x[:, : shape[1] // 2], "broadcast": tf.broadcast_to(x[:, :1], shape), "positive": tf.where(x > 0.5),
        "size": tf.size(x), "mask": tf.sequence_mask(tf.range(shape[1]), shape[1]), "means": tf.reduce_mean(x, [0, 1]),
    }  # fmt: skip


def dynamic_axes(x: Any) -> Any:
    """A new axis on what has unknown dimensions: x: [?, ?, 6]."""
    import tensorflow as tf

    return {"ones": tf.ones(tf.shape(x)[:2])[..., None] + x, "rows": x[:, None, ..., 1:]}


def error_function(x: Any) -> Any:
    import tensorflow as tf

    return {"erf": tf.math.erf(x), "gelu": tf.nn.gelu(x, approximate=False)}


def signatures(rng: Any) -> Built:
    """Two signatures that share an encoder."""
    import numpy as np
    import tensorflow as tf

    class Shared(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = tf.Variable(rng.normal(size=(64, 96)).astype(np.float32))
            self.head = tf.Variable(rng.normal(size=(96, 10)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec((1, 64), name="features")])
        def encode(self, features: Any) -> Any:
            return {"code": tf.tanh(features @ self.shared)}

        @tf.function(input_signature=[tf.TensorSpec((1, 64), name="features")])
        def classify(self, features: Any) -> Any:
            return {"label": tf.nn.softmax(tf.tanh(features @ self.shared) @ self.head)}

    module = Shared()
    chosen = {"encode": module.encode, "classify": module.classify}
    feeds = [{"features": rng.normal(size=(1, 64)).astype(np.float32)} for _ in range(SAMPLES)]
    return Built(lambda folder: tf.saved_model.save(module, folder, signatures=chosen), feeds)


def ordered(rng: Any) -> Built:
    """Several inputs and outputs whose names are in no alphabetical order."""
    import numpy as np
    import tensorflow as tf

    class Ordered(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec((2, 3), name="second"), tf.TensorSpec((2, 3), tf.int32, name="first"),
                             tf.TensorSpec((2, 3), name="alpha")]
        )  # fmt: skip
        def serve(self, second: Any, first: Any, alpha: Any) -> Any:
            return {"z": second - alpha, "a": first * 2, "m": tf.cast(first, tf.float32) * alpha}

    feeds = [
        {"second": rng.normal(size=(2, 3)).astype(np.float32), "alpha": rng.normal(size=(2, 3)).astype(np.float32),
         "first": rng.integers(0, 9, (2, 3)).astype(np.int32)}
        for _ in range(SAMPLES)
    ]  # fmt: skip
    return of_module(Ordered(), feeds)


def table(key: Any, value: Any) -> Callable[[Any], Built]:
    """A builder of a model that looks its inputs up in a hash table."""

    def build(rng: Any) -> Built:
        import numpy as np
        import tensorflow as tf

        words = [b"the", b"of", b"and", b"to", b"in", b"is", b"was", b"for", b"graph", b"table", b"seven"]
        numbers = np.arange(len(words), dtype=np.int64) * 3 + 1
        keys, values = (words, numbers) if key == "string" else (numbers, words)

        class Table(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                filled = tf.lookup.KeyValueTensorInitializer(
                    tf.constant(keys, tf.as_dtype(key)), tf.constant(values, tf.as_dtype(value))
                )
                self.table = tf.lookup.StaticHashTable(filled, -1 if value == "int64" else b"?")

            @tf.function(input_signature=[tf.TensorSpec((None,), tf.as_dtype(key), name="x")])
            def serve(self, x: Any) -> Any:
                return {"found": self.table.lookup(x)}

        given: list[Any] = [[*words[2:5], b"none"], words[4:8]] if key == "string" else [numbers[:3], numbers[3:6] + 1]
        return of_module(Table(), [{"x": np.array(items)} for items in given])

    return build


def variables(rng: Any) -> Built:
    """A counter that a call changes: resource variables at run time."""
    import numpy as np
    import tensorflow as tf

    class Counter(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.total = tf.Variable(tf.zeros((3,)))

        @tf.function(input_signature=[tf.TensorSpec((3,), name="x")])
        def serve(self, x: Any) -> Any:
            return {"output_0": self.total.assign_add(x) * 2.0}

    return of_module(Counter(), [{"x": rng.normal(size=3).astype(np.float32)}], may_be_flat=True)


MODELS: dict[str, Callable[[Any], Built]] = {
    "audio": audio,
    "spectra": of_function(spectra, (1, 4000), (1, 4000)),
    "control_flow": of_function(control_flow, (2, 4), (2, 4)),
    "switch_case": of_function(switch_case, (3, 4), (3, 4)),
    "mapped": of_function(mapped, (5, 7), (5, 7)),
    "einsums": of_function(einsums, (2, 6, 8), (2, 6, 8)),
    "einsums_dynamic": of_function(einsums, (None, 6, 8), (2, 6, 8)),
    "slices": of_function(slices, (4, 6, 8), (4, 6, 8)),
    "reductions": of_function(reductions, (None, 12), (5, 12)),
    "integers": of_function(integers, (8, 4), (8, 4)),
    "dynamic_axes": of_function(dynamic_axes, (None, None, 6), (2, 4, 6)),
    "error_function": of_function(error_function, (3, 5), (3, 5)),
    "dynamic_shapes": of_function(dynamic_shapes, (None, None, 6), (2, 4, 6)),
    "signatures": signatures,
    "ordered": ordered,
    "table_of_numbers": table("string", "int64"),
    "table_of_words": table("int64", "string"),
    "variables": variables,
}
