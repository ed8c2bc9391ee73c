"""Verbs that read and write files: saving and opening sessions, exporting, reading a model file in another way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.verbs.verb import Arguments

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session
    from tui_gru.tui.screens.main import MainScreen


def save(screen: MainScreen, rest: Arguments) -> None:
    """Write the session to a file; it goes on being recorded where it was."""
    name = _named(rest, "save walk")

    def save(_: object) -> None:
        from tui_gru.debugger.storage.store import session_path

        path = session_path(name)
        screen.session.save(path)
        here = screen.session.records_to(path)
        screen.note(f"saved to {path}" if here else f"saved to {path}; `open {name}` goes on from there")

    screen.do(save, batches=None)


def open_(screen: MainScreen, rest: Arguments) -> None:
    """`NAME [copy]`: go on in the session of a file, or in a copy of it, in place of this one."""
    name, _, last = rest.rpartition(" ")
    copy = last == "copy" and bool(name.strip()) and not os.path.exists(os.path.expanduser(rest))
    name = _named(name.strip() if copy else rest, "open walk")
    if screen.session.undecided:
        raise TuiGruError("what was done here is not recorded yet; say first where it goes")

    def open_(_: object) -> None:
        session = _opened(screen, name, copy)
        if session is not screen.session:
            screen.session.close()
            screen.session = session

    screen.do(open_, batches=None)


def _opened(screen: MainScreen, name: str, copy: bool) -> Session:
    """The session of a name or path. Raises `TuiGruError`, and then nothing has changed."""
    from tui_gru.debugger.session import opening
    from tui_gru.debugger.storage import library
    from tui_gru.debugger.storage.session_errors import SessionInUseError

    path, now = library.find(name), screen.session
    if not copy and now.records_to(path):
        screen.note(f"{path} is this session")
        return now
    try:
        return opening.copied(path) if copy else opening.opened(path)
    except SessionInUseError:
        raise TuiGruError(f"{path} is open in another tui-gru; `open {name} copy` opens a copy of it") from None


def _named(rest: str, usage: str) -> str:
    """What a command names, a session of its own folder or a path."""
    if not rest:
        raise TuiGruError(f"name a session, or a file: {usage}")
    return str(rest)


def reading(screen: MainScreen, rest: Arguments) -> None:
    """Read the model file in the next convention, at the same place."""

    def read(_: object) -> None:
        from tui_gru.debugger.session.readings import other_reading

        screen.session = other_reading(screen.session)

    screen.do(read, batches=None)


def export(screen: MainScreen, rest: Arguments, *, overwrite: bool = False) -> None:
    """`FILE`: its suffix says how the derivation, the panel in focus or the screen is written."""
    if not rest:
        raise TuiGruError("name a file: export here.txt, export here.tex, export here.svg")
    from tui_gru.tui.exporting import export  # late: it draws on panels that are not there before they are asked for

    path = Path(os.path.expanduser(rest))
    screen.say(f"wrote {export(screen, path, overwrite=overwrite)} to {path}")
