"""A debugger for a GRU: step through its training, forwards and backwards in time.

    import tui_gru
    s = tui_gru.Session()
    s.step("timestep", 3)
    s.value("z")

Importing the package loads nothing else; each name imports the modules that it needs when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tui_gru.cli.debugging import debug
    from tui_gru.debugger.analysis.findings.finding import Finding
    from tui_gru.debugger.program.position import Position
    from tui_gru.debugger.program.steps import Level
    from tui_gru.debugger.session.loading import load
    from tui_gru.debugger.session.session import Session
    from tui_gru.engine.config import Config, Options
    from tui_gru.engine.errors import TuiGruError
    from tui_gru.engine.running.sampling import Sample
    from tui_gru.interop.found import FoundGRU
    from tui_gru.interop.inspection import inspect
    from tui_gru.interop.recording.recorder import Recorder, record

__version__ = "0.1.0"

__all__ = [
    "Config", "Finding", "FoundGRU", "Level", "Options", "Position", "Recorder", "Sample", "Session", "TuiGruError", "__version__",
    "debug", "inspect", "load", "record",
]  # fmt: skip

_HOMES = {
    "Config": "tui_gru.engine.config",
    "Finding": "tui_gru.debugger.analysis.findings.finding",
    "FoundGRU": "tui_gru.interop.found",
    "Level": "tui_gru.debugger.program.steps",
    "Options": "tui_gru.engine.config",
    "Recorder": "tui_gru.interop.recording.recorder",
    "Sample": "tui_gru.engine.running.sampling",
    "Position": "tui_gru.debugger.program.position",
    "Session": "tui_gru.debugger.session.session",
    "TuiGruError": "tui_gru.engine.errors",
    "debug": "tui_gru.cli.debugging",
    "inspect": "tui_gru.interop.inspection",
    "load": "tui_gru.debugger.session.loading",
    "record": "tui_gru.interop.recording.recorder",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
