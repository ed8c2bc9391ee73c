"""The half of a session that outlives the process: saved, opened again, or recorded as it happens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from tui_gru.debugger.state import State
from tui_gru.debugger.trouble import Trouble, joined
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

# SQLite and JSON are imported when a session is first written or read: they would be a tenth of the start.
if TYPE_CHECKING:
    from tui_gru.debugger.store import FilePath, Recorder

ATTEMPTS = 5  # to find a file that no other program is just beginning, too

REOPENED = "reopened where it was left: "

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Surviving")


class Surviving(ABC):
    """A session that can be written down. What is to be written is its `State`."""

    notice: str
    _kept: Mapping[str, Any]
    _recorder: Recorder | None
    _later: _Later | None
    _verb: int  # the thread that is in a recorded verb
    _recording: RLock  # what is kept may come from another thread than the verbs

    @abstractmethod
    def _state(self) -> State:
        """What it is now."""

    def _begin(self, state: State) -> None:
        """Go on from a state."""
        self._kept, self._recorder, self._later, self.notice = state.kept, None, None, ""
        self._verb, self._recording = 0, RLock()

    @classmethod
    def open(cls, path: FilePath, *, record: bool = False, history_memory: int | None = None) -> Self:
        """The session in a file, where it was left, paused; with `record`, what is done from here on goes to the same file.

        `history_memory` bounds the checkpoints, in bytes, from here on; without it, what bounded them before does. Raises
        `SessionFileError` where there is none that can be read, `DivergedError` where this machine computes other numbers.
        """
        from tui_gru.debugger.store import Recorder, load

        session, recorder = cls.__new__(cls), Recorder.resume(path, history_memory) if record else None
        state = load(path, history_memory) if recorder is None else recorder.begun
        session._begin(state)
        session._recorder = recorder
        session.notice = joined(f"{REOPENED}{session.left_at}", session.notice)
        return session

    @property
    def left_at(self) -> str:
        """Where it is and how much there is of it, for a person who comes back."""
        return _recovered(self._state())

    def save(self, path: FilePath) -> None:
        """Write the session to a file, all of it or nothing. Raises `SessionFileError`; only a session is ever overwritten."""
        from tui_gru.debugger.store import save

        if self._recorder is not None and self._recorder.is_at(path):
            self.record()
        else:
            save(self._state(), path)

    def record_to(self, path: FilePath) -> None:
        """Save the session and bring the file up to it after every verb from here on, so that it survives the end of the process.

        Where the file cannot be written any more, the session goes on in memory, and `notice` says so. Raises `SessionFileError`
        where it cannot be begun.
        """
        from tui_gru.debugger.store import Recorder

        with self._recording:
            if self._recorder is None or not self._recorder.is_at(path):
                recorder = Recorder.begin(self._state(), path)
                self.close()
                self._recorder = recorder

    def record_later(self, place: Callable[[], FilePath]) -> None:
        """As `record_to`, but from the first thing on that is done or kept: until then there is no file. `place` names it then.

        Where the file cannot be begun, the session goes on in memory, and `notice` says so. Where it is in use, `place`
        is asked for another.
        """
        self._later = _Later(place, self._state())

    @property
    def recording(self) -> Path | None:
        """The file that is recorded to."""
        return None if self._recorder is None else self._recorder.path

    def record(self) -> None:
        """Write what has changed to the file that is recorded to, if there is one. Every verb does."""
        if self._later is not None:
            self._begin_recording()
            return
        with self._recording:
            if self._recorder is not None:
                self._heed(self._recorder.write(self._state()))

    def _begin_recording(self, *, kept: bool = False) -> None:
        """Begin with what was put off, if anything has been done since then, or `kept`."""
        from tui_gru.debugger.session_errors import SessionFileError, SessionInUseError

        with self._recording:
            later = self._later
            if later is None or not (kept or later.is_due(self._state())):
                return
            self._later = None
            for attempt in range(ATTEMPTS):
                try:
                    return self.record_to(later.place())
                except SessionFileError as error:
                    if not isinstance(error, SessionInUseError) or attempt + 1 == ATTEMPTS:
                        return self._heed(f"not recorded, it goes on in memory: {error}")

    def close(self) -> None:
        """End the recording; the session goes on in memory."""
        with self._recording:
            self._later = None
            if self._recorder is not None:
                self._recorder.close()
                self._recorder = None

    def keep(self, name: str, value: Any, *, begin: bool = True) -> None:
        """Have a value of JSON saved with the session: marks, breakpoints, watches, layout, commands.

        Within a verb it is written with what else that changes. Without `begin` it is no reason to begin a recording that was put
        off; it will be there when that begins.
        """
        import json

        from tui_gru.debugger.encoding import to_json

        name = arguments.text("a name to keep a value under", name)
        try:
            value = json.loads(to_json(value))
        except (TypeError, ValueError) as error:
            raise TuiGruError(
                f"{name} cannot be kept with a session: {error}; make it of texts, numbers, lists and dicts"
            ) from None
        with self._recording:
            self._kept = {**self._kept, name: value}
            if self._later is not None and begin:
                self._begin_recording(kept=True)
            elif self._recorder is not None and self._verb != get_ident():
                self._heed(self._recorder.write_kept(self._kept))

    def kept(self, name: str, default: Any = None) -> Any:
        """What was last kept under a name."""
        return self._kept.get(arguments.text("the name of a kept value", name), default)

    def _heed(self, trouble: str) -> None:
        if trouble:
            self._recorder, self.notice = None, Trouble(trouble)


@dataclass(frozen=True)
class _Later:
    """A recording that is put off: to which file, and how the session was then."""

    place: Callable[[], FilePath]
    state: State

    def is_due(self, state: State) -> bool:
        """Whether anything has been done."""
        return state.branches is not self.state.branches or state.samples is not self.state.samples


def recorded(verb: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A verb of a session after which, however it ends, what has changed is written to the file that is recorded to."""

    @wraps(verb)
    def record(session: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        outer, session._verb = session._verb, get_ident()
        try:
            return verb(session, *args, **kwargs)
        finally:
            session._verb = outer
            session.record()

    return record


def _recovered(state: State) -> str:
    """How much there is of a session, for a person."""
    branches, changes = len(state.branches.names), len(state.branches.done)
    at = state.branches.timeline.position(state.tick)
    return (
        f"epoch {at.epoch + 1} · batch {at.batch + 1} · t {at.t + 1} on {state.branches.current}, "
        f"{branches} {'branch' if branches == 1 else 'branches'}, {changes} {'change' if changes == 1 else 'changes'}"
    )
