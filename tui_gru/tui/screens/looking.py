"""A screen of panels that one looks around on: a row singled out, pages, zoom, focus, and an overlay on the blackboard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from textual.containers import Container
from textual.errors import NoWidget
from textual.geometry import Region
from textual.widget import Widget

from tui_gru.debugger.session.session import Session
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.pages import page_words, pages_of
from tui_gru.tui.panels.line_at_work import LineAtWork
from tui_gru.tui.panels.weights import Weights
from tui_gru.tui.screens.walking import WalkingScreen
from tui_gru.tui.view import View
from tui_gru.tui.widgets.matrix import MatrixView
from tui_gru.tui.widgets.overlay import Overlay
from tui_gru.tui.widgets.panel import Panel

LOW = 20  # rows
ORDINALS = {2: "nd", 3: "rd"}


class LookingScreen(WalkingScreen):
    """Subclasses say how the panels are drawn again where only the way one looks has changed (`show_view`)."""

    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - as Textual declares it
        (0, "-tiny"),
        (60, "-narrow"),
        (100, "-normal"),
        (150, "-wide"),
    ]
    ALLOW_IN_MAXIMIZED_VIEW = "Header, BottomLine, CommandLine"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-middle"), (44, "-tall")]  # noqa: RUF012

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.view = View()
        self.page = 1
        self._coming: Overlay | None = None  # it is being laid
        self._borrowed = False  # what is zoomed has the focus only as long as that

    @property
    def expecting(self) -> bool:
        return self._coming is not None or super().expecting

    def show_view(self) -> None:
        """Draw the snapshot again, as it is looked at now."""
        raise NotImplementedError

    def size_up(self) -> None:
        """Set the classes that Textual sets at the first resize, before there are panels, which it would have styled twice."""
        sizes = (self.HORIZONTAL_BREAKPOINTS, self.app.size.width), (self.VERTICAL_BREAKPOINTS, self.app.size.height)
        self.on_resize()
        self.add_class(*([name for least, name in breakpoints if least <= cells][-1] for breakpoints, cells in sizes))

    def on_resize(self) -> None:
        """On a screen as low as this the later pages have no room for the program."""
        self.set_class(self.app.size.height < LOW, "-low")

    # Clicks and keys that come when what they were meant for has been removed, and is still to be seen

    def get_widget_at(self, x: int, y: int) -> tuple[Widget, Region]:
        """As Textual's, for widgets that are still there."""
        widget, region = super().get_widget_at(x, y)
        if not widget.is_attached:
            raise NoWidget(f"what was at {x}, {y} has been removed")
        return widget, region

    def set_focus(self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False) -> None:
        """As Textual's, for widgets that are still there."""
        if widget is None or widget.is_attached:
            super().set_focus(widget, scroll_visible, from_app_focus)

    # An overlay: a panel that covers the blackboard until it is lifted

    @property
    def overlay(self) -> Overlay | None:
        """What covers the blackboard, if anything does."""
        return next(iter(self.query(Overlay)), None)

    def cover(self, overlay: Overlay) -> None:
        """Have the blackboard covered with a panel; the keys that are typed meanwhile are for it."""
        self._coming = overlay
        work: Callable[[], Awaitable[None]] = partial(self.lay, overlay)  # a coroutine that is never begun would be warned of
        self.run_worker(work, exclusive=True, group="overlay")

    async def lay(self, overlay: Overlay) -> None:
        """Cover the blackboard with a panel; the listing and the header stay in view. It is given every snapshot, and the focus."""
        try:
            await self._lay(overlay)
        finally:
            if self._coming is overlay:
                self._coming = None

    async def _lay(self, overlay: Overlay) -> None:
        board = self.query_one("#blackboard", Container)
        for earlier in self.query(Overlay):
            await earlier.remove()
        await board.mount(overlay)
        board.add_class("-covered")
        self.add_class("-overlaid")
        overlay.show(self.snapshot, self.view)
        self.set_focus(overlay)  # at once: the next key may be waiting already

    def lift(self) -> None:
        """Uncover the blackboard."""
        for overlay in self.query(Overlay):
            overlay.read_at = None  # until it is removed, it is not to be found gone
            overlay.remove()
        self.query_one("#blackboard").remove_class("-covered")
        self.remove_class("-overlaid")
        self.set_focus(None)

    def lift_what_is_gone(self) -> str:
        """Lift what is of a moment that is no longer there, and say so; the empty text where nothing is."""
        overlay = self.overlay
        if overlay is None or overlay.read_at is None or self.session.holds(overlay.read_at):
            return ""
        self.lift()
        return "what was shown is of a moment that is not there any more"

    # Keys

    def action_row(self, direction: int) -> None:
        rows = self.snapshot.config.batch_size
        now = -1 if self.view.row is None else self.view.row
        row = (now + 1 + direction) % (rows + 1) - 1
        self.single_out(None if row < 0 else row)
        self.say("all rows of the batch alike" if row < 0 else f"row {row + 1} of {rows} is singled out")

    def single_out(self, row: int | None) -> None:
        """Single out a row of the batch, 0-based; None looks at all alike."""
        self.view = replace(self.view, row=row)
        self.show_view()

    def action_layer(self) -> None:
        program = self.session.program
        if len(program.layers) == 1:
            self.say("this model has one layer, in one direction")
            return
        after = 0 if self.view.layer is None else self.view.layer + 1
        self.single_out_layer(after if after < len(program.layers) else None)
        shown = "the layer of the line at work" if self.view.layer is None else program.layer_name(program.layers[after])
        self.say(f"gates, weights and the gradient's flow show {shown}")

    def single_out_layer(self, layer: int | None) -> None:
        """Have the panels of one layer show this one, counted through all directions; None follows the line at work."""
        self.view = replace(self.view, layer=layer)
        self.show_view()

    def action_weights(self) -> None:
        weights = self.query_one(Weights)
        weights.action_cycle_mode()
        self.say(f"weights panel: {weights.mode}")  # it may be on another page

    # Matrices

    def _matrix(self) -> MatrixView | None:
        """The matrix in focus, otherwise that of the weights, which gets the focus; None with a message if neither is in view."""
        focused = self.focused
        found = focused if isinstance(focused, MatrixView) else self.query_one(Weights).matrix
        if found is None or not found.region:
            self.say(with_keys(self, "no matrix is in focus; <panel.next> goes from panel to panel"))
            return None
        if found is not focused:
            self.set_focus(found)
        return found

    def action_largest(self, sheet: str = "") -> None:
        """Go to the largest entry of the matrix in focus, or to the largest gradient or change of all weights."""
        if sheet:
            self.say(self.query_one(Weights).go_to_largest(sheet))
        elif (matrix := self._matrix()) is not None:
            rank = matrix.go_to_largest()
            which = "" if rank == 1 else f"{rank}{ORDINALS.get(rank or 0, 'th')} "
            found = f"the {which}largest entry: {matrix.place_of(*matrix.cursor)} = {matrix.exact}"
            self.say(found if rank is not None else "it is not computed yet")

    def action_saturated(self) -> None:
        matrix = self._matrix()
        if matrix is None:
            return
        if matrix.limits is None:
            self.say("these values have no limits, so they cannot be saturated; gates and states can")
        elif matrix.go_to_saturated():
            self.say(f"unit {matrix.cursor[1] + 1} is saturated in nearly all rows")
        else:
            self.say("no unit is saturated in nearly all rows")

    def action_sort(self) -> None:
        if (matrix := self._matrix()) is not None:
            by = matrix.sort()
            self.say(f"{by} sorted by size" if by else "rows and columns in their own order")

    def action_near_zero(self) -> None:
        if (matrix := self._matrix()) is not None:
            self.say("all entries are shown" if matrix.toggle_near_zero() else "entries near 0 are hidden")

    def action_page(self) -> None:
        self.turn_to(self.page + 1)
        if self.pages > 1:
            self.say(page_words(self.page_panels, self.page))

    def turn_to(self, page: int) -> None:
        """Show a page of panels, counted from 1; the first where there is no such page."""
        self.remove_class(f"-page-{self.page}")
        self.page = page if 1 <= page <= self.pages else 1
        self.add_class(f"-page-{self.page}")

    @property
    def pages(self) -> int:
        """How many pages a screen of this size has."""
        return len(self.page_panels)

    @property
    def page_panels(self) -> tuple[tuple[str, ...], ...]:
        """The panels on each page of a screen of this size, in words."""
        return pages_of(self.classes, watching=self.has_class("-watching"))

    def action_zoom(self) -> None:
        """Zoom on the panel in focus, or on the line at work, which then has the focus, so that the arrows scroll it."""
        if self.maximized is not None:
            self.minimize()
        elif (target := self._zoomable()) is not None:
            self._borrowed = self.focused is None
            self.maximize(target)
            self.set_focus(target)

    def minimize(self) -> None:
        super().minimize()
        if self._borrowed:
            self._borrowed = False
            self.set_focus(None)

    def _zoomable(self) -> Widget | None:
        focused = self.focused
        return focused if isinstance(focused, Panel) else self.query_one(LineAtWork)

    def action_focus_panel(self, direction: int) -> None:
        if direction > 0:
            self.focus_next()
        else:
            self.focus_previous()
