"""Statistics: what is observed, and that shards merge exactly, in any order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.ir.errors import MalformedError, UsageError
from graphopt.ir.model import Function, Model
from graphopt.passes.quantize.histogram import buckets_of, decode, encode
from graphopt.passes.quantize.methods import RangeMethod, range_method
from graphopt.passes.quantize.statistics import RECENT, Collected, Statistics, TensorKey, key_of, merge
from graphopt.passes.quantize.statistics_file import (
    load_statistics,
    read_statistics,
    save_statistics,
    statistics_bytes,
)

ALL = Collected(histogram=True, recent=True, channels=True)
KEY = TensorKey("", "x:0")
ARRAYS = hnp.arrays(np.float32, (2, 3), elements=st.floats(width=32, allow_nan=True, allow_infinity=True))


def observed(arrays: list[np.ndarray], first: int = 0, collected: Collected = ALL) -> Statistics:
    statistics = Statistics(RangeMethod(), collected)
    for number, array in enumerate(arrays, first):
        statistics.begin_sample(number)
        statistics.observe(KEY, array)
    return statistics


def test_minimum_maximum_and_count_leave_out_nan_and_inf() -> None:
    array = np.array([[1, np.nan, -2], [np.inf, -np.inf, 0.5]], np.float32)
    found = observed([array]).tensors[KEY]
    assert (found.minimum, found.maximum, found.count) == (-2, 1, 3)
    assert (found.nans, found.infinities, found.samples) == (1, 2, 1)
    assert found.channel_magnitude is not None
    assert found.channel_magnitude.tolist() == [1.0, 0.5 - np.inf, 2.0]
    assert int(found.histogram.sum()) == 3


def test_channels_are_along_the_last_axis() -> None:
    found = observed([np.array([[1, -5, 0]], np.float32), np.array([[-3, 2, 0]], np.float32)]).tensors[KEY]
    assert found.channel_minimum.tolist() == [-3, -5, 0]
    assert found.channel_maximum.tolist() == [1, 2, 0]
    assert found.channel_magnitude.tolist() == [3, 5, 0]


def test_channels_whose_number_changes_are_given_up() -> None:
    narrow, wide = np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32)
    for arrays in itertools.permutations([narrow, wide, narrow]):
        assert observed(list(arrays)).tensors[KEY].channel_magnitude is None
    parts = [observed([array], place) for place, array in enumerate([narrow, wide, narrow])]
    assert merge(parts).tensors[KEY].channel_magnitude is None


def test_scalars_and_other_floats_are_taken() -> None:
    statistics = observed([np.array(2.5, np.float16), np.array(-1, np.float64)])
    assert (statistics.tensors[KEY].minimum, statistics.tensors[KEY].maximum) == (-1, 2.5)


def test_a_tensor_seen_many_times_in_a_sample_counts_as_one_sample() -> None:
    statistics = Statistics(RangeMethod("ema"))
    statistics.begin_sample(4)
    for value in (1.0, -3.0, 2.0):
        statistics.observe(KEY, np.array([value], np.float32))
    found = statistics.tensors[KEY]
    assert (found.samples, found.count, found.recent) == (1, 3, {4: (-3.0, 2.0)})


def test_recent_ranges_are_those_of_the_last_samples_only() -> None:
    found = observed([np.array([float(place)]) for place in range(RECENT + 5)]).tensors[KEY]
    assert list(found.recent) == list(range(5, RECENT + 5))


@given(st.lists(ARRAYS, min_size=4, max_size=9), st.permutations(range(4)))
def test_shards_merged_in_any_order_equal_one_run(arrays: list[np.ndarray], order: list[int]) -> None:
    whole = statistics_bytes(observed(arrays))
    cuts = [0, 1, 2, 3, len(arrays)]
    shards = [observed(arrays[start:end], start) for start, end in itertools.pairwise(cuts)]
    assert statistics_bytes(merge(shards)) == whole
    shuffled = [shards[place] for place in order]
    assert statistics_bytes(merge(shuffled)) == whole
    nested = merge([merge(shuffled[:2]), merge([merge([shuffled[2]]), shuffled[3]])])
    assert statistics_bytes(nested) == whole


@given(st.lists(ARRAYS, min_size=3, max_size=6))
def test_shards_that_all_start_at_zero_follow_one_another(arrays: list[np.ndarray]) -> None:
    first, second, third = observed(arrays[:1]), observed(arrays[1:2]), observed(arrays[2:])
    whole = statistics_bytes(observed(arrays))
    assert statistics_bytes(merge([first, second, third])) == whole
    assert statistics_bytes(merge([first, merge([second, third])])) == whole


def test_merging_keeps_only_the_recent_samples() -> None:
    arrays = [np.array([float(place)]) for place in range(RECENT + 20)]
    shards = [observed(arrays[:600]), observed(arrays[600:], 600)]
    assert statistics_bytes(merge(shards)) == statistics_bytes(observed(arrays))


def test_merging_leaves_the_shards_alone() -> None:
    shards = [observed([np.ones((1, 2))]), observed([np.full((1, 2), 7.0)], 1)]
    before = [statistics_bytes(shard) for shard in shards]
    merge(shards)
    assert [statistics_bytes(shard) for shard in shards] == before


def test_statistics_of_different_kinds_do_not_merge() -> None:
    with pytest.raises(UsageError, match="with the same method"):
        merge([Statistics(RangeMethod("mse")), Statistics(RangeMethod())])
    with pytest.raises(UsageError, match="no statistics"):
        merge([])


def test_values_are_found_by_function_and_name() -> None:
    model = Model()
    node = model.graph.create_node("tf.Relu", name="relu")
    body = Function("body")
    model.add_function(body)
    inner = body.create_node("tf.Relu", name="relu")
    assert key_of(node.output) == TensorKey("", "relu:0")
    assert str(key_of(inner.output)) == "body/relu:0"
    statistics = Statistics()
    statistics.begin_sample(0)
    statistics.observe(inner.output, np.ones(3, np.float32))
    assert statistics.of(node.output) is None
    assert statistics.of(inner.output) is statistics.find("relu", "body")
    assert len(statistics) == 1


# Histograms ---------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32)))
def test_every_element_lies_in_its_bucket(array: np.ndarray) -> None:
    found = observed([array], collected=Collected(histogram=True)).tensors[KEY]
    buckets = buckets_of(found.histogram, found.minimum, found.maximum)
    assert int(buckets.counts.sum()) == array.size
    assert (buckets.lower <= buckets.upper).all()
    assert (np.diff(buckets.lower) >= 0).all()
    for lower, upper, count in zip(*buckets, strict=True):
        inside = (array >= lower) & (array <= upper) if upper else np.abs(array) < 1e-40
        assert inside.sum() >= count


@given(st.dictionaries(st.integers(0, 0x7F7F), st.integers(1, 1 << 40), max_size=40))
def test_runs_round_trip(counts: dict[int, int]) -> None:
    histogram = np.zeros(1 << 16, np.int64)
    for bucket, count in counts.items():
        histogram[bucket] = count
    assert (decode(encode(histogram)) == histogram).all()


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([[3]], "no counts"),
        ([[5, 1, 1], [6, 1]], "overlaps"),
        ([[65535, 1, 1]], "ends behind"),
        ([[5, -1]], "out of range"),
        ([[0x7F80, 1]], "NaN or Inf"),
    ],
)
def test_malformed_runs_are_refused(runs: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(runs)


# Files --------------------------------------------------------------------------------------------------------


@given(st.lists(ARRAYS, max_size=4), st.sampled_from([Collected(), ALL, Collected(recent=True)]))
def test_files_round_trip(arrays: list[np.ndarray], collected: Collected) -> None:
    data = statistics_bytes(observed(arrays, 3, collected))
    again = read_statistics(data)
    assert statistics_bytes(again) == data
    assert again.collected == collected
    assert again.samples == len(arrays)


def test_saving_and_loading(tmp_path) -> None:
    path = tmp_path / "statistics.json"
    statistics = observed([np.ones((2, 2))])
    save_statistics(statistics, path)
    assert statistics_bytes(load_statistics(path)) == statistics_bytes(statistics)
    with pytest.raises(UsageError, match="exists"):
        save_statistics(statistics, path, overwrite=False)
    with pytest.raises(MalformedError, match="cannot be read"):
        load_statistics(tmp_path / "nothing.json")


GOOD = statistics_bytes(observed([np.ones((1, 2))]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"graphopt.statistics/1", b"graphopt.statistics/9", "not 'graphopt.statistics/1'"),
        (b'"schema"', b'"scheme"', "no schema"),
        (b'"method":{}', b'"method":{"name":"median"}', "Invalid enum value"),
        (b'"count":2', b'"count":-2', "field 'tensors.*count'"),
        (b'"count":2', b'"count":3', "do not add up"),
        (b'"minimum":1.0', b'"minimum":2.0', "above"),
        (b'"minimum":1.0,', b"", "only then"),
        (b'"histogram":[[16256,2]]', b'"histogram":[[16256,2],[1,0]]', "overlaps"),
        (b'"histogram":[[16256,2]],', b"", "what 'collected' says"),
        (b'"spans":[[0,1]]', b'"spans":[[1,0]]', "not in order"),
        (b'"samples":[0]', b'"samples":[0,1]', "'recent' needs"),
        (b'"recent":{"samples":[0],"minimum":[1.0]', b'"recent":{"samples":[0],"minimum":[5.0]', "'recent' is above"),
        (b'"channels":{"minimum":[1.0,1.0]', b'"channels":{"minimum":[1.0]', "minima"),
        (b'"channels":{"minimum":[1.0,1.0]', b'"channels":{"minimum":[1e300,1.0]', "ranges that are none"),
        (b'"tensor":"x:0"', b'"tensor":"x:0","colour":1', "unknown field"),
    ],
)
def test_malformed_files_say_what_is_wrong(old: bytes, new: bytes, message: str) -> None:
    data = GOOD.replace(b'"collected":[]', b'"collected":["histogram","recent","channels"]')
    assert old in data
    with pytest.raises(MalformedError, match=message):
        read_statistics(data.replace(old, new, 1), source="file.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000, GOOD[:-20]])
def test_what_is_no_file_of_statistics_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match=r"file\.json"):
        read_statistics(data, source="file.json")


def test_a_tensor_listed_twice_is_refused() -> None:
    row = GOOD.split(b"\n")[1]
    with pytest.raises(MalformedError, match="twice"):
        read_statistics(GOOD.replace(row, row + b"," + row))


def test_methods_by_name() -> None:
    assert range_method("ema", decay=0.5) == RangeMethod("ema", decay=0.5)
    assert Collected.for_methods(range_method("entropy")) == Collected(histogram=True)
    for arguments, message in (
        ({"method": "median"}, "there are minmax"),
        ({"method": "ema", "decay": 1.0}, "decay"),
        ({"method": "percentile", "percentile": 0.0}, "percentile"),
    ):
        with pytest.raises(UsageError, match=message):
            range_method(**arguments)


def test_means_of_channels_add_up_exactly_and_are_saved(tmp_path) -> None:
    arrays = [np.random.default_rng(place).normal(size=(1, 5, 3)).astype(np.float32) for place in range(6)]
    whole = observed(arrays)
    parts = [observed(arrays[:2]), observed(arrays[2:5], 2), observed(arrays[5:], 5)]
    found = whole.tensors[KEY]
    assert np.allclose(found.channel_mean, np.concatenate(arrays).mean((0, 1)), atol=1e-6)
    for order in itertools.permutations(parts):
        assert np.array_equal(merge(order).tensors[KEY].channel_sum, found.channel_sum)
    save_statistics(whole, tmp_path / "s.json")
    assert np.array_equal(load_statistics(tmp_path / "s.json").tensors[KEY].channel_mean, found.channel_mean)


def test_means_of_channels_that_held_nan_are_not_known() -> None:
    found = observed([np.array([[1, np.nan]], np.float32), np.array([[1, 2]], np.float32)]).tensors[KEY]
    assert found.channel_mean is None
