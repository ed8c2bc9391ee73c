"""The terminal, and the opening of the screen in it. Textual is imported only when a screen is needed."""

from __future__ import annotations

import codecs
import gc
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tui_gru.engine.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session

#: The longest time, in ms, between an escape and the rest of a key's sequence. Every press of `esc` is delayed by it. Textual's
#: default of 100 is meant for slower connections than today's.
ESCAPE_DELAY = 20

INSTEAD = "use `tui-gru trace` for the numbers or `tui-gru screenshot OUT.svg` for a picture"
# In the C locale, Python itself sets LC_CTYPE to one of these (PEP 538), so they tell nothing about the terminal.
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")


def require_terminal() -> None:
    """Raise `TuiGruError` if Textual cannot run here. A driver named by TEXTUAL_DRIVER needs no terminal."""
    if "TEXTUAL_DRIVER" in os.environ and sys.stdin is not None and sys.stdout is not None:
        return
    for stream, name in ((sys.stdin, "input"), (sys.stdout, "output")):
        if stream is None or not stream.isatty():
            raise TuiGruError(f"standard {name} is not a terminal: open the debugger in one, or {INSTEAD}")
    kind = os.environ.get("TERM", "")
    if os.name == "posix" and kind in ("", "dumb", "unknown"):
        was = f"is {kind!r}" if kind else "is not set"
        raise TuiGruError(f"TERM {was}, so nothing can be drawn: set it (TERM=xterm-256color), or {INSTEAD}")


def speaks_utf8(environ: Mapping[str, str], encoding: str | None) -> bool:
    """Return True if the terminal can show UTF-8, according to the locale variables and the encoding of the stream."""
    try:
        if codecs.lookup(encoding or "utf-8").name != "utf-8":
            return False
    except LookupError:
        return False
    if os.name != "posix":
        return True
    names = ("LC_ALL", "LANG") if environ.get("LC_CTYPE") in _COERCED else ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((value for name in names if (value := environ.get(name))), "UTF-8")
    return locale.upper().replace("-", "").partition("@")[0].endswith("UTF8")


def open_debugger(
    make: Callable[[], Session], *, theme: str | None = None, ascii_only: bool | None = None, keymap: Path | None = None
) -> None:
    """Run the debugger in this terminal on the session that `make` creates, until the user quits.

    Where `theme` or `ascii_only` is None, the user's file decides, and then the locale. Raises `TuiGruError` if the debugger cannot
    run here.
    """
    require_terminal()
    gc.disable()  # until the first screen is shown (TuiGruApp.on_ready), since objects created before stay alive
    os.environ.setdefault("ESCDELAY", str(ESCAPE_DELAY))  # Textual reads it when it is imported
    from tui_gru.tui.app import own_display, run

    own_theme, own_ascii, problem = own_display()
    if ascii_only is None:
        ascii_only = not speaks_utf8(os.environ, sys.stdout.encoding) if own_ascii is None else own_ascii
    session = make()
    if problem:
        session.add_notice(problem, warning=True)
    run(session, theme=own_theme if theme is None else theme, ascii=ascii_only, keys=keymap)
