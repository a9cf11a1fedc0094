"""Recurrent and attention networks, text models: static and dynamic batch, stacked, bidirectional, causal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tflite_zoo import SAMPLES, Built
from tflite_zoo_applications import settle

STEPS, FEATURES, VOCABULARY = 24, 16, 500


def keras_model(
    layers_of: Callable[[Any, Any], Any], *, batch: int | None = 1, steps: int | None = STEPS
) -> Callable[[Any], Built]:
    """A builder of `layers_of(keras.layers, inputs)` on float sequences."""

    def build(rng: Any) -> Built:
        import keras
        import numpy as np
        import tensorflow as tf

        inputs = keras.Input((steps, FEATURES), name="x")
        model = keras.Model(inputs, layers_of(keras.layers, inputs))
        given = rng.normal(size=(4, STEPS, FEATURES)).astype(np.float32)
        settle(model, given, rng)
        spec = tf.TensorSpec((batch, steps, FEATURES), name="x")
        count = batch or 2
        return Built(
            lambda folder: model.export(folder, input_signature=[spec], verbose=False),
            [{"x": given[place : place + count]} for place in range(SAMPLES)],
        )

    return build


def text_model(layers_of: Callable[[Any, Any], Any], *, batch: int | None = 1) -> Callable[[Any], Built]:
    """A builder of `layers_of(keras.layers, inputs)` on token numbers."""

    def build(rng: Any) -> Built:
        import keras
        import numpy as np
        import tensorflow as tf

        inputs = keras.Input((STEPS,), name="x", dtype="int32")
        model = keras.Model(inputs, layers_of(keras.layers, inputs))
        given = rng.integers(1, VOCABULARY, size=(4, STEPS)).astype(np.int32)
        given[1, STEPS // 2 :] = 0
        settle(model, given, rng)
        spec = tf.TensorSpec((batch, STEPS), tf.int32, name="x")
        count = batch or 2
        return Built(
            lambda folder: model.export(folder, input_signature=[spec], verbose=False),
            [{"x": given[place : place + count]} for place in range(SAMPLES)],
        )

    return build


def encoder_block(layers: Any, hidden: Any, mask: Any = None) -> Any:
    """Pre-norm self-attention and a GELU network."""
    normed = layers.LayerNormalization(epsilon=1e-5)(hidden)
    hidden = layers.Add()([hidden, layers.MultiHeadAttention(4, 16)(normed, normed, attention_mask=mask)])
    normed = layers.LayerNormalization(epsilon=1e-5)(hidden)
    return layers.Add()([hidden, layers.Dense(hidden.shape[-1])(layers.Dense(128, activation="gelu")(normed))])


def encoder(layers: Any, inputs: Any) -> Any:
    hidden = layers.Dense(64)(inputs)
    for _ in range(3):
        hidden = encoder_block(layers, hidden)
    return layers.Dense(10)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(hidden)))


def text_encoder(layers: Any, tokens: Any) -> Any:
    import keras

    places = keras.ops.expand_dims(keras.ops.arange(STEPS), 0)
    hidden = layers.Add()([layers.Embedding(VOCABULARY, 64)(tokens), layers.Embedding(STEPS, 64)(places)])
    mask = keras.ops.expand_dims(keras.ops.not_equal(tokens, 0), 1)
    for _ in range(2):
        hidden = encoder_block(layers, hidden, mask)
    return layers.Dense(10, activation="softmax")(layers.Lambda(lambda x: x[:, 0])(hidden))


def decoder(rng: Any) -> Built:
    """Causal self-attention, cross attention to an encoded source, logits over a vocabulary."""
    import keras
    import numpy as np
    import tensorflow as tf

    layers = keras.layers
    tokens = keras.Input((STEPS,), name="tokens", dtype="int32")
    source = keras.Input((STEPS + 8, 64), name="source")
    hidden = layers.Embedding(VOCABULARY, 64)(tokens)
    for _ in range(2):
        attended = layers.MultiHeadAttention(4, 16)(hidden, hidden, use_causal_mask=True)
        hidden = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([hidden, attended]))
        crossed = layers.MultiHeadAttention(4, 16)(hidden, source)
        hidden = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([hidden, crossed]))
        fed = layers.Dense(64)(layers.Dense(128, activation="relu")(hidden))
        hidden = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([hidden, fed]))
    model = keras.Model({"tokens": tokens, "source": source}, layers.Dense(VOCABULARY)(hidden))
    feeds = [
        {
            "tokens": rng.integers(0, VOCABULARY, (1, STEPS)).astype(np.int32),
            "source": rng.normal(size=(1, STEPS + 8, 64)).astype(np.float32),
        }
        for _ in range(SAMPLES)
    ]
    settle(model, feeds[0], rng)
    specs = {
        "tokens": tf.TensorSpec((1, STEPS), tf.int32, name="tokens"),
        "source": tf.TensorSpec((1, STEPS + 8, 64), name="source"),
    }
    return Built(lambda folder: model.export(folder, input_signature=[specs], verbose=False), feeds)


def attention_layers(layers: Any, inputs: Any) -> Any:
    query, value = layers.Dense(32)(inputs), layers.Dense(32)(inputs)
    dotted = layers.Attention(use_scale=True)([query, value])
    added = layers.AdditiveAttention()([query, value])
    grouped = layers.GroupQueryAttention(8, 4, 2)(query, value)
    return layers.Dense(6)(layers.Flatten()(layers.Concatenate()([dotted, added, grouped])))


def lstm_states(layers: Any, inputs: Any) -> Any:
    sequence, hidden, cell = layers.LSTM(20, return_sequences=True, return_state=True)(inputs)
    return [layers.Dense(4)(sequence), hidden, cell]


MODELS: dict[str, Callable[[Any], Built]] = {
    "lstm": keras_model(lambda layers, x: layers.Dense(10)(layers.LSTM(32)(x))),
    "bidirectional_gru": keras_model(lambda layers, x: layers.Dense(10)(layers.Bidirectional(layers.GRU(24))(x))),
    "transformer": keras_model(encoder),
    "lstm_dynamic_batch": keras_model(lambda layers, x: layers.Dense(10)(layers.LSTM(32)(x)), batch=None),
    "lstm_dynamic_time": keras_model(lambda layers, x: layers.Dense(10)(layers.LSTM(32)(x)), steps=None),
    "lstm_stacked": keras_model(
        lambda layers, x: layers.Dense(10)(
            layers.LSTM(24)(layers.LSTM(32, return_sequences=True)(layers.LSTM(32, return_sequences=True)(x)))
        )
    ),
    "lstm_unrolled": keras_model(lambda layers, x: layers.Dense(10)(layers.LSTM(16, unroll=True)(x))),
    "lstm_states": keras_model(lstm_states),
    "lstm_backwards": keras_model(lambda layers, x: layers.LSTM(16, go_backwards=True, return_sequences=True)(x)),
    "bidirectional_lstm": keras_model(
        lambda layers, x: layers.Dense(10)(layers.Bidirectional(layers.LSTM(24, return_sequences=True))(x))
    ),
    "bidirectional_lstm_dynamic": keras_model(
        lambda layers, x: layers.Dense(10)(layers.Bidirectional(layers.LSTM(24))(x)), batch=None
    ),
    "gru": keras_model(lambda layers, x: layers.Dense(10)(layers.GRU(32)(x))),
    "gru_reset_before": keras_model(lambda layers, x: layers.GRU(32, reset_after=False, return_sequences=True)(x)),
    "gru_dynamic_batch": keras_model(lambda layers, x: layers.Dense(10)(layers.GRU(32)(x)), batch=None),
    "simple_rnn": keras_model(lambda layers, x: layers.Dense(10)(layers.SimpleRNN(32)(x))),
    "transformer_encoder": keras_model(encoder),
    "transformer_encoder_dynamic": keras_model(encoder, batch=None),
    "transformer_decoder": decoder,
    "attention_layers": keras_model(attention_layers),
    "text_embedding": text_model(
        lambda layers, x: layers.Dense(4, activation="softmax")(
            layers.Dense(32, activation="relu")(layers.GlobalAveragePooling1D()(layers.Embedding(VOCABULARY, 48)(x)))
        )
    ),
    "text_cnn": text_model(
        lambda layers, x: layers.Dense(4)(
            layers.GlobalMaxPooling1D()(layers.Conv1D(64, 5, activation="relu")(layers.Embedding(VOCABULARY, 48)(x)))
        ),
        batch=None,
    ),
    "text_lstm_masked": text_model(
        lambda layers, x: layers.Dense(4)(layers.LSTM(24)(layers.Embedding(VOCABULARY, 48, mask_zero=True)(x)))
    ),
    "text_encoder": text_model(text_encoder),
}
