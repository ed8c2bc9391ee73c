"""Verbs that change what is looked at: rows, layers, pages, zoom, focus, theme, help; and leaving."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.look.key_signs import with_keys
from tui_gru.tui.pages import page_words
from tui_gru.tui.verbs.verb import Arguments

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen


def row(screen: MainScreen, rest: Arguments, *, direction: int) -> None:
    """Single out the next row of the batch, or the one before; all rows come between the last and the first."""
    rows = screen.snapshot.config.batch_size
    now = -1 if screen.view.row is None else screen.view.row
    chosen = (now + 1 + direction) % (rows + 1) - 1
    screen.look(replace(screen.view, row=None if chosen < 0 else chosen))
    screen.say("all rows of the batch alike" if chosen < 0 else f"row {chosen + 1} of {rows} is singled out")


def layer(screen: MainScreen, rest: Arguments) -> None:
    """Show the next layer or direction; after the last, the one of the line at work."""
    program = screen.session.program
    if len(program.layers) == 1:
        screen.say("this model has one layer, in one direction")
        return
    after = 0 if screen.view.layer is None else screen.view.layer + 1
    screen.look(replace(screen.view, layer=after if after < len(program.layers) else None))
    shown = "the layer of the line at work" if screen.view.layer is None else program.layer_name(program.layers[after])
    screen.say(f"gates, weights and the gradient's flow show {shown}")


def weights(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.panels.values.weights import Weights

    panel = screen.query_one(Weights)
    panel.action_cycle_mode()
    screen.say(f"weights panel: {panel.mode}")  # it may be on another page


def page(screen: MainScreen, rest: Arguments) -> None:
    panels = screen.panels
    panels.turn_to(panels.page + 1)
    if panels.pages > 1:
        screen.say(page_words(panels.on_pages, panels.page))


def has_pages(screen: MainScreen) -> bool:
    return screen.panels.pages > 1


def zoom(screen: MainScreen, rest: Arguments) -> None:
    screen.panels.zoom()


def focus_panel(screen: MainScreen, rest: Arguments, *, direction: int) -> None:
    if direction > 0:
        screen.focus_next()
    else:
        screen.focus_previous()


def theme(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.look.themes import checked_theme

    screen.app.theme = checked_theme(screen.app, str(rest))
    screen.say(f"the theme is {rest}")


# Explanations


def help_(screen: MainScreen, rest: Arguments) -> None:
    """What has the focus, and all keys and commands; of a word, the sentence for it."""
    if rest:
        _explain_word(screen, rest)
        return
    from tui_gru.tui.explanations.here import rows_here
    from tui_gru.tui.screens.help import HelpScreen
    from tui_gru.tui.verbs.explaining import under_cursor

    focused = screen.overlay if screen.focused is None else screen.focused
    here = list(rows_here(screen.snapshot, focused, under_cursor(screen), partial(with_keys, screen)))
    if focused is None:
        words = "<panel.next> goes from panel to panel, the arrows from number to number: <help> then explains it here"
        here.append(("more", with_keys(screen, words)))
    screen.app.push_screen(HelpScreen(screen.own_keys, screen.session.program, here))


def _explain_word(screen: MainScreen, words: str) -> None:
    """Say what a name, a sign or a panel is. Raises `TuiGruError` where there is no sentence for it."""
    from tui_gru.tui.explanations.here import explain

    found = explain(screen.session.program, words, partial(with_keys, screen))
    if not found:
        cure = with_keys(screen, "type a name of the listing, a sign or a panel; <help> explains what has the focus")
        raise TuiGruError(f"there is no explanation of {str(words)!r}; {cure}")
    screen.say(found)


def legend(screen: MainScreen, rest: Arguments) -> None:
    """What colours and signs mean, over the blackboard; again, what it covers."""
    from tui_gru.tui.panels.lists.legend import Legend  # late, as all that the first picture does not need

    if isinstance(screen.overlay, Legend):
        screen.overlays.lift()
    else:
        screen.overlays.cover(Legend())


# Leaving


async def command(screen: MainScreen, rest: Arguments) -> None:
    await screen.open_line()


def escape(screen: MainScreen, rest: Arguments) -> None:
    """Stop what runs; else leave what is open: a question, a count, play, a zoomed panel, an overlay, the focus, the message."""
    if screen.running:
        screen.session.interrupt()
    elif screen.pending.withdraw():
        pass
    elif screen.pending.counting:
        screen.pending.take_count()
    elif screen.play.playing:
        screen.play.pause()
    elif screen.maximized is not None:
        screen.minimize()
    elif screen.overlay is not None:
        screen.overlays.lift()
    elif screen.focused is not None:
        screen.set_focus(None)
    elif not screen.kept.decline():
        screen.say("")


def interrupt(screen: MainScreen, rest: Arguments) -> None:
    if screen.running:
        screen.session.interrupt()
    else:
        screen.say(with_keys(screen, "nothing is running; <quit> quits"))


def quit_(screen: MainScreen, rest: Arguments) -> None:
    """Quit; where something was done that is recorded nowhere, only when asked twice."""
    if screen.kept.question and not screen.pending.leaving:
        screen.pending.leaving = True
        screen.say(with_keys(screen, "<quit> again quits, and what was done is lost"))
        return
    screen.session.interrupt()
    screen.app.exit()
