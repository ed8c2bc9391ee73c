"""A debugger for recurrent networks: step through their training, forwards and backwards in time.

    import tui_gru
    s = tui_gru.Session()
    s.step("timestep", 3)
    s.value("z")

Importing the package loads nothing else; each name imports the modules that it needs when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui_gru.rewind import screens
from tui_gru.session import pages

if TYPE_CHECKING:
    from tui_gru.analysis.diagnosis import diagnose
    from tui_gru.analysis.examined import Finding
    from tui_gru.capture.record import Recorder, record
    from tui_gru.cli.models import debug
    from tui_gru.debugger.position import Level, Position
    from tui_gru.engine.config import Config, Options
    from tui_gru.engine.sampling import Sample
    from tui_gru.errors import TuiGruError
    from tui_gru.files.arrays import FoundGRU
    from tui_gru.imported.inspect import inspect
    from tui_gru.rewind.front import kept, steps
    from tui_gru.schema import __version__
    from tui_gru.session.opening import load
    from tui_gru.session.session import Session
    from tui_gru.tui.lesson_notebook import lesson


__all__ = [
    "Config", "Finding", "FoundGRU", "Level", "Options", "Position", "Recorder", "Sample", "Session", "TuiGruError", "__version__",
    "debug", "diagnose", "inspect", "kept", "lesson", "load", "record", "steps",
]  # fmt: skip

_HOMES = {
    "Config": "tui_gru.engine.config",
    "Finding": "tui_gru.analysis.examined",
    "FoundGRU": "tui_gru.files.arrays",
    "Level": "tui_gru.debugger.position",
    "Options": "tui_gru.engine.config",
    "Recorder": "tui_gru.capture.record",
    "Sample": "tui_gru.engine.sampling",
    "Position": "tui_gru.debugger.position",
    "Session": "tui_gru.session.session",
    "TuiGruError": "tui_gru.errors",
    "__version__": "tui_gru.schema",
    "debug": "tui_gru.cli.models",
    "diagnose": "tui_gru.analysis.diagnosis",
    "inspect": "tui_gru.imported.inspect",
    "kept": "tui_gru.rewind.front",
    "lesson": "tui_gru.tui.lesson_notebook",
    "load": "tui_gru.session.opening",
    "record": "tui_gru.capture.record",
    "steps": "tui_gru.rewind.front",
}


def _page_writer() -> Any:
    from importlib import import_module

    return import_module("tui_gru.tui.player")


def _terminal() -> Any:
    from importlib import import_module

    return import_module("tui_gru.cli.options")


pages.page_writer = _page_writer
screens.terminal = _terminal


if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name in ("lightning", "transformers"):  # callbacks, each for a library that may be missing
            return import_module(f"tui_gru.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
