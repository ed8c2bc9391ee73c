"""Where a session finds what writes it as a page. The screen draws pages and is above the session, so it is given here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tui_gru.debugger.position import Level
    from tui_gru.paths import FilePath


class PageWriter(Protocol):
    """Writes the walk of a session as HTML."""

    def play(
        self,
        session: Any,
        path: FilePath,
        *,
        by: Level,
        last: int | None,
        size: tuple[int, int],
        theme: str | None,
        force: bool,
    ) -> Path:
        """Write the walk to one file, and return its path; see `Session.player`."""

    def embedded(self, session: Any) -> str:
        """Return the last moments of the walk, for a notebook."""


#: Returns the writer, which loads the screen; set by the package when it is imported.
page_writer: Callable[[], PageWriter]
