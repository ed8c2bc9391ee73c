"""Capture of the GRUs in a training script by hooks. Only this folder of the project uses torch's modules."""

from tui_gru.interop.capture.calls import CapturedStep, GRUCall, GRUModule, HeadCall, WeightSet
from tui_gru.interop.capture.capturing import Capture
from tui_gru.interop.capture.notes import Note

__all__ = ["Capture", "CapturedStep", "GRUCall", "GRUModule", "HeadCall", "Note", "WeightSet"]
