"""Seeded Keras models, frozen, with outputs that vary: what the benchmarks and the slow tests run on.

    python tools/model_zoo.py [NAME ...]          # needs the extra `tensorflow`; a minute a model, kept afterwards

Each model leaves `frozen.pb` (batch 1), `saved_model/`, `io.npz` (seeded inputs and TensorFlow's outputs) and
`meta.json` (inputs, outputs, operators Grappler leaves) in $GRAPHOPT_ZOO, by default ~/.cache/graphopt/zoo. Weights
are random, batch norms fit the data (one forward pass in training mode at momentum 0): a wrong fold shows.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

APPLICATIONS = {
    "mobilenetv2": "MobileNetV2",
    "resnet50": "ResNet50",
    "efficientnetb0": "EfficientNetB0",
    "densenet121": "DenseNet121",
}
SEQUENCES = ("lstm", "bidirectional_gru", "transformer")
NAMES = (*APPLICATIONS, *SEQUENCES)
SAMPLES = 4
LEAST_SPREAD = 0.05  # deviation over samples relative to the deviation over everything


def folder_of(name: str) -> pathlib.Path:
    """Where the model `name` lies, or will lie."""
    root = os.environ.get("GRAPHOPT_ZOO", pathlib.Path.home() / ".cache" / "graphopt" / "zoo")
    return pathlib.Path(root) / name


def ensure(name: str) -> pathlib.Path:
    """The folder of the model `name`, built in a process of its own if it is not there."""
    folder = folder_of(name)
    if not (folder / "meta.json").exists() or not (folder / "saved_model").is_dir():
        subprocess.run([sys.executable, __file__, name], check=True, stdout=subprocess.DEVNULL)
    return folder


def build_application(name: str, rng: Any) -> tuple[Any, Any]:
    """A Keras application with calibrated batch norms, and images to feed it."""
    import keras
    import numpy as np

    model = getattr(keras.applications, APPLICATIONS[name])(weights=None, classifier_activation=None)
    size = model.inputs[0].shape[1]
    coarse = rng.normal(size=(8, 8, 8, 3)) * rng.uniform(0.3, 1.5, size=(8, 1, 1, 3))
    images = np.kron(coarse, np.ones((1, size // 8, size // 8, 1))).astype(np.float32)
    images = images * 60 + 120 if name == "efficientnetb0" else images
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.6, 1.4, channels))
            layer.beta.assign(rng.normal(size=channels) * 0.2)
            layer.momentum = 0.0
    model(images, training=True)
    return model, images[:SAMPLES]


def build_sequence(name: str, rng: Any) -> tuple[Any, Any]:
    """A small recurrent or attention network, and sequences to feed it."""
    import keras
    import numpy as np

    layers = keras.layers
    inputs = keras.Input((24, 16))
    if name == "lstm":
        hidden = layers.LSTM(32)(inputs)
    elif name == "bidirectional_gru":
        hidden = layers.Bidirectional(layers.GRU(24))(inputs)
    else:
        attended = layers.MultiHeadAttention(4, 8)(inputs, inputs)
        normed = layers.LayerNormalization()(layers.Add()([inputs, attended]))
        fed = layers.Dense(16)(layers.Dense(64, activation="gelu")(normed))
        hidden = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(layers.Add()([normed, fed])))
    model = keras.Model(inputs, layers.Dense(10)(hidden))
    return model, rng.normal(size=(SAMPLES, 24, 16)).astype(np.float32)


def freeze(model: Any, shape: tuple[int, ...]) -> tuple[Any, Callable[[Any], Any]]:
    """The frozen GraphDef at batch 1, and the frozen function itself."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(lambda x: model(x, training=False))
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(tf.TensorSpec((1, *shape), name="x")))
    return frozen.graph.as_graph_def(), frozen


def grappler_operators(graph_def: Any, outputs: list[str]) -> dict[str, int]:
    """What Grappler's default rewriters leave, each `_Fused…` counted as the operators it stands for."""
    import tensorflow as tf
    from tensorflow.python.grappler import tf_optimizer

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
    meta.collection_def["train_op"].node_list.value.extend(outputs)
    counts: dict[str, int] = {}
    for node in tf_optimizer.OptimizeGraph(tf.compat.v1.ConfigProto(), meta).node:
        parts = [node.op]
        if node.op.startswith("_Fused"):
            parts += [f"{node.op}/{fused.decode()}" for fused in node.attr["fused_ops"].list.s]
        for part in parts:
            counts[part] = counts.get(part, 0) + 1
    return counts


def build(name: str) -> None:
    """Build the model `name` here and now."""
    import keras
    import numpy as np
    import tensorflow as tf

    seed = zlib.crc32(name.encode())
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model, samples = (build_application if name in APPLICATIONS else build_sequence)(name, rng)
    graph_def, frozen = freeze(model, samples.shape[1:])
    outputs = [frozen.outputs[0].name.partition(":")[0]]
    values = np.stack([frozen(tf.constant(sample[None]))[0].numpy() for sample in samples])
    spread = float(values.std(0).mean() / values.std())
    if spread < LEAST_SPREAD:
        raise ValueError(f"the outputs of {name} hardly vary ({spread:.3f}): no error would show in them")
    folder = folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "frozen.pb").write_bytes(graph_def.SerializeToString())
    spec = tf.TensorSpec((1, *samples.shape[1:]), name="x")
    model.export(str(folder / "saved_model"), input_signature=[spec], verbose=False)
    np.savez(folder / "io.npz", **{"in|x": samples[:, None], f"out|{outputs[0]}": values})
    meta = {
        "inputs": ["x"],
        "outputs": outputs,
        "nodes": len(graph_def.node),
        "spread": round(spread, 3),
        "weights": sum(int(np.prod(w.shape)) * 4 for w in model.weights),
        "grappler": grappler_operators(graph_def, outputs),
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*NAMES, []], help=", ".join(NAMES))
    names = parser.parse_args().names
    if len(names) == 1:
        return build(names[0])
    for name in names or NAMES:
        print(name, ensure(name))


if __name__ == "__main__":
    main()
