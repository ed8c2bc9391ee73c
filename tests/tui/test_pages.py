"""Pages of a screen that is too small for all panels: the page that is shown, and the panels of each page."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.widget import Widget

from tests.screenshots import recorded
from tests.tui.test_main_screen import Driver, driving
from tui_gru import Session
from tui_gru.engine.source import Ability
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless, type_keys
from tui_gru.tui.keys import execute
from tui_gru.tui.layout import PLACES, ScreenSize, page_words
from tui_gru.tui.panel import Panel, SnapshotPanel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.panels.time import LossCurve, TimeLine
from tui_gru.tui.panels.values import Gates, Softmax
from tui_gru.tui.panels.weights import Overview, ParameterMatrix, WeightsPanel
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.terminal import drawn_later, drawn_lines

SIZES = [(40, 12), (59, 30), (80, 24), (99, 50), (120, 30), (120, 36), (160, 33), (160, 40), (160, 50)]


def panels(d: Driver) -> set[str]:
    """Return the words for the visible panels, of those that have one."""
    shown = {type(panel) for panel in d.screen.walk_children() if panel.region}
    return {word for panel, word in words_for_panels(d).items() if panel in shown}


def words_for_panels(d: Driver) -> dict[type, str]:
    """Return the word for each panel in the description of a page, of those that have one."""
    return {slot.panel: slot.named(d.screen.snapshot) for slot in PLACES if slot.name}


def assert_styled(d: Driver) -> None:
    """Assert that no visible widget would look different if all were styled again."""

    visible = [node for node in d.screen.query(Widget) if node.region]
    before = [node.styles.base.get_rules() for node in visible]
    d.pilot.app.stylesheet.update_nodes(visible)
    assert [node.styles.base.get_rules() for node in visible] == before


def footer(d: Driver) -> str:
    d.screen.say("")
    bottom = d.screen.query_one(BottomLine)
    return bottom.render_line(bottom.size.height - 1).text


@pytest.mark.parametrize("size", SIZES)
async def test_each_page_has_the_panels_that_it_is_said_to_have_and_overlays_cover_them(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await have_their_panels(d)
        await d.type(":watch loss", ":break loss log {loss}", "p")
        d.screen.panels.turn_to(1)
        await have_their_panels(d)
        await d.type("l", "n")
        await are_covered_and_uncovered(d)


async def have_their_panels(d: Driver) -> None:
    """Check the panels of each page, from the first to the first again."""
    pages, snapshot, size = d.screen.panels.on_pages, d.screen.snapshot, ScreenSize.of(d.screen.app.size)
    everywhere = [
        slot.panel for slot in PLACES if slot.is_needed(snapshot) and slot.on(size, snapshot) is None and slot.live is not True
    ]
    on_every_page = {word for panel, word in words_for_panels(d).items() if panel in everywhere}
    for number, page in enumerate(pages, 1):
        await d.pilot.pause()
        assert panels(d) == on_every_page | (set() if page == ("all panels",) else set(page)), number
        assert_styled(d)
        assert (f"v view {number}/{len(pages)}" in footer(d)) is (len(pages) > 1)
        await d.type("v")
    assert d.screen.panels.page == 1


async def are_covered_and_uncovered(d: Driver) -> None:
    """Open and close overlays over the panels."""
    shown = panels(d)
    for key in ("J", "B", "H", "J"):  # one after the other; H covers the listing too
        await d.type(key)
        assert d.screen.overlay is not None
        assert d.screen.has_class("-whole") is (key == "H")
        assert_styled(d)
    await d.type("escape")
    assert_styled(d)
    assert panels(d) == shown


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (120, 30)])
async def test_the_first_page_follows_the_line_at_work(size: tuple[int, int]) -> None:
    async with driving(size, seq_length=1) as d:
        await d.type("l")
        seen = {}
        with drawn_later(d.pilot.app):  # the layout is updated at every key
            for _ in range(d.session.program.ticks):
                await d.type("o")
                line = d.session.snapshot().line
                assert line is not None
                assert_styled(d)
                seen[line.target] = panels(d)
                assert seen[line.target] == set(d.screen.panels.on_pages[0]), line.text
        for target, panel in (("h_tilde", "gates"), ("y_hat", "ŷ"), ("term2", "ŷ"), ("loss", "sequence"), ("dah", "gates")):
            assert panel in seen[target]
        for target in ("dWh", "Wh"):
            assert "weights" in seen[target]
            assert "gates" not in seen[target] or size[1] > 24
        assert "gates" not in seen["term3"] or size[1] > 24


async def test_the_first_page_of_a_tiny_screen_has_the_panels_that_it_is_said_to_have() -> None:
    async with driving((40, 12)) as d:
        await d.type("l")
        with drawn_later(d.pilot.app):
            for keys in ("o", "s", "n", "O"):  # the last two: a weight is updated, and its gradient was computed
                await d.type(keys)
                assert panels(d) == set(d.screen.panels.on_pages[0]), keys


async def test_other_pages_stay_as_they_are() -> None:
    async with driving((80, 24)) as d:
        await d.type("l", "v")
        shown = panels(d)
        for _ in range(3):
            await d.type("n", "s")
            assert panels(d) == shown
        await d.type("n")
        d.screen.panels.turn_to(1)
        await d.pilot.pause()
        assert "weights" in panels(d)


async def test_the_key_says_what_is_on_this_page_and_on_the_others() -> None:
    async with driving((80, 24)) as d:
        await d.type("v")
        count = len(d.screen.panels.on_pages)
        assert d.says.startswith(f"page 2 of {count}: loss terms, gates, ŷ, loss curve")
        assert " · 1: sequence, the current line · 3: sequence, weights" in d.says
        await d.type("p")
        assert d.screen.panels.page == 3
        await d.type("v" * count)
        assert d.says.startswith(f"page 3 of {count}: sequence, weights, samples")


def test_every_page_is_named_once() -> None:
    words = page_words((("a",), ("a", "b"), ("c",)), 1)
    assert words == "page 1 of 3: a · 2: b · 3: c"


@pytest.mark.parametrize("size", [(110, 34), (119, 34), (120, 34), (140, 40)])
async def test_no_rows_are_empty_below_the_gates(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("s", "o", "o")
        lowest = max(panel.region.bottom for panel in d.screen.query(SnapshotPanel) if panel.region and panel.border_title)
        assert d.screen.query_one(TimeLine).region.y - lowest <= 1


TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. " * 8
MODELS: dict[str, Callable[[], Session]] = {
    "tutorial": Session,
    "hidden 64": lambda: Session(text=TEXT),
    "lstm": lambda: Session(text=TEXT, hidden_size=8, cell="lstm", batch_size=3, seq_length=6),
    "recording": recorded,
}
SHARED = [(200, 60), (160, 50), (140, 40), (120, 36), (119, 34), (100, 30), (80, 24)]
#: Keys to the moments at which rows are counted: after a batch, in the next one, and before the first.
MOMENTS = ("l n", "4s", "2N l")


@pytest.mark.parametrize("size", SHARED, ids=str)
@pytest.mark.parametrize("model", MODELS)
async def test_no_panel_has_empty_rows_beside_one_that_is_cut(model: str, size: tuple[int, int]) -> None:
    app = make_app(MODELS[model]())
    async with headless(app, size, drawn=False) as pilot:
        assert isinstance(app.screen, MainScreen)
        rooms: dict[tuple[int, Panel], tuple[int, bool]] = {}  # of each panel of a page, and whether it was ever cut
        for keys in MOMENTS:
            await type_keys(pilot, keys.split())
            for page in range(1, app.screen.panels.pages + 1):
                app.screen.panels.turn_to(page)
                await pilot.pause()
                for place, (empty, cut) in rooms_of(app.screen, page).items():
                    least, ever_cut = rooms.get(place, (empty, False))
                    rooms[place] = min(empty, least), cut or ever_cut
            app.screen.panels.turn_to(1)
    for (page, panel), (empty, _) in rooms.items():
        cut = [other for (at, other), (_, is_cut) in rooms.items() if at == page and other is not panel and is_cut]
        assert empty <= 2 or not cut, f"page {page}: {panel} has {empty} empty rows beside {cut}"


def rooms_of(screen: MainScreen, page: int) -> dict[tuple[int, Panel], tuple[int, bool]]:
    """Return, for each panel with its place, the number of its empty rows, and whether some of its rows are out of view.

    Rows that another line or another matrix needs are not empty, nor those that a sample will have: they are there so that a step
    moves no panel. A listing above the blackboard is a part of the program around the arrow, and not cut.
    """
    rows, rooms = [strip.text for strip in drawn_lines(screen)], {}
    for panel in screen.query(Panel):
        x, y, width, height = panel.region
        if height < 3 or not panel.border_title:
            continue
        inside = [row[x + 1 : x + width - 1].strip() for row in rows[y + 1 : y + height - 1]]
        used = max((i for i, row in enumerate(inside, 1) if row), default=0)
        if isinstance(panel, CurrentLine):
            used = max(used, panel.wanted_height(panel.snapshot, width) - 2)
        if isinstance(panel, ParameterMatrix):
            weights = screen.query_one(WeightsPanel)
            used = max(used, weights.height_in_full(weights.snapshot, width) - 2)
        if isinstance(panel, Listing) and screen.session.config.source.can(Ability.TEXT):
            used = len(inside)
        is_cut = panel.max_scroll_y > 0 and not (isinstance(panel, Listing) and screen.has_class("-normal"))
        rooms[page, panel] = len(inside) - used, is_cut
    return rooms


async def test_the_prediction_and_the_curve_of_a_recording_stand_below_its_listing_where_all_panels_are_shown() -> None:
    app = make_app(recorded())
    async with headless(app, (160, 50)) as pilot:
        assert isinstance(app.screen, MainScreen)
        for size, frame in (((160, 50), "program"), ((120, 36), "middle"), ((200, 60), "program"), ((80, 24), "middle")):
            await pilot.resize_terminal(*size)
            await type_keys(pilot, ["s"])
            for kind in (Softmax, LossCurve):
                app.screen.panels.show_page_of(kind)
                await pilot.pause()
                (shown,) = (panel for panel in app.screen.query(kind) if panel.region)
                assert shown.parent.id == frame, size
            app.screen.set_focus(shown)
            await type_keys(pilot, ["z"])
            assert app.screen.maximized is shown
            assert shown.region.width == size[0]
            await type_keys(pilot, ["z"])
            assert shown.region.width < size[0]
            app.screen.panels.turn_to(1)


async def test_what_is_on_the_first_page_does_not_depend_on_the_page_that_is_shown() -> None:
    async with driving((80, 34)) as d:
        await d.type("s")
        first = d.screen.panels.on_pages[0]
        assert "gates" in first
        d.screen.panels.turn_to(2)
        assert d.screen.panels.on_pages[0] == first


async def test_the_key_of_the_weights_turns_no_page_where_the_first_has_room_for_them() -> None:
    async with driving((110, 60)) as d:
        await d.type("s")
        assert "weights" in panels(d)
        assert not d.screen.panels.show_page_of(WeightsPanel)
        assert d.screen.panels.page == 1


@pytest.mark.parametrize(("size", "cell"), [((160, 50), "gru"), ((160, 50), "lstm"), ((120, 40), "gru"), ((80, 24), "gru")])
async def test_the_samples_give_their_room_to_the_weights_until_the_first_one(size: tuple[int, int], cell: str) -> None:
    async with driving(size, cell=cell) as d:
        await d.type("s")
        d.screen.panels.show_page_of(WeightsPanel)
        await d.pilot.pause()
        weights, samples = d.screen.query_one(WeightsPanel), d.screen.query_one(Samples)
        below = size[0] == 160  # the listing
        blackboard = d.screen.query_one("#blackboard")
        assert weights.region.width == blackboard.region.width
        overview = weights.query_one(Overview)
        assert overview.virtual_size.height <= overview.size.height  # nothing to scroll
        rows = weights.region.height
        await d.type("p")
        assert samples.region.width >= 20
        assert weights.region.width == blackboard.region.width - (0 if below else samples.region.width)
        await d.type("o", "s", "n")  # no step moves it back
        assert samples.region.right == (blackboard.region.x if below else blackboard.region.right)
        assert weights.region.height >= rows
        if below:  # nothing to scroll, neither before nor after
            assert overview.virtual_size.height <= overview.size.height
            listing = d.screen.query_one(Listing)
            assert samples.region.y >= listing.region.bottom
            assert len(listing.plain_text().splitlines()) <= listing.size.height
            said = [sample.tokens[2:] for sample in d.session.samples]
            assert all("  ".join(tokens) in samples.plain_text() for tokens in said)  # whole


async def test_the_samples_have_a_place_on_a_screen_that_has_become_wider_or_narrower() -> None:
    async with driving((80, 24)) as d:
        await d.type("n", "p")
        for size, frame in (((160, 50), "program"), ((120, 40), "bottom"), ((200, 60), "program"), ((80, 24), "bottom")):
            await d.pilot.resize_terminal(*size)
            await d.type("o")
            d.screen.panels.show_page_of(Samples)
            await d.pilot.pause()
            (shown,) = (samples for samples in d.screen.query(Samples) if samples.region)
            assert shown.parent.id == frame
            assert d.session.samples[-1].text in shown.plain_text()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
async def test_no_step_moves_a_panel_of_a_phase(cell: str) -> None:
    """Not even the step to the loss, a line outside of the loops over t."""
    async with driving((160, 50), cell=cell) as d:
        await d.type("l")
        seen = {}
        with drawn_later(d.pilot.app):
            for _ in range(d.session.program.ticks):
                await d.type("o")
                shown = {type(panel).__name__: panel.region for panel in d.screen.query(SnapshotPanel) if panel.region}
                seen.setdefault(d.session.position.phase, []).append(shown)
        assert list(seen) == ["forward", "loss", "backward", "update"]
        for phase, regions in seen.items():
            assert all(shown == regions[0] for shown in regions), phase
        assert seen["forward"][0] == seen["loss"][0]


@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}], ids=str)
async def test_no_weight_is_out_of_view_beside_a_card(options: dict[str, str]) -> None:
    async with driving((160, 50), **options) as d:
        await d.type("l")
        first, last = d.session.program.parameters[0], d.session.program.parameters[-1]
        for line in ("h", "loss", f"d{first}", first, last):
            d.session.seek(d.session.program.tick_of(line, None if line in ("loss", first, last) else 1))
            execute(d.screen, "mark a what to see here")
            await d.pilot.pause()
            weights = d.screen.query_one(Overview)
            assert d.screen.card_rows
            assert len(weights.drawn) <= weights.size.height, line


async def test_the_card_says_which_text_belongs_to_which_of_two_marks() -> None:
    async with driving((80, 24)) as d:
        execute(d.screen, "mark a the loss is high")
        await d.pilot.pause()
        assert d.card == "mark a before the first line the loss is high 1 of 1"
        execute(d.screen, "mark b see the gates")
        await d.pilot.pause()
        assert d.card == "marks a, b before the first line a: the loss is high b: see the gates 1 and 2 of 2"


async def test_the_rows_of_the_panels_are_shared_for_the_card_at_its_new_width() -> None:
    async with driving((160, 50)) as d:
        execute(d.screen, f"mark a {'what to see here ' * 12}")
        await d.pilot.pause()
        wide = d.screen.card_rows
        await d.pilot.resize_terminal(80, 38)
        await d.pilot.pause()
        assert d.screen.card_rows > wide
        shown = {panel: panel.region for panel in d.screen.query(SnapshotPanel)}
        d.screen.panels.resized()
        await d.pilot.pause()
        assert {panel: panel.region for panel in d.screen.query(SnapshotPanel)} == shown


@pytest.mark.parametrize("size", [(160, 36), (120, 36), (160, 50)], ids=str)
async def test_after_a_resize_the_rows_are_shared_as_at_a_start_of_that_size(size) -> None:
    """Of a large model, whose current line takes the rows that the others leave."""
    regions = []
    for first in (size, (160, 50) if size != (160, 50) else (160, 36)):
        session = Session(text="def f(x): return [y for y in x]\n" * 40, hidden_size=64, batch_size=8, seq_length=16)
        session.step("op", 5)
        app = make_app(session)
        async with headless(app, first) as pilot:
            if first != size:
                await pilot.resize_terminal(*size)
            regions.append({type(panel).__name__: panel.region for panel in app.screen.query(SnapshotPanel)})
    assert regions[0] == regions[1]


async def test_a_later_page_has_rows_for_a_map_of_the_weights_in_the_place_of_gates_that_the_first_has() -> None:
    session = Session(text="def f(x): return [y for y in x]\n" * 40, hidden_size=64, batch_size=8, seq_length=16)
    session.step("op", 5)
    app = make_app(session)
    async with headless(app, (160, 36)) as pilot:
        gates, matrix = app.screen.query_one(Gates), app.screen.query_one(ParameterMatrix)
        assert gates.region.height
        app.screen.panels.turn_to(2)
        await pilot.pause()
        assert not gates.region.height
        assert matrix.form == "map"
        assert matrix.content_size.height >= 8
