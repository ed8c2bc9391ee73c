"""The picture that `tui-gru screenshot` saves: of a new run or of a session, as SVG, or as PNG by a program that converts it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tui_gru.cli.screen import draw
from tui_gru.debugger.session.session import Session
from tui_gru.engine.errors import TuiGruError

#: Programs that convert an SVG file to PNG, each with the arguments for the two files; the first that is installed is used.
CONVERTERS: Mapping[str, Callable[[str, str], Sequence[str]]] = {
    "rsvg-convert": lambda svg, png: (svg, "-o", png),
    "resvg": lambda svg, png: (svg, png),
    "inkscape": lambda svg, png: (svg, "-o", png),
}


def pictured_at(at: str, session: Session) -> Session:
    """Return a session at a mark or a place in time. Raises `TuiGruError` if there is no such place."""
    try:
        session.jump(at) if len(at) == 1 and at.isalpha() else session.seek(at)
    except TuiGruError as error:
        raise TuiGruError(str(error), option="at") from None
    return session


def save(session: Session, keys: Sequence[str], size: tuple[int, int], out: Path, *, theme: str | None) -> None:
    """Save the screen of a session after some keys, in the format of the suffix of `out`, .svg or .png.

    Raises `TuiGruError` if a key is invalid, or nothing is installed that converts to PNG.
    """
    with closing(session):
        if out.suffix.lower() == ".svg":
            draw(session, keys, size, out, theme=theme)
            return
        program = next(filter(shutil.which, CONVERTERS), None)
        if program is None:
            *others, last = CONVERTERS
            raise TuiGruError(f"OUT: install {', '.join(others)} or {last} to convert to PNG, or name it {out.with_suffix('.svg')}")
        with TemporaryDirectory() as folder:
            svg = Path(folder) / "screen.svg"
            draw(session, keys, size, svg, theme=theme)
            done = subprocess.run([program, *CONVERTERS[program](str(svg), str(out))], capture_output=True, text=True)
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise TuiGruError(f"OUT: {program} failed: {words}; name it {out.with_suffix('.svg')}")
