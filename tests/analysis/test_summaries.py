"""Summaries of a matrix: every count equals NumPy's, and every key moves to the entry that it names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.debugger.models import MODELS, parametrize
from tests.extent import examples
from tui_gru import Session
from tui_gru.analysis.summaries import (
    ValueRange,
    by_size,
    largest_entries,
    limits_of,
    next_saturated_unit,
    saturating,
    summary,
    unit_shares,
)

GATE, STATE = ValueRange(0, 1), ValueRange(-1, 1)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
numbers = arrays(np.float32, shapes, elements=st.floats(-1, 1, width=32))


@settings(max_examples=examples(25, soak=400))
@given(numbers)
def test_counts_are_numpys(values):
    found = summary(values, STATE)
    assert found.low == np.sum(values < -0.8)
    assert found.high == np.sum(values > 0.8)
    assert found.saturated == np.sum(np.abs(values) > 0.8)
    assert found.zero == np.sum(values == 0)
    assert found.near_zero == np.sum(np.abs(values) <= 0.05)
    assert found.counts.sum() == found.entries == found.finite == values.size
    assert (found.counts == np.histogram(values, 24, (-1, 1))[0]).all()
    assert abs(values[found.peak]) == np.abs(values).max()
    assert (found.smallest, found.largest) == (values.min(), values.max())
    flat = values.reshape(-1, values.shape[-1])
    assert found.dead == (np.sum(np.ptp(flat, axis=0) <= 1e-3) if len(flat) > 1 else 0)


@settings(max_examples=examples(25, soak=400))
@given(numbers, st.integers(1, 70))
def test_the_largest_entries_come_in_order(values, count):
    found = [abs(values[at]) for at in largest_entries(values, count)]
    assert found == sorted(np.abs(values).ravel().tolist(), reverse=True)[:count]
    assert len(set(largest_entries(values, count))) == len(found)


def test_what_is_not_a_number_is_said_and_counted_nowhere_else():
    values = np.array([[1.0, np.nan, -3.0], [np.inf, 0.5, 2.0]], np.float32)
    found = summary(values)
    assert (found.entries, found.finite, found.first_bad) == (6, 4, (0, 1))
    assert (found.smallest, found.largest, found.mean) == (-3, 2, 0.125)
    assert found.peak == (1, 0)
    assert largest_entries(values, 9) == [(1, 0), (0, 2), (1, 2), (0, 0), (1, 1)]


def test_nothing_but_nan():
    found = summary(np.full((2, 2), np.nan))
    assert (found.finite, found.peak, found.first_bad) == (0, None, (0, 0))
    assert np.isnan([found.smallest, found.largest, found.mean]).all()
    assert found.counts.sum() == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("values", [[3e38, -3e38], [3e37, 3e37], [0, 0], [1e-44, 1e-44], [1, 1], [1, 1.0000001]])
def test_numbers_of_any_size_have_a_histogram(values, dtype):
    array = np.array([values, values]).astype(dtype)
    found = summary(array)
    assert found.counts.sum() == 4
    assert found.edges[0] <= array.min() <= array.max() <= found.edges[-1]
    assert np.isfinite(found.edges).all()


def test_a_number_and_an_empty_array():
    assert summary(np.array(3.0)).peak == ()
    assert summary(np.empty((0, 4))).entries == 0
    assert summary(np.empty((0, 4))).share(0) == 0


def test_the_next_saturated_unit_and_the_shares_of_each():
    values = np.full((5, 2, 4), 0.5)
    values[..., 1], values[..., 3] = 0.99, 0.01
    values[:3, :, 0] = 0.99
    assert unit_shares(values, GATE).tolist() == [0.6, 1, 0, 1]
    assert [next_saturated_unit(values, GATE, after) for after in (-1, 1, 2, 3)] == [1, 3, 3, 1]
    assert next_saturated_unit(values[..., 2:3], GATE) is None


def test_rows_and_columns_by_size():
    matrix = np.array([[1.0, 0, 0], [0, -5, 0], [2, 0, 4]])
    assert by_size(matrix, 0).tolist() == [1, 2, 0]
    assert by_size(matrix, 1).tolist() == [1, 2, 0]
    assert by_size(np.array([[np.nan, 1.0]]), 1).tolist() == [0, 1]


@parametrize()
def test_limits_are_those_of_the_functions_that_the_equations_have(model):
    session = Session(**model)
    session.learning = True
    session.step("batch", 2)
    program, record = session.program, session.snapshot().record
    for name in saturating(program):
        limits = limits_of(program, name)
        assert (limits.low, limits.high) in {(0, 1), (-1, 1)}
        assert ((record.array(name) >= limits.low) & (record.array(name) <= limits.high)).all()
    for name in (*program.model.page.inputs, *program.parameters, *program.deltas, program.loss_names.prediction):
        assert limits_of(program, name) is None


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gru", {"z": (0, 1), "r": (0, 1), "h_tilde": (-1, 1), "h": (-1, 1)}),
        ("lstm", {"i": (0, 1), "f": (0, 1), "g": (-1, 1), "q": (0, 1), "tanh_c": (-1, 1), "h": (-1, 1)}),
        ("own cell", {"g": (0, 1)}),
    ],
)
def test_limits_of(model, expected):
    program = Session(**MODELS[model]).program
    found = {name: limits_of(program, name) for name in saturating(program)}
    assert {name: (limits.low, limits.high) for name, limits in found.items()} == expected
    if "h" in expected:
        assert limits_of(program, "h_prev") == limits_of(program, "h")
