"""The pages of a screen that has no room for all panels at once: what is on each, in words, as main.tcss lays it out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from tui_gru.debugger.snapshots.snapshot import Snapshot


class Following(Enum):
    """What the line at work is about, by the class that main.tcss lays the first of several pages out with."""

    VALUES = ""  # gates and states, or their gradients
    PREDICTION = "-at-prediction"  # the prediction, or the gradient that begins with it
    LOSS = "-at-loss"  # a term of the loss
    WEIGHTS = "-at-weights"  # the gradient of a parameter, or its update


_LINE = "the line at work"
_ABOVE = ("sequence", "loss terms", _LINE, "gates")
_AT_WEIGHTS = {Following.WEIGHTS: (*_ABOVE, "weights", "samples")}

#: By the class that a screen has at its size: for each of its pages the panels on it, apart from the listing.
PAGES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "-tiny": ((_LINE,), ("sequence", "loss terms"), ("ŷ", "loss curve"), ("weights", "samples")),
    "-narrow": (("sequence", _LINE, "gates"), ("loss terms", "gates", "ŷ", "loss curve"), ("sequence", "weights", "samples")),
    "-middle": ((*_ABOVE, "ŷ", "loss curve"), (*_ABOVE, "weights", "samples")),
    "-short": ((*_ABOVE, "ŷ", "loss curve"), (_LINE, "gates", "weights", "samples")),
    "": (("all panels",),),
}
#: The panels on the first page while the line at work is about something else than gates and states.
FOLLOWED: Mapping[str, Mapping[Following, tuple[str, ...]]] = {
    "-narrow": {
        Following.PREDICTION: ("sequence", _LINE, "ŷ"),
        Following.LOSS: ("loss terms", _LINE, "ŷ"),
        Following.WEIGHTS: ("sequence", _LINE, "weights"),
    },
    "-middle": _AT_WEIGHTS,
    "-short": _AT_WEIGHTS,
}
#: On a small screen, watches and the log have a page after the others, where there are any.
WATCHING = ("watches", "log")
SMALL = ("-tiny", "-narrow")


def following(snapshot: Snapshot) -> Following:
    """What the line at work of a snapshot is about."""
    line, program = snapshot.line, snapshot.program
    if line is None:
        return Following.VALUES
    names = program.loss_names
    if line.phase == "update" or line.target.removeprefix("d") in program.parameters:
        return Following.WEIGHTS
    if line.target in (*names[1:], "loss"):
        return Following.LOSS
    if names.prediction and (line.target == names.prediction or (line.phase == "backward" and names.prediction in line.reads)):
        return Following.PREDICTION
    return Following.VALUES


def pages_of(classes: frozenset[str], *, watching: bool, at: Following = Following.VALUES) -> tuple[tuple[str, ...], ...]:
    """The pages of a screen with these classes; `watching`: there are watches or a log; `at`: what the first page follows."""
    size = next((name for name in PAGES if name in classes), "")
    first, *others = PAGES[size]
    pages = (FOLLOWED.get(size, {}).get(at, first), *others)
    return (*pages, WATCHING) if watching and size in SMALL else pages


def page_words(pages: tuple[tuple[str, ...], ...], page: int) -> str:
    """Which page (from 1) is shown and what is on it; then the others, each with what it has beyond that."""
    shown = pages[page - 1]
    others = (
        f"{number}: {', '.join(panel for panel in panels if panel not in shown)}"
        for number, panels in enumerate(pages, 1)
        if number != page
    )
    return " · ".join((f"page {page} of {len(pages)}: {', '.join(shown)}", *others))
