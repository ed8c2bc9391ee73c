"""The end of a script whose loop is rewound: by an error, by a signal, or as it should."""

from __future__ import annotations

import atexit
import contextlib
import signal
import sys
import threading
import weakref
from types import FrameType, TracebackType
from typing import Any, Protocol


class EndingRun(Protocol):
    """What is told of the end of its script."""

    def ended(self, error: BaseException | None = None) -> None: ...

    def write_last(self, error: BaseException | None = None, *, always: bool = False) -> None: ...

    def died(self, error: BaseException) -> None: ...

    def is_in(self, trace: TracebackType | None) -> bool: ...


_runs: list[weakref.ref[Any]] = []
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_handlers: dict[int, Any] = {}  # those of recorders
_before: Any = None  # the hook that this one calls first


def remember(run: EndingRun, *, signals: bool) -> None:
    """Tell a run of the end of the script, as long as it lives; with `signals`, also of those that a recording is closed at."""
    global _before
    if not any(reference() is run for reference in _runs):
        _runs[:] = [reference for reference in _runs if reference() is not None]
        _runs.append(weakref.ref(run))
    if sys.excepthook is not _hook:
        _before, sys.excepthook = sys.excepthook, _hook
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)
    if signals and threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and handler is not _end and handler.__module__ == "tui_gru.capture.record":
                _handlers[number] = handler
                signal.signal(number, _end)


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _before(kind, error, trace)
    for run in _living():
        if run.is_in(trace):
            try:
                run.died(error)
            except Exception as failure:  # it must not hide the error of the script
                print(f"tui_gru.steps: {failure}", file=sys.stderr)


def _at_exit() -> None:
    for run in _living():
        with contextlib.suppress(Exception):
            run.ended()


def _end(number: int, frame: FrameType | None) -> None:
    """Record the last steps, and do what the recorder does at a signal: end the recording and the process."""
    for run in _living():
        with contextlib.suppress(Exception):
            run.write_last(always=True)
    _handlers[number](number, frame)


def _living() -> list[Any]:
    return [run for reference in reversed(_runs) if (run := reference()) is not None]
