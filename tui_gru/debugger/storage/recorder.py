"""The part of a session that writes its file: once when it is saved, or after every verb while it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import RLock, get_ident
from typing import TYPE_CHECKING, TypeVar

from tui_gru.debugger.state.state import State

# SQLite and JSON are imported when a session is first written or read: they would be a tenth of the start.
if TYPE_CHECKING:
    from tui_gru.debugger.storage.store import FilePath, Opened, Origin, RecordedFile

ATTEMPTS = 5  # to find a file that no other program is just beginning, too
IN_MEMORY = "not recorded, it goes on in memory"

T = TypeVar("T")


@dataclass(frozen=True)
class _Later:
    """A recording that is put off: what names its file, the state when it was put off, and whether something was done since."""

    place: Callable[[], FilePath | None]
    state: State
    due: bool = False

    def is_due(self, state: State) -> bool:
        """Whether anything was done that is to be recorded. Moving, searching and comparing is not."""
        then = self.state
        now_and_then = (
            (state.branches.named, then.branches.named), (state.samples, then.samples), (state.stops, then.stops),
            (state.marks, then.marks), (state.kept, then.kept),
        )  # fmt: skip
        return self.due or any(now is not before for now, before in now_and_then)


class Recorder:
    """Writes a session's state: `state` gives it, and with True, its hit counts as well. `warn` is called where that fails.

    `idle` is held by a verb, and by whatever must not happen during one. `unrecorded` says that the session was to be recorded, or
    its owner was asked, and it is in memory only.
    """

    def __init__(self, state: Callable[[bool], State], warn: Callable[[str], None]) -> None:
        self._state, self._warn = state, warn
        self.idle = RLock()
        self.unrecorded = False
        self._file: RecordedFile | None = None
        self._opened: Origin | None = None  # the file that the session was read from
        self._later: _Later | None = None
        self._verb = 0  # the thread that is in a verb, 0 if none is
        self._lock = RLock()  # what is kept may come from another thread than the verbs

    def resume(self, opened: Opened, file: RecordedFile | None) -> None:
        """Record to the file that the session was read from; where `file` is None, leave that as it is."""
        self._file = file
        if file is None:
            self._opened = opened.path, opened.written
            self._later = _Later(partial(_left_alone, opened.path), opened.state)

    def verb(self, work: Callable[[], T]) -> T:
        """Do the work of a verb, and then, however it ends, write what has changed. A verb within another writes nothing."""
        with self.idle:
            if self._verb == get_ident():
                return work()
            self._verb = get_ident()
            try:
                return work()
            finally:
                self._verb = 0
                self.record()

    def save(self, path: FilePath) -> None:
        """Write the session to a file, all of it or nothing. Raises `SessionFileError`; only a session is ever overwritten."""
        from tui_gru.debugger.storage.store import save

        if self.records_to(path):
            self.record()
        else:
            self._opened = save(self._state(True), path, self._opened)

    def record_to(self, path: FilePath) -> None:
        """Write the session to a file, and bring that up to it after every verb. Raises `SessionFileError`."""
        from tui_gru.debugger.storage.store import RecordedFile

        with self._lock:
            if not self.records_to(path):
                file = RecordedFile.begin(self._state(True), path, self._opened)
                self.close()
                self._file, self._opened, self.unrecorded = file, None, False

    def record_later(self, place: Callable[[], FilePath | None]) -> None:
        """As `record_to`, from the first thing on that is done or kept; `place` names the file then, None for not yet."""
        self._later = _Later(place, self._state(False))

    @property
    def undecided(self) -> bool:
        """Whether something was done, and `record_later` did not know yet where it is recorded."""
        return self._later is not None and self._later.due

    @property
    def opened_from(self) -> Path | None:
        """The file that the session was read from and is not recorded to."""
        return None if self._opened is None else self._opened[0]

    @property
    def path(self) -> Path | None:
        """The file that is recorded to."""
        return None if self._file is None else self._file.path

    def records_to(self, path: FilePath) -> bool:
        """Whether a file, or what a link leads to, is the one that is recorded to."""
        return self._file is not None and self._file.is_at(path)

    def stay_in_memory(self, why: str = "") -> None:
        """Record no more, and say so."""
        self.close()
        self._warn_of(f"{IN_MEMORY}: {why}" if why else IN_MEMORY)

    def record(self) -> None:
        """Write what has changed to the file that is recorded to, if there is one."""
        with self._lock:
            if self._later is not None:
                self._begin(self._later)
            elif self._file is not None:
                self._warn_of(self._file.write(self._state(False)))

    def record_kept(self, *, begin: bool = True) -> None:
        """Write what was kept just now; within a verb, that is done at its end.

        Without `begin` it is no reason to begin a recording that was put off.
        """
        with self._lock:
            if self._later is not None and not begin:
                kept = self._state(False).kept
                self._later = _Later(self._later.place, self._later.state.replaced(kept=kept), self._later.due)
            if self._verb == get_ident():
                return
            if self._later is not None:
                self._begin(self._later)
            elif self._file is not None:
                self._warn_of(self._file.write_kept(self._state(False)))

    def close(self) -> None:
        """End the recording; the session goes on in memory."""
        with self._lock:
            self._later = None
            if self._file is not None:
                if (state := self._state(True)).hit_counts:
                    self._file.write(state)
                self._file.close()
                self._file = None

    def _begin(self, later: _Later) -> None:
        """Begin with what was put off, if anything has been done since then."""
        if not later.is_due(self._state(False)):
            return
        from tui_gru.debugger.storage.session_errors import SessionFileError, SessionInUseError

        for attempt in range(ATTEMPTS):
            try:
                place = later.place()
                self._later = None if place is not None else _Later(later.place, later.state, due=True)
                return None if place is None else self.record_to(place)
            except SessionFileError as error:
                if not isinstance(error, SessionInUseError) or attempt + 1 == ATTEMPTS:
                    return self.stay_in_memory(str(error))

    def _warn_of(self, trouble: str) -> None:
        if trouble:
            self._file, self.unrecorded = None, True
            self._warn(trouble)


def _left_alone(path: Path) -> FilePath:
    from tui_gru.debugger.storage.session_errors import UnwritableSessionError

    raise UnwritableSessionError(f"{path} stays as it was opened; save the session to keep what you do")
