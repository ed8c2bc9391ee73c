"""Where panels stand: frames, pages of a small screen, and the overlay that covers the blackboard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import NamedTuple

from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Size
from textual.reactive import Reactive
from textual.widget import Widget

from tui_gru.debugger.position import as_typed
from tui_gru.engine.source import Ability
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui import panels
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import Compared, Panel, PanelGroup, SnapshotPanel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.listing import Listing, Log, Watches, fewest_and_most
from tui_gru.tui.panels.live import Output, RunSummary
from tui_gru.tui.panels.sequence import Samples, Sequence
from tui_gru.tui.panels.time import Header, LossCurve, TimeLine
from tui_gru.tui.panels.values import Gates, LossTerms, Softmax
from tui_gru.tui.panels.weights import WeightsPanel
from tui_gru.tui.session_screen import LOW, SessionScreen

# ------------------------------------------------------------------------------
# Where each panel stands: its frame, and the pages that show it on a screen that is too small for all panels.
#
# The sizes of the frames are in screen.tcss. A new panel is a row of `PLACES`.


Shown = SnapshotPanel | PanelGroup


class Following(Enum):
    """What the current line is about. The values are the classes by which screen.tcss lays out the first of several pages."""

    VALUES = ""  # gates and states, or their gradients
    PREDICTION = "-at-prediction"  # the prediction, its gradient, or a term of the loss
    WEIGHTS = "-at-weights"  # the gradient of a parameter, or its update


def _can(*abilities: Ability) -> Callable[[Snapshot], bool]:
    """Return whether the source of a run has one of these abilities."""
    return lambda snapshot: any(map(snapshot.config.source.can, abilities))


def _watches(snapshot: Snapshot) -> bool:
    return any(watch.enabled for watch in snapshot.state.stops.watches)


def _logs(snapshot: Snapshot) -> bool:
    return bool(snapshot.log) or any(stop.log for stop in snapshot.state.stops.breakpoints)


def _has_prediction(snapshot: Snapshot) -> bool:
    return bool(snapshot.program.target) or panels.imported.expected_output(snapshot) is not None


def _loss(snapshot: Snapshot) -> str:
    return "loss terms" if snapshot.program.target else panels.imported.loss_title(snapshot)


def _prediction(snapshot: Snapshot) -> str:
    program = snapshot.program
    return program.writer.name(program.loss_names.prediction) if program.target else panels.imported.title(snapshot)


class ScreenSize(NamedTuple):
    """The size of a screen: one of three classes by its columns, and whether it is tall for its class.

    A wide screen that is too low for the listing beside all others is a normal one, so that the current line has all its width.
    """

    name: str  # small, normal or wide
    tall: bool = False

    @classmethod
    def of(cls, size: Size) -> ScreenSize:
        """Return the class of a size in cells."""
        if size.width < _NORMAL:
            return cls("small")
        if size.width < _WIDE or size.height < _TALL["normal"]:
            return cls("normal", size.height >= _TALL["normal"])
        return cls("wide", size.height >= _TALL["wide"])

    @property
    def has_all(self) -> bool:
        """True if all panels are on the screen at once."""
        return self.name == "wide" and self.tall

    @property
    def classes(self) -> set[str]:
        """The classes by which screen.tcss lays out a screen of this size."""
        return {f"-{self.name}", *(["-tall"] if self.tall else [])}


_NORMAL, _WIDE = 60, 160  # columns; a narrower screen is small, or a normal one
_TALL = {"normal": 36, "wide": 50}  # rows
#: All classes of sizes.
SIZE_CLASSES = frozenset({"-small", "-normal", "-wide", "-tall"})


class PanelSlot(NamedTuple):
    """Where a panel stands: in `frame`, after the panels of earlier rows.

    A wide and tall screen has all panels at once, the others show them on pages. `small`, `normal` and `wide` have the numbers of
    the pages that show the panel; or, for the first page only while the current line is about that, v (values), p (the prediction)
    or w (the weights). What stands behind a + is added on a tall screen. Without a text for a size, the panel is on every page,
    with an empty one on none. `below` returns True if, on a screen with all panels, the panel stands below the listing: then, the
    slot in the frame `program` has it, and otherwise the other one.

    `name` is its word in the description of a page, or returns it. `has_content` returns True if the panel has something to
    show; without it, a panel always has. Otherwise, it is made when it is `expected`, or has content for the first time, on a
    screen that has a place for it. While it has nothing to show, others have its room: it comes with what the user asks for, as a
    sample or a watch, and a step moves nothing. With `live`, it is shown only while the screen follows a run (`View.live`), with
    False only while it does not.
    """

    panel: type[Shown]
    frame: str
    name: str | Callable[[Snapshot], str] = ""
    small: str | None = None
    normal: str | None = None
    wide: str | None = None
    below: Callable[[Snapshot], bool] | None = None
    has_content: Callable[[Snapshot], bool] | None = None
    expected: Callable[[Snapshot], bool] | None = None
    live: bool | None = None

    def named(self, snapshot: Snapshot) -> str:
        """Return the word for the panel in the description of a page."""
        return self.name if isinstance(self.name, str) else self.name(snapshot)

    def is_needed(self, snapshot: Snapshot) -> bool:
        """Return True if the panel has something to show."""
        return self.has_content is None or self.has_content(snapshot)

    def is_made(self, snapshot: Snapshot, size: ScreenSize) -> bool:
        """Return True if there is a panel, which may have nothing to show yet, on a screen of a size."""
        if self.has_content is None:
            return self.below is None or self.on(size, snapshot) != ""
        is_expected = self.expected is not None and self.expected(snapshot)
        return self.on(size, snapshot) != "" and (self.has_content(snapshot) or is_expected)

    def is_shown(self, snapshot: Snapshot, size: ScreenSize, page: int, at: Following) -> bool:
        """Return True if the panel is on a page, from 1, of a screen of a size."""
        where = self.on(size, snapshot)
        return where is None or str(page) in where or (page == 1 and _LETTERS[at] in where)

    def on(self, size: ScreenSize, snapshot: Snapshot) -> str | None:
        """Return the pages of a screen of a size that show the panel, None if all do."""
        if size.has_all:
            return None if self.below is None or self.below(snapshot) is (self.frame == "program") else ""
        text: str | None = getattr(self, size.name)
        usual, _, more = (text or "").partition("+")
        return text and usual + (more if size.tall else "")


def _has_room_below(snapshot: Snapshot) -> bool:
    """Return True if the listing of a model that cannot be sampled leaves room for the prediction and the curve."""
    fewest, _ = fewest_and_most(snapshot.program)
    return not snapshot.config.source.can(Ability.TEXT) and fewest + 2 <= _COLUMN - _LEAST["middle"] - _LEAST_CURVE


_SAMPLES = partial(
    PanelSlot,
    Samples,
    below=_can(Ability.TEXT),
    has_content=lambda snapshot: bool(snapshot.state.samples),
    expected=_can(Ability.TEXT),
)
_PREDICTION = partial(PanelSlot, Softmax, below=_has_room_below, has_content=_has_prediction)
_CURVE = partial(PanelSlot, LossCurve, below=_has_room_below, has_content=_can(Ability.LOSS))
_HAS_TERMS = _can(Ability.LOSS, Ability.BACKWARD)  # the gradient of a loss may be elsewhere
_LETTERS = {Following.VALUES: "v", Following.PREDICTION: "p", Following.WEIGHTS: "w"}

#: The panels, in the order in which they stand in their frames. The frames `head` and `foot` are the screen itself.
PLACES = (
    PanelSlot(Header, "head"),
    PanelSlot(Listing, "program", small="1 2 3 4", live=False),
    PanelSlot(RunSummary, "program", "the run", small="", normal="2 3", live=True),
    PanelSlot(Watches, "program", "watches", small="5", normal="4", has_content=_watches),
    PanelSlot(Log, "program", "log", small="5", normal="4", has_content=_logs),
    _SAMPLES("program", small="", normal="", wide=""),
    _PREDICTION("program", small="", normal="", wide=""),
    _CURVE("program", small="", normal="", wide=""),
    PanelSlot(Sequence, "top", "sequence", small="2", normal="1 3 +2", wide="1 2"),
    PanelSlot(LossTerms, "top", _loss, small="2", normal="2 +1 3", wide="1 2", has_content=_HAS_TERMS),
    PanelSlot(CurrentLine, "blackboard", "the current line", small="1", normal="1", wide="1", live=False),
    PanelSlot(Output, "blackboard", "what it writes", small="1", normal="1", wide="1", live=True),
    PanelSlot(Gates, "blackboard", "gates", small="", normal="v 2", wide="1"),
    _PREDICTION("middle", _prediction, small="3", normal="p 2", wide="v p 2"),
    _CURVE("middle", "loss curve", small="3", normal="2 +p", wide="v p 2"),
    PanelSlot(WeightsPanel, "bottom", "weights", small="w 4", normal="w 3", wide="w 2"),
    _SAMPLES("bottom", "samples", small="w 4", normal="3", wide="w 2"),
    PanelSlot(TimeLine, "foot"),
)
#: The panels that need only the results of a batch.
ALL_RESULTS = Header, LossCurve, TimeLine, Output, RunSummary
#: The frames in a frame, which stand after its panels.
FRAMES: Mapping[str, tuple[str, ...]] = {"body": ("program", "top", "blackboard"), "blackboard": ("middle", "bottom")}


def _has_terms(snapshot: Snapshot) -> bool:
    """Return True if the loss is a table of terms, and not words."""
    names = snapshot.program.loss_names
    return bool(names.entry and names.row and names.timestep)


def _top(size: ScreenSize, snapshot: Snapshot) -> int:
    """Return the rows of the batch above the blackboard, as in screen.tcss."""
    if size.name == "normal":
        return 14 if size.tall else 6
    return 8 if _has_terms(snapshot) else 7


_LISTING = 48  # the width of the listing beside the blackboard, as in screen.tcss
_COLUMN = 46  # the rows of the listing on the lowest screen with all panels
_LEAST_CURVE = 7  # of the curve below the listing
_WEIGHTS = 80  # the width of the weights beside the samples
#: The rows of the blackboard: the current line, the gates, the prediction with the curve, and the weights with the samples. What
#: each needs before another gets what it wants, and what it must have: with fewer rows it would be a border around nothing.
_LEAST = {"line": 8, "gates": 8, "middle": 6, "bottom": 5}
_SHORTEST = {"line": 8, "gates": 4, "middle": 4, "bottom": 4}
_WRITTEN = {"line": 2}  # of what it wants, the rows that only write out more of its entries: the weights come before
_JOINING, _SCROLLING = (
    ("gates", "middle", "bottom"),
    ("middle", "bottom"),
)  # those that other pages have room for, even with fewer rows
_SPARE = 2  # rows that are left for the last frame; the gates have as many before it
_LEAST_SAMPLES = 9  # below the listing: of two samplers, the text, what was said and what was read, and a border


def shared(room: int, desired: Mapping[str, int], first: Iterable[str], highlighted: Iterable[str] = ()) -> dict[str, int]:
    """Share the rows of the blackboard: to each its least, then to each its `desired` height, in order, `first` before the others.

    The rows of the line that only write out more entries come after the weights, which would scroll. A frame for which there is no
    room, as below a card, is left out: it has 0 rows. `highlighted` are those that the card refers to, which are shown in
    full. What is left goes to the last frame, but for a few rows of the gates where it is more than a few.
    """
    shortest = {name: rows if name in highlighted else min(_SHORTEST[name], rows) for name, rows in desired.items() if rows}
    order: list[str] = []
    for name in dict.fromkeys((*(name for name in desired if name in highlighted), *first, *desired)):
        if name in shortest and (not order or sum(shortest[other] for other in (*order, name)) <= room):
            order.append(name)
    heights = {name: min(_LEAST[name], desired[name]) if name in order else 0 for name in desired}
    spare = room - sum(heights.values())
    early = [name for name in order if name != "middle" or name in first] if "bottom" in order else []
    more = [(name, desired[name] - _WRITTEN.get(name, 0)) for name in early] + [(name, desired[name]) for name in order]
    for name, rows in more:
        added = max(min(rows - heights[name], spare), 0)
        heights[name], spare = heights[name] + added, spare - added
    for name in reversed(order):
        less = max(min(-spare, heights[name] - shortest[name]), 0)
        heights[name], spare = heights[name] - less, spare + less
    last = [name for name in heights if name in order and (name in ("middle", "bottom") or len(order) == 1)]
    if last and spare > _SPARE and "gates" in order and len(order) > 1:
        heights["gates"], spare = heights["gates"] + min(spare - _SPARE, _SPARE), spare - min(spare - _SPARE, _SPARE)
    for name in last[-1:]:
        heights[name] += spare
    return heights


def following(snapshot: Snapshot) -> Following:
    """Return what the current line of a snapshot is about."""
    line, program = snapshot.line, snapshot.program
    if line is None:
        return Following.VALUES
    names = program.loss_names
    if line.phase == "update" or line.target.removeprefix("d") in program.parameters:
        return Following.WEIGHTS
    if line.target in (*filter(None, names), "loss") or (line.phase == "backward" and names.prediction in line.reads):
        return Following.PREDICTION
    return Following.VALUES


def pages_of(
    size: ScreenSize, snapshot: Snapshot, at: Following = Following.VALUES, *, live: bool = False
) -> tuple[tuple[str, ...], ...]:
    """Return the names of the panels on each page of a screen of this size, which follows a run if `live` is True.

    `at` is what the current line is about, which decides about the first page.
    """
    places = _on_pages(size, snapshot, live=live)
    if not places:
        return (("all panels",),)
    numbers = range(1, count_of_pages(size, snapshot, live=live) + 1)
    return tuple(tuple(place.named(snapshot) for place in places if place.is_shown(snapshot, size, page, at)) for page in numbers)


def count_of_pages(size: ScreenSize, snapshot: Snapshot, *, live: bool = False) -> int:
    """Return the number of pages of a screen of this size."""
    texts = [place.on(size, snapshot) or "" for place in _on_pages(size, snapshot, live=live)]
    return max((int(page) for text in texts for page in text if page.isdigit()), default=1)


def _on_pages(size: ScreenSize, snapshot: Snapshot, *, live: bool) -> list[PanelSlot]:
    """Return the panels that are only on some pages of a screen of this size."""
    places = [place for place in PLACES if not size.has_all and place.name and place.live in (None, live)]
    return [place for place in places if place.on(size, snapshot) is not None and place.is_needed(snapshot)]


def page_words(pages: tuple[tuple[str, ...], ...], page: int) -> str:
    """Describe the shown page (from 1) with its panels, then the other pages with the panels that are not on this one."""
    shown = pages[page - 1]
    others = (
        f"{number}: {', '.join(panel for panel in page_panels if panel not in shown)}"
        for number, page_panels in enumerate(pages, 1)
        if number != page
    )
    return " · ".join((f"page {page} of {len(pages)}: {', '.join(shown)}", *others))


# ------------------------------------------------------------------------------
# The panels of the main screen: composition, drawing, pages on a small screen, and zoom.


#: The classes of the screen by which screen.tcss lays out its pages, and frames without some of their panels.
LAID_OUT_BY = frozenset(
    {*(f"-page-{page}" for page in range(1, 10)), *(at.value for at in Following), "-no-samples", "-no-terms", "-live"}
)


class PanelContainer(Container):
    """A container of panels that draws nothing itself."""

    BLANK = True  # Textual's name for it
    virtual_size = Reactive(Size(0, 0), repaint=False)  # set by a layout, after which Textual would do another one


class PanelHost:
    """`page` is the number of the page, from 1. `PLACES` defines which panels a page shows."""

    def __init__(self, screen: SessionScreen) -> None:
        self._screen = screen
        self.page = 1
        self._panels: dict[PanelSlot, Shown] = {}
        self._frames: dict[str, PanelContainer] = {}
        self._arranged: object = None  # what the panels on screen were last chosen for
        self._heights: dict[str, int] = {}  # of the rows of the blackboard
        self._behind = False  # some panels show the moment before the run that is under way
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
        return self._frames[name]

    def _made(self, frame: str) -> list[Shown]:
        """Create the panels of a frame that are needed now, or expected."""
        screen, made = self._screen, list[Shown]()
        for place in PLACES:
            if place.frame == frame and place.is_made(screen.snapshot, self._size) and place.live is not True:
                kind = place.panel
                panel = kind(screen.session.program) if issubclass(kind, Gates) else kind()
                self._panels[place] = panel
                made.append(panel)
        return made

    def _has_turn(self, place: PanelSlot) -> bool:
        """Return True if a panel belongs on the screen while it follows a run, or while it does not."""
        return place.live is None or place.live is self._screen.view.live

    @property
    def board(self) -> PanelContainer | None:
        """The frame that overlays cover; None before the screen is composed."""
        return self._frames.get("blackboard")

    def restyle(self) -> None:
        """Style what looks different while an overlay covers the blackboard: the frames and what the blackboard contains."""
        inside = () if self.board is None else self.board.children
        self._screen.app.stylesheet.update_nodes(dict.fromkeys([*self._frames.values(), *inside]))

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
        if self._behind:
            self._behind = False
            self._remark("")
        for panel in (*self._panels.values(), screen.overlay):
            if panel is not None:
                panel.show(self.seen_by(panel), screen.view)
                self._remark_on(panel)

    def show_results(self, snapshot: Snapshot) -> None:
        """Draw a snapshot that has only results on the panels that need no more; the others say of which place they are."""
        self._behind = True
        self._mount_needed()
        self._arrange()
        self._remark(f"at {as_typed(self._screen.snapshot.position)}")
        for panel in self._panels.values():
            if isinstance(panel, ALL_RESULTS):
                panel.show(snapshot, self._screen.view)

    def _remark(self, remark: str) -> None:
        for panel in self._screen.query(Panel):
            if not isinstance(panel, ALL_RESULTS):
                panel.set_remark(remark)

    def _mount_needed(self) -> None:
        """Mount the panels that have, or will have, something to show for the first time."""
        if not self._screen.is_attached:  # the program is about to end, while a run that goes on is still drawn
            return
        before: dict[str, Shown] = {}
        for place in PLACES:
            is_made = place.is_made(self._screen.snapshot, self._size) and (place.live is not True or self._has_turn(place))
            if place not in self._panels and is_made:
                panel = self._panels[place] = place.panel()
                frame, after = self._frames[place.frame], before.get(place.frame)
                first = 0 if after is None and frame.children else None
                frame.mount(panel, before=first, after=after)
                panel.show(self.seen_by(panel), self._screen.view)
                self._arranged = None
            if place in self._panels:
                before[place.frame] = self._panels[place]

    def _arrange(self, *, update: bool = True) -> None:
        """Choose the panels and frames that are on screen, and what the first of several pages follows.

        `update` is False before they are mounted, when they are styled anyway.
        """
        screen, snapshot, size = self._screen, self._screen.snapshot, self._size
        live = screen.view.live
        at = following(snapshot) if self.page == 1 and self.pages > 1 and not live else Following.VALUES
        with_content = tuple(place.is_needed(snapshot) and self._has_turn(place) for place in self._panels)
        has_samples = any(
            place.panel is Samples and place.frame == "bottom" and place.on(size, snapshot) != "" and place.is_needed(snapshot)
            for place in PLACES
        )
        lacks = [*([] if has_samples else ["-no-samples"]), *([] if _has_terms(snapshot) else ["-no-terms"])]
        more = self._more(size, at, self.page)
        heights = self._shares(size, at, more)
        if heights != self._heights:
            self._heights = heights
            self._set_heights(update=update)
        if (size, self.page, at, with_content, more) == self._arranged:
            return
        self._arranged = size, self.page, at, with_content, more
        before = screen.classes
        screen.remove_class(*before & LAID_OUT_BY, update=False)
        screen.add_class(f"-page-{self.page}", *filter(None, [at.value, "-live" if live else ""]), *lacks, update=False)
        stale: list[Widget] = [*self._frames.values()]
        for (place, panel), is_useful in zip(self._panels.items(), with_content, strict=True):
            shown = is_useful and (self._is_on(place, self.page, at) or self._joins(place, self.page, more))
            if shown is panel.has_class("-off") or (shown and screen.classes != before):
                stale.append(panel)
            panel.set_class(not shown, "-off", update=False)
        for name, frame in self._frames.items():
            frame.set_class(not self._has_panels(name), "-off", update=False)
        if update:
            screen.app.stylesheet.update_nodes(stale)  # what is in the panels looks the same on every page

    def _is_on(self, place: PanelSlot, page: int, at: Following) -> bool:
        """Return True if a panel is on a page. The first of a small screen that follows a run is for what the model writes, and the
        curve."""
        if self._screen.view.live and page == 1 and self._size.name == "normal" and place.name:
            return place.panel in (Output, LossCurve)
        return place.is_shown(self._screen.snapshot, self._size, page, at)

    def _joins(self, place: PanelSlot, page: int, more: frozenset[str]) -> bool:
        """Return True if a panel is in one of the rows for which a page has room besides its own."""
        belongs = page == 1 or place.panel is not Samples  # beside the weights of another page
        return _row_of(place) in more and belongs and not self._gives_way(place)

    def _gives_way(self, place: PanelSlot) -> bool:
        """Return True for the prediction on the first page of a small screen that follows a run, where the curve has the width."""
        return place.panel is Softmax and self._screen.view.live and self._size.name == "normal"

    def _room(self, size: ScreenSize) -> Size:
        """Return the size of the blackboard."""
        width, height = self._screen.app.size
        flat = size.name == "normal"  # the blackboard is below the listing and the batch
        top = 0 if flat and self._screen.view.live and self.page == 1 else _top(size, self._screen.snapshot)
        rows = height - 1 - self._screen.card_rows - top - (1 if height < LOW else 2) - (1 if flat else 2)
        return Size(width if flat else width - _LISTING, rows)

    def _rows_of_page(self, size: ScreenSize, at: Following, page: int) -> set[str]:
        """Return the rows of the blackboard that a page is there for."""
        return {_row_of(place) for place in self._panels if place.name and self._has_turn(place) and self._is_on(place, page, at)}

    def _more(self, size: ScreenSize, at: Following, page: int) -> frozenset[str]:
        """Return the rows of the blackboard for which a page has room besides its own: those that fit as they want to, then the
        prediction and the weights, which are of use with fewer rows. The line and the samples are only where they belong."""
        if size.has_all or size.name == "small":
            return frozenset()
        room, page_rows, more = self._room(size), self._rows_of_page(size, at, page), set[str]()
        if page_rows.isdisjoint(_LEAST):  # the page of watches
            return frozenset()
        used = sum(self._height_of(name, room.width, size, at, page, in_full=page > 1) for name in _LEAST if name in page_rows)
        for name in _LEAST if page == 1 else _JOINING:
            height = self._height_of(name, room.width, size, at, page)
            if name not in page_rows and 0 < height <= room.height - used:
                more.add(name)
                used += height
        for name in ("middle",) if page == 1 else _SCROLLING:
            if name not in page_rows | more and room.height - used >= _SHORTEST[name]:
                height = self._height_of(name, room.width, size, at, page)
                more |= {name} if height else set()
                used += height
        return frozenset(more)

    def _shares(self, size: ScreenSize, at: Following, more: frozenset[str]) -> dict[str, int]:
        """Return the heights of the rows of the blackboard on this page, and of the panels below the listing; empty on a small
        screen, which shows one at a time."""
        if size.name == "small":
            return {}
        room, shown = self._room(size), self._rows_of_page(size, at, self.page) | more
        rows = [name for name in _LEAST if name in shown and self._in_row(name)]
        desired = {name: self._height_of(name, room.width, size, at, self.page) for name in rows}
        for gates in self._in_row("gates") if "gates" in desired else ():
            digits = "line" not in desired  # a page without the line shows the digits of the gates
            if isinstance(gates, Gates) and "middle" not in shown:  # their room is for gates and weights
                others = sum(_LEAST[name] if name == "bottom" else rows for name, rows in desired.items() if name != "gates")
                left = room.height - others
                desired["gates"] = gates.wanted_height(self._screen.snapshot, room.width, digits=digits, height=left)
            elif isinstance(gates, Gates) and digits:
                desired["gates"] = gates.wanted_height(self._screen.snapshot, room.width, digits=True)
        highlighted = {_row_of(place) for place in self._panels if self._screen.tells_of(place.panel)} & set(rows)
        first: tuple[str, ...] = ("line", "gates", "bottom")  # the curve takes what it gets
        if at is not Following.VALUES or self.page > 1:
            first = ("line", "middle") if at is Following.PREDICTION and self.page == 1 else ("bottom",)
        if self.page > 1 and "bottom" in more:  # which has what the others leave
            first = ("gates", "middle")
        heights = shared(room.height, desired, first, highlighted)
        return heights | (self._below_listing(room.height + _top(size, self._screen.snapshot) - 2) if size.has_all else {})

    def _below_listing(self, room: int) -> dict[str, int]:
        """Return the heights of the panels below the listing, of `room` rows for its lines and for them.

        The samples get what they need, the prediction as well, as far as it leaves enough for the curve, which takes the rest.
        """
        snapshot, heights = self._screen.snapshot, dict[str, int]()
        fewest, most = (room - rows for rows in fewest_and_most(snapshot.program))
        for place, panel in self._panels.items():
            if place.frame != "program" or place.below is None or not place.below(snapshot) or not isinstance(panel, SnapshotPanel):
                continue
            if isinstance(panel, Samples):
                spare = max(most if most >= _LEAST_SAMPLES else fewest, _LEAST_SAMPLES)
                heights["samples"] = panel.within(snapshot, _LISTING, spare)
            elif isinstance(panel, Softmax):
                rows = panel.content(snapshot, _LISTING - panel.gutter.width, 100).height + panel.gutter.height
                heights["prediction"] = max(min(rows, fewest - _LEAST_CURVE), _SHORTEST["middle"])
            elif place.is_needed(snapshot):
                heights["curve"] = max(fewest - heights.get("prediction", 0), _LEAST_CURVE)
        return heights

    def _height_of(self, name: str, width: int, size: ScreenSize, at: Following, page: int, *, in_full: bool = False) -> int:
        """Return the rows that a row of panels wants at this width: those that are on a page, or all if none is.

        A large matrix wants few rows, `in_full` one for each of its own.
        """
        snapshot = self._screen.snapshot
        places = [place for place in self._panels if _row_of(place) == name and place.is_needed(snapshot) and self._has_turn(place)]
        on_page = [place for place in places if self._is_on(place, page, at)] or places
        alone = name in ("line", "gates") or (name == "bottom" and len(on_page) == 1)
        across = width if alone else _WEIGHTS if name == "bottom" and size.name == "wide" else width // 2
        weights = [panel for place in on_page if isinstance(panel := self._panels[place], WeightsPanel)] if in_full else []
        heights = [self._panels[place].wanted_height(snapshot, across) for place in on_page]
        return max([*heights, *(panel.height_in_full(snapshot, across) for panel in weights)], default=0)

    def _set_heights(self, *, update: bool) -> None:
        """Give the rows of the blackboard their heights. That of a panel that can be zoomed is `auto`, which the zoom replaces."""
        for name in (*_LEAST, *_BELOW.values()):
            rows, first = self._heights.get(name), next(iter(self._in_row(name)), None)
            if first is None:
                continue
            widget: Widget = self._frames.get(name, first)
            widget.set_class(rows == 0, "-none", update=update)
            if isinstance(first, SnapshotPanel) and name not in self._frames:
                first.allotted = rows or 0
                if update:
                    first.refresh(layout=True)
            else:
                widget.styles.height = rows

    def _in_row(self, name: str) -> list[Shown]:
        return [panel for place, panel in self._panels.items() if _row_of(place) == name and self._has_turn(place)]

    def _has_panels(self, frame: str) -> bool:
        """Return True if a panel in a frame is on screen."""
        has_panel = any(place.frame == frame and not panel.has_class("-off") for place, panel in self._panels.items())
        return has_panel or any(map(self._has_panels, FRAMES.get(frame, ())))

    def _remark_on(self, panel: object) -> None:
        """Set the remark in the border of a panel that shows no differences while others do."""
        snapshot = self._screen.snapshot
        shown = snapshot.other is not None and self._screen.view.differences and _compared(panel) is Compared.ALONE
        if isinstance(panel, Panel):
            panel.set_remark(f"{snapshot.state.branch} alone" if shown else "")

    def seen_by(self, panel: object) -> Snapshot:
        """Return what a panel draws: the snapshot, or its differences from the compared branch."""
        snapshot = self._screen.snapshot
        if snapshot.other is None or not (self._screen.view.differences and _compared(panel) is Compared.DIFFERENCES):
            return snapshot
        from tui_gru.session.snapshot import differences

        return differences(snapshot)

    # Sizes and pages

    def size_up(self) -> None:
        """Set the classes of the size of the screen, such that rows are shared, and panels styled, only once."""
        screen = self._screen
        classes = ScreenSize.of(screen.app.size).classes
        screen.remove_class(*(SIZE_CLASSES - classes), update=False)
        screen.add_class(*classes)
        self.resized()

    def resized(self) -> None:
        """Set the class of a low screen, on which the later pages have no room for the program."""
        self._screen.set_class(self._screen.app.size.height < LOW, "-low")
        if self._panels:
            self._mount_needed()
        self._arrange()

    def is_elsewhere(self, panel: type[object]) -> bool:
        """Return True if a panel of this class is on another page."""
        snapshot, at = self._screen.snapshot, following(self._screen.snapshot)
        slots = [
            slot for slot in PLACES if slot.panel is panel and slot.is_needed(snapshot) and slot.on(self._size, snapshot) != ""
        ]
        return self.pages > 1 and bool(slots) and not any(slot.is_shown(snapshot, self._size, self.page, at) for slot in slots)

    @property
    def _size(self) -> ScreenSize:
        return ScreenSize.of(self._screen.app.size)

    @property
    def small(self) -> bool:
        """True if watches and log have a page of their own."""
        return self._size.name != "wide"

    @property
    def pages(self) -> int:
        """The number of pages at this screen size."""
        return count_of_pages(self._size, self._screen.snapshot, live=self._screen.view.live)

    @property
    def on_pages(self) -> tuple[tuple[str, ...], ...]:
        """The names of the panels on each page at this screen size."""
        snapshot, at, size = self._screen.snapshot, following(self._screen.snapshot), self._size
        in_turn = [place for place in PLACES if place.name and self._has_turn(place) and place.is_needed(snapshot)]
        pages = list[tuple[str, ...]]()
        for page, names in enumerate(pages_of(size, snapshot, at, live=self._screen.view.live), 1):
            more = self._more(size, at if page == 1 else Following.VALUES, page)
            named = (place.named(snapshot) for place in in_turn if self._joins(place, page, more))
            pages.append((*names, *(name for name in named if name not in names)))
        return tuple(pages)

    def turn_to(self, page: int) -> None:
        """Show the page of this number, from 1; the first page if there is no such page."""
        self.page = page if 1 <= page <= self.pages else 1
        self._arrange()

    def show_page_of(self, panel: type[object]) -> bool:
        """Turn to the first page with a panel, if this page does not show it. Return True if the page was turned."""
        at, size = following(self._screen.snapshot), self._size
        slots = [place for place in PLACES if place.panel is panel and place.on(size, self._screen.snapshot) != ""]
        pages = range(1, self.pages + 1) if slots else ()
        more = self._more(size, at, 1)  # other pages may show it with fewer rows than its own
        shown = [page for page in pages if self._is_on(slots[0], page, at) or (page == 1 and self._joins(slots[0], page, more))]
        if not shown or self.page in shown:
            return False
        self.turn_to(shown[0])
        return True

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


def _row_of(place: PanelSlot) -> str:
    """Return the row of the blackboard in which a panel stands, or its own name below the listing; empty for other panels."""
    if place.frame == "program" and place.below is not None:
        return _BELOW[place.panel]
    rows = {CurrentLine: "line", Output: "line", Gates: "gates"}
    return rows.get(place.panel, place.frame if place.frame in _LEAST else "")


#: The panels that stand below the listing if it leaves room for them.
_BELOW: Mapping[type[Shown], str] = {Samples: "samples", Softmax: "prediction", LossCurve: "curve"}


def _compared(panel: object) -> Compared:
    """Return what a panel shows while two branches are compared, by default this branch alone."""
    return getattr(panel, "COMPARED", Compared.ALONE)


# ------------------------------------------------------------------------------
# Shows and closes the overlay, the panel that covers the blackboard: a list, a report, a derivation.


COVERING = "-overlay"  # the class of an overlay, by which screen.tcss lays it out


class OverlayHost:
    """At most one overlay at a time; the header stays visible, and the listing unless the overlay needs its room."""

    def __init__(self, screen: SessionScreen, panels: PanelHost) -> None:
        self._screen, self._panels = screen, panels
        self._chosen: SnapshotPanel | None = None  # the overlay that covers the blackboard, or that is about to
        self._mounted: SnapshotPanel | None = None  # the overlay that was mounted last
        self._then: Callable[[], object] | None = None  # called once the wanted overlay is mounted
        self._mounting = False  # True while a worker mounts overlays
        self._came_from: Widget | None = None  # the widget that had the focus before the overlay

    @property
    def overlay(self) -> SnapshotPanel | None:
        """The overlay that covers the blackboard, None if there is none."""
        is_mounted = self._chosen is not None and self._chosen is self._mounted and self._chosen.is_attached
        return self._chosen if is_mounted else None

    @property
    def expecting(self) -> bool:
        """True while an overlay is being mounted, which the next key may be meant for."""
        return self._chosen is not None and self._chosen is not self._mounted

    @property
    def _on_board(self) -> list[SnapshotPanel]:
        """The overlay, and those before it that are not removed yet."""
        board = self._panels.board
        return [] if board is None else [panel for panel in board.query_children(SnapshotPanel) if panel.has_class(COVERING)]

    def toggle(self, kind: type[SnapshotPanel]) -> None:
        """Cover the blackboard with a panel of this class, or close it if it covers the blackboard or is about to."""
        if isinstance(self._chosen, kind):
            self.lift()
        else:
            self.cover(kind())

    def cover(self, overlay: SnapshotPanel, *, of_this_moment: bool = False, then: Callable[[], object] | None = None) -> None:
        """Cover the blackboard with a panel, which gets the focus, every snapshot, and the keys typed until it is mounted.

        With `of_this_moment`, the overlay is closed when this moment is no longer part of the timeline. `then` is called once it is
        mounted.
        """
        if of_this_moment:
            overlay.read_at = self._screen.session.anchor()
        if self._screen.maximized is not None:  # the blackboard is not on screen
            self._screen.minimize()
        if self._chosen is None:
            self._came_from = self._screen.in_use
        overlay.add_class(COVERING)
        overlay.command = self._screen.command
        self._chosen, self._then = overlay, then
        if not self._mounting:
            self._mounting = True
            work: Callable[[], Awaitable[None]] = self._mount_wanted  # not a coroutine, which warns if never awaited
            self._screen.run_worker(work, group="overlay")

    async def _mount_wanted(self) -> None:
        """Mount the overlay that is wanted, and again the one that is wanted by then.

        This is one worker that is never cancelled: cancelled while it waits, it would leave a panel half mounted or half removed.
        """
        try:
            while self.expecting:
                await self._mount(self._chosen)
        except Exception:
            if self.expecting:
                self._chosen = None  # otherwise the keys would wait for it for ever
            raise
        finally:
            self._mounting = False

    async def _mount(self, overlay: SnapshotPanel | None) -> None:
        screen, board = self._screen, self._panels.board
        assert board is not None
        assert overlay is not None
        for earlier in self._on_board:
            await earlier.remove()
        if overlay is self._chosen:
            await board.mount(overlay)
        if overlay is not self._chosen:  # closed or replaced meanwhile: then it must not get the focus
            return
        self._mounted = overlay
        board.add_class("-covered", update=False)
        screen.add_class("-overlaid", update=False)
        screen.set_class(overlay.COVERS_ALL, "-whole", update=False)
        self._panels.restyle()
        overlay.show(screen.snapshot, screen.view)
        screen.set_focus(overlay)  # without delay, since the next key may be waiting already
        then, self._then = self._then, None
        if then is not None:
            then()

    def lift(self) -> None:
        """Close the overlay, and return the focus to where it was."""
        self._chosen = self._mounted = self._then = None
        for overlay in self._on_board:
            overlay.remove()
        if (board := self._panels.board) is not None:
            board.remove_class("-covered", update=False)
        self._screen.remove_class("-overlaid", "-whole", update=False)
        self._panels.restyle()
        came_from, self._came_from = self._came_from, None
        self._screen.set_focus(came_from)
        self._screen.call_after_refresh(self._leave_hidden, came_from)

    def _leave_hidden(self, widget: Widget | None) -> None:
        """Take the focus from a panel that this page does not show; otherwise show its keys once it is laid out."""
        if widget is not None and widget is self._screen.focused and not all(node.display for node in widget.ancestors_with_self):
            self._screen.set_focus(None)
        self._screen.call_after_refresh(self._screen.bottom.refresh)

    def lift_what_is_gone(self) -> str:
        """Close an overlay whose moment is no longer in the timeline. Return a message, empty if none was closed."""
        overlay = self._chosen
        if overlay is None or overlay.read_at is None or self._screen.session.holds(overlay.read_at):
            return ""
        self.lift()
        return "the panel was closed: its moment is no longer in the timeline"
