"""Verbs that change what is shown: row, layer, page, zoom, focus, theme, help, the cursor of a matrix; and escape and quit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.pages import page_words
from tui_gru.tui.verbs.verb import Arguments, Verb, with_keys

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen
    from tui_gru.tui.widgets.matrix import MatrixView

ORDINALS = {2: "nd", 3: "rd"}


def row(screen: MainScreen, rest: Arguments, *, direction: int) -> None:
    """Single out the next or the previous row of the batch; between the last and the first, no row is singled out."""
    rows = screen.snapshot.config.batch_size
    now = -1 if screen.view.row is None else screen.view.row
    chosen = (now + 1 + direction) % (rows + 1) - 1
    screen.look(replace(screen.view, row=None if chosen < 0 else chosen))
    screen.say("no row is singled out" if chosen < 0 else f"row {chosen + 1} of {rows} is singled out")


def layer(screen: MainScreen, rest: Arguments) -> None:
    """Show the next layer or direction; after the last, that of the current line."""
    program = screen.session.program
    if len(program.layers) == 1:
        screen.say("this model has one layer, in one direction")
        return
    after = 0 if screen.view.layer is None else screen.view.layer + 1
    screen.look(replace(screen.view, layer=after if after < len(program.layers) else None))
    shown = "the layer of the current line" if screen.view.layer is None else program.layer_name(program.layers[after])
    screen.say(f"gates, weights and gradient flow show {shown}")


def weights(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.panels.values.weights import WeightsPanel

    panel = screen.query_one(WeightsPanel)
    panel.action_cycle_mode()
    screen.say(f"weights panel: {panel.mode}")  # the panel may be on another page


def page(screen: MainScreen, rest: Arguments) -> None:
    panels = screen.panels
    panels.turn_to(panels.page + 1)
    one = "all panels are on this page"
    screen.say(page_words(panels.on_pages, panels.page) if panels.pages > 1 else one)


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
    """Open the help; with an argument, show the explanation of that word in the message line."""
    if rest:
        _explain_word(screen, rest)
        return
    from tui_gru.tui.explanations.here import every_row, rows_here
    from tui_gru.tui.screens.help import HelpScreen
    from tui_gru.tui.verbs.explaining import under_cursor

    focused = screen.overlay if screen.focused is None else screen.focused
    keys, program = partial(with_keys, screen), screen.session.program
    here = list(rows_here(screen.snapshot, focused, under_cursor(screen), keys))
    if focused is None:
        words = "<panel.next> goes from panel to panel, the arrows from number to number: <help> then explains it here"
        here.append(("more", with_keys(screen, words)))

    async def execute(found: Verb | None) -> None:
        if found is not None and screen.check_action("verb", (found.id,)):
            await screen.press(found)

    screen.app.push_screen(HelpScreen(program, here, partial(every_row, program, keys)), execute)


def _explain_word(screen: MainScreen, words: str) -> None:
    """Explain a name, a sign or a panel. Raises `TuiGruError` if there is no explanation of it."""
    from tui_gru.tui.explanations.here import explain

    found = explain(screen.session.program, words, partial(with_keys, screen))
    if not found:
        cure = with_keys(screen, "type the name of a value, a sign or a panel; <help> explains what has the focus")
        raise TuiGruError(f"there is no explanation of {str(words)!r}; {cure}")
    screen.say(found)


def legend(screen: MainScreen, rest: Arguments) -> None:
    """Show the legend of colours and signs over the blackboard, or hide it if it is shown."""
    from tui_gru.tui.panels.lists.legend import Legend  # imported late: not needed for the first screen

    screen.overlays.toggle(Legend)


def tour(screen: MainScreen, rest: Arguments) -> None:
    """Start the tour. Raises `TuiGruError` if the run cannot be trained."""
    if screen.snapshot.config.given is not None:
        raise TuiGruError("the tour trains a model, but this run cannot be trained; start tui-gru without a file for the tour")
    screen.tour.begin()


# Escape and quit


async def command(screen: MainScreen, rest: Arguments) -> None:
    await screen.open_line()


def escape(screen: MainScreen, rest: Arguments) -> None:
    """Stop a run; without one, end the first of these: a question, a count, play, zoom, an overlay, the focus, a message."""
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
    """Quit; if there is unrecorded work, only on the second call in a row."""
    if screen.kept.question and not screen.pending.leaving:
        screen.pending.leaving = True
        screen.say(with_keys(screen, "press <quit> again to quit and lose the changes that are not recorded"))
        return
    screen.session.interrupt()
    screen.app.exit()


# The matrix in focus, or that of the weights


def _matrix(screen: MainScreen) -> MatrixView | None:
    """Return the matrix in focus, otherwise that of the weights after focusing it; None, with a message, if neither is in view."""
    from tui_gru.tui.panels.values.weights import WeightsPanel
    from tui_gru.tui.widgets.matrix import MatrixView

    focused = screen.focused
    found = focused if isinstance(focused, MatrixView) else screen.query_one(WeightsPanel).matrix
    if found is None or not found.region:
        screen.say(with_keys(screen, "no matrix is in focus; <panel.next> goes from panel to panel"))
        return None
    if found is not focused:
        screen.set_focus(found)
    return found


def largest(screen: MainScreen, rest: Arguments) -> None:
    """Go to the largest entry of the matrix; again, to the next largest."""
    matrix = _matrix(screen)
    if matrix is not None:
        rank = matrix.go_to_largest()
        which = "" if rank == 1 else f"{rank}{ORDINALS.get(rank or 0, 'th')} "
        found = f"the {which}largest entry: {matrix.place_of(*matrix.cursor)} = {matrix.exact}"
        screen.say(found if rank is not None else "it is not computed yet")


def largest_of_all(screen: MainScreen, rest: Arguments, *, sheet: str) -> None:
    """Go to the largest of all gradients or changes of the weights."""
    from tui_gru.tui.panels.values.weights import WeightsPanel

    screen.say(screen.query_one(WeightsPanel).go_to_largest(sheet))


def saturated(screen: MainScreen, rest: Arguments) -> None:
    """Go to the next unit that is saturated in nearly all rows."""
    matrix = _matrix(screen)
    if matrix is None:
        return
    if matrix.limits is None:
        screen.say("these values have no limits, so they cannot be saturated; gates and states can")
    elif matrix.go_to_saturated():
        screen.say(f"unit {matrix.cursor[1] + 1} is saturated in nearly all rows")
    else:
        screen.say("no unit is saturated in nearly all rows")


def sort(screen: MainScreen, rest: Arguments) -> None:
    """Sort rows by their size, then columns, then both, then neither."""
    matrix = _matrix(screen)
    if matrix is not None:
        by = matrix.sort()
        screen.say(f"{by} sorted by size" if by else "rows and columns in their own order")


def near_zero(screen: MainScreen, rest: Arguments) -> None:
    """Hide the entries near 0, or show them again."""
    matrix = _matrix(screen)
    if matrix is not None:
        screen.say("all entries are shown" if matrix.toggle_near_zero() else "entries near 0 are hidden")
