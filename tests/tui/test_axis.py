"""The axis chosen for given data, and the positions of values on it."""

import numpy as np
import pytest

from tui_gru.tui.plots import BLOCK, Axis, Envelope, Scale, axis_of

rng = np.random.default_rng(3)
NOISY = 1 + rng.normal(0, 0.05, 5000)


def spiked(at=3210, value=40.0):
    losses = NOISY.copy()
    losses[at] = value
    return Envelope(losses)


def test_few_values_are_all_on_a_linear_axis():
    axis = axis_of([Envelope([1.0, 2.0, 300.0])])
    assert (axis.low < 1, axis.high > 300, axis.log) == (True, True, False)


@pytest.mark.parametrize("at", [0, 2 * BLOCK - 1, 3210, 4999])
def test_one_spike_among_thousands_does_not_choose_the_axis(at):
    axis = axis_of([spiked(at)])
    assert axis.high < 1.5
    assert axis.parts(np.array(40.0)) > 1
    down = axis_of([spiked(at, -40.0)])
    assert down.low > 0.5


@pytest.mark.parametrize("scale", [Scale.LINEAR, Scale.LOG])
def test_on_a_key_every_value_is_on_the_axis(scale):
    axis = axis_of([spiked()], scale)
    assert axis.log is (scale is Scale.LOG)
    assert 0 <= axis.parts(np.array(NOISY.min())) < axis.parts(np.array(40.0)) <= 1


def test_losses_that_fall_by_orders_of_magnitude_have_a_logarithmic_axis():
    axis = axis_of([Envelope(3 * np.exp(-np.arange(3000) / 400))])
    assert axis.log
    assert axis.parts(np.array([0.0]))[0] == -np.inf
    assert [name for _, name in axis.ticks(4)] == ["0.01", "0.1", "1"]


def test_a_tail_of_zeros_does_not_stretch_a_logarithmic_axis():
    losses = np.concatenate([np.exp(-np.arange(2000) / 200), np.zeros(5)])
    axis = axis_of([Envelope(losses)], Scale.LOG)
    assert 0 < axis.low < axis.high


def test_a_descent_that_is_no_exception_is_all_on_the_axis():
    losses = 1 + 3 * np.exp(-np.arange(4000) / 200)
    axis = axis_of([Envelope(losses)])
    assert axis.low <= losses.min() < losses.max() <= axis.high


def test_the_scales_go_round():
    assert Scale.AUTO.following is Scale.LINEAR
    assert Scale.LOG.following is Scale.AUTO


@pytest.mark.parametrize("values", [[], [np.nan] * 100, [np.inf]])
def test_without_a_finite_value_it_is_0_to_1(values):
    assert axis_of([Envelope(values)]) == Axis(0.0, 1.0)


@pytest.mark.parametrize("count", [40, BLOCK, 3 * BLOCK + 7, 5000])
def test_the_range_leaves_out_a_twentieth_of_each_window(count):
    losses = np.arange(count) % 100.0
    losses[::100] = -1e6
    losses[7] = np.nan
    span = Envelope(losses).span
    assert (span.low, span.high) == (-1e6, np.nanmax(losses))
    assert 0 < span.typical_low < span.typical_high < np.nanmax(losses)
