"""The opening of the screen. Only this module of the command line imports Textual, and only when a screen is needed."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session

#: The longest time, in ms, between an escape and the rest of a key's sequence. Every press of `esc` is delayed by it. Textual's
#: default of 100 is meant for slower connections than today's.
ESCAPE_DELAY = 20


def open_debugger(make: Callable[[], Session], *, theme: str | None, ascii: bool, keymap: Path | None) -> None:
    """Run the debugger in this terminal on the session that `make` creates, until the user quits."""
    gc.disable()  # until the first screen is shown (TuiGruApp.on_ready), since objects created before stay alive
    os.environ.setdefault("ESCDELAY", str(ESCAPE_DELAY))  # Textual reads it when it is imported
    from tui_gru.tui.app import run

    run(make(), theme=theme, ascii=ascii, keys=keymap)


def draw(session: Session, keys: Sequence[str], size: tuple[int, int], out: Path, *, theme: str | None) -> None:
    """Press `keys` in a debugger of `size` (columns, rows) without a terminal, and save its screen as SVG."""
    from tui_gru.tui.screenshot import take

    take(session, keys, size, out, theme=theme)
