"""The panels of the main screen: composition, drawing, pages on a small screen, and zoom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Size
from textual.reactive import Reactive
from textual.widget import Widget

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.pages import FRAMES, PLACES, Following, PanelSlot, Shown, following, pages_of, size_of
from tui_gru.tui.panels.program.current_line import CurrentLine
from tui_gru.tui.panels.values.gates import Gates
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.panel import Panel
from tui_gru.tui.widgets.snapshot_panel import Compared

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen

LOW = 20  # rows; a screen with fewer is low
#: The classes of the screen by which main.tcss lays out its pages.
LAID_OUT_BY = frozenset({*(f"-page-{page}" for page in range(1, 10)), *(at.value for at in Following)})


class PanelContainer(Container):
    """A container of panels that draws nothing itself."""

    BLANK = True  # Textual's name for it
    virtual_size = Reactive(Size(0, 0), repaint=False)  # set by a layout, after which Textual would do another one


class PanelHost:
    """`page` is the number of the page, from 1. pages.py defines which panels a page shows."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self.page = 1
        self._panels: dict[PanelSlot, Shown] = {}
        self._frames: dict[str, PanelContainer] = {}
        self._arranged: object = None  # what the panels on screen were last chosen for
        self._borrowed = False  # the zoomed panel had no focus before and loses it after the zoom

    def compose(self) -> ComposeResult:
        """Yield the panels in their frames."""
        body = self._frame("body")
        head, foot = self._made("head"), self._made("foot")
        self._arrange(update=False)
        yield from (*head, body, *foot)

    def _frame(self, name: str) -> PanelContainer:
        inside = [*self._made(name), *(self._frame(frame) for frame in FRAMES.get(name, ()))]
        self._frames[name] = PanelContainer(*inside, id=name)
        if any(isinstance(panel, Gates) and panel.many for panel in inside):
            self._frames[name].add_class("-many", update=False)
        return self._frames[name]

    def _made(self, frame: str) -> list[Shown]:
        """Create the panels of a frame that are needed now."""
        screen, made = self._screen, list[Shown]()
        for place in PLACES:
            if place.frame == frame and place.is_needed(screen.snapshot):
                kind = place.kind
                panel = kind(screen.session.program) if issubclass(kind, Gates) else kind()
                self._panels[place] = panel
                made.append(panel)
        return made

    @property
    def board(self) -> PanelContainer | None:
        """The frame that overlays cover; None before the screen is composed."""
        return self._frames.get("blackboard")

    @property
    def expecting(self) -> bool:
        """True while a panel waits for something that the next key may be meant for."""
        return any(getattr(panel, "expecting", False) for panel in self._panels.values())

    # Drawing

    def show(self) -> None:
        """Draw the snapshot on every panel."""
        screen = self._screen
        self._mount_needed()
        if self.page > self.pages:  # there is nothing left to show on it
            self.turn_to(1)
        self._arrange()
        for panel in (*self._panels.values(), screen.overlay):
            if panel is not None:
                panel.show(self.seen_by(panel), screen.view)
                self._remark_on(panel)

    def _mount_needed(self) -> None:
        """Mount the panels that have something to show for the first time."""
        before: dict[str, Shown] = {}
        for place in PLACES:
            if place not in self._panels and place.is_needed(self._screen.snapshot):
                self._panels[place] = place.kind()
                self._frames[place.frame].mount(self._panels[place], after=before[place.frame])
                self._arranged = None
            if place in self._panels:
                before[place.frame] = self._panels[place]

    def _arrange(self, *, update: bool = True) -> None:
        """Choose the panels and frames that are on screen, and what the first of several pages follows.

        `update` is False before they are mounted, when they are styled anyway.
        """
        screen, snapshot, size = self._screen, self._screen.snapshot, self._size
        at = following(snapshot) if self.page == 1 and self.pages > 1 else Following.VALUES
        needed = tuple(place.is_needed(snapshot) for place in self._panels)
        if (size, self.page, at, needed) == self._arranged:
            return
        self._arranged = size, self.page, at, needed
        before = screen.classes
        screen.remove_class(*before & LAID_OUT_BY, update=False)
        screen.add_class(f"-page-{self.page}", *filter(None, [at.value]), update=False)
        stale: list[Widget] = [*self._frames.values()]
        for (place, panel), wanted in zip(self._panels.items(), needed, strict=True):
            shown = wanted and place.is_shown(size, self.page, at)
            if shown is panel.has_class("-off") or (shown and screen.classes != before):
                stale.append(panel)
            panel.set_class(not shown, "-off", update=False)
        for name, frame in self._frames.items():
            frame.set_class(not self._has_panels(name), "-off", update=False)
        if update:
            screen.app.stylesheet.update_nodes(stale)  # what is in the panels looks the same on every page

    def _has_panels(self, frame: str) -> bool:
        """Return True if a panel in a frame is on screen."""
        own = any(place.frame == frame and not panel.has_class("-off") for place, panel in self._panels.items())
        return own or any(map(self._has_panels, FRAMES.get(frame, ())))

    def _remark_on(self, panel: object) -> None:
        """Set the remark in the border of a panel that shows no differences while others do."""
        snapshot = self._screen.snapshot
        shown = snapshot.other is not None and self._screen.view.differences and _compared(panel) is Compared.ALONE
        if isinstance(panel, Panel):
            panel.set_remark(f"{snapshot.branch} alone" if shown else "")

    def seen_by(self, panel: object) -> Snapshot:
        """Return what a panel draws: the snapshot, or its differences from the compared branch."""
        snapshot = self._screen.snapshot
        if snapshot.other is None or not (self._screen.view.differences and _compared(panel) is Compared.DIFFERENCES):
            return snapshot
        from tui_gru.debugger.snapshots.differences import differences  # imported late: not needed for the first screen

        return differences(snapshot)

    # Sizes and pages

    def size_up(self) -> None:
        """Set the size classes that Textual sets at the first resize, such that panels are not styled twice."""
        screen = self._screen
        sizes = (screen.HORIZONTAL_BREAKPOINTS, screen.app.size.width), (screen.VERTICAL_BREAKPOINTS, screen.app.size.height)
        screen.add_class(*([name for least, name in breakpoints or () if least <= cells][-1] for breakpoints, cells in sizes))
        self.resized()

    def resized(self) -> None:
        """Set the class of a low screen, on which the later pages have no room for the program."""
        self._screen.set_class(self._screen.app.size.height < LOW, "-low")
        self._arrange()

    @property
    def _size(self) -> str:
        return size_of(self._screen.classes)

    @property
    def small(self) -> bool:
        """True if watches and log have a page of their own."""
        return any(place.needed is not None and place.on(self._size) is not None for place in PLACES)

    @property
    def pages(self) -> int:
        """The number of pages at this screen size."""
        return len(self.on_pages)

    @property
    def on_pages(self) -> tuple[tuple[str, ...], ...]:
        """The names of the panels on each page at this screen size."""
        return pages_of(self._size, self._screen.snapshot, following(self._screen.snapshot))

    def turn_to(self, page: int) -> None:
        """Show the page of this number, from 1; the first page if there is no such page."""
        self.page = page if 1 <= page <= self.pages else 1
        self._arrange()

    # Zoom

    def zoom(self) -> None:
        """Zoom the panel in focus, or the current line, which gets the focus such that the arrows scroll it; or end the zoom."""
        screen = self._screen
        if screen.maximized is not None:
            screen.minimize()
            return
        focused = screen.focused
        if focused is not None and not focused.allow_maximize:
            screen.say(with_keys(screen, "this panel cannot be zoomed; <panel.next> goes to the next one"))
            return
        target = screen.query_one(CurrentLine) if focused is None else focused
        self._borrowed = focused is None
        screen.maximize(target)
        screen.set_focus(target)

    def minimized(self) -> None:
        """Called after the zoom has ended: give back a borrowed focus."""
        if self._borrowed:
            self._borrowed = False
            self._screen.set_focus(None)


def _compared(panel: object) -> Compared:
    """Return what a panel shows while two branches are compared, by default this branch alone."""
    return getattr(panel, "COMPARED", Compared.ALONE)
