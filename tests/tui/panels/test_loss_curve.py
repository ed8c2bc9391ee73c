from types import SimpleNamespace

import numpy as np
import pytest

from tui_gru.tui.panels.loss_curve import LossCurve
from tui_gru.tui.view import View


def moment_of(losses, number=0, branch="main"):
    return SimpleNamespace(
        losses=np.asarray(losses, float),
        branch=branch,
        other=None,
        position=SimpleNamespace(number=number),
        program=SimpleNamespace(knows_loss=True, num_batches=3),
        corpus=SimpleNamespace(text="abcacbbacaacb"),
        config=SimpleNamespace(vocab_size=12),
    )


async def test_the_series_is_always_that_of_the_snapshot(board):
    curve = LossCurve()
    first = np.cos(np.arange(3000) * 0.1)
    edited, healed = first.copy(), first.copy()
    edited[1490:1500] = np.nan
    healed[:1000] = 0.5
    history = [
        (first[:0], 0, "main"),
        (first[:1], 0, "main"),
        (first[:700], 699, "main"),
        (first, 2999, "main"),
        (first, 1500, "main"),  # gone back
        (edited, 1490, "main"),  # changed there, the end the same
        (first, 1490, "main"),  # and undone
        (first[:1490], 1489, "main"),  # never run so far
        (healed, 1489, "a branch"),
        (first, 1489, "main"),
    ]
    async with board(curve).run_test(size=(60, 12)):
        for losses, number, branch in history:
            curve.show(moment_of(losses, number, branch), View())
            np.testing.assert_array_equal(curve._series.envelope.values, losses)


async def test_what_goes_on_is_not_taken_over_again(board):
    curve = LossCurve()
    losses = np.sin(np.arange(100_000) * 0.01)
    async with board(curve).run_test(size=(60, 12)):
        curve.show(moment_of(losses[:-1], 99_998), View())
        series = curve._series.envelope
        curve.show(moment_of(losses, 99_999), View())
        assert curve._series.envelope is series
        version = curve._version
        curve.show(moment_of(losses, 99_999), View())
        assert curve._version == version


async def test_the_newest_loss_is_in_the_border_and_the_present_batch_marked(board, moment, written):
    curve, snapshot = LossCurve(), moment("sgd")
    async with board(curve).run_test(size=(60, 12)) as pilot:
        curve.show(snapshot, View())
        await pilot.pause()
        assert str(curve.border_subtitle) == f"{snapshot.losses[-1]:.4f} after 4 batches"
        assert "▲" in written(curve)
        assert written(curve).splitlines()[-1].split() == ["1", "2", "3", "4"]
        assert "⋮" in written(curve)  # the end of the first epoch


@pytest.mark.parametrize("name", ["start", "computed"])
async def test_before_the_first_loss_it_says_how_to_get_one(board, moment, written, name):
    curve = LossCurve()
    async with board(curve).run_test(size=(60, 12)) as pilot:
        curve.show(moment(name), View())
        await pilot.pause()
        assert "no batch finished yet: n runs one" in written(curve)
        assert str(curve.border_title) == "loss so far"
        assert curve.border_subtitle is None


async def test_two_branches_have_two_curves_and_a_legend(board, written):
    curve = LossCurve()
    first, second = np.linspace(2, 1, 50), np.linspace(1, 2, 60)
    snapshot = moment_of(first, 10, "main~1")
    async with board(curve).run_test(size=(60, 12)) as pilot:
        curve.show(snapshot, View())
        await pilot.pause()
        alone = written(curve)
        snapshot.other = SimpleNamespace(name="main", losses=second)
        curve.show(snapshot, View())
        await pilot.pause()
        assert curve._other.envelope.values.tolist() == second.tolist()
        assert "main~1" in curve.border_title
        inks = {segment.style for strip in curve.drawn for segment in strip}
        assert {curve.palette.gate, curve.palette.second} <= inks
        assert written(curve) != alone
        snapshot.other = None
        curve.show(snapshot, View())
        await pilot.pause()
        assert written(curve) == alone


async def test_what_frequencies_would_lose_is_drawn_beside_it(board):
    curve = LossCurve()
    async with board(curve).run_test(size=(80, 20)) as pilot:
        curve.show(moment_of(np.linspace(3.0, 0.1, 60)), View())
        await pilot.pause()
        rows = curve.plain_text().splitlines()
        named = [next(i for i, row in enumerate(rows) if row.endswith(name)) for name in ("log V", "unigram", "bigram")]
        assert named == sorted(set(named))
