"""While a run lasts, the screen shows what the model writes and how far it has come, in the place of what stands still."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tui.test_main_screen import Driver, driving, driving_app
from tui_gru import Session
from tui_gru.engine.numbers import four
from tui_gru.tui.app import make_app
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.listing import Listing, Log
from tui_gru.tui.panels.live import Output, RunSummary
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.time import LossCurve
from tui_gru.tui.panels.values import Gates
from tui_gru.tui.panels.weights import WeightsPanel
from tui_gru.tui.running import GROWTH, growing_step

TEXT = "the cat sat on the mat, the rat sat on the hat; a dog ran by. " * 12
SMALL: dict[str, Any] = {"text": TEXT, "hidden_size": 8, "batch_size": 2, "seq_length": 8}  # 46 batches in an epoch
SIZES = [(160, 50), (120, 36), (80, 24), (40, 12)]


def visible(d: Driver, *kinds: type) -> list[bool]:
    """Whether there is a panel of each kind on the screen."""
    d.screen.draw()
    return [any(panel.region and panel.display for panel in d.screen.query(kind)) for kind in kinds]


def rows(d: Driver) -> list[list[str]]:
    """The rows of what the model writes, each as the batches before it and the rest."""
    panel = d.screen.query_one(Output)
    return [strip.text.split(maxsplit=1) for strip in panel.drawn[1:]]


@pytest.mark.parametrize("size", SIZES)
async def test_a_long_run_shows_what_the_model_writes_until_one_looks_at_something_else(size: tuple[int, int]) -> None:
    async with driving(size, **SMALL) as d:
        assert visible(d, CurrentLine, Output) == [True, False]
        await d.type("3e")
        assert visible(d, CurrentLine, Listing, Output) == [False, False, True]
        assert visible(d, RunSummary) == [size == (160, 50)]
        batches = [row[0] for row in rows(d)]
        assert batches[0] == "0"
        assert batches[-1] == "138"
        assert size < (60, 0) or batches == ["0", "1", "3", "10", "30", "100", "138"]
        assert d.says.startswith("batch 138 writes “the ")
        assert d.says.endswith(" words of the text")
        await d.type("E")
        assert [row[0] for row in rows(d)][-2:] == ["30", "92"]
        await d.type("escape")
        assert visible(d, CurrentLine, Output) == [True, False]
        await d.type("e")
        assert visible(d, CurrentLine, Output) == [False, True]
        await d.type("o")
        assert visible(d, CurrentLine, Output) == [True, False]


async def test_small_screens_have_the_curve_below_and_the_summary_on_the_next_page() -> None:
    async with driving((80, 24), **SMALL) as d:
        await d.type("3e")
        assert visible(d, LossCurve, RunSummary) == [True, False]
        await d.type("v")
        assert visible(d, Output, RunSummary) == [False, True]


async def test_the_summary_says_what_is_overtaken_and_since_when() -> None:
    async with driving(**SMALL) as d:
        await d.type("5e")
        text = " ".join(d.screen.query_one(RunSummary).plain_text().split())
        assert text.startswith("the run 230 batches")
        losses = np.asarray(d.session.snapshot().losses[:])
        first = next(at for at in range(20, 231) if losses[at - 20 : at].mean() < np.log(d.session.config.vocab_size))
        assert f"✓ blind guess {np.log(d.session.config.vocab_size):.2f} {first}" in text
        assert f"loss, mean of 20 {losses[-20:].mean():.2f}" in text
        first_weights = Session(**SMALL).parameter("Wz")
        before, now = (four(float(np.linalg.norm(weights))) for weights in (first_weights, d.session.parameter("Wz")))
        assert f"{before} → {now}" in text
        assert "its first words, by batch" in text


async def test_the_tutorials_run_and_a_short_one_leave_the_screen_as_it_was() -> None:
    async with driving() as d:
        await d.type("l", "30e")
        assert visible(d, CurrentLine, Output) == [True, False]
    async with driving(**SMALL) as d:
        await d.type("3n")
        assert visible(d, CurrentLine, Output) == [True, False]
        await d.type("l", "2e")  # without learning nothing is written
        assert visible(d, CurrentLine, Output) == [True, False]


async def test_models_of_numbers_show_predictions_over_the_targets() -> None:
    t = np.linspace(0, 20, 400)
    session = Session(input=np.sin(t), target=np.cos(t), loss="squared-error", hidden_size=6, batch_size=1, seq_length=40)
    session.learning = True
    async with driving_app(make_app(session)) as d:
        await d.type("4e")
        assert visible(d, CurrentLine, Output) == [False, True]
        panel = d.screen.query_one(Output)
        assert panel.heading == "what it predicts"
        assert any(ord("\u2800") < ord(char) <= ord("\u28ff") for strip in panel.drawn for char in strip.text)


def test_a_thousand_batches_are_played_in_nine_seconds() -> None:
    batches, steps = 0, 0
    while batches < 1000:
        batches += growing_step(batches)
        steps += 1
    assert 8 <= steps / 3 <= 9
    assert growing_step(10**6) == pytest.approx((GROWTH - 1) * 10**6, rel=1e-6)


async def test_play_takes_more_batches_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driving(**SMALL) as d:
        d.screen.play.toggle()
        for _ in range(5):
            d.screen.play.step()
            await d.pilot.pause()
        d.screen.play.pause()
        assert visible(d, Output) == [True]
        assert [row[0] for row in rows(d)][:3] == ["0", "1", "3"]
    async with driving() as d:  # the tutorial's text is played by timesteps
        d.screen.play.toggle()
        d.screen.play.step()
        d.screen.play.pause()
        assert d.where == (0, 0, 0, "forward")


@pytest.mark.parametrize(
    ("keys", "panel"),
    [
        (["s", ":set Wz[M,1] 0.5"], WeightsPanel),
        (["n", ":set text[0] h"], Sequence),
        (["3o", ":set z[row 1, unit 1] 0.5", "v", "u"], Gates),
        ([":break h log {loss}"], Log),
    ],
)
async def test_a_change_turns_to_the_page_that_shows_it(keys: list[str], panel: type) -> None:
    async with driving((80, 24)) as d:
        await d.type(*keys)
        assert visible(d, panel) == [True]
