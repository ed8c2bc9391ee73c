"""The bases of panels: a bordered widget that draws a snapshot, with a cursor on its numbers, or a list.

`Panel` draws a box and knows nothing of runs. `SnapshotPanel` declares what it reads of a snapshot, so that a step draws only what
it has changed. `CellPanel` finds the numbers in its box, `ListOverlay` the entries of its rows; both show where the cursor is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from functools import lru_cache, partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.containers import Container
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_gru.debugger.program import spoken
from tui_gru.engine.numbers import exact
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.draw import EMPTY, Box, Cell, Ref, SegmentRow, clip, from_rows, row_width
from tui_gru.tui.terminal import NumberInView, guarded
from tui_gru.tui.theme import ASCII, Palette, TextFilter, fitting, folded, palette_of, transliterate

if TYPE_CHECKING:
    from tui_gru.analysis.tables import Columns
    from tui_gru.debugger.timeline import Anchor

#: The least cells between two texts in a row of the border, and more than any terminal has.
BORDER_GAP, _MOST_GAP = 4, 10_000


class Request(Message):
    """Posted by a panel for what only its screen can do: a row of the screen's table of requests, with its arguments."""

    def __init__(self, name: str, *arguments: Any) -> None:
        super().__init__()
        self.name, self.arguments = name, arguments


# ------------------------------------------------------------------------------
# The base of panels: a bordered widget whose content is built when it is first drawn, and cached until it changes.


@lru_cache(maxsize=256)
def _keys_coloured(keys: str) -> Content:
    """Return keys and their words, `i what if` after two blanks each, with the keys in their colour."""
    parts = [part.partition(" ") for part in keys.split("  ")]
    words = [piece for key, blank, word in parts for piece in ("  ", (key, "$secondary"), f"{blank}{word}")]
    return Content.assemble(*words[1:])


@contextmanager
def edge_alone(widget: Panel | PanelGroup, *, below: bool = False) -> Iterator[None]:
    """Draw only the first row of a widget again, or the last, for what is set in this context.

    For a text of the border Textual draws all of a widget again. A step changes the texts of most panels, and the content of few.
    """
    y, gutter = widget.outer_size.height - 1 if below else 0, widget.gutter
    widget.edge = Region(-gutter.left, y - gutter.top, widget.outer_size.width, 1)
    try:
        yield
    finally:
        widget.edge = None


@guarded
class Panel(ScrollView, can_focus=True):
    """A panel. Subclasses implement `build`, and call `refresh_content` when its result would change.

    Content larger than the panel can be scrolled with keys and wheel; scroll bars are shown only if needed. A panel that is not on
    screen builds nothing.
    """

    DEFAULT_CSS = """
    Panel {
        background: $background;
        color: $foreground;
        border: round $border-blurred;
        border-title-color: $foreground;
        border-subtitle-color: $foreground-muted;
        padding: 0 1;
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 1;
        &:focus { border: round $border; border-title-style: bold; }
        &.-ascii { border: ascii $border-blurred; }
        &.-ascii:focus { border: ascii $border; }
        &:ansi { background: ansi_default; color: ansi_default; }
    }
    """

    #: Actions that need the session, which are disabled during a run.
    ASKING: ClassVar[frozenset[str]] = frozenset()

    #: Actions that move a cursor by numbers, up to an edge: `move(3)` leads to where `move(1)` leads if it is executed three times.
    MOVING: ClassVar[frozenset[str]] = frozenset()

    #: What the panel shows and what its own keys do, for `?`. Verbs in angle brackets stand for their keys.
    ABOUT: ClassVar[str] = ""

    #: True if the focus shows in the content, and in the texts of the border.
    SHOWS_FOCUS: ClassVar[bool] = False

    #: True if the content could not be built.
    failed = False

    #: The row of the border that is being set, which is all that is drawn again.
    edge: Region | None = None

    _version = 0
    _ground = Style()  # the style beneath the content
    _ground_known = False
    _around: tuple[SegmentRow, SegmentRow, Color] | None = None  # what is at the left and the right of each row, and behind it
    _built_for: tuple[int, object] = (-1, None)  # the version of the content, and the space for which it was built
    _box = EMPTY
    _scrolls = False  # True if the content was larger than the panel when last built
    _titles: tuple[str | Content | None, str | Content | None, str, str] = (None, None, "", "")
    _bordered: tuple[Content | None, Content | None] = (None, None)  # the texts as they are in the border
    _remark = ""
    _fresh = False
    _labels: Sequence[tuple[int, int, str]] | None = None  # of a jump, by their places inside the frame

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        self._rows_drawn: dict[int, Strip] = {}  # the rows with their frame, from that at the top, until they must be drawn again
        self._grounded: dict[Style | None, Style] = {}  # the styles of the content above the ground
        self._inks: dict[Style | None, Style | None] = {}  # what the filters make of those
        super().__init__(id=id, classes=classes)

    @property
    def palette(self) -> Palette:
        """The colours of the current theme and the glyphs of the terminal."""
        return palette_of(self.app)

    @property
    def coloured(self) -> bool:
        """True if the backgrounds of cells tell values apart, so that they need no signs."""
        palette = self.palette
        return palette.glyphs is not ASCII and palette.signed(1).bgcolor is not None and not self.app.no_color

    @property
    def zoomed(self) -> bool:
        """True if the panel fills the screen; then its whole content is shown, scrolled if needed."""
        return self.has_class("-maximized")

    def canvas(self, width: int, height: int, content: Callable[[], Size]) -> Size:
        """Return the size to draw for: that of the panel; zoomed, at least that of the whole content, which then scrolls."""
        if not self.zoomed:
            return Size(width, height)
        whole_size = content()
        return Size(max(width, whole_size.width), max(height, whole_size.height))

    def build(self, width: int, height: int) -> Box:
        """Return the content for a panel of this inner size, in cells. It may be larger (scrolled) or smaller (padded)."""
        raise NotImplementedError

    def refresh_content(self) -> None:
        """Build the content again, and draw the rows that differ."""
        self._version += 1
        if self._built_for[0] >= 0 and self.region:
            self._ensure_built()
        else:  # not on screen, so nothing can be compared: Textual draws it when it is shown
            self.refresh()

    def set_titles(
        self, title: str | Content | None, subtitle: str | Content | list[str] | None = None, place: str = "", keys: str = ""
    ) -> None:
        """Set the texts of the border: the title and, at the right, the place or shape; below, keys, and at the right data.

        Of a list of hints, as many as fit are shown. The place and the keys are left out where there is no room beside the others.
        A str is never interpreted as markup. Setting the same texts again does nothing.
        """
        subtitle = fitting(subtitle, self.border_room) if isinstance(subtitle, list) else subtitle
        if (title, subtitle, place, keys) != self._titles:
            self._titles = (title, subtitle, place, keys)
            self._set_border()

    @property
    def fresh(self) -> bool:
        """True if the line just executed has computed what the panel shows, which is marked by the colour of its title."""
        return self._fresh

    @fresh.setter
    def fresh(self, fresh: bool) -> None:
        if fresh is not self._fresh:
            self._fresh = fresh
            self._colour_title()

    def _colour_title(self) -> None:
        # Not by a class of the style sheet, for which Textual would look up all styles, and draw the whole panel again.
        with edge_alone(self):
            self.styles.border_title_color = self.app.theme_variables["accent"] if self._fresh else None
            self.styles.border_title_style = "bold" if self._fresh else None

    def set_remark(self, remark: str) -> None:
        """Set a remark after the title in the border; empty for none."""
        if remark != self._remark:
            self._remark = remark
            self._set_border()

    def _set_border(self) -> None:
        glyphs = self.palette.glyphs
        texts = (Content(transliterate(text, glyphs)) if isinstance(text, str) else text for text in self._titles)
        title, subtitle, place, keys = texts
        if self.is_attached and getattr(self.screen, "only_verbs", None) is not None:  # in a page, these keys do nothing
            keys = None
        if self._remark and title is not None:
            title = Content.assemble(title, transliterate(f" · {self._remark}", glyphs))
        title = self._across(title, None if place is None else place.stylize("not bold $foreground-muted"))
        keys = None if keys is None else _keys_coloured(keys.plain)
        left = bool(keys and not subtitle)  # Textual puts a text below at the right otherwise
        subtitle = self._across(keys, subtitle, below=True)
        before, self._bordered = self._bordered, (title, subtitle)
        if title != before[0]:
            with edge_alone(self):
                self.border_title = title
        if subtitle != before[1]:
            with edge_alone(self, below=True):
                self.styles.border_subtitle_align = "left" if left else None
                self.border_subtitle = subtitle

    def _across(self, left: Content | None, right: Content | None, *, below: bool = False) -> Content | None:
        """Return two texts of a row of the border with its line between them; without room for both, the title or, below, the
        data."""
        gap = self.border_room - sum(text.cell_length for text in (left, right) if text)
        if gap > _MOST_GAP or not left or not right:
            return left or right
        if gap < BORDER_GAP:
            return right if below else left
        line = ("-" if self.palette.glyphs is ASCII else "─") * (gap - 2)
        ink = "not bold $border" if self.has_focus else "not bold $border-blurred"
        return Content.assemble(left, " ", (line, ink), " ", right)

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self._bordered = None, None  # its texts are the same, but the line between them has another colour
        self._set_border()
        if self.SHOWS_FOCUS:
            self.caption()
            self.refresh_content()

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        regions = (self.edge,) if self.edge is not None and not regions else regions
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    @property
    def border_room(self) -> int:
        """The cells for a text in the border, between the corners and the gaps; no limit before the first layout."""
        return self.outer_size.width - 6 if self.outer_size.width else 10**6

    @property
    def heading(self) -> str:
        """The title in the border, as plain text."""
        return str(self._titles[0] or "")

    @property
    def subheading(self) -> str:
        """The subtitle in the border, as plain text."""
        return str(self._titles[1] or "")

    @property
    def drawn(self) -> Sequence[Strip]:
        """All rows of the content, also those not in view."""
        self._ensure_built()
        return self._box.strips

    def plain_text(self) -> str:
        """Return the title and the whole content as text."""
        return "".join(f"{line.rstrip()}\n" for line in (self.heading, "", *(strip.text for strip in self.drawn)))

    def shown(self) -> Sequence[tuple[Ref, Any]]:
        """Return the values whose numbers are shown, each once with a reference to one of its entries; empty if there are none."""
        return ()

    def columns(self) -> Columns | None:
        """Return what the panel shows as columns of numbers and words, for a file; None for a panel without such a table."""
        return None

    def caption(self) -> None:
        """Set the texts of the border, which may depend on its width. By default they stay."""

    def point_at(self, x: int, y: int) -> bool:
        """Move the cursor to what is drawn at a position inside the border. Return False if it cannot go there, as by default."""
        return False

    def choose(self) -> None:
        """Do what enter and a double click do with what is under the cursor, by default nothing."""

    def request(self, name: str, *arguments: Any) -> None:
        """Have the screen do what only it can."""
        self.post_message(Request(name, *arguments))

    def action_choose(self) -> None:
        self.choose()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None for actions that need the session during a run, False for all actions of a removed panel."""
        if not self.is_attached:
            return False
        return None if action in self.ASKING and getattr(self.screen, "running", False) else True

    # Methods called by Textual

    def on_mount(self) -> None:
        self.set_class(self.palette.glyphs is ASCII, "-ascii")

    def on_resize(self) -> None:
        self.caption()
        self._set_border()  # the line between its texts has another length

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and self.point_at(offset.x, offset.y) and event.chain == 2:
            self.choose()

    def notify_style_update(self) -> None:
        self._ground_known = False
        if self._fresh:  # there may be another theme
            self._colour_title()
        super().notify_style_update()

    def forget(self, *regions: Region) -> None:
        """Draw these regions again, which count from the first cell inside the frame; by default everything."""
        if not regions:
            self._around = None
            self._inks.clear()
            self._rows_drawn.clear()
        top = self.gutter.top if regions else 0
        for region in regions:
            for y in region.line_range:
                self._rows_drawn.pop(y + top, None)

    def numbers_in_view(self) -> Iterable[NumberInView]:
        """Return the numbers in view whose values are known, by default none."""
        return ()

    # Labels of a jump

    def places(self) -> Sequence[LabelledPlace]:
        """Return what a jump can go to here, by default nothing."""
        return ()

    def point_to(self, place: LabelledPlace, column: int = 0) -> None:
        """Go to a place; of a row of a large matrix, to the entry in a column, 0-based."""
        if place.tick is None:
            self.point_at(place.x, place.y)
        else:
            self.request("go", place.tick)

    def largest_size(self) -> float | None:
        """Return the size of the largest number here, disregarding its sign; None if there is none."""
        return None

    def go_to_largest_number(self) -> None:
        """Move the cursor to the largest number."""

    def entry_of_column(self, place: int) -> int:
        """Return which column stands at a place of the present order, both 0-based."""
        return place

    def column_at(self, place: int) -> int | None:
        """Return where a column of a large matrix begins, by its place in the present order; None if it is not in view."""
        return None

    def set_labels(self, labels: Sequence[tuple[int, int, str]] | None) -> None:
        """Draw these labels (x, y, text) over the content, and dim everything else; None takes them away."""
        if labels != self._labels:
            self._labels = labels
            self.refresh()

    def _labelled(self, y: int, strip: Strip) -> Strip:
        """Return a row of the panel, frame included, with its labels."""
        assert self._labels is not None
        palette, left, top = self.palette, self.gutter.left, self.gutter.top
        dimmed = Strip(
            [Segment(text, (style or Style()) + palette.dim, control) for text, style, control in strip], strip.cell_length
        )
        for x, row, label in sorted(self._labels):
            at = x + left
            if row + top == y and 0 <= at < strip.cell_length:
                ink = palette.keyword + Style(bold=True, reverse=True)
                dimmed = Strip.join([dimmed.crop(0, at), Strip([Segment(label, self._ground + ink)]), dimmed.crop(at + len(label))])
        return dimmed.crop(0, strip.cell_length)

    def render_lines(self, crop: Region) -> list[Strip]:
        if self._labels is not None:
            strips = super().render_lines(Region(0, 0, *self.outer_size))
            labelled = [self._labelled(y, strip) for y, strip in enumerate(strips)]
            return [strip.crop(crop.x, crop.right) for strip in labelled[crop.y : crop.bottom]]
        # Textual asks for all rows of all panels whenever anything on the screen is drawn, and takes twice as long to put a frame
        # around a row as the row itself takes. So rows are kept until they change, and share what is at their sides.
        self._ensure_built()
        if not self._ground_known:  # for each line it would take an eighth of the time
            self._ground, self._ground_known, self._grounded = self.rich_style, True, {}
        (width, height), gutter = self.outer_size, self.gutter
        if crop != Region(0, 0, width, height) or any(self.scrollbars_enabled):
            return super().render_lines(crop)
        inside, strips = range(gutter.top, height - gutter.bottom), list[Strip]()
        for y in range(height):
            strip = self._rows_drawn.get(y)
            if strip is None:
                inner = y in inside and self._around is not None
                strip = self._framed_row(y - gutter.top) if inner else super().render_lines(Region(0, y, width, 1))[0]
                self._rows_drawn[y] = strip  # afterwards, since drawing may mark it
                if y in inside and self._around is None:
                    self._around = (
                        tuple(strip.crop(0, gutter.left)),
                        tuple(strip.crop(width - gutter.right)),
                        self.background_colors[1],
                    )
            strips.append(strip)
        return strips

    def _framed_row(self, y: int) -> Strip:
        """Return a row of the content in its frame."""
        assert self._around is not None
        (left, right, background), inks = self._around, self._inks
        inside = [Segment(text, inks.get(style) or self._filtered(style), control) for text, style, control in self.render_line(y)]
        strip = Strip([*left, *inside, *right], self.outer_size.width)
        for line_filter in self.get_line_filters():
            if isinstance(line_filter, TextFilter):
                strip = strip.apply_filter(line_filter, background)
        return strip

    def _filtered(self, style: Style | None) -> Style | None:
        """Return what the filters make of a style, each of which a panel has in many cells."""
        assert self._around is not None
        drawn = [Segment(" ", style)]
        for line_filter in self.get_line_filters():
            drawn = line_filter.apply(drawn, self._around[2])
        self._inks[style] = drawn[0].style
        return drawn[0].style

    def render_line(self, y: int) -> Strip:
        x, row = self.scroll_offset.x, self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        if row >= self._box.height:
            return Strip.blank(width, self._ground)
        cells, ground, grounded = self._box.rows[row], self._ground, self._grounded
        spare = width - row_width(cells)
        if x or spare < 0:
            return Strip(cells).crop_extend(x, x + width, None).apply_style(ground)
        # the same in one step, since each strip has a number of caches
        drawn = [
            Segment(text, grounded.get(style) or grounded.setdefault(style, ground + style), control)
            for text, style, control in cells
        ]
        return Strip([*drawn, Segment(" " * spare, ground)] if spare else drawn, width)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return the height of the content, for `height: auto`."""
        return self.draw(width, container.height).height

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """Return the width of the content, for `width: auto`."""
        return self.draw(container.width, container.height).width

    def _ensure_built(self) -> None:
        """Build the content if it has changed since, or the space for it. If it has changed, have the rows drawn that differ."""
        space = (self.content_size, self.palette, self.zoomed)
        if self._built_for == (self._version, space):
            return
        (version, space_before), before = self._built_for, self._box
        self._built_for = self._version, space
        self._box = self._built()
        if version == self._version:  # only the space has changed: Textual draws the whole panel anyway
            return
        if space == space_before and before.height:
            first, height = self.scroll_offset.y, space[0].height
            was, now = (box.rows[first : first + height] for box in (before, self._box))
            differ = [y for y, (old, new) in enumerate(zip_longest(was, now)) if (old or ()) != (new or ())]
            if differ:
                self.refresh(*(Region(0, y, self.size.width, 1) for y in differ))
        else:
            self.refresh()

    def _built(self) -> Box:
        """Return the content, drawn for the present space, and set what can be scrolled."""
        room = self.content_size
        box = self.draw(room.width, room.height)
        across, below = self.styles.scrollbar_size_vertical, self.styles.scrollbar_size_horizontal
        tall = box.height > room.height - (below if box.width > room.width else 0)
        if tall:  # the scroll bar takes a column; a content that is drawn for fewer columns may become taller
            box = self.draw(room.width - across, room.height)
        wide = box.width > room.width - (across if tall else 0)
        # Content that fits has virtual size 0, whatever its own size: a new virtual size causes a layout of the whole screen,
        # so it is set only if scrolling changes, and not during drawing.
        virtual_size = Size(box.width if wide else 0, box.height if tall else 0)
        now = self.virtual_size
        scrolls = self._scrolls or now.width > room.width or now.height > room.height
        self._scrolls = virtual_size != Size(0, 0)
        if virtual_size != now and (scrolls or self._scrolls):
            self.call_next(self._set_virtual_size, virtual_size)
        return box

    def watch_show_vertical_scrollbar(self) -> None:
        """Set the position of a scroll bar that is shown only after the panel has been scrolled."""
        self.vertical_scrollbar.position = self.scroll_y

    def _set_virtual_size(self, size: Size) -> None:
        self.virtual_size = size
        self._follow()

    def _follow(self) -> None:
        """Called when the size of the content has changed. Subclasses scroll important rows into view (`scroll_to_rows`)."""

    def scroll_to_rows(self, first: int, last: int) -> None:
        """Scroll by the least amount that shows the rows `first` … `last`, or the first ones if not all fit."""
        height = self.scrollable_content_region.height
        if height > 0:
            top = min(max(self.scroll_offset.y, last + 1 - height), first)
            self.scroll_to(y=top, animate=False, immediate=True, force=True)

    def draw(self, width: int, height: int) -> Box:
        """Return the content for this inner size, or an error message if building fails, so that other panels are still drawn."""
        width, height = max(width, 0), max(height, 0)
        try:
            content = self.build(width, height)
            self.failed = False
            return content
        except Exception as error:
            from tui_gru.storage.recorder import report_error

            self.failed = True
            lines = folded(report_error(error, f"drawing the panel {self.heading or type(self).__name__}"), max(width, 1))
            return from_rows([(Segment(line, self.palette.warning),) for line in lines])


# ------------------------------------------------------------------------------
# The base of all panels that show snapshots. Each declares what it reads of a snapshot, its titles and its content.


class LabelledPlace(NamedTuple):
    """A place in the content of a panel to which a jump can go: a number, a row of a large matrix, a line, a moment.

    `x` and `y` count from the first cell in view inside the frame. A row of a large matrix has `columns`, of which one is chosen
    afterwards; `row` is its row, 0-based. `tick` is the moment of a place that is one.
    """

    x: int
    y: int
    columns: int = 0
    row: int = 0
    tick: int | None = None


class Titles(NamedTuple):
    """The texts in the border: the title, and at the right the place or shape; below, the keys, and at the right the data."""

    title: str | Content | None = None
    data: str | Content | list[str] | None = None
    place: str = ""
    keys: str = ""


class Compared(Enum):
    """What a panel shows while two branches are compared."""

    DIFFERENCES = "differences"  # the numbers of this branch minus those of the other
    BOTH = "both"  # both branches, or nothing that belongs to a branch
    ALONE = "alone"  # this branch, which its border then says


class SnapshotPanel(Panel):
    """A panel that shows snapshots. A subclass declares

    - `reads`: what its content and its titles depend on. While that is the same, nothing is built again;
    - `titles`: the texts in its border;
    - `is_fresh`: whether the line just executed has computed what it shows, which is marked in the border;
    - `content`: what it draws.

    It draws what it is given, and decides nothing about the run.
    """

    #: What the panel shows while two branches are compared.
    COMPARED: ClassVar[Compared] = Compared.ALONE

    #: True if the content stays that of the moment at which it was made.
    STAYS: ClassVar[bool] = False

    #: True if it covers the listing as well, as an overlay.
    COVERS_ALL: ClassVar[bool] = False

    #: Of an overlay, the command that opens it.
    command = ""

    #: The moment to which the content belongs, None if it belongs to every moment.
    read_at: Anchor | None = None

    allotted = 0  # the outer height in cells, for `height: auto`

    _snapshot: Snapshot | None = None
    _view = View()
    _read: Hashable = None

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        """Return what the content and the titles depend on, by default every snapshot. `contents` makes arrays comparable."""
        return None if self.STAYS else (snapshot, view)

    def titles(self, snapshot: Snapshot) -> Titles:
        """Return the texts in the border, by default none."""
        return Titles()

    def is_fresh(self, snapshot: Snapshot) -> bool:
        """Return True if the line just executed has computed what the panel shows."""
        return False

    def wanted_height(self, snapshot: Snapshot, width: int) -> int:
        """Return the outer height at which the content is shown in full, at this outer width, in cells."""
        return 8

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self.allotted - self.gutter.height if self.allotted else super().get_content_height(container, viewport, width)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        """Return the content for a panel of this inner size, as `build` does."""
        raise NotImplementedError

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that is shown. There is one as soon as there is any content."""
        assert self._snapshot is not None
        return self._snapshot

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Show this snapshot in this view."""
        self._snapshot, self._view = snapshot, view
        read = snapshot.program, snapshot.minus, self.reads(snapshot, view)
        if read == self._read and not self.failed:
            return
        self._read = read
        self.fresh = self.is_fresh(snapshot)
        self.show_again()
        self._follow()

    def show_again(self) -> None:
        """Show the same snapshot, after a change of how the panel shows it."""
        self.caption()
        self.refresh_content()

    def caption(self) -> None:
        """Set the texts of the border."""
        if self._snapshot is not None and self.is_attached:
            self.set_titles(*self.titles(self._snapshot))

    def build(self, width: int, height: int) -> Box:
        return EMPTY if self._snapshot is None else self.content(self._snapshot, width, height)


class PanelGroup(Container):
    """Several panels in the place of one, which show the same snapshots."""

    BLANK = True  # Textual's name: it draws nothing itself
    COMPARED: ClassVar[Compared] = Compared.DIFFERENCES

    #: The row of the border that is being set, which is all that is drawn again.
    edge: Region | None = None

    _snapshot: Snapshot | None = None
    _view = View()

    def wanted_height(self, snapshot: Snapshot, width: int) -> int:
        """Return the outer height at which all panels show their content in full, at this outer width, in cells."""
        return 13

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that is shown."""
        assert self._snapshot is not None
        return self._snapshot

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        regions = (self.edge,) if self.edge is not None and not regions else regions
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Show this snapshot in this view. Subclasses show it on their panels."""
        self._snapshot, self._view = snapshot, view


def contents(*values: Any) -> Hashable:
    """Return the contents of arrays and numbers for a comparison. NaN is equal to itself."""
    return tuple((value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value for value in values)


# ------------------------------------------------------------------------------
# Panels whose numbers can be pointed at with a cursor.


class Spot(NamedTuple):
    """The position of a cell in the content of its panel. `nth` counts the cells before it that show the same number."""

    ref: Ref
    x: int
    y: int
    width: int
    nth: int = 0


class CellPanel(SnapshotPanel):
    """A panel with a cursor on its cells. The border shows the number in full; enter or a double click explains it."""

    ASKING = frozenset({"choose"})
    MOVING = frozenset({"point"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "point(0, -1)", "Number", key_display="arrows"),
        ("down", "point(0, 1)"),
        ("left", "point(-1, 0)"),
        ("right", "point(1, 0)"),
        Binding("enter", "choose", "Explain"),
    ]

    #: The number under the cursor, and which of the cells that show it, from 0; None before the cursor is moved.
    _cursor: reactive[tuple[Ref, int] | None] = reactive(None)
    _spots: Sequence[Spot] = ()
    _spots_of: Box | None = None  # the content in which they were found

    @property
    def pointed(self) -> Ref | None:
        """The number to which the cursor was moved, which may be shown no longer. Setting it moves to the first of its cells."""
        return None if self._cursor is None else self._cursor[0]

    @pointed.setter
    def pointed(self, ref: Ref) -> None:
        self._cursor = ref, 0

    def put_cursor(self, spot: Spot) -> None:
        """Move the cursor to a cell."""
        self._cursor = spot.ref, spot.nth

    def read(self, ref: Ref) -> Any:
        """Return the array or number that contains `ref`, None if it is not computed yet."""
        if ref.before:
            return self.snapshot.moment_read.value(ref.name, ref.t)
        return self.snapshot.last_step(ref.name) if ref.change else self.snapshot.value(ref.name, ref.t)

    @property
    def spots(self) -> Sequence[Spot]:
        """The cells of the content, row by row. They are found when the cursor needs them, not at each drawing."""
        self._ensure_built()
        if self._spots_of is not self._box:
            self._spots_of, self._spots = self._box, tuple(self._find_spots())
        return self._spots

    def _find_spots(self) -> Iterator[Spot]:
        counts = Counter[Ref]()
        for y, row in enumerate(self._box.rows):
            x = 0
            for segment in row:
                if isinstance(segment, Cell):
                    yield Spot(segment.ref, x, y, segment.cell_length, counts[segment.ref])
                    counts[segment.ref] += 1
                x += segment.cell_length

    def shown(self) -> Sequence[tuple[Ref, Any]]:
        refs = {replace(spot.ref, index=()): spot.ref for spot in self.spots}
        return [(ref, value) for ref in refs.values() if (value := self.read(ref)) is not None]

    @property
    def spot(self) -> Spot | None:
        """The cell under the cursor; None without cells."""
        spots, same = self.spots, list[Spot]()
        if self._cursor is not None:
            ref, nth = self._cursor
            same = [spot for spot in spots if spot.ref == ref]
            if not same:  # the timestep may have changed since
                same = [spot for spot in spots if replace(spot.ref, t=None) == replace(ref, t=None)]
            if same:
                return same[min(nth, len(same) - 1)]
        return self.first_spot(spots) if spots else None

    def first_spot(self, spots: Sequence[Spot]) -> Spot:
        """Return the cell where the cursor begins, one of `spots`, which are not empty: by default the first."""
        return spots[0]

    def largest_spot(self) -> Spot | None:
        """Return the cell with the largest number, disregarding signs; None if no cell has a finite one."""
        largest, size = None, -1.0
        for spot in self.spots:
            value = self.read(spot.ref)
            number = (
                np.nan
                if value is None or not np.issubdtype(np.asarray(value).dtype, np.number)
                else abs(np.asarray(value)[spot.ref.index])
            )
            if np.isfinite(number) and number > size:
                largest, size = spot, float(number)
        return largest

    def describe(self, ref: Ref) -> str:
        """Return a number in words: `h[row 2, unit 1] = 0.7663647532463074`."""
        value = self.read(ref)
        written = self.palette.glyphs.blank if value is None else exact(np.asarray(value)[ref.index])
        sign = "Δ" if ref.change else ""
        return f"{sign}{spoken(self.snapshot.program, ref.name, ref.index)} = {written}"

    def render_line(self, y: int) -> Strip:
        """Draw the cursor over the content, which then need not be built again when the cursor moves."""
        strip = super().render_line(y)
        spot = self.spot if self.has_focus else None
        if spot is None or spot.y != self.scroll_offset.y + y:
            return strip
        x = spot.x - self.scroll_offset.x
        under = strip.crop(x, x + spot.width).text  # `apply_style` would leave the colours of the cell
        cursor = Strip([Segment(under, self._ground + self.palette.cursor)])
        return Strip.join([strip.crop(0, x), cursor, strip.crop(x + spot.width)])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None for `choose` if there are no cells."""
        return super().check_action(action, parameters) if action != "choose" or self.spot is not None else None

    def caption(self) -> None:
        """Set the texts of the border; the number under the cursor takes the place of the note."""
        if self._snapshot is not None and self.is_attached:
            titles, spot = self.titles(self._snapshot), self.spot if self.has_focus else None
            if spot is not None:
                described = self.describe(spot.ref)
                titles = titles._replace(data=described if len(described) <= self.border_room else described.partition(" = ")[2])
            self.set_titles(*titles)

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.caption()
        self.refresh()

    def watch__cursor(self) -> None:
        self.caption()
        self.refresh()

    def action_point(self, across: int, down: int) -> None:
        """Move the cursor so many times to the nearest cell in a direction, as long as there is one."""
        current, times = self.spot, max(abs(across), abs(down))
        while current is not None and times:
            ahead = [spot for spot in self.spots if _is_ahead(current, spot, across, down)]
            current, times = min(ahead, key=partial(_distance, current, across=across), default=None), times - 1
            if current is not None:
                self.put_cursor(current)
                self.scroll_to_region(Region(current.x, current.y, current.width, 1), animate=False, immediate=True, force=True)

    def largest_size(self) -> float | None:
        spot = self.largest_spot()
        return None if spot is None else abs(float(np.asarray(self.read(spot.ref))[spot.ref.index]))

    def go_to_largest_number(self) -> None:
        if (spot := self.largest_spot()) is not None:
            self.put_cursor(spot)

    def numbers_in_view(self) -> Iterator[NumberInView]:
        offset = self.scroll_offset
        for spot in self.spots:
            array = self.read(spot.ref)
            if array is not None and (values := np.asarray(array)).dtype.kind in "fiu":
                yield NumberInView(spot.x - offset.x, spot.y - offset.y, spot.width, spot.ref.name, float(values[spot.ref.index]))

    def places(self) -> Sequence[LabelledPlace]:
        offset, (width, height) = self.scroll_offset, self.scrollable_content_region.size
        shown = ((spot.x - offset.x, spot.y - offset.y) for spot in self.spots)
        return [LabelledPlace(x, y) for x, y in shown if 0 <= x < width and 0 <= y < height]

    def choose(self) -> None:
        """Ask about the number under the cursor, also if it is not computed yet: the answer says so."""
        if (spot := self.spot) is not None:
            self.request("number", spot.ref)

    def point_at(self, x: int, y: int) -> bool:
        x, y = x + self.scroll_offset.x, y + self.scroll_offset.y
        hit = next((spot for spot in self.spots if spot.y == y and spot.x <= x < spot.x + spot.width), None)
        if hit is not None:
            self.put_cursor(hit)
        return hit is not None


def _is_ahead(current: Spot, spot: Spot, across: int, down: int) -> bool:
    if across:
        return spot.y == current.y and (spot.x - current.x) * across > 0
    return (spot.y - current.y) * down > 0


def _distance(current: Spot, spot: Spot, *, across: int) -> int:
    """Return the distance: within a row in cells, between rows such that a row counts as four cells."""
    aside = abs((2 * spot.x + spot.width) - (2 * current.x + current.width)) // 2
    return aside if across else aside + 4 * abs(spot.y - current.y)


# ------------------------------------------------------------------------------
# A list with a cursor, which covers the blackboard.


class ListRow(NamedTuple):
    """A row of a list. `entry` is the number of its entry, from 0, None for a row of no entry. Entries may have several rows."""

    row: SegmentRow
    entry: int | None = None


class ListOverlay(SnapshotPanel):
    """A list with a cursor. Subclasses implement its rows (`lines`) and what enter does with the entry under the cursor (`choose`).

    A subclass that draws its entries itself (`content`) implements `entries` and `entry_at` instead of `lines`.
    """

    #: The sign before the entry under the cursor.
    MARK: ClassVar[str] = "▸ "

    SHOWS_FOCUS = True
    ASKING = frozenset({"choose"})
    MOVING = frozenset({"move", "page", "edge"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("up", "move(-1)"),
        ("down", "move(1)"),
        ("pageup", "page(-1)"),
        ("pagedown", "page(1)"),
        ("home", "edge(-1)"),
        ("end", "edge(1)"),
        ("enter", "choose"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.cursor = 0
        self._lines: Sequence[ListRow] = ()

    def lines(self, width: int) -> Sequence[ListRow]:
        """Return the rows for this width, which excludes the mark of the cursor."""
        raise NotImplementedError

    @property
    def above(self) -> int:
        """The number of rows above the entry under the cursor that stay in view; above the first entry, all do."""
        return 0

    def move_to(self, entry: int) -> None:
        """Move the cursor to an entry and scroll it into view."""
        self.cursor = entry
        self.refresh_content()
        self._ensure_built()  # the rows of the entry are known only when they are drawn
        self._keep_in_view()

    @property
    def entries(self) -> int:
        """The number of entries at the last drawing."""
        return 1 + max((line.entry for line in self._lines if line.entry is not None), default=-1)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        box = self.listed(width)
        return clip(self.palette, box, width, box.height)

    def listed(self, width: int) -> Box:
        """Return the rows with the mark of the cursor."""
        palette = self.palette
        self._lines = self.lines(max(width - len(self.MARK), 1))
        self.cursor = min(self.cursor, max(self.entries - 1, 0))
        marked = next((i for i, line in enumerate(self._lines) if line.entry == self.cursor), None)
        sign = transliterate(self.MARK.rstrip(), palette.glyphs)
        mark, blank = (Segment(sign, palette.cursor), Segment(" " * (len(self.MARK) - len(sign)))), (Segment(" " * len(self.MARK)),)
        return from_rows((*(mark if i == marked else blank), *row) for i, (row, _) in enumerate(self._lines))

    def action_move(self, by: int) -> None:
        self._ensure_built()
        if not self.entries:
            self.scroll_relative(y=by, animate=False)
            return
        self.move_to(min(max(self.cursor + by, 0), self.entries - 1))

    def action_page(self, pages: int) -> None:
        """Move so many times to the furthest entry that begins less than a screenful of rows from the one under the cursor."""
        self._ensure_built()
        direction, page = 1 if pages > 0 else -1, max(self.scrollable_content_region.height - 1, 1)
        rows = {entry: y for y in reversed(range(self.virtual_size.height)) if (entry := self.entry_at(y)) is not None}
        if not self.entries or self.cursor not in rows:
            self.action_move(pages * page)
            return
        entry = self.cursor
        for _ in range(abs(pages)):
            ahead = [other for other in rows if (other - entry) * direction > 0]
            if not ahead:
                break
            near = [other for other in ahead if (rows[other] - rows[entry]) * direction <= page]
            entry = max(near, key=lambda other: other * direction) if near else min(ahead, key=lambda other: other * direction)
        self.move_to(entry)

    def action_edge(self, direction: int) -> None:
        """Move to the first or the last entry; without entries to the first or the last row."""
        self._ensure_built()
        self.action_move(direction * max(self.entries, self.virtual_size.height))

    def action_choose(self) -> None:
        self._ensure_built()
        if self.entries:
            self.choose()

    def places(self) -> Sequence[LabelledPlace]:
        rows = {
            entry: y
            for y in reversed(range(self.scrollable_content_region.height))
            if (entry := self.entry_at(y + self.scroll_offset.y)) is not None
        }
        return [LabelledPlace(0, y) for y in sorted(rows.values())]

    def entry_at(self, row: int) -> int | None:
        """Return the entry on a row of the last drawing, None if there is none."""
        return self._lines[row].entry if 0 <= row < len(self._lines) else None

    def point_at(self, x: int, y: int) -> bool:
        entry = self.entry_at(y + self.scroll_offset.y)
        if entry is not None:
            self.move_to(entry)
        return entry is not None

    def _set_virtual_size(self, size: Size) -> None:
        super()._set_virtual_size(size)
        self._keep_in_view()

    def _keep_in_view(self) -> None:
        rows = [i for i, line in enumerate(self._lines) if line.entry == self.cursor]
        if rows:
            head = self.cursor == 0 and rows[-1] < self.scrollable_content_region.height
            first = 0 if head else rows[0] - self.above  # at the first entry, show the rows above it too
            self.scroll_to_rows(first, rows[-1])
