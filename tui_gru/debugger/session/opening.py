"""Going on with a session: in its own file, in a copy of it, or, where neither can be written, in memory; it says so."""

from __future__ import annotations

from pathlib import Path

from tui_gru.debugger.session.session import REOPENED, Session
from tui_gru.debugger.storage.library import free_path
from tui_gru.debugger.storage.session_errors import SessionFileError, SessionInUseError, UnwritableSessionError
from tui_gru.debugger.storage.store import is_own


def opened(path: Path, history_memory: int | None = None) -> Session:
    """The session in a file. A session in one of the user's folders is recorded to its file; any other file is not changed.

    Of the latter the first change makes the session `undecided`. Raises `SessionFileError` where it cannot be read, or is one of
    the user's own that is open elsewhere.
    """
    if is_own(path):
        return reopened(path, history_memory)
    session = Session.open(path, history_memory=history_memory)
    session.record_later(lambda: None)
    return session


def reopened(path: Path, history_memory: int | None = None) -> Session:
    """The session in a file, recorded to it. Raises `SessionFileError` where it cannot be read, or is open elsewhere."""
    try:
        return Session.open(path, record=True, history_memory=history_memory)
    except UnwritableSessionError as error:
        session = Session.open(path, history_memory=history_memory)
        session.notice = ""
        session.stay_in_memory(str(error))
        return session


def copied(path: Path, history_memory: int | None = None) -> Session:
    """A copy of the session in a file, recorded beside it under a name of its own. Raises `SessionFileError` as `reopened`."""
    session, to = Session.open(path, history_memory=history_memory), free_path(path)
    left, session.notice = session.outcome.notice, ""
    record(session, to)
    if session.recording is not None and left is not None:
        session.add_notice(
            f"a copy of {path.stem}, recorded as {to.stem}: {left.text.removeprefix(REOPENED)}", warning=left.warning
        )
    return session


def record(session: Session, path: Path) -> None:
    """Record a session to a file; where that cannot be written, it goes on in memory. Raises `SessionInUseError`."""
    try:
        session.record_to(path)
    except SessionInUseError:
        raise
    except SessionFileError as error:
        session.stay_in_memory(str(error))
