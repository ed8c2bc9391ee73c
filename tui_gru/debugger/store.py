"""The files of sessions: where they are, saving to one, loading from one, and recording to one as things happen."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from platformdirs import user_state_path

from tui_gru.debugger import session_file
from tui_gru.debugger.session_errors import SessionFileError, UnwritableSessionError, missing, reason
from tui_gru.debugger.session_file import Fill, SessionFile
from tui_gru.debugger.state import State
from tui_gru.debugger.state_writer import StateWriter
from tui_gru.engine.arguments import shown

SUFFIX = ".tui-gru"
LONGEST_NAME = 200  # bytes

FilePath = str | os.PathLike[str]


def sessions_folder() -> Path:
    """Where sessions live that are known by a name only. It is made when the first is saved."""
    return user_state_path("tui-gru", appauthor=False) / "sessions"


def automatic_folder() -> Path:
    """Where sessions are recorded to that were given no name. The oldest of these go (`own_sessions.prune`)."""
    return sessions_folder() / "automatic"


def session_path(name: FilePath) -> Path:
    """The file of a session: a path as it is; for a bare name, one in `sessions_folder`, or one recorded automatically."""
    path = _expanded(name)
    if path.name != os.fspath(name) or path.suffix == SUFFIX:
        return path
    file = f"{path.name}{SUFFIX}"
    named, automatic = sessions_folder() / file, automatic_folder() / file
    return automatic if not os.path.exists(named) and os.path.exists(automatic) else named


def load(path: FilePath, history_memory: int | None = None) -> State:
    """The session in a file. Raises `SessionFileError`; the file is left as it is."""
    with session_file.reading(_real(path)) as file:
        return _read(file, history_memory)


def _read(file: SessionFile, history_memory: int | None) -> State:
    from tui_gru.debugger.state_reader import read_state  # late: a recording that begins reads nothing

    state = read_state(file)
    if history_memory is not None:
        state.branches.timeline.memory.budget.bound(history_memory)
    return state


def save(state: State, path: FilePath) -> None:
    """Write a session to a file, all of it or nothing. Raises `SessionFileError`; only a session is overwritten."""
    _put(_real(path), lambda file, _: StateWriter().write(file, state))


def _real(path: FilePath) -> Path:
    try:
        return Path(os.path.realpath(Path(path).expanduser()))
    except (TypeError, ValueError, RuntimeError):
        raise _no_name(path) from None


def _expanded(name: FilePath) -> Path:
    try:
        path = Path(name).expanduser()
        encoded = os.fsencode(path)
    except (TypeError, ValueError, RuntimeError):  # not to be encoded; ~nobody/file
        raise _no_name(name) from None
    if not os.fspath(name) or b"\0" in encoded or len(os.fsencode(path.name)) > LONGEST_NAME:
        raise _no_name(name)
    return path


def _no_name(name: FilePath) -> SessionFileError:
    return SessionFileError(f"{shown(name)} is no name of a file; give one such as math{SUFFIX}")


def _put(path: Path, fill: Fill) -> int:
    if path.parent in (_real(sessions_folder()), _real(automatic_folder())):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableSessionError(f"{path.parent} cannot be made: {reason(error)}; save it elsewhere") from None
    return session_file.replace(path, fill)


class Recorder:
    """A session's file while it is recorded to: it is brought up to the session after every verb.

    What has been written survives the end of the process, however it comes; a power cut may take the last moments, never the file.
    """

    def __init__(self, path: Path, begin: Callable[[SessionFile | None], State]) -> None:
        self.path, self._writer = path, StateWriter()

        def fill(new: SessionFile, old: SessionFile | None) -> None:
            self.begun = begin(old)
            self._writer.write(new, self.begun)

        self._inode = _put(path, fill)
        self._file = session_file.recording(self.path, self._inode)
        self._lock = threading.Lock()  # what is kept may come from another thread than the verbs
        self.close = weakref.finalize(self, self._file.end_recording)

    @classmethod
    def begin(cls, state: State, path: FilePath) -> Self:
        """Begin with all of `state`. Raises `SessionFileError`; only a session is overwritten, and none that is open elsewhere."""
        return cls(_real(path), lambda old: state)

    @classmethod
    def resume(cls, path: FilePath, history_memory: int | None = None) -> Self:
        """Go on from what is in the file (`begun`): nobody else has it in between. Raises `SessionFileError`."""
        at = _real(path)
        session_file.identify(at)

        def left(old: SessionFile | None) -> State:
            if old is None:
                raise missing(at)
            return _read(old, history_memory)

        return cls(at, left)

    def is_at(self, path: FilePath) -> bool:
        return _real(path) == self.path

    def write(self, state: State) -> str:
        """Bring the file up to `state`. Where that fails the recording ends, and what to tell the person is returned."""
        return self._try(lambda writer: writer.write(self._file, state))

    def write_kept(self, kept: Mapping[str, Any]) -> str:
        """As `write`, for what a front end has asked to keep."""
        return self._try(lambda writer: writer.write_kept(self._file, kept))

    def _try(self, write: Callable[[StateWriter], None]) -> str:
        with self._lock:
            writer, self._writer = self._writer, StateWriter()  # after an interruption, all is written again
            try:
                if self.path.stat().st_ino != self._inode:
                    raise FileNotFoundError(None, "another file has taken its place")
                write(writer)
            except (sqlite3.Error, OSError) as error:
                self.close()
                return f"no longer recorded to {self.path}: {reason(error)}; it goes on in memory, save it elsewhere"
            self._writer = writer
            return ""
