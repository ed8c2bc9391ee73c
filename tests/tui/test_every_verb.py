"""Every verb of the table leaves a visible answer or a visible change, by its key and as a command.

Each way is tried on one size of the screen, and on every size in the soak (tests/soak/laws.py).
"""

from __future__ import annotations

import pytest
from rich.segment import Segment

from tests.extent import share
from tests.tui.test_answers import SIZES
from tests.tui.test_main_screen import Driver, driving
from tui_gru.errors import TuiGruError
from tui_gru.tui.headless import until_checked, until_idle
from tui_gru.tui.keys import Verb, example, execute
from tui_gru.tui.layout import PLACES
from tui_gru.tui.panels.weights import WeightsPanel
from tui_gru.tui.terminal import drawn_later, drawn_lines
from tui_gru.tui.verbs import VERBS

ENDING = ("quit", "interrupt")


#: What is typed where the example of the table needs something that is not there.
TYPED = {"delete": "delete 1", "enable": "enable 2", "disable": "disable 2"}
#: What is typed before a verb that needs something to do it with: a count to forget.
BEFORE = {"stop": "3"}


def drawn(d: Driver) -> list[list[Segment]]:
    """All that is on the screen, with its colours."""
    return [list(line) for line in drawn_lines(d.pilot.app.screen)]


async def plain(d: Driver) -> None:
    """Leave whatever is open: a help screen, the command line, a letter or answer that is awaited, an overlay, zoom, focus."""
    await d.type("escape")
    for _ in range(4):
        if d.pilot.app.screen is d.screen and (d.screen.focused, d.screen.overlay, d.screen.maximized) == (None, None, None):
            break
        await d.type("escape")
    d.screen.say("")
    await d.type()
    assert d.pilot.app.screen is d.screen
    assert d.screen.focused is None


async def carried_out(d: Driver, verb: Verb, *, typed: bool) -> bool:
    """Carry a verb out. Whether what is on the screen then differs."""
    before = drawn(d)
    if typed:
        try:
            execute(d.screen, TYPED.get(verb.id) or example(d.session.program, verb.usage))
        except TuiGruError as error:  # that it cannot be done is an answer, too
            d.screen.failed(error, verb.id)
    else:
        await d.screen.run_action(verb.action)
    await until_idle(d.pilot)
    await until_checked(d.pilot)
    await d.pilot.pause()
    return drawn(d) != before


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("size", SIZES)
async def test_every_verb_is_seen_to_have_done_something(
    size: tuple[int, int], typed: bool, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    silent = []
    verbs = [verb for verb in VERBS if verb.id not in ENDING and (verb.names if typed else verb.keys)]
    async with driving(size) as d:
        d.session.epochs = 4
        await d.type("l", "2n", "s", "o")
        with drawn_later(d.pilot.app):  # `drawn` draws
            for verb in share(verbs, SIZES.index(size), len(SIZES)):
                await plain(d)
                await d.type(*BEFORE.get(verb.id, ""))
                if not await carried_out(d, verb, typed=typed):
                    silent.append(verb.id)
    assert silent == []


def contents(d: Driver) -> dict[type, object]:
    """What each panel that is not always there has to show, by its class; and the weights."""
    snapshot = d.screen.snapshot
    made: dict[type, object] = {place.panel: place.has_content(snapshot) for place in PLACES if place.has_content is not None}
    made[WeightsPanel] = [d.session.parameter(name).tolist() for name in d.session.parameter_names]
    return made | {place.panel: snapshot.state.samples for place in PLACES if place.panel.__name__ == "Samples"}


@pytest.mark.parametrize("page", [1, 2, 3, 4])
async def test_every_verb_turns_to_the_page_of_what_it_made(page: int, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that stays at its place in time, and gives a panel something to show, shows this panel."""
    monkeypatch.chdir(str(tmp_path))
    elsewhere, made = [], set()
    verbs = [verb for verb in VERBS if verb.id not in ENDING and verb.names]
    async with driving((80, 24)) as d:
        d.session.epochs = 4
        await d.type("l", "2n", "s", "o")
        for verb in verbs:
            await plain(d)
            d.screen.panels.turn_to(min(page, d.screen.panels.pages))
            before, at, session = contents(d), d.session.position, d.screen.session
            await carried_out(d, verb, typed=True)
            moved = d.screen.session is not session or d.session.position != at  # to another session, or in time
            if moved or d.pilot.app.screen is not d.screen or d.screen.overlay is not None:
                continue
            changed = [panel for panel, content in contents(d).items() if content and content != before.get(panel)]
            made.update(panel.__name__ for panel in changed)
            elsewhere += [(verb.id, panel.__name__) for panel in changed if d.screen.panels.is_elsewhere(panel)]
    assert elsewhere == []
    assert {"Samples", "Watches", "WeightsPanel"} <= made
