"""The pages of a screen that has no room for all panels at once: what is on each, in words, as main.tcss lays it out."""

from __future__ import annotations

from collections.abc import Mapping

#: By the class that a screen has at its size: for each of its pages the panels on it, apart from the listing.
PAGES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "-tiny": (("the line at work",), ("sequence", "loss terms"), ("ŷ", "loss curve"), ("weights", "samples")),
    "-narrow": (("sequence", "loss terms", "the line at work", "gates"), ("gates", "ŷ", "loss curve"), ("weights", "samples")),
    "-middle": (
        ("sequence", "loss terms", "the line at work", "gates", "ŷ", "loss curve"),
        ("sequence", "loss terms", "the line at work", "gates", "weights", "samples"),
    ),
    "-short": (
        ("sequence", "loss terms", "the line at work", "gates", "ŷ", "loss curve"),
        ("the line at work", "gates", "weights", "samples"),
    ),
    "": (("all panels",),),
}
#: On a small screen, watches and the log have a page after the others, where there are any.
WATCHING = ("watches", "log")


def pages_of(classes: frozenset[str], *, watching: bool) -> tuple[tuple[str, ...], ...]:
    """The pages of a screen with these classes; `watching`: there are watches or a log."""
    small = next((name for name in ("-tiny", "-narrow") if name in classes), "")
    if small:
        return (*PAGES[small], WATCHING) if watching else PAGES[small]
    return PAGES[next((name for name in ("-middle", "-short") if name in classes), "")]


def page_words(pages: tuple[tuple[str, ...], ...], page: int) -> str:
    """Which page (from 1) is shown and what is on it; then the others, each with what it has beyond that."""
    shown = pages[page - 1]
    others = (
        f"{number}: {', '.join(panel for panel in panels if panel not in shown)}"
        for number, panels in enumerate(pages, 1)
        if number != page
    )
    return " · ".join((f"page {page} of {len(pages)}: {', '.join(shown)}", *others))
