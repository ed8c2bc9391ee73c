"""The files of sessions: where they are, saving to one, loading from one, and recording to one as things happen."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from platformdirs import user_state_path

from tui_gru.debugger.state.state import State
from tui_gru.debugger.storage import session_file
from tui_gru.debugger.storage.session_errors import SessionFileError, UnwritableSessionError, has_locks, missing, no_locks, reason
from tui_gru.debugger.storage.session_file import SessionFile
from tui_gru.debugger.storage.state_writer import StateWriter
from tui_gru.engine.arguments import shown

SUFFIX = ".tui-gru"
LONGEST_NAME = 200  # bytes

FilePath = str | os.PathLike[str]
Origin = tuple[Path, int]  # a file, and when it was written


def sessions_folder() -> Path:
    """Where sessions live that are known by a name only. It is made when the first is saved."""
    return user_state_path("tui-gru", appauthor=False) / "sessions"


def automatic_folder() -> Path:
    """Where sessions are recorded to that were given no name. The oldest of these go (`library.prune`)."""
    return sessions_folder() / "automatic"


def session_path(name: FilePath) -> Path:
    """The file of a session: a path as it is; for a bare name, one in `sessions_folder`, or one recorded automatically."""
    path = _expanded(name)
    if path.name != os.fspath(name) or path.suffix == SUFFIX:
        return path
    file = f"{path.name}{SUFFIX}"
    named, automatic = sessions_folder() / file, automatic_folder() / file
    return automatic if not os.path.exists(named) and os.path.exists(automatic) else named


@dataclass(frozen=True)
class Opened:
    """A session as it was read from a file: when it was written, as `written` has it; `trouble` says what is missing of it."""

    path: Path
    state: State
    written: int
    trouble: str


def load(path: FilePath, history_memory: int | None = None) -> Opened:
    """The session in a file. Raises `SessionFileError`; the file, and what lies beside it, is left as it is."""
    with session_file.reading(_real(path)) as file:
        return _read(file, history_memory)


def _read(file: SessionFile, history_memory: int | None) -> Opened:
    from tui_gru.debugger.storage.state_reader import read_state  # late: a recording that begins reads nothing

    state, unreadable = read_state(file)
    log = f"{file.path.name}-wal"
    if history_memory is not None:
        state.branches.timeline.memory.budget.bound(history_memory)
    trouble = [f"newer work was in {log} beside it, which is missing: copy both"] if file.log_missing else []
    trouble += [f"what was kept as {name} cannot be read and is left out" for name in unreadable]
    return Opened(file.path, state, written_in(file), "; ".join(trouble))


def written(path: Path) -> int:
    """When a session was last written to, in microseconds since 1970, as `written_in` has it; 0 where it cannot be read."""
    try:
        with session_file.glancing(path) as file:
            return written_in(file)
    except SessionFileError:
        return 0


def written_in(file: SessionFile) -> int:
    """When a session was last written to, by its own account, in microseconds since 1970."""
    from tui_gru.debugger.storage import facts  # late, too

    return int(facts.read(file, "here", facts.HERE)["written"])


def own_files(*folders: Path) -> list[Path]:
    """The files in the user's session folders, or in the given ones of them, that look like sessions."""
    found: list[Path] = []
    for folder in folders or (sessions_folder(), automatic_folder()):
        with suppress(OSError):  # there is no such folder yet
            found += [path for path in folder.iterdir() if path.suffix == SUFFIX and path.is_file()]
    return found


def _newest(path: Path) -> int:
    """When the newest session beside a file was written, if the file is in one of the user's folders; else 0."""
    return max(map(written, own_files()), default=0) if is_own(path) else 0


def is_own(path: Path) -> bool:
    """Whether a file is in one of the user's session folders."""
    return _real(path).parent in (_real(sessions_folder()), _real(automatic_folder()))


def save(state: State, path: FilePath, opened: Origin | None = None) -> Origin | None:
    """Write a session to a file, all of it or nothing. Raises `SessionFileError`; only a session is overwritten.

    `opened` is the file that the session was read from: over it nothing is written that would undo what another wrote there
    meanwhile. Returns the same as of now.
    """
    real = _real(path)
    _make_folder(real)
    writer = StateWriter(max(_newest(real), opened[1] if opened else 0))

    def fill(new: SessionFile, old: SessionFile | None) -> None:
        _check_unchanged(real, old, opened)
        writer.write(new, state)

    session_file.replace(real, fill)
    return (real, writer.written) if opened is not None and opened[0] == real else opened


def _check_unchanged(path: Path, file: SessionFile | None, opened: Origin | None) -> None:
    """Raise `SessionFileError` where another has written to the file that a session was read from."""
    if opened is not None and opened[0] == path and file is not None and written_in(file) != opened[1]:
        raise UnwritableSessionError(f"{path} was written to since it was opened here; save it elsewhere")


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


def _make_folder(path: Path) -> None:
    """Make the folder of a file if it is one of the user's session folders."""
    if is_own(path):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableSessionError(f"{path.parent} cannot be made: {reason(error)}; save it elsewhere") from None


class RecordedFile:
    """A session's file while it is recorded to: it is brought up to the session after every verb.

    What has been written survives the end of the process, however it comes; a power cut may take the last moments, never the file.
    """

    def __init__(self, path: Path, begin: Callable[[SessionFile | None], Opened]) -> None:
        self.path, newest = path, _newest(path)

        def fill(new: SessionFile, old: SessionFile | None) -> None:
            self.begun = begin(old)
            self._writer = StateWriter(max(newest, self.begun.written))
            self._writer.write(new, self.begun.state)

        _make_folder(path)
        if not has_locks(path.parent):
            raise no_locks(path)
        self._inode = session_file.replace(path, fill)
        self._file = session_file.recording(self.path, self._inode)
        self._lock = threading.Lock()  # what is kept may come from another thread than the verbs
        self.close = weakref.finalize(self, self._file.end_recording, self._inode)

    @classmethod
    def begin(cls, state: State, path: FilePath, opened: Origin | None = None) -> Self:
        """Begin with all of `state`; `opened` as in `save`.

        Raises `SessionFileError`; only a session is overwritten, and none that is open elsewhere.
        """
        at = _real(path)

        def given(old: SessionFile | None) -> Opened:
            _check_unchanged(at, old, opened)
            return Opened(at, state, opened[1] if opened else 0, "")

        return cls(at, given)

    @classmethod
    def resume(cls, path: FilePath, history_memory: int | None = None) -> Self:
        """Go on from what is in the file (`begun`): nobody else has it in between. Raises `SessionFileError`."""
        at = _real(path)
        session_file.identify(at)

        def left(old: SessionFile | None) -> Opened:
            if old is None:
                raise missing(at)
            return _read(old, history_memory)

        return cls(at, left)

    def is_at(self, path: FilePath) -> bool:
        return _real(path) == self.path

    def write(self, state: State) -> str:
        """Bring the file up to `state`. If that fails the recording ends; returns the message, empty if it succeeded."""
        return self._try(lambda writer: writer.write(self._file, state))

    def write_kept(self, state: State) -> str:
        """As `write`, of what was kept outside of a verb, and nothing else."""
        return self._try(lambda writer: writer.write_kept(self._file, state))

    def _try(self, write: Callable[[StateWriter], None]) -> str:
        with self._lock:
            writer = self._writer
            self._writer = StateWriter(writer.written)  # after an interruption, all is written again
            try:
                if not session_file.is_at(self.path, self._inode):
                    raise FileNotFoundError(None, "another file has taken its place")
                write(writer)
            except (sqlite3.Error, OSError, MemoryError) as error:
                self.close()
                return f"no longer recorded to {self.path}: {reason(error)}; it goes on in memory, save it elsewhere"
            self._writer = writer
            return ""
