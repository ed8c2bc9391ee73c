"""The pages of a screen that is too small for all panels: the names of the panels on each, as defined by main.tcss."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from tui_gru.debugger.snapshots.snapshot import Snapshot


class Following(Enum):
    """What the current line is about. The values are the classes by which main.tcss lays out the first of several pages."""

    VALUES = ""  # gates and states, or their gradients
    PREDICTION = "-at-prediction"  # the prediction, its gradient, or a term of the loss
    WEIGHTS = "-at-weights"  # the gradient of a parameter, or its update


_LINE = "the current line"
_ABOVE = ("sequence", "loss terms", _LINE, "gates")
_AT_WEIGHTS = {Following.WEIGHTS: (*_ABOVE, "weights", "samples")}

#: For the size class of a screen, the panels on each page without the listing.
PAGES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "-tiny": ((_LINE,), ("sequence", "loss terms"), ("ŷ", "loss curve"), ("weights", "samples")),
    "-narrow": (("sequence", _LINE, "gates"), ("loss terms", "gates", "ŷ", "loss curve"), ("sequence", "weights", "samples")),
    "-middle": ((*_ABOVE, "ŷ", "loss curve"), (*_ABOVE, "weights", "samples")),
    "-short": ((*_ABOVE, "ŷ", "loss curve"), (_LINE, "gates", "weights", "samples")),
    "": (("all panels",),),
}
#: The panels on the first page while the current line is not about gates and states.
FOLLOWED: Mapping[str, Mapping[Following, tuple[str, ...]]] = {
    "-narrow": {
        Following.PREDICTION: ("sequence", _LINE, "ŷ"),
        Following.WEIGHTS: ("sequence", _LINE, "weights"),
    },
    "-middle": _AT_WEIGHTS,
    "-short": _AT_WEIGHTS,
}
#: The additional last page of a small screen if there are watches or a log.
WATCHING = ("watches", "log")
SMALL = ("-tiny", "-narrow")


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


def pages_of(classes: frozenset[str], *, watching: bool, at: Following = Following.VALUES) -> tuple[tuple[str, ...], ...]:
    """Return the pages of a screen with these classes.

    `watching` is True if there are watches or a log. `at` is what the current line is about, which decides the first page.
    """
    size = next((name for name in PAGES if name in classes), "")
    first, *others = PAGES[size]
    pages = (FOLLOWED.get(size, {}).get(at, first), *others)
    return (*pages, WATCHING) if watching and size in SMALL else pages


def page_words(pages: tuple[tuple[str, ...], ...], page: int) -> str:
    """Describe the shown page (from 1) with its panels, then the other pages with the panels that are not on this one."""
    shown = pages[page - 1]
    others = (
        f"{number}: {', '.join(panel for panel in panels if panel not in shown)}"
        for number, panels in enumerate(pages, 1)
        if number != page
    )
    return " · ".join((f"page {page} of {len(pages)}: {', '.join(shown)}", *others))
