"""Input pipelines: datasets and their handles are scalars, as TensorFlow has them."""

from __future__ import annotations

import pytest

from graphopt.ir.formats import graphdef
from graphopt.ir.infer import infer_model
from graphopt.ir.ops import Trait, find, traits_of


@pytest.mark.tensorflow
def test_the_handles_of_a_pipeline_are_scalars() -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        numbers = tf.data.Dataset.from_tensor_slices([1.0, 2.0, 3.0]).map(lambda x: x * 2).filter(lambda x: x > 2)
        files = tf.data.TFRecordDataset(["records"]).interleave(lambda _: tf.data.Dataset.range(3))
        zipped = tf.data.Dataset.zip((numbers, files)).shuffle(4).batch(2).repeat().prefetch(1).take(3).skip(1)
        iterator = tf.compat.v1.data.make_one_shot_iterator(numbers)
        iterator.string_handle(name="handle")
        tf.data.experimental.cardinality(zipped)
    model = graphdef.read_graphdef(graph.as_graph_def().SerializeToString())
    infer_model(model)
    datasets = 0
    for operation in graph.get_operations():
        for ours, theirs in zip(model.graph.node(operation.name).outputs, operation.outputs, strict=True):
            expected = None if theirs.shape.rank is None else tuple(theirs.shape.as_list())
            assert ours.shape.dims == expected, operation.type
            datasets += operation.type.startswith(("Batch", "Zip", "Prefetch", "TFRecord", "Map", "TensorSlice"))
    assert datasets >= 6


def test_reading_files_and_drawing_numbers_keep_their_state() -> None:
    assert traits_of("tf.TFRecordDataset") & Trait.STATEFUL
    assert not traits_of("tf.BatchDatasetV2") & Trait.STATEFUL
    assert find("tf.ExperimentalMapDataset").shape is not None
