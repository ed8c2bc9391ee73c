import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_gru.tui.plots import BLOCK, Envelope

values = st.lists(st.floats(width=32), max_size=60)


def slowly(series, edges):
    """Compute in a loop what `columns` promises."""
    for start, end in itertools.pairwise(edges):
        part = np.array(series[int(np.ceil(start)) : int(np.ceil(end))], dtype=float)
        finite = part[np.isfinite(part)]
        yield (finite.min(), finite.max()) if len(finite) else (np.nan, np.nan), len(finite) < len(part)


@given(values, st.lists(st.floats(0, 60), min_size=2, max_size=12).map(sorted))
def test_columns_hold_the_extremes_between_edges(series, edges):
    columns = Envelope(series).columns(np.array(edges))
    for low, high, broken, (extremes, bad) in zip(*columns, slowly(series, edges), strict=True):
        np.testing.assert_array_equal((low, high), extremes)
        assert broken == bad


@given(st.lists(st.integers(0, 3 * BLOCK), min_size=1, max_size=6), st.integers(1, 8))
def test_growing_piece_by_piece_is_the_same_as_at_once(sizes, count):
    series = np.cos(np.arange(sum(sizes)) * 0.7)
    series[5::97] = np.nan
    grown = Envelope()
    for end in np.cumsum(sizes):
        grown.follow(series[:end])
    edges = np.linspace(0, len(series), count + 1)
    for one, other in zip(grown.columns(edges), Envelope(series).columns(edges), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_spike_one_point_wide_survives_a_million():
    series = np.zeros(1_000_000)
    series[654_321] = 9
    series[123_456] = np.nan
    low, high, broken = Envelope(series).columns(np.linspace(0, len(series), 101))
    assert np.flatnonzero(high == 9).tolist() == [65]
    assert np.flatnonzero(broken).tolist() == [12]
    assert not low.any()


def test_another_that_parts_from_it_is_followed():
    series = Envelope(np.ones(3 * BLOCK))
    other = np.repeat([1.0, 2.0], (BLOCK + 10, 3 * BLOCK))
    series.follow(other[: BLOCK + 10])
    series.follow(other)
    assert len(series) == 4 * BLOCK + 10
    low, high, _ = series.columns(np.array([0, BLOCK + 10, len(series)]))
    assert low.tolist() == [1, 2]
    assert high.tolist() == [1, 2]
    low, high, _ = series.columns(np.linspace(0, len(series), 2))
    assert (low.item(), high.item()) == (1, 2)


def test_following_one_at_a_time():
    series, values = Envelope(), np.arange(1000.0)
    for count in range(1000):
        series.follow(values[: count + 1])
    np.testing.assert_array_equal(series.values, values)
    low, high, _ = series.columns(np.array([0, 300, 1000]))
    assert (low.tolist(), high.tolist()) == ([0, 300], [299, 999])


class Watched:
    """A long series that records which of its numbers are read."""

    def __init__(self, count):
        self.count, self.read = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, part):
        at = np.arange(*part.indices(self.count))
        self.read += len(at)
        return np.cos(at * 0.01)


def test_a_series_is_read_once_and_then_only_where_it_has_grown():
    series = Watched(1_000_000)
    envelope = Envelope(series)
    assert series.read <= 1_000_000
    series.read, series.count = 0, 1_000_300
    envelope.follow(series)
    low, high, _ = envelope.columns(np.linspace(0, len(series), 101))
    assert series.read <= 2 * BLOCK
    assert (low < -0.99).all()
    assert (high > 0.99).all()


@given(st.lists(st.floats(width=32), min_size=1, max_size=60), st.lists(st.floats(0, 60), min_size=2, max_size=12).map(sorted))
def test_means_are_of_the_finite_values_between_edges(series, edges):
    means = Envelope(series).means(np.array(edges), lambda values: np.clip(values, -5, 5))
    for mean, start, end in zip(means, *zip(*itertools.pairwise(edges), strict=True), strict=True):
        part = np.clip(np.array(series[int(np.ceil(start)) : int(np.ceil(end))]), -5, 5)
        part = part[~np.isnan(part)]
        np.testing.assert_allclose(mean, part.mean() if len(part) else np.nan, atol=1e-12)


def test_the_furthest_value_is_found_among_what_is_not_finite():
    series = Envelope([np.nan, 1.0, 9.0, np.inf, -3.0])
    assert (series.furthest(0, 5, 1), series.furthest(0, 5, -1), series.furthest(0, 1, 1)) == (2, 4, 0)


@pytest.mark.parametrize("cycle", [2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("count", [20_000, 100_000, 1_000_000])
def test_the_mean_of_many_points_does_not_fall_in_with_a_cycle_of_batches(cycle, count):
    series = Envelope(np.arange(count) % cycle * 1.0)
    means = series.means(np.linspace(0, count, 101), lambda values: values)
    whole = count / 100 < 8 * BLOCK
    np.testing.assert_allclose(means, (cycle - 1) / 2, atol=0.2 * cycle if whole else 0.5)
    assert (series.span.typical_low, series.span.typical_high) == (0, cycle - 1)
