"""Operators of TensorFlow that encode, decode, hash and parse strings, and those that name files."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir import dimensions
from graphopt.ir.attributes import Attributes
from graphopt.ir.dimensions import Dim
from graphopt.ir.ops.inference import InferenceContext, InferenceError, same_as, scalar, unknown
from graphopt.ir.ops.registry import find, register
from graphopt.ir.ops.shapes import concatenated, of_rank
from graphopt.ir.ops.tf_string import each, strings
from graphopt.ir.ops.traits import Trait
from graphopt.ir.types import UNKNOWN_SHAPE, Shape

Array = np.ndarray[Any, Any]
VECTOR = Shape((None,))


# Hashes, Base64, Unicode --------------------------------------------------------------------------------------

_WEB_SAFE = re.compile(rb"[A-Za-z0-9_-]*={0,2}\Z")


def _encode_base64(attrs: Attributes, value: Array) -> Array:
    if attrs["pad"]:
        return each(base64.urlsafe_b64encode, value)
    return each(lambda item: base64.urlsafe_b64encode(item).rstrip(b"="), value)


def _decode_base64(attrs: Attributes, value: Array) -> Array:
    return each(_decoded, value)


def _decoded(item: bytes) -> bytes:
    if not _WEB_SAFE.match(item) or (item.endswith(b"=") and len(item) % 4):
        raise ValueError(f"{item!r} is no web-safe Base64")
    code = item.rstrip(b"=")
    try:
        return base64.urlsafe_b64decode(code + b"=" * (-len(code) % 4))
    except binascii.Error as error:
        raise ValueError(f"{item!r} is no web-safe Base64: {error}") from error


register("tf.EncodeBase64", traits=Trait.ELEMENTWISE, shape=same_as(), evaluate=_encode_base64)
register("tf.DecodeBase64", traits=Trait.ELEMENTWISE, shape=same_as(), evaluate=_decode_base64)
register(
    (
        "tf.StringToHashBucket",
        "tf.StringToHashBucketFast",
        "tf.StringToHashBucketStrong",
        "tf.UnicodeScript",
        "tf.UnicodeTranscode",
        "tf.DecodeCompressed",
        "tf.DecodeJSONExample",
    ),
    traits=Trait.ELEMENTWISE,
    shape=same_as(),
)


def _flat_size(context: InferenceContext, index: int, extra: int = 0) -> Dim:
    return dimensions.add(context.shape(index).size, extra)


def _unicode_decode_shape(context: InferenceContext) -> Sequence[Shape]:
    """Row splits, then characters and, for one operator, their offsets."""
    return [Shape((_flat_size(context, 0, 1),)), *[VECTOR] * (context.output_count - 1)]


def _unicode_encode_shape(context: InferenceContext) -> Sequence[Shape]:
    return [Shape((dimensions.subtract(of_rank(context, 1, 1)[0], 1),))]


def _n_grams_shape(context: InferenceContext) -> Sequence[Shape]:
    return [VECTOR, context.shape(1)]


def _segment_join_shape(context: InferenceContext) -> Sequence[Shape]:
    values, segments = context.shape(0).dims, context.shape(1).dims
    if values is None or segments is None:
        return [UNKNOWN_SHAPE]
    count = context.partial(2)
    return [Shape((count[0] if count else None, *values[len(segments) :]))]


register(("tf.UnicodeDecode", "tf.UnicodeDecodeWithOffsets"), shape=_unicode_decode_shape)
register("tf.UnicodeEncode", shape=_unicode_encode_shape)
register("tf.StringFormat", shape=scalar)
register("tf.StringNGrams", shape=_n_grams_shape)
register("tf.UnsortedSegmentJoin", shape=_segment_join_shape)


# Bytes as numbers ---------------------------------------------------------------------------------------------


def _decode_raw_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    return [UNKNOWN_SHAPE if dims is None else Shape((*dims, None))]


def _decode_raw(attrs: Attributes, value: Array) -> Array:
    dtype = attrs["out_type"].numpy
    items = value.reshape(-1).tolist()
    lengths = dict.fromkeys(map(len, items))
    if len(lengths) > 1 or any(length % dtype.itemsize for length in lengths):
        raise ValueError(f"the strings must be equally long and hold whole elements of {dtype.itemsize} bytes")
    stored = dtype if attrs["little_endian"] or dtype.itemsize == 1 else dtype.newbyteorder(">")
    numbers = np.frombuffer(b"".join(items), stored).astype(dtype, copy=False)
    return numbers.reshape((*value.shape, next(iter(lengths), 0) // dtype.itemsize))


def _decode_padded_raw_shape(context: InferenceContext) -> Sequence[Shape]:
    dims, dtype = context.shape(0).dims, context.attrs["out_type"]
    length = context.constant_int(1)
    if dims is None:
        return [UNKNOWN_SHAPE]
    return [Shape((*dims, None if length is None or not dtype.itemsize else length // dtype.itemsize))]


register("tf.DecodeRaw", shape=_decode_raw_shape, evaluate=_decode_raw)
register("tf.DecodePaddedRaw", shape=_decode_padded_raw_shape)
register("tf.ParseTensor", shape=unknown)
register("tf.SerializeTensor", shape=scalar)


# Images -------------------------------------------------------------------------------------------------------


def _decode_image_shape(context: InferenceContext) -> Sequence[Shape]:
    channels = context.attrs["channels"]
    return [Shape((None, None, channels or None))]


def _decode_any_image_shape(context: InferenceContext) -> Sequence[Shape]:
    """An animation has one more dimension, so the rank is known only where none is expanded."""
    return [UNKNOWN_SHAPE] if context.attrs["expand_animations"] else _decode_image_shape(context)


def _decode_crop_shape(context: InferenceContext) -> Sequence[Shape]:
    window = context.partial(1)
    height, width = window[2:4] if window is not None and len(window) == 4 else (None, None)
    return [Shape((height, width, context.attrs["channels"] or None))]


def _encode_image_shape(context: InferenceContext) -> Sequence[Shape]:
    """One string for each image; what precedes height, width and channels is a batch."""
    dims = context.shape(0).dims
    return [UNKNOWN_SHAPE if dims is None else Shape(dims[:-3])]


register(("tf.DecodeJpeg", "tf.DecodePng", "tf.DecodeBmp", "tf.DecodeWebP"), shape=_decode_image_shape)
register("tf.DecodeImage", shape=_decode_any_image_shape)
register("tf.DecodeGif", shape=lambda context: [Shape((None, None, None, 3))])
register("tf.DecodeAndCropJpeg", shape=_decode_crop_shape)
register("tf.ExtractJpegShape", shape=lambda context: [Shape((3,))])
register("tf.EncodePng", shape=_encode_image_shape)
register(("tf.EncodeJpeg", "tf.EncodeJpegVariableQuality"), shape=scalar)


# Records ------------------------------------------------------------------------------------------------------


def _encode_proto_shape(context: InferenceContext) -> Sequence[Shape]:
    dims = context.shape(0).dims
    return [UNKNOWN_SHAPE if dims is None else Shape(dims[:-1])]


def _decode_proto_shape(context: InferenceContext) -> Sequence[Shape]:
    """Sizes of every field, then the fields."""
    dims, fields = context.shape(0).dims, len(context.attrs["field_names"])
    if dims is None:
        return [UNKNOWN_SHAPE] * context.output_count
    return [Shape((*dims, fields)), *[Shape((*dims, None))] * (context.output_count - 1)]


register("tf.EncodeProto", shape=_encode_proto_shape)
register("tf.DecodeProtoV2", shape=_decode_proto_shape)
register("tf.DecodeCSV", shape=same_as())


def _parsed_shapes(context: InferenceContext) -> Sequence[Shape]:
    """One shape an output, by the name of the argument it belongs to.

    Sparse features have indices, values and a shape with a column for each batch dimension; dense ones have the
    declared shape after the batch; those of a list have one more dimension, the step.
    """
    operator = find(context.node.op)
    assert operator is not None
    assert operator.interface is not None
    single = context.node.op in ("tf.ParseSingleExample", "tf.ParseSingleSequenceExample")
    batch = Shape(()) if single else context.shape(0)
    shapes: list[Shape] = []
    for argument in operator.interface.outputs:
        count = len(argument.dtypes(context.attrs))
        declared = context.attrs.get(_DENSE_SHAPES.get(argument.name, ""), ())
        if declared and len(declared) != count:
            raise InferenceError(f"{len(declared)} shapes do not fit {count} features")
        for place in range(count):
            shapes.append(_parsed_shape(argument.name, batch, declared[place] if declared else UNKNOWN_SHAPE))
    return shapes


_DENSE_SHAPES = {
    "dense_values": "dense_shapes",
    "context_dense_values": "context_dense_shapes",
    "feature_list_dense_values": "feature_list_dense_shapes",
}


def _parsed_shape(argument: str, batch: Shape, declared: Shape) -> Shape:
    steps = 1 if argument.startswith("feature_list") else 0
    columns = None if batch.rank is None else batch.rank + 1 + steps
    if argument.endswith("sparse_indices"):
        return Shape((None, columns))
    if argument.endswith("sparse_shapes"):
        return Shape((columns,))
    if argument.endswith("dense_lengths"):
        return batch
    if argument.endswith("dense_values"):
        if batch.dims is None or declared.dims is None:
            return UNKNOWN_SHAPE
        return concatenated(batch.dims, (None,) * steps, declared.dims)
    if argument == "ragged_row_splits" and batch.dims is not None and len(batch.dims) == 1:
        return Shape((dimensions.add(batch.dims[0], 1),))
    return VECTOR


register(
    (
        "tf.ParseExample",
        "tf.ParseExampleV2",
        "tf.ParseSingleExample",
        "tf.ParseSequenceExample",
        "tf.ParseSequenceExampleV2",
        "tf.ParseSingleSequenceExample",
    ),
    shape=_parsed_shapes,
)


# Files --------------------------------------------------------------------------------------------------------


def _sharded_filename(attrs: Attributes, base: Array, shard: Array, count: Array) -> Array:
    if base.ndim or shard.ndim or count.ndim:
        raise ValueError("the name, the shard and the number of shards must be scalars")
    return strings([base.item() + b"-%05d-of-%05d" % (int(shard), int(count))], ())


def _sharded_filespec(attrs: Attributes, base: Array, count: Array) -> Array:
    if base.ndim or count.ndim:
        raise ValueError("the name and the number of shards must be scalars")
    return strings([base.item() + b"-?????-of-%05d" % int(count)], ())


# What the world outside says may change between two runs, so these are never folded or merged.
register("tf.MatchingFiles", traits=Trait.STATEFUL, shape=lambda context: [VECTOR])
register("tf.ReadFile", traits=Trait.STATEFUL, shape=scalar)
register("tf.WriteFile", traits=Trait.STATEFUL, shape=scalar)
register("tf.ShardedFilename", shape=scalar, evaluate=_sharded_filename)
register("tf.ShardedFilespec", shape=scalar, evaluate=_sharded_filespec)
