"""Recordings of training runs: written during the training, read anywhere without torch."""

from tui_gru.interop.recording.listing import KeptStep
from tui_gru.interop.recording.reading import Recording, open_recording
from tui_gru.interop.recording.recorder import Recorder, record

__all__ = ["KeptStep", "Recorder", "Recording", "open_recording", "record"]
