"""Two branches on the main screen: both losses, and one minus the other in every matrix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

from tui_gru.engine import numbers
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.tui.app import TuiGruApp
from tui_gru.tui.headless import headless, until_idle
from tui_gru.tui.keys import execute
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.lists import BranchesApart
from tui_gru.tui.panels.story import RunsCompared
from tui_gru.tui.panels.time import Header, LossCurve
from tui_gru.tui.panels.values import Gates, LossTerms, Softmax, ValueMatrix
from tui_gru.tui.panels.weights import Overview
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.terminal import drawn_once
from tui_gru.tui.theme import ASCII, UNICODE, Glyphs


def forked(**options: Any) -> Session:
    """Return a session with two branches of 12 batches, at ŷ of t 2 in batch 9 of the one whose weight was changed after batch
    5."""
    session = Session(**options)
    session.learning = True
    session.step("batch", 12)
    session.seek(5 * session.program.ticks)
    session.edit("Wh", (3, 0), -1.5)
    session.step("batch", 7)
    predicted = session.program.tick_of("y_hat", 1)
    assert predicted is not None
    session.seek(8 * session.program.ticks + predicted)
    return session


def app_of(session: Session, glyphs: Glyphs = UNICODE) -> TuiGruApp:
    return TuiGruApp(session, glyphs=glyphs)


class Eye:
    """Reads the panels of a session with two branches."""

    def __init__(self, pilot: Pilot[None], screen: MainScreen) -> None:
        self.pilot, self.screen, self.session = pilot, screen, screen.session

    async def press(self, *keys: str) -> None:
        with drawn_once(self.pilot.app):
            for key in keys:
                await self.pilot.press(key)
                await until_idle(self.pilot)
        await self.pilot.pause()

    async def order(self, command: str) -> None:
        execute(self.screen, command)
        await until_idle(self.pilot)
        await self.pilot.pause()

    def written(self, panel: Panel) -> str:
        panel.render_line(0)
        return "\n".join(strip.text for strip in panel.drawn)

    def panel(self, kind: type[Panel]) -> str:
        return self.written(self.screen.query_one(kind))

    def gate(self, name: str) -> ValueMatrix:
        return next(m for m in self.screen.query_one(Gates).query(ValueMatrix) if m.value_name == name)

    @property
    def matrices(self) -> list[str]:
        return [self.written(p) for p in (*self.screen.query(ValueMatrix), *self.screen.query("LossTerms, Softmax, Overview"))]  # type: ignore[arg-type]

    @property
    def header(self) -> str:
        return self.screen.query_one(Header).render_line(0).text

    @property
    def says(self) -> str:
        return self.screen.query_one(BottomLine).message

    @property
    def legend(self) -> str:
        return self.screen.query_one(LossCurve).heading


@asynccontextmanager
async def looking(session: Session | None = None, size: tuple[int, int] = (160, 50)) -> AsyncIterator[Eye]:
    app = app_of(session or forked())
    async with headless(app, size) as pilot:
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, MainScreen)
        yield Eye(pilot, screen)


async def test_the_key_goes_round_differences_values_and_neither() -> None:
    async with looking() as eye:
        before, work = eye.matrices, eye.panel(CurrentLine)
        assert "compared" not in eye.header
        assert eye.legend == "loss so far"
        await eye.press("equals_sign")
        assert eye.session.state.comparing == "main"
        assert all(shown != were for shown, were in zip(eye.matrices, before, strict=True))
        assert "compared with main" in eye.header
        assert eye.legend == "loss  ─ main~1  ⋯ main"
        assert eye.panel(CurrentLine) == work
        await eye.press("equals_sign")
        assert eye.matrices == before
        assert "compared with main" in eye.header
        assert eye.legend == "loss  ─ main~1  ⋯ main"
        await eye.press("equals_sign")
        assert isinstance(eye.screen.overlay, BranchesApart)
        await eye.press("equals_sign")
        assert eye.matrices == before
        assert eye.session.state.comparing is None
        assert "compared" not in eye.header
        assert eye.legend == "loss so far"


async def test_every_matrix_shows_this_branch_minus_the_other() -> None:
    async with looking() as eye:
        session = eye.session
        names = ("z", "h", "y_hat", "term1", "Wz")
        here, tick = {name: session.value(name) for name in names}, session.position.tick
        await eye.order("compare main")
        session.switch("main")
        assert session.position.tick == tick
        d = {name: np.subtract(here[name], session.value(name), dtype=float) for name in names if here[name] is not None}
        session.switch("main~1")
        for name in ("z", "h"):
            shown = eye.written(eye.gate(name))
            assert all(numbers.wide(x).strip() in shown for x in d[name].ravel())
            assert str(eye.gate(name).border_title) == f"→ {name} − {name} main"
            assert eye.gate(name).kind == "signed"
        assert all(numbers.wide(x).strip() in eye.panel(Softmax) for x in d["y_hat"].ravel())
        assert all(numbers.wide(x).strip() in eye.panel(Overview) for x in d["Wz"].ravel())
        assert eye.screen.query_one(Softmax).heading == "ŷ − ŷ main"
        assert eye.screen.query_one(Overview).heading == "weights − main"
        assert eye.screen.query_one(LossTerms).heading == "terms of the loss − main"


async def test_the_exact_difference_is_under_the_cursor() -> None:
    async with looking() as eye:
        await eye.press("equals_sign")
        gate = eye.gate("z")
        gate.focus()
        await eye.press("down")
        assert gate.values is not None
        assert gate.values.dtype == np.float64
        assert str(gate.border_subtitle) in (
            f"row 2, unit 1 = {numbers.exact(gate.values[1, 0])}",
            numbers.exact(gate.values[1, 0]),
        )


async def test_commands_name_the_branch_and_end_it() -> None:
    async with looking() as eye:
        with pytest.raises(TuiGruError, match="there is no branch 'nowhere'"):
            await eye.order("compare nowhere")
        await eye.order("compare main")
        assert "main~1 minus main" in eye.says
        await eye.press("equals_sign")
        await eye.order("compare main")  # named again, it shows differences again
        assert eye.screen.view.differences
        await eye.order("compare off")
        assert eye.session.state.comparing is None
        await eye.order("compare")
        assert eye.session.state.comparing == "main"


async def test_with_one_branch_the_key_says_why_not() -> None:
    async with looking(Session()) as eye:
        await eye.press("equals_sign")
        assert "only this branch" in eye.says
        assert eye.session.state.comparing is None


async def test_switching_turns_the_signs_round() -> None:
    async with looking() as eye:
        await eye.press("equals_sign")
        values = eye.gate("z").values
        await eye.order("branch main")
        assert "compared with main~1" in eye.header
        assert values is not None
        assert eye.gate("z").values is not None
        np.testing.assert_array_equal(eye.gate("z").values, -values)
        assert eye.legend == "loss  ─ main  ⋯ main~1"


async def test_a_branch_that_is_deleted_or_undone_is_compared_with_no_more() -> None:
    async with looking() as eye:
        before = eye.matrices
        await eye.press("equals_sign")
        await eye.order("branch main")
        eye.session.delete_branch("main~1")
        eye.screen.show_now()
        await eye.pilot.pause()
        assert "compared" not in eye.header
        assert str(eye.gate("z").border_title) == "→ z  update"
        assert eye.legend == "loss so far"
    async with looking() as eye:
        await eye.press("equals_sign", "u")
        assert "compared" not in eye.header
        await eye.press("U")
        assert "compared with main" in eye.header
        assert eye.matrices != before


async def test_beyond_the_other_branch_s_end_there_are_dots_and_it_is_said() -> None:
    session = forked()
    session.seek(12 * session.program.ticks)
    session.step("timestep", 1)
    async with looking(session) as eye:
        await eye.press("equals_sign")
        assert "main has not reached this batch" in eye.says
        assert "main has not come this far" in eye.header
        assert not any(digit in eye.written(eye.gate("z")) for digit in "0123456789")


@pytest.mark.parametrize("size", [(160, 50), (120, 36), (80, 24), (40, 12), (10, 3)])
async def test_every_size_compares(size: tuple[int, int]) -> None:
    async with looking(size=size) as eye:
        await eye.press("equals_sign", "o", "v", "n", "v", "o", "equals_sign", "s", "equals_sign", "equals_sign", "o")
        assert eye.session.state.comparing is None


async def test_a_large_model_compares_as_well() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 12
    session = forked(text=text, hidden_size=24, batch_size=4, seq_length=8)
    async with looking(session) as eye:
        await eye.press("equals_sign", "x")
        assert "that differ most of" in str(eye.screen.query_one(Softmax).border_subtitle)
        assert eye.gate("h").values is not None


def test_picture(snap_compare: Any) -> None:
    assert snap_compare(app_of(compared()), terminal_size=(160, 50))


def test_texts(snap_text: Any) -> None:
    snap_text(app_of(compared()), press=("equals_sign",), terminal_size=(160, 50))
    session = forked()
    session.compare("main")
    snap_text(app_of(session, ASCII), terminal_size=(120, 36))


def compared() -> Session:
    session = forked()
    session.mark("k")
    session.compare("main")
    return session


async def test_it_says_where_the_branches_first_differ_and_every_panel_whose_values_it_shows() -> None:
    async with looking() as eye:
        await eye.press("equals_sign")
        assert "first differ at e2 b2 update: Wh[“M”, unit 1]" in eye.says
        titles = {type(panel).__name__: str(panel.border_title) for panel in eye.screen.query(Panel) if panel.region}
        for name, title in titles.items():
            assert "main" in title or name in ("Header", "Listing", "Samples", "TimeLine"), (name, title)
        assert "main~1 alone" in titles["CurrentLine"]
        assert "main~1 alone" in titles["Sequence"]
        await eye.press("equals_sign", "equals_sign")
        assert not any("alone" in str(panel.border_title) for panel in eye.screen.query(Panel))


async def test_before_they_part_the_top_line_says_that_they_are_the_same() -> None:
    session = forked()
    session.seek(4 * session.program.ticks)
    async with looking(session) as eye:
        await eye.press("equals_sign")
        assert "the same as main so far" in eye.header


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (40, 12)])
async def test_how_two_branches_differ_is_a_report_from_which_one_goes_there(size: tuple[int, int]) -> None:
    async with looking(size=size) as eye:
        await eye.order("apart main")
        report = eye.screen.overlay
        assert isinstance(report, BranchesApart)
        shown = " ".join(report.plain_text().split())
        for words in ("main~1 beside main", "first difference", "Wh[“M”, unit 1]", "ah[row 1, unit 1]", "difference, e2 b3"):
            assert words in shown
        assert report.comparison.samples is not None
        assert report.comparison.samples.theirs in shown
        await eye.press("down", "enter")
        assert eye.screen.overlay is None
        assert eye.screen.snapshot.line is not None
        assert eye.screen.snapshot.line.target == "h_tilde"
        await eye.press("J", "a")
        assert isinstance(eye.screen.overlay, BranchesApart)


async def test_losses_that_do_not_differ_yet_are_not_a_largest_difference() -> None:
    session = Session()
    session.learning = True
    session.step("batch", 2)
    session.seek(session.program.ticks)  # the end of the first batch
    session.edit("Wz", (0, 1), 0.5)
    async with looking(session, size=(80, 24)) as eye:
        await eye.order("apart main")
        shown = eye.screen.overlay.plain_text()
        assert "first difference" in shown
        assert "the losses of all batches that both have run are the same" in shown
        assert "largest difference" not in shown


async def test_another_run_is_compared_whatever_its_sizes(tmp_path: Path) -> None:
    other = Session(text="the cat sat on the mat " * 9, hidden_size=7, batch_size=3, seq_length=5)
    other.learning = True
    other.step("epoch", 2)
    other.save(tmp_path / "cat.tui-gru")
    before = (tmp_path / "cat.tui-gru").read_bytes()
    session = forked()
    app = app_of(session)
    async with headless(app, (160, 50)) as pilot:
        assert app.main is not None
        eye = Eye(pilot, app.main)
        await eye.order(f"compare {tmp_path / 'cat.tui-gru'}")
        panel = eye.screen.overlay
        assert isinstance(panel, RunsCompared)
        assert panel.compared.differing == session.compared(other, ("this run", "cat")).differing
        text = panel.plain_text()
        assert text.startswith("this run beside cat")
        for name, mine, theirs in panel.compared.differing:
            assert any(line.split() == [*name.split(), *mine.split(), *theirs.split()] for line in text.splitlines()), name
        for samples, at in ((panel.compared.samples, 0), (panel.compared.samples, 1)):
            assert samples[-1][at][1].replace(" ", "␣") in text.replace(" ", "␣")
        assert "findings of this run alone" in text
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "hidden-size" in panel.plain_text()
        assert session.state.comparing is None
        await eye.press("escape")
        await eye.order("compare main")  # a branch
        assert session.state.comparing == "main"
    assert (tmp_path / "cat.tui-gru").read_bytes() == before


async def test_what_is_neither_a_branch_nor_a_run_is_refused() -> None:
    app = app_of(forked())
    async with headless(app, (120, 36)):
        assert app.main is not None
        for name in ("nowhere", "x" * 5000, "last"):  # too long for the name of a file; no session has been saved
            with pytest.raises(TuiGruError, match=f"there is no branch '{name[:20]}"):
                execute(app.main, f"compare {name}")
