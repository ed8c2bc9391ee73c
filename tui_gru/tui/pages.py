"""The pages of a screen that is too small for all panels: the names of the panels on each, as defined by main.tcss."""

from __future__ import annotations

from collections.abc import Mapping

#: For the size class of a screen, the panels on each page without the listing.
PAGES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "-tiny": (("the current line",), ("sequence", "loss terms"), ("ŷ", "loss curve"), ("weights", "samples")),
    "-narrow": (("sequence", "loss terms", "the current line", "gates"), ("gates", "ŷ", "loss curve"), ("weights", "samples")),
    "-middle": (
        ("sequence", "loss terms", "the current line", "gates", "ŷ", "loss curve"),
        ("sequence", "loss terms", "the current line", "gates", "weights", "samples"),
    ),
    "-short": (
        ("sequence", "loss terms", "the current line", "gates", "ŷ", "loss curve"),
        ("the current line", "gates", "weights", "samples"),
    ),
    "": (("all panels",),),
}
#: The additional last page of a small screen if there are watches or a log.
WATCHING = ("watches", "log")


def pages_of(classes: frozenset[str], *, watching: bool) -> tuple[tuple[str, ...], ...]:
    """Return the pages of a screen with these classes. `watching` is True if there are watches or a log."""
    small = next((name for name in ("-tiny", "-narrow") if name in classes), "")
    if small:
        return (*PAGES[small], WATCHING) if watching else PAGES[small]
    return PAGES[next((name for name in ("-middle", "-short") if name in classes), "")]


def page_words(pages: tuple[tuple[str, ...], ...], page: int) -> str:
    """Describe the shown page (from 1) with its panels, then the other pages with the panels that are not on this one."""
    shown = pages[page - 1]
    others = (
        f"{number}: {', '.join(panel for panel in panels if panel not in shown)}"
        for number, panels in enumerate(pages, 1)
        if number != page
    )
    return " · ".join((f"page {page} of {len(pages)}: {', '.join(shown)}", *others))
