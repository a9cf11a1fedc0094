"""Operators on strings, and those that parse and name files, against TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from material import infer, integers
from oracle import arrays, check_operator, evaluate, shapes

from graphopt.ir import ops
from graphopt.ir.dimensions import symbol
from graphopt.ir.ops import Trait
from graphopt.ir.ops.inference import InferenceError
from graphopt.ir.types import DTYPES, SCALAR, UNKNOWN_SHAPE, Shape

tensorflow = pytest.mark.tensorflow
FEW = settings(max_examples=20)
N = symbol("n")
VECTOR = Shape((None,))
BYTES = st.one_of(st.binary(max_size=6), st.text("aZ \t,é中\x00", max_size=6).map(str.encode))
TEXT = st.text("abAB ,.-_x1", max_size=8).map(str.encode)


@st.composite
def strings(draw: Any, shape: Any, items: Any = BYTES) -> Any:
    """An array of strings; `shape` may be a strategy."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    result = np.empty(int(np.prod(shape)), object)
    result[:] = draw(st.lists(items, min_size=result.size, max_size=result.size))
    return result.reshape(shape)


def held(*items: bytes) -> Any:
    """A vector of strings."""
    result = np.empty(len(items), object)
    result[:] = items
    return result


# Joining and splitting ----------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(st.data())
def test_joins(data: Any) -> None:
    shape = data.draw(shapes(0, 2))
    separator = data.draw(st.sampled_from([b"", b"-", b", "]))
    several = [data.draw(strings(data.draw(st.sampled_from([shape, shape, ()])))) for _ in range(3)]
    check_operator("StringJoin", several, {"separator": separator})
    value = data.draw(strings(shapes(0, 3, zeros=False)))
    axes = data.draw(st.lists(st.integers(-value.ndim, max(value.ndim - 1, 0)), max_size=min(value.ndim, 2)))
    attrs = {"separator": separator, "keep_dims": data.draw(st.booleans())}
    check_operator("ReduceJoin", [value, np.array(axes, np.int32)], attrs)


@tensorflow
@settings(max_examples=30)
@given(st.data())
def test_splits(data: Any) -> None:
    value = data.draw(strings(shapes(1, 1), st.text("a b,\t<>", max_size=8).map(str.encode)))
    delimiter = data.draw(st.sampled_from([b" ", b", ", b"", b"<>"]))
    attrs = {"skip_empty": data.draw(st.booleans())}
    check_operator("StringSplit", [value, held(delimiter).reshape(())], attrs, inferable=False)
    maximum = {"maxsplit": data.draw(st.integers(-1, 2))}
    check_operator("StringSplitV2", [value, held(delimiter).reshape(())], maximum, inferable=False)


@tensorflow
@settings(max_examples=30)
@given(strings(shapes(0, 2)), st.sampled_from([b"", b"utf-8"]))
def test_case_whitespace_and_length(value: Any, encoding: bytes) -> None:
    for op in ("StringLower", "StringUpper"):
        check_operator(op, [value], {"encoding": encoding}, may_refuse=encoding == b"utf-8")
    check_operator("StringStrip", [value])
    check_operator("StringLength", [value], {"unit": b"BYTE"})
    check_operator("StringLength", [value], {"unit": b"UTF8_CHAR"})


@tensorflow
@settings(max_examples=40)
@given(st.data())
def test_substr(data: Any) -> None:
    value = data.draw(strings(shapes(0, 2, 3), st.text("abé中", min_size=2, max_size=6).map(str.encode)))
    shape = data.draw(st.sampled_from([(), value.shape]))
    position, length = (data.draw(integers(low, 4, shape, (np.int32,))) for low in (-3, 0))
    unit = data.draw(st.sampled_from([b"BYTE", b"UTF8_CHAR"]))
    check_operator("Substr", [value, position, length], {"unit": unit})


def test_substr_of_what_is_not_utf8_is_not_evaluated() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        evaluate("Substr", [held(b"\xff\xfe"), np.array([0]), np.array([1])], {"unit": b"UTF8_CHAR"})


# Numbers ------------------------------------------------------------------------------------------------------

NUMERALS = st.sampled_from(
    b"1 -2 +3 0 007 1.5 -.5 5. 1e3 1E-3 inf -Inf nan NaN infinity 1e400 1e39 1e-50 16777217.0000001 "
    b"2147483647 2147483648 -2147483648 9223372036854775807 9223372036854775808 abc 1_0 1,5 e5 . - 1f".split(b" ")
)  # fmt: skip


@tensorflow
@settings(max_examples=60)
@given(strings((2,), NUMERALS), st.sampled_from(["float32", "float64", "int32", "int64"]))
def test_string_to_number(value: Any, out_type: str) -> None:
    check_operator("StringToNumber", [value], {"out_type": DTYPES[out_type]}, exact=True, may_refuse=b"+3" in value)


@tensorflow
@settings(max_examples=40)
@given(st.data())
def test_as_string(data: Any) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8, np.int8, np.bool_]))
    value = data.draw(arrays(dtype, shapes(0, 2)))
    attrs: dict[str, Any] = {}
    if dtype is not np.bool_ and data.draw(st.booleans()):
        attrs |= {"width": 7, "fill": data.draw(st.sampled_from([b"", b" ", b"0", b"-", b"+"]))}
    if np.dtype(dtype).kind == "f":
        attrs["precision"] = data.draw(st.integers(-1, 9))
        attrs[data.draw(st.sampled_from(["scientific", "shortest"]))] = data.draw(st.booleans())
    check_operator("AsString", [value], attrs)


def test_as_string_bounds_its_width() -> None:
    attrs = {"width": 10**9, "fill": b"", "precision": -1, "scientific": False, "shortest": False}
    with pytest.raises(ValueError, match="not written"):
        evaluate("AsString", [np.float32([1])], attrs)


# Regular expressions ------------------------------------------------------------------------------------------

PATTERNS = (
    b"a",
    b"[a-b]+",
    b"(a)(b?)",
    b"x.*",
    b"a|b",
    b"[^a]",
    b"\\.",
    b"\\d+",
    b"\\w",
    b"a+b*1?",
    b"(ab)|(x)",
    b"s3://.*",
)


@tensorflow
@settings(max_examples=60)
@given(strings((3,), TEXT), st.sampled_from(PATTERNS), st.sampled_from([b"", b"-", b"<\\0>", b"\\1"]), st.booleans())
def test_regular_expressions(value: Any, pattern: bytes, rewrite: bytes, everywhere: bool) -> None:
    scalar = held(pattern).reshape(())
    check_operator("StaticRegexFullMatch", [value], {"pattern": pattern})
    check_operator("RegexFullMatch", [value, scalar])
    if rewrite != b"\\1" or b"(" in pattern:
        attrs = {"pattern": pattern, "rewrite": rewrite, "replace_global": everywhere}
        check_operator("StaticRegexReplace", [value], attrs)
        operands = [value, scalar, held(rewrite).reshape(())]
        check_operator("RegexReplace", operands, {"replace_global": everywhere})


@pytest.mark.parametrize(
    "pattern", [b"(?i)a", b"a**", b"(a+)+", b"\\bx", b"a{2}", b"^a", b"[[:alpha:]]", b"\xc3\xa9", b"(", b"a*?", b"\\Qa"]
)
def test_regular_expressions_beyond_the_common_ones_are_not_evaluated(pattern: bytes) -> None:
    with pytest.raises(ValueError, match="regular expression"):
        evaluate("StaticRegexFullMatch", [held(b"a")], {"pattern": pattern})


@pytest.mark.parametrize("pattern", [b"a*" * 8 + b"b", b"(a|a)" * 16 + b"b"])
def test_regular_expressions_that_take_long_are_not_evaluated(pattern: bytes) -> None:
    with pytest.raises(ValueError, match="too long"):
        evaluate("StaticRegexFullMatch", [held(b"a" * 1000)], {"pattern": pattern})


def test_replacing_nothing_is_not_evaluated() -> None:
    attrs = {"pattern": b"x*", "rewrite": b"-", "replace_global": True}
    with pytest.raises(ValueError, match="matches nothing"):
        evaluate("StaticRegexReplace", [held(b"a")], attrs)
    with pytest.raises(ValueError, match="lacks"):
        evaluate("StaticRegexReplace", [held(b"a")], attrs | {"pattern": b"a", "rewrite": b"\\1"})
    with pytest.raises(ValueError, match="ASCII"):
        evaluate("StaticRegexFullMatch", [held(b"\xff")], {"pattern": b"a"})


# Encodings ----------------------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(st.data())
def test_base64(data: Any) -> None:
    value = data.draw(strings(shapes(0, 2)))
    found = check_operator("EncodeBase64", [value], {"pad": data.draw(st.booleans())})
    assert found is not None
    check_operator("DecodeBase64", [found[0]])


@tensorflow
@pytest.mark.parametrize("code", [b"//4", b"a", b"ab=", b"__5", b"====", b"a=b"])
def test_base64_edges(code: bytes) -> None:
    check_operator("DecodeBase64", [held(code)])


@tensorflow
@FEW
@given(st.data())
def test_decode_raw(data: Any) -> None:
    size = data.draw(st.integers(0, 9))
    value = data.draw(strings(shapes(0, 2), st.binary(min_size=size, max_size=size)))
    out_type = DTYPES[data.draw(st.sampled_from(["uint8", "int16", "float16", "int32", "float32", "complex64"]))]
    attrs = {"out_type": out_type, "little_endian": data.draw(st.booleans())}
    complex_swapped = out_type.kind == "complex" and not attrs["little_endian"]
    check_operator("DecodeRaw", [value], attrs, inferable=False, may_refuse=complex_swapped)


@tensorflow
@pytest.mark.parametrize("count", [5, 100000])
def test_names_of_shards(count: int) -> None:
    base, shard, total = held(b"model").reshape(()), np.int32(3), np.int32(count)
    check_operator("ShardedFilename", [base, shard, total])
    check_operator("ShardedFilespec", [base, total])


# Shapes -------------------------------------------------------------------------------------------------------


@tensorflow
@FEW
@given(strings(shapes(0, 2)))
def test_hashes_keep_the_shape(value: Any) -> None:
    for op in ("StringToHashBucketFast", "StringToHashBucket"):
        check_operator(op, [value], {"num_buckets": 7}, evaluates=False)
    attrs = {"input_encoding": b"UTF-8", "errors": b"replace"}
    check_operator("UnicodeDecode", [value], attrs, evaluates=False, inferable=False)
    check_operator("UnicodeDecodeWithOffsets", [value], attrs, evaluates=False, inferable=False)
    check_operator("UnicodeTranscode", [value], attrs | {"output_encoding": b"UTF-8"}, evaluates=False)


@tensorflow
def test_shapes_of_strings_put_together() -> None:
    splits = np.array([0, 2, 3], np.int64)
    codes = np.array([97, 98, 99], np.int32)
    check_operator("UnicodeEncode", [codes, splits], {"output_encoding": b"UTF-8"}, evaluates=False)
    check_operator("UnicodeScript", [codes], evaluates=False)
    words, segments = held(b"a", b"b", b"c"), np.array([1, 0, 1], np.int32)
    check_operator("UnsortedSegmentJoin", [words, segments, np.int32(3)], evaluates=False)
    attrs = {"separator": b" ", "ngram_widths": (2,), "left_pad": b"", "right_pad": b"", "pad_width": 0,
             "preserve_short_sequences": False}  # fmt: skip
    check_operator("StringNGrams", [words, splits], attrs, evaluates=False, inferable=False)
    padded = {"out_type": DTYPES["int16"]}
    check_operator("DecodePaddedRaw", [words, np.int32(4)], padded, evaluates=False)
    check_operator("SerializeTensor", [codes], evaluates=False)
    check_operator("StringFormat", [codes], {"template": b"%s"}, evaluates=False)


def test_shapes_of_parsed_examples() -> None:
    attrs: dict[str, Any] = {
        "Nsparse": 1,
        "Ndense": 2,
        "sparse_types": (DTYPES["int64"],),
        "Tdense": (DTYPES["float32"], DTYPES["string"]),
        "dense_shapes": (Shape((3,)), Shape((None, 2))),
    }
    batch = [Shape((N,)), VECTOR, SCALAR, SCALAR, SCALAR, VECTOR, VECTOR]
    found = infer("ParseExample", *batch, attrs=attrs, outputs=5)
    assert found == [Shape((None, 2)), VECTOR, Shape((2,)), Shape((N, 3)), Shape((N, None, 2))]
    with pytest.raises(InferenceError, match="do not fit"):
        infer("ParseExample", *batch, attrs=attrs | {"dense_shapes": (SCALAR,)}, outputs=5)
    single = {name: value for name, value in attrs.items() if name not in ("Nsparse", "Ndense")} | {"num_sparse": 1}
    found = infer("ParseSingleExample", SCALAR, VECTOR, VECTOR, attrs=single, outputs=5)
    assert found == [Shape((None, 1)), VECTOR, Shape((1,)), Shape((3,)), Shape((None, 2))]
    ragged = single | {"ragged_value_types": (DTYPES["int64"],), "ragged_split_types": (DTYPES["int64"],)}
    operands = [VECTOR] * 5
    found = infer("ParseExampleV2", Shape((N,)), *operands, attrs=ragged, outputs=7)
    assert found[3:] == [Shape((N, 3)), Shape((N, None, 2)), VECTOR, Shape((N + 1,))]
    assert infer("ParseExampleV2", UNKNOWN_SHAPE, *operands, attrs=ragged, outputs=7)[3:] == [
        UNKNOWN_SHAPE,
        UNKNOWN_SHAPE,
        VECTOR,
        VECTOR,
    ]


def test_shapes_of_parsed_sequences() -> None:
    attrs = {
        "feature_list_dense_types": (DTYPES["float32"],),
        "feature_list_dense_shapes": (Shape((4,)),),
        "Nfeature_list_dense": 1,
        "Nfeature_list_sparse": 1,
        "feature_list_sparse_types": (DTYPES["int64"],),
        "Ncontext_sparse": 0,
    }
    found = infer("ParseSequenceExample", Shape((N,)), VECTOR, attrs=attrs, outputs=5)
    assert found == [Shape((None, 3)), VECTOR, Shape((3,)), Shape((N, None, 4)), Shape((N,))]


def test_shapes_of_images_and_records() -> None:
    assert infer("DecodeJpeg", SCALAR, attrs={"channels": 3}) == Shape((None, None, 3))
    assert infer("DecodePng", SCALAR, attrs={"channels": 0}) == Shape((None, None, None))
    assert infer("DecodeImage", SCALAR, attrs={"channels": 3}) == UNKNOWN_SHAPE
    assert infer("DecodeImage", SCALAR, attrs={"channels": 3, "expand_animations": False}) == Shape((None, None, 3))
    assert infer("DecodeGif", SCALAR) == Shape((None, None, None, 3))
    assert infer("DecodeAndCropJpeg", SCALAR, np.array([0, 0, 5, 6]), attrs={"channels": 1}) == Shape((5, 6, 1))
    assert infer("EncodePng", Shape((N, 5, 6, 3))) == Shape((N,))
    assert infer("EncodeProto", Shape((N, 2)), Shape((N, 4))) == Shape((N,))
    fields = {"field_names": (b"a", b"b")}
    assert infer("DecodeProtoV2", Shape((N,)), attrs=fields, outputs=3) == [Shape((N, 2)), *[Shape((N, None))] * 2]
    assert infer("DecodeCSV", Shape((N,)), SCALAR, SCALAR, outputs=2) == [Shape((N,))] * 2
    assert infer("ParseTensor", SCALAR) == UNKNOWN_SHAPE


@pytest.mark.parametrize("op", ["tf.ReadFile", "tf.MatchingFiles", "tf.WriteFile"])
def test_what_reads_the_world_is_never_folded(op: str) -> None:
    operator = ops.find(op)
    assert operator is not None
    assert operator.has(Trait.STATEFUL)
    assert operator.evaluate is None
