"""FlexBuffers of attributes read back as what was put in."""

from __future__ import annotations

import math
from typing import Any

from flatbuffers import flexbuffers
from hypothesis import given
from hypothesis import strategies as st

from graphopt.backends.tflite.custom import custom_options
from graphopt.ir.formats.tflite.element_types import NUMBERS
from graphopt.ir.tensors import tensor
from graphopt.ir.types import FLOAT32, INT64, STRING, Shape

names = st.text("abcdefgh_", min_size=1, max_size=8)
integers = st.integers(-(1 << 63), (1 << 63) - 1)
floats = st.floats(width=32, allow_nan=False)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=6).map(str.encode)
scalars = st.one_of(st.booleans(), integers, floats, texts, st.sampled_from([FLOAT32, INT64, STRING]))
lists = st.one_of(*(st.lists(items, min_size=1, max_size=5).map(tuple) for items in (integers, floats, texts)))


def as_read(value: Any) -> Any:
    """What a FlexBuffer gives back."""
    if isinstance(value, tuple):
        return [as_read(item) for item in value]
    return value.decode() if isinstance(value, bytes) else NUMBERS.get(value, value)


@given(st.dictionaries(names, st.one_of(scalars, lists), max_size=6))
def test_what_is_put_in_comes_out(attrs: dict[str, Any]) -> None:
    found = flexbuffers.Loads(bytearray(custom_options(attrs)))
    assert found == {key: as_read(value) for key, value in attrs.items()}
    assert custom_options(dict(attrs)) == custom_options(attrs)


@given(names, st.one_of(st.none(), st.just(()), st.just((True, False)), st.just(Shape([1, 2])), st.just(tensor([1.0]))))
def test_what_has_no_form_is_left_out(name: str, value: Any) -> None:
    assert flexbuffers.Loads(bytearray(custom_options({name: value, "kept": 1}))) == {"kept": 1}


def test_numbers_that_are_none_are_kept() -> None:
    assert math.isnan(flexbuffers.Loads(bytearray(custom_options({"x": math.nan})))["x"])
