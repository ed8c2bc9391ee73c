"""Writing what is on screen to a file: the derivation, the panel or the screen, as text, LaTeX or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from tui_gru.debugger.line_latex import line_latex
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.panels.origin import OriginPanel
from tui_gru.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen

SUFFIXES = (".txt", ".tex", ".svg")


def export(screen: MainScreen, path: Path, *, overwrite: bool = False) -> str:
    """Write to `path`, whose suffix says how, and return what was written. Raises `TuiGruError`; a file that is there stays.

    `.txt` is the derivation, the panel in focus or the screen, the first there is; `.tex` the derivation or the line at work;
    `.svg` the screen.
    """
    if path.suffix not in SUFFIXES:
        raise TuiGruError(f"export writes {', '.join(SUFFIXES)}, and {path.name!r} is none: name it {path.stem}.txt, say")
    what, content = _content(screen, path.suffix)
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise TuiGruError(f"{path} exists and is left as it is; name another, or overwrite it with export! {path}") from None
    except OSError as error:
        raise TuiGruError(f"{path} cannot be written: {error.strerror}; write it elsewhere") from None
    return what


def _content(screen: MainScreen, suffix: str) -> tuple[str, str]:
    overlay = screen.overlay
    derivation = overlay if isinstance(overlay, OriginPanel) else None
    if suffix == ".svg":
        return "the screen", screen.app.export_screenshot(title="tui-gru")
    if suffix == ".tex":
        if derivation is not None:
            return "the derivation", derivation.text(latex=True)
        line = line_latex(screen.snapshot)
        if line is None:
            raise TuiGruError("there is no formula at work here to write as LaTeX; step on, or ask a number with enter")
        return "the line at work", line
    if derivation is not None:
        return "the derivation", derivation.text()
    focused = screen.focused
    if isinstance(focused, Panel):
        return f"the panel {focused.heading}", focused.plain_text()
    return "the screen", _screen_text(screen.app)


def _screen_text(app: App[None]) -> str:
    """The rows of the screen, as they are drawn."""
    strips = app.screen._compositor.render_strips()
    return "".join(f"{strip.text.rstrip()}\n" for strip in strips)
