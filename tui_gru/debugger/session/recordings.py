"""A recording of a training run, opened: what its batches are, and what is to be said of it first."""

from __future__ import annotations

from os import PathLike

from tui_gru.debugger.session.session import Session
from tui_gru.engine.data.given import GivenConfig
from tui_gru.interop.opening.recorded import recorded_run
from tui_gru.interop.recording.reading import Recording, open_recording


def opened(folder: str | PathLike[str], name: str | None = None) -> tuple[GivenConfig, str]:
    """The config of a session on the recording in a folder, of the GRU called `name`. Raises `RecordingError`, one line."""
    recording = open_recording(folder)
    return GivenConfig.of_given(recorded_run(recording, name)), _said(recording)


def session_on(folder: str | PathLike[str], name: str | None = None) -> Session:
    """As `Session.open`, on the GRU called `name` of a recording that has several."""
    config, said = opened(folder, name)
    session = Session.on(config)
    session.notice = said
    return session


def _said(recording: Recording) -> str:
    """How many steps were kept, and what is missing or not complete."""
    kept, gaps = len(recording.steps), len(recording.gaps())
    said = [f"{kept:,} of {recording.total:,} steps were kept" + (f", with {gaps:,} gaps" if gaps else "")]
    if others := [module.name for module in recording.modules[1:]]:
        said.append(f"recorded besides: {', '.join(others)}")
    if not recording.closed:
        said.append("it is still being written, or was cut off: open it again for newer steps")
    if recording.missing_ranks:
        ranks = ", ".join(map(str, recording.missing_ranks))
        said.append(f"of {recording.ranks} ranks these are missing: {ranks}; p.grad is the mean over all, so it cannot be derived")
    said += recording.damaged
    return "; ".join(said)
