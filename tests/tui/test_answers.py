"""Every command that changes or moves something reports its result and the position, on every screen size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.test_main_screen import Driver, driving, driving_app
from tests.tui.test_stopping import command
from tui_gru import Session
from tui_gru.tui.app import make_app
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.panels.time import TimeLine
from tui_gru.tui.panels.weights import WeightsPanel
from tui_gru.tui.session_screen import BottomLine

SIZES = [(160, 50), (120, 36), (80, 24), (40, 12)]


def seen(d: Driver) -> str:
    """Return the text of the answer, or without one of the keys, as they are drawn."""
    bottom = d.screen.query_one(BottomLine)
    last = bottom.size.height - 1
    rows = range(last + bottom.low) if bottom.message else [last]
    return " ".join(" ".join(bottom.render_line(y).text for y in rows).split())


@pytest.mark.parametrize("size", SIZES)
async def test_a_place_is_said_where_one_has_gone_to_it(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await command(d, "go e5")
        assert seen(d) == "at the end of epoch 4: epoch 5 begins with the next line"
        await command(d, "go b2 t1")
        assert seen(d) == "at epoch 4 · batch 2 · t 1 · forward"
        await command(d, "go b3")
        assert seen(d) == "at the end of epoch 4 · batch 2: batch 3 begins with the next line"
        await d.type("m", "a")
        await command(d, "go 0")
        assert seen(d) == "before the first line"
        await d.type(":go a")
        assert "at the end of epoch 4 · batch 2" in seen(d)
        await d.type(":go newest")
        assert "at the end of epoch 4: epoch 5" in seen(d)


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_changed_and_undone_is_said(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("l")
        assert seen(d) == "learning on: batches end with backward and update"
        await d.type("2n")
        was = d.session.parameter("Wz")[3, 0]
        await command(d, "set Wz[3,0] 0.5")
        assert seen(d) == f"Wz[“M”, unit 1] is 0.5, was {was!s}"
        await d.type("N")
        await command(d, "set η 0.1")
        assert seen(d) == "η is 0.1, was 0.01 · on branch main~1; the old future stays on main"
        await command(d, "set lr 0.1")
        assert seen(d) == "learning_rate is 0.1 already"
        await command(d, "set text[3] a")
        assert seen(d) == "text[3] is “a”, was “h”"
        await d.type("u")
        assert seen(d) == "undid text[3] = “a” · U restores it"
        await d.type("u")
        assert seen(d) == "undid η = 0.1: η is 0.01 now · U restores it · on branch main"
        await d.type("U")
        assert seen(d) == "redid η = 0.1: η is 0.1 now · on branch main~1; the old future stays on main"
        await d.type("u")
        await d.type("u")
        assert seen(d).startswith("undid Wz[“M”, unit 1] = 0.5 · U restores it · now at the end of epoch 1 · batch 2")
        await d.type("u")
        kept = "U restores it with the 2 batches after it"
        assert seen(d) == f"undid learning on: learning is off now · {kept} · now before the first line"
        await d.type("U")
        assert seen(d).startswith("redid learning on: learning is on now · now at the end of epoch 1 · batch 2")
        await command(d, "undo")
        await command(d, "undo")
        assert seen(d) == "there is no change to undo"


async def test_an_edit_is_said_before_a_notice_about_the_session(tmp_path: Path) -> None:
    session = Session()
    session.save(tmp_path / "math.tui-gru")
    async with driving_app(make_app(Session.open(tmp_path / "math.tui-gru"))) as d:
        await command(d, "set lr 0.1")
        assert d.says.startswith("η is 0.1, was 0.01; ")
        assert "memory only" in d.says
        await command(d, "set lr 0.1")
        assert d.says == "learning_rate is 0.1 already"


@pytest.mark.parametrize("size", SIZES)
async def test_a_sample_is_seen_where_it_is_asked_for(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("n", "p")
        fed_back, tutorial = (sample.text for sample in d.session.samples)
        shown = f"fed-back “{fed_back}” · tutorial “{tutorial}”"
        panel = d.screen.query_one(Samples)
        assert seen(d) == shown
        assert panel.region
        assert d.session.samples[-1].text in panel.plain_text()
        await command(d, "sample Ma 4 0 fed-back")
        assert seen(d).startswith(f"fed-back “{d.session.samples[-1].text}”")
        assert len(d.session.samples) == 3
        assert d.session.samples[-1].text in panel.plain_text()
        assert panel.region


async def test_the_end_of_a_run_is_said() -> None:
    async with driving() as d:
        d.session.epochs = 2
        await command(d, "go e9")
        assert d.says == "at the end of the run, after epoch 2"


async def test_a_key_that_can_do_nothing_says_why() -> None:
    async with driving() as d:
        d.session.epochs = 2
        for key, said in {
            "u": "there is no change to undo", "U": "there is no change to redo", "E": "before the first line",
            "O": "before the first line",
            "]": "no condition has been searched for yet; t searches for one, m marks a place to go back to",
            "v": "all panels are on this page",
        }.items():  # fmt: skip
            await d.type(key)
            assert seen(d) == said, key
        await d.type("2e")
        await d.type("9e")
        assert seen(d) == "at the end of the run, after epoch 2"


@pytest.mark.parametrize("size", SIZES)
async def test_what_keys_show_is_said(size: tuple[int, int]) -> None:
    """The key of the pages is in the footer where there are several; the row that is singled out, and what the weights panel shows,
    which may be on another page, are said."""
    async with driving(size) as d:
        assert (" v view" in seen(d)) is (d.screen.panels.pages > 1)
        assert seen(d).startswith("o line")
        for said in ("row 1 of 2 is singled out", "row 2 of 2 is singled out", "no row is singled out"):
            await d.type("r")
            assert seen(d) == said
        await d.type("a", "x")
        assert seen(d) == f"weights panel: {d.screen.query_one(WeightsPanel).mode}"


async def test_a_warning_is_not_hidden_by_an_answer() -> None:
    async with driving(learning_rate=3e38) as d:
        await d.type("l")
        for what in ("the largest weight grew", "the loss grew", "not finite"):
            await command(d, "go e9")
            assert what in d.says
        assert d.screen.query_one(BottomLine).warning
        await d.type("l")
        assert not d.screen.query_one(BottomLine).warning


async def test_an_update_is_called_sgd_only_where_it_is() -> None:
    for optimizer, words in (("sgd", "an SGD step: "), ("adam", "a step of the optimizer: ")):
        async with driving(optimizer=optimizer) as d:
            await d.type("n", "a")
            assert d.says.startswith(words)


@pytest.mark.parametrize("size", SIZES)
async def test_steps_searches_and_branches_answer(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("n", "a")
        steps = {name: d.session.snapshot().last_step(name) for name in d.session.program.parameters}
        most = max(steps, key=lambda name: abs(steps[name]).max())  # type: ignore[arg-type, union-attr]
        assert seen(d).startswith(f"an SGD step: {d.session.program.writer.name(most)}[")
        await d.type("l", "9n", ":go newest")
        await command(d, "back loss < 9")
        assert seen(d).startswith("loss < 9 holds at epoch")
        await d.type("[")
        assert seen(d).startswith("loss < 9 holds at epoch")
        await command(d, "set η 0.5")
        await command(d, "branch main")
        assert seen(d).startswith("on branch main · at ")
        await command(d, "rename main~1 warmer")
        assert seen(d) == "renamed main~1 to warmer"
        await command(d, "theme whiteboard")
        assert seen(d) == "the theme is whiteboard"


@pytest.mark.parametrize("size", [(160, 50), (80, 24)])
async def test_the_keys_stay_under_an_answer_which_leaves_with_the_next_key(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        bottom = d.screen.query_one(BottomLine)
        await command(d, "go e5")
        rows = [bottom.render_line(y).text for y in range(bottom.size.height)]
        assert rows[0].startswith(" at the end of epoch 4")
        assert rows[-1].startswith(" o line")
        await d.type("o")
        assert "at the end of epoch 4" not in bottom.render_line(0).text
        assert bottom.render_line(bottom.size.height - 1).text.startswith(" o line")


async def test_what_a_page_has_is_said_without_covering_it() -> None:
    async with driving((80, 24)) as d:
        await d.type("v")
        bottom, panels = d.screen.query_one(BottomLine), [panel for panel in d.screen.query(Panel) if panel.region]
        assert "page 2 of 3" in bottom.render_line(0).text
        below = max(panel.region.bottom for panel in panels if not isinstance(panel, TimeLine))
        assert bottom.region.y >= below
