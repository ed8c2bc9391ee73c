from types import SimpleNamespace

import numpy as np
import pytest

from tui_gru.engine.source import REPLAYED
from tui_gru.tui.panel import View
from tui_gru.tui.panels.time import LossCurve
from tui_gru.tui.plots import LossSeries


def moment_of(losses, number=0, branch="main"):
    return SimpleNamespace(
        losses=np.asarray(losses, float),
        state=SimpleNamespace(branch=branch),
        other=None,
        minus="",
        position=SimpleNamespace(number=number),
        program=SimpleNamespace(knows_loss=True, num_batches=3),
        corpus=SimpleNamespace(text="abcacbbacaacb"),
        config=SimpleNamespace(vocab_size=12, source=REPLAYED, model=SimpleNamespace(is_cross_entropy=True)),
    )


def test_the_series_is_always_that_of_the_snapshot():
    series = LossSeries()
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
        (first[:1490], 1489, "main"),  # not reached yet
        (healed, 1489, "a branch"),
        (first, 1489, "main"),
    ]
    for losses, number, branch in history:
        series.follow(losses, number, branch)
        np.testing.assert_array_equal(series.envelope.values, losses)


def test_new_losses_are_appended_to_the_known_ones():
    series = LossSeries()
    losses = np.sin(np.arange(100_000) * 0.01)
    assert series.follow(losses[:-1], 99_998, "main")
    envelope = series.envelope
    assert series.follow(losses, 99_999, "main")
    assert series.envelope is envelope
    assert not series.follow(losses, 99_999, "main")


def test_the_loss_of_the_epoch_is_in_the_border_and_the_present_batch_marked(content, moment):
    snapshot = moment("sgd")
    drawn = content(LossCurve(), snapshot, 56, 10)
    assert drawn.note == f"mean of epoch 2 so far {snapshot.losses[-1]:.4f}"
    assert drawn.place == "4 batches, 2 epochs"
    assert "▲" in drawn.text
    assert drawn.lines[-1].split() == ["1", "2", "3", "4"]
    assert "⋮" in drawn.text  # the end of the first epoch


def test_the_loss_of_an_epoch_in_the_past_is_that_of_all_its_batches(content):
    losses = np.arange(1, 9) / 10
    for number, note in ((0, "mean of epoch 1 0.2000"), (5, "mean of epoch 2 0.5000"), (6, "mean of epoch 3 so far 0.7500")):
        assert content(LossCurve(), moment_of(losses, number), 56, 10).note == note
    assert content(LossCurve(), moment_of(losses[:3], 3), 56, 10).note == "mean of epoch 1 0.2000"  # before the next batch has one
    assert content(LossCurve(), moment_of([np.inf, -np.inf, 1.0], 2), 56, 10).note == "mean of epoch 1 nan"


def test_a_run_without_epochs_has_its_newest_loss_in_the_border(content):
    snapshot = moment_of([3.0, 2.0], 1)
    snapshot.program.num_batches = 1
    drawn = content(LossCurve(), snapshot, 56, 10)
    assert (drawn.note, drawn.place) == ("newest 2.0000", "2 batches")


@pytest.mark.parametrize("name", ["start", "computed"])
def test_before_the_first_loss_it_says_how_to_get_one(content, moment, name):
    drawn = content(LossCurve(), moment(name), 56, 10)
    assert "no batch finished yet: n runs one" in drawn.text
    assert (drawn.title, drawn.note) == ("loss so far", "")


def test_two_branches_have_two_curves_and_a_legend(content):
    curve = LossCurve()
    first, second = np.linspace(2, 1, 50), np.linspace(1, 2, 60)
    snapshot = moment_of(first, 10, "main~1")
    alone = content(curve, snapshot, 56, 10).text
    snapshot.other = SimpleNamespace(name="main", losses=second)
    drawn = content(curve, snapshot, 56, 10)
    assert "main~1" in drawn.title
    assert {curve.palette.gate, curve.palette.second} <= {segment.style for row in drawn.box.rows for segment in row}
    assert drawn.text != alone
    snapshot.other = None
    assert content(curve, snapshot, 56, 10).text == alone


def test_what_frequencies_would_lose_is_drawn_beside_it(content):
    rows = content(LossCurve(), moment_of(np.linspace(3.0, 0.1, 60)), 76, 18).lines
    named = [next(i for i, row in enumerate(rows) if row.endswith(name)) for name in ("blind guess", "unigram", "bigram")]
    assert named == sorted(set(named))


def test_the_lines_beside_it_have_one_name_at_each_width(content):
    moment = moment_of(np.linspace(3.0, 0.1, 60))
    for width in (76, 30):
        row = next(row for row in content(LossCurve(), moment, width, 18).lines if "blind guess" in row)
        assert row.split("╌ ")[-1] == "blind guess"


def long_run(spike=50.0, at=4321):
    losses = 1 + np.random.default_rng(1).normal(0, 0.05, 6000)
    losses[at] = spike
    return losses


async def test_the_arrows_go_from_batch_to_batch_and_find_the_one_that_stands_out(board):
    curve = LossCurve()
    async with board(curve).run_test(size=(70, 14)) as pilot:
        curve.show(moment_of(long_run(), 5999), View())
        curve.focus()
        await pilot.pause()
        assert curve.pointed is None
        seen = {}
        for _ in range(40):
            await pilot.press("left")
            seen[curve.pointed] = str(curve.border_subtitle)
        assert list(seen) == sorted(seen, reverse=True)
        assert seen[4321] == "loss 50.000 · e1,441 b2 · batch 4,322"  # for any number of batches in its column
        await pilot.press("home")
        assert curve.pointed == 0
        await pilot.press("end")
        assert curve.pointed == 5999
        curve.blur()
        await pilot.pause()
        assert curve.pointed is None
        assert str(curve.border_subtitle).startswith("mean of epoch 2,000 ")


async def test_the_first_key_works_before_the_curve_is_drawn(board):
    curve = LossCurve()
    async with board(curve).run_test(size=(70, 14)) as pilot:
        curve.show(moment_of(np.linspace(3, 1, 50), 49), View())
        curve.action_move(-1)
        assert curve.pointed == 48
        curve.display = False
        await pilot.pause()
        curve.show(moment_of(np.linspace(3, 1, 51), 50), View())
        for pointed in (47, 46):
            curve.action_move(-1)
            assert curve.pointed == pointed


async def test_with_few_batches_every_one_can_be_pointed_at(board):
    curve = LossCurve()
    async with board(curve).run_test(size=(70, 14)) as pilot:
        curve.show(moment_of([3.0, 2.0, 1.5, 1.2], 3), View())
        curve.focus()
        await pilot.press("home")
        seen = [curve.pointed]
        for _ in range(4):
            await pilot.press("right")
            seen.append(curve.pointed)
        assert seen == [0, 1, 2, 3, 3]


async def test_the_mouse_points_at_batches_as_well(board, written):
    curve = LossCurve()
    async with board(curve).run_test(size=(70, 14)) as pilot:
        curve.show(moment_of(long_run(), 5999), View())
        await pilot.pause()
        place = curve.content_region.offset - curve.region.offset
        await pilot.hover(curve, offset=(place.x + written(curve).splitlines()[0].index("↑"), place.y + 3))
        assert curve.pointed == 4321
        assert "loss 50.000" in str(curve.border_subtitle)
        await pilot.hover(offset=(0, 0))
        await pilot.pause()
        assert curve.pointed is None


async def test_a_key_shows_every_batch_on_a_linear_or_logarithmic_axis(board, written):
    curve = LossCurve()
    async with board(curve).run_test(size=(70, 14)) as pilot:
        curve.show(moment_of(long_run(), 5999), View())
        curve.focus()
        await pilot.pause()
        assert "↑50.0" in written(curve)
        for words, top in (("linear", "40┤"), ("logarithmic", "10┤")):
            await pilot.press("comma")
            await pilot.pause()
            assert words in str(curve.border_subtitle)
            assert top in written(curve)
            assert "↑" not in written(curve)
        await pilot.press("comma")
        await pilot.pause()
        assert "↑50.0" in written(curve)


async def test_where_branches_are_compared_the_batch_pointed_at_has_both_losses(board):
    curve = LossCurve()
    snapshot = moment_of([3.0, 2.0, 1.0], 2, "main~1")
    snapshot.other = SimpleNamespace(name="main", losses=np.array([3.0, 2.5]))
    async with board(curve).run_test(size=(70, 14)) as pilot:
        curve.show(snapshot, View())
        curve.focus()
        await pilot.press("home", "right")
        assert str(curve.border_subtitle) == "loss 2.0000 (2.5000 on main) · e1 b2 · batch 2"
        await pilot.press("right")
        assert str(curve.border_subtitle) == "loss 1.0000 · e1 b3 · batch 3"


@pytest.mark.parametrize("height", [1, 2, 3, 6])
def test_a_low_panel_does_not_say_that_no_batch_is_finished(content, moment, height):
    snapshot = moment("sgd")
    assert "no batch finished yet" not in content(LossCurve(), snapshot, 40, height).text
    assert "no batch finished yet" in content(LossCurve(), moment("start"), 40, height).text
    if height < 3:
        assert content(LossCurve(), snapshot, 40, height).text.strip() == f"{snapshot.losses[-1]:.3f}"
