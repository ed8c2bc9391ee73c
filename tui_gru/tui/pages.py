"""Where each panel stands: its frame, and the pages that show it on a screen that is too small for all panels.

The sizes of the frames are in main.tcss. A new panel is a row of `PLACES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import import_module

from tui_gru.debugger.snapshots.snapshot import Snapshot
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
from tui_gru.tui.panels.values.weights import WeightsPanel
from tui_gru.tui.widgets.snapshot_panel import PanelGroup, SnapshotPanel

Shown = SnapshotPanel | PanelGroup


class Following(Enum):
    """What the current line is about. The values are the classes by which main.tcss lays out the first of several pages."""

    VALUES = ""  # gates and states, or their gradients
    PREDICTION = "-at-prediction"  # the prediction, its gradient, or a term of the loss
    WEIGHTS = "-at-weights"  # the gradient of a parameter, or its update


def _watches(snapshot: Snapshot) -> bool:
    return any(watch.enabled for watch in snapshot.stops.watches)


def _logs(snapshot: Snapshot) -> bool:
    return bool(snapshot.log) or any(stop.log for stop in snapshot.stops.breakpoints)


def _loss(snapshot: Snapshot) -> str:
    if snapshot.program.target:
        return "loss terms"
    from tui_gru.tui.panels.values import given  # imported late: only for models of other programs

    return given.loss_title(snapshot)


def _prediction(snapshot: Snapshot) -> str:
    if snapshot.program.target:
        return snapshot.program.writer.name(snapshot.program.loss_names.prediction)
    from tui_gru.tui.panels.values import given

    return given.title(snapshot)


@dataclass(frozen=True)
class PanelSlot:
    """Where a panel stands: in `frame`, after the panels of earlier rows.

    `tiny`, `narrow`, `middle` and `short` are the sizes of a screen that is too small for all panels. Each has the numbers of the
    pages that show the panel; or, for the first page only while the current line is about that, v (values), p (the prediction) or
    w (the weights). Without a text for a size, the panel is on every page. `name` is its word in the description of a page, or
    returns it.

    `panel` is the class, or the path to a class that is imported when it is `needed` for the first time.
    """

    panel: type[Shown] | str
    frame: str
    name: str | Callable[[Snapshot], str] = ""
    tiny: str | None = None
    narrow: str | None = None
    middle: str | None = None
    short: str | None = None
    needed: Callable[[Snapshot], bool] | None = None

    @property
    def kind(self) -> type[Shown]:
        """The class of the panel."""
        if not isinstance(self.panel, str):
            return self.panel
        module, _, name = self.panel.rpartition(".")
        kind: type[Shown] = getattr(import_module(module), name)
        return kind

    def named(self, snapshot: Snapshot) -> str:
        """Return the word for the panel in the description of a page."""
        return self.name if isinstance(self.name, str) else self.name(snapshot)

    def is_needed(self, snapshot: Snapshot) -> bool:
        """Return True if the panel has something to show."""
        return self.needed is None or self.needed(snapshot)

    def is_shown(self, size: str, page: int, at: Following) -> bool:
        """Return True if the panel is on a page, from 1, of a screen of a size."""
        where = self.on(size)
        return where is None or str(page) in where or (page == 1 and _LETTERS[at] in where)

    def on(self, size: str) -> str | None:
        """Return the text for a size, None if the panel is on every page."""
        text: str | None = getattr(self, size.removeprefix("-")) if size else None
        return text


_LETTERS = {Following.VALUES: "v", Following.PREDICTION: "p", Following.WEIGHTS: "w"}
_PROGRAM = "tui_gru.tui.panels.program"

#: The panels, in the order in which they stand in their frames. The frames `head` and `foot` are the screen itself.
PLACES = (
    PanelSlot(Header, "head"),
    PanelSlot(Listing, "program", tiny="1 2 3 4"),
    PanelSlot(f"{_PROGRAM}.watches.Watches", "program", "watches", tiny="5", narrow="4", needed=_watches),
    PanelSlot(f"{_PROGRAM}.log.Log", "program", "log", tiny="5", narrow="4", needed=_logs),
    PanelSlot(Sequence, "top", "sequence", tiny="2", narrow="1 3", middle="1 2", short="1"),
    PanelSlot(LossTerms, "top", _loss, tiny="2", narrow="2", middle="1 2", short="1"),
    PanelSlot(CurrentLine, "blackboard", "the current line", tiny="1", narrow="1", middle="1 2", short="1 2"),
    PanelSlot(Gates, "blackboard", "gates", tiny="", narrow="v 2", middle="1 2", short="1 2"),
    PanelSlot(Softmax, "middle", _prediction, tiny="3", narrow="p 2", middle="v p", short="v p"),
    PanelSlot(LossCurve, "middle", "loss curve", tiny="3", narrow="2", middle="v p", short="v p"),
    PanelSlot(WeightsPanel, "bottom", "weights", tiny="w 4", narrow="w 3", middle="w 2", short="w 2"),
    PanelSlot(Samples, "bottom", "samples", tiny="w 4", narrow="3", middle="w 2", short="w 2"),
    PanelSlot(TimeLine, "foot"),
)
#: The frames in a frame, which stand after its panels.
FRAMES: Mapping[str, tuple[str, ...]] = {"body": ("program", "top", "blackboard"), "blackboard": ("middle", "bottom")}
#: The classes of screens with several pages; the first that a screen has decides.
SIZES = ("-tiny", "-narrow", "-middle", "-short")


def size_of(classes: Iterable[str]) -> str:
    """Return the class that decides about the pages of a screen with these classes; empty if it shows all panels."""
    return next((size for size in SIZES if size in classes), "")


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


def pages_of(size: str, snapshot: Snapshot, at: Following = Following.VALUES) -> tuple[tuple[str, ...], ...]:
    """Return the names of the panels on each page of a screen of this size.

    `at` is what the current line is about, which decides about the first page.
    """
    places = [place for place in PLACES if place.name and place.on(size) is not None and place.is_needed(snapshot)]
    last = max((int(page) for place in places for page in place.on(size) or "" if page.isdigit()), default=0)
    pages = (tuple(place.named(snapshot) for place in places if place.is_shown(size, page, at)) for page in range(1, last + 1))
    return tuple(pages) or (("all panels",),)


def page_words(pages: tuple[tuple[str, ...], ...], page: int) -> str:
    """Describe the shown page (from 1) with its panels, then the other pages with the panels that are not on this one."""
    shown = pages[page - 1]
    others = (
        f"{number}: {', '.join(panel for panel in panels if panel not in shown)}"
        for number, panels in enumerate(pages, 1)
        if number != page
    )
    return " · ".join((f"page {page} of {len(pages)}: {', '.join(shown)}", *others))
