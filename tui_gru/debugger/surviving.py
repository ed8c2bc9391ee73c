"""The half of a session that outlives the process: saved, opened again, or recorded as it happens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from tui_gru.debugger.state import State
from tui_gru.engine.errors import TuiGruError

# SQLite and JSON are imported when a session is first written or read: they would be a tenth of the start.
if TYPE_CHECKING:
    from tui_gru.debugger.store import FilePath, Recorder

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Surviving")


class Surviving(ABC):
    """A session that can be written down. What is to be written is its `State`."""

    notice: str
    _kept: Mapping[str, Any]
    _recorder: Recorder | None

    @abstractmethod
    def _state(self) -> State:
        """What it is now."""

    def _begin(self, state: State) -> None:
        """Go on from a state."""
        self._kept, self._recorder, self.notice = state.kept, None, ""

    @classmethod
    def open(cls, path: FilePath, *, record: bool = False) -> Self:
        """The session in a file, where it was left, paused; with `record`, what is done from here on goes to the same file.

        Raises `SessionFileError` where there is none that can be read, `DivergedError` where this machine computes other numbers.
        """
        from tui_gru.debugger.store import Recorder, load

        session, recorder = cls.__new__(cls), Recorder.resume(path) if record else None
        state = load(path) if recorder is None else recorder.begun
        session._begin(state)
        session._recorder = recorder
        session.notice = f"reopened where it was left: {_recovered(state)}"
        return session

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

        if self._recorder is None or not self._recorder.is_at(path):
            recorder = Recorder.begin(self._state(), path)
            self.close()
            self._recorder = recorder

    @property
    def recording(self) -> Path | None:
        """The file that is recorded to."""
        return None if self._recorder is None else self._recorder.path

    def record(self) -> None:
        """Write what has changed to the file that is recorded to, if there is one. Every verb does."""
        if self._recorder is not None:
            self._heed(self._recorder.write(self._state()))

    def close(self) -> None:
        """End the recording; the session goes on in memory."""
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None

    def keep(self, name: str, value: Any) -> None:
        """Have a value of JSON saved with the session: marks, breakpoints, watches, layout, commands."""
        import json

        from tui_gru.debugger.encoding import to_json

        try:
            value = json.loads(to_json(value))
        except (TypeError, ValueError) as error:
            raise TuiGruError(
                f"{name} cannot be kept with a session: {error}; make it of texts, numbers, lists and dicts"
            ) from None
        self._kept = {**self._kept, name: value}
        if self._recorder is not None:
            self._heed(self._recorder.write_kept(self._kept))

    def kept(self, name: str, default: Any = None) -> Any:
        """What was last kept under a name."""
        return self._kept.get(name, default)

    def _heed(self, trouble: str) -> None:
        if trouble:
            self._recorder, self.notice = None, trouble


def recorded(verb: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A verb of a session after which, however it ends, what has changed is written to the file that is recorded to."""

    @wraps(verb)
    def record(session: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(session, *args, **kwargs)
        finally:
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
