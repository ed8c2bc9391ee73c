"""The base of panels: a bordered widget whose content is built when it is first drawn, and cached until it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Self, overload

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_gru.tui.look.characters import fitting, folded
from tui_gru.tui.look.glyphs import ASCII, transliterate
from tui_gru.tui.look.themes import Palette, palette_of
from tui_gru.tui.terminal.guarded import KeptLines, guarded
from tui_gru.tui.widgets.boxes import Box, SegmentRow, from_rows
from tui_gru.tui.widgets.refs import Ref


class PanelRows(Sequence[Strip]):
    """Content of `count` rows, at most `width` cells wide. `draw` is called for a row when it first comes into view."""

    def __init__(self, count: int, width: int, draw: Callable[[int], SegmentRow]) -> None:
        self.width, self._draw = width, draw
        self._cells: list[SegmentRow | None] = [None] * count
        self._strips: list[Strip | None] = [None] * count

    def __len__(self) -> int:
        return len(self._cells)

    @overload
    def __getitem__(self, index: int) -> Strip: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Strip]: ...
    def __getitem__(self, index: int | slice) -> Strip | Sequence[Strip]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        strip = self._strips[index]
        if strip is None:
            strip = self._strips[index] = Strip(self.cells(index % len(self)))
        return strip

    def cells(self, index: int) -> SegmentRow:
        """Return what a row shows, an empty row after the last one."""
        if index >= len(self):
            return ()
        row = self._cells[index]
        if row is None:
            row = self._cells[index] = self._draw(index)
        return row


NOTHING = PanelRows(0, 0, lambda _: ())


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
        &.-fresh { border: round $accent; border-title-color: $accent; border-title-style: bold; }
        &:focus { border: round $border; border-title-style: bold; }
        &.-ascii { border: ascii $border-blurred; }
        &.-ascii.-fresh { border: ascii $accent; }
        &.-ascii:focus { border: ascii $border; }
        &:ansi { background: ansi_default; color: ansi_default; }
    }
    """

    #: Actions that need the session, which are disabled during a run.
    ASKING: ClassVar[frozenset[str]] = frozenset()

    #: What the panel shows and what its own keys do, for `?`. Verbs in angle brackets stand for their keys.
    ABOUT: ClassVar[str] = ""

    #: True if the content could not be built.
    failed = False

    #: The lines drawn last; None if they must be drawn again.
    lines_kept: KeptLines | None = None

    _version = 0
    _ground = Style()  # the style beneath the content
    _ground_known = False
    _built_for: tuple[int, object] = (-1, None)  # the version of the content, and the space for which it was built
    _strips = NOTHING
    _scrolls = False  # True if the content was larger than the panel when last built
    _titles: tuple[str | Content | None, str | Content | None] = (None, None)
    _bordered: tuple[Content | None, Content | None] = (None, None)  # the texts as they are in the border
    _remark = ""
    _edge: Region | None = None  # the row of the border that is being set

    @property
    def palette(self) -> Palette:
        """The colours of the current theme and the glyphs of the terminal."""
        return palette_of(self.app)

    @property
    def zoomed(self) -> bool:
        """True if the panel fills the screen; then its whole content is shown, scrolled if needed."""
        return self.has_class("-maximized")

    def canvas(self, width: int, height: int, content: Callable[[], Size]) -> Size:
        """Return the size to draw for: that of the panel; zoomed, at least that of the whole content, which then scrolls."""
        if not self.zoomed:
            return Size(width, height)
        wanted = content()
        return Size(max(width, wanted.width), max(height, wanted.height))

    def build(self, width: int, height: int) -> Box | PanelRows:
        """Return the content for a panel of this inner size, in cells. It may be larger (scrolled) or smaller (padded)."""
        raise NotImplementedError

    def refresh_content(self) -> None:
        """Discard the content. It is built again when the panel is idle, and the rows that differ are drawn."""
        self._version += 1
        if self._built_for[0] >= 0 and self.region:
            self.check_idle()
        else:  # not on screen
            self.refresh()

    def set_titles(self, title: str | Content | None, subtitle: str | Content | list[str] | None = None) -> None:
        """Set the texts of the border; of a list of hints, as many as fit. A str is never interpreted as markup. Setting the same
        texts again does nothing."""
        subtitle = fitting(subtitle, self.border_room) if isinstance(subtitle, list) else subtitle
        if (title, subtitle) != self._titles:
            self._titles = (title, subtitle)
            self._set_border()

    def set_remark(self, remark: str) -> None:
        """Set a remark after the title in the border; empty for none."""
        if remark != self._remark:
            self._remark = remark
            self._set_border()

    def _set_border(self) -> None:
        title, subtitle = (self._border_text(text) for text in self._titles)
        if self._remark and title is not None:
            title = Content.assemble(title, transliterate(f" · {self._remark}", self.palette.glyphs))
        before, self._bordered = self._bordered, (title, subtitle)
        left, top, width, height = -self.gutter.left, -self.gutter.top, *self.outer_size
        if title != before[0]:
            self._edge = Region(left, top, width, 1)
            self.border_title = title
        if subtitle != before[1]:
            self._edge = Region(left, top + height - 1, width, 1)
            self.border_subtitle = subtitle
        self._edge = None

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Refresh as Textual does; while a text of the border is set, only its row."""
        if self._edge is not None and not regions:
            regions = (self._edge,)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def _border_text(self, text: str | Content | None) -> Content | None:
        return Content(transliterate(text, self.palette.glyphs)) if isinstance(text, str) else text

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
        return self._strips

    def plain_text(self) -> str:
        """Return the title and the whole content as text."""
        return "".join(f"{line.rstrip()}\n" for line in (self.heading, "", *(strip.text for strip in self.drawn)))

    def shown(self) -> Sequence[tuple[Ref, Any]]:
        """Return the values whose numbers are shown, each once with a reference to one of its entries; empty if there are none."""
        return ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None for actions that need the session during a run, False for all actions of a removed panel."""
        if not self.is_attached:
            return False
        return None if action in self.ASKING and getattr(self.screen, "running", False) else True

    # Methods called by Textual

    def on_mount(self) -> None:
        self.set_class(self.palette.glyphs is ASCII, "-ascii")

    def notify_style_update(self) -> None:
        self._ground_known = False
        super().notify_style_update()

    def on_idle(self) -> None:
        if 0 <= self._built_for[0] != self._version and self.region:
            self._ensure_built()

    def render_lines(self, crop: Region) -> list[Strip]:
        self._ensure_built()
        if not self._ground_known:  # for each line it would take an eighth of the time
            self._ground, self._ground_known = self.rich_style, True
        if self.lines_kept is None or self.lines_kept[0] != crop:
            lines = super().render_lines(crop)
            self.lines_kept = crop, lines  # afterwards, since drawing may mark a part of it
        return self.lines_kept[1]

    def render_line(self, y: int) -> Strip:
        x, row = self.scroll_offset.x, self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        if row >= len(self._strips):
            return Strip.blank(width, self._ground)
        cells, ground = self._strips.cells(row), self._ground
        spare = width - sum(segment.cell_length for segment in cells)
        if x or spare < 0:
            return self._strips[row].crop_extend(x, x + width, None).apply_style(ground)
        # the same in one step, since each strip has a number of caches
        drawn = [Segment(text, ground + style, control) for text, style, control in cells]
        return Strip([*drawn, Segment(" " * spare, ground)] if spare else drawn, width)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return the height of the content, for `height: auto`."""
        return len(self.draw(width, container.height))

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """Return the width of the content, for `width: auto`."""
        return self.draw(container.width, container.height).width

    def _ensure_built(self) -> None:
        """Build the content if it has changed since, or the space for it. If it has changed, have the rows drawn that differ."""
        space = (self.content_size, self.palette, self.zoomed)
        if self._built_for == (self._version, space):
            return
        (version, space_before), before = self._built_for, self._strips
        self._built_for = self._version, space
        self._strips = self._built()
        if version == self._version:
            return
        if space == space_before and before:
            now, first = self._strips, self.scroll_offset.y
            self.refresh_rows(y for y in range(space[0].height) if before.cells(first + y) != now.cells(first + y))
        else:
            self.refresh()

    def refresh_rows(self, rows: Iterable[int]) -> None:
        """Have rows of the panel drawn again, counted from the first row inside the border."""
        regions = [Region(0, y, self.size.width, 1) for y in rows]
        if regions:
            self.refresh(*regions)

    def _built(self) -> PanelRows:
        """Return the rows of the content, drawn for the present space, and set what can be scrolled."""
        room = self.content_size
        rows = self.draw(room.width, room.height)
        across, below = self.styles.scrollbar_size_vertical, self.styles.scrollbar_size_horizontal
        tall = len(rows) > room.height - (below if rows.width > room.width else 0)
        if tall:  # the scroll bar takes a column
            rows = self.draw(room.width - across, room.height)
        wide = rows.width > room.width - (across if tall else 0)
        # Content that fits has virtual size 0, whatever its own size: a new virtual size causes a layout of the whole screen,
        # so it is set only if scrolling changes, and not during drawing.
        wanted = Size(rows.width if wide else 0, len(rows) if tall else 0)
        now = self.virtual_size
        scrolls = self._scrolls or now.width > room.width or now.height > room.height
        self._scrolls = wanted != Size(0, 0)
        if wanted != now and (scrolls or self._scrolls):
            self.call_next(self._set_virtual_size, wanted)
        return rows

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

    def _content_or_problem(self, width: int, height: int) -> Box | PanelRows:
        """Return the content, or an error message if building fails, so that the other panels are still drawn."""
        try:
            content = self.build(width, height)
            self.failed = False
            return content
        except Exception as error:
            from tui_gru.debugger.storage.error_reports import reported  # imported late: rarely needed

            self.failed = True
            lines = folded(reported(error, f"drawing the panel {self.heading or type(self).__name__}"), max(width, 1))
            return from_rows([(Segment(line, self.palette.warning),) for line in lines])

    def draw(self, width: int, height: int) -> PanelRows:
        """Return the content for this inner size, in cells."""
        content = self._content_or_problem(max(width, 0), max(height, 0))
        if isinstance(content, Box):
            return PanelRows(content.height, content.width, content.rows.__getitem__)
        return content
