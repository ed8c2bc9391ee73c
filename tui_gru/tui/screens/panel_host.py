"""The panels of the main screen: which there are, their pages on a small screen, and the one that is zoomed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.pages import SMALL, Following, following, pages_of
from tui_gru.tui.panels.program.line_at_work import LineAtWork
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

LOW = 20  # rows
#: The panels that are always there, in the order in which they are drawn.
PANELS: tuple[type[Widget], ...] = (
    Header, Listing, Sequence, LossTerms, LineAtWork, Gates, Softmax, LossCurve, Weights, Samples, TimeLine,
)  # fmt: skip
#: The panels that show differences where two branches are compared. The line at work keeps its own numbers: what it is computed
#: from must give what it gives.
OF_DIFFERENCES = (Gates, LossTerms, Softmax, Weights)
#: Those, the panels that name branches or places themselves, and the one without values.
SAYING_IT = (*OF_DIFFERENCES, LossCurve, Listing, Samples)


class PanelHost:
    """`page` counts from 1. What a page shows is in main.tcss."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self.page = 1
        self._time_lines: list[TimeLine] = []
        self._borrowed = False  # what is zoomed has the focus only as long as that
        self._ever_watching = False
        self._followed = Following.VALUES

    def compose(self) -> ComposeResult:
        """All panels, each in its place."""
        gates = Gates(self._screen.session.program)
        yield Header()
        with Container(id="body"):
            with Container(id="program"):
                yield Listing()
            with Container(id="top"):
                yield Sequence()
                yield LossTerms()
            with Container(id="blackboard", classes="-many" if gates.many else ""):
                yield LineAtWork()
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
        """Whether a panel waits for something that the next key may be for."""
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
        """Have the first page of several show the panels that belong to the line at work."""
        now = following(self._screen.snapshot) if self.page == 1 and self.pages > 1 else Following.VALUES
        if now is not self._followed:
            if self._followed.value:
                self._screen.remove_class(self._followed.value)
            if now.value:
                self._screen.add_class(now.value)
            self._followed = now

    def _remark_on(self, panel: object) -> None:
        """Have the border of a panel say that it shows no differences where others do, unless it says so itself."""
        snapshot = self._screen.snapshot
        shown = snapshot.other is not None and self._screen.view.differences and not isinstance(panel, SAYING_IT)
        if isinstance(panel, Panel):
            panel.set_remark(f"{snapshot.branch} alone" if shown else "")

    def seen_by(self, panel: object) -> Snapshot:
        """What a panel is given to draw: the snapshot, or how it differs from the branch that is compared with."""
        snapshot = self._screen.snapshot
        if snapshot.other is None or not (self._screen.view.differences and isinstance(panel, OF_DIFFERENCES)):
            return snapshot
        from tui_gru.debugger.snapshots.differences import differences  # late, as all that the first picture does not need

        return differences(snapshot)

    def _stop_panels(self) -> Iterator[Shows]:
        """The panels of watches and of the log: made when there is first something in them, hidden when there no longer is."""
        screen, snapshot = self._screen, self._screen.snapshot
        watches = any(watch.enabled for watch in snapshot.stops.watches)
        logs = bool(snapshot.log) or any(stop.log for stop in snapshot.stops.breakpoints)
        if not (watches or logs or self._ever_watching):
            return
        from tui_gru.tui.panels.program.log import Log  # late, too
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
        if self.page > self.pages:  # there was a page for them alone
            self.turn_to(1)

    # Sizes and pages

    def size_up(self) -> None:
        """Set the classes that Textual sets at the first resize, before there are panels, which it would have styled twice."""
        screen = self._screen
        sizes = (screen.HORIZONTAL_BREAKPOINTS, screen.app.size.width), (screen.VERTICAL_BREAKPOINTS, screen.app.size.height)
        self.resized()
        screen.add_class(*([name for least, name in breakpoints or () if least <= cells][-1] for breakpoints, cells in sizes))

    def resized(self) -> None:
        """On a screen as low as this the later pages have no room for the program."""
        self._screen.set_class(self._screen.app.size.height < LOW, "-low")
        self._follow()

    @property
    def small(self) -> bool:
        """Whether watches and log have a page of their own."""
        return any(map(self._screen.has_class, SMALL))

    @property
    def pages(self) -> int:
        """How many pages a screen of this size has."""
        return len(self.on_pages)

    @property
    def on_pages(self) -> tuple[tuple[str, ...], ...]:
        """The panels on each page of a screen of this size, in words."""
        return pages_of(self._screen.classes, watching=self._screen.has_class("-watching"), at=following(self._screen.snapshot))

    def turn_to(self, page: int) -> None:
        """Show a page of panels, counted from 1; the first where there is no such page."""
        self._screen.remove_class(f"-page-{self.page}")
        self.page = page if 1 <= page <= self.pages else 1
        self._screen.add_class(f"-page-{self.page}")
        self._follow()

    # Zoom

    def zoom(self) -> None:
        """Zoom on the panel in focus, or on the line at work, which then has the focus, so that the arrows scroll it; and back."""
        screen = self._screen
        if screen.maximized is not None:
            screen.minimize()
            return
        focused = screen.focused
        target = focused if isinstance(focused, Panel) else screen.query_one(LineAtWork)
        self._borrowed = focused is None
        screen.maximize(target)
        screen.set_focus(target)

    def minimized(self) -> None:
        """Nothing is zoomed any more."""
        if self._borrowed:
            self._borrowed = False
            self._screen.set_focus(None)
