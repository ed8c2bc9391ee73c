"""Session files by path and by name: found, saved, loaded, and the newest ones kept."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Self

from platformdirs import user_state_path

from tui_gru.debugger.position import in_words, position_of
from tui_gru.debugger.program import program_of
from tui_gru.debugger.state import State
from tui_gru.disk import Flusher, synchronise_folder
from tui_gru.engine.config import Config
from tui_gru.errors import TuiGruError, shown
from tui_gru.paths import FilePath, is_permitted, permitted, served_folder
from tui_gru.storage import file as session_file
from tui_gru.storage import state as facts
from tui_gru.storage.state import OpenRecording, StateWriter, read_state

# ------------------------------------------------------------------------------
# Finds, saves, loads and records session files.


SUFFIX = ".tui-gru"
#: What no name of a file on Windows can contain (a colon would name a part of another file), and names that are devices there.
UNNAMEABLE = frozenset('<>:"|?*')
DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))})
LONGEST_NAME = 200  # bytes of a file name

FileIdentity = tuple[Path, int]  # a file, and the time at which it was written


def sessions_folder() -> Path:
    """Return the folder of sessions that are identified by a name. It is created when the first is saved."""
    return user_state_path("tui-gru", appauthor=False) / "sessions"


def automatic_folder() -> Path:
    """Return the folder of sessions that are recorded automatically, without a name. The oldest are deleted (`prune`)."""
    return sessions_folder() / "automatic"


def session_path(name: FilePath) -> Path:
    """Return the path of a session.

    A path is returned unchanged; a name refers to `sessions_folder`, or else to `automatic_folder`. In a confined process both
    refer to its folder (`errors.permitted`).
    """
    path, folder = _expanded(name), served_folder()
    if path.name != os.fspath(name) or path.suffix == SUFFIX:
        return permitted(path)
    file = f"{path.name}{SUFFIX}"
    if folder is not None:
        return permitted(folder / file)
    named, automatic = sessions_folder() / file, automatic_folder() / file
    return automatic if not os.path.exists(named) and os.path.exists(automatic) else named


@dataclass(frozen=True)
class OpenedSession:
    """A session read from a file: the time at which it was written (`written_in`), and a warning about missing data.

    `is_earlier` is True if it is not as it was left, since later changes are lost.
    """

    path: Path
    state: State
    written: int
    trouble: str
    is_earlier: bool = False


def read_session(path: FilePath, open_recording: OpenRecording, history_memory: int | None = None) -> OpenedSession:
    """Load the session in a file. Raises `SessionFileError`. The file, and the files next to it, are not changed."""
    with session_file.open_for_reading(_real(path)) as file:
        return _read(file, open_recording, history_memory)


def _read(file: session_file.SessionFile, open_recording: OpenRecording, history_memory: int | None) -> OpenedSession:
    state, unreadable = read_state(file, open_recording)
    if history_memory is not None:
        state.branches.timeline.memory.bound(history_memory)
    trouble = _log_trouble(file) + [f"the entry {name} cannot be read and is left out" for name in unreadable]
    return OpenedSession(file.path, state, written_in(file), "; ".join(trouble), is_earlier=file.log.damage is not None)


def _log_trouble(file: session_file.SessionFile) -> list[str]:
    """Return a line on the changes that are missing because the log is missing or damaged, or on a log of another file."""
    log, damage = f"{file.path.name}-wal", file.log.damage
    if file.log.missing:
        return [f"later changes are in {log}, which is missing: copy both files"]
    if damage is None:
        return [f"{log} beside it belongs to another file and is not read"] if file.log.foreign else []
    reached = ""
    unreadable = session_file.SessionFileError, sqlite3.Error, OSError, UnicodeDecodeError
    with suppress(*unreadable), damage.pieced_together() as at, closing(session_file.connect(at, "ro")) as connection:
        late = session_file.SessionFile(file.path, connection)
        if written_in(late) > written_in(file):
            reached = f", which reached {place_in(late)} at least"
    changes = f"{damage.lost:,} later changes are" if damage.lost > 1 else "later changes are"
    copies = file.log.kept_as
    where = (
        f"the damaged files are kept as {copies.name} and {copies.name}-wal" if copies is not None else "the files are not changed"
    )
    return [f"{log} is damaged: {changes} lost{reached}; {where}"]


def place_in(file: session_file.SessionFile) -> str:
    """Return the place where the session in a file was left, in words."""
    fact = facts.read(file, "here", facts.HereFact)
    if (place := fact.place) is not None:
        return str(place)
    at = position_of(program_of(Config.of(**facts.read(file, "run", facts.RunFact).config)), fact.tick)
    return in_words(at.epoch, at.batch, at.t)


def written(path: Path) -> int:
    """Return the time at which a session was last written, in microseconds since 1970 (`written_in`); 0 if it cannot be read."""
    try:
        with session_file.glancing(path) as file:
            return written_in(file)
    except session_file.SessionFileError:
        return 0


def written_in(file: session_file.SessionFile) -> int:
    """Return the time at which a session was last written, as stored in its file, in microseconds since 1970."""
    return int(facts.read(file, "here", facts.HereFact).written)


def named_files() -> list[Path]:
    """Return the files of the sessions that a name can refer to; in a confined process those in its folder."""
    folder = served_folder()
    return own_files() if folder is None else [path for path in own_files(folder) if is_permitted(path)]


def own_files(*folders: Path) -> list[Path]:
    """Return the files with the suffix of a session in the user's session folders, or in `folders`."""
    paths: list[Path] = []
    for folder in folders or (sessions_folder(), automatic_folder()):
        with suppress(OSError):  # the folder does not exist yet
            paths += [path for path in folder.iterdir() if path.suffix == SUFFIX and path.is_file()]
    return paths


def _newest(path: Path) -> int:
    """Return the time at which the newest session was written, if `path` is in one of the user's folders; otherwise 0."""
    return max(map(_left, own_files()), default=0) if is_own(path) else 0


def _left(path: Path) -> int:
    """Like `written`, in a time that does not grow with the size of the file: this is asked at the first key of a session."""
    return session_file.left_at(path) or written(path)


def is_own(path: Path) -> bool:
    """Return True if a file is in one of the user's session folders."""
    return _real(path).parent in (_real(sessions_folder()), _real(automatic_folder()))


def write_session(state: State, path: FilePath, opened: FileIdentity | None = None) -> FileIdentity | None:
    """Write a session to a file, completely or not at all. Overwrites only session files. Raises `SessionFileError`.

    `opened` is the file that the session was read from; it is not overwritten if another program has written to it since. Returns
    `opened`, with the new time if it was that file.
    """
    real = _real(path)
    _check_permitted(real)
    _make_folder(real)
    writer = StateWriter(max(_newest(real), opened[1] if opened else 0))

    def fill(new: session_file.SessionFile, old: session_file.SessionFile | None) -> None:
        _check_unchanged(real, old, opened)
        writer.write(new, state)

    session_file.replace(real, fill)
    return (real, writer.written) if opened is not None and opened[0] == real else opened


def _check_permitted(path: Path) -> None:
    """Raise `SessionFileError` if this process may not write a file. Nobody has typed the path of an automatic recording."""
    if path.parent != _real(automatic_folder()):
        try:
            permitted(path)
        except TuiGruError as error:
            raise session_file.UnwritableSessionError(str(error)) from None


def _check_unchanged(path: Path, file: session_file.SessionFile | None, opened: FileIdentity | None) -> None:
    """Raise `SessionFileError` if the file that a session was read from has been written to since."""
    if opened is not None and opened[0] == path and file is not None and written_in(file) != opened[1]:
        raise session_file.UnwritableSessionError(f"{path} was written to since it was opened here; save it elsewhere")


def _real(path: FilePath) -> Path:
    try:
        real = Path(os.path.realpath(Path(path).expanduser()))
    except (TypeError, ValueError, RuntimeError):
        raise _invalid_name(path) from None
    if not real.name:  # the root of the file system
        raise _invalid_name(path)
    return real


def _expanded(name: FilePath) -> Path:
    try:
        path = Path(name).expanduser()
        encoded = os.fsencode(path)
    except (TypeError, ValueError, RuntimeError):  # cannot be encoded, or an unknown user as in ~nobody/file
        raise _invalid_name(name) from None
    if not os.fspath(name) or b"\0" in encoded or len(os.fsencode(path.name)) > LONGEST_NAME:
        raise _invalid_name(name)
    if os.name == "nt" and (UNNAMEABLE.intersection(path.name) or path.stem.upper() in DEVICES or path.name[-1:] in (" ", ".")):
        raise session_file.SessionFileError(
            f"{shown(name)} is no name that Windows can give to a file; use one such as math{SUFFIX}"
        )
    return path


def _invalid_name(name: FilePath) -> session_file.SessionFileError:
    return session_file.SessionFileError(f"{shown(name)} is not a file name; use one such as math{SUFFIX}")


def _make_folder(path: Path) -> None:
    """Create the folder of a file if it is one of the user's session folders."""
    if is_own(path):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise session_file.UnwritableSessionError(
                f"{path.parent} cannot be created: {session_file.reason(error)}; save it elsewhere"
            ) from None


class RecordedFile:
    """A session file that is being recorded to: it is updated after every verb.

    What has been written survives the end of the process, even a crash; a power cut can lose the last second, but not the file.
    """

    def __init__(self, path: Path, begin: Callable[[session_file.SessionFile | None], OpenedSession]) -> None:
        _check_permitted(path)
        self.path, newest = path, _newest(path)

        def fill(new: session_file.SessionFile, old: session_file.SessionFile | None) -> None:
            self.begun = begin(old)
            self._writer = StateWriter(max(newest, self.begun.written))
            self._writer.write(new, self.begun.state)

        _make_folder(path)
        if not session_file.has_locks(path.parent):
            raise session_file.no_locks(path)
        self._inode = session_file.replace(path, fill)
        self._file = session_file.recording(self.path, self._inode)
        synchronise_folder(path.parent)  # which has a log beside the file now
        self._log, self._flusher = session_file.log_of(path), Flusher()
        self._lock = threading.Lock()  # `kept` may be written by another thread than the verbs
        self.close = weakref.finalize(self, self._file.end_recording, self._inode)

    @classmethod
    def begin(cls, state: State, path: FilePath, opened: FileIdentity | None = None) -> Self:
        """Start recording with the complete `state`; `opened` as in `save`.

        Raises `SessionFileError`. Overwrites only session files that are not open elsewhere.
        """
        at = _real(path)

        def checked(old: session_file.SessionFile | None) -> OpenedSession:
            _check_unchanged(at, old, opened)
            return OpenedSession(at, state, opened[1] if opened else 0, "")

        return cls(at, checked)

    @classmethod
    def resume(cls, path: FilePath, open_recording: OpenRecording, history_memory: int | None = None) -> Self:
        """Continue recording to a file, after reading it (`begun`) under the same lock. Raises `SessionFileError`."""
        at = _real(path)
        session_file.identify(at)

        def left(old: session_file.SessionFile | None) -> OpenedSession:
            if old is None:
                raise session_file.missing(at)
            return _read(old, open_recording, history_memory)

        return cls(at, left)

    def is_at(self, path: FilePath) -> bool:
        return _real(path) == self.path

    def write(self, state: State) -> str:
        """Update the file to `state`. If that fails, the recording ends; returns the error message, or an empty string."""
        return self._try(lambda writer: writer.write(self._file, state))

    def write_kept(self, state: State) -> str:
        """Like `write`, but only `kept`, which can change outside of a verb."""
        return self._try(lambda writer: writer.write_kept(self._file, state))

    def _try(self, write: Callable[[StateWriter], None]) -> str:
        with self._lock:
            if not self._file.is_own():
                return self._ended("this process is a copy (fork) of the one that records it")
            writer = self._writer
            self._writer = StateWriter(writer.written)  # after an error or interrupt, everything is written again
            try:
                if session_file.inode_of(self.path) != self._inode:
                    raise FileNotFoundError(None, "another file has taken its place")
                if self._file.is_changed_outside():
                    raise OSError(None, "another program has changed the file")
                if self._flusher.failure is not None:
                    raise self._flusher.failure
                try:
                    write(writer)
                    self._flusher.soon(self._log)  # not here: the user would wait for the disk at every key
                finally:  # also what was interrupted may have changed the file
                    self._file.note_sizes()
            except (sqlite3.Error, OSError, MemoryError, session_file.SessionFileError) as error:
                self.close()
                return self._ended(session_file.reason(error))
            self._writer = writer
            return ""

    def _ended(self, why: str) -> str:
        return f"no longer recorded to {self.path}: {why}; the session continues in memory only, save it elsewhere"


# ------------------------------------------------------------------------------
# The saved sessions in the user's folders: those with a name, and the newest of those recorded automatically.


LAST = "last"  # the name that stands for the newest session
STAY = 20  # automatic recordings are kept; older ones are deleted
LONGEST = 16  # characters of the text in the name of an automatic recording


@dataclass(frozen=True)
class ListedSession:
    """A session in a list. `place` is the place where it was left, or the error if it cannot be read; it then has no `branches`.

    `size` is in bytes, `written` in seconds since 1970.
    """

    path: Path
    size: int
    written: float
    place: str
    branches: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name by which the session can be opened."""
        return self.path.stem


def automatic_path(text: str, today: date) -> Path:
    """Return a path for a new session on a text, which does not exist yet: `2026-11-25-Math.tui-gru`."""
    return free_path(automatic_folder() / f"{today.isoformat()}-{_title(text)}{SUFFIX}")


def free_path(path: Path) -> Path:
    """Return `path`, or if it exists, the first with a number that does not: math, math-2, math-3."""
    free, n = path, 1
    while free.exists():
        n += 1
        free = path.with_name(f"{path.stem}-{n}{path.suffix}")
    return free


def _title(text: str) -> str:
    """Return the first word of a text, without repetitions: Math for MathMathMath."""
    head = text[:256]
    period = (head + head).find(head, 1)
    words = re.findall(r"[^\W_]+", head[:period] if period <= len(head) // 2 else head)
    return words[0][:LONGEST] if words else "text"


def prune() -> None:
    """Delete the oldest automatic recordings. Files that are not sessions, and sessions that are open, are not deleted."""
    for path in sorted(own_files(automatic_folder()), key=_left, reverse=True)[STAY:]:
        with suppress(session_file.SessionFileError):
            session_file.remove(path)


def find_session(name: str) -> Path:
    """Return the path of a session, from its name or path; `last` is the newest. Raises `SessionFileError` if there is none."""
    if name != LAST:
        return session_path(name)
    newest = max(named_files(), key=written, default=None)
    if newest is None:
        raise session_file.SessionMissingError(f"there is no session in {sessions_folder()} yet; leave out --session to begin one")
    return newest


def all_sessions() -> list[ListedSession]:
    """Return all sessions in the user's folders, newest first."""
    return sorted(map(_listed, own_files()), key=lambda listed: listed.written, reverse=True)


def _listed(path: Path) -> ListedSession:
    size = 0
    for part in (path, path.with_name(f"{path.name}-wal")):  # while the session is open, or after a crash, part of it is in the log
        with suppress(OSError):
            size += part.stat().st_size
    try:
        with session_file.glancing(path) as file:
            return ListedSession(path, size, *_glance(file))
    except TuiGruError as error:
        return ListedSession(path, size, 0.0, str(error).removeprefix(f"{path} "))


def _glance(file: session_file.SessionFile) -> tuple[float, str, tuple[str, ...]]:
    """Return the time at which a session was written, in seconds since 1970, and where it was left; and its branches.

    The current branch comes first.
    """
    fact = facts.read(file, "here", facts.HereFact)
    names = [name for name, *_ in facts.read(file, "branches", facts.BranchRows)]
    if fact.branch not in names or fact.tick > fact.newest:
        raise session_file.damaged(file.path, "the place where it was left")
    place = place_in(file) + (", later changes lost in a damaged log" if file.log.damage is not None else "")
    return written_in(file) / 1e6, place, (fact.branch, *(name for name in names if name != fact.branch))
