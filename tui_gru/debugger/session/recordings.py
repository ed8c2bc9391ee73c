"""Opens a recording of a training run as a session."""

from __future__ import annotations

from os import PathLike

from tui_gru.debugger.session.session import Session
from tui_gru.engine.data.given import GivenConfig
from tui_gru.interop.opening.recorded import recorded_run
from tui_gru.interop.recording.reading import open_recording


def opened(folder: str | PathLike[str], name: str | None = None) -> tuple[GivenConfig, str]:
    """Return the config of a session on the recording in a folder, of the GRU called `name`. Raises `RecordingError`, one line."""
    given, notice = recorded_run(open_recording(folder), name)
    return GivenConfig.of_given(given), notice


def session_on(folder: str | PathLike[str], name: str | None = None) -> Session:
    """Open a session on the GRU called `name` of a recording; unlike `Session.open`, for a recording of several GRUs."""
    config, notice = opened(folder, name)
    session = Session.on(config)
    session.notice = notice
    return session
