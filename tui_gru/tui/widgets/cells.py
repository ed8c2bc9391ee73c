"""Panels whose numbers can be pointed at with a cursor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from tui_gru.debugger.program.naming import spoken
from tui_gru.engine.numbers import exact
from tui_gru.tui.widgets.refs import Cell, Ref
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel


class Spot(NamedTuple):
    """The position of a cell in the content of its panel."""

    ref: Ref
    x: int
    y: int
    width: int


@dataclass
class NumberAsked(Message):
    """Posted to show where a number comes from."""

    ref: Ref


class CellPanel(SnapshotPanel):
    """A panel with a cursor on its cells. The border shows the number in full; enter or a double click explains it."""

    ASKING = frozenset({"ask"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "point(0, -1)", "Number", key_display="arrows"),
        ("down", "point(0, 1)"),
        ("left", "point(-1, 0)"),
        ("right", "point(1, 0)"),
        Binding("enter", "ask", "Explain"),
    ]

    pointed: reactive[Ref | None] = reactive(None)
    _spots: Sequence[Spot] = ()
    _spots_of: Sequence[Strip] = ()

    def read(self, ref: Ref) -> Any:
        """Return the array or number that contains `ref`, None if it is not computed yet."""
        if ref.before:
            return self.snapshot.moment_read.value(ref.name, ref.t)
        return self.snapshot.last_step(ref.name) if ref.change else self.snapshot.value(ref.name, ref.t)

    @property
    def spots(self) -> Sequence[Spot]:
        """The cells of the content, row by row."""
        self._ensure_built()
        if self._spots_of is not self._strips:
            self._spots_of, self._spots = self._strips, tuple(self._find_spots())
        return self._spots

    def _find_spots(self) -> Iterator[Spot]:
        for y, strip in enumerate(self._strips):
            x = 0
            for segment in strip:
                if isinstance(segment, Cell):
                    yield Spot(segment.ref, x, y, segment.cell_length)
                x += segment.cell_length

    def shown(self) -> Sequence[tuple[Ref, Any]]:
        refs = {replace(spot.ref, index=()): spot.ref for spot in self.spots}
        return [(ref, value) for ref in refs.values() if (value := self.read(ref)) is not None]

    @property
    def spot(self) -> Spot | None:
        """The cell under the cursor, by default the first; None without cells."""
        spots = self.spots
        here = next((spot for spot in spots if spot.ref == self.pointed), None)
        if here is None and self.pointed is not None:  # the timestep may have changed since
            pointed = replace(self.pointed, t=None)
            here = next((spot for spot in spots if replace(spot.ref, t=None) == pointed), None)
        return here or (spots[0] if spots else None)

    def describe(self, ref: Ref) -> str:
        """Return a number in words: `h[row 2, unit 1] = 0.7663647532463074`."""
        value = self.read(ref)
        written = self.palette.glyphs.blank if value is None else exact(np.asarray(value)[ref.index])
        sign = "Δ" if ref.change else ""
        return f"{sign}{spoken(self.snapshot.program, ref.name, ref.index)} = {written}"

    def render_line(self, y: int) -> Strip:
        strip = super().render_line(y)
        spot = self.spot if self.has_focus else None
        if spot is None or spot.y != self.scroll_offset.y + y:
            return strip
        x = spot.x - self.scroll_offset.x
        parts = [strip.crop(0, x), strip.crop(x, x + spot.width).apply_style(self.palette.cursor), strip.crop(x + spot.width)]
        return Strip.join(parts)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None for `ask` if there are no cells."""
        return super().check_action(action, parameters) if action != "ask" or self.spot is not None else None

    def caption(self) -> None:
        """Set the texts of the border; the number under the cursor takes the place of the note."""
        if self._snapshot is not None and self.is_attached:
            title, note = self.titles(self._snapshot)
            self.set_titles(title, self.point_out() or note)

    def point_out(self) -> str | None:
        """Return the description of the number under the cursor for the border, None without the focus."""
        spot = self.spot if self.has_focus else None
        if spot is None:
            return None
        described = self.describe(spot.ref)
        return described if len(described) <= self.border_room else described.partition(" = ")[2]

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.caption()
        self.refresh()

    def watch_pointed(self) -> None:
        self.caption()
        self.refresh()

    def action_point(self, across: int, down: int) -> None:
        """Move the cursor to the nearest cell in a direction."""
        here = self.spot
        if here is None:
            return
        ahead = [spot for spot in self.spots if _is_ahead(here, spot, across, down)]
        if ahead:
            nearest = min(ahead, key=lambda spot: _distance(here, spot, across))
            self.pointed = nearest.ref
            self.scroll_to_region(Region(nearest.x, nearest.y, nearest.width, 1), animate=False, immediate=True, force=True)

    def action_ask(self) -> None:
        """Ask about the number under the cursor, also if it is not computed yet: the answer says so."""
        if (spot := self.spot) is not None:
            self.post_message(NumberAsked(spot.ref))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        x, y = offset.x + self.scroll_offset.x, offset.y + self.scroll_offset.y
        hit = next((spot for spot in self.spots if spot.y == y and spot.x <= x < spot.x + spot.width), None)
        if hit is not None:
            self.pointed = hit.ref
            if event.chain == 2:
                self.action_ask()


def _is_ahead(here: Spot, spot: Spot, across: int, down: int) -> bool:
    if across:
        return spot.y == here.y and (spot.x - here.x) * across > 0
    return (spot.y - here.y) * down > 0


def _distance(here: Spot, spot: Spot, across: int) -> int:
    """Return the distance: within a row in cells, between rows such that a row counts as four cells."""
    aside = abs((2 * spot.x + spot.width) - (2 * here.x + here.width)) // 2
    return aside if across else aside + 4 * abs(spot.y - here.y)
