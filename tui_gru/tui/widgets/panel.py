"""A bordered panel that shows a box: built when it is first looked at, kept until what it depends on changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, overload

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_gru.tui.look.characters import folded
from tui_gru.tui.look.glyphs import ASCII, transliterate
from tui_gru.tui.look.palette import Palette
from tui_gru.tui.look.themes import palette_of
from tui_gru.tui.terminal.guarded import reports_errors
from tui_gru.tui.widgets.boxes import Box, from_rows
from tui_gru.tui.widgets.refs import Ref


class Rows(Sequence[Strip]):
    """`count` rows, at most `width` cells wide, each drawn when it first comes into view."""

    def __init__(self, count: int, width: int, draw: Callable[[int], Strip]) -> None:
        self.width, self._draw = width, draw
        self._rows: list[Strip | None] = [None] * count

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Strip: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Strip]: ...
    def __getitem__(self, index: int | slice) -> Strip | Sequence[Strip]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = self._rows[index]
        if row is None:
            row = self._rows[index] = self._draw(index)
        return row


@reports_errors
class Panel(ScrollView, can_focus=True):
    """Subclasses implement `build`; call `refresh_content` when what it would return has changed.

    Content larger than the panel scrolls, with keys and wheel, and with scroll bars only where they are needed.
    A panel that is not on screen builds nothing.
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

    #: Actions that ask something of the session, which a run has for itself.
    ASKING: ClassVar[frozenset[str]] = frozenset()

    _version = 0
    _ground = Style()
    _built_for: tuple[object, ...] = ()
    _strips: Sequence[Strip] = ()
    _scrolls = False  # whether its content, as it was built last, is larger than the room
    _titles: tuple[str | Content | None, str | Content | None] = (None, None)
    _remark = ""

    @property
    def palette(self) -> Palette:
        """What to draw with: the colours of the theme as it is now, and the terminal's glyphs."""
        return palette_of(self.app)

    @property
    def zoomed(self) -> bool:
        """Whether it fills the screen: then all of its content is shown, however much that is."""
        return self.has_class("-maximized")

    def canvas(self, width: int, height: int, content: Callable[[], Size]) -> Size:
        """The size to draw for: the panel's own; zoomed, at least that of all of the content, which then scrolls."""
        if not self.zoomed:
            return Size(width, height)
        wanted = content()
        return Size(max(width, wanted.width), max(height, wanted.height))

    def build(self, width: int, height: int) -> Box | Sequence[Strip]:
        """The content for a panel of this inner size, in cells. It may be larger (it scrolls) or smaller (blank)."""
        raise NotImplementedError

    def refresh_content(self) -> None:
        """Have the content built again, when next it is looked at."""
        self._version += 1
        self.refresh()

    def set_titles(self, title: str | Content | None, subtitle: str | Content | None = None) -> None:
        """Set the border's texts. A str is taken as it is, never as markup; the same again costs nothing."""
        if (title, subtitle) != self._titles:
            self._titles = (title, subtitle)
            self._set_border()

    def set_remark(self, remark: str) -> None:
        """Say something in the border after the title, whatever that is; the empty text says nothing."""
        if remark != self._remark:
            self._remark = remark
            self._set_border()

    def _set_border(self) -> None:
        title, subtitle = (self._border_text(text) for text in self._titles)
        if self._remark and title is not None:
            title = Content.assemble(title, transliterate(f" · {self._remark}", self.palette.glyphs))
        self.border_title, self.border_subtitle = title, subtitle

    def _border_text(self, text: str | Content | None) -> Content | None:
        return Content(transliterate(text, self.palette.glyphs)) if isinstance(text, str) else text

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
        """The rows of all of the content, beyond what is in view as well."""
        self._ensure_built()
        return self._strips

    def plain_text(self) -> str:
        """All of the content, beyond what is in view as well, under the title."""
        return "".join(f"{line.rstrip()}\n" for line in (self.heading, "", *(strip.text for strip in self.drawn)))

    def shown(self) -> Sequence[tuple[Ref, Any]]:
        """The values whose numbers are shown, each once, with a ref of one of its entries; none in a panel of other things."""
        return ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None for what has to wait while a run goes on; False for all in a panel that has been removed."""
        if not self.is_attached:
            return False
        return None if action in self.ASKING and getattr(self.screen, "running", False) else True

    # Textual's part.

    def on_mount(self) -> None:
        self.set_class(self.palette.glyphs is ASCII, "-ascii")

    def render_lines(self, crop: Region) -> list[Strip]:
        self._ground = self.rich_style  # once a picture: working it out for every line took an eighth of a redraw
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        self._ensure_built()
        x, row = self.scroll_offset.x, self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        if row >= len(self._strips):
            return Strip.blank(width, self._ground)
        return self._strips[row].crop_extend(x, x + width, None).apply_style(self._ground)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The height that `height: auto` takes: that of the content."""
        return len(self.draw(width, container.height)[0])

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """The width that `width: auto` takes: that of the content."""
        return self.draw(container.width, container.height)[1]

    def _ensure_built(self) -> None:
        room = self.content_size
        key = (self._version, room, self.palette, self.zoomed)
        if key == self._built_for:
            return
        self._built_for = key
        strips, width = self.draw(room.width, room.height)
        across, below = self.styles.scrollbar_size_vertical, self.styles.scrollbar_size_horizontal
        tall = len(strips) > room.height - (below if width > room.width else 0)
        if tall:  # then the scroll bar takes a column
            strips, width = self.draw(room.width - across, room.height)
        wide = width > room.width - (across if tall else 0)
        self._strips = strips
        # Content that fits takes the size of the room, whatever its own: so a new size, which lays out the whole
        # screen again, is set only where scrolling changes. Not while drawing, though.
        wanted = Size(width if wide else 0, len(strips) if tall else 0)
        now = self.virtual_size
        scrolls = self._scrolls or now.width > room.width or now.height > room.height
        self._scrolls = wanted != Size(0, 0)
        if wanted != now and (scrolls or self._scrolls):
            self.call_next(self._set_virtual_size, wanted)

    def watch_show_vertical_scrollbar(self) -> None:
        """The bar may come after the scrolling, of which it then does not know."""
        self.vertical_scrollbar.position = self.scroll_y

    def _set_virtual_size(self, size: Size) -> None:
        self.virtual_size = size
        self._follow()

    def _follow(self) -> None:
        """Keep in view what matters, in a panel that has such rows (`scroll_to_rows`); the content has another size now."""

    def scroll_to_rows(self, first: int, last: int) -> None:
        """Scroll as little as shows the rows `first` … `last`; of more than there is room for, the first."""
        height = self.scrollable_content_region.height
        if height > 0:
            top = min(max(self.scroll_offset.y, last + 1 - height), first)
            self.scroll_to(y=top, animate=False, immediate=True, force=True)

    def _content_or_problem(self, width: int, height: int) -> Box | Sequence[Strip]:
        """The content; what went wrong, where it cannot be drawn, which must not keep the other panels from the screen."""
        try:
            return self.build(width, height)
        except Exception as error:
            from tui_gru.debugger.storage.error_reports import reported  # late: it is hardly ever needed

            said = folded(reported(error, f"drawing the panel {self.heading or type(self).__name__}"), max(width, 1))
            return from_rows([(Segment(line, self.palette.warning),) for line in said])

    def draw(self, width: int, height: int) -> tuple[Sequence[Strip], int]:
        """The rows of the content for a panel of this inner size, in cells, and how wide the widest is."""
        content = self._content_or_problem(max(width, 0), max(height, 0))
        if isinstance(content, Box):
            return [content.strip(y) for y in range(content.height)], content.width
        if isinstance(content, Rows):
            return content, content.width
        return content, max((strip.cell_length for strip in content), default=0)
