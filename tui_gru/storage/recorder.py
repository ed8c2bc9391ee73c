"""Writes a session to its file after every verb and during long ones, and reports of unexpected errors to the state folder."""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from threading import RLock, get_ident
from typing import TYPE_CHECKING

from platformdirs import user_state_path

from tui_gru.debugger.state import State
from tui_gru.disk import save_bytes
from tui_gru.schema import __version__

if TYPE_CHECKING:
    from tui_gru.paths import FilePath
    from tui_gru.storage.store import FileIdentity, OpenedSession, RecordedFile

# ------------------------------------------------------------------------------
# Writes the session file: once when the session is saved, or, while it is recorded, after every verb and during long ones.


# SQLite and JSON are imported when a session is first written or read, since that takes a tenth of the start time.

ATTEMPTS = 5  # to find a file that another program does not create at the same time
# Seconds between writes during a verb; and how many times as long as the last write took the verb computes before the next one.
RECORD_EVERY, RECORD_SHARE = 1.0, 20
IN_MEMORY = "not recorded; the session continues in memory only"


@dataclass(frozen=True)
class _Pending:
    """A recording that waits for its first change: a function for its path, the state at the beginning, and whether it is due."""

    place: Callable[[], FilePath | None]
    state: State
    due: bool = False

    def is_due(self, state: State) -> bool:
        """Return True if there are changes to be recorded. Moving, searching and comparing do not count."""
        then = self.state
        now_and_then = (
            (state.branches.named, then.branches.named), (state.samples, then.samples), (state.stops, then.stops),
            (state.marks, then.marks), (state.kept, then.kept),
        )  # fmt: skip
        return self.due or any(now is not before for now, before in now_and_then)


class SessionRecorder:
    """Writes the state of a session.

    `state` returns it, with hit counts if called with True; `warn` is called with an error message. `idle` is a lock that is held
    during a verb; hold it to do what must not happen during one. `unrecorded` is True if the session is in memory only, although
    it was to be recorded or its owner was asked.
    """

    def __init__(self, state: Callable[[bool], State], warn: Callable[[str], None]) -> None:
        self._state, self._warn = state, warn
        self.idle = RLock()
        self.unrecorded = False
        self._file: RecordedFile | None = None
        self._opened: FileIdentity | None = None  # the file that the session was read from
        self._saved: set[str] = set()  # the files that the session was saved to
        self._pending: _Pending | None = None
        self._verb = 0  # the thread that executes a verb; 0 if none does
        self._due = 0.0  # the time of the next write during the verb
        self._lock = RLock()  # `kept` may be written by another thread than the verbs

    def resume(self, opened: OpenedSession, file: RecordedFile | None) -> None:
        """Record to the file that the session was read from; if `file` is None, do not change that file."""
        self._file = file
        if file is None:
            self._opened = opened.path, opened.written
            self._pending = _Pending(partial(_refuse_to_write, opened.path), opened.state)

    @contextmanager
    def verb(self) -> Iterator[None]:
        """During a verb; when it ends or raises, write what has changed. A verb inside another verb writes nothing."""
        with self.idle:
            if self._verb == get_ident():
                yield
                return
            self._verb, self._due = get_ident(), time.monotonic() + RECORD_EVERY
            try:
                yield
            finally:
                self._verb = 0
                self.record()

    def save(self, path: FilePath) -> None:
        """Write the session to a file, completely or not at all. Overwrites only session files. Raises `SessionFileError`."""
        from tui_gru.storage.store import write_session

        if self.records_to(path):
            self.record()
        else:
            self._opened = write_session(self._state(True), path, self._opened)
            self._saved.add(os.path.realpath(path))

    def record_to(self, path: FilePath) -> None:
        """Write the session to a file, and update it after every verb from now on. Raises `SessionFileError`."""
        from tui_gru.storage.store import RecordedFile

        with self._lock:
            if not self.records_to(path):
                file = RecordedFile.begin(self._state(True), path, self._opened)
                self.close()
                self._file, self._opened, self.unrecorded = file, None, False

    def record_later(self, place: Callable[[], FilePath | None]) -> None:
        """Like `record_to`, but only when there is something to record; `place` then returns the path, or None for not yet."""
        self._pending = _Pending(place, self._state(False))

    @property
    def undecided(self) -> bool:
        """True if there are changes to record, and `place` has not returned a path for them yet."""
        return self._pending is not None and self._pending.due

    @property
    def opened_from(self) -> Path | None:
        """The file that the session was opened from and is not recorded to; None if there is none."""
        return None if self._opened is None else self._opened[0]

    @property
    def path(self) -> Path | None:
        """The file that the session is recorded to; None if there is none."""
        return None if self._file is None else self._file.path

    def owns(self, path: FilePath) -> bool:
        """Return True if the session was read from the file `path`, saved to it, or is recorded to it."""
        opened = self.opened_from
        paths = self._saved | (set() if opened is None else {os.path.realpath(opened)})
        return self.records_to(path) or os.path.realpath(path) in paths

    def records_to(self, path: FilePath) -> bool:
        """Return True if `path`, or the target of a link, is the file that the session is recorded to."""
        return self._file is not None and self._file.is_at(path)

    def stay_in_memory(self, why: str = "") -> None:
        """Stop recording, and warn with the reason."""
        self.close()
        self._fail(f"{IN_MEMORY}: {why}" if why else IN_MEMORY)

    def record(self) -> None:
        """Write changes to the file that the session is recorded to, if there is one."""
        with self._lock:
            if self._pending is not None:
                self._begin(self._pending)
            elif self._file is not None:
                self._fail(self._file.write(self._state(False)))

    @property
    def is_due(self) -> bool:
        """True if a verb has run for so long that it should call `record_passing`."""
        return self._file is not None and time.monotonic() >= self._due

    def record_passing(self, state: State) -> None:
        """During a verb, write the state that it has reached: a process that is killed in a long run loses its last seconds only,
        and the end of the run does not wait until all of it is written."""
        begun = time.monotonic()
        with self._lock:
            if self._file is not None:
                self._fail(self._file.write(state))
        self._due = time.monotonic() + max(RECORD_EVERY, RECORD_SHARE * (time.monotonic() - begun))

    def record_kept(self, *, begin: bool = True) -> None:
        """Write `kept` after it has changed; during a verb, this is done at the end of the verb.

        If `begin` is False, the change does not start a recording that waits for its first change.
        """
        with self._lock:
            if self._pending is not None and not begin:
                saved_values = self._state(False).kept
                self._pending = _Pending(self._pending.place, self._pending.state.replaced(kept=saved_values), self._pending.due)
            if self._verb == get_ident():
                return
            if self._pending is not None:
                self._begin(self._pending)
            elif self._file is not None:
                self._fail(self._file.write_kept(self._state(False)))

    def close(self) -> None:
        """Stop recording; the session continues in memory."""
        with self._lock:
            self._pending = None
            if self._file is not None:
                if (state := self._state(True)).hit_counts:
                    self._file.write(state)
                self._file.close()
                self._file = None

    def _begin(self, later: _Pending) -> None:
        """Start a recording that waits for its first change, if there are changes."""
        if not later.is_due(self._state(False)):
            return
        from tui_gru.storage.file import SessionFileError, SessionInUseError

        for attempt in range(ATTEMPTS):
            try:
                place = later.place()
                self._pending = None if place is not None else _Pending(later.place, later.state, due=True)
                return None if place is None else self.record_to(place)
            except SessionFileError as error:
                if not isinstance(error, SessionInUseError) or attempt + 1 == ATTEMPTS:
                    return self.stay_in_memory(str(error))

    def _fail(self, trouble: str) -> None:
        if trouble:
            self._file, self.unrecorded = None, True
            self._warn(trouble)


def _refuse_to_write(path: Path) -> FilePath:
    from tui_gru.storage.file import UnwritableSessionError

    raise UnwritableSessionError(f"{path} is not changed; save the session to keep your changes")


# ------------------------------------------------------------------------------
# Writes reports of unexpected errors to the state folder, for users to send in.


STAY = 20  # reports are kept; older ones are deleted
_SHOWN = 100  # characters of an error in the message
_LONGEST = 100_000  # characters of a traceback

_numbers = count(1)
_written: dict[tuple[str, ...], Path] = {}  # by the place of the error: a process writes one report for each place


def reports_folder() -> Path:
    """Return the folder of the reports. It is created when the first report is written."""
    return user_state_path("tui-gru", appauthor=False) / "reports"


def report_error(error: BaseException, doing: str) -> str:
    """Write a report of an error. Returns a one-line message with the error and the path of the report.

    `doing` describes what the program was doing. Never raises: if the report cannot be written, the message says so.
    """
    summary = " ".join("".join(traceback.format_exception_only(error)).split())
    summary = summary if len(summary) <= _SHOWN else f"{summary[:_SHOWN]}…"
    try:
        where = f"report: {_report(error, doing)}"
    except Exception as problem:  # a full disk, no memory: the message must appear whatever it is
        where = f"no report could be written: {getattr(problem, 'strerror', None) or type(problem).__name__}"
    return f"internal error ({summary}); {where}"


def _report(error: BaseException, doing: str) -> Path:
    place = _place(error)
    path = _written.get(place)
    if path is None or path.parent != reports_folder() or not path.exists():
        path = _written[place] = _write(_text(error, doing))
    return path


def _place(error: BaseException) -> tuple[str, ...]:
    """Return the type of an error, and the innermost three lines of its traceback."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return (type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in frames))


def _text(error: BaseException, doing: str) -> str:
    versions = " · ".join(f"{name} {_version(name)}" for name in ("numpy", "textual", "torch"))
    written = "".join(traceback.format_exception(error))
    if len(written) > _LONGEST:
        written = f"{written[: _LONGEST // 2]}\n…\n{written[-_LONGEST // 2 :]}"
    return (
        f"tui-gru {__version__} · Python {platform.python_version()} · {versions} · {platform.platform()}\n"
        f"{datetime.now().astimezone().isoformat(timespec='seconds')}\n"
        f"while: {doing}\n\n{written}"
    )


def _version(package: str) -> str:
    """Return the version of a package. Any of them may be missing, or have no metadata, where an error is reported."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except Exception:
        return "not installed" if package not in sys.modules else "of unknown version"


def _write(text: str) -> Path:
    folder = reports_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{datetime.now():%Y-%m-%d-%H%M%S}-{os.getpid()}-{next(_numbers):03}.txt"
    save_bytes(path, text.encode("utf-8", "backslashreplace"), overwrite=False)
    _prune(folder, keep=path)
    return path


def _prune(folder: Path, keep: Path) -> None:
    """Delete the oldest reports, by name; never `keep`, even if the clock is wrong."""
    for old in sorted(path for path in folder.glob("*.txt") if path != keep)[: -(STAY - 1)]:
        with suppress(OSError):
            old.unlink()
