"""The panels of the main screen: composition, drawing, pages on a small screen, and zoom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.pages import SMALL, Following, following, pages_of
from tui_gru.tui.panels.program.current_line import CurrentLine
from tui_gru.tui.panels.program.listing import Listing
from tui_gru.tui.panels.time.header import Header
from tui_gru.tui.panels.time.loss_curve import LossCurve
from tui_gru.tui.panels.time.time_line import TimeLine
from tui_gru.tui.panels.values.gates import Gates
from tui_gru.tui.panels.values.loss_terms import LossTerms
from tui_gru.tui.panels.values.samples import Samples
from tui_gru.tui.panels.values.sequence import Sequence
from tui_gru.tui.panels.values.softmax import Softmax
from tui_gru.tui.panels.values.weights import Weights
from tui_gru.tui.view import Shows
from tui_gru.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui_gru.tui.panels.program.log import Log
    from tui_gru.tui.panels.program.watches import Watches
    from tui_gru.tui.screens.main import MainScreen

LOW = 20  # rows; a screen with fewer is low
#: The panels that always exist, in the order in which they are drawn.
PANELS: tuple[type[Widget], ...] = (
    Header, Listing, Sequence, LossTerms, CurrentLine, Gates, Softmax, LossCurve, Weights, Samples, TimeLine,
)  # fmt: skip
#: The panels that show differences when two branches are compared. The current line shows its own values, because its result
#: must be that of the operands shown.
OF_DIFFERENCES = (Gates, LossTerms, Softmax, Weights)
#: The panels without a remark about a comparison: those above, those that name branches themselves, and the listing.
SAYING_IT = (*OF_DIFFERENCES, LossCurve, Listing, Samples)


class PanelHost:
    """`page` is the number of the page, from 1. main.tcss defines which panels a page shows."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self.page = 1
        self._time_lines: list[TimeLine] = []
        self._borrowed = False  # the zoomed panel had no focus before and loses it after the zoom
        self._ever_watching = False
        self._followed = Following.VALUES

    def compose(self) -> ComposeResult:
        """Yield the panels in their containers."""
        gates = Gates(self._screen.session.program)
        yield Header()
        with Container(id="body"):
            with Container(id="program"):
                yield Listing()
            with Container(id="top"):
                yield Sequence()
                yield LossTerms()
            with Container(id="blackboard", classes="-many" if gates.many else ""):
                yield CurrentLine()
                yield gates
                with Container(id="middle"):
                    yield Softmax()
                    yield LossCurve()
                with Container(id="bottom"):
                    yield Weights()
                    yield Samples()
        self._time_lines = [TimeLine()]
        yield from self._time_lines

    @property
    def expecting(self) -> bool:
        """True while a panel waits for something that the next key may be meant for."""
        return any(line.expecting for line in self._time_lines)

    # Drawing

    def show(self) -> None:
        """Draw the snapshot on every panel."""
        screen = self._screen
        self._follow()
        for kind in PANELS:
            panel = screen.query_one(kind)
            assert isinstance(panel, Shows)
            panel.show(self.seen_by(panel), screen.view)
            self._remark_on(panel)
        for stop_panel in self._stop_panels():
            stop_panel.show(screen.snapshot, screen.view)
            self._remark_on(stop_panel)
        overlay = screen.overlay
        if overlay is not None:
            overlay.show(screen.snapshot, screen.view)
            self._remark_on(overlay)

    def _follow(self) -> None:
        """Make the first of several pages show the panels that belong to the current line."""
        now = following(self._screen.snapshot) if self.page == 1 and self.pages > 1 else Following.VALUES
        if now is not self._followed:
            self._screen.update_classes({name: name == now.value for name in (self._followed.value, now.value) if name})
            self._followed = now

    def _remark_on(self, panel: object) -> None:
        """Set the remark in the border of a panel that shows no differences while others do."""
        snapshot = self._screen.snapshot
        shown = snapshot.other is not None and self._screen.view.differences and not isinstance(panel, SAYING_IT)
        if isinstance(panel, Panel):
            panel.set_remark(f"{snapshot.branch} alone" if shown else "")

    def seen_by(self, panel: object) -> Snapshot:
        """Return what a panel draws: the snapshot, or its differences from the compared branch."""
        snapshot = self._screen.snapshot
        if snapshot.other is None or not (self._screen.view.differences and isinstance(panel, OF_DIFFERENCES)):
            return snapshot
        from tui_gru.debugger.snapshots.differences import differences  # imported late: not needed for the first screen

        return differences(snapshot)

    def _stop_panels(self) -> Iterator[Shows]:
        """Yield the panels of watches and log. Each is mounted when it first has content, and hidden when it has none."""
        screen, snapshot = self._screen, self._screen.snapshot
        watches = any(watch.enabled for watch in snapshot.stops.watches)
        logs = bool(snapshot.log) or any(stop.log for stop in snapshot.stops.breakpoints)
        if not (watches or logs or self._ever_watching):
            return
        from tui_gru.tui.panels.program.log import Log  # imported late: not needed for the first screen
        from tui_gru.tui.panels.program.watches import Watches

        self._ever_watching = True
        kinds: tuple[tuple[type[Watches] | type[Log], bool], ...] = ((Watches, watches), (Log, logs))
        for kind, needed in kinds:
            panel = next(iter(screen.query(kind)), None)
            if panel is None and needed:
                panel = kind()
                screen.query_one("#program", Container).mount(panel, after=0 if kind is Watches else -1)
            if panel is not None:
                panel.set_class(not needed, "-empty")
                yield panel
        screen.set_class(watches or logs, "-watching")
        if self.page > self.pages:  # their page no longer exists
            self.turn_to(1)

    # Sizes and pages

    def size_up(self) -> None:
        """Set the size classes that Textual sets at the first resize, such that panels are not styled twice."""
        screen = self._screen
        sizes = (screen.HORIZONTAL_BREAKPOINTS, screen.app.size.width), (screen.VERTICAL_BREAKPOINTS, screen.app.size.height)
        self.resized()
        screen.add_class(*([name for least, name in breakpoints or () if least <= cells][-1] for breakpoints, cells in sizes))

    def resized(self) -> None:
        """Set the class of a low screen, on which the later pages have no room for the program."""
        self._screen.set_class(self._screen.app.size.height < LOW, "-low")
        self._follow()

    @property
    def small(self) -> bool:
        """True if watches and log have a page of their own."""
        return any(map(self._screen.has_class, SMALL))

    @property
    def pages(self) -> int:
        """The number of pages at this screen size."""
        return len(self.on_pages)

    @property
    def on_pages(self) -> tuple[tuple[str, ...], ...]:
        """The names of the panels on each page at this screen size."""
        return pages_of(self._screen.classes, watching=self._screen.has_class("-watching"), at=following(self._screen.snapshot))

    def turn_to(self, page: int) -> None:
        """Show the page of this number, from 1; the first page if there is no such page."""
        old, self.page = self.page, page if 1 <= page <= self.pages else 1
        self._screen.update_classes({f"-page-{old}": False, f"-page-{self.page}": True})  # at once, so that all is styled once
        self._follow()

    # Zoom

    def zoom(self) -> None:
        """Zoom the panel in focus, or the current line, which gets the focus such that the arrows scroll it; or end the zoom."""
        screen = self._screen
        if screen.maximized is not None:
            screen.minimize()
            return
        focused = screen.focused
        target = focused if isinstance(focused, Panel) else screen.query_one(CurrentLine)
        self._borrowed = focused is None
        screen.maximize(target)
        screen.set_focus(target)

    def minimized(self) -> None:
        """Called after the zoom has ended: give back a borrowed focus."""
        if self._borrowed:
            self._borrowed = False
            self._screen.set_focus(None)
