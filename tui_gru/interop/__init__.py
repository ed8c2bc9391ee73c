"""Models of other frameworks: readers of model files, the convention of their numbers, and capture of training scripts."""

from tui_gru.interop.blocks import Cell
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.findings import Findings
from tui_gru.interop.found import Convention, FoundGRU, Weights
from tui_gru.interop.gru_step import Step, gru_step
from tui_gru.interop.inspection import inspect, survey
from tui_gru.interop.proof import Proof, Reading, prove

__all__ = [
    "Cell",
    "Convention",
    "Findings",
    "FoundGRU",
    "ModelFileError",
    "Proof",
    "Reading",
    "Step",
    "Weights",
    "gru_step",
    "inspect",
    "prove",
    "survey",
]
