"""Breakpoints, watches, marks and continue on the main screen, driven by keys."""

from __future__ import annotations

from functools import partial

import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.debugger.stops import Breakpoint, Watch
from tui_gru.session.session import Session
from tui_gru.tui import changing as stops
from tui_gru.tui import moving as stepping
from tui_gru.tui.command import CommandLine
from tui_gru.tui.headless import until_idle
from tui_gru.tui.keys import NO_ARGUMENTS, Arguments, Step
from tui_gru.tui.panels.listing import Listing, Log, Watches
from tui_gru.tui.panels.lists import StopsList
from tui_gru.tui.running import RunProgress
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.verbs import BY_ID


async def command(d: Driver, text: str) -> None:
    """Enter a command."""
    await d.type(f":{text}")


def target(d: Driver) -> str:
    line = d.session.position.line
    return "" if line is None else line.target


async def test_b_breaks_on_the_line_at_work_and_c_runs_to_it() -> None:
    async with driving() as d:
        await d.type("b")
        assert "no line" in d.says
        assert d.session.stops.breakpoints == ()
        await d.type("o", "o", "o", "b")
        assert d.session.stops.breakpoints == (Breakpoint(1, "h_tilde"),)
        assert "h̃" in d.says
        await d.type("c")
        assert (target(d), d.where) == ("h_tilde", (0, 0, 1, "forward"))
        assert "stopped" in d.says
        await d.type("2", "c")
        assert (target(d), d.where) == ("h_tilde", (0, 1, 0, "forward"))
        await d.type("C", "C")
        assert d.where == (0, 0, 1, "forward")
        await d.type("b")
        assert d.session.stops.breakpoints == ()
        assert ":break h_tilde" in d.says
        await d.type("C")
        assert d.session.position.tick == 0
        assert "beginning" in d.says


async def test_b_on_a_line_with_a_condition_opens_the_list_at_it() -> None:
    async with driving() as d:
        await command(d, "break loss")
        await command(d, "break h if any(h > 0.9)")
        await d.type("4", "o", "b")
        assert len(d.session.stops.breakpoints) == 2
        shown = d.screen.query_one(StopsList)
        assert shown.chosen == Breakpoint(2, "h", condition="any(h > 0.9)")
        assert "d deletes it" in d.says


async def test_a_stop_on_a_condition_says_why() -> None:
    async with driving() as d:
        d.session.epochs = 30
        await command(d, "break h if any(h > 0.9)")
        await d.type("l", "c")
        assert target(d) == "h"
        assert (d.session.value("h") > 0.9).any()
        assert "stopped" in d.says
        assert "h > 0.9" in d.says


async def test_continue_to_the_end_of_a_run_that_nothing_stops_says_so() -> None:
    async with driving() as d:
        d.session.epochs = 2
        await command(d, "break if loss < 0")
        await d.type("c")
        assert d.session.position == d.session.end
        assert d.says == "reached the end; no breakpoint was hit"


async def test_every_place_of_go_is_reached_past_breakpoints_and_watches() -> None:
    async with driving() as d:
        d.session.epochs = 2
        await d.type("l", ":break h", ":watch max(abs(h)) stop")
        for place, tick in (("+40", 40), ("+1e", 306), ("-2b", 102), ("e2", 306), ("25%", 153)):
            await command(d, f"go {place}")
            assert (place, d.session.position.tick) == (place, tick)
            assert d.says.startswith("at ")
        await command(d, "go +9e")
        assert d.says == "at the end of the run, after epoch 2"
        await command(d, "go -9e")
        assert d.says == "before the first line"
        await command(d, "jump '")
        assert d.session.position == d.session.end
        await d.type("N")
        assert "stopped" in d.says


async def test_brackets_go_to_matches_of_the_last_condition_and_are_dim_before_there_is_one() -> None:
    async with driving() as d:
        assert not BY_ID["match.next"].applies(d.screen)
        await d.type("]")
        assert d.session.position.tick == 0
        assert d.says == "no condition has been searched for yet; t searches for one, m marks a place to go back to"
        await command(d, "until t == 2")
        assert BY_ID["match.next"].applies(d.screen)
        first = d.session.position
        await d.type("]", "]")
        assert d.session.position.number == first.number + 2
        await d.type("[")
        assert d.session.position.number == first.number + 1
        await d.type("2", "[")
        assert d.session.position.tick == 0
        assert d.says == "'t == 2' did not hold before"


async def test_a_mark_takes_any_letter_whatever_its_key_does() -> None:
    async with driving() as d:
        for letter in "aqscmQN":
            d.session.seek(0)
            await mark_and_return(d, letter)
            d.session.delete_mark(letter)


async def mark_and_return(d: Driver, letter: str) -> None:
    """Mark a place with a letter, go on, and return."""
    await d.type("n", "s", "m")
    assert d.screen.query_one(BottomLine).prefix == "m"
    assert "letter" in d.says
    await d.type(letter)
    place = d.session.position
    assert [(mark.letter, mark.tick) for mark in d.session.marks] == [(letter, place.tick)]
    assert d.says == f"{letter} marks e1 b2 t1 · :mark {letter} TEXT adds a text that is shown here"
    assert d.screen.query_one(BottomLine).prefix == ""
    await d.type("3", "n")
    await command(d, f"go {letter}")
    assert d.session.position == place
    await command(d, "go '")
    assert d.session.position.number == 3


async def test_what_is_no_letter_marks_nothing_and_escape_forgets() -> None:
    async with driving() as d:
        await d.type("s", "m", "5")
        assert "letter" in d.says
        await d.type("s")
        assert d.where == (0, 0, 1, "forward")  # the 5 was not a count
        await d.type("m", "escape")
        assert (d.says, d.screen.query_one(BottomLine).prefix) == ("", "")
        await d.type("a")
        await command(d, "jump x")
        assert "no mark x" in d.says
        await d.type("m", "enter", "n")
        assert d.session.marks == ()
        assert d.where == (0, 1, 2, "loss")


async def test_w_watches_and_the_panel_is_there_while_something_is_watched() -> None:
    async with driving() as d:
        assert not d.screen.query(Watches)
        await d.type("w", *"loss", "space", *"stop", "enter")
        assert d.session.stops.watches == (Watch(1, "loss", stops=True),)
        await d.pilot.pause()
        panel = d.screen.query_one(Watches)
        assert panel.region.height == 3
        assert panel.region.bottom == d.screen.query_one("#body").region.bottom
        await d.type("l", "c")
        assert target(d) == "loss"
        assert d.session.position.number == 1  # the first loss does not count as changed
        assert "→" in panel.render_line(0).text
        await command(d, "disable 1")
        await d.pilot.pause()
        assert not panel.display
        await command(d, "enable 1")
        await d.pilot.pause()
        assert panel.display


async def test_a_log_point_writes_and_does_not_stop() -> None:
    async with driving() as d:
        d.session.epochs = 1
        assert not d.screen.query(Log)
        await command(d, "break loss log loss {loss:.4f}")
        await d.pilot.pause()
        assert d.screen.query_one(Log).region.height == 3
        await d.type("c")
        assert d.session.position == d.session.end
        for _ in range(3):
            await d.pilot.pause()
        log = d.screen.query_one(Log)
        assert log.region.height == 5
        assert [log.render_line(y).text.split()[:4] for y in range(2)] == [["e1", "b1", "t3", "loss"], ["e1", "b2", "t3", "loss"]]
        assert "1.2602" in log.render_line(0).text


async def test_a_click_beside_a_line_sets_and_deletes_its_breakpoint() -> None:
    async with driving() as d:
        for expected in ((Breakpoint(1, "z"),), ()):
            await d.pilot.click(Listing, offset=(2, 1 + 4))
            await d.pilot.pause()
            assert d.session.stops.breakpoints == expected
            assert d.session.position.tick == 0
        await d.pilot.click(Listing, offset=(12, 1 + 4))
        await d.pilot.pause()
        assert target(d) == "z"


async def test_the_list_enables_edits_and_deletes() -> None:
    async with driving() as d:
        for text in ("break h if any(h > 0.9)", "watch loss", "mark a"):
            await command(d, text)
        await d.type("3", "n", "B")
        shown = d.screen.query_one(StopsList)
        assert d.screen.focused is shown
        await d.type("space")
        assert d.session.stops.breakpoints[0].enabled is False
        await d.type("e")
        line = d.screen.query_one(CommandLine)
        assert line.value == "break #1 h if any(h > 0.9)"
        await d.type("backspace", "escape")
        assert d.screen.focused is shown
        await d.type("enter", *["backspace"] * 4, *"0.5)", "enter")
        assert d.session.stops.breakpoints == (Breakpoint(1, "h", condition="any(h > 0.5)", enabled=False),)
        await d.type("down", "e")
        assert line.value == "watch #2 loss"
        await d.type("escape", "d")
        assert d.session.stops.watches == ()
        assert "watch loss" in d.says
        assert shown.chosen == d.session.marks[0]
        await d.type("enter")
        assert d.session.position.tick == 0
        await d.type("delete")
        assert d.session.marks == ()
        await d.type("escape")
        assert not d.screen.query(StopsList)


async def test_marks_lists_the_marks() -> None:
    async with driving() as d:
        for text in ("break h", "mark b", "mark a", "marks"):
            await command(d, text)
        assert d.screen.query_one(StopsList).chosen == d.session.marks[0]
        await command(d, "stops")
        assert d.screen.query_one(StopsList).chosen == d.session.stops.breakpoints[0]


@pytest.mark.parametrize(("size", "pages"), [((160, 50), 1), ((120, 36), 4), ((80, 24), 4), ((40, 12), 5)])
async def test_on_a_small_screen_watches_and_log_have_the_last_page(size: tuple[int, int], pages: int) -> None:
    async with driving(size) as d:
        await command(d, "watch h")
        assert d.says == "watching h"
        await command(d, "break h log {h[0]}")
        await d.pilot.pause()
        assert d.screen.panels.pages == pages
        panels = [d.screen.query_one(Watches), d.screen.query_one(Log)]
        assert all(panel.region.height >= 3 for panel in panels)
        assert all(d.screen.region.contains_region(panel.region) for panel in panels)
        await command(d, "stops")
        await d.pilot.pause()
        assert d.screen.query_one(StopsList).region.height >= 3


async def test_the_log_is_zoomed_to_the_whole_screen() -> None:
    async with driving((120, 36)) as d:
        await command(d, "break loss log {loss}")
        await d.type("9", "n")  # a log point turns to its page
        d.screen.query_one(Log).focus()
        await d.type("z")
        await d.pilot.pause()
        assert d.screen.query_one(Log).region.height > 30
        await d.type("z")
        await d.pilot.pause()
        assert d.screen.query_one(Log).region.height == 16


async def test_the_page_of_the_last_watch_goes_with_it() -> None:
    async with driving((80, 24)) as d:
        await command(d, "watch h")
        await d.pilot.pause()
        assert d.screen.query_one(Watches).region
        await command(d, "delete 1")
        await d.pilot.pause()
        assert d.screen.query_one("#blackboard").region
        assert d.screen.panels.pages == 3


async def test_stops_are_not_touched_while_a_run_goes_on() -> None:
    async with driving() as d:
        await command(d, "break if loss < 0")
        await d.type("B")
        for key in "99999999n":
            await d.pilot.press(key)
        assert d.screen.running
        await d.pilot.press("d")
        assert len(d.session.stops.breakpoints) == 1
        await d.pilot.press("escape")
        await d.type()
        assert len(d.session.stops.breakpoints) == 1


async def test_a_search_without_end_says_that_the_weights_do_not_change() -> None:
    async with driving() as d:
        until = partial(stepping.until, d.screen, Arguments("loss < 0"), forwards=True)
        again = partial(stepping.match, d.screen, NO_ARGUMENTS, direction=1)
        for begin in (until, again):
            begin()
            assert d.screen.running
            await d.type("escape")
            assert d.says.startswith("'loss < 0' did not hold ")
            assert d.says.endswith(" · learning is off, so the weights do not change")
        await command(d, "back loss < 0")
        assert d.says == "'loss < 0' did not hold before"
        await command(d, "break if loss < 0")
        stops.continue_(d.screen, NO_ARGUMENTS)
        await d.type("escape")
        assert d.says == "no breakpoint was hit · learning is off, so the weights do not change"
        await d.type("l")
        again()
        await d.type("escape")
        assert d.says == "'loss < 0' did not hold further on"
    async with driving() as d:
        d.session.epochs = 2
        await command(d, "until loss < 0")
        assert d.says == "'loss < 0' did not hold on the way"
        await d.type(":go newest")
        await command(d, "break if loss < 0")
        await d.type("g", "0", "enter", "c")
        assert d.says == "reached the end; no breakpoint was hit"


async def test_why_a_run_stopped_is_an_answer_and_what_is_wrong_a_warning() -> None:
    async with driving(learning_rate=3e38) as d:
        bottom = d.screen.query_one(BottomLine)
        await command(d, "break h_tilde if t == 2")
        await d.type("c")
        assert "stopped" in d.says
        assert not bottom.warning
        await command(d, "delete 1")
        await d.type("l", "50n")
        assert "the largest weight grew" in d.says
        assert bottom.warning
        await d.type("50n")
        assert "the loss grew" in d.says
        await d.type("50n")
        assert "not finite" in d.says
        assert bottom.warning
        await command(d, "break h if z[epoch + 1, 0] > 0.5")
        await d.type("g", "0", "enter", "c")
        assert "cannot be evaluated" in d.says
        assert bottom.warning
        await command(d, "back loss > 99")
        assert "did not hold" in d.says
        assert not bottom.warning


async def test_a_run_that_nothing_would_stop_is_not_begun() -> None:
    async with driving() as d:
        await d.type("s", "3", "c")
        assert d.says.startswith("no breakpoints are set, so nothing would stop this run · b sets one here, :break if")
        assert d.screen.query_one(BottomLine).warning
        assert not d.screen.pending.counting
        assert d.where == (0, 0, 0, "forward")
        await command(d, "watch loss")  # it is shown, and stops nothing
        await d.type("c")
        assert "no breakpoints are set" in d.says
        await command(d, "break h")
        await command(d, "disable 2")
        await d.type("c")
        assert d.says == "all breakpoints are disabled, so nothing would stop this run · B lists them, to enable one"
        assert d.where == (0, 0, 0, "forward")
        await d.type("C")
        assert d.session.position.tick == 0
        assert d.says == "reached the beginning; all breakpoints are disabled"


async def test_a_run_that_nothing_stops_goes_to_its_end_where_it_has_one() -> None:
    async with driving() as d:
        d.session.epochs = 2
        d.screen.show_now()
        await d.type("c")
        assert d.session.position == d.session.end
        assert d.says == "reached the end; no breakpoints are set"


async def test_a_step_that_must_count_hits_first_is_taken_in_a_thread() -> None:
    """The hits in the batches of a search, which ignores breakpoints, are counted by the first step after it."""
    async with driving() as d:
        await command(d, "break z if any(z > 0.9) hits 5000")
        d.session.seek("e40")
        d.screen.show_now()
        d.screen.play.walk(Step("timestep", 1))
        assert d.screen.running
        await until_idle(d.pilot)
        assert d.where == (39, 0, 0, "forward")
        d.screen.play.walk(Step("timestep", 1))
        assert not d.screen.running  # the hits have been counted


def test_a_run_that_tests_earlier_batches_says_how_far_back_it_is() -> None:
    session = Session()
    run = RunProgress(session.seek("e4000 b1 t1").number, None, 0.0)
    assert run.describe(session.seek("e1000 b1 t1")) == "epoch 1,000 · 9,000 batches back"
    assert run.describe(session.seek("e4500 b1 t1")) == "epoch 4,500 · 1,500 batches"


async def test_a_run_that_only_writes_goes_on() -> None:
    async with driving() as d:
        await command(d, "break loss log {loss:.3f}")
        await d.pilot.press("c")
        while len(d.screen.query(Log)) == 0 or not d.screen.running:
            await d.pilot.pause(0.01)
        await d.type("escape")
        assert len(d.session.snapshot().log) > 0


async def test_the_column_of_a_mistake_is_that_of_the_line_as_typed() -> None:
    async with driving() as d:
        for typed, said in (
            ("until loss < zz", "column 14: unknown name zz"),
            ("until   loss < zz", "column 16: unknown name zz"),
            ("back loss = 1", "column 11: = assigns"),
            ("until z > 0.5", "column 7: z > 0.5 has 4 values"),
            ("break h if z > 0.5", "column 12: z > 0.5 has 4 values"),
            ("break h log {t} {h + x}", "column 18: h + x combines the shapes"),
            ("watch  h + x", "column 8: h + x combines the shapes"),
            ("until z[5,5] > 1", "column 9: index 5 is out of range"),
            ("break if loss < zz", "column 17: unknown name zz"),
        ):
            await command(d, typed)
            assert said in d.says, typed
        for key, column in (("t", 14), ("T", 13)):  # a key has begun the line
            await d.type("s", key, *"loss", "space", "<", "space", *"zz", "enter")
            assert f"column {column}: unknown name zz" in d.says
