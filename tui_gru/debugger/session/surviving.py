"""The half of a session that outlives the process: saved, opened again, or recorded as it happens."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from tui_gru.debugger.program.position import in_words
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.trouble import Trouble, joined
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

# SQLite and JSON are imported when a session is first written or read: they would be a tenth of the start.
if TYPE_CHECKING:
    from tui_gru.debugger.storage.store import FilePath, Recorder

ATTEMPTS = 5  # to find a file that no other program is just beginning, too

# The names under which looking around is kept, which is no reason to begin a recording.
LAST_CONDITION, LEFT, HITS, LOG, COMPARED = "last_condition", "left", "hits", "log", "compared"
PASSING = frozenset((LAST_CONDITION, LEFT, HITS, LOG, COMPARED))

REOPENED = "reopened where it was left: "
IN_MEMORY = "not recorded, it goes on in memory"

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Surviving")


class Surviving(ABC):
    """A session that can be written down. What is to be written is its `State`."""

    notice: str
    unrecorded: bool  # it was to be recorded, or its owner was asked, and what is done now is in memory only
    _opened: tuple[Path, int] | None  # the file that it was read from, and when that was written
    _kept: Mapping[str, Any]
    _recorder: Recorder | None
    _later: _Later | None
    _verb: int  # the thread that is in a recorded verb, 0 if none is
    _keeping: dict[str, Any]  # what that verb keeps: it is written with what else the verb changes
    _idle: RLock  # held by a recorded verb, and by what must not come at the same time as one
    _recording: RLock  # what is kept may come from another thread than the verbs

    @abstractmethod
    def _state(self, *, counts: bool = False) -> State:
        """What it is now; with its hit counts, if `counts` asks for them."""

    def _begin(self, state: State) -> None:
        """Go on from a state."""
        self._kept, self._recorder, self._later, self.notice = state.kept, None, None, ""
        self.unrecorded, self._opened = False, None
        self._verb, self._keeping, self._recording = 0, {}, RLock()
        self._idle = RLock()

    @classmethod
    def open(cls, path: FilePath, *, record: bool = False, history_memory: int | None = None) -> Self:
        """The session in a file, where it was left, paused; with `record`, what is done from here on goes to the same file.

        Without it the file stays as it is, and the first change says in `notice` that it is in memory only, unless `record_to` or
        `record_later` has said where it goes.

        The folder of a recording opens on its first kept step, each of which is a batch.

        `history_memory` bounds what is kept of the past, in bytes, from here on; without it, what bounded them before does. Raises
        `SessionFileError` where there is none that can be read, `DivergedError` where this machine computes other numbers.
        """
        if isinstance(path, str | os.PathLike) and os.path.isdir(path) and _holds_a_recording(path):
            return cls._on_recording(path, history_memory)
        from tui_gru.debugger.storage.store import Recorder, load

        session, recorder = cls.__new__(cls), Recorder.resume(path, history_memory) if record else None
        opened = load(path, history_memory) if recorder is None else recorder.begun
        session._begin(opened.state)
        session._recorder = recorder
        if recorder is None:
            session._opened = opened.path, opened.written
            session._later = _Later(partial(_left_alone, opened.path), opened.state)
        session.notice = joined(f"{REOPENED}{session.left_at}", Trouble(opened.trouble), session.notice)
        return session

    @classmethod
    @abstractmethod
    def _on_recording(cls, folder: FilePath, history_memory: int | None) -> Self:
        """A session on a recording of `tui_gru.record`."""

    @property
    def left_at(self) -> str:
        """Where it is and how much there is of it, for a person who comes back."""
        return _recovered(self._state())

    def save(self, path: FilePath) -> None:
        """Write the session to a file, all of it or nothing. Raises `SessionFileError`; only a session is ever overwritten."""
        from tui_gru.debugger.storage.store import save

        if self.records_to(path):
            self.record()
        else:
            self._opened = save(self._state(counts=True), path, self._opened)

    def record_to(self, path: FilePath) -> None:
        """Save the session and bring the file up to it after every verb from here on, so that it survives the end of the process.

        Where the file cannot be written any more, the session goes on in memory, and `notice` says so. Raises `SessionFileError`
        where it cannot be begun.
        """
        from tui_gru.debugger.storage.store import Recorder

        with self._recording:
            if not self.records_to(path):
                recorder = Recorder.begin(self._state(counts=True), path, self._opened)
                self.close()
                self._recorder, self._opened, self.unrecorded = recorder, None, False

    def record_later(self, place: Callable[[], FilePath | None]) -> None:
        """As `record_to`, but from the first thing on that is done or kept: until then there is no file. `place` names it then.

        Where the file cannot be begun, the session goes on in memory, and `notice` says so. Where it is in use, `place`
        is asked for another. Where it is None, the session is `undecided`, and `place` is asked again after the next verb.
        """
        self._later = _Later(place, self._state())

    @property
    def undecided(self) -> bool:
        """Whether something was done that is recorded nowhere yet: `record_to` or `stay_in_memory` decides."""
        return self._later is not None and self._later.due

    @property
    def opened_from(self) -> Path | None:
        """The file that it was read from and is not recorded to."""
        return None if self._opened is None else self._opened[0]

    def stay_in_memory(self, why: str = "") -> None:
        """Record no more, and say so."""
        self.close()
        self._heed(f"{IN_MEMORY}: {why}" if why else IN_MEMORY)

    @property
    def recording(self) -> Path | None:
        """The file that is recorded to."""
        return None if self._recorder is None else self._recorder.path

    def records_to(self, path: FilePath) -> bool:
        """Whether a file, or what a link leads to, is the one that is recorded to."""
        return self._recorder is not None and self._recorder.is_at(path)

    def record(self) -> None:
        """Write what has changed to the file that is recorded to, if there is one. Every verb does, once, at its end."""
        with self._recording:
            keeping, self._keeping = self._keeping, {}
            if keeping:
                self._kept = {**self._kept, **keeping}
            if self._later is not None:
                self._begin_recording(kept=not keeping.keys() <= PASSING)
            elif self._recorder is not None:
                self._heed(self._recorder.write(self._state()))

    def _begin_recording(self, *, kept: bool = False) -> None:
        """Begin with what was put off, if anything has been done since then, or `kept`."""
        from tui_gru.debugger.storage.session_errors import SessionFileError, SessionInUseError

        with self._recording:
            later = self._later
            if later is None or not (kept or later.due or later.is_due(self._state())):
                return
            for attempt in range(ATTEMPTS):
                try:
                    place = later.place()
                    self._later = None if place is not None else replace(later, due=True)
                    return None if place is None else self.record_to(place)
                except SessionFileError as error:
                    if not isinstance(error, SessionInUseError) or attempt + 1 == ATTEMPTS:
                        return self.stay_in_memory(str(error))

    def close(self) -> None:
        """End the recording; the session goes on in memory."""
        with self._recording:
            self._later = None
            if self._recorder is not None:
                if (state := self._state(counts=True)).hit_counts:
                    self._recorder.write(state)
                self._recorder.close()
                self._recorder = None

    def keep(self, name: str, value: Any, *, begin: bool = True) -> None:
        """Have a value of JSON saved with the session: marks, breakpoints, watches, layout, commands.

        Within a verb it is written with what else that changes. Without `begin` it is no reason to begin a recording that was put
        off, nor is what looking around keeps; it will be there when that begins.
        """
        from tui_gru.debugger.storage.encoding import from_json, to_json

        name = arguments.text("a name to keep a value under", name)
        try:
            value = from_json(to_json(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise TuiGruError(
                f"{name} cannot be kept with a session: {error}; make it of texts, numbers, lists and dicts"
            ) from None
        with self._recording:
            if self._verb == get_ident():
                self._keeping[name] = value
                return
            self._kept = {**self._kept, name: value}
            if self._later is not None and begin and name not in PASSING:
                self._begin_recording(kept=True)
            elif self._recorder is not None:
                self._heed(self._recorder.write_kept(self._kept))

    def kept(self, name: str, default: Any = None) -> Any:
        """What was last kept under a name."""
        name = arguments.text("the name of a kept value", name)
        return self._keeping.get(name, self._kept.get(name, default))

    def _heed(self, trouble: str) -> None:
        if trouble:
            self._recorder, self.notice, self.unrecorded = None, joined(self.notice, Trouble(trouble)), True


@dataclass(frozen=True)
class _Later:
    """A recording that is put off: to which file, how the session was then, and whether something has been done since."""

    place: Callable[[], FilePath | None]
    state: State
    due: bool = False

    def is_due(self, state: State) -> bool:
        """Whether anything has been done."""
        return state.branches.named is not self.state.branches.named or state.samples is not self.state.samples


def _holds_a_recording(folder: FilePath) -> bool:
    from tui_gru.interop.recording.folder import holds_a_recording  # late: most sessions are files

    return holds_a_recording(Path(folder))


def _left_alone(path: Path) -> FilePath:
    from tui_gru.debugger.storage.session_errors import UnwritableSessionError

    raise UnwritableSessionError(f"{path} stays as it was opened; save the session to keep what you do")


def recorded(verb: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A verb of a session after which, however it ends, what has changed is written to the file that is recorded to.

    It is one transaction: a verb that is part of another writes nothing by itself.
    """

    @wraps(verb)
    def record(session: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with session._idle:
            if session._verb == get_ident():
                return verb(session, *args, **kwargs)
            session._verb = get_ident()
            try:
                return verb(session, *args, **kwargs)
            finally:
                session._verb = 0
                session.record()

    return record


def _recovered(state: State) -> str:
    """How much there is of a session, for a person."""
    branches, changes = len(state.branches.names), len(state.branches.done)
    at = state.branches.timeline.position(state.tick)
    return (
        f"{in_words(at.epoch, at.batch, at.t, between=' · ')} on {state.branches.current}, "
        f"{branches} {'branch' if branches == 1 else 'branches'}, {changes} {'change' if changes == 1 else 'changes'}"
    )
