"""Verbs that read and write files: save, open, export, and read a model file in another convention."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tui_gru.debugger.storage.confinement import is_permitted, permitted
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.verbs.verb import Arguments

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session
    from tui_gru.tui.screens.main import MainScreen


def save(screen: MainScreen, rest: Arguments, *, overwrite: bool = False) -> None:
    """Write the session to a file. Where it is recorded does not change.

    Raises `TuiGruError` if the file exists, it is not one of this session, and `overwrite` is False.
    """
    name = _named(rest, "save walk")

    def save(_: object) -> None:
        from tui_gru.debugger.storage.store import session_path

        path, session = session_path(name), screen.session
        if not overwrite and os.path.exists(path) and not session.owns(path):
            raise TuiGruError(f"{path} exists and is left as it is; name another, or overwrite it with save! {name}")
        session.save(path)
        here = screen.session.records_to(path)
        screen.note(f"saved to {path}" if here else f"saved to {path}; `open {name}` opens it")

    screen.do(save, batches=None)


def open_(screen: MainScreen, rest: Arguments) -> None:
    """Replace this session by that of a file, or by a copy of it: `NAME [copy]`."""
    name, _, last = rest.rpartition(" ")
    copy = last == "copy" and bool(name.strip()) and not (is_permitted(rest) and permitted(rest).exists())
    name = _named(name.strip() if copy else rest, "open walk")
    if screen.session.undecided:
        raise TuiGruError("this session has changes that are not recorded yet; answer first where to record them")

    def open_(_: object) -> None:
        session = _opened(screen, name, copy)
        if session is not screen.session:
            screen.session.close()
            screen.session = session

    screen.do(open_, batches=None)


def _opened(screen: MainScreen, name: str, copy: bool) -> Session:
    """Return the session of a name or path. Raises `TuiGruError` if it cannot be opened; the current session stays open then."""
    from tui_gru.debugger.session import opening
    from tui_gru.debugger.storage import library
    from tui_gru.debugger.storage.session_errors import SessionInUseError

    path, now = library.find(name), screen.session
    if not copy and now.records_to(path):
        screen.note(f"{path} is the session that is open here")
        return now
    try:
        return opening.copied(path) if copy else opening.opened(path)
    except SessionInUseError:
        raise TuiGruError(f"{path} is open in another tui-gru; `open {name} copy` opens a copy of it") from None


def _named(rest: str, usage: str) -> str:
    """Return the name of a session, or a path. Raises `TuiGruError`, with an example, if there is none."""
    if not rest:
        raise TuiGruError(f"type a name or a file, for example {usage}")
    return str(rest)


def reading(screen: MainScreen, rest: Arguments) -> None:
    """Read the model file in the next convention; the position does not change."""

    def read(_: object) -> None:
        from tui_gru.debugger.session.loading import other_reading

        screen.session = other_reading(screen.session)

    screen.do(read, batches=None)


def export(screen: MainScreen, rest: Arguments, *, overwrite: bool = False) -> None:
    """Export the derivation, the panel in focus or the screen to `FILE`, in the format of its suffix."""
    if not rest:
        raise TuiGruError("type a file: export here.txt, export here.tex, export here.svg")
    from tui_gru.tui.exporting import export  # imported late: it imports panels that are not needed before

    path = permitted(rest)
    screen.say(f"wrote {export(screen, path, overwrite=overwrite)} to {path}")


def export_preview(screen: MainScreen, rest: Arguments, *, overwrite: bool = False) -> str:
    from tui_gru.tui.exporting import preview

    try:
        return preview(screen, permitted(rest), overwrite=overwrite)
    except TuiGruError as error:  # what the export would say
        return str(error)
