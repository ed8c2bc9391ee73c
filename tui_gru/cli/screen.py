"""The way up to the screen. Textual is imported here, when a screen is wanted, and nowhere else in the front door."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tui_gru.engine.config import Config

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session

#: How long the terminal may take, in ms, between an escape and the rest of a key's sequence. Textual's own 100 are for lines slower
#: than any now, and every `esc` waits for as long.
ESCAPE_DELAY = 20


def open_debugger(make: Callable[[], Session], *, theme: str | None, ascii: bool, keymap: Path | None) -> None:
    """Run the debugger on the session that `make` gives, in this terminal, until it is quit."""
    gc.disable()  # until the first picture (TuiGruApp.on_ready): what is made before that stays
    os.environ.setdefault("ESCDELAY", str(ESCAPE_DELAY))  # before Textual is imported, which reads it then
    from tui_gru.tui.app import run

    run(make(), theme=theme, ascii=ascii, keys=keymap)


def draw(config: Config, keys: Sequence[str], size: tuple[int, int], out: Path, *, theme: str | None) -> None:
    """Press `keys` in a debugger of `size` (columns, rows) that nobody sees, and save what it then shows as SVG."""
    from tui_gru.tui.screenshot import take

    take(config, keys, size, out, theme=theme)
